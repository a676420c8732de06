"""`make testbed`: what arrives under each fault, for the stock SDK and for us, on this machine.

Each row puts one program (`testbed_child.py`) through one fault twice: with the stock SDK
(`BatchSpanProcessor`, OTLP/HTTP exporter, shutdown at exit, all defaults) and with us. The program
says through a pipe which spans have ended; a backend in a process of its own says which arrived.
For the stock SDK that is all, because nothing comes later. For us it is counted three times: what
stands in the log, what the program itself delivered, and what the backend has after the next
process of the same home has shipped. Our ledger is computed anew from the files and compared.

A row of ours that loses anything is printed as it is, and makes the exit status 1.
"""

from __future__ import annotations

import argparse
import bisect
import contextlib
import importlib.metadata
import json
import logging
import os
import platform
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import orjson

sys.path.insert(0, str(Path(__file__).parent))

from faulty_backend import Spawned, spawn
from testbed_child import Work

from otel_empathy.core.clock import SYSTEM
from otel_empathy.core.settings import Settings
from otel_empathy.pipeline import segments
from otel_empathy.pipeline.backends import ship
from otel_empathy.pipeline.cursor import all_cursors
from otel_empathy.pipeline.ledger import recompute
from otel_empathy.pipeline.otlp import Otlp
from otel_empathy.pipeline.shipping import aside
from otel_empathy.wiring import plans

__all__ = ["SCENARIOS", "Outcome", "Scenario"]

