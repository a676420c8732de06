from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from store.lines import DAY, NOW

from otel_empathy.core.errors import WrongType, WrongValue
from otel_empathy.store.window import ALWAYS, Window, rfc3339


def test_days_are_exactly_24_hours_and_no_days_are_empty():
    assert Window.last(7, NOW) == Window(NOW - 7 * DAY, NOW)
    assert NOW not in Window.last(0, NOW)
    assert Window.last(0.5, NOW).after == NOW - DAY // 2


def test_no_number_of_days_is_everything():
    assert Window.last(None, NOW) is ALWAYS
    assert 0 in ALWAYS


def test_between_includes_its_beginning_and_not_its_end():
    first = datetime(2026, 1, 1, tzinfo=timezone.utc)
    window = Window.between(first, first + timedelta(hours=1))
    assert NOW in window
    assert NOW - 1 not in window
    assert NOW + 3600 * 10**9 not in window
    assert Window.between(NOW, None).until is None


@pytest.mark.parametrize("days", [-1, float("nan"), float("inf")])
def test_impossible_days_are_refused(days):
    with pytest.raises(WrongValue, match="days="):
        Window.last(days, NOW)


@pytest.mark.parametrize("days", ["7", True])
def test_days_that_are_no_number_are_refused(days):
    with pytest.raises(WrongType, match="days="):
        Window.last(days, NOW)


def test_a_time_without_its_zone_is_refused():
    with pytest.raises(WrongValue, match="time zone"):
        Window.between(datetime(2026, 1, 1), None)  # noqa: DTZ001 - that is what is tested


def test_a_moment_that_is_none_is_refused():
    with pytest.raises(WrongType, match="since="):
        Window.between("2026-01-01", None)


def test_times_are_written_in_utc_with_microseconds():
    assert rfc3339(NOW + 1_500) == "2026-01-01T00:00:00.000001Z"
    assert rfc3339(None) is rfc3339(0) is rfc3339(10**40) is None
