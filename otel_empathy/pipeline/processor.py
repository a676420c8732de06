"""The ends of the SDK's three pipelines: a record that is finished goes into the log at once.

What is offered is encoded in the thread that finished it and handed to the log; nothing here waits
for a network, and nothing here raises into the program.
"""

from __future__ import annotations

import os
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from threading import get_ident
from typing import Any, Final, Protocol

from opentelemetry.context import Context
from opentelemetry.sdk._logs import LogRecordProcessor, ReadWriteLogRecord
from opentelemetry.sdk.metrics.export import MetricReader, MetricsData, ScopeMetrics
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext

from otel_empathy.core.clock import SYSTEM
from otel_empathy.emit import context as emit_context
from otel_empathy.emit import safety, spans
from otel_empathy.pipeline import encode_json, inside
from otel_empathy.pipeline.bell import Bell
from otel_empathy.pipeline.tally import Tally

__all__ = [
    "DROPPED",
    "RECORDED",
    "SAMPLED",
    "LogProcessor",
    "LogReader",
    "Sink",
    "SpanCounts",
    "TraceProcessor",
]

_GUARD = safety.guarded("export")
DROPPED: Final = "DROP"
RECORDED: Final = "RECORD_ONLY"
SAMPLED: Final = "RECORD_AND_SAMPLE"
# Spans that were counted as lost when their runtime ended. They may end yet, while another runtime
# is on, which must not take them then: they would be counted twice.
_lost: set[int] = set()
_LEAVE = 1.5  # seconds that an application's provider waits for us when it shuts down
_MOST_OPEN = 100_000  # open spans that are known by their id; a program may end none of its spans
_LINE = 256 * 1024  # half a line of the log, so that resource and scope fit beside it


class Appender(Protocol):
    """What takes encoded records: the log, or memory when there is none."""

    def append(self, signal: str, resource: bytes, scope: bytes, body: bytes, count: int) -> None:
        """Take one encoded record."""
        ...


class Sink:
    """Where finished records go: encoded, and handed to the log of the present process.

    Args:
        limits: Budgets, scrubber and content rule of the encoder.
        identity: Resource attributes that describe the present process, renewed after a fork; empty
            when the application owns the resource.
        events: The same as `limits` for log records, where another content rule holds for them.
    """

    def __init__(
        self,
        limits: encode_json.Limits,
        identity: Mapping[str, Any],
        *,
        events: encode_json.Limits | None = None,
    ) -> None:
        self.limits = limits
        self.events = events or limits
        self.identity = dict(identity)
        self.out: Appender | None = None
        self.pid = os.getpid()
        self.reborn: Callable[[], None] | None = None
        self.failures: Counter[str] = Counter()
        self.spans = SpanCounts()
        self.logs_created: Tally[None] = Tally()
        self.noted: Callable[[], None] | None = None  # called when something was counted here
        self._late: deque[tuple[str, bytes, bytes, bytes, int]] = deque()
        self._resources: dict[int, tuple[Resource, bytes]] = {}
        self._scopes: dict[int, tuple[InstrumentationScope, bytes]] = {}

    def renew(self, identity: Mapping[str, Any]) -> None:
        """Take on the identity of a child process."""
        self.identity = dict(identity)
        known = self.spans.open if self.pid == os.getpid() else {}
        self.pid = os.getpid()
        self.failures = Counter()
        self.spans = SpanCounts()
        self.spans.open = known
        self.logs_created = Tally()
        self._late = deque()
        self._resources = {}

    def resource(self, resource: Resource) -> bytes:
        """The encoded resource, made once per resource."""
        known = self._resources.get(id(resource))
        if known is not None and known[0] is resource:
            return known[1]
        attributes = {**resource.attributes, **self.identity}
        made = encode_json.resource(attributes, resource.schema_url or None, self.limits)
        if len(self._resources) > 100:  # noqa: PLR2004 - resources are made anew by few programs
            self._resources.clear()
        self._resources[id(resource)] = (resource, made)
        return made

    def scope(self, scope: InstrumentationScope) -> bytes:
        """The encoded scope, made once per scope."""
        known = self._scopes.get(id(scope))
        if known is not None and known[0] is scope:
            return known[1]
        made = encode_json.scope(scope, self.limits)
        if len(self._scopes) > 1000:  # noqa: PLR2004 - scopes are made anew by few programs
            self._scopes.clear()
        self._scopes[id(scope)] = (scope, made)
        return made

    def take(self, signal: str, record: Any, encode: Callable[..., bytes]) -> None:
        """Encode one span or log record and hand it on; a record that cannot be is counted."""
        out = self.out
        if out is None:
            return
        if self.pid != os.getpid() and self.reborn is not None:
            self.reborn()
            out = self.out
            if out is None:
                return
        try:
            body = encode(record, self.events if signal == "logs" else self.limits)
            resource = self.resource(record.resource)
            scope = self.scope(record.instrumentation_scope)
        except Exception as error:
            self.failures[signal] += 1
            safety.tell("serialize", error)
            if self.noted is not None:
                self.noted()
            if safety.reraise():
                raise
            return
        self.put(signal, resource, scope, body, 1)

    def put(self, signal: str, resource: bytes, scope: bytes, body: bytes, count: int) -> None:
        """Hand on an encoded record; one that comes up inside another waits for its end."""
        out = self.out
        me = get_ident()
        if me in inside.threads:
            self._late.append((signal, resource, scope, body, count))
            return
        try:
            inside.threads.add(me)
            with _GUARD:
                if out is not None:
                    out.append(signal, resource, scope, body, count)
                if self._late:
                    self.catch_up()
        finally:
            inside.threads.discard(me)

    def catch_up(self) -> None:
        """Hand on what came up inside."""
        out = self.out
        while out is not None:
            try:
                late = self._late.popleft()
            except IndexError:
                return
            out.append(*late)


