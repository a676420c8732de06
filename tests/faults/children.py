"""Programs that the fault tests start, signal, fork and kill: functions with JSON arguments.

They use nothing but the public surface and plain OpenTelemetry tracers. What they say on standard
output is one JSON object a line; they wait for a line on standard input where the test decides when
to go on.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import json
import multiprocessing
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from opentelemetry import _logs, metrics, trace

from otel_empathy import agent, tool, wiring, workflow
from otel_empathy.emit import safety
from otel_empathy.pipeline import segments, tail
from otel_empathy.pipeline.log import Log
from otel_empathy.pipeline.otlp import Otlp

PROGRAMS: dict[str, Callable[..., None]] = {}
# Spans of 200 B to 512 KB, few of the long ones: what a thousand kills leave is to stay small.
SIZES = (
    *(200, 1000, 4000, 9000) * 3, 60_000, *(200, 1000, 4000, 9000) * 3, 300_000,
    *(200, 1000, 4000, 9000) * 3, 512_000,
)  # fmt: skip


def program(fn: Callable[..., None]) -> Callable[..., None]:
    PROGRAMS[fn.__name__] = fn
    return fn


def say(**what: Any) -> None:
    os.write(1, json.dumps(what).encode() + b"\n")


def hear() -> str:
    return sys.stdin.readline().strip()


def begin(
    home: str, endpoints: Mapping[str, str] | None = None, *, log: bool = True, **settings: Any
) -> wiring.Runtime:
    """Switch telemetry on, with one backend for each named endpoint."""
    shape = {k: settings.pop(k) for k in ("start", "timeout", "certificate") if k in settings}
    settings.setdefault("ship_delay", 100)  # milliseconds; there are many tests
    backends = [Otlp(url, name=name, **shape) for name, url in (endpoints or {}).items()]
    return wiring.configure(
        service="child", home=home, backends=backends, log=log, settings=settings
    )


def acked(rt: wiring.Runtime) -> int:
    assert rt.log is not None
    return rt.log.counts["traces"].acked


_TRACER = trace.get_tracer("fault")


def span(name: str, size: int = 200) -> None:
    """One span whose line is about as long as asked."""
    value = "x" * min(size, 8000)
    attributes = {f"k{n}": value for n in range(max(1, size // 8000))}
    _TRACER.start_span(name, attributes=attributes).end()


def spans(who: str, count: int, first: int = 0, size: int = 200) -> None:
    for number in range(first, first + count):
        span(f"{who}-{number}", size)


def tell_ledger(rt: wiring.Runtime) -> None:
    """The ledger of this process, with what was handed in counted for itself."""
    assert rt.log is not None
    handed = sum(count.offered for count in rt.log.counts.values()) + rt.sink.failures.total()
    handed += rt.sink.spans.lost  # begun and not ended when their runtime was
    say(ledger={**rt.ledger().as_dict(), "handed": handed, "durability": rt.durability})


def until(true: Callable[[], bool], seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if true():
            return True
        time.sleep(0.01)
    return False


def in_child(run: Callable[[], None]) -> int:
    """Fork, and leave the child by `os._exit` when it has run."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        run()
        code = 0
    finally:
        os._exit(code)


# -- writing and being killed ---------------------------------------------------------------------
@program
def writes(
    home: str, who: str, endpoints: Mapping[str, str] | None = None, count: int = 0,
    threads: int = 1, sizes: tuple[int, ...] = (200,), pause: float = 0.0, **settings: Any,
) -> None:  # fmt: skip
    """Writes without end, or so many spans, and says what is acknowledged."""
    rt = begin(home, endpoints, **settings)

    def work(mine: str) -> None:
        number = 0
        while not count or number < count:
            span(f"{mine}-{number}", sizes[number % len(sizes)])
            number += 1
            if pause:
                time.sleep(pause)
            if threads == 1:
                say(acked=acked(rt))

    if threads == 1:
        work(who)
    else:
        several = [threading.Thread(target=work, args=(f"{who}.{n}",)) for n in range(threads)]
        for one in several:
            one.start()
        for one in several:
            one.join()
    rt.flush(10)
    tell_ledger(rt)
    rt.shutdown(5)
    tell_ledger(rt)


