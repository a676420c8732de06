from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import resource
import shutil
import stat
import threading
from pathlib import Path

import pytest

from otel_empathy.pipeline import segments
from otel_empathy.pipeline.bell import Bell
from otel_empathy.pipeline.ledger import Record, ledger_folder
from otel_empathy.pipeline.log import Log, Options
from otel_empathy.testing import ManualClock

RESOURCE = b'"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"t"}}]}'
SCOPE = b'"scope":{"name":"s"}'
INSTANCE = "0123456789abcdef"


def body(number: int, padding: int = 100) -> bytes:
    return b'{"traceId":"%032x","spanId":"%016x","name":"%s"}' % (number, number, b"x" * padding)


def put(log: Log, number: int, padding: int = 100) -> None:
    log.append("traces", RESOURCE, SCOPE, body(number, padding), 1)


def numbers(home: Path) -> list[int]:
    found = []
    for segment in segments.listed(home, "traces"):
        for line in segment.path.read_bytes().splitlines():
            for outer in json.loads(line)["resourceSpans"]:
                for inner in outer["scopeSpans"]:
                    found += [int(span["traceId"], 16) for span in inner["spans"]]
    return found


@pytest.fixture
def log(empathy_home: Path):
    segments.make_home(empathy_home)
    # A clock that stands never finds a write slow, so how busy the machine is does not matter.
    made = Log(empathy_home, service="t", instance=INSTANCE, clock=ManualClock())
    yield made
    made.close(2)


def test_a_record_is_in_the_file_when_append_returns(log: Log) -> None:
    put(log, 1)
    assert numbers(log.home) == [1]
    assert log.durability == "sync"
    assert log.counts["traces"].acked == 1


def test_nothing_is_opened_before_the_first_record(log: Log) -> None:
    assert segments.listed(log.home, "traces") == []


def test_a_line_is_one_otlp_request_whose_resource_begins_with_the_segment(log: Log) -> None:
    put(log, 1)
    (segment,) = segments.listed(log.home, "traces")
    line = json.loads(segment.path.read_text())
    assert line == {
        "resourceSpans": [
            {
                "resource": {
                    "attributes": [
                        {
                            "key": "empathy.segment.id",
                            "value": {"stringValue": f"{INSTANCE}-1-traces"},
                        },
                        {"key": "service.name", "value": {"stringValue": "t"}},
                    ]
                },
                "scopeSpans": [
                    {
                        "scope": {"name": "s"},
                        "spans": [
                            {
                                "traceId": "0" * 31 + "1",
                                "spanId": "0" * 15 + "1",
                                "name": "x" * 100,
                            }
                        ],
                    }
                ],
            }
        ]
    }


def test_above_two_thousand_records_a_second_they_are_batched_and_none_is_lost(log: Log) -> None:
    for number in range(1, 10_001):
        put(log, number)
    assert log.durability == "batched"
    assert log.flush(5)
    assert log.durability == "sync"
    assert numbers(log.home) == list(range(1, 10_001))


def test_a_hiccup_of_the_disk_is_borne_and_a_slow_disk_is_spared(log: Log) -> None:
    log.took(0.004)
    put(log, 1)
    assert log.durability == "sync"
    for _ in range(50):
        log.took(0.004)
    put(log, 2)
    assert log.durability == "batched"
    assert log.flush(5)
    assert numbers(log.home) == [1, 2]


def test_eight_threads_lose_nothing_and_write_whole_lines(log: Log) -> None:
    def work(thread: int) -> None:
        for number in range(2000):
            put(log, thread * 10_000 + number + 1)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close(5)
    expected = sorted(t * 10_000 + n + 1 for t in range(8) for n in range(2000))
    assert sorted(numbers(log.home)) == expected
    count = log.counts["traces"]
    assert (count.offered, count.acked, count.dropped.total()) == (16_000, 16_000, 0)


def test_a_segment_ends_at_its_size_and_the_next_has_the_next_number(empathy_home: Path) -> None:
    segments.make_home(empathy_home)
    log = Log(
        empathy_home,
        service="t",
        instance=INSTANCE,
        options=Options(segment_bytes=5000),
        clock=ManualClock(),
    )
    for number in range(1, 31):
        put(log, number, padding=500)
    log.close(1)
    found = segments.listed(empathy_home, "traces")
    assert [s.name.seq for s in found] == list(range(1, len(found) + 1))
    assert len(found) > 3
    assert all(segment.size <= 5000 for segment in found)
    assert numbers(empathy_home) == list(range(1, 31))