BACKEND = "testbed"
BATCH = 512
FRESH = 2.0  # seconds for which a span may be on its way while all is well
WINDOW = 0.05  # seconds that a batch of the log waits before it is written
WRITING = 0.03  # seconds that its writing may take on a busy machine
DRAINED = 60.0  # seconds within which a backlog is gone after a backend's return
SHIP = 120.0  # seconds that the next process has
GRACE = 60.0  # seconds beyond its own length after which a program is ended


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One row of the table.

    Args:
        name: What is said of it.
        count: Spans of each process that works.
        rate: Spans a second, 0 for as fast as it goes.
        end: How the program leaves; `wait` waits for the signal.
        signal: What ends a program that waits.
        children: How it makes children, if they do the work.
        poison: Name of a span that the backend will not take.
        steps: What happens when, in seconds after the first span: a mode of the backend, or `fill`
            and `free` for the disk.
        window: Whether the last window of the log may be missing.
        repeats: Spans that the backend may be sent twice.
        exit: Seconds that the exit may take longer because of us.
        disk: Whether the home lies on a small file system of its own.
        alone: Whether nothing else may run beside it.
        full: Whether `--quick` leaves it out.
        quick: What is smaller with `--quick`.
    """

    name: str
    count: int = 1500
    rate: float = 0.0
    end: str = "return"
    signal: int = 0
    children: str = ""
    poison: str = ""
    steps: tuple[tuple[float, str], ...] = ()
    window: bool = False
    repeats: int = 0
    exit: float = 2.0
    disk: bool = False
    alone: bool = False
    full: bool = False
    quick: dict[str, Any] = field(default_factory=dict)

    @property
    def ends(self) -> int:
        """Spans that end in all its processes."""
        return 100 + 4 * self.count if self.children else self.count

    @property
    def lasts(self) -> float:
        """Seconds until its last step and last span."""
        return max([self.count / self.rate if self.rate else 0.0, *(at for at, _ in self.steps)])


def killed(name: str, end: str, number: int = 0) -> list[Scenario]:
    """Ways to leave without a word, at a pace at which we write each span through."""
    return [
        Scenario(
            name=f"{name}, {count:,} spans at 1,000/s",
            count=count, rate=1000.0, end=end, signal=number, repeats=BATCH,
        )
        for count in (1500, 400)
    ]  # fmt: skip


SCENARIOS: tuple[Scenario, ...] = (
    Scenario(name="normal exit, 1,500 queued"),
    Scenario(name="uncaught exception, 1,500 queued", end="raise"),
    Scenario(name="sys.exit in a thread, 1,500 queued", end="thread"),
    *killed("SIGTERM without handler", "wait", signal.SIGTERM),
    *killed("SIGKILL", "wait", signal.SIGKILL),
    *killed("os._exit", "os._exit"),
    Scenario(
        name="fork x 4, children leave by os._exit", children="os.fork", count=400, rate=1000.0,
    ),
    Scenario(name="multiprocessing fork x 4", children="fork", count=400),
    Scenario(name="multiprocessing spawn x 4", children="spawn", count=400),
    Scenario(name="multiprocessing forkserver x 4", children="forkserver", count=400),
    Scenario(
        name="steady 1,000/s", count=30_000, rate=1000.0,
        quick={"count": 3000},
    ),
    Scenario(
        name="backend answers 500", rate=500.0, steps=((0, "status:500"),),
        quick={"count": 1000},
    ),
    Scenario(
        name="503 for 30 s of 40 s at 100/s", count=4000, rate=100.0,
        steps=((0, "status:503"), (30, "ok")),
        quick={"name": "503 for 3 s of 6 s at 500/s", "count": 3000, "rate": 500.0,
               "steps": ((0, "status:503"), (3, "ok"))},
    ),
    Scenario(
        name="outage of 10 min at 100/s", count=62_000, rate=100.0,
        steps=((0, "down"), (600, "ok")), full=True,
    ),
    Scenario(
        name="collector down for 20 s of 30 s at 1,000/s", count=30_000, rate=1000.0,
        steps=((0, "down"), (20, "ok")),
        quick={"name": "collector down for 4 s of 6 s at 1,000/s", "count": 6000,
               "steps": ((0, "down"), (4, "ok"))},
    ),
    Scenario(name="backend hangs", steps=((0, "hang"),), exit=5.0),
    Scenario(name="connection refused at exit", steps=((0, "down"),)),
    Scenario(
        name="slow backend, 2 s a request, 1,000/s", count=10_000, rate=1000.0,
        steps=((0, "slow:2"),), repeats=BATCH, exit=5.0,
        quick={"count": 3000},
    ),
    Scenario(name="poison record, answered with 400", poison="poison"),
    Scenario(
        name="disk full for 10 s of 20 s at 200/s", count=4000, rate=200.0, disk=True,
        steps=((3, "fill"), (13, "free")),
        quick={"name": "disk full for 3 s of 7 s at 200/s", "count": 1400,
               "steps": ((1, "fill"), (4, "free"))},
    ),
    Scenario(
        name="steady 5,000/s", count=50_000, rate=5000.0, alone=True,
        quick={"count": 10_000},
    ),
    Scenario(name="tight loop of 20,480", count=20_480, alone=True),
    Scenario(
        name="burst of 100,000", count=100_000, alone=True,
        quick={"name": "burst of 30,000", "count": 30_000},
    ),
    Scenario(
        name="burst of 100,000, 50 ms a request", count=100_000, alone=True,
        steps=((0, "slow:0.05"),), repeats=BATCH,
        quick={"name": "burst of 30,000, 50 ms a request", "count": 30_000},
    ),
    Scenario(
        name="SIGKILL at 5,000/s, written in batches", count=15_000, rate=5000.0, end="wait",
        signal=signal.SIGKILL, window=True, repeats=BATCH, alone=True,
    ),
)  # fmt: skip


@dataclass
class Outcome:
    """What became of one side's spans."""

    side: str
    ended: int = 0
    arrived: int = 0  # at the backend, in the end
    twice: int = 0  # at the backend
    exit: float | None = None  # seconds from the last statement to the end of the process
    log: int = 0
    log_twice: int = 0
    acked: int = 0
    at_once: int = 0  # at the backend, when the program had ended
    notes: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)  # promises that were not kept