@program
def killed(
    home: str, kills: int, writers: int, sizes: tuple[int, ...] = SIZES, seed: int = 1,
    endpoints: Mapping[str, str] | None = None, least: float = 0.005, most: float = 0.06,
    **settings: Any,
) -> None:  # fmt: skip
    """Forks writers, kills each at a moment of chance, starts another, and says what each acked."""
    chance = random.Random(seed)
    living: dict[int, tuple[int, str, float]] = {}  # descriptor: pid, name, moment of its end
    done: dict[str, int] = {}
    started = 0

    def start() -> None:
        nonlocal started
        who = f"w{started}"
        started += 1
        read, write = os.pipe()

        def work() -> None:
            for other in living:
                os.close(other)
            rt = begin(home, endpoints, **settings)
            number = 0
            while True:  # lives are short, so each begins elsewhere among the sizes
                span(f"{who}-{number}", sizes[(number + 7 * int(who[1:])) % len(sizes)])
                number += 1
                os.write(write, acked(rt).to_bytes(8, "big"))

        pid = in_child(work)
        os.close(write)
        living[read] = (pid, who, time.monotonic() + 30)
        done[who] = 0

    def take(fd: int) -> bool:
        data = os.read(fd, 1 << 16)
        if data:
            pid, who, _ = living[fd]
            if not done[who]:  # its life is counted from its first word
                living[fd] = (pid, who, time.monotonic() + chance.uniform(least, most))
            done[who] = int.from_bytes(data[-8:], "big")
        return bool(data)

    for _ in range(writers):
        start()
    while kills > 0 or living:
        for fd in select.select(list(living), [], [], 0.002)[0]:
            take(fd)
        for fd, (pid, _, end) in list(living.items()):
            if time.monotonic() < end:
                continue
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            while take(fd):
                pass
            os.close(fd)
            del living[fd]
            kills -= 1
            if kills >= writers:
                start()
    say(done=done)


@program
def ends(
    home: str, who: str, how: str, count: int = 1000, endpoints: Mapping[str, str] | None = None,
    pause: float = 0.0, size: int = 200, each: bool = False, **settings: Any,
) -> None:  # fmt: skip
    """Writes so many spans, says what is acknowledged, and ends in one of many ways.

    Args:
        each: Whether it says so right behind each of them.
    """
    rt = begin(home, endpoints, **settings)
    handlers = (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT))
    if how == "handler":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
    if how == "late":
        import atexit

        atexit._run_exitfuncs  # noqa: B018 - the module's order is last in, first out
        tracer = trace.get_tracer("fault")
        open_span = tracer.start_span(f"{who}-{count}")
        atexit.register(open_span.end)
    for number in range(count):
        span(f"{who}-{number}", size)
        if each:
            say(each=acked(rt))
        if pause:
            time.sleep(pause)
    say(acked=acked(rt), durability=rt.durability, own_handlers=handlers == (
        signal.SIG_DFL, signal.default_int_handler))  # fmt: skip
    if how == "flush":
        say(flushed=rt.flush(10))
        tell_ledger(rt)
    elif how == "hear":
        hear()
        tell_ledger(rt)
    elif how == "os._exit":
        os._exit(0)
    elif how == "raise":
        raise RuntimeError("nobody catches this")
    elif how == "thread":
        one = threading.Thread(target=sys.exit, args=(5,))
        one.start()
        one.join()
    elif how in {"signal", "handler"}:
        signal.pause()
    say(leaving=time.monotonic())