class SpanCounts:
    """How many spans were started and ended, by what the sampler said, and which are open."""

    __slots__ = ("ended", "lost", "open", "started")

    def __init__(self) -> None:
        self.started: Tally[tuple[str, str]] = Tally()
        """By the origin of the parent (`none`, `local`, `remote`) and the sampler's decision."""
        self.ended: Tally[str] = Tally()
        """By the sampler's decision."""
        self.open: dict[int, bool] = {}
        """Sampled spans that have not ended, by their id."""
        self.lost = 0
        """Sampled spans that were open when the runtime ended."""

    def start(self, parent: SpanContext | None, decision: str) -> None:
        """Count a span that starts."""
        origin = "none" if parent is None else "remote" if parent.is_remote else "local"
        self.started.up((origin, decision))

    def lose(self) -> None:
        """Count what is open as lost: nobody will write it any more.

        A span that ends in another thread just now is either taken there or counted here.
        """
        for span_id in list(self.open):
            _lost.add(span_id)
            if self.open.pop(span_id, None) is None:
                _lost.discard(span_id)
            else:
                self.lost += 1

    @property
    def live(self) -> dict[str, int]:
        """Recorded spans that have not ended, by the sampler's decision."""
        ended = {decision: self.ended[decision] for decision in (RECORDED, SAMPLED)}
        begun = dict.fromkeys(ended, 0)
        for key in self.started:
            if key[1] in begun:
                begun[key[1]] += self.started[key]
        # A span may have begun before us, or in the parent of this process.
        return {one: max(0, begun[one] - ended[one]) for one in ended if begun[one]}

    @property
    def unsampled(self) -> int:
        """Spans that the sampler keeps from the log."""
        dropped = (self.started[key] for key in self.started if key[1] == DROPPED)
        return sum(dropped) + self.ended[RECORDED]


class TraceProcessor(SpanProcessor):
    """Stamps spans with what the context says, and logs them when they end."""

    def __init__(self, sink: Sink, flush: Callable[[float], bool]) -> None:
        self._sink = sink
        self._flush = flush

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Give every span of a run its run, session and user, whichever library opened it."""
        decision = _decision(span)
        counts = self._sink.spans
        counts.start(span.parent, decision)
        if decision is SAMPLED and span.context is not None and len(counts.open) < _MOST_OPEN:
            counts.open[span.context.span_id] = True
        with safety.guarded("callback"):
            known = emit_context.inherited(parent_context)
            if known:
                present = span.attributes or {}
                span.set_attributes({k: v for k, v in known.items() if k not in present})

    def on_end(self, span: ReadableSpan) -> None:
        """Log a sampled span."""
        decision = _decision(span)
        counts = self._sink.spans
        if span.context is not None:
            span_id = span.context.span_id
            if counts.open.pop(span_id, None) is None and span_id in _lost:
                _lost.discard(span_id)
                return
        counts.ended.up(decision)
        if decision is SAMPLED:
            self._sink.take("traces", span, encode_json.span)

    def shutdown(self) -> None:
        """Ship what can be shipped; the log stays open for spans that end later."""
        self._flush(_LEAVE)

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Ship what is in the log."""
        return self._flush(timeout_millis / 1000)


def _decision(span: ReadableSpan) -> str:
    return SAMPLED if span.context is not None and span.context.trace_flags.sampled else RECORDED


