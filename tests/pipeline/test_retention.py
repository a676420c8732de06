from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from otel_empathy.pipeline import ledger, segments
from otel_empathy.pipeline.cursor import Cursor, all_cursors, register
from otel_empathy.pipeline.retention import retain
from otel_empathy.testing import ManualClock

DAY = 86_400
CLOCK_START = 1_767_225_600  # 2026-01-01T00:00:00Z, where a manual clock begins
LINE = (
    b'{"resourceSpans":[{"resource":{"attributes":[]},"scopeSpans":[{"scope":{"name":"s"},'
    b'"spans":[{"traceId":"%032x","spanId":"%016x"}]}]}]}\n'
)


def segment(home: Path, instance: str, utc: str, seq: int, records: int) -> Path:
    segments.make_home(home)
    path = segments.folder(home, "traces") / str(segments.Name("t", instance, utc, seq))
    path.write_bytes(b"".join(LINE % (n + 1, n + 1) for n in range(records)))
    return path


def names(home: Path) -> list[str]:
    return [f"{s.name.instance}-{s.name.seq}" for s in segments.listed(home, "traces")]


def test_age_is_decided_by_the_date_in_the_name_and_not_by_the_file(empathy_home: Path) -> None:
    old = segment(empathy_home, "a" * 8, "20200101T000000Z", 1, 1)
    young = segment(empathy_home, "b" * 8, "20260101T000000Z", 1, 1)
    os.utime(young, (0, 0))
    removed = retain(empathy_home, days=7, max_bytes=1 << 30, clock=ManualClock())
    assert (removed.segments, old.exists(), young.exists()) == (1, False, True)


@pytest.mark.fault("S7")
def test_a_live_segment_is_never_removed(empathy_home: Path) -> None:
    path = segment(empathy_home, "a" * 8, "20200101T000000Z", 1, 1)
    with path.open("ab") as file:
        assert segments.lock(file.fileno())
        retain(empathy_home, days=7, max_bytes=4096, clock=ManualClock())
        assert path.exists()
    retain(empathy_home, days=7, max_bytes=4096, clock=ManualClock())
    assert not path.exists()


@pytest.mark.fault("S7")
def test_over_its_size_the_oldest_shipped_segments_go_before_any_unshipped_one(
    empathy_home: Path,
) -> None:
    for seq in (1, 2, 3):
        segment(empathy_home, "a" * 8, "20260101T000000Z", seq, 50)
        segment(empathy_home, "b" * 8, "20260101T000001Z", seq, 50)
    clock = ManualClock()
    register(empathy_home, "x", clock.time_ns())
    Cursor("x", "a" * 8).save(empathy_home)  # nothing of a was shipped; b is owed to nobody
    size = segments.listed(empathy_home, "traces")[0].size
    retain(empathy_home, days=90, max_bytes=size * 4, clock=clock)
    assert names(empathy_home) == ["aaaaaaaa-1", "aaaaaaaa-2", "aaaaaaaa-3", "bbbbbbbb-3"]
    removed = retain(empathy_home, days=90, max_bytes=size * 2, clock=clock)
    assert names(empathy_home) == ["aaaaaaaa-2", "aaaaaaaa-3"]
    assert removed.unshipped == {"backlog_cap": 1}


@pytest.mark.fault("S7")
def test_what_a_cap_took_from_a_backend_is_counted_exactly(empathy_home: Path) -> None:
    for seq in (1, 2):
        segment(empathy_home, "a" * 8, "20260101T000000Z", seq, 50)
    clock = ManualClock()
    register(empathy_home, "x", clock.time_ns())
    cursor = Cursor("x", "a" * 8)
    place = cursor.positions["traces"]
    place.seq, place.offset, place.records = 1, 30 * (len(LINE % (1, 1))), 30
    cursor.shipped = 30
    cursor.save(empathy_home)
    retain(empathy_home, days=90, max_bytes=4096, clock=clock)
    assert names(empathy_home) == []
    balance = ledger.recompute(empathy_home, all_cursors(empathy_home)).as_dict()
    assert balance["acked"] == 100
    assert balance["backends"]["x"] == {
        "acked": 100,
        "shipped": 30,
        "pending": 0,
        "dropped": {"backlog_cap": 70},
        "state": "unknown",
    }


def test_counts_of_a_process_that_is_gone_move_into_the_totals_once(empathy_home: Path) -> None:
    segment(empathy_home, "a" * 8, "20200101T000000Z", 1, 5)
    record = ledger.Record(instance="a" * 8)
    assert record.open(empathy_home)
    record.dropped["disk_full"] = 2
    record.close()
    for _ in range(3):
        retain(empathy_home, days=7, max_bytes=1 << 30, clock=ManualClock())
    balance = ledger.recompute(empathy_home, all_cursors(empathy_home))
    assert (balance.offered, balance.acked.total(), dict(balance.dropped)) == (
        7, 5, {"disk_full": 2},
    )  # fmt: skip
    assert list(ledger.ledger_folder(empathy_home).glob("????????.json")) == []


def test_a_backend_that_was_not_seen_for_a_week_holds_nothing_back(empathy_home: Path) -> None:
    segment(empathy_home, "a" * 8, "20260101T000000Z", 1, 50)
    segment(empathy_home, "b" * 8, "20260101T000001Z", 1, 50)
    clock = ManualClock()
    register(empathy_home, "x", clock.time_ns() - 8 * DAY * 10**9)
    Cursor("x", "a" * 8).save(empathy_home)
    size = segments.listed(empathy_home, "traces")[0].size
    retain(empathy_home, days=90, max_bytes=size, clock=clock)
    assert names(empathy_home) == ["bbbbbbbb-1"]


@pytest.mark.fault("S7")
def test_three_runs_at_once_remove_each_segment_once(empathy_home: Path) -> None:
    for seq in range(1, 101):
        segment(empathy_home, "a" * 8, "20200101T000000Z", seq, 2)
    results: list[int] = []

    def run() -> None:
        results.append(
            retain(empathy_home, days=7, max_bytes=1 << 30, clock=ManualClock()).segments
        )

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(results) == 100
    balance = ledger.recompute(empathy_home, all_cursors(empathy_home))
    assert balance.acked.total() == 200


def test_a_process_that_died_before_its_first_request_still_owes_what_it_wrote(
    empathy_home: Path,
) -> None:
    segment(empathy_home, "a" * 8, "20260101T000000Z", 1, 50)
    segment(empathy_home, "b" * 8, "20260101T000001Z", 1, 50)
    clock = ManualClock()
    register(empathy_home, "x", clock.time_ns())
    record = ledger.Record(instance="a" * 8, backends=("x",))
    assert record.open(empathy_home)
    record.close()
    row = ledger.recompute(empathy_home, all_cursors(empathy_home)).backends["x"]
    assert (row.acked, row.pending) == (50, 50)
    retain(empathy_home, days=90, max_bytes=segments.listed(empathy_home, "traces")[0].size,
           clock=clock)  # fmt: skip
    assert names(empathy_home) == ["aaaaaaaa-1"]
