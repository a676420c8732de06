"""Times as people type and read them.

What is typed without an offset, and every time in a table, is the reader's own time; JSON carries
RFC 3339 in UTC. Inside, a moment is UTC nanoseconds and a length is seconds.
"""

from __future__ import annotations

import re
from datetime import datetime, timezone

__all__ = ["DAY", "duration", "length", "local", "parse_length", "parse_moment"]

DAY = 86400
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": DAY, "w": 7 * DAY}
_LENGTH = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)\s*(s|m|h|d|w)")


def parse_length(text: str) -> float:
    """Seconds of a text such as `15m`.

    Raises:
        ValueError: The text is no length; the message says how to write one.
    """
    match = _LENGTH.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no length of time: write 90s, 15m, 2h, 7d or 1w.")
    return float(match[1]) * _SECONDS[match[2]]


def parse_moment(text: str, *, now_ns: int) -> int:
    """UTC nanoseconds of an RFC 3339 time, a date, or a length of time ago.

    Raises:
        ValueError: The text is no moment; the message says how to write one.
    """
    written = text.strip()
    if _LENGTH.fullmatch(written):
        return now_ns - round(parse_length(written) * 1e9)
    if written[-1:] in {"z", "Z"}:  # Python 3.10 does not read the Z
        written = f"{written[:-1]}+00:00"
    try:
        moment = datetime.fromisoformat(written).astimezone(timezone.utc)
        seconds = int(moment.replace(microsecond=0).timestamp())
    except (ValueError, OverflowError):
        raise ValueError(
            f"{text!r} is no moment: write 2026-08-31, 2026-08-31T12:00Z or 2h (ago)."
        ) from None
    return seconds * 1_000_000_000 + moment.microsecond * 1000


def local(at_ns: int | None, *, date: bool = True) -> str:
    """A moment in the reader's own time; a dash where it is unknown or impossible."""
    try:
        moment = datetime.fromtimestamp((at_ns or 0) // 1_000_000_000, tz=timezone.utc).astimezone()
    except (ValueError, OverflowError, OSError):
        return "-"
    if not at_ns:
        return "-"
    return moment.strftime("%Y-%m-%d %H:%M:%S" if date else "%H:%M:%S")


def length(seconds: float) -> str:
    """A length in words: `7 days`, `15 minutes`."""
    for unit, name in ((DAY, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= unit and seconds % unit == 0:
            count = seconds / unit
            return f"{count:g} {name}" + ("" if count == 1 else "s")
    return f"{seconds:g} seconds"


def duration(seconds: float | None) -> str:
    """A measured duration with three digits: `840 ms`, `1.24 s`, `3 m 05 s`; a dash if unknown."""
    if seconds is None:
        return "-"
    for limit, factor, unit in ((0.001, 1e6, "µs"), (1.0, 1e3, "ms"), (60.0, 1.0, "s")):
        if seconds < limit:
            value = seconds * factor
            digits = 0 if value >= 99.95 else 1 if value >= 9.995 else 2  # noqa: PLR2004 - 3 digits
            return f"{value:.{digits}f} {unit}"
    whole = round(seconds)
    if whole < 3600:  # noqa: PLR2004 - an hour
        return f"{whole // 60} m {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} m"