class LogProcessor(LogRecordProcessor):
    """Logs log records, which is what events are."""

    def __init__(self, sink: Sink, flush: Callable[[float], bool]) -> None:
        self._sink = sink
        self._flush = flush

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        """Log a record."""
        self._sink.logs_created.up(None)
        self._sink.take("logs", log_record, encode_json.log_record)

    def shutdown(self) -> None:
        """Ship what can be shipped."""
        self._flush(_LEAVE)

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Ship what is in the log."""
        return self._flush(timeout_millis / 1000)


class LogReader(MetricReader):
    """Collects all metrics, cumulative, and logs them; its thread starts on first use.

    Args:
        sink: Where points go.
        interval: Seconds between two collections.
        flush: Ships what is in the log.
    """

    def __init__(self, sink: Sink, interval: float, flush: Callable[[float], bool]) -> None:
        super().__init__()
        self._sink = sink
        self._interval = interval
        self._flush = flush
        self._over = threading.Event()
        self._wake = Bell()
        self._wanted: deque[Bell] = deque()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self.more: Callable[[], Iterable[ScopeMetrics]] | None = None
        """Metrics that no instrument of the SDK carries."""
        self.collected: Callable[[float], None] | None = None
        """Learns how long each collection took."""

    def begin(self) -> None:
        """Start collecting; called when the process first uses telemetry."""
        if self._thread is not None or self._over.is_set():
            return
        with self._lock:
            if self._thread is None:
                thread = threading.Thread(
                    target=self._run, name="otel-empathy-metrics", daemon=True
                )
                self._thread = thread
                try:
                    thread.start()
                except RuntimeError:  # too late for threads; shutdown still collects once
                    self._thread = None

    @property
    def stuck(self) -> bool:
        """Whether a collection that somebody waited for in vain is still under way."""
        return bool(self._wanted)

    def gather(self, timeout: float = 10.0) -> bool:
        """Collect once, now; a callback of the application that hangs is left at the limit."""
        thread = self._thread
        if thread is None or not thread.is_alive():
            self._gather(timeout)
            return True
        if self.stuck:
            return False
        done = Bell()
        self._wanted.append(done)
        self._wake.ring()
        return done.wait(timeout)

    def _gather(self, timeout: float = 10.0) -> None:
        if self._collect is not None:
            with safety.guarded("sample"):
                spans.reap()  # streams that were dropped are told while they are news
                begin = SYSTEM.monotonic()
                self.collect(timeout_millis=timeout * 1000)
                if self.collected is not None:
                    self.collected(SYSTEM.monotonic() - begin)

    def _run(self) -> None:
        while not self._over.is_set():
            self._wake.wait(self._interval)
            waiting = len(self._wanted)
            if waiting or not self._over.is_set():
                self._gather()
            for _ in range(waiting):
                self._wanted.popleft().ring()

    def _receive_metrics(
        self,
        metrics_data: MetricsData,
        timeout_millis: float = 10_000,  # noqa: ARG002 - the SDK's signature
        **_: Any,
    ) -> None:
        sink = self._sink
        if sink.out is None:
            return
        if self.more is not None:
            metrics_data = _joined(metrics_data, self.more())
        for resource, scope, schema, rows in encode_json.metrics(metrics_data, sink.limits):
            where = sink.resource(resource)
            what = (
                sink.scope(scope)
                if schema == scope.schema_url
                else encode_json.scope(scope, sink.limits)
            )
            for body, points in _gathered(rows):
                sink.put("metrics", where, what, body, points)

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Collect, and ship what is in the log."""
        return self._flush(timeout_millis / 1000)

    def end(self) -> None:
        """Stop the thread; it may be inside somebody's callback, so nobody waits for it."""
        self._over.set()
        self._wake.ring()

    def shutdown(
        self,
        timeout_millis: float = 30_000,  # noqa: ARG002 - the SDK's signature
        **_: Any,
    ) -> None:
        """Collect once more, ship what can be shipped, and stop collecting."""
        if not self._over.is_set():  # the SDK also shuts a reader down that it only removes
            self._flush(_LEAVE)
            self.end()


def _joined(data: MetricsData, more: Iterable[ScopeMetrics]) -> MetricsData:
    """Collected metrics with more of them under the first resource, which is this process."""
    first, *others = data.resource_metrics
    scopes = [*first.scope_metrics, *more]
    return MetricsData([replace(first, scope_metrics=scopes), *others])


def _gathered(rows: list[tuple[bytes, int]]) -> Iterator[tuple[bytes, int]]:
    """The metrics of one scope, in as few records as fit into a line."""
    bodies: list[bytes] = []
    size = points = 0
    for body, count in rows:
        if not count:
            continue
        if bodies and size + len(body) > _LINE:
            yield b",".join(bodies), points
            bodies, size, points = [], 0, 0
        bodies.append(body)
        size += len(body)
        points += count
    if bodies:
        yield b",".join(bodies), points
