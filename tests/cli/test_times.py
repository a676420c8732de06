from __future__ import annotations

import pytest

from otel_empathy.cli import times

NOW = 1_790_000_000_000_000_000


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("15m", 900), ("2h", 7200), ("1.5h", 5400), ("7d", 604_800), ("1w", 604_800)],
)
def test_a_length_is_read_in_seconds(text: str, seconds: float) -> None:
    assert times.parse_length(text) == seconds


@pytest.mark.parametrize("text", ["", "15", "m", "-3m", "3 years", "1e3s", "NaNs"])
def test_what_is_no_length_says_how_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match="write 90s, 15m, 2h"):
        times.parse_length(text)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-08-31T12:00:00Z", 1_788_177_600_000_000_000),
        ("2026-08-31T14:00:00+02:00", 1_788_177_600_000_000_000),
        ("2026-08-31T12:00:00.250000Z", 1_788_177_600_250_000_000),
        ("15m", NOW - 900_000_000_000),
    ],
)
def test_a_moment_is_read_in_nanoseconds(text: str, moment: int) -> None:
    assert times.parse_moment(text, now_ns=NOW) == moment


def test_a_moment_without_offset_is_the_readers_own_time() -> None:
    own = times.parse_moment("2026-08-31T12:00:00", now_ns=NOW)
    assert times.local(own) == "2026-08-31 12:00:00"


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "99999-01-01"])
def test_what_is_no_moment_says_how_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match="write 2026-08-31"):
        times.parse_moment(text, now_ns=NOW)


@pytest.mark.parametrize("garbage", [None, 0, 1 << 70, -(1 << 70)])
def test_an_impossible_moment_is_a_dash(garbage: int | None) -> None:
    assert times.local(garbage) == "-"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0.0, "0.00 µs"),
        (0.000_042, "42.0 µs"),
        (0.0031, "3.10 ms"),
        (0.84, "840 ms"),
        (1.236, "1.24 s"),
        (59.97, "60.0 s"),
        (185, "3 m 05 s"),
        (7260, "2 h 01 m"),
    ],
)
def test_a_duration_has_three_digits(seconds: float | None, text: str) -> None:
    assert times.duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(604_800, "7 days"), (86_400, "1 day"), (900, "15 minutes"), (90, "90 seconds")],
)
def test_a_length_is_said_in_words(seconds: float, text: str) -> None:
    assert times.length(seconds) == text
