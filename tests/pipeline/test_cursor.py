"""Cursors and claims on disk: what is saved, what is refused, who has the right to move them."""

from __future__ import annotations

import json
import resource
import signal
from pathlib import Path

import pytest

from otel_empathy.pipeline.cursor import (
    Claim,
    Cursor,
    Position,
    cursor_folder,
    register,
    registered,
)


def saved(home: Path) -> Cursor:
    cursor = Cursor("b", "aaaaaaaa", shipped=5, dropped={"rejected": 2})
    cursor.positions["traces"] = Position(3, 40, 7)
    cursor.save(home)
    return cursor


def test_a_cursor_is_read_as_it_was_saved(empathy_home: Path) -> None:
    before = saved(empathy_home)
    after = Cursor.load(empathy_home, "b", "aaaaaaaa")
    assert after == before
    assert after.path(empathy_home).stat().st_mode & 0o777 == 0o600


@pytest.mark.fault("S11")
@pytest.mark.parametrize(
    "change",
    [
        {"v": 2},
        {"v": None},
        {"shipped": "many"},
        {"positions": {"traces": {"seq": -1, "offset": 0, "records": 0}}},
        {"dropped": [1]},
    ],
)
def test_a_cursor_that_is_not_understood_stands_at_the_beginning(
    empathy_home: Path, change: dict[str, object]
) -> None:
    path = saved(empathy_home).path(empathy_home)
    path.write_text(json.dumps(json.loads(path.read_bytes()) | change), encoding="ascii")
    found = Cursor.load(empathy_home, "b", "aaaaaaaa")
    assert (found.positions["traces"], found.shipped, found.repeats) == (Position(), 0, 1)


@pytest.mark.fault("S11")
@pytest.mark.fault("S2")
def test_a_cursor_that_does_not_fit_on_the_disk_leaves_the_old_one(empathy_home: Path) -> None:
    cursor = saved(empathy_home)
    cursor.shipped = 6
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
        with pytest.raises(OSError, match="No space left"):
            cursor.save(empathy_home)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert Cursor.load(empathy_home, "b", "aaaaaaaa").shipped == 5
    left = [path.name for path in cursor_folder(empathy_home, "b").iterdir()]
    assert left == ["aaaaaaaa.json"]


def test_records_that_are_repeated_are_unsettled_again_shipped_ones_first() -> None:
    cursor = Cursor("b", "aaaaaaaa", shipped=5, dropped={"rejected": 2, "poison": 4})
    cursor.take_back(8)
    assert (cursor.shipped, cursor.dropped, cursor.repeats) == (0, {"rejected": 0, "poison": 3}, 8)


@pytest.mark.fault("S12")
def test_a_claim_has_one_holder_and_is_free_when_that_one_gives_it_back(empathy_home: Path) -> None:
    first = Claim.take(empathy_home, "b", "aaaaaaaa")
    assert first is not None
    assert Claim.take(empathy_home, "b", "aaaaaaaa") is None
    first.free()
    second = Claim.take(empathy_home, "b", "aaaaaaaa")
    assert second is not None
    second.free()


@pytest.mark.fault("N10")
def test_a_backend_keeps_the_day_on_which_it_was_first_seen(empathy_home: Path) -> None:
    register(empathy_home, "b", 7)
    register(empathy_home, "b", 9)
    assert dict(registered(empathy_home)) == {
        "b": {"name": "b", "registered_ns": "7", "seen_ns": "9"}
    }