def test_a_segment_ends_with_the_utc_day(empathy_home: Path) -> None:
    segments.make_home(empathy_home)
    clock = ManualClock(time_ns=1_767_311_999_000_000_000)  # 2026-01-01T23:59:59Z
    log = Log(empathy_home, service="t", instance=INSTANCE, clock=clock)
    put(log, 1)
    clock.advance(2)
    put(log, 2)
    log.close(1)
    found = segments.listed(empathy_home, "traces")
    assert [s.name.utc for s in found] == ["20260101T235959Z", "20260102T000001Z"]


@pytest.mark.fault("P8")
def test_a_clock_that_jumps_back_an_hour_keeps_names_unique_and_in_order(
    empathy_home: Path,
) -> None:
    segments.make_home(empathy_home)
    clock = ManualClock()
    log = Log(
        empathy_home,
        service="t",
        instance=INSTANCE,
        clock=clock,
        options=Options(segment_bytes=4096),
    )
    for number in range(1, 21):
        put(log, number, padding=1000)
        clock.step(-3600 if number == 10 else 0)
    log.close(1)
    found = segments.listed(empathy_home, "traces")
    assert len({str(s.name) for s in found}) == len(found)
    assert numbers(empathy_home) == list(range(1, 21))


def test_files_and_folders_are_the_owners_alone_whatever_the_umask(empathy_home: Path) -> None:
    before = os.umask(0)
    try:
        segments.make_home(empathy_home)
        log = Log(empathy_home, service="t", instance=INSTANCE)
        put(log, 1)
        log.close(1)
    finally:
        os.umask(before)
    for path in [empathy_home, *empathy_home.rglob("*")]:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path


@pytest.mark.fault("S10")
def test_a_planted_symlink_is_not_followed(empathy_home: Path, tmp_path: Path) -> None:
    segments.make_home(empathy_home)
    clock = ManualClock()
    victim = tmp_path / "victim"
    victim.write_text("mine")
    planted = segments.Name("t", INSTANCE[:8], "20260101T000000Z", 1)
    (segments.folder(empathy_home, "traces") / str(planted)).symlink_to(victim)
    log = Log(empathy_home, service="t", instance=INSTANCE, clock=clock)
    put(log, 1)
    log.close(1)
    assert victim.read_text() == "mine"
    assert numbers(empathy_home) == [1]


@pytest.mark.fault("S10")
def test_a_home_that_everybody_may_write_to_is_refused_unless_told(empathy_home: Path) -> None:
    empathy_home.mkdir()
    empathy_home.chmod(0o777)
    with pytest.raises(ValueError, match="every user of this machine may write to it"):
        segments.make_home(empathy_home)
    segments.make_home(empathy_home, unsafe=True)


@pytest.mark.fault("S3")
def test_a_home_that_is_deleted_while_running_is_made_again(empathy_home: Path) -> None:
    segments.make_home(empathy_home)
    clock = ManualClock()
    log = Log(empathy_home, service="t", instance=INSTANCE, clock=clock)
    put(log, 1)
    for segment in segments.listed(empathy_home, "traces"):
        segment.path.unlink()
    segments.folder(empathy_home, "traces").rmdir()
    clock.advance(1)
    put(log, 2)
    log.close(1)
    assert numbers(empathy_home) == [2]


@pytest.mark.fault("S3")
def test_records_wait_in_memory_while_the_folder_refuses_and_are_written_after(
    empathy_home: Path,
) -> None:
    empathy_home.mkdir()
    (empathy_home / "otlp").write_text("a file where a folder must be")
    log = Log(empathy_home, service="t", instance=INSTANCE)
    for number in range(1, 11):
        put(log, number)
    assert (log.waiting, log.trouble) == (10, "io_error")
    assert log.counts["traces"].acked == 0
    (empathy_home / "otlp").unlink()
    assert log.flush(5)
    log.close(1)
    assert numbers(empathy_home) == list(range(1, 11))