@program
def leaves(home: str, count: int) -> None:
    """Ends spans as fast as it goes, says how old the oldest is that waits, and is gone."""
    rt = begin(home)
    moments: list[float] = []
    for number in range(count):
        span(f"a-{number}")
        moments.append(time.process_time())  # which does not go on while others have the machine
    durability, number = rt.durability, acked(rt)
    age = time.process_time() - moments[number] if number < count else 0.0
    say(acked=number, durability=durability, age=age)
    os._exit(0)


# -- disks ----------------------------------------------------------------------------------------
def mounted(home: str, size: str) -> None:
    """A small file system of our own; the process runs in a mount namespace of its own."""
    Path(home).mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", home], check=True)


def logged(home: str) -> list[str]:
    found = []
    for segment in segments.listed(Path(home), "traces"):
        for line in segment.path.read_bytes().splitlines(keepends=True):
            if line.endswith(b"\n"):
                for outer in json.loads(line)["resourceSpans"]:
                    for inner in outer["scopeSpans"]:
                        found += [one["name"] for one in inner["spans"]]
    return found


@program
def full_disk(home: str, endpoints: Mapping[str, str], mount: str, buffer_bytes: int) -> None:
    """Fills a small disk, writes on, makes room, and says what stands in the log in the end."""
    mounted(mount, "2m")
    rt = begin(home, endpoints, buffer_bytes=buffer_bytes)
    spans("a", 100)
    filler = Path(mount) / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    held = []
    for number in range(100, 400):
        before = time.monotonic()
        span(f"a-{number}")
        held.append(time.monotonic() - before)
    until(lambda: rt.log is not None and rt.log.trouble is not None)
    whole = all(s.path.read_bytes().endswith(b"\n") for s in segments.listed(Path(home), "traces"))
    tell_ledger(rt)
    say(
        waiting=rt.ledger().waiting, trouble=getattr(rt.log, "trouble", None), whole=whole,
        held=sorted(held)[len(held) // 2],
    )  # fmt: skip
    filler.unlink()
    back = until(lambda: rt.ledger().waiting == 0, 10)
    say(back=back, flushed=rt.flush(10))
    spans("b", 100)
    rt.shutdown(5)
    tell_ledger(rt)
    say(names=logged(home), acked=acked(rt))


@program
def overlaid(upper: str, work: str, lower: str, merged: str, number: int, **told: Any) -> None:
    """Starts so many writers into one home on an overlay of their own."""
    layers = f"lowerdir={lower},upperdir={upper},workdir={work}"
    subprocess.run(["mount", "-t", "overlay", "-o", layers, "overlay", merged], check=True)
    several = [
        subprocess.Popen([
            sys.executable, __file__, "writes",
            json.dumps({"home": f"{merged}/home", "who": f"c{n}", **told}),
        ])
        for n in range(number)
    ]  # fmt: skip
    say(codes=[one.wait() for one in several])


@program
def read_only(home: str, mount: str) -> None:
    """Writes while its place is taken by a read-only disk for a while."""
    mounted(mount, "8m")
    rt = begin(home)
    spans("a", 50)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "none", mount], check=True)
    time.sleep(0.6)  # the log looks every half second whether its file is still there
    spans("a", 50, 50)
    say(trouble=getattr(rt.log, "trouble", None), waiting=rt.ledger().waiting)
    subprocess.run(["umount", mount], check=True)
    back = until(lambda: rt.ledger().waiting == 0, 10)
    spans("a", 50, 100)
    rt.shutdown(5)
    tell_ledger(rt)
    say(back=back, names=logged(home))


