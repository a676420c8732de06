"""`configure()`, `flush()`, `shutdown()`: the only place where the layers meet.

One runtime per process holds the log, the backends and what the sources emit through. A forked
child gets all of it anew: its own identity, segments, queues and threads, started when first used.
"""

from __future__ import annotations

import atexit
import math
import os
import sys
import threading
import uuid
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, final

from otel_empathy._version import __version__
from otel_empathy.core import semconv
from otel_empathy.core.clock import SYSTEM, Clock
from otel_empathy.core.errors import SettingError, WrongType, WrongValue
from otel_empathy.core.identity import UserHash
from otel_empathy.core.prices import Prices
from otel_empathy.core.scrub import Scrubber
from otel_empathy.core.settings import Settings
from otel_empathy.emit import safety
from otel_empathy.emit.live import live
from otel_empathy.pipeline import inside, retention, segments, self_health
from otel_empathy.pipeline.backends import Backend
from otel_empathy.pipeline.cursor import Position
from otel_empathy.pipeline.encode_json import Limits
from otel_empathy.pipeline.inside import Inside
from otel_empathy.pipeline.ledger import Balance, Record
from otel_empathy.pipeline.log import Jsonl, Log, Options
from otel_empathy.pipeline.memory import Memory
from otel_empathy.pipeline.otlp import Console, Otlp
from otel_empathy.pipeline.plans import BackendValue, checked, environment_backends, plans
from otel_empathy.pipeline.processor import Sink
from otel_empathy.pipeline.providers import Providers
from otel_empathy.pipeline.shipping import Plan

__all__ = ["Runtime", "configure", "flush", "runtime", "shutdown"]

_RETAIN_EVERY = 60.0
_EXIT = 1.8  # seconds that the end of a program may take longer because of us
_UNHEALTHY_WAIT = 1.0  # seconds that an exit waits for a backend that is known to be in trouble


