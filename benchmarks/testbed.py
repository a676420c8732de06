"""What arrives under faults: the stock SDK and otel-empathy side by side, on this machine.

    python benchmarks/testbed.py [--quick] [--long] [--only WORD ...] [--json FILE]

Each row of the first table is a program of its own that ends so many spans, once with the stock SDK
and once with otel-empathy, against a backend in another process. The faults that everybody meets
come first, then the same ones in fuller forms. The second table holds what only a log can be asked:
kills, forks, writers and segments by the thousand. Whatever of ours is below 100 %, or beyond a
limit of its row, makes the exit status 1. What cannot be run on this machine says why.

`--quick` scales the numbers down, `--long` adds what takes long: the outage of ten minutes and the
hour with a dead backend. `--only` picks rows.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import importlib.util
import json
import logging
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

BATCH_PAUSE = 0.0005  # between two spans where the pace is to be that of write-through
PATIENCE = 90.0  # seconds for whatever must come to an end
LEGEND = """
arrived  what the backend has in the end; for us also what the next program of the same home sent,
         since what one program could not ship stays in the log
log      what stands in our log when the program is gone
exit     how long the program took to end after its last statement
twice    spans that the backend was sent again
"""


@dataclass(frozen=True)
class Row:
    """One fault: what the program does, what the backend does meanwhile, how it ends.

    Args:
        name: What is read in the table.
        spans: How many.
        how: How the program ends, or which processes it starts.
        modes: What the backend does from the first request on.
        later: Seconds after the start at which it is well again.
        rate: Spans a second; 0 is as fast as it goes, -1 at write-through pace.
        endpoint: Where the program sends instead of to the backend.
        exit_limit: Seconds that the exit may take; None where no exit is asked for.
        drained: Whether the program itself must have made up for everything before it ends.
        long: Whether it is left out unless asked for.
    """

    name: str
    spans: int
    how: str = "return"
    modes: tuple[str, ...] = ("ok",)
    later: float | None = None
    rate: float = 0.0
    endpoint: str | None = None
    exit_limit: float | None = 2.0
    drained: bool = False
    long: bool = False


def rows(scale: float) -> list[Row]:
    """The table, with its numbers multiplied by a scale."""

    def few(count: int) -> int:
        return max(40, int(count * scale))

    def some(count: float) -> str:
        return f"{count * scale:g}"

    def outage(down: int, unit: int, word: str, *, long: bool = False) -> Row:
        # A minute after it all is made up for.
        spans = few(100 * (down * unit + 60))
        modes = (f"down:{down * unit * scale}",)
        name = f"outage ({some(down)} {word} at 100/s)"
        return Row(name, spans, rate=100, modes=modes, drained=True, long=long)

    return [
        Row("normal exit", few(1500)),
        Row("SIGTERM (no handler)", few(1500), how="SIGTERM", rate=-1, exit_limit=None),
        Row("SIGKILL", few(1500), how="SIGKILL", rate=-1, exit_limit=None),
        Row("fork (4, ended by os._exit)", few(1600), how="fork", rate=-1),
        Row("burst (all at once)", few(100_000), exit_limit=None),
        Row("backend 500", few(1500), modes=("status:500",)),
        outage(30, 1, "s"),
        Row("hang (no answer)", few(1500), modes=("hang",), exit_limit=5),
        Row("refused (nobody there)", few(1500), endpoint="refused"),
        # The fuller ones.
        Row("uncaught exception", few(1500), how="raise"),
        Row("os._exit", few(1500), how="os._exit", rate=-1, exit_limit=None),
        Row("SIGINT right behind them", few(10_000), how="SIGINT"),
        Row("multiprocessing (4)", few(1600), how="multiprocessing"),
        Row("tight loop", few(20_480)),
        Row("burst, 50 ms a request", few(100_000), modes=("slow:0.05",), exit_limit=None),
        Row("steady 1,000/s", few(10_000), rate=1000),
        Row("steady 5,000/s", few(25_000), rate=5000),
        Row(f"1,000/s, {some(20)} s down", few(30_000), rate=1000, modes=(f"down:{20 * scale}",)),
        Row(
            f"100/s, {some(30)} s of 503",
            few(4000),
            rate=100,
            modes=("status:503",),
            later=30 * scale,
        ),
        Row("1,000/s, 2 s a request", few(10_000), rate=1000, modes=("slow:2",), exit_limit=5),
        Row("backend 401", few(1500), modes=("status:401",)),
        Row("backend resets", few(1500), modes=("close",)),
        Row("name unknown", few(1500), endpoint="http://nowhere.invalid:4318"),
        outage(10, 60, "min", long=True),
    ]


@dataclass
class Result:
    """What one side of a row came to."""

    spans: int
    log: int | None = None
    backend: int = 0
    repeats: int = 0
    exit: float | None = None
    notes: list[str] = field(default_factory=list)


# -- the programs ---------------------------------------------------------------------------------
def child(told: dict[str, Any]) -> None:
    """The program under test, on one side; ends as it is told."""
    # A shell that starts us in the background has it ignored, which the program would inherit.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    tracer = _stock(told) if told["side"] == "stock" else _ours(told)
    how, count, rate = told["how"], told["spans"], told["rate"]
    if how in {"fork", "multiprocessing"}:
        _processes(tracer, how, count, rate)
    else:
        _emit(tracer, "a", count, rate)
    print(json.dumps({"leaving": time.monotonic()}), flush=True)
    if how == "os._exit":
        os._exit(0)
    if how == "raise":
        raise RuntimeError("nobody catches this")
    if how.startswith("SIG"):
        signal.pause()


def _emit(tracer: Any, who: str, count: int, rate: float) -> None:
    began = time.monotonic()
    for number in range(count):
        tracer.start_span(f"{who}-{number}", attributes={"n": number, "text": "x" * 100}).end()
        if rate < 0:
            time.sleep(BATCH_PAUSE)
        elif rate and (ahead := began + number / rate - time.monotonic()) > 0:
            time.sleep(ahead)


def _processes(tracer: Any, how: str, count: int, rate: float) -> None:
    share = count // 4
    if how == "multiprocessing":
        import multiprocessing

        context = multiprocessing.get_context("fork")
        several = [
            context.Process(target=_emit, args=(tracer, f"p{n}", share, rate)) for n in range(4)
        ]
        for one in several:
            one.start()
        for one in several:
            one.join()
        return
    pids = []
    for n in range(4):
        pid = os.fork()
        if not pid:
            try:
                _emit(tracer, f"p{n}", share, rate)
            finally:
                os._exit(0)
        pids.append(pid)
    for pid in pids:
        os.waitpid(pid, 0)


def _stock(told: dict[str, Any]) -> Any:
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider()
    exporter = OTLPSpanExporter(endpoint=f"{told['endpoint']}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return trace.get_tracer("testbed")


def _ours(told: dict[str, Any]) -> Any:
    from opentelemetry import trace

    from otel_empathy import wiring
    from otel_empathy.pipeline.otlp import Otlp

    wiring.configure(
        service="testbed", home=told["home"], backends=[Otlp(told["endpoint"], name="backend")]
    )
    return trace.get_tracer("testbed")


# -- running a row --------------------------------------------------------------------------------
@contextlib.contextmanager
def home_of(name: str) -> Iterator[Path]:
    """A home for one run."""
    folder = Path(tempfile.mkdtemp(prefix="otel-empathy-testbed-"))
    try:
        yield folder / name
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def expected(row: Row) -> set[str]:
    if row.how in {"fork", "multiprocessing"}:
        return {f"p{n}-{one}" for n in range(4) for one in range(row.spans // 4)}
    return {f"a-{n}" for n in range(row.spans)}


def run(row: Row, side: str) -> Result:
    """One side of one row."""
    from faulty import spawn

    with spawn() as backend, home_of("home") as home:
        backend.set(*row.modes)
        well: threading.Timer | None = None
        if row.later is not None:
            well = threading.Timer(row.later, backend.set, args=("ok",))
            well.start()
        endpoint = row.endpoint or backend.endpoint
        if endpoint == "refused":
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                endpoint = f"http://127.0.0.1:{free.getsockname()[1]}"
        told = {
            "side": side, "home": str(home), "endpoint": endpoint, "how": row.how,
            "spans": row.spans, "rate": row.rate,
        }  # fmt: skip
        result = Result(len(expected(row)))
        took = _started(told, row)
        if row.exit_limit is not None:
            result.exit = took
        if well is not None:
            well.cancel()
        if side == "ours":
            if row.drained and backend.received()["spans"] < row.spans:
                result.notes.append("not made up for within a minute")
            _prove(row, result, home, backend)
        got = backend.received()
        result.backend = len(expected(row) & set(got["names"]["traces"]))
        result.repeats = got["duplicates"]
    return result


def _started(told: dict[str, Any], row: Row) -> float:
    """Run the program to its end; the seconds between its last statement and that end."""
    budget = PATIENCE + (row.spans / row.rate if row.rate > 0 else 0) + row.spans / 1000
    environ = {k: v for k, v in os.environ.items() if not k.startswith("OTEL_")}
    process = subprocess.Popen(
        [sys.executable, __file__, "--child", json.dumps(told)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environ,
        start_new_session=True,
    )
    watchdog = threading.Timer(budget, os.killpg, args=(process.pid, signal.SIGKILL))
    watchdog.start()
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if line and row.how.startswith("SIG"):
            process.send_signal(getattr(signal, row.how))
        process.wait()
        process.stdout.close()
    finally:
        watchdog.cancel()
    return time.monotonic() - json.loads(line)["leaving"] if line else float("inf")


def _prove(row: Row, result: Result, home: Path, backend: Any) -> None:
    """Count what the log holds, check the ledger, and let the next process ship what is left."""
    from faults.proof import balance, names

    found = names(home)
    result.log = len(expected(row) & set(found))
    if max(found.values(), default=0) > 1:
        result.notes.append("twice in the log")
    backend.set("ok")
    _ship(home, backend.endpoint)
    left = balance(home)
    if any(one.pending for one in left.backends.values()) or left.dropped:
        result.notes.append(f"ledger: {json.dumps(left.as_dict())}")


def _ship(home: Path, endpoint: str, *, name: str = "backend", **shape: Any) -> None:
    from otel_empathy.core.clock import SYSTEM
    from otel_empathy.core.settings import Settings
    from otel_empathy.pipeline.backends import ship
    from otel_empathy.pipeline.otlp import Otlp
    from otel_empathy.wiring import plans

    made = plans([Otlp(endpoint, name=name, **shape)], Settings.load({}), SYSTEM)
    ship(home, made, timeout=PATIENCE)


# -- what only a log can be asked -----------------------------------------------------------------
class NotRun(Exception):
    """What a row needs is not on this machine."""


@dataclass(frozen=True)
class Proof:
    """A row of the fault table with its full numbers, ours alone."""

    name: str
    run: Callable[[Path], tuple[int, int, str]]
    long: bool = False


def proofs(scale: float) -> list[Proof]:
    """Kills, forks, writers and disks; each gives what was acked, what is there, a remark."""

    def few(count: int) -> int:
        return max(8, int(count * scale))

    backlog = int(512 * scale) << 20
    return [
        Proof(f"S1 {few(1000):,} kills of 8 writers", lambda home: kills(home, few(1000))),
        Proof(f"S5 8 processes x 8 threads x {few(2000):,}", lambda home: writers(home, few(2000))),
        Proof(f"S6 {few(2000):,} each, 3 readers, 2 cursors", lambda home: turns(home, few(2000))),
        Proof(f"P3 {few(500)} forks under 8 threads", lambda home: forks(home, few(500))),
        Proof(f"P4 gunicorn, 4 workers x {few(1000):,}", lambda home: web(home, few(1000))),
        Proof(f"P4 fork, spawn, forkserver x {few(8000):,}", lambda home: pools(home, few(8000))),
        Proof(f"P1 a handler raises {few(10_000):,} x", lambda home: interrupts(home, few(10_000))),
        Proof("S2 full disk, room returns", full_disk),
        Proof(f"S12 {few(20)} dead, 3 survivors", lambda home: orphans(home, few(20))),
        Proof(f"S7 {few(10_000):,} segments, 3 runs", lambda home: retention(home, few(10_000))),
        Proof(f"N9 crash with {backlog >> 20} MiB, poison", lambda home: crash(home, backlog)),
        Proof(f"N10 come and go, {few(5000):,} each", lambda home: comers(home, few(5000))),
        Proof(f"P7 {60 * scale:.0f} min, dead backend", lambda home: hour(home, scale), long=True),
    ]


def kills(home: Path, count: int) -> tuple[int, int, str]:
    from faults.proof import Child, balance, missing, names

    from otel_empathy.store.reader import Reader

    with Child("killed", home=home, kills=count, writers=8, log_max_bytes="64GiB") as one:
        done = one.hear("done", count + PATIENCE)
        one.end()
    reader = Reader(home)
    longest = max(map(len, reader.scan("traces")))
    bad = reader.skips.counts.total()
    assert bad <= len(done), f"{bad} bad lines after {len(done)} kills"
    found = names(home)
    balance(home)
    acked = sum(done.values())
    lost = sum(len(missing(found, who, number)) for who, number in done.items())
    note = f"{found.total():,} in the log, lines up to {longest >> 10} KiB, {bad} torn"
    return acked, acked - lost, note


def writers(home: Path, count: int) -> tuple[int, int, str]:
    from faults.proof import balance, children, names

    # Few of the long ones: the whole is to be of gigabytes, not of tens of them.
    sizes = (*(200,) * 20, *(4000,) * 12, *(9000,) * 6, 50_000, 300_000)
    told = {"home": home, "threads": 8, "count": count, "sizes": sizes, "log_max_bytes": "64GiB"}
    with children(8, "writes", **told) as several:
        acked = 0
        for one in several:
            one.end(20 * PATIENCE)
            acked += one.last("ledger")["acked"]
    found = names(home)
    kept = balance(home)
    written, full = kept.acked.total(), kept.dropped.total()
    wanted = {f"c{c}.{t}-{n}" for c in range(8) for t in range(8) for n in range(count)}
    there = len(wanted & set(found))
    # Gigabytes at once outrun the disk: what did not fit into memory was refused and counted.
    note = f"acknowledged {acked:,}, on disk {written:,}, refused and counted {full:,}"
    return 64 * count - full, there, note


def turns(home: Path, count: int) -> tuple[int, int, str]:
    """Segments of 200 KB under 8 x 8 writers, three readers behind them, two backends."""
    from faults.proof import agrees, balance, children, lines, names
    from faulty import spawn

    from otel_empathy.pipeline import segments
    from otel_empathy.store.reader import Reader

    stop = threading.Event()
    followed = [Counter[int]() for _ in range(3)]

    def follow(mine: Counter[int]) -> None:
        follower = Reader(home).follow("traces")
        over = False
        while not over:
            over = stop.wait(0.2)
            mine.update(hash(line.rstrip(b"\n")) for line in follower.look())

    several = [threading.Thread(target=follow, args=(mine,)) for mine in followed]
    told: dict[str, Any] = {
        "home": home, "threads": 8, "count": count, "segment_bytes": 200_000,
        "sizes": (*(200,) * 20, *(4000,) * 6, *(9000,) * 3),
        "log_max_bytes": "64GiB", "backlog_max_bytes": "64GiB",
    }  # fmt: skip
    with spawn() as one, spawn() as two:
        ends = {"one": one.endpoint, "two": two.endpoint}
        for each in several:
            each.start()
        try:
            with children(8, "writes", endpoints=ends, **told) as writing:
                for child in writing:
                    child.end(20 * PATIENCE)
                    agrees(child.last("ledger"))
        finally:
            stop.set()
            for each in several:
                each.join()
        for name, end in ends.items():
            _ship(home, end, name=name)
        got = [one.received(), two.received()]
    wanted = {f"c{c}.{t}-{n}" for c in range(8) for t in range(8) for n in range(count)}
    there = wanted & set(names(home))
    for each in got:
        there &= set(each["names"]["traces"])
    again = [each["duplicates"] for each in got]
    written = Counter(hash(line.rstrip(b"\n")) for line in lines(home))
    wrong = sum(mine != written for mine in followed)
    note = (
        f"{len(segments.listed(home, 'traces')):,} segments, "
        f"twice at the backends {again[0]} and {again[1]}, {wrong} readers missed or doubled"
    )
    assert again == [0, 0], note
    assert not wrong, note
    found = balance(home)
    assert not any(row.pending for row in found.backends.values()), found.as_dict()
    return len(wanted), len(there), note


def web(home: Path, count: int) -> tuple[int, int, str]:
    """A preloaded application under gunicorn; four clients ask as often as four workers may."""
    from faults.proof import Child, balance, names, port_of

    if importlib.util.find_spec("gunicorn") is None:
        raise NotRun("gunicorn is not installed")
    served: list[Counter[str]] = [Counter() for _ in range(4)]

    def ask(which: int, port: int) -> None:
        for number in range(count):
            line = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            line.request("GET", f"/?r{which}-{number}")
            served[which][line.getresponse().read().decode()] += 1
            line.close()

    with Child("served", home=home, workers=4, preload=True) as one:
        port = port_of(one)
        asking = [threading.Thread(target=ask, args=(n, port)) for n in range(4)]
        for each in asking:
            each.start()
        for each in asking:
            each.join()
        one.signal(signal.SIGTERM)
        one.end()
    found = names(home)
    balance(home)
    wanted = Counter(f"r{which}-{number}" for which in range(4) for number in range(count))
    workers = len({pid for each in served for pid in each})
    note = f"{workers} workers answered, {found.total() - len(found)} twice"
    assert found.total() == len(found), note
    return wanted.total(), (wanted & found).total(), note


def pools(home: Path, each: int) -> tuple[int, int, str]:
    """Processes of each method, and a pool that ends each of its workers after one task."""
    from faults.proof import Child, agrees, balance, names

    wanted, found = Counter[str](), Counter[str]()
    for method in ("fork", "spawn", "forkserver"):
        mine = home / method
        with Child("processes", home=mine, method=method, count=3, each=each) as one:
            one.hear("codes", PATIENCE)
            one.end()
        agrees(one.last("ledger"))
        whos = [f"{method}{n}" for n in range(2 if method == "fork" else 3)]
        whos += [f"task{n}" for n in range(3 if method == "fork" else 0)]
        wanted.update(f"{who}-{n}" for who in whos for n in range(each))
        found += names(mine)
        balance(mine)
    twice = found.total() - len(found) - 20  # the parents of all three have the same ten names
    assert not twice, f"{twice} twice"
    return wanted.total(), (wanted & found).total(), "0 twice"


def forks(home: Path, count: int) -> tuple[int, int, str]:
    from faults.proof import Child, balance, names

    with Child("forks", home=home, count=count, threads=8) as one:
        one.hear("stuck", count + PATIENCE)
        said = one.heard[-1]
        one.end()
    wanted = Counter(f"p{t}-{n}" for t, ended in enumerate(said["ended"]) for n in range(ended))
    wanted.update(f"f{n}-{each}" for n in range(count) for each in range(3))
    found = names(home)
    balance(home)
    twice = found.total() - len(found)
    note = f"{said['stuck']} deadlocks, {twice} twice"
    assert said["stuck"] == twice == 0, note
    return wanted.total(), (wanted & found).total(), note


def interrupts(home: Path, count: int) -> tuple[int, int, str]:
    from faults.proof import Child, balance

    with Child("interrupted", home=home, times=count, endpoints={}) as one:
        lost = len(one.hear("missing", count / 20 + PATIENCE))
        one.end()
    balance(home)
    acked = one.last("ledger")["acked"]
    return acked, acked - lost, f"{one.last('rung'):,} times"


def full_disk(home: Path) -> tuple[int, int, str]:
    from faults.proof import Child, own_mounts
    from faulty import spawn

    if not own_mounts():
        raise NotRun("neither `unshare -m` nor `unshare -rm` may mount anything here")
    with spawn() as backend, Child(
        "full_disk", before=own_mounts(), home=home / "home", mount=home,
        endpoints={"b": backend.endpoint}, buffer_bytes=64 << 20,
    ) as one:  # fmt: skip
        logged = len(set(one.hear("names", PATIENCE)))
        one.end()
        arrived = backend.received()["spans"]
        held = 1000 * one.last("held")
    assert held <= 1, f"callers waited for {held:.2f} ms in the median"
    return 500, min(logged, arrived), f"{logged} in the log, {arrived} at the backend"


def orphans(home: Path, count: int) -> tuple[int, int, str]:
    from faults.proof import Child, balance, children, names, until
    from faulty import spawn

    with spawn() as backend:
        backend.set("status:503")
        ends = {"b": backend.endpoint}
        with Child("killed", home=home, kills=count, writers=4, endpoints=ends) as one:
            one.hear("done", count + PATIENCE)
            one.end()
        backend.set("ok")
        began = time.monotonic()
        with children(3, "ends", home=home, how="hear", count=1, endpoints=ends) as several:
            for survivor in several:
                survivor.hear("acked")
            total = names(home).total()
            until(lambda: backend.received()["spans"] >= total, PATIENCE)
            took = time.monotonic() - began
            for survivor in several:
                survivor.tell()
                survivor.end()
        balance(home)
        got = backend.received()
    note = f"after {took:.1f} s, {got['duplicates']} repeated"
    assert took <= 30, note
    return total, got["spans"], note


def retention(home: Path, count: int) -> tuple[int, int, str]:
    """Ten records a segment, shipped to three fifths; the caps take half, then seven tenths."""
    from faults.proof import balance
    from faulty import spawn

    from otel_empathy.pipeline import ledger, segments
    from otel_empathy.pipeline.cursor import Cursor, register
    from otel_empathy.pipeline.log import Log, Options
    from otel_empathy.pipeline.retention import retain
    from otel_empathy.store.reader import Reader
    from otel_empathy.testing import ManualClock

    # A warning for each segment that is forced out would hide the table.
    logging.getLogger("otel_empathy").setLevel(logging.ERROR)
    clock, instance = ManualClock(), "d" * 16
    segments.make_home(home)
    log = Log(home, service="t", instance=instance, options=Options(segment_bytes=1), clock=clock)
    record = ledger.Record(instance=instance, backends=("backend",))
    assert record.open(home)
    body = b",".join(b'{"traceId":"%032x","spanId":"%016x"}' % (n + 1, n + 1) for n in range(10))
    for _ in range(count):
        log.append("traces", b'"resource":{"attributes":[]}', b'"scope":{"name":"s"}', body, 10)
        clock.advance(1)
    register(home, "backend", clock.time_ns())
    late = Cursor("backend", instance[:8], signals=("traces",))
    late.positions["traces"].seq = count * 6 // 10 + 1  # it stands at the beginning of this one
    late.shipped = count * 6 // 10 * 10
    late.save(home)
    size = sum(one.size for one in segments.listed(home, "traces")) // count

    stop, looks, errors = threading.Event(), Counter[str](), []

    def read(which: str) -> None:
        while not stop.is_set():
            reader = Reader(home)
            try:
                sum(1 for _ in reader.scan("traces"))
            except OSError as error:
                errors.append(error)
                return
            looks[which] += 1
            errors.extend(reader.skips.counts)

    def raced(days: float, most: int) -> list[Any]:
        runs = [
            threading.Thread(target=retain, args=(home,),
                             kwargs={"days": days, "max_bytes": most, "clock": clock})
            for _ in range(3)
        ]  # fmt: skip
        for one in runs:
            one.start()
        for one in runs:
            one.join()
        left = segments.listed(home, "traces")
        assert days < 1 or sum(one.size for one in left) <= most, "more than the cap was left"
        assert days < 1 or left[-1].name.seq == count, "the live segment was removed"
        return left

    readers = [threading.Thread(target=read, args=(str(n),)) for n in range(2)]
    for one in readers:
        one.start()
    shipped = count * 6 // 10
    try:
        left = raced(90, size * count // 2)
        assert left[0].name.seq <= shipped + 1, "unshipped segments were removed"
        left = raced(90, size * count * 3 // 10)
        log.close(1)
        record.close()
        with spawn() as backend:
            _ship(home, backend.endpoint, signals=("traces",))
        found = balance(home)
        row = found.backends["backend"]
        forced = 10 * (count - shipped - len(left))
        assert row.dropped == {"backlog_cap": forced}, f"{row.dropped} instead of {forced}"
        assert row.shipped == 10 * (shipped + len(left)), row
        assert raced(0.00001, 1 << 40) == [], "what was too old was left"
    finally:
        stop.set()
        for one in readers:
            one.join()
    assert not errors, errors[:3]
    note = f"forced out and counted {forced:,}, read {looks.total()} times meanwhile"
    return 10 * count, balance(home).acked["traces"], note


def crash(home: Path, cap: int) -> tuple[int, int, str]:
    """A program is killed behind a full backlog that holds one span which the backend refuses."""
    from faults.proof import Child, agrees, balance, unshipped, until
    from faulty import spawn

    from otel_empathy.pipeline.cursor import all_cursors
    from otel_empathy.pipeline.shipping import aside

    with spawn() as backend:
        backend.set("status:503")
        told: dict[str, Any] = {
            "home": home, "endpoints": {"b": backend.endpoint}, "backlog_max_bytes": cap,
            "log_max_bytes": "64GiB",
        }  # fmt: skip
        with Child("writes", who="a", sizes=(9000,), **told) as one:
            until(lambda: any(c.dropped for c in all_cursors(home).values()), 4 * PATIENCE)
            one.signal(signal.SIGKILL)
            one.end()
        number = one.last("acked")
        before = balance(home).backends["b"]
        owed = unshipped(home, "b", signals=("traces",))
        backend.set("ok", poison=f"a-{number - number // 4}")
        with Child("ends", who="z", how="hear", count=1, **told) as again:
            began = time.monotonic()
            until(lambda: backend.wait(timeout=1, spans=owed), 4 * PATIENCE)
            took = time.monotonic() - began
            again.tell()
            again.end()
            agrees(again.last("ledger"))
        got = backend.received()
    after, kept = balance(home).backends["b"], aside(home, "b")
    forced = before.dropped["backlog_cap"]
    assert after.dropped == {"backlog_cap": forced, "rejected": 1}, after
    note = (
        f"sent again in {took:.0f} s, {len(kept)} set aside, {forced:,} forced out and counted,"
        f" {got['duplicates']} repeated"
    )
    return owed, len(set(got["names"]["traces"]) - {"z-0"}) + len(kept), note


def comers(home: Path, count: int) -> tuple[int, int, str]:
    """Beside one backend that lags, others come, take another name, begin at the oldest, and go."""
    from faults.proof import Child, agrees, balance, until
    from faulty import Spawned, spawn

    wanted: dict[str, set[str]] = {}

    def run(who: str, *takes: str, start: str = "now", **ends: Spawned) -> None:
        told = {name: backend.endpoint for name, backend in ends.items()}
        with Child(
            "ends", home=home, who=who, how="hear", count=count, endpoints=told, start=start
        ) as child:
            child.hear("acked", PATIENCE)
            mine = {f"{who}-{n}" for n in range(count)}
            for name in takes:
                wanted[name] = wanted.get(name, set()) | mine
                need = len(wanted[name])
                until(lambda name=name, need=need: ends[name].wait(timeout=1, spans=need), PATIENCE)
            child.tell()
            child.end()
            agrees(child.last("ledger"))
        balance(home)

    with spawn() as lagging, spawn() as well, spawn() as new, spawn() as other, spawn() as old:
        lagging.set("status:503")
        run("first", "well", lagging=lagging, well=well)
        run("second", "well", well=well)
        owed = balance(home).backends["lagging"]
        assert owed.pending == owed.acked >= count, owed
        run("third", "well", "new", well=well, new=new)
        run("fourth", "well", "other", well=well, other=other)
        wanted["old"] = {f"{who}-{n}" for who in ("first", "second", "third", "fourth")
                         for n in range(count)}  # fmt: skip
        run("fifth", "old", old=old, start="oldest")
        lagging.set("ok")
        wanted["lagging"] = {f"first-{n}" for n in range(count)}
        run("last", "lagging", lagging=lagging)
        ends = {"lagging": lagging, "well": well, "new": new, "other": other, "old": old}
        got = {name: backend.received() for name, backend in ends.items()}
        assert not balance(home).backends["lagging"].pending
    again = sum(each["duplicates"] for each in got.values())
    strange = sum(len(set(got[name]["names"]["traces"]) - wanted[name]) for name in got)
    note = f"5 backends, {again} repeated, {strange} where they do not belong"
    assert again == strange == 0, note
    there = sum(len(wanted[name] & set(got[name]["names"]["traces"])) for name in got)
    return sum(map(len, wanted.values())), there, note


def hour(home: Path, scale: float) -> tuple[int, int, str]:
    from faults.proof import Child, agrees, balance
    from faulty import spawn

    duration = 3600 * scale
    with spawn() as backend:
        backend.set("hang")
        told = {"home": home, "seconds": duration, "rate": 1000}
        with Child("soak", endpoints={"b": backend.endpoint}, **told) as one:
            number = one.hear("count", duration + PATIENCE)
            one.end()
        agrees(one.last("ledger"))
        held = [said["held"] for said in one.heard if "held" in said]
    # The first minutes fill what is bounded: the newest lines in memory.
    steady = held[min(5, len(held) - 2) :]
    grown = (held[-1]["rss"] - held[0]["rss"]) / (1 << 20)
    slope = (steady[-1]["rss"] - steady[0]["rss"]) / (1 << 20) / (len(steady) - 1)
    files = [each["files"] for each in steady]
    threads = [each["threads"] for each in steady]
    note = (
        f"RSS +{grown:.0f} MiB in all, {slope:+.2f} MiB/min later,"
        f" files {min(files)}-{max(files)}, threads {min(threads)}-{max(threads)}"
    )
    assert grown <= 50, note
    assert slope <= 1, note
    assert files[-1] <= files[0] + 3, note
    assert threads[-1] <= threads[0], note
    row = balance(home).backends["b"]
    assert set(row.dropped) <= {"backlog_cap"}, row
    return number, balance(home).acked["traces"], note


# -- the tables -----------------------------------------------------------------------------------
def share(count: int | None, of: int) -> str:
    if count is None:
        return "-"
    if count == of:
        return "100 %"
    return f"{100 * count / of:.1f} %" if of else "-"


def seconds(value: float | None) -> str:
    return "-" if value is None else f"{max(0.0, value):.1f} s"


def about() -> dict[str, str]:
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "opentelemetry-sdk": version("opentelemetry-sdk"),
        "opentelemetry-exporter-otlp-proto-http": version("opentelemetry-exporter-otlp-proto-http"),
        "otel-empathy": version("otel-empathy"),
    }


def compare(chosen: Sequence[Row]) -> list[dict[str, Any]]:
    """Run and print the first table."""
    if not chosen:
        return []
    print(
        f"{'':28}{'':>9}  {'stock SDK':^16}  {'otel-empathy':>22}\n"
        f"{'':28}{'spans':>9}  {'arrived':>8}{'exit':>8}"
        f"  {'log':>8}{'arrived':>9}{'exit':>8}{'twice':>8}"
    )
    print("-" * 90)
    told = []
    for row in chosen:
        stock, ours = run(row, "stock"), run(row, "ours")
        good = (
            ours.log == ours.backend == ours.spans
            and not ours.notes
            and (row.exit_limit is None or (ours.exit or 0.0) <= row.exit_limit)
        )
        print(
            f"{row.name:28}{row.spans:>9,}  {share(stock.backend, stock.spans):>8}"
            f"{seconds(stock.exit):>8}  {share(ours.log, ours.spans):>8}"
            f"{share(ours.backend, ours.spans):>9}{seconds(ours.exit):>8}{ours.repeats:>8}"
            + ("" if good else "  <-- " + ("; ".join(ours.notes) or "not as promised")),
            flush=True,
        )
        told.append({"name": row.name, "good": good, "stock": vars(stock), "ours": vars(ours)})
    print(LEGEND.rstrip())
    return told


def prove(chosen: Sequence[Proof]) -> list[dict[str, Any]]:
    """Run and print the second table."""
    if not chosen:
        return []
    print(f"\n{'':44}{'acked':>10}{'there':>9}")
    told: list[dict[str, Any]] = []
    for proof in chosen:
        with home_of("home") as home:
            try:
                acked, there, remark = proof.run(home)
            except NotRun as error:
                print(f"{proof.name:44}{'not run':>19}  {error}", flush=True)
                told.append({"name": proof.name, "good": None, "remark": str(error)})
                continue
            except AssertionError as error:
                acked, there, remark = 1, 0, str(error)[:200]
        good = there == acked
        print(f"{proof.name:44}{acked:>10,}{share(there, acked):>9}  {remark}", flush=True)
        told.append(
            {"name": proof.name, "good": good, "acked": acked, "there": there, "remark": remark}
        )
    return told


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a twentieth of the numbers")
    parser.add_argument(
        "--long", action="store_true", help="with the rows that take minutes or an hour"
    )
    parser.add_argument("--only", action="append", help="rows whose name holds this word")
    parser.add_argument("--json", type=Path, help="write the results to a file as well")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        child(json.loads(asked.child))
        return 0
    words = [word.lower() for word in asked.only or ()]

    def wanted(name: str) -> bool:
        return not words or any(word in name.lower() for word in words)

    scale = 0.05 if asked.quick else 1.0
    facts = about()
    print("\n".join(f"{name}: {value}" for name, value in facts.items()) + "\n")
    told = compare([r for r in rows(scale) if wanted(r.name) and (asked.long or not r.long)])
    proven = prove([p for p in proofs(scale) if wanted(p.name) and (asked.long or not p.long)])
    if asked.json:
        found = {**facts, "rows": told, "proofs": proven}
        asked.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    ran = [one for one in (*told, *proven) if one["good"] is not None]
    bad = [one["name"] for one in ran if not one["good"]]
    every = "every row" if len(ran) == len(told) + len(proven) else "every row that was run"
    good = f"ours: 100 % in {every}" if ran else "nothing was run"
    print(f"\nnot 100 %: {', '.join(bad)}" if bad else f"\n{good}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