# -- a run ----------------------------------------------------------------------------------------
class Child:
    """The program in a process of its own, and what it said."""

    def __init__(self, work: Work, folder: Path) -> None:
        self.ended: dict[str, tuple[float, int]] = {}  # when each span ended, and in which process
        self.acked: dict[int, int] = {}
        self.marks: dict[str, float] = {}
        self.over_at = 0.0
        self.over = threading.Event()
        self.news = threading.Condition()
        self._errors = (folder / "stderr").open("w+b")
        self.process = subprocess.Popen(
            [
                sys.executable,
                str(Path(__file__).with_name("testbed_child.py")),
                json.dumps(asdict(work)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        self._threads = [threading.Thread(target=self._listen), threading.Thread(target=self._end)]
        for thread in self._threads:
            thread.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            word, *rest = line.decode().split()
            if word == "e":
                pid = int(rest[0])
                self.ended[rest[2]] = (float(rest[3]), pid)
                self.acked[pid] = int(rest[1])
            else:
                with self.news:
                    self.marks[word] = float(rest[0])
                    self.news.notify_all()

    def _end(self) -> None:
        self.process.wait()
        self.over_at = time.monotonic()
        self.over.set()
        with self.news:
            self.news.notify_all()

    def reached(self, mark: str, timeout: float) -> bool:
        """Wait until it says where it is."""
        with self.news:
            self.news.wait_for(lambda: mark in self.marks or self.over.is_set(), timeout)
            return mark in self.marks

    def errors(self) -> str:
        """The end of what it wrote on standard error."""
        self._errors.seek(0)
        return self._errors.read()[-2000:].decode(errors="replace")

    def stop(self) -> None:
        """End it if it lives, and take in all that it said."""
        if not self.over.is_set():
            self.process.kill()
        for thread in self._threads:
            thread.join(10)

    def close(self) -> None:
        """End it, and let go of its pipes."""
        self.stop()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._errors.close()


class Disk:
    """A small file system in a mount namespace of its own, which vanishes with its process."""

    def __init__(self, folder: Path) -> None:
        script = 'mount -t tmpfs -o size=16m,mode=0700 none "$1" && echo mounted && exec cat'
        self._holder = subprocess.Popen(
            ["unshare", "-m", "sh", "-c", script, "sh", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._holder.stdout is not None
        self.mounted = self._holder.stdout.readline() == b"mounted\n"
        self.root = Path(f"/proc/{self._holder.pid}/root{folder}")

    def fill(self) -> None:
        with contextlib.suppress(OSError), (self.root / "filler").open("wb", buffering=0) as file:
            while file.write(b"x" * 4096):
                pass

    def free(self) -> None:
        (self.root / "filler").unlink()

    def close(self) -> None:
        self._holder.communicate()


def no_disk() -> str | None:
    """Why no file system of our own can be had here, if so."""
    if os.geteuid() != 0:
        return "takes root, to mount a small file system in a namespace of its own"
    with tempfile.TemporaryDirectory(prefix="testbed-") as folder:
        try:
            disk = Disk(Path(folder))
        except OSError as error:
            return f"`unshare -m` cannot be run: {error}"
        disk.close()
        return None if disk.mounted else "`unshare -m` with a tmpfs is refused on this machine"


def run(scenario: Scenario, side: str, grace: float = GRACE) -> Outcome:
    """Put one side through a scenario."""
    outcome = Outcome(side)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="testbed-")))
        disk = None
        where = folder / "disk"
        where.mkdir()
        if scenario.disk:
            disk = Disk(where)
            stack.callback(disk.close)
            where = disk.root
        home = where / "home"
        backend = stack.enter_context(spawn())
        begins, *later = scenario.steps or ((0, "ok"),)
        if begins[0]:
            begins, later = (0, "ok"), list(scenario.steps)
        poison = scenario.poison or None
        backend.set(begins[1], poison=poison)
        work = Work(
            side, backend.endpoint, str(home), scenario.count, scenario.rate, scenario.end,
            scenario.children, poison=scenario.poison,
        )  # fmt: skip
        child = Child(work, folder)
        stack.callback(child.close)
        back_at = follow(scenario, child, backend, disk, later)
        finish(scenario, child, outcome, grace)
        state = states(home)
        backend.set("ok", poison=poison)
        outcome.at_once = settle(backend, child)
        if side == "ours":
            outcome.notes += [f"the backend is shown as {one}" for one in state if one != "healthy"]
            deliver(home, backend, outcome)
        found = backend.received(detail=True)
        here = found["span_ids"]
        outcome.ended = len(child.ended)
        outcome.arrived = len(child.ended.keys() & here.keys())
        outcome.twice = sum(here.values()) - len(here)
        if scenario.children:
            theirs = {one for one, (_, pid) in child.ended.items() if pid != child.process.pid}
            arrived = len(theirs & here.keys())
            outcome.notes.append(f"{arrived:,} of the {len(theirs):,} of its children arrived")
        if side == "ours":
            judge(scenario, child, home, found, outcome)
            if back_at is not None:
                drained(found["log"], child, back_at, outcome)
    return outcome


def follow(
    scenario: Scenario,
    child: Child,
    backend: Spawned,
    disk: Disk | None,
    steps: Iterable[tuple[float, str]],
) -> float | None:
    """Let happen what is to happen; gives the moment of the last return to health."""
    if not child.reached("begun", GRACE):
        return None
    back_at = None
    for at, what in steps:
        child.over.wait(max(0.0, child.marks["begun"] + at - time.monotonic()))
        if disk is not None and what in {"fill", "free"}:
            (disk.fill if what == "fill" else disk.free)()
            continue
        backend.set(what, poison=scenario.poison or None)
        back_at = time.monotonic()
    return back_at


def finish(scenario: Scenario, child: Child, outcome: Outcome, grace: float) -> None:
    """Wait for the end of the program, or bring it about; and take in what it still said."""
    limit = scenario.lasts + grace
    if scenario.end == "wait":
        if child.reached("done", limit):
            child.process.send_signal(scenario.signal)
            child.over.wait(10)
    else:
        child.over.wait(max(0.0, child.marks.get("begun", 0.0) + limit - time.monotonic()))
    if not child.over.is_set():
        outcome.broken.append(f"timed out after {limit:.0f} s and was killed")
    elif "leaving" in child.marks:
        outcome.exit = child.over_at - child.marks["leaving"]
    child.stop()
    words = child.errors().strip().splitlines()
    if not child.marks.keys() & {"leaving", "done"}:
        outcome.broken.append(f"failed: {words[-1] if words else 'without a word'}")


def states(home: Path) -> list[str]:
    """How our backends are shown, by the cursors of all processes."""
    return sorted({cursor.state for cursor in all_cursors(home).values()})


def settle(backend: Spawned, child: Child) -> int:
    """Count what arrived, when requests that were under way have been taken."""
    before, now = -1, 0
    while before != now:
        time.sleep(0.1)
        before, now = now, backend.received()["spans"]
    return len(child.ended.keys() & backend.received(detail=True)["span_ids"].keys())


def deliver(home: Path, backend: Spawned, outcome: Outcome) -> None:
    """What the next process of the same home does."""
    settings = Settings.load(home=home)
    served = plans([Otlp(backend.endpoint, name=BACKEND)], settings, SYSTEM)
    for one in ship(home, served, timeout=SHIP):
        if one.state != "healthy":
            outcome.broken.append(f"the next process finds the backend {one.state}: {one.message}")


# -- judging --------------------------------------------------------------------------------------
def ids(requests: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Span ids of OTLP requests in JSON."""
    for request in requests:
        for outer in request["resourceSpans"]:
            for inner in outer["scopeSpans"]:
                for span in inner["spans"]:
                    yield span["spanId"]


def lines(home: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of the log."""
    for segment in segments.listed(home, "traces"):
        with segment.path.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    yield orjson.loads(line)


def judge(
    scenario: Scenario, child: Child, home: Path, found: dict[str, Any], outcome: Outcome
) -> None:
    """Compare what was ended with the log, with the backend and with our own ledger."""
    broken, ended = outcome.broken, child.ended
    logged = Counter(ids(lines(home)))
    outcome.log = len(ended.keys() & logged.keys())
    outcome.log_twice = logged.total() - len(logged)
    outcome.acked = sum(child.acked.values())
    if len(ended) != scenario.ends:
        broken.append(f"only {len(ended):,} of {scenario.ends:,} spans were ended")
    if outcome.acked > len(logged):
        broken.append(f"{outcome.acked - len(logged):,} acknowledged spans are not in the log")
    if outcome.log_twice:
        broken.append(f"{outcome.log_twice:,} spans stand twice in the log")
    missing = ended.keys() - logged.keys()
    if scenario.window:
        judge_window(child, missing, outcome)
    elif missing:
        broken.append(f"{len(missing):,} spans are not in the log; {outcome.acked:,} of "
                      f"{len(ended):,} were acknowledged")  # fmt: skip
    refused = set(ids(aside(home, BACKEND)))
    if refused:
        outcome.notes.append(f"{len(refused)} set aside and counted")
    if len(refused) != bool(scenario.poison):
        broken.append(f"{len(refused)} spans were set aside")
    late = logged.keys() - found["span_ids"].keys() - refused
    if late:
        broken.append(f"{len(late):,} spans of the log never arrived")
    if outcome.twice > scenario.repeats:
        broken.append(f"{outcome.twice:,} spans arrived twice, {scenario.repeats} may")
    judge_ledger(scenario, home, found, logged.total(), outcome)


def judge_window(child: Child, missing: set[str], outcome: Outcome) -> None:
    """What was not written yet must have ended within one window before the last span."""
    last = max((at for at, _ in child.ended.values()), default=0.0)
    span = last - min((child.ended[one][0] for one in missing), default=last)
    outcome.notes.append(
        f"{outcome.acked:,} acknowledged of {len(child.ended):,} ended; "
        f"{len(missing):,} of the last {span * 1000:.0f} ms are missing"
    )
    if span > WINDOW + WRITING:
        outcome.broken.append(f"that is more than one window of {WINDOW * 1000:.0f} ms")


def judge_ledger(
    scenario: Scenario, home: Path, found: dict[str, Any], logged: int, outcome: Outcome
) -> None:
    """The equations of the ledger, against the lines of the log and the backend's own count."""
    balance = recompute(home, all_cursors(home))
    row = balance.backends.get(BACKEND)
    if row is None:
        outcome.broken.append("the ledger does not know the backend")
        return
    expected = {"rejected": 1} if scenario.poison else {}
    took = found["spans"] + found["duplicates"] + found["points"] + found["logs"]
    checks = {
        "acked = lines of the log": (balance.acked["traces"], logged),
        "dropped": (dict(balance.dropped), {}),
        "waiting": (balance.waiting, 0),
        "offered = acked + dropped": (
            balance.offered, balance.acked.total() + balance.dropped.total()),
        "the backend's acked": (row.acked, balance.acked.total()),
        "the backend's dropped": (dict(row.dropped), expected),
        "acked = shipped + pending + dropped": (
            row.acked, row.shipped + row.pending + row.dropped.total()),
        "pending": (row.pending, 0),
        "shipped = what the backend took": (
            row.shipped, min(took, row.shipped) if scenario.repeats else took),
    }  # fmt: skip
    outcome.broken += [
        f"ledger: {what}: {left} and {right}"
        for what, (left, right) in checks.items()
        if left != right
    ]


def drained(
    requests: Iterable[dict[str, Any]], child: Child, back_at: float, outcome: Outcome
) -> None:
    """How long after the backend's return it had all but the newest spans."""
    times = sorted(at for at, _ in child.ended.values())
    taken = 0
    for request in requests:
        if request["signal"] != "traces" or request["answer"] != "ok":
            continue
        taken += request["records"]
        if request["at"] > back_at and taken >= bisect.bisect(times, request["at"] - FRESH):
            took = request["at"] - back_at
            outcome.notes.append(f"backlog gone {took:.1f} s after the return")
            if took > DRAINED:
                outcome.broken.append(f"that is more than {DRAINED:.0f} s")
            return
    outcome.broken.append("the backlog was never gone")


# -- the table ------------------------------------------------------------------------------------
WIDTHS = (47, 8, 9, 7, 6, 10, 9, 9, 7, 6)
TITLES = ("", "ended", "arrived", "exit s", "twice", "in log", "at once", "in end", "exit s",
          "twice")  # fmt: skip


def header(*, quick: bool, bare: float) -> list[str]:
    python = f"{platform.python_implementation()} {platform.python_version()}"
    names = ("otel-empathy", "opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http")
    versions = [f"{name} {importlib.metadata.version(name)}" for name in names]
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    now = f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC"
    return [
        ", ".join([python, *versions]),
        ", ".join([machine, now, *(["--quick"] if quick else [])]),
        f"exit s: what is added to the {bare:.2f} s of the same program without telemetry",
    ]


def line(*cells: str) -> str:
    padded = [cells[0].ljust(WIDTHS[0])]
    padded += [cell.rjust(width) for cell, width in zip(cells[1:], WIDTHS[1:], strict=False)]
    return "".join(padded).rstrip()


def share(part: int, whole: int) -> str:
    """A percentage that says 100 only when nothing is missing."""
    if part == whole:
        return "100 %"
    return f"{int(1000 * part / whole) / 10:.1f} %" if whole else "-"


def draw(name: str, stock: Outcome, ours: Outcome) -> None:
    both = [f"{one.ended:,}" for one in (stock, ours)]
    print(
        line(
            name,
            both[0] if both[0] == both[1] else "/".join(both),
            share(stock.arrived, stock.ended),
            seconds(stock),
            f"{stock.twice:,}",
            share(ours.log, ours.ended),
            share(ours.at_once, ours.ended),
            share(ours.arrived, ours.ended),
            seconds(ours),
            f"{ours.twice:,}",
        )
    )
    for one, who in ((stock, "stock"), (ours, "ours")):
        for text in one.notes:
            print(f"    {who}: {text}")
        for text in one.broken:
            print(f"  * {who}: {text}" if one is stock else f"  ! NOT KEPT: {text}")
    sys.stdout.flush()


def seconds(outcome: Outcome) -> str:
    return "-" if outcome.exit is None else f"{outcome.exit:.2f}"


def added(outcome: Outcome, bare: float) -> Outcome:
    if outcome.exit is not None:
        outcome.exit = max(0.0, outcome.exit - bare)
    return outcome


def both(scenario: Scenario, bare: float, grace: float) -> tuple[Outcome, Outcome]:
    """Both sides: at the same time, unless the row is about speed."""
    with ThreadPoolExecutor(1 if scenario.alone else 2) as pool:
        futures = [pool.submit(attempt, scenario, side, grace) for side in ("stock", "ours")]
        stock, ours = (added(future.result(), bare) for future in futures)
    if ours.exit is not None and ours.exit > scenario.exit:
        ours.broken.append(f"exit took {ours.exit:.1f} s more, {scenario.exit:.0f} s are promised")
    return stock, ours


def attempt(scenario: Scenario, side: str, grace: float) -> Outcome:
    """One side of a row; what goes wrong with the measuring itself is told in its place."""
    try:
        return run(scenario, side, grace)
    except Exception as error:  # noqa: BLE001 - the other rows are wanted all the same
        return Outcome(side, broken=[f"failed: {type(error).__name__}: {error}"])


def chosen(names: Sequence[str], *, quick: bool) -> list[Scenario]:
    rows = list(SCENARIOS)
    if quick:
        rows = [replace(row, **row.quick) for row in rows if not row.full]
    for name in names:
        if not any(name.lower() in row.name.lower() for row in rows):
            known = "".join(f"\n  {row.name}" for row in rows)
            raise SystemExit(f"--only {name!r}: no row is named so; there are:{known}")
    return [
        row for row in rows if not names or any(name.lower() in row.name.lower() for name in names)
    ]


def table(rows: Sequence[Scenario], *, jobs: int, bare: float, grace: float) -> Iterator[Row]:
    """Run the rows, and give each as soon as those before it are there."""
    why = no_disk() if any(row.disk for row in rows) else None
    beside = [row for row in rows if not row.alone and not (row.disk and why)]
    with ThreadPoolExecutor(jobs) as pool:
        started = {row.name: pool.submit(both, row, bare, grace) for row in beside}
        try:
            for row in rows:
                if row.disk and why:
                    yield Row(row.name, skipped=why)
                elif not row.alone:
                    yield Row(row.name, *started[row.name].result())
        finally:
            pool.shutdown(cancel_futures=True)
    for row in rows:
        if row.alone:
            yield Row(row.name, *both(row, bare, grace))


@dataclass
class Row:
    """One line of the table."""

    name: str
    stock: Outcome | None = None
    ours: Outcome | None = None
    skipped: str = ""


def main() -> int:
    parser = argparse.ArgumentParser(description="What arrives under each fault.")
    parser.add_argument("--quick", action="store_true", help="the same faults, scaled down")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="part of a name")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument("--jobs", type=int, default=3, help="rows at a time, where that is fair")
    told = parser.parse_args()
    for name in list(os.environ):
        if name.startswith("OTEL_") or name.lower().endswith("_proxy"):
            del os.environ[name]
    logging.getLogger("otel_empathy").addHandler(logging.NullHandler())
    rows = chosen(told.only, quick=told.quick)
    bare = run(Scenario(name="no telemetry"), "bare").exit or 0.0
    words = header(quick=told.quick, bare=bare)
    print("\n".join(words), end="\n\n")
    print(line("", "", "stock SDK", "", "", "otel-empathy"))
    print(line(*TITLES), flush=True)
    done: list[Row] = []
    for row in table(rows, jobs=told.jobs, bare=bare, grace=30.0 if told.quick else GRACE):
        done.append(row)
        if row.stock is None or row.ours is None:
            print(f"{row.name:<{WIDTHS[0]}} skipped: {row.skipped}", flush=True)
        else:
            draw(row.name, row.stock, row.ours)
    if told.json:
        figures = {"header": words, "rows": [asdict(row) for row in done]}
        told.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    broken = [row.name for row in done if row.ours is not None and row.ours.broken]
    skipped = sum(bool(row.skipped) for row in done)
    print(
        f"\n{len(done)} rows, {skipped} skipped; "
        + (f"NOT KEPT in {len(broken)}: {'; '.join(broken)}" if broken else "ours kept them all")
    )
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