@program
def limited(home: str) -> None:
    """Meets the limit of file sizes in the middle of a segment."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    rt = begin(home)
    spans("a", 200)
    rt.flush(5)
    tell_ledger(rt)
    rt.shutdown(5)
    tell_ledger(rt)
    say(acked=acked(rt))


@program
def removed(home: str, what: str) -> None:
    """Loses its home, its folder or its live segment while it writes."""
    rt = begin(home)
    spans("a", 50)
    if what == "home":
        shutil.rmtree(home)
    elif what == "segment":
        for one in segments.listed(Path(home), "traces"):
            one.path.unlink()
    elif what == "renamed":
        for one in segments.listed(Path(home), "traces"):
            one.path.rename(one.path.with_suffix(".jsonl.1"))
    elif what == "truncated":
        for one in segments.listed(Path(home), "traces"):
            os.truncate(one.path, 0)
    elif what == "blocked":
        shutil.rmtree(home)
        Path(home).write_text("a file where the home was", encoding="ascii")
    lost = time.monotonic()
    number = 50
    while time.monotonic() < lost + 1.0:
        span(f"a-{number}")
        number += 1
        time.sleep(0.02)
    say(trouble=getattr(rt.log, "trouble", None))
    if what == "blocked":
        Path(home).unlink()
        until(lambda: rt.ledger().waiting == 0, 10)
    spans("b", 50)
    rt.shutdown(5)
    tell_ledger(rt)
    say(last=number, names=logged(home))


@program
def nobody(home: str) -> None:
    """May not write where its home should be."""
    rt = begin(home)
    spans("a", 20)
    tell_ledger(rt)
    say(waiting=rt.ledger().waiting, degraded=bool(rt.degraded))
    hear()
    spans("b", 20)
    back = until(lambda: rt.ledger().waiting == 0, 10)
    rt.shutdown(5)
    tell_ledger(rt)
    say(back=back)


@program
def slow_disk(home: str, count: int, seconds: float) -> None:
    """Writes onto a disk that takes its time, and says how many writes the caller made itself."""
    real = os.write
    mine: list[int] = []

    def slow(fd: int, data: bytes) -> int:
        if data.startswith((b'{"resource', b'{"v"')):
            if threading.current_thread() is threading.main_thread():
                mine.append(len(data))
            time.sleep(seconds)
        return real(fd, data)

    os.write = slow
    rt = begin(home)
    for number in range(count):
        span(f"a-{number}")
        time.sleep(0.002)
    rt.shutdown(10)
    os.write = real
    tell_ledger(rt)
    say(mine=len(mine), acked=acked(rt))


@program
def interrupted(home: str, times: int, endpoints: Mapping[str, str]) -> None:
    """Writes while a signal handler raises, so many times, at moments of chance."""

    class Alarm(BaseException):  # like KeyboardInterrupt: nothing that swallows errors swallows it
        pass

    chance = random.Random(7)
    armed = False

    def ring(*_: object) -> None:
        nonlocal armed
        if armed:
            armed = False
            raise Alarm

    rt = begin(home, endpoints)
    signal.signal(signal.SIGALRM, ring)
    rung = 0
    finished: list[str] = []
    number = 0

    def go_on() -> None:
        nonlocal armed, number
        armed = True
        signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.00005, 0.002), 0.01)
        while armed:
            number += 1
            span(f"a-{number}")
            finished.append(f"a-{number}")

    while rung < times:
        try:
            go_on()
        except Alarm:
            rung += 1
    armed = False
    signal.setitimer(signal.ITIMER_REAL, 0)
    flushed = rt.flush(60)
    tell_ledger(rt)
    say(rung=rung, finished=len(finished), flushed=flushed)
    rt.shutdown(5)
    tell_ledger(rt)
    there = set(logged(home))
    say(missing=[name for name in finished if name not in there][:10])


@program
def reentrant(home: str, times: int, endpoints: Mapping[str, str], *, log: bool) -> None:
    """Ends spans in a signal handler and in finalisers, in the middle of others, so many each."""
    rt = begin(home, endpoints, log=log)
    ended = {"handler": 0, "finaliser": 0, "main": 0}
    ringing = False

    def ring(*_: object) -> None:
        nonlocal ringing
        if not ringing:
            ringing = True
            span(f"handler-{ended['handler']}")
            ended["handler"] += 1
            ringing = False

    class Abandoned:
        def __init__(self) -> None:
            self.me = self  # a cycle, so that only the collector finds it

        def __del__(self) -> None:
            span(f"finaliser-{ended['finaliser']}")
            ended["finaliser"] += 1

    gc.set_threshold(5, 2, 2)
    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0011)
    while min(ended.values()) < times:
        Abandoned()
        span(f"main-{ended['main']}")
        ended["main"] += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    gc.disable()
    flushed = rt.flush(60)
    tell_ledger(rt)
    say(ended=ended, flushed=flushed)
    rt.shutdown(5)
    tell_ledger(rt)


# -- forks and other processes --------------------------------------------------------------------
@program
def forks(home: str, count: int, threads: int, endpoints: Mapping[str, str] | None = None) -> None:
    """Forks many times while threads emit spans and metrics and hold every lock there is."""
    rt = begin(home, endpoints, metric_interval=50)
    meter = metrics.get_meter("fault")
    counter = meter.create_counter("forks")
    over = threading.Event()
    ended = [0] * threads

    def emit(mine: int) -> None:
        while not over.is_set():
            span(f"p{mine}-{ended[mine]}")
            ended[mine] += 1
            counter.add(1)
            meter.create_counter(f"c{ended[mine] % 50}").add(1)

    several = [threading.Thread(target=emit, args=(n,)) for n in range(threads)]
    for one in several:
        one.start()
    stuck = 0
    identities: set[str] = {rt.instance}
    for number in range(count):
        read, write = os.pipe()

        def child(number: int = number, write: int = write) -> None:
            signal.alarm(20)  # the watchdog: whoever waits for a lock for ever is killed
            spans(f"f{number}", 3)
            counter.add(1)
            metrics.get_meter("fault").create_counter(f"n{number}").add(1)
            if number % 10 == 0:
                rt.flush(2)
            os.write(write, f"{rt.instance} {acked(rt)}".encode())

        pid = in_child(child)
        os.close(write)
        heard = b""
        while data := os.read(read, 100):
            heard += data
        os.close(read)
        _, status = os.waitpid(pid, 0)
        stuck += status != 0
        identities.add(heard.decode().partition(" ")[0])
    over.set()
    for one in several:
        one.join()
    flushed = rt.flush(10)
    tell_ledger(rt)
    say(stuck=stuck, identities=len(identities), ended=ended, flushed=flushed)


@program
def hookless(home: str) -> None:
    """Forks where our hook does not run, as it does not for a fork inside a C library."""
    wiring._hooked = True  # as if it had been registered, which it is not
    rt = begin(home)
    spans("parent", 10)
    first = rt.instance

    def child() -> None:
        spans("child", 10)
        rt.flush(5)
        say(child=[rt.instance != first, acked(rt)])

    os.waitpid(in_child(child), 0)
    spans("parent", 10, 10)
    say(same=rt.instance == first)
    tell_ledger(rt)


def _task(name: str, each: int) -> int:
    spans(name, each)
    return os.getpid()


def _spawned(home: str, name: str, each: int) -> None:
    begin(home)
    spans(name, each)


@program
def processes(home: str, method: str, count: int, each: int) -> None:
    """Starts processes the way multiprocessing does, and a pool that ends each after one task.

    Args:
        each: Spans of each; far above two thousand, some wait in a batch when they are the last.
    """
    context: Any = multiprocessing.get_context(method)
    rt = begin(home)
    spans("parent", 10)
    if method == "fork":
        with context.Pool(2, maxtasksperchild=1) as pool:
            tasks = [(f"task{n}", each) for n in range(count)]
            pids = pool.starmap(_task, tasks, chunksize=1)
            pool.close()
            pool.join()
        say(workers=len(set(pids)))
        several = [context.Process(target=_task, args=(f"fork{n}", each)) for n in range(2)]
    else:
        several = [
            context.Process(target=_spawned, args=(home, f"{method}{n}", each))
            for n in range(count)
        ]
    for one in several:
        one.start()
    for one in several:
        one.join()
    say(codes=[one.exitcode for one in several])
    rt.shutdown(5)
    tell_ledger(rt)


@program
def served(home: str, workers: int, preload: bool) -> None:
    """A web server that forks its workers, after or before it has loaded the application."""
    os.environ["FAULT_HOME"] = home
    sys.path.insert(0, str(Path(__file__).parent))
    sys.argv = [
        "gunicorn", "--workers", str(workers), "--bind", "127.0.0.1:0", "--log-level", "info",
        "--graceful-timeout", "5", "--no-control-socket",
        *(["--preload"] if preload else []), "webapp:application",
    ]  # fmt: skip
    from gunicorn.app.wsgiapp import run

    run()


@program
def counted(home: str, endpoints: Mapping[str, str]) -> None:
    """Counts before and after a fork; a child must not count its parent's values again."""
    rt = begin(home, endpoints)
    counter = metrics.get_meter("fault").create_counter("seen")
    counter.add(5)
    rt.flush(5)

    def child() -> None:
        counter.add(2)
        wiring.shutdown(5)

    pid = in_child(child)
    os.waitpid(pid, 0)
    counter.add(1)
    rt.shutdown(5)
    say(done=True)


