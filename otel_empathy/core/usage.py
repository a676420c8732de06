"""Token usage in one normal form for every provider.

Input includes cached tokens, output includes reasoning; the other counts are subsets. Absent means
unknown, which is never the same as 0. Prices and spans both read this value; neither is known here.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

from otel_empathy.core.errors import WrongType, WrongValue

__all__ = ["Usage"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What one call consumed.

    Args:
        input: All input tokens, cached ones included.
        output: All output tokens, reasoning included.
        cache_read: Input tokens that came from the provider's cache.
        cache_write: Input tokens written to the provider's cache, for five minutes unless
            `cache_write_1h` says which of them stay for an hour.
        cache_write_1h: The part of `cache_write` that is kept for one hour.
        reasoning: Output tokens spent on reasoning.
        audio_input: Audio part of the input.
        audio_output: Audio part of the output.
        image_input: Image part of the input.
        image_output: Image part of the output.

    Raises:
        WrongType: A count is no whole number.
        WrongValue: A count is negative.
    """

    input: int | None = None
    output: int | None = None
    cache_read: int | None = None
    cache_write: int | None = None
    cache_write_1h: int | None = None
    reasoning: int | None = None
    audio_input: int | None = None
    audio_output: int | None = None
    image_input: int | None = None
    image_output: int | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be a count."""
        for name in _COUNTS:
            count = getattr(self, name)
            if count is None or (type(count) is int and count >= 0):
                continue
            said = f"Usage: {name}={count!r} must be a whole number of tokens from 0 on"
            if isinstance(count, bool) or not isinstance(count, int):
                raise WrongType(f"{said}; leave it out where it is not known")
            if count < 0:
                raise WrongValue(f"{said}; leave it out where it is not known")

    @property
    def known(self) -> bool:
        """Whether the call told at least how much went in or came out."""
        return self.input is not None or self.output is not None


_COUNTS: Final = tuple(one.name for one in fields(Usage))