@pytest.mark.fault("S2")
def test_a_full_disk_cuts_back_to_the_last_whole_line_and_the_record_waits(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(log, 1)
    real = os.write
    full = threading.Event()
    full.set()

    def short(fd: int, data: bytes) -> int:
        # A disk that fills up takes a part of the line first and then refuses. A real one needs a
        # small file system of its own, which only some machines allow; the test bed has that.
        if full.is_set() and data.startswith(b'{"resourceSpans"'):
            real(fd, data[:50])
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, data)

    monkeypatch.setattr(os, "write", short)
    put(log, 2)
    (segment,) = segments.listed(log.home, "traces")
    assert segment.path.read_bytes().endswith(b"\n")
    assert (numbers(log.home), log.waiting, log.trouble) == ([1], 1, "disk_full")
    full.clear()
    assert log.flush(5)
    assert (numbers(log.home), log.waiting, log.trouble) == ([1, 2], 0, None)


@pytest.mark.fault("S2")
def test_what_does_not_fit_into_memory_is_counted(empathy_home: Path) -> None:
    empathy_home.mkdir()
    (empathy_home / "otlp").write_text("a file where a folder must be")
    log = Log(empathy_home, service="t", instance=INSTANCE, options=Options(buffer_bytes=1000))
    for number in range(1, 101):
        put(log, number)
    count = log.counts["traces"]
    assert count.offered == 100
    assert count.dropped["io_error"] == 100 - count.waiting > 80
    log.close(0.1)
    assert count.offered == count.acked + count.dropped.total()
    assert count.dropped["shutdown"] > 0


def test_a_record_longer_than_a_line_is_counted(log: Log) -> None:
    put(log, 1, padding=600_000)
    assert log.counts["traces"].dropped == {"too_large": 1}


def test_a_record_after_close_is_counted(log: Log) -> None:
    log.close(1)
    put(log, 1)
    assert log.counts["traces"].dropped == {"shutdown": 1}


def test_long_batches_are_split_into_lines_of_at_most_512_kib(
    log: Log,
) -> None:
    for number in range(1, 5001):
        put(log, number, padding=1000)
    log.close(5)
    for segment in segments.listed(log.home, "traces"):
        for line in segment.path.read_bytes().splitlines():
            assert len(line) <= 512 * 1024
    assert numbers(log.home) == list(range(1, 5001))


def test_a_line_holds_no_more_records_than_a_request_so_a_crash_repeats_one_request(
    log: Log,
) -> None:
    for number in range(1, 6001):
        put(log, number, padding=10)
    log.close(5)
    sizes = [
        sum(len(inner["spans"]) for inner in outer["scopeSpans"])
        for segment in segments.listed(log.home, "traces")
        for line in segment.path.read_bytes().splitlines()
        for outer in json.loads(line)["resourceSpans"]
    ]
    assert max(sizes) == 512
    assert sum(sizes) == 6000


def test_the_writer_of_a_live_segment_can_be_told_from_one_that_is_gone(log: Log) -> None:
    put(log, 1)
    (segment,) = segments.listed(log.home, "traces")
    assert segments.is_locked(segment.path)
    log.close(1)
    assert not segments.is_locked(segment.path)


def test_the_newest_lines_are_kept_for_backends(empathy_home: Path) -> None:
    segments.make_home(empathy_home)
    log = Log(
        empathy_home,
        service="t",
        instance=INSTANCE,
        options=Options(tail=True),
        clock=ManualClock(),
    )
    for number in range(1, 4):
        put(log, number)
    writer = log.writers["traces"]
    lines = writer.tail.after(1, 0, 10)
    assert lines is not None
    assert [line.start for line in lines] == [0, lines[0].end, lines[1].end]
    assert writer.tail.after(1, lines[1].start, 10) == lines[1:]
    assert writer.tail.after(1, lines[2].end, 10) == []
    assert writer.tail.after(1, 7, 10) is None
    log.close(1)


def test_memory_of_the_newest_lines_is_bounded(empathy_home: Path) -> None:
    segments.make_home(empathy_home)
    log = Log(
        empathy_home,
        service="t",
        instance=INSTANCE,
        options=Options(tail=True),
        clock=ManualClock(),
    )
    for number in range(1, 300):
        put(log, number, padding=100_000)
    log.flush(10)
    assert log.writers["traces"].tail.bytes <= 8 << 20
    assert log.writers["traces"].tail.after(1, 0, 10) is None
    log.close(5)


