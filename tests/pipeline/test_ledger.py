from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from otel_empathy.pipeline import ledger, segments
from otel_empathy.pipeline.cursor import Cursor
from otel_empathy.pipeline.ledger import Evicted, Record, Retired

NAME = "t-aaaaaaaa-20260101T000000Z-000001.jsonl"


def file(home: Path, instance: str = "a" * 16) -> Path:
    return ledger.ledger_folder(home) / f"{instance[:8]}.json"


def opened(home: Path, **what: object) -> Record:
    record = Record(instance="a" * 16, **what)  # type: ignore[arg-type]
    assert record.open(home)
    return record


# -- the file of a process -----------------------------------------------------------------------
def test_what_a_process_dropped_is_read_back_while_it_lives_and_after(empathy_home: Path) -> None:
    record = opened(empathy_home, service="shop", pid=7, backends=("b", "c"))
    record.dropped["disk_full"] = 3
    record.waiting = 2
    record.save()
    assert segments.is_locked(file(empathy_home))
    found = ledger.read_record(file(empathy_home))
    assert found is not None
    assert (found.service, found.pid, found.backends) == ("shop", 7, ("b", "c"))
    assert (dict(found.dropped), found.waiting, found.closed) == ({"disk_full": 3}, 2, False)
    record.close()
    assert not segments.is_locked(file(empathy_home))
    found = ledger.read_record(file(empathy_home))
    assert found is not None
    assert found.closed


def test_two_processes_of_one_name_are_told_apart(empathy_home: Path) -> None:
    record = opened(empathy_home)
    assert not Record(instance="a" * 16).open(empathy_home)
    record.close()
    assert not Record(instance="a" * 16).open(empathy_home)


@pytest.mark.parametrize("length", [100, 4000, 5000, 20_000])
def test_a_long_name_of_a_service_does_not_break_its_file(empathy_home: Path, length: int) -> None:
    record = opened(empathy_home, service="s" * length, backends=("b",))
    record.dropped["io_error"] = 1
    record.save()
    record.service = "short again"
    record.save()
    found = ledger.read_record(file(empathy_home))
    assert found is not None
    assert (found.service, found.backends, found.dropped.total()) == ("short again", ("b",), 1)
    record.close()


@pytest.mark.fault("S2")
@pytest.mark.parametrize("part", [0, 100])
def test_a_file_for_which_there_is_no_room_leaves_nothing_behind(
    empathy_home: Path, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    def full(fd: int, data: bytes, offset: int) -> int:
        # A disk without room; the test bed has a real one.
        if not part:
            raise OSError(errno.ENOSPC, "no space left")
        return real(fd, data[:part], offset)

    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", full)
    for _ in range(3):
        record = Record(instance="a" * 16)
        with pytest.raises(OSError, match=r"(?i)no space left"):
            record.open(empathy_home)
        assert record.fd == -1
    assert list(ledger.ledger_folder(empathy_home).iterdir()) == []
    monkeypatch.undo()
    opened(empathy_home).close()


@pytest.mark.fault("S3")
def test_a_file_that_somebody_removed_is_made_again(empathy_home: Path) -> None:
    record = opened(empathy_home)
    file(empathy_home).unlink()
    ledger.ledger_folder(empathy_home).rmdir()
    record.dropped["io_error"] = 5
    record.save()
    found = ledger.read_record(file(empathy_home))
    assert found is not None
    assert found.dropped == {"io_error": 5}
    assert segments.is_locked(file(empathy_home))
    record.close()


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b'{"instance":1}', b"\0" * 4096])
def test_a_damaged_file_counts_for_nothing_and_stops_nobody(
    empathy_home: Path, text: bytes
) -> None:
    segments.make_folder(ledger.ledger_folder(empathy_home))
    file(empathy_home).write_bytes(text)
    assert ledger.read_record(file(empathy_home)) is None
    assert ledger.recompute(empathy_home, {}).offered == 0


# -- locks ---------------------------------------------------------------------------------------
@pytest.mark.fault("P3")
def test_a_lock_ends_with_its_holder_although_a_forked_child_inherited_the_file(
    empathy_home: Path,
) -> None:
    held = ledger.ledger_lock(empathy_home, "x.lock")
    with held as alone:
        assert alone
        inherited = os.dup(held._fd)  # to the lock, a copy is the same as a child's
        with ledger.ledger_lock(empathy_home, "x.lock") as second:
            assert not second
    with ledger.ledger_lock(empathy_home, "x.lock") as third:
        assert third
    os.close(inherited)


