"""Stretches of time that a question is about, and times as text. Asks no clock itself."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Final

from otel_empathy.core.errors import WrongType, WrongValue

__all__ = ["ALWAYS", "Moment", "Window", "rfc3339"]

Moment = datetime | int

_DAY: Final = 86_400_000_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True, slots=True)
class Window:
    """Times in UTC nanoseconds that lie behind `after` and not behind `until`.

    The last n days end now, now included; no days at all are an empty window.
    """

    after: int | None
    until: int | None

    def __contains__(self, time_ns: int) -> bool:
        return (self.after is None or self.after < time_ns) and (
            self.until is None or time_ns <= self.until
        )

    @property
    def bounds(self) -> tuple[int, int]:
        """Both ends as numbers, for a loop that compares a million times."""
        return (
            -1 if self.after is None else self.after,
            1 << 200 if self.until is None else self.until,
        )

    @classmethod
    def last(cls, days: float | None, now_ns: int) -> Window:
        """Exactly the last n x 24 hours; None is everything.

        Raises:
            WrongType: `days` is no number.
            WrongValue: `days` is negative or not finite.
        """
        if days is None:
            return ALWAYS
        if isinstance(days, bool) or not isinstance(days, (int, float)):
            raise WrongType(f"days={days!r}: give a number of days, or None for everything")
        if not 0 <= days < 1_000_000:  # noqa: PLR2004 - some number beyond every log
            raise WrongValue(f"days={days!r}: give a number of days from 0 on")
        return cls(now_ns - round(days * _DAY), now_ns)

    @classmethod
    def between(cls, since: Moment | None, until: Moment | None) -> Window:
        """From `since` on, up to but without `until`; None leaves an end open."""
        first, behind = _ns("since", since), _ns("until", until)
        return cls(
            None if first is None else first - 1,
            None if behind is None else behind - 1,
        )


ALWAYS: Final = Window(None, None)


def _ns(name: str, moment: Moment | None) -> int | None:
    if moment is None or (isinstance(moment, int) and not isinstance(moment, bool)):
        return moment
    if not isinstance(moment, datetime):
        raise WrongType(f"{name}={moment!r}: give a datetime with its zone, or UTC nanoseconds")
    if moment.tzinfo is None:
        raise WrongValue(f"{name}={moment!r}: it has no time zone, add tzinfo=timezone.utc")
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000


def rfc3339(time_ns: int | None) -> str | None:
    """A time as RFC 3339 in UTC with microseconds; None when there is none, or none possible."""
    if not time_ns:
        return None
    try:
        moment = datetime.fromtimestamp(time_ns // 1_000_000_000, tz=timezone.utc)
    except (ValueError, OverflowError, OSError):
        return None
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{time_ns // 1000 % 1_000_000:06d}Z"