@pytest.mark.fault("S2")
def test_a_file_size_limit_is_survived_by_the_next_segment(empathy_home: Path) -> None:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            segments.make_home(empathy_home)
            resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))
            log = Log(empathy_home, service="t", instance=INSTANCE)
            for number in range(1, 41):
                put(log, number, padding=500)
            log.close(5)
            code = 0 if numbers(empathy_home) else 2
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert numbers(empathy_home) == list(range(1, 41))
    for segment in segments.listed(empathy_home, "traces"):
        assert segment.path.read_bytes().endswith(b"\n")


@pytest.mark.fault("S2")
def test_a_record_that_no_file_may_be_long_enough_for_holds_up_no_other(empathy_home: Path) -> None:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            segments.make_home(empathy_home)
            resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))
            log = Log(empathy_home, service="t", instance=INSTANCE)
            for number in range(1, 31):
                put(log, number, padding=20_000 if number == 15 else 500)
            flushed = log.flush(5)
            dropped = log.counts["traces"].dropped
            log.close(5)
            code = 0 if flushed and dropped == {"too_large": 1} else 2
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert numbers(empathy_home) == [n for n in range(1, 31) if n != 15]
    assert len(segments.listed(empathy_home, "traces")) < 10


# -- files that are taken away --------------------------------------------------------------------
def descriptor(log: Log) -> int:
    return log.writers["traces"]._fd


@pytest.mark.fault("S3")
def test_a_descriptor_that_the_program_closed_is_replaced_by_a_new_segment(log: Log) -> None:
    put(log, 1)
    os.close(descriptor(log))
    put(log, 2)
    assert log.flush(5)
    put(log, 3)
    assert numbers(log.home) == [1, 2, 3]
    count = log.counts["traces"]
    assert (count.offered, count.acked, count.dropped.total()) == (3, 3, 0)


@pytest.mark.fault("S3")
@pytest.mark.parametrize("fsync", [0.5, None])
@pytest.mark.parametrize("refused", [False, True], ids=["seen in time", "seen at a refusal"])
def test_a_descriptor_that_became_another_file_is_left_alone(
    empathy_home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    refused: bool,
    fsync: float | None,
) -> None:
    segments.make_home(empathy_home)
    clock = ManualClock()
    log = Log(
        empathy_home, service="t", instance=INSTANCE, clock=clock, options=Options(fsync=fsync)
    )
    put(log, 1)
    put(log, 2)
    number = descriptor(log)
    victim = tmp_path / "victim"
    victim.write_bytes(b"x" * 100_000)
    theirs = victim.open("r+b")
    os.dup2(theirs.fileno(), number)
    if refused:
        real = os.write

        def full(fd: int, data: bytes) -> int:
            # The disk is full, also for the others.
            if fd == number and os.fstat(fd).st_size == 100_000:
                raise OSError(errno.ENOSPC, "no space left")
            return real(fd, data)

        monkeypatch.setattr(os, "write", full)
    else:
        clock.advance(1)
    put(log, 3)
    assert log.flush(5)
    log.close(1)
    assert os.fstat(number).st_size == 100_000  # it is open, and as long as it was
    os.close(number)
    theirs.close()
    assert numbers(empathy_home) == [1, 2, 3]


@pytest.mark.fault("S3")
def test_nothing_is_acknowledged_into_a_lost_file_while_the_folder_cannot_be_reached(
    empathy_home: Path,
) -> None:
    segments.make_home(empathy_home)
    clock = ManualClock()
    log = Log(empathy_home, service="t", instance=INSTANCE, clock=clock)
    put(log, 1)
    (segment,) = segments.listed(empathy_home, "traces")
    segment.path.unlink()
    folder = segments.folder(empathy_home, "traces")
    folder.rmdir()
    folder.write_text("a file where the folder was")
    clock.advance(1)
    put(log, 2)
    for _ in range(3):
        assert not log.flush(5)  # a second try comes right behind the first
    assert (log.counts["traces"].acked, log.waiting) == (1, 1)
    folder.unlink()
    assert log.flush(5)
    log.close(1)
    assert numbers(empathy_home) == [2]


