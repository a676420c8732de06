"""The log under kills, full and broken disks, lost files, many writers, retention and orphans.

The numbers are scaled to a small machine; `make testbed` runs the full ones.
"""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from faults.proof import (
    Child,
    agrees,
    balance,
    children,
    lines,
    missing,
    names,
    own_mounts,
    unshipped,
    until,
)
from faulty import FaultyBackend, Spawned

from otel_empathy.core.clock import SYSTEM
from otel_empathy.core.settings import Settings
from otel_empathy.pipeline import ledger, segments
from otel_empathy.pipeline.backends import ship
from otel_empathy.pipeline.chunk import parse
from otel_empathy.pipeline.cursor import Claim, Cursor, all_cursors, cursor_folder, register
from otel_empathy.pipeline.log import Log, Options
from otel_empathy.pipeline.otlp import Otlp
from otel_empathy.pipeline.retention import retain
from otel_empathy.pipeline.shipping import Plan
from otel_empathy.store.reader import Reader
from otel_empathy.testing import ManualClock
from otel_empathy.wiring import plans

RESOURCE = b'"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"t"}}]}'
SCOPE = b'"scope":{"name":"s"}'


def readable(home: Path) -> tuple[int, Counter[str]]:
    """Whole lines that a reader gets from the log, and what it skipped."""
    reader = Reader(home)
    return sum(1 for _ in reader.scan("traces")), reader.skips.counts


@pytest.fixture
def mounts() -> tuple[str, ...]:
    """The words that start a program with mounts of its own."""
    found = own_mounts()
    if not found:
        reason = "neither `unshare -m` nor `unshare -rm` may mount anything here"
        (pytest.fail if os.environ.get("TOOLS_REQUIRED") == "1" else pytest.skip)(reason)
    return found


def plan(endpoint: str, *, name: str = "b", start: str = "now") -> tuple[Plan, ...]:
    return plans([Otlp(endpoint, name=name, start=start)], Settings.load({}), SYSTEM)


# -- S1 --------------------------------------------------------------------------------------------
@pytest.mark.fault("S1")
@pytest.mark.parametrize("segment_bytes", [10_000_000, 65_536], ids=["one segment", "rotating"])
def test_writers_that_are_killed_at_any_moment_lose_nothing_acknowledged(
    empathy_home: Path, segment_bytes: int
) -> None:
    # Spans of 200 B to 512 KB; a small segment ends with each of the long ones.
    with Child(
        "killed", home=empathy_home, kills=120, writers=4, segment_bytes=segment_bytes
    ) as child:
        done = child.hear("done")
        assert child.end() == 0
    found = names(empathy_home)
    lost = [name for who, count in done.items() for name in missing(found, who, count)]
    assert sum(done.values()) > 500
    assert lost == []
    assert max(found.values()) == 1
    sizes = [len(line) for line in lines(empathy_home)]
    assert min(sizes) < 2000  # most of it is the resource
    assert 500_000 <= max(sizes) <= 512 * 1024
    whole, skipped = readable(empathy_home)
    assert whole == len(sizes)
    assert set(skipped) <= {"torn"}
    assert skipped["torn"] <= len(done)
    assert balance(empathy_home).acked["traces"] == found.total()


# -- S2 --------------------------------------------------------------------------------------------
@pytest.mark.fault("S2")
def test_on_a_full_disk_records_wait_and_are_written_and_shipped_when_room_returns(
    tmp_path: Path, spawned: Spawned, mounts: tuple[str, ...]
) -> None:
    mount = tmp_path / "mount"
    with Child(
        "full_disk",
        before=mounts,
        home=mount / "home",
        mount=mount,
        endpoints={"b": spawned.endpoint},
        buffer_bytes=64 << 20,
    ) as child:
        assert child.hear("trouble") == "disk_full"
        full = child.heard[-1]
        assert full["waiting"] > 0
        assert full["whole"]
        assert full["held"] <= 0.001  # the median, which a busy machine does not move
        agrees(child.last("ledger"))
        assert child.hear("back")
        assert child.heard[-1]["flushed"]
        logged = child.hear("names")
        agrees(child.last("ledger"))
        assert child.end() == 0
    assert Counter(logged) == Counter(
        [f"a-{n}" for n in range(400)] + [f"b-{n}" for n in range(100)]
    )
    got = spawned.received()
    assert set(got["names"]["traces"]) == set(logged)
    assert got["duplicates"] == 0


