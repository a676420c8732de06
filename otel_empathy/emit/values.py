"""Values that user code attaches to its events and phases, in the forms that records can hold.

What does not fit is counted here by limit, before a record is made; the encoders count their own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import islice
from typing import Any, Final

from otel_empathy.core import semconv
from otel_empathy.emit.live import live

__all__ = ["MOST", "plain_values", "span_values", "truncations"]

MOST: Final = 128
"""Attributes of a record."""

truncations: Final[Counter[str]] = Counter()
"""What was cut, by limit: `content`, `keys`, `value`."""

_OURS: Final = 16  # attributes of an event or a phase that we add ourselves, and some to spare
_SIMPLE: Final = (str, bool, int, float)


def plain_values(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The values as data: what is no data becomes the name of its type; None is left out.

    A full record drops its oldest attributes, which are ours, so there are never that many.
    """
    known = {key: value for key, value in attributes.items() if value is not None}
    if len(known) > MOST - _OURS:
        known = dict(islice(known.items(), MOST - _OURS))
        _mark(known, "keys")
    if all(type(value) in _SIMPLE for value in known.values()):
        return known
    from otel_empathy.core.serialize import plain  # noqa: PLC0415 - most values are simple

    for key, value in list(known.items()):
        if type(value) not in _SIMPLE:
            known[key], cut = plain(value, scrub=live.scrub)
            if cut:
                _mark(known, "value")
    return known


def span_values(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The same for a span, which holds nothing nested: that becomes JSON text."""
    known = plain_values(attributes)
    if all(type(value) in _SIMPLE for value in known.values()):
        return known
    from otel_empathy.core.serialize import to_json  # noqa: PLC0415 - most values are simple

    for key, value in list(known.items()):
        if type(value) not in _SIMPLE and not _is_row(value):
            known[key], cut = to_json(value)
            if cut:
                _mark(known, "value")
    return known


def _mark(known: dict[str, Any], limit: str) -> None:
    known[semconv.TRUNCATED] = True
    truncations[limit] += 1


def _is_row(value: Any) -> bool:
    """Whether it is a list of values of one simple type, which a span can hold."""
    return (
        isinstance(value, list)
        and len({type(item) for item in value}) == 1
        and type(value[0]) in _SIMPLE
    )
