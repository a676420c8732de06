from __future__ import annotations

import errno
import json
import os
import resource
import stat
import threading
from pathlib import Path

import pytest

from otel_empathy.pipeline import segments
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
    for segment in segments.listed(empathy_home, "traces"):
        assert segment.path.read_bytes().endswith(b"\n")