# -- many other things ----------------------------------------------------------------------------
@program
def owned(home: str, endpoints: Mapping[str, str], fork: bool = False) -> None:
    """Configures inside providers that the application has set before."""
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    resource = Resource.create({"service.name": "theirs"})
    memory, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracers = TracerProvider(resource=resource)
    tracers.add_span_processor(SimpleSpanProcessor(memory))
    meters = MeterProvider(metric_readers=[reader], resource=resource)
    loggers = LoggerProvider(resource=resource)
    trace.set_tracer_provider(tracers)
    metrics.set_meter_provider(meters)
    _logs.set_logger_provider(loggers)
    rt = begin(home, endpoints)
    spans("a", 20)
    metrics.get_meter("fault").create_counter("theirs").add(1)
    _logs.get_logger("fault").emit(body="said", severity_text="INFO")
    if fork:
        pid = in_child(lambda: spans("child", 5))
        os.waitpid(pid, 0)
    same = (
        trace.get_tracer_provider() is tracers and metrics.get_meter_provider() is meters
        and _logs.get_logger_provider() is loggers
    )  # fmt: skip
    say(same=same, acked=acked(rt), theirs=len(memory.get_finished_spans()))
    say(leaving=time.monotonic())


@program
def twice(home: str, endpoints: Mapping[str, str]) -> None:
    """Shuts down twice, configures twice, ends a span after the end."""
    rt = begin(home, endpoints)
    spans("a", 10)
    tracer = trace.get_tracer("fault")
    late = tracer.start_span("late")
    rt.shutdown(5)
    rt.shutdown(5)
    wiring.shutdown()
    late.end()
    tell_ledger(rt)
    again = begin(home, endpoints)
    spans("b", 10)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        third = begin(home, endpoints)
    spans("c", 10)
    say(warned=len(caught), flushed=third.flush(5), unconfigured=wiring.runtime() is third)
    tell_ledger(again)
    third.shutdown(5)
    tell_ledger(third)