# -- a disk that refuses --------------------------------------------------------------------------
def test_a_sync_that_fails_while_nothing_waits_keeps_no_thread_busy(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(_: int) -> None:
        # A broken disk, which no test has.
        raise OSError(errno.EIO, "the disk is broken")

    put(log, 1)
    monkeypatch.setattr(os, "fdatasync", refuses)
    log.writers["traces"].sync()
    assert log.trouble == "io_error"
    log.clock.advance(10)  # type: ignore[attr-defined]
    log._dirty = False
    assert log._pause() is None
    monkeypatch.undo()
    put(log, 2)
    assert log.flush(5)
    assert (numbers(log.home), log.trouble) == ([1, 2], None)


def test_trouble_of_one_signal_is_not_over_when_another_can_be_written(log: Log) -> None:
    put(log, 1)
    shutil.rmtree(segments.folder(log.home, "traces"))
    segments.folder(log.home, "traces").write_text("a file where the folder was")
    log.clock.advance(1)  # type: ignore[attr-defined]
    put(log, 2)
    log.append("logs", RESOURCE, SCOPE, b'{"timeUnixNano":"1"}', 1)
    assert not log.flush(5)
    assert (log.trouble, log.counts["logs"].acked, log.waiting) == ("io_error", 1, 1)
    segments.folder(log.home, "traces").unlink()
    assert log.flush(5)
    assert (log.trouble, numbers(log.home)) == (None, [2])


@pytest.mark.fault("S2")
def test_nobody_waits_for_room_that_a_refusing_disk_cannot_give(
    empathy_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empathy_home.mkdir()
    (empathy_home / "otlp").write_text("a file where a folder must be")
    log = Log(empathy_home, service="t", instance=INSTANCE, options=Options(buffer_bytes=1000))
    put(log, 1)
    waited: list[float | None] = []
    monkeypatch.setattr(log, "_freed", Listening(waited))
    for number in range(2, 101):
        put(log, number)
    log.close(0.1)
    assert waited == []


@pytest.mark.fault("P6")
def test_a_caller_is_asked_to_wait_for_a_millisecond_at_the_most_and_is_counted_then(
    empathy_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segments.make_home(empathy_home)
    log = Log(
        empathy_home, service="t", instance=INSTANCE, options=Options(buffer_bytes=1),
        clock=ManualClock(),
    )  # fmt: skip
    writer = log.writers["traces"]
    waited: list[float | None] = []
    # What the lock and the bell are told is judged, since what a wait takes is up to the machine.
    monkeypatch.setattr(writer, "io", Held(waited))
    monkeypatch.setattr(log, "_freed", Listening(waited))
    put(log, 1)
    assert len(waited) == 2  # once for the file, once for room
    assert None not in waited
    assert 0 < sum(waited) <= 0.001
    assert log.counts["traces"].dropped == {"queue_full": 1}
    monkeypatch.undo()
    log.close(1)


@pytest.mark.fault("P2")
def test_a_batch_grows_for_one_window_at_the_most(log: Log) -> None:
    waited: list[float | None] = []
    log._urgent = Listening(waited)
    for number in range(1, 10_001):
        put(log, number)
    assert log.flush(5)
    assert waited
    assert set(waited) == {0.05}


class Held:
    """A lock that somebody else holds for ever; notes how long it was waited for."""

    def __init__(self, heard: list[float | None]) -> None:
        self.heard = heard

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        if blocking:
            self.heard.append(timeout)
        return False

    def release(self) -> None:
        raise RuntimeError("it is somebody else's")


class Listening(Bell):
    """Notes who waits for it."""

    __slots__ = ("heard",)

    def __init__(self, heard: list[float | None]) -> None:
        super().__init__()
        self.heard = heard

    def wait(self, timeout: float | None) -> bool:
        self.heard.append(timeout)
        return super().wait(timeout)


def test_what_is_lost_is_told_once_a_minute_for_each_reason(
    empathy_home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    segments.make_home(empathy_home)
    clock = ManualClock()
    log = Log(empathy_home, service="t", instance=INSTANCE, clock=clock)

    def lose(count: int) -> None:
        for number in range(count):
            put(log, number, padding=600_000)
        for _ in range(3):  # the first look may have begun before
            looked = threading.Event()
            log.on_tick = looked.set
            log.tick()
            assert looked.wait(10)

    lose(1)
    lose(2)
    clock.advance(60)
    lose(1)
    log.close(2)
    assert [record.getMessage() for record in caplog.records] == [
        "1 record(s) were dropped: too_large",
        "3 record(s) were dropped: too_large",
    ]


# -- many at once ---------------------------------------------------------------------------------
def test_what_comes_while_a_batch_is_written_has_its_turn_behind_the_other_signals(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting(log, 3)
    real = os.write
    mine: list[int] = []

    def meanwhile(fd: int, data: bytes) -> int:
        ours = threading.current_thread() is threading.main_thread()
        if ours and data.startswith(b'{"resourceSpans"') and len(mine) < 100:
            mine.append(data.count(b"traceId"))
            put(log, 3 + len(mine))
        return real(fd, data)

    monkeypatch.setattr(os, "write", meanwhile)
    log.writers["traces"].drain()
    monkeypatch.undo()
    assert mine == [3]
    assert log.flush(5)
    assert numbers(log.home) == [1, 2, 3, 4]


def waiting(log: Log, count: int) -> None:
    """Let so many records wait, as they do while the disk refuses."""
    log.trouble, log._retry_at = "io_error", float("inf")
    for number in range(1, count + 1):
        put(log, number)


def test_a_flush_waits_for_what_was_there_and_not_for_what_comes_meanwhile(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting(log, 3)
    over = threading.Event()
    real = os.write
    came = 3

    def meanwhile(fd: int, data: bytes) -> int:
        nonlocal came
        if data.startswith(b'{"resourceSpans"') and not over.is_set():
            came += 1
            put(log, came)  # so that something always waits
        return real(fd, data)

    monkeypatch.setattr(os, "write", meanwhile)
    for _ in range(5):
        assert log.flush(5)
    over.set()
    assert log.flush(5)
    assert numbers(log.home) == list(range(1, came + 1))


def test_a_line_has_at_most_512_kib_with_a_large_resource_too(log: Log) -> None:
    large = b'"resource":{"attributes":[{"key":"a","value":{"stringValue":"%s"}}]}'
    waiting(log, 0)  # so that they are written as a batch
    for number in range(1, 10):
        log.append("traces", large % (b"y" * 300_000), SCOPE, body(number, 100_000), 1)
    log.recovered("traces")
    assert log.flush(5)
    for segment in segments.listed(log.home, "traces"):
        assert max(map(len, segment.path.read_bytes().splitlines(keepends=True))) <= 512 * 1024
    assert numbers(log.home) == list(range(1, 10))


def test_a_record_on_a_slow_disk_waits_for_no_window(log: Log) -> None:
    put(log, 1)
    for _ in range(50):
        log.took(0.004)
    waited: list[float | None] = []
    log._urgent = Listening(waited)
    for number in range(2, 12):
        put(log, number)
        assert log.flush(5)
    assert waited == []
    assert numbers(log.home) == list(range(1, 12))


def test_only_writes_that_hold_a_caller_say_how_slow_the_disk_is(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[float] = []
    monkeypatch.setattr(log, "took", told.append)
    put(log, 1)
    assert len(told) == 1
    waiting(log, 1)
    assert log.flush(5)
    assert len(told) == 1


def test_a_disk_that_holds_more_than_one_caller_in_a_hundred_is_a_slow_one(log: Log) -> None:
    def some(times: int, *, quick: int) -> str:
        for _ in range(times):
            log.took(0.0015)
            for _ in range(quick):
                log.took(0.00001)
        return log.durability

    assert some(50, quick=110) == "sync"
    assert some(50, quick=60) == "batched"


# -- syncs ----------------------------------------------------------------------------------------
def test_a_segment_that_is_over_is_synced_by_the_writers_thread(
    empathy_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segments.make_home(empathy_home)
    log = Log(empathy_home, service="t", instance=INSTANCE, options=Options(segment_bytes=5000))
    real = os.fdatasync
    synced: list[tuple[int, str]] = []

    def noted(fd: int) -> None:
        synced.append((os.fstat(fd).st_ino, threading.current_thread().name))
        real(fd)

    monkeypatch.setattr(os, "fdatasync", noted)
    for number in range(1, 17):
        put(log, number, padding=500)
    log.close(5)
    found = segments.listed(empathy_home, "traces")
    assert len(found) > 2
    assert {ino for ino, _ in synced} == {segment.path.stat().st_ino for segment in found}
    assert {who for _, who in synced} == {"otel-empathy-log"}


def test_a_folder_is_synced_after_a_segment_was_made_in_it(
    empathy_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segments.make_home(empathy_home)
    folder = segments.folder(empathy_home, "traces").stat().st_ino
    real = os.fsync
    synced: list[int] = []

    def noted(fd: int) -> None:
        synced.append(os.fstat(fd).st_ino)
        real(fd)

    monkeypatch.setattr(os, "fsync", noted)
    for fsync in (0.5, 0.0):
        log = Log(empathy_home, service="t", instance=INSTANCE, options=Options(fsync=fsync))
        for number in range(1, 4):
            put(log, number)
        log.close(5)
        assert synced == [folder]
        synced.clear()


def test_a_sync_that_fails_at_the_end_of_a_segment_leaves_no_open_file(
    empathy_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(_: int) -> None:
        # A broken disk, which no test has.
        raise OSError(errno.EIO, "the disk is broken")

    segments.make_home(empathy_home)
    monkeypatch.setattr(os, "fdatasync", refuses)
    log = Log(
        empathy_home, service="t", instance=INSTANCE, clock=ManualClock(),
        options=Options(segment_bytes=2000),
    )  # fmt: skip
    for number in range(1, 31):
        put(log, number, padding=500)
        log.flush(5)
    log.close(5)
    assert numbers(empathy_home) == list(range(1, 31))


# -- ends -----------------------------------------------------------------------------------------
@pytest.mark.fault("S2")
def test_a_write_that_hangs_at_the_end_is_counted_once_whatever_becomes_of_it(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, begun = threading.Event(), threading.Event()
    real = os.write

    def hangs(fd: int, data: bytes) -> int:
        if data.startswith(b'{"resourceSpans"'):
            begun.set()
            go_on.wait()
        return real(fd, data)

    waiting(log, 3)
    monkeypatch.setattr(os, "write", hangs)
    log.recovered("traces")
    log.queued()
    assert begun.wait(10)
    for number in range(4, 6):
        put(log, number)
    count = log.counts["traces"]
    log.close(0.1)
    assert (count.offered, count.acked, count.waiting) == (5, 0, 3)
    assert count.dropped == {"shutdown": 2}
    go_on.set()
    thread = log._thread
    assert thread is not None
    thread.join()
    assert (count.offered, count.acked, count.waiting) == (5, 3, 0)
    assert count.dropped == {"shutdown": 2}
    assert numbers(log.home) == [1, 2, 3]


def held() -> list[str]:
    """The files that this process holds open."""
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the one by which we look is gone already
            found.append(str(entry.readlink()))
    return found


@pytest.mark.fault("P3")
def test_a_child_lets_go_of_every_segment_of_its_parent(empathy_home: Path) -> None:
    segments.make_home(empathy_home)
    log = Log(
        empathy_home, service="t", instance=INSTANCE, clock=ManualClock(),
        options=Options(segment_bytes=2000),
    )  # fmt: skip
    for number in range(1, 31):
        put(log, number, padding=500)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            log.abandon()
            code = len([path for path in held() if "/otlp/" in path])
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    put(log, 31)
    last = segments.listed(empathy_home, "traces")[-1]
    assert segments.is_locked(last.path)
    log.close(2)
    assert numbers(empathy_home) == list(range(1, 32))


# -- where there are no locks ---------------------------------------------------------------------
def test_without_locks_the_writers_thread_renews_the_signs_of_life(
    empathy_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: object) -> None:
        # What some file systems answer that are shared over a network.
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", unknown)
    segments.make_home(empathy_home)
    clock = ManualClock()
    log = Log(empathy_home, service="t", instance=INSTANCE, clock=clock)
    record = Record(instance=INSTANCE)
    assert record.open(empathy_home)
    put(log, 1)
    (segment,) = segments.listed(empathy_home, "traces")
    for path in (segment.path, ledger_folder(empathy_home) / f"{INSTANCE[:8]}.json"):
        os.utime(path, (0, 0))
    clock.advance(11)
    ticked = threading.Event()
    log.on_tick = ticked.set
    log.tick()
    assert ticked.wait(10)
    for path in (segment.path, ledger_folder(empathy_home) / f"{INSTANCE[:8]}.json"):
        assert path.stat().st_mtime > 0
    assert log._pause() == 10
    record.close()
    log.close(2)