@pytest.mark.fault("S2")
def test_what_neither_disk_nor_memory_can_hold_is_counted(
    tmp_path: Path, spawned: Spawned, mounts: tuple[str, ...]
) -> None:
    mount = tmp_path / "mount"
    with Child(
        "full_disk",
        before=mounts,
        home=mount / "home",
        mount=mount,
        endpoints={"b": spawned.endpoint},
        buffer_bytes=40_000,
    ) as child:
        child.hear("trouble")
        assert child.heard[-1]["held"] <= 0.001
        dropped = child.last("ledger")["dropped"]
        logged = child.hear("names")
        told = child.last("ledger")
        assert child.end() == 0
    assert 0 < dropped["disk_full"] < 300
    agrees(told)
    assert len(logged) == 500 - told["dropped"]["disk_full"]
    assert set(logged) >= {f"b-{n}" for n in range(100)}


@pytest.mark.fault("S2")
def test_the_limit_of_file_sizes_only_ends_a_segment(empathy_home: Path) -> None:
    with Child("limited", home=empathy_home) as child:
        assert child.hear("acked", 20) > 0
        assert child.end() == 0
    told = child.last("ledger")
    agrees(told)
    found = names(empathy_home)
    assert found.total() == child.last("acked") == 200 - sum(told["dropped"].values())
    assert told["dropped"] == {}
    assert readable(empathy_home)[1] == {}
    balance(empathy_home)


@pytest.mark.fault("S2")
@pytest.mark.parametrize("how", ["truncatable", "untruncatable"])
def test_short_and_failing_writes_leave_whole_lines_and_lose_nothing(
    empathy_home: Path, how: str
) -> None:
    with Child("broken_disk", home=empathy_home, how=how) as child:
        acked = child.hear("acked")
        assert child.end() == 0
    agrees(child.last("ledger"))
    found = names(empathy_home)
    assert found == Counter(f"a-{n}" for n in range(300))
    assert acked == 300
    _, skipped = readable(empathy_home)
    assert skipped.keys() <= ({"torn"} if how == "untruncatable" else set())
    balance(empathy_home)


@pytest.mark.fault("S2")
def test_a_slow_disk_holds_the_writers_thread_and_not_the_caller(empathy_home: Path) -> None:
    with Child("slow_disk", home=empathy_home, count=1000, seconds=0.03) as child:
        mine = child.hear("mine")
        assert child.end() == 0
    agrees(child.last("ledger"))
    assert child.last("acked") == 1000
    assert mine <= 10  # the caller waited for the disk in one span of a hundred at the most
    assert names(empathy_home) == Counter(f"a-{n}" for n in range(1000))
    balance(empathy_home)


# -- S3 --------------------------------------------------------------------------------------------
@pytest.mark.fault("S3")
def test_a_disk_that_becomes_read_only_is_waited_for(
    tmp_path: Path, mounts: tuple[str, ...]
) -> None:
    mount = tmp_path / "mount"
    with Child("read_only", before=mounts, home=mount / "home", mount=mount) as child:
        assert child.hear("trouble") == "io_error"
        assert child.heard[-1]["waiting"] == 50
        assert child.hear("back")
        logged = child.heard[-1]["names"]
        assert child.end() == 0
    agrees(child.last("ledger"))
    assert Counter(logged) == Counter(f"a-{n}" for n in range(150))


@pytest.mark.fault("S3")
@pytest.mark.parametrize("what", ["home", "segment", "blocked"])
def test_a_home_or_segment_that_vanishes_is_there_again_within_a_second(
    empathy_home: Path, what: str
) -> None:
    with Child("removed", home=empathy_home, what=what) as child:
        logged = set(child.hear("names"))
        last = child.heard[-1]["last"]
        assert child.end() == 0
    agrees(child.last("ledger"))
    assert f"a-{last - 1}" in logged
    assert logged >= {f"b-{n}" for n in range(50)}
    if what == "blocked":
        assert logged >= {f"a-{n}" for n in range(80, last)}