@program
def memory_only(home: str, endpoints: Mapping[str, str], count: int, how: str) -> None:
    """Without a log: bounded queues, one for each backend."""
    rt = begin(home, endpoints, log=False, buffer_bytes=600_000)
    spans("a", count)
    if how == "flush":
        say(flushed=rt.flush(10))
        tell_ledger(rt)
    rt.shutdown(2)
    tell_ledger(rt)
    say(files=[str(path) for path in Path(home).rglob("*")] if Path(home).exists() else [])


def held() -> dict[str, int]:
    """How much of everything this process holds."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return {
        "rss": pages * os.sysconf("SC_PAGE_SIZE"),
        "files": len(os.listdir("/proc/self/fd")),  # noqa: PTH208
        "threads": len(os.listdir("/proc/self/task")),  # noqa: PTH208
    }


@program
def soak(home: str, endpoints: Mapping[str, str], seconds: float, rate: float) -> None:
    """Goes on at a pace with a dead backend, and says each minute how much of everything it has."""
    rt = begin(home, endpoints, ship_delay=1000)
    began = time.monotonic()
    number = 0
    minute = 0
    while (now := time.monotonic()) < began + seconds:
        if now >= began + 60 * minute:
            say(held=held(), minute=minute)
            minute += 1
        for _ in range(max(1, int((now - began) * rate) - number)):
            span(f"a-{number}")
            number += 1
        time.sleep(0.01)
    say(held=held(), minute=minute)
    say(count=number)
    rt.shutdown(2)
    tell_ledger(rt)


@program
def grows(
    home: str, endpoints: Mapping[str, str], parts: int, rounds: int, records: int
) -> None:  # fmt: skip
    """Does the same amount of work part by part, and says what it holds after each of them.

    A round is a number of records, one look at the home, and one try to send. Nobody waits for time
    to pass, so that a slow machine does as much as a quick one.
    """
    tail._MOST = 8 << 10  # so that the newest lines that memory holds are soon as many as they get
    rt = begin(
        home, endpoints, segment_bytes=100_000, backlog_max_bytes=400_000, log_max_bytes=1_000_000,
        timeout=0.05, batch_records=10, metric_interval=36_000_000,
    )  # fmt: skip
    (backend,) = rt.backends

    def tries() -> int:
        return sum(backend.shipping.retries.values())

    def quiet() -> bool:
        names = {thread.name for thread in threading.enumerate()}
        return rt.ledger().waiting == 0 and "otel-empathy-retention" not in names

    number = 0
    tracemalloc.start()
    for _ in range(parts):
        for _ in range(rounds):
            spans("a", records, number)
            number += records
            before = tries()
            backend._adopted_at = rt._retained = float("-inf")  # look around now
            backend.reset()
            assert until(lambda before=before: tries() > before, 60)
        assert until(quiet, 60)
        gc.collect()
        lines = tracemalloc.take_snapshot().statistics("lineno")
        living = {
            f"{Path(one.traceback[0].filename).name}:{one.traceback[0].lineno}":
                (one.count, one.size)
            for one in lines
        }  # fmt: skip
        say(held=held(), living=living)
        del lines, living
    tracemalloc.stop()
    rt.shutdown(2)
    tell_ledger(rt)


@program
def clocks(home: str, endpoints: Mapping[str, str]) -> None:
    """Steps the wall clock back and forth while it writes and ships, and while others are open."""
    from otel_empathy.core import clock

    real = clock.SystemClock.time_ns
    shift = 0
    clock.SystemClock.time_ns = staticmethod(lambda: real() + shift)  # type: ignore[method-assign]
    rt = begin(home, endpoints, segment_bytes=8192, ship_delay=10)
    hour, year = 3_600_000_000_000, 365 * 86_400_000_000_000
    steps = (0, hour, -hour, 20 * year, 0, 24 * hour, 0)
    for part, step in enumerate(steps):
        shift = step
        spans("a", 40, part * 40)
    # Begun before a step and ended behind it: least and most that each can have taken.
    kinds = {"agent": agent, "workflow": workflow, "tool": tool}
    lasted: dict[str, tuple[float, float]] = {}
    for kind, opened in kinds.items():
        for step in (hour, -hour, 20 * year, -20 * year):
            name = f"{kind} {step}"
            shift = 0
            before = time.monotonic()
            with opened(name=name):
                begun = time.monotonic()
                time.sleep(0.01)
                shift = step
                ending = time.monotonic()
            lasted[name] = (ending - begun, time.monotonic() - before)
    say(flushed=rt.flush(10), count=40 * len(steps), lasted=lasted)
    tell_ledger(rt)
    rt.shutdown(5)


@program
def burst(home: str, count: int, endpoints: Mapping[str, str], **settings: Any) -> None:
    """Ten times what it was made for, all at once."""
    rt = begin(home, endpoints, **settings)
    began = time.monotonic()
    spans("a", count)
    took = time.monotonic() - began
    flushed = rt.flush(15)
    tell_ledger(rt)
    say(flushed=flushed, took=took)
    rt.shutdown(5)
    tell_ledger(rt)


@program
def nasty(home: str, what: str) -> None:
    """Hands over values and callbacks that raise, recurse or hang."""
    rt = begin(home)
    tracer = trace.get_tracer("fault")

    class Text(str):
        __slots__ = ()

        def __str__(self) -> str:
            raise RuntimeError("no text")

        __repr__ = __str__

        def encode(self, *_: object, **__: object) -> bytes:
            raise RuntimeError("no bytes")

    class Number(int):
        def __index__(self) -> int:
            raise RuntimeError("no number")

        __int__ = __repr__ = __str__ = __index__  # type: ignore[assignment]

    class Odd:
        def __repr__(self) -> str:
            raise RuntimeError("no words")

        def __str__(self) -> str:
            return repr(self)

    loop: list[Any] = []
    loop.append(loop)
    deep: Any = "end"
    for _ in range(5000):
        deep = [deep]
    values: dict[str, Any] = {
        "text": Text("x"), "number": Number(5), "odd": Odd(), "loop": loop, "deep": deep,
        "nan": float("nan"), "surrogate": "a\ud800b", "huge": 1 << 200, "bytes": b"\xff\xfe",
        "long": "y" * 1_000_000, "many": ["z"] * 100_000, "none": None, "nul": "a\0b",
    }  # fmt: skip
    if what == "values":
        with safety.swallow():
            for key, value in values.items():
                one = tracer.start_span(f"a-{key}")
                with contextlib.suppress(Exception):  # the SDK itself refuses some of them
                    one.set_attribute(key, value)
                with contextlib.suppress(Exception):
                    one.add_event(key, {key: value})
                one.end()
                with contextlib.suppress(Exception):
                    _logs.get_logger("fault").emit(body=value, attributes={key: value})
    elif what == "callback":

        def hangs(_: object) -> Iterator[Any]:
            time.sleep(60)
            yield metrics.Observation(1)

        metrics.get_meter("fault").create_observable_gauge("hangs", [hangs])
        spans("a", 10)
    elif what == "raising":

        def raises(_: object) -> Iterator[Any]:
            raise RuntimeError("no value")

        metrics.get_meter("fault").create_observable_gauge("raises", [raises])
        metrics.get_meter("fault").create_counter("works").add(1)
        spans("a", 10)
        rt.flush(2)
    say(errors=sum(safety.errors.values()), failures=rt.sink.failures.total())
    tell_ledger(rt)
    say(leaving=time.monotonic())


@program
def broken_disk(home: str, how: str) -> None:
    """Writes through a shim that fails, tears and lies as a script says."""
    real = os.write
    chance = random.Random(3)
    broken = True

    def torn(fd: int, data: bytes) -> int:
        if not broken or not data.startswith(b'{"resource'):
            return real(fd, data)
        luck = chance.random()
        if luck < 0.2:
            raise OSError(errno.EIO, "the disk is broken")
        if luck < 0.4:
            real(fd, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "no space left")
        if luck < 0.6:
            return real(fd, data[: max(1, len(data) // 3)])
        return real(fd, data)

    os.write = torn
    if how == "untruncatable":

        def refuses(*_: object) -> None:
            raise OSError(errno.EIO, "cannot be cut")

        os.ftruncate = refuses
    rt = begin(home, segment_bytes=50_000)
    for number in range(300):
        span(f"a-{number}")
        time.sleep(0.001)
    broken = False
    until(lambda: rt.ledger().waiting == 0, 10)
    assert isinstance(rt.log, Log)
    rt.shutdown(5)
    tell_ledger(rt)
    say(acked=acked(rt))


if __name__ == "__main__":
    # A shell that starts us in the background has it ignored, which the program would inherit.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    PROGRAMS[sys.argv[1]](**json.loads(sys.argv[2]))