@final
class Runtime:
    """What one `configure()` set up; also a context manager that shuts it down.

    Args:
        settings: Every setting, decided.
        backends: Where to ship to.
        clock: Time.
    """

    def __init__(
        self, settings: Settings, backends: Sequence[Otlp | Console | Any], *, clock: Clock = SYSTEM
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.on = not settings.sdk_disabled
        self.home: Path = settings.home
        self.instance = str(uuid.uuid4())
        self.degraded: str | None = None
        self.log: Log | Memory | None = None
        self.backends: tuple[Backend, ...] = ()
        self._plans: tuple[Plan, ...] = ()
        self._record: Record | None = None
        self._recorded: tuple[Counter[str], int, bool] = (Counter(), 0, False)
        self.evicted: Counter[str] = Counter()
        self.replaced = False
        self.inherited: dict[int, bool] = {}  # open spans of the runtime that this one replaces
        self._retained = float("-inf")
        self._ended = threading.Lock()  # taken once, and never waited for: a handler may come in
        if self.on:
            self._check(backends)

    def __enter__(self) -> Runtime:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.shutdown()

    # -- setting up -------------------------------------------------------------------------------

    def _check(self, backends: Sequence[Otlp | Console | Any]) -> None:
        """Refuse what cannot be used, before anything is touched.

        Raises:
            SettingError: A value cannot be used.
        """
        settings = self.settings
        self._plans = plans(backends, settings, self.clock)
        self._prices = _prices(settings)
        if settings.host:
            warnings.warn(
                "host=True: this version has no gauges of the machine; leave it out",
                RuntimeWarning,
                stacklevel=4,
            )
        if settings.log:
            try:
                segments.make_home(self.home, unsafe=settings.unsafe_home)
            except OSError as error:
                # A home that cannot be written must not stop the program: records wait in memory,
                # and the log says so when the first one comes.
                self.degraded = str(error)

    def start(self) -> None:
        """Join the providers, and let the sources emit."""
        if not self.on:
            return
        settings = self.settings
        scrub = Scrubber()
        self.scrub = scrub
        self.hash_user = UserHash(settings.secret_file or self.home / "secret")
        limits = Limits(
            scrub=scrub,
            pair=scrub.pair,
            drop=frozenset() if settings.capture.spans else semconv.CONTENT,
        )
        events = replace(limits, drop=frozenset() if settings.capture.events else semconv.CONTENT)
        self.sink = Sink(limits, {}, events=events)
        self.sink.spans.open = self.inherited
        self.sink.reborn = self.reborn
        self.sink.noted = self._noted
        self.providers = Providers(
            service=settings.service,
            sink=self.sink,
            interval=settings.metric_interval,
            flush=self.flush,
        )
        resource = getattr(self.providers.tracers, "resource", self.providers.resource)
        self.service = str(
            settings.service or resource.attributes.get(semconv.SERVICE_NAME) or "unknown"
        )
        self._compare(resource.attributes.get(semconv.SERVICE_NAME))
        meter = self.providers.meter(semconv.SCOPE_SDK, __version__, semconv.SCHEMA_SYSTEM)
        self._export_times = self_health.ExportTimes(meter)
        self._identify()
        self._open()
        providers = self.providers
        live.install(
            tracer=providers.tracers.get_tracer(
                semconv.SCOPE, __version__, schema_url=semconv.SCHEMA_GENAI
            ),
            meter=providers.meter(semconv.SCOPE, __version__, semconv.SCHEMA_GENAI),
            logger=providers.loggers.get_logger(
                semconv.SCOPE, __version__, schema_url=semconv.SCHEMA_GENAI
            ),
            capture=settings.capture,
            emit_event=settings.capture.events
            if settings.emit_event is None
            else settings.emit_event,
            stacktraces=settings.stacktraces,
            profile=settings.genai_metrics,
            cost_names=settings.cost_names,
            propagate=settings.propagate,
            prices=self._prices,
            hash_user=self.hash_user,
            user=settings.user,
            scrub=scrub,
            scrub_value=scrub.value,
            clock=self.clock,
        )
        self_health.watch(self, meter)

    def _compare(self, applied: Any) -> None:
        """Say that a service was asked for which the application's own provider does not carry."""
        asked = self.settings.service
        given = self.settings.source("service") == "argument"
        if given and not self.providers.owns_tracers and applied not in {None, asked}:
            warnings.warn(
                f"service={asked!r}: the application's tracer provider says {applied!r}, and its "
                "spans are sent so; name the service in its Resource, or call configure() first",
                RuntimeWarning,
                stacklevel=4,
            )

    def _identify(self, parent: str | None = None) -> None:
        """Say who this process is, in the resource of providers that are ours."""
        providers = self.providers
        if providers.owns_tracers and providers.owns_meters and providers.owns_loggers:
            found = providers.tracers.resource.attributes.get(semconv.SERVICE_INSTANCE_ID)
            if isinstance(found, str) and _is_uuid(found) and found != parent:
                self.instance = found
            identity: dict[str, Any] = {
                semconv.SERVICE_INSTANCE_ID: self.instance,
                semconv.PROCESS_PID: os.getpid(),
            }
            if self.settings.service:
                identity[semconv.SERVICE_NAME] = self.settings.service
            self.sink.renew(identity)
        else:
            self.sink.renew({})

    def _open(self) -> None:
        """Make the log and the backends; neither opens a file or starts a thread yet."""
        settings = self.settings
        self.backends = tuple(
            Backend(
                plan,
                home=self.home if settings.log else None,
                records=settings.batch_records,
                delay=settings.ship_delay,
                cap=settings.backlog_max_bytes,
                buffer=settings.buffer_bytes,
                sync=settings.fsync == 0,
                clock=self.clock,
                measure=self._export_times.note,
            )
            for plan in self._plans
        )
        if not settings.log:
            self.log = Memory(self.backends)
            self.sink.out = self.log
            return
        log = Log(
            self.home,
            service=self.service,
            instance=self.instance,
            options=Options(
                segment_bytes=settings.segment_bytes,
                line_records=settings.batch_records,
                buffer_bytes=settings.buffer_bytes,
                fsync=settings.fsync,
                tail=bool(self.backends),
            ),
            clock=self.clock,
            on_rotate=self._retain,
        )
        log.listeners = self.backends
        log.on_open = self._first
        log.on_tick = self._tick
        self.log = log
        self.sink.out = log

    def _first(self) -> None:
        """The log opens a segment: sign our file of the ledger and start who waits for records."""
        log = self.log
        assert isinstance(log, Log)
        if self._record is None:
            record = Record(
                instance=log.instance,
                service=self.service,
                pid=os.getpid(),
                began_ns=self.clock.time_ns(),
                backends=tuple(plan.name for plan in self._plans),
            )
            while not record.open(self.home):
                record.instance = log.instance = str(uuid.uuid4())
            self._record = record
        for backend in self.backends:
            backend.begin(log)
        self.providers.reader.begin()

    def _tick(self) -> None:
        """Keep our file of the ledger in step; drops are rare, so this seldom writes."""
        record, log = self._record, self.log
        if record is None or log is None:
            return
        leased = isinstance(log, Log) and log.leased
        known = self._dropped(), log.waiting, leased
        if known == self._recorded:
            return
        record.dropped, record.waiting, record.leased = known
        record.durability = log.durability
        with safety.guarded("export"):
            record.save()
            self._recorded = known

    def _noted(self) -> None:
        if isinstance(self.log, Log):
            self.log.tick()

    def _retain(self) -> None:
        now = self.clock.monotonic()
        if now - self._retained < _RETAIN_EVERY:
            return
        self._retained = now

        def run() -> None:
            with safety.guarded("export"):
                removed = retention.retain(
                    self.home,
                    days=self.settings.retention_days,
                    max_bytes=self.settings.log_max_bytes,
                    clock=self.clock,
                )
                self.evicted.update(removed.evicted)

        thread = threading.Thread(target=run, name="otel-empathy-retention", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # too late for threads; the next process cleans up
            self._retained = float("-inf")

    # -- in use -----------------------------------------------------------------------------------

    def flush(self, timeout: float = 3.0) -> bool:
        """Ship everything that was acknowledged before the call to every healthy backend.

        Returns:
            Whether that was done within the timeout.
        """
        log = self.log
        if not self.on or log is None or self._ended.locked():
            return True
        timeout = _waited("flush", timeout)
        deadline = self.clock.monotonic() + timeout
        self.providers.reader.gather(timeout)
        with Inside():
            self.sink.catch_up()
            done = self._settle(log, deadline)
        self.sink.catch_up()
        return done

    def _settle(self, log: Log | Memory, deadline: float) -> bool:
        written = True
        ends: dict[str, Position] = {}
        if isinstance(log, Log):
            written = log.flush(max(0.0, deadline - self.clock.monotonic()))
            for signal, writer in log.writers.items():
                # While a line is being written, name and offset may belong to two segments.
                if not writer.io.acquire(timeout=max(0.0, deadline - self.clock.monotonic())):
                    written = False
                    continue
                try:
                    if writer.name is not None:
                        ends[signal] = Position(writer.name.seq, writer.offset)
                finally:
                    writer.io.release()
        anything = any(count.acked for count in log.counts.values())
        waiting = [backend for backend in self.backends if backend.begun or anything]
        for backend in self.backends:
            backend.hurry()
        done = [backend.settled(ends, deadline) for backend in waiting]
        return written and all(done)

    def ledger(self) -> Balance:
        """The exact counts of this process."""
        balance = Balance()
        log = self.log
        if log is None:
            return balance
        for signal, count in log.counts.items():
            if count.acked:
                balance.acked[signal] = count.acked
        balance.dropped = self._dropped()
        balance.waiting = log.waiting
        for backend in self.backends:
            owed = sum(n for signal, n in balance.acked.items() if signal in backend.plan.signals)
            balance.backends[backend.name] = backend.balance(owed)
        return balance

    def _dropped(self) -> Counter[str]:
        dropped = Counter(self.log.dropped) if self.log is not None else Counter()
        if self.sink.failures:
            dropped["encode_error"] += self.sink.failures.total()
        if unsampled := self.sink.spans.unsampled:
            dropped["sampled"] += unsampled
        if lost := self.sink.spans.lost:
            dropped["shutdown"] += lost
        return dropped

    @property
    def durability(self) -> str:
        """`sync`, `batched` or `memory`."""
        return self.log.durability if self.log is not None else "memory"

    # -- ending and forking -----------------------------------------------------------------------

    def shutdown(self, timeout: float = 3.0) -> None:
        """Ship what can be shipped in time and let go of everything; the rest stays in the log.

        Spans that are open are given up, and counted as such.
        """
        global _runtime  # noqa: PLW0603 - one runtime per process
        timeout = _waited("shutdown", timeout)
        if not self.on or not self._ended.acquire(blocking=False):
            if _runtime is self:
                _runtime = None
            return
        begin = self.clock.monotonic()
        deadline = begin + timeout
        self.providers.reader.gather(timeout / 2)
        live.remove()
        self.providers.leave()
        self_health.leave(self)
        if not self.replaced:
            self.sink.spans.lose()
        with Inside():
            self.sink.catch_up()
            self._end(begin, deadline)
        atexit.unregister(self.shutdown)
        if _runtime is self:
            _runtime = None

    def _end(self, begin: float, deadline: float) -> None:
        log = self.log
        if isinstance(log, Log):
            log.flush(max(0.0, deadline - self.clock.monotonic()))
        for backend in self.backends:
            wait = min(deadline, begin + _UNHEALTHY_WAIT) if backend.troubled else deadline
            backend.stop(wait)
        for backend in self.backends:
            backend.join()
        self.sink.catch_up()
        self.sink.out = None
        if isinstance(log, Log):
            log.close(max(0.2, deadline - self.clock.monotonic()))
        else:
            for backend in self.backends:
                backend.forget()
        self._tick()
        if self._record is not None:
            with safety.guarded("export"):
                self._record.close()

    def before_fork(self) -> list[Any]:
        """Wait until no thread is just opening a file, so that a child inherits known files."""
        writers = self.log.writers.values() if isinstance(self.log, Log) else ()
        locks: list[Any] = [
            *(writer.io for writer in writers),
            *(one.lanes.taking for one in self.backends),
        ]
        return [lock for lock in locks if lock.acquire(timeout=0.05)]

    def reborn(self) -> None:
        """Start anew in a child process: the parent owns what it had."""
        log, record = self.log, self._record
        if isinstance(log, Log):
            log.abandon()
        for backend in self.backends:
            backend.abandon()
        if record is not None and record.fd >= 0:
            os.close(record.fd)
        self._record = None
        self._recorded = (Counter(), 0, False)
        self.evicted = Counter()
        inside.threads.clear()  # its threads are the parent's
        self._ended = threading.Lock()
        self._retained = float("-inf")
        parent, self.instance = self.instance, str(uuid.uuid4())
        self.providers.renew()
        self._identify(parent)
        self._open()
        util = sys.modules.get("multiprocessing.util")
        if util is not None:
            # A multiprocessing child leaves by os._exit after its finalizers, and forgets those it
            # inherited; this runs after it has forgotten.
            util.register_after_fork(self, Runtime._finalize)

    def _finalize(self) -> None:
        from multiprocessing.util import Finalize  # noqa: PLC0415 - only where it is in use

        Finalize(None, self.shutdown, args=(_EXIT,), exitpriority=0)


_runtime: Runtime | None = None
_hooked = False
_held: list[Any] = []
_configuring = threading.RLock()  # two calls at once would both join the providers


def configure(
    *,
    service: str | None = None,
    home: str | Path | None = None,
    backends: Iterable[BackendValue] | None = None,
    log: bool | Jsonl = True,
    capture: Any = None,
    host: bool | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Runtime:
    """Switch telemetry on: into the log, and from there to the backends.

        with otel_empathy.configure(service="shop", backends=[Otlp("http://localhost:4318")]):
            main()

    Args:
        service: Name of the service.
        home: Folder of the log.
        backends: Where to ship to; None takes what the standard variables name.
        log: Whether there is a log, or how it is kept.
        capture: Where message content may go.
        host: Reserved for gauges of the machine, of which this version has none.
        settings: Any other row of the settings table, by name.

    Raises:
        SettingError: A value cannot be used; nothing was changed.
    """
    global _runtime  # noqa: PLW0603 - one runtime per process
    arguments: dict[str, Any] = dict(settings or {})
    named = {"service": service, "home": home, "capture": capture, "host": host}
    arguments.update({name: value for name, value in named.items() if value is not None})
    given = checked(backends) if backends is not None else None
    if not isinstance(log, (bool, Jsonl)):
        raise WrongType(f"log={log!r}: must be True, False or Jsonl(…)")
    jsonl = [one for one in (log, *(given or ())) if isinstance(one, Jsonl)]
    for value in jsonl:
        arguments.update(
            fsync="never" if value.fsync is None else value.fsync,
            log_max_bytes=value.keep,
            retention_days=value.days,
        )
        if value.home is not None:
            arguments["home"] = value.home
    if log is False and not jsonl:
        arguments["log"] = False
    elif jsonl:
        arguments["log"] = True
    decided = Settings.load(**arguments)
    chosen = (
        environment_backends(decided)
        if given is None
        else [one for one in given if not isinstance(one, Jsonl)]
    )
    with _configuring:
        made = Runtime(decided, chosen)
        if _runtime is not None:
            warnings.warn(
                "configure() was called again: the new settings replace the earlier ones",
                RuntimeWarning,
                stacklevel=2,
            )
            if _runtime.on and made.on:
                _runtime.replaced, made.inherited = True, _runtime.sink.spans.open
            _runtime.shutdown()
        made.start()
        _runtime = made
        if made.on:
            atexit.register(made.shutdown, _EXIT)
            _hook(made)
    return made


def runtime() -> Runtime | None:
    """The runtime of this process, or None before `configure()` and after `shutdown()`."""
    return _runtime


def flush(timeout: float = 3.0) -> bool:
    """Ship everything that was acknowledged before the call; True when unconfigured."""
    return _runtime.flush(timeout) if _runtime is not None else True


def shutdown(timeout: float = 3.0) -> None:
    """End telemetry; a program that just ends needs no call."""
    if _runtime is not None:
        _runtime.shutdown(timeout)


def _prices(settings: Settings) -> Prices:
    """The price table; a file that only the environment names must not stop the program."""
    try:
        return Prices.bundled(settings.prices)
    except SettingError as error:
        if settings.source("prices") == "argument":
            raise
        warnings.warn(f"{error}; the bundled prices apply", RuntimeWarning, stacklevel=4)
        return Prices.bundled()


def _waited(what: str, timeout: Any) -> float:
    """A caller's timeout, no longer than the interpreter can wait.

    Raises:
        WrongType: It is no number.
        WrongValue: It is none that time can reach.
    """
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise WrongType(f"{what}: timeout={timeout!r} must be a number of seconds")
    if math.isnan(timeout):
        raise WrongValue(f"{what}: timeout={timeout!r} must be a number of seconds")
    return min(max(0.0, timeout), threading.TIMEOUT_MAX / 4)


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def _hook(made: Runtime) -> None:
    """Follow forks, once per process; registered after the SDK's own hooks, which run first."""
    global _hooked  # noqa: PLW0603 - hooks cannot be taken back
    util = sys.modules.get("multiprocessing.util")
    process = sys.modules.get("multiprocessing.process")
    if util is not None and process is not None and process.parent_process() is not None:
        util.Finalize(None, made.shutdown, args=(_EXIT,), exitpriority=0)
    if _hooked or not hasattr(os, "register_at_fork"):
        return
    _hooked = True
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_in_parent, after_in_child=_after_in_child
    )


def _before_fork() -> None:
    if _runtime is not None and _runtime.on:
        _held.extend(_runtime.before_fork())


def _after_in_parent() -> None:
    while _held:
        _held.pop().release()


def _after_in_child() -> None:
    global _configuring  # noqa: PLW0603 - another thread of the parent may hold it
    _configuring = threading.RLock()
    _held.clear()
    if _runtime is not None and _runtime.on:
        with safety.guarded("callback"):
            _runtime.reborn()
