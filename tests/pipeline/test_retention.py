from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from otel_empathy.pipeline import ledger, segments
from otel_empathy.pipeline.cursor import Claim, Cursor, all_cursors, register
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
    assert (removed.segments, removed.evicted) == (2, {"traces": 1})


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


def test_what_backends_refused_is_kept_as_long_as_the_log_and_within_an_eighth_of_its_size(
    empathy_home: Path,
) -> None:
    clock = ManualClock()
    aside = empathy_home / "cursors" / "x" / "aside"
    aside.mkdir(parents=True)
    now = clock.time_ns()
    for name, days, size in (("old", 91, 1), ("big", 3, 600), ("new", 2, 500), ("last", 1, 500)):
        path = aside / f"traces-{name}.jsonl"
        path.write_bytes(b"x" * size)
        os.utime(path, ns=(0, now - days * 86_400_000_000_000))
    retain(empathy_home, days=90, max_bytes=8 * 1000, clock=clock)
    assert sorted(path.name for path in aside.iterdir()) == [
        "traces-last.jsonl", "traces-new.jsonl",
    ]  # fmt: skip


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


@pytest.mark.fault("S7")
@pytest.mark.timeout(120)
def test_ten_thousand_segments_are_brought_within_the_caps_while_somebody_lists_them(
    empathy_home: Path,
) -> None:
    clock = ManualClock()
    register(empathy_home, "x", clock.time_ns())
    for number in range(10_000):
        instance = f"{number % 50:08x}"
        utc = f"20251231T{number // 3600:02d}{number // 60 % 60:02d}{number % 60:02d}Z"
        if number < 50:
            segment(empathy_home, instance, utc, 1, 2)
            cursor = Cursor("x", instance)
            cursor.positions["traces"].seq = 51  # the first fifty segments of each are shipped
            cursor.shipped = 100
            cursor.save(empathy_home)
        else:
            name = segments.Name("t", instance, utc, number // 50 + 1)
            path = segments.folder(empathy_home, "traces") / str(name)
            path.write_bytes(LINE % (1, 1) + LINE % (2, 2))
    size = 2 * len(LINE % (1, 1))
    over = threading.Event()
    seen: list[int] = []

    def listing() -> None:
        while not over.is_set():
            found = segments.listed(empathy_home, "traces")
            assert all(one.size == size for one in found)
            seen.append(len(found))

    reader = threading.Thread(target=listing)
    reader.start()
    results: list[int] = []

    def run(most: int) -> None:
        removed = retain(empathy_home, days=90, max_bytes=most * size, clock=clock)
        results.append(removed.segments)

    for most in (8000, 6000):
        threads = [threading.Thread(target=run, args=(most,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(segments.listed(empathy_home, "traces")) == most
    over.set()
    reader.join()
    assert sum(results) == 4000
    assert seen == sorted(seen, reverse=True)
    assert min(s.name.seq for s in segments.listed(empathy_home, "traces")) == 81
    row = ledger.recompute(empathy_home, all_cursors(empathy_home)).backends["x"]
    assert (row.acked, row.shipped, row.pending) == (20_000, 5000, 15_000)


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


class Stopped(BaseException):
    """Stands in for a kill: nothing that handles errors handles it."""


def gone(home: Path) -> tuple[int, int, int, dict[str, int]]:
    """The ledger of a home of two dead processes, as far as the tests below look."""
    balance = ledger.recompute(home, all_cursors(home))
    row = balance.backends["x"]
    assert balance.dropped == {"disk_full": 4}
    return balance.acked.total(), row.acked, row.shipped, row.dropped


@pytest.mark.fault("S7")
def test_a_run_that_is_killed_at_any_step_counts_nothing_twice_and_loses_no_count(
    empathy_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = ManualClock()
    register(empathy_home, "x", clock.time_ns())

    def dead(instance: str) -> None:
        for seq in (1, 2):
            segment(empathy_home, instance, "20200101T000000Z", seq, 50)
        record = ledger.Record(instance=instance, backends=("x",))
        assert record.open(empathy_home)
        record.dropped["disk_full"] = 2
        record.close()
        cursor = Cursor("x", instance)
        place = cursor.positions["traces"]
        place.seq, place.offset, place.records = 1, 30 * len(LINE % (1, 1)), 30
        cursor.shipped = 30
        cursor.save(empathy_home)

    left = 0

    def step(name: str) -> None:
        real = getattr(os, name)

        def counted(*args: object, **kwargs: object) -> object:
            nonlocal left
            left -= 1
            if left == 0:
                raise Stopped
            return real(*args, **kwargs)

        monkeypatch.setattr(os, name, counted)

    dead("a" * 8)
    dead("b" * 8)
    for name in ("unlink", "replace", "write"):
        step(name)
    for moment in range(1, 100):
        left = moment  # each try comes one step further than the one before
        try:
            retain(empathy_home, days=7, max_bytes=1 << 30, clock=clock)
        except Stopped:
            acked, owed, shipped, dropped = gone(empathy_home)
            assert (acked, owed, shipped) == (200, 200, 60), moment
            assert dropped.keys() <= {"age"}, moment
        else:
            break
    assert moment > 5
    assert gone(empathy_home) == (200, 200, 60, {"age": 140})
    assert names(empathy_home) == []
    assert sorted(path.name for path in ledger.ledger_folder(empathy_home).iterdir()) == [
        "evicted.jsonl", "retention.lock", "retired.json",
    ]  # fmt: skip
    assert ledger.read_evicted(empathy_home) == {}
    assert ledger.read_retired(empathy_home).folded == set()


@pytest.mark.fault("S7")
def test_processes_of_which_somebody_has_a_claim_are_folded_later(empathy_home: Path) -> None:
    clock = ManualClock()
    segment(empathy_home, "a" * 8, "20200101T000000Z", 1, 5)
    register(empathy_home, "x", clock.time_ns())
    Cursor("x", "a" * 8).save(empathy_home)
    claim = Claim.take(empathy_home, "x", "a" * 8)
    assert claim is not None
    retain(empathy_home, days=7, max_bytes=1 << 30, clock=clock)
    assert ledger.read_retired(empathy_home).acked == {}
    claim.free()
    retain(empathy_home, days=7, max_bytes=1 << 30, clock=clock)
    assert ledger.read_retired(empathy_home).acked == {"traces": 5}
    balance = ledger.recompute(empathy_home, all_cursors(empathy_home))
    assert balance.backends["x"].dropped == {"age": 5}


def test_the_file_of_a_process_that_wrote_nothing_goes_too(empathy_home: Path) -> None:
    segments.make_home(empathy_home)
    record = ledger.Record(instance="a" * 8)
    assert record.open(empathy_home)
    record.dropped["disk_full"] = 3
    record.save()
    retain(empathy_home, days=7, max_bytes=1 << 30, clock=ManualClock())
    assert len(list(ledger.recorded(empathy_home))) == 1  # it lives
    record.close()
    retain(empathy_home, days=7, max_bytes=1 << 30, clock=ManualClock())
    assert list(ledger.recorded(empathy_home)) == []
    assert ledger.recompute(empathy_home, {}).dropped == {"disk_full": 3}


@pytest.mark.fault("S2")
def test_a_disk_without_room_for_the_note_gets_it_from_the_segment_itself(
    empathy_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = segment(empathy_home, "a" * 8, "20200101T000000Z", 1, 5)
    real = os.write

    def full(fd: int, data: bytes) -> int:
        # A disk that has room again as soon as the segment is gone.
        if path.exists():
            raise OSError(errno.ENOSPC, "no space left")
        return real(fd, data)

    monkeypatch.setattr(os, "write", full)
    assert retain(empathy_home, days=7, max_bytes=1 << 30, clock=ManualClock()).segments == 1
    assert ledger.recompute(empathy_home, {}).acked == {"traces": 5}


def test_a_segment_that_cannot_be_removed_is_told_and_does_not_keep_the_others(
    empathy_home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for seq in (1, 2, 3):
        segment(empathy_home, "a" * 8, "20200101T000000Z", seq, 5)
    real = os.unlink

    def refuses(path: object, **kwargs: object) -> None:
        # Another user's file; root may remove it.
        if "-000002." in str(path):
            raise PermissionError(errno.EPERM, "not yours")
        real(path, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "unlink", refuses)
    removed = retain(empathy_home, days=7, max_bytes=1 << 30, clock=ManualClock())
    assert (removed.segments, names(empathy_home)) == (2, ["aaaaaaaa-2"])
    assert [record.getMessage() for record in caplog.records] == [
        "1 segment(s) cannot be removed: [Errno 1] not yours"
    ]
    assert ledger.recompute(empathy_home, {}).acked == {"traces": 15}


def test_what_was_taken_from_a_backend_is_told_once_a_run(
    empathy_home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for seq in range(1, 21):
        segment(empathy_home, "a" * 8, "20200101T000000Z", seq, 5)
    clock = ManualClock()
    register(empathy_home, "x", clock.time_ns())
    Cursor("x", "a" * 8).save(empathy_home)
    assert retain(empathy_home, days=7, max_bytes=1, clock=clock).unshipped == {"age": 20}
    assert [record.getMessage() for record in caplog.records] == [
        "20 segment(s) were removed (age) before x had read them"
    ]


def test_that_a_backend_holds_nothing_back_any_more_is_told_once(
    empathy_home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = ManualClock()
    register(empathy_home, "x", clock.time_ns() - 8 * DAY * 10**9)
    for seq in (1, 2):
        segment(empathy_home, "a" * 8, "20260101T000000Z", seq, 50)
        Cursor("x", "a" * 8).save(empathy_home)
        assert retain(empathy_home, days=90, max_bytes=1, clock=clock).unshipped == {}
    (told,) = [record.getMessage() for record in caplog.records]
    assert told.startswith("backend x was not seen for a week, so segments that it has not read")


def test_a_damaged_note_of_a_backend_stops_no_run(empathy_home: Path) -> None:
    segment(empathy_home, "a" * 8, "20200101T000000Z", 1, 50)
    clock = ManualClock()
    register(empathy_home, "x", clock.time_ns())
    (empathy_home / "cursors" / "x" / "backend.json").write_text('{"name":"x","seen_ns":"soon"}')
    assert retain(empathy_home, days=7, max_bytes=1 << 30, clock=clock).segments == 1