@pytest.mark.fault("S3")
def test_who_may_not_write_the_home_keeps_running_and_writes_when_allowed(
    tmp_path: Path,
) -> None:
    place = tmp_path / "closed"
    place.mkdir()
    place.chmod(0o500)
    gone = "-dac_override,-dac_read_search"  # what lets root write where nobody may
    before = ["setpriv", f"--bounding-set={gone}", f"--inh-caps={gone}"]
    with Child("nobody", before=before if os.geteuid() == 0 else (), home=place / "home") as child:
        told = child.hear("ledger")
        agrees(told)
        assert child.hear("waiting") == told["waiting"] >= 20
        assert child.heard[-1]["degraded"]
        assert not (place / "home").exists()
        place.chmod(0o700)
        child.tell()
        assert child.hear("back")
        assert child.end() == 0
    agrees(child.last("ledger"))
    assert names(place / "home") == Counter(
        [f"a-{n}" for n in range(20)] + [f"b-{n}" for n in range(20)]
    )


# -- S4 --------------------------------------------------------------------------------------------
def damaged(home: Path) -> Path:
    """A log of 30 spans whose lines 10 to 15 are rubbish and whose tail is torn."""
    segments.make_home(home)
    log = Log(home, service="t", instance="b" * 16, clock=ManualClock())
    record = ledger.Record(instance="b" * 16, backends=("b",))
    assert record.open(home)
    for number in range(30):
        name = b'{"traceId":"%032x","spanId":"%016x","name":"a-%d"}' % (
            number + 1,
            number + 1,
            number,
        )
        log.append("traces", RESOURCE, SCOPE, name, 1)
    log.close(1)
    record.close()
    (segment,) = segments.listed(home, "traces")
    good = segment.path.read_bytes().splitlines(keepends=True)
    good[10] = b"\0" * 500 + b"\n"
    good[11] = b"\xff\xfe\xfd not text\n"
    good[12] = good[12][:40] + b"\n"
    good[13] = b'{"resourceSpans":"none"}\n'
    good[14] = b"[" * 100_000 + b"\n"
    good[15] = b"\n"
    good[29] = good[29][:-20]
    segment.path.write_bytes(b"".join(good))
    return segment.path


@pytest.mark.fault("S4")
def test_valid_lines_before_and_behind_rubbish_are_read_and_shipped(
    empathy_home: Path, backend: FaultyBackend
) -> None:
    path = damaged(empathy_home)
    good = {f"a-{n}" for n in range(30)} - {f"a-{n}" for n in (*range(10, 16), 29)}
    reader = Reader(empathy_home)
    found = set()
    for line in reader.scan("traces"):
        for chunk in (*_parsed(line),):
            found |= {name for name in good if f'"{name}"'.encode() in chunk}
    assert found == good
    assert reader.skips.counts["torn"] == 1
    (done,) = ship(empathy_home, plan(backend.endpoint), timeout=10)
    assert set(backend.received()["names"]["traces"]) == good
    assert done.shipped == len(good)
    (fixed,) = segments.repair(empathy_home)
    assert fixed.copy.stat().st_size == fixed.offset + fixed.cut
    assert path.read_bytes().endswith(b"\n")
    assert readable(empathy_home)[1]["torn"] == 0


def _parsed(line: bytes) -> list[bytes]:
    try:
        return [chunk.body for chunk in parse(line)]
    except ValueError:
        return []


@pytest.mark.fault("S4")
def test_a_live_segment_is_never_repaired(empathy_home: Path) -> None:
    segments.make_home(empathy_home)
    log = Log(empathy_home, service="t", instance="c" * 16, clock=ManualClock())
    log.append("traces", RESOURCE, SCOPE, b'{"traceId":"1"}', 1)
    (segment,) = segments.listed(empathy_home, "traces")
    with segment.path.open("ab") as file:
        file.write(b"half a line")
    assert segments.repair(empathy_home) == []
    log.close(1)