# -- removals ------------------------------------------------------------------------------------
def test_a_torn_note_does_not_swallow_the_next_one(empathy_home: Path) -> None:
    segments.make_home(empathy_home)
    segments.make_folder(ledger.ledger_folder(empathy_home))
    ledger.note_evicted(empathy_home, Evicted("traces", NAME, 1, "age"))
    with ledger.evicted_file(empathy_home).open("ab") as notes:
        notes.write(b'{"signal":"traces","na')
    other = NAME.replace("000001", "000002")
    ledger.note_evicted(empathy_home, Evicted("traces", other, 2, "age"))
    found = ledger.read_evicted(empathy_home)
    assert [one.records for one in found.values()] == [1, 2]


@pytest.mark.fault("S2")
def test_half_a_note_is_taken_back(empathy_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    segments.make_folder(ledger.ledger_folder(empathy_home))
    ledger.note_evicted(empathy_home, Evicted("traces", NAME, 1, "age"))
    before = ledger.evicted_file(empathy_home).read_bytes()
    real = os.write
    # A disk that is full takes a part of what it gets.
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:9]))
    with pytest.raises(OSError, match=r"(?i)no space left"):
        ledger.note_evicted(empathy_home, Evicted("logs", NAME, 2, "age"))
    assert ledger.evicted_file(empathy_home).read_bytes() == before


def test_a_segment_that_was_noted_and_still_stands_is_counted_once(empathy_home: Path) -> None:
    segments.make_home(empathy_home)
    segments.make_folder(ledger.ledger_folder(empathy_home))
    path = segments.folder(empathy_home, "traces") / NAME
    path.write_bytes(b'{"traceId":"1"}\n{"traceId":"2"}\n')
    ledger.note_evicted(empathy_home, Evicted("traces", NAME, 2, "age"))
    assert ledger.recompute(empathy_home, {}).acked == {"traces": 2}
    path.unlink()
    assert ledger.recompute(empathy_home, {}).acked == {"traces": 2}


# -- totals --------------------------------------------------------------------------------------
def test_totals_are_read_back_as_they_were_saved(empathy_home: Path) -> None:
    segments.make_folder(ledger.ledger_folder(empathy_home))
    retired = Retired()
    retired.acked["traces"] = 10
    retired.dropped["disk_full"] = 1
    row = ledger.BackendBalance(10, 7)
    row.dropped["age"] = 3
    retired.backends["b"] = row
    retired.folded = {"a" * 8}
    retired.save(empathy_home)
    assert ledger.read_retired(empathy_home) == retired
    assert ledger.recompute(empathy_home, {}).as_dict() == {
        "offered": 11,
        "acked": 10,
        "waiting": 0,
        "dropped": {"disk_full": 1},
        "backends": {
            "b": {"acked": 10, "shipped": 7, "pending": 0, "dropped": {"age": 3},
                  "state": "unknown"},
        },
    }  # fmt: skip


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"acked":1}', b'{"acked":{"x":"y"}}'])
def test_damaged_totals_stop_nobody(empathy_home: Path, text: bytes) -> None:
    segments.make_folder(ledger.ledger_folder(empathy_home))
    (ledger.ledger_folder(empathy_home) / "retired.json").write_bytes(text)
    assert ledger.recompute(empathy_home, {}).offered == 0


def test_what_is_in_the_totals_is_not_counted_again_while_its_files_are_still_there(
    empathy_home: Path,
) -> None:
    segments.make_folder(ledger.ledger_folder(empathy_home))
    record = opened(empathy_home, backends=("b",))
    record.dropped["io_error"] = 4
    record.close()
    ledger.note_evicted(empathy_home, Evicted("traces", NAME, 9, "age"))
    cursor = Cursor("b", "a" * 8)
    cursor.shipped = 9
    cursors = {("b", "a" * 8): cursor}
    before = ledger.recompute(empathy_home, cursors)
    retired = Retired(folded={"a" * 8})
    retired.acked["traces"] = 9
    retired.dropped["io_error"] = 4
    retired.backends["b"] = ledger.BackendBalance(9, 9)
    retired.save(empathy_home)
    after = ledger.recompute(empathy_home, cursors)
    assert (after.offered, after.acked, after.dropped) == (13, {"traces": 9}, {"io_error": 4})
    assert (after.backends["b"].acked, after.backends["b"].shipped) == (9, 9)
    assert before.offered == after.offered


@pytest.mark.fault("S10")
def test_a_link_in_the_way_of_the_totals_is_not_followed(empathy_home: Path) -> None:
    segments.make_folder(ledger.ledger_folder(empathy_home))
    victim = empathy_home / "victim"
    victim.write_text("mine")
    (ledger.ledger_folder(empathy_home) / f"retired.{os.getpid()}.tmp").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic"):
        Retired().save(empathy_home)
    assert victim.read_text() == "mine"