@pytest.mark.fault("S4")
def test_a_gzipped_copy_that_breaks_off_gives_what_it_holds(
    empathy_home: Path, tmp_path: Path
) -> None:
    path = damaged(empathy_home)
    packed = gzip.compress(path.read_bytes()[: 10 * 200] * 50)
    (tmp_path / "copy.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    reader = Reader(tmp_path / "copy.jsonl.gz")
    assert sum(1 for _ in reader.scan("traces")) > 0
    assert reader.skips.counts.total() > 0


# -- S5, S6 ----------------------------------------------------------------------------------------
PLACES = ["disk", *(["tmpfs"] if Path("/dev/shm").is_dir() else [])]


@pytest.mark.fault("S5")
@pytest.mark.timeout(60)
@pytest.mark.parametrize("place", PLACES)
def test_many_processes_and_threads_write_into_one_home(
    empathy_home: Path, place: str, request: pytest.FixtureRequest
) -> None:
    home = empathy_home
    if place == "tmpfs":
        home = Path("/dev/shm") / f"otel-empathy-{os.getpid()}"
        request.addfinalizer(lambda: shutil.rmtree(home, ignore_errors=True))
    sizes = (200, 4000, 9000, 50_000, 300_000)
    with children(4, "writes", home=home, count=60, threads=4, sizes=sizes) as several:
        for child in several:
            assert child.end() == 0
            agrees(child.last("ledger"))
            assert child.last("ledger")["dropped"] == {}
    written(home)


def written(home: Path) -> None:
    """Four processes of four threads of sixty spans left everything, each in its own files."""
    expected = Counter(f"c{c}.{t}-{n}" for c in range(4) for t in range(4) for n in range(60))
    assert names(home) == expected
    assert readable(home)[1] == {}
    writers = Counter(segment.name.instance for segment in segments.listed(home, "traces"))
    assert len(writers) == 4
    assert balance(home).acked["traces"] == expected.total()


@pytest.mark.fault("S5")
@pytest.mark.timeout(60)
def test_many_processes_and_threads_write_into_one_home_on_an_overlay(tmp_path: Path) -> None:
    layers = {name: tmp_path / name for name in ("lower", "upper", "work", "merged")}
    for layer in layers.values():
        layer.mkdir()
    words = own_mounts()
    spot = "-t overlay -o lowerdir={lower},upperdir={upper},workdir={work} overlay {merged}"
    mount = ["mount", *spot.format(**layers).split()]
    tried = subprocess.run([*words, *mount], check=False, capture_output=True) if words else None
    if tried is None or tried.returncode:
        why = tried.stderr.decode().strip() if tried else "no mounts of one's own here"
        pytest.skip(f"no overlay may be mounted: {why}")
    sizes = (200, 4000, 9000, 50_000, 300_000)
    with Child(
        "overlaid", before=words, number=4, count=60, threads=4, sizes=sizes, **layers
    ) as child:
        assert child.hear("codes", 50) == [0] * 4
        assert child.end() == 0
    ledgers = [said["ledger"] for said in child.heard if "ledger" in said]
    assert len(ledgers) == 2 * 4
    for each in ledgers:
        agrees(each)
        assert each["dropped"] == {}
    written(layers["upper"] / "home")


@pytest.mark.fault("S6")
@pytest.mark.timeout(60)
def test_rotation_under_load_loses_nothing_for_readers_and_two_cursors(
    empathy_home: Path, spawned: Spawned
) -> None:
    ends = {"one": spawned.endpoint + "/one", "two": spawned.endpoint + "/two"}
    stop = threading.Event()
    followed: list[list[bytes]] = [[], []]

    def follow(mine: list[bytes]) -> None:
        follower = Reader(empathy_home).follow("traces")
        over = False
        while not over:
            over = stop.wait(0.05)
            mine += follower.look()

    readers = [threading.Thread(target=follow, args=(mine,)) for mine in followed]
    for reader in readers:
        reader.start()
    with children(
        3, "writes", home=empathy_home, endpoints=ends, count=150, threads=3,
        sizes=(200, 4000, 9000), segment_bytes=50_000,
    ) as several:  # fmt: skip
        for child in several:
            assert child.end() == 0
            agrees(child.last("ledger"))
    stop.set()
    for reader in readers:
        reader.join()
    expected = Counter(f"c{c}.{t}-{n}" for c in range(3) for t in range(3) for n in range(150))
    assert names(empathy_home) == expected
    assert len(segments.listed(empathy_home, "traces")) > 30
    for left in ("one", "two"):
        ship(empathy_home, plan(ends[left], name=left), timeout=10)
    # Both backends are one place, so each span arrives twice and no more.
    assert spawned.received()["names"]["traces"] == dict.fromkeys(expected, 2)
    on_disk = Counter(line.rstrip(b"\n") for line in lines(empathy_home))
    for mine in followed:
        assert Counter(line.rstrip(b"\n") for line in mine) == on_disk
    found = balance(empathy_home)
    assert [row.pending for row in found.backends.values()] == [0, 0]


@pytest.mark.fault("S6")
@pytest.mark.parametrize("what", ["renamed", "truncated"])
def test_a_segment_that_somebody_else_rotates_is_left_for_a_new_one(
    empathy_home: Path, what: str
) -> None:
    with Child("removed", home=empathy_home, what=what) as child:
        logged = set(child.hear("names"))
        last = child.heard[-1]["last"]
        assert child.end() == 0
    agrees(child.last("ledger"))
    assert logged >= {f"a-{last - 1}", *(f"b-{n}" for n in range(50))}
    assert len(segments.listed(empathy_home, "traces")) == (1 if what == "renamed" else 2)


# -- S7 --------------------------------------------------------------------------------------------
def filled(home: Path, count: int, *, clock: ManualClock, instance: str = "d" * 16) -> None:
    """A log of a process that is gone, of `count` segments of ten spans each."""
    segments.make_home(home)
    log = Log(home, service="t", instance=instance, options=Options(segment_bytes=1), clock=clock)
    record = ledger.Record(instance=instance, backends=("b",))
    assert record.open(home)
    body = b",".join(b'{"traceId":"%032x","spanId":"%016x"}' % (n, n) for n in range(10))
    for _ in range(count):
        log.append("traces", RESOURCE, SCOPE, body, 10)
        clock.advance(1)
    log.close(1)
    record.close()


@pytest.mark.fault("S7")
def test_retention_keeps_its_caps_while_three_runs_race_and_readers_read(
    empathy_home: Path,
) -> None:
    clock = ManualClock()
    filled(empathy_home, 1000, clock=clock)
    register(empathy_home, "b", clock.time_ns())
    late = Cursor("b", "dddddddd")
    late.positions["traces"].seq = 600
    late.shipped = 5990  # the first ten spans of segment 600 are not shipped
    late.save(empathy_home)
    total = sum(segment.size for segment in segments.listed(empathy_home, "traces"))
    size = total // 1000
    stop = threading.Event()
    read: list[int] = []

    def reading() -> None:
        while not stop.is_set():
            read.append(readable(empathy_home)[0])

    reader = threading.Thread(target=reading)
    reader.start()
    runs = [
        threading.Thread(
            target=retain,
            args=(empathy_home,),
            kwargs={"days": 90, "max_bytes": 500 * size, "clock": clock},
        )
        for _ in range(3)
    ]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    retain(empathy_home, days=90, max_bytes=500 * size, clock=clock)
    left = segments.listed(empathy_home, "traces")
    assert sum(segment.size for segment in left) <= 500 * size
    assert left[0].name.seq <= 601
    assert balance(empathy_home).backends["b"].pending == 4010
    retain(empathy_home, days=90, max_bytes=300 * size, clock=clock)
    stop.set()
    reader.join()
    left = segments.listed(empathy_home, "traces")
    assert sum(segment.size for segment in left) <= 300 * size
    assert left[-1].name.seq == 1000
    assert recomputed(empathy_home).acked["traces"] == 10_000
    retain(empathy_home, days=0.00001, max_bytes=1 << 40, clock=clock)
    assert len(segments.listed(empathy_home, "traces")) <= 2
    assert recomputed(empathy_home).acked["traces"] == 10_000


def recomputed(home: Path) -> ledger.Balance:
    return ledger.recompute(home, all_cursors(home))


@pytest.mark.fault("S7")
def test_what_retention_takes_from_a_backend_is_counted_exactly(
    empathy_home: Path, backend: FaultyBackend
) -> None:
    clock = ManualClock()
    filled(empathy_home, 100, clock=clock)
    register(empathy_home, "b", clock.time_ns())
    Cursor("b", "dddddddd").save(empathy_home)
    size = segments.listed(empathy_home, "traces")[0].size
    retain(empathy_home, days=90, max_bytes=40 * size + size // 2, clock=clock)
    assert len(segments.listed(empathy_home, "traces")) == 40
    (done,) = ship(empathy_home, plan(backend.endpoint), timeout=10)
    assert (done.shipped, done.dropped) == (400, {"backlog_cap": 600})
    row = balance(empathy_home).backends["b"]
    assert (row.acked, row.shipped, row.pending, row.dropped) == (
        1000,
        400,
        0,
        {"backlog_cap": 600},
    )


@pytest.mark.fault("S7")
def test_a_torn_tail_does_not_hold_a_shipped_segment_for_ever(
    empathy_home: Path, backend: FaultyBackend
) -> None:
    clock = ManualClock()
    filled(empathy_home, 3, clock=clock)
    (*_, last) = segments.listed(empathy_home, "traces")
    with last.path.open("ab") as file:
        file.write(b'{"resourceSpans"')
    ship(empathy_home, plan(backend.endpoint, start="oldest"), timeout=10)
    assert len(backend.received(detail=True)["span_ids"]) == 10
    retain(empathy_home, days=90, max_bytes=4096, clock=clock)
    assert balance(empathy_home).backends["b"].dropped == {}


# -- S10 -------------------------------------------------------------------------------------------
@pytest.mark.fault("S10")
@pytest.mark.skipif(os.geteuid() != 0, reason="giving a folder away takes root")
def test_a_home_of_somebody_else_is_refused_unless_told(empathy_home: Path) -> None:
    segments.make_home(empathy_home)
    os.chown(empathy_home, 65534, 65534)
    with pytest.raises(ValueError, match="it belongs to user 65534"):
        segments.make_home(empathy_home)
    segments.make_home(empathy_home, unsafe=True)


@pytest.mark.fault("S10")
def test_planted_links_at_cursor_and_ledger_are_not_followed(
    empathy_home: Path, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine", encoding="ascii")
    segments.make_home(empathy_home)
    (empathy_home / "ledger").mkdir()
    (empathy_home / "ledger" / "aaaaaaaa.json").symlink_to(victim)
    assert not ledger.Record(instance="a" * 16).open(empathy_home)
    folder = cursor_folder(empathy_home, "b")
    folder.mkdir(parents=True)
    (folder / f"aaaaaaaa.{os.getpid()}-{threading.get_ident()}.tmp").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic"):
        Cursor("b", "aaaaaaaa").save(empathy_home)
    assert victim.read_text(encoding="ascii") == "mine"


# -- S11, S12 --------------------------------------------------------------------------------------
@pytest.mark.fault("S11")
@pytest.mark.timeout(60)
def test_a_shipper_that_is_killed_at_any_moment_repeats_at_most_one_batch_a_kill(
    empathy_home: Path, spawned: Spawned
) -> None:
    kills = 30
    with Child(
        "killed", home=empathy_home, kills=kills, writers=2, sizes=(200,),
        endpoints={"b": spawned.endpoint}, ship_delay=1, batch_records=20, least=0.02, most=0.2,
    ) as child:  # fmt: skip
        done = child.hear("done", 50)
        assert child.end() == 0
    ship(empathy_home, plan(spawned.endpoint), timeout=20)
    got = spawned.received(detail=True)
    there = names(empathy_home)
    assert [n for who, count in done.items() for n in missing(there, who, count)] == []
    assert set(got["names"]["traces"]) == set(there)
    batch = max(request["records"] for request in got["log"])
    assert got["duplicates"] <= kills * batch
    assert balance(empathy_home).backends["b"].pending == 0


@pytest.mark.fault("S11")
def test_two_shippers_at_once_cost_no_duplicate_because_one_has_the_claim(
    empathy_home: Path, backend: FaultyBackend
) -> None:
    filled(empathy_home, 50, clock=ManualClock())
    several = [
        threading.Thread(
            target=ship,
            args=(empathy_home, plan(backend.endpoint)),
            kwargs={"timeout": 10, "records": 10},
        )
        for _ in range(4)
    ]
    for one in several:
        one.start()
    for one in several:
        one.join()
    ship(empathy_home, plan(backend.endpoint), timeout=10)
    assert backend.received()["spans"] == 10
    assert sum(backend.received(detail=True)["span_ids"].values()) == 500
    assert balance(empathy_home).backends["b"].pending == 0


@pytest.mark.fault("S12")
@pytest.mark.timeout(60)
def test_what_dead_processes_left_is_shipped_once_by_the_survivors(
    empathy_home: Path, spawned: Spawned
) -> None:
    spawned.set("status:503")
    ends = {"b": spawned.endpoint}
    with Child(
        "killed", home=empathy_home, kills=8, writers=4, sizes=(200,), endpoints=ends,
    ) as child:  # fmt: skip
        done = child.hear("done")
        child.end()
    assert spawned.received()["spans"] == 0
    spawned.set("ok")
    with children(3, "ends", home=empathy_home, how="hear", count=5, endpoints=ends) as survivors:
        least = 15 + sum(done.values())
        until(lambda: names(empathy_home).total() >= least)
        assert spawned.wait(timeout=30, spans=names(empathy_home).total())
        for one in survivors:
            one.tell()
            assert one.end() == 0
            agrees(one.last("ledger"))
    got = spawned.received()
    assert set(got["names"]["traces"]) == set(names(empathy_home))
    assert got["duplicates"] == 0
    assert balance(empathy_home).backends["b"].pending == 0


@pytest.mark.fault("S12")
@pytest.mark.timeout(60)
def test_an_adopter_that_is_killed_half_way_is_followed_by_another(
    empathy_home: Path, spawned: Spawned
) -> None:
    spawned.set("slow:0.05")
    filled(empathy_home, 100, clock=ManualClock(time.time_ns()))
    ends = {"b": spawned.endpoint}
    told = {"home": empathy_home, "how": "hear", "count": 1, "endpoints": ends, "batch_records": 10}
    with Child("ends", who="first", **told) as first:
        assert spawned.wait(requests=20, timeout=15)
        first.process.kill()
        first.end()
    half = sum(spawned.received(detail=True)["span_ids"].values())
    assert half < 1000
    spawned.set("ok")
    with Child("ends", who="second", **told) as second:
        second.hear("acked")
        until(lambda: unshipped(empathy_home, "b") == 0, 20)
        second.tell()
        assert second.end() == 0
    sent = sum(spawned.received(detail=True)["span_ids"].values())
    assert 1002 <= sent <= 1002 + 20
    assert balance(empathy_home).backends["b"].pending == 0


@pytest.mark.fault("S12")
def test_hundreds_of_orphans_are_shipped_a_few_at_a_time(
    empathy_home: Path, backend: FaultyBackend
) -> None:
    for number in range(300):
        filled(empathy_home, 1, clock=ManualClock(), instance=f"{number:08x}")
    held: list[int] = []

    class Watching(Claim):
        @classmethod
        def take(cls, home: Path, name: str, instance: str) -> Claim | None:
            claim = super().take(home, name, instance)
            held.append(len(list(Path("/proc/self/fd").iterdir())))
            return claim

    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("otel_empathy.pipeline.lanes.Claim", Watching)
        (done,) = ship(empathy_home, plan(backend.endpoint), timeout=15)
    assert done.shipped == 3000
    assert max(held) <= before + 15
    assert balance(empathy_home).backends["b"].pending == 0


@pytest.mark.fault("S7")
def test_a_backend_that_takes_only_spans_neither_owes_nor_holds_other_signals(
    empathy_home: Path, backend: FaultyBackend
) -> None:
    segments.make_home(empathy_home)
    clock = ManualClock()
    log = Log(empathy_home, service="t", instance="d" * 16, clock=clock)
    record = ledger.Record(instance="d" * 16, backends=("b",))
    assert record.open(empathy_home)
    log.append("traces", RESOURCE, SCOPE, b'{"traceId":"%032x","spanId":"%016x"}' % (1, 1), 1)
    log.append("logs", RESOURCE, SCOPE, b'{"timeUnixNano":"1","body":{"stringValue":"x"}}', 1)
    log.close(1)
    record.close()
    made = plans([Otlp(backend.endpoint, name="b", signals=("traces",))], Settings.load({}), SYSTEM)
    ship(empathy_home, made, timeout=10)
    row = balance(empathy_home).backends["b"]
    assert (row.acked, row.shipped, row.pending) == (1, 1, 0)
    assert retain(empathy_home, days=90, max_bytes=1, clock=clock).unshipped == {}
    assert segments.listed(empathy_home, "logs") == []
    assert recomputed(empathy_home).backends["b"].pending == 0


@pytest.mark.fault("S7")
def test_a_backlog_smaller_than_a_segment_never_gives_up_the_one_that_is_being_written(
    empathy_home: Path, spawned: Spawned
) -> None:
    spawned.set("status:503")
    ends = {"b": spawned.endpoint}
    with Child(
        "ends", home=empathy_home, who="a", how="hear", count=200, endpoints=ends,
        backlog_max_bytes=4096,
    ) as child:  # fmt: skip
        child.hear("acked")
        assert spawned.wait(requests=2, timeout=15)
        spawned.set("ok")
        assert spawned.wait(spans=200, timeout=15)
        child.tell()
        assert child.end() == 0
    agrees(child.last("ledger"))
    assert balance(empathy_home).backends["b"].dropped == {}
