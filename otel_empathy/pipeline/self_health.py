"""The fan-out's own metrics: the loss ledger under the standard names, read when collected.

A process that has recorded nothing reports nothing, so a bystander leaves no trace of itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial, reduce
from typing import Any, Protocol

from opentelemetry.metrics import CallbackOptions, Histogram, Meter, Observation
from opentelemetry.sdk.metrics import export
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from otel_empathy._version import __version__
from otel_empathy.core import semconv
from otel_empathy.core.semconv import Metric
from otel_empathy.emit import instruments, safety, values
from otel_empathy.pipeline import segments
from otel_empathy.pipeline.chunk import SIGNALS
from otel_empathy.pipeline.durations import Durations
from otel_empathy.pipeline.ledger import Count
from otel_empathy.pipeline.log import Log
from otel_empathy.pipeline.shipping import Plan
from otel_empathy.pipeline.writer import APPENDS

__all__ = ["CollectionTimes", "ExportTimes", "Watched", "leave", "watch"]

_LOG = {semconv.COMPONENT_TYPE: "empathy_log", semconv.COMPONENT_NAME: "empathy_log/log"}
_STATES = ("healthy", "retrying", "paused", "full")
_PROCESSED = {"traces": semconv.SPANS_PROCESSED, "logs": semconv.LOGS_PROCESSED}
_EXPORTED = {
    "traces": semconv.SPANS_EXPORTED,
    "logs": semconv.LOGS_EXPORTED,
    "metrics": semconv.POINTS_EXPORTED,
}
_INFLIGHT = {
    "traces": semconv.SPANS_INFLIGHT,
    "logs": semconv.LOGS_INFLIGHT,
    "metrics": semconv.POINTS_INFLIGHT,
}
_QUEUES = {"traces": semconv.SPAN_QUEUE_SIZE, "logs": semconv.LOG_QUEUE_SIZE}
_CAPACITIES = {"traces": semconv.SPAN_QUEUE_CAPACITY, "logs": semconv.LOG_QUEUE_CAPACITY}
_READER = {
    semconv.COMPONENT_TYPE: "periodic_metric_reader",
    semconv.COMPONENT_NAME: "periodic_metric_reader/log",
}
_MAKE = {
    "observable_counter": "create_observable_counter",
    "observable_updown": "create_observable_up_down_counter",
    "observable_gauge": "create_observable_gauge",
}

_SCOPE = InstrumentationScope(semconv.SCOPE_SDK, __version__, semconv.SCHEMA_SYSTEM)

Observe = Callable[["_Seen"], Iterable[Observation]]
ObserveOf = Callable[["_Seen", str], Iterable[Observation]]


class Watched(Protocol):
    """What is read of a runtime."""

    log: Any
    backends: Any
    sink: Any
    scrub: Any
    clock: Any
    evicted: Counter[str]
    providers: Any


def watch(runtime: Watched, meter: Meter) -> None:
    """Register every self-health instrument; what they tell is about this runtime from now on."""
    global _present  # noqa: PLW0603 - one runtime per process; instruments stay registered for ever
    _present = seen = _Seen(runtime)
    for row, observe in _ROWS:
        make = getattr(meter, _MAKE[row.kind])
        callback = partial(_report, observe)
        make(row.name, callbacks=[callback], unit=row.unit, description=row.description)
    reader = runtime.providers.reader
    reader.more = seen.appends
    reader.collected = CollectionTimes(runtime, meter).note


def leave(runtime: Watched) -> None:
    """Tell nothing any more about a runtime that is over."""
    global _present  # noqa: PLW0603 - see watch
    if _present is not None and _present.runtime is runtime:
        _present = None


def _report(observe: Observe, _: CallbackOptions) -> list[Observation]:
    seen = _present
    if seen is not None:
        with safety.guarded("sample"):
            if _used(seen.runtime):
                return list(observe(seen))
    return []


def _histogram(meter: Meter, row: Metric) -> Histogram:
    return meter.create_histogram(
        row.name,
        unit=row.unit,
        description=row.description,
        explicit_bucket_boundaries_advisory=row.buckets,
    )


class ExportTimes:
    """How long exports took with their retries, and what was wrong with them in the end."""

    def __init__(self, meter: Meter) -> None:
        self._histogram = _histogram(meter, semconv.EXPORT_DURATION)

    def note(self, plan: Plan, seconds: float, error: str | None) -> None:
        """Note one export."""
        labels = _component(plan)
        if error is not None:
            labels[semconv.ERROR_TYPE] = error
        self._histogram.record(seconds, labels)


class CollectionTimes:
    """How long the collections of metrics took; a process that recorded nothing has none."""

    def __init__(self, runtime: Watched, meter: Meter) -> None:
        self._runtime = runtime
        self._histogram = _histogram(meter, semconv.COLLECTION_DURATION)

    def note(self, seconds: float) -> None:
        """Note one collection."""
        if _used(self._runtime):
            self._histogram.record(seconds, _READER)


def _used(runtime: Watched) -> bool:
    counts: Iterable[Count] = runtime.log.counts.values() if runtime.log is not None else ()
    return any(count.offered for count in counts)


class _Seen:
    """The present figures of a runtime, as observations."""

    def __init__(self, runtime: Watched) -> None:
        self.runtime = runtime

    def started(self) -> Iterator[Observation]:
        spans = self.runtime.sink.spans
        for origin, decision in spans.started:
            yield Observation(
                spans.started[origin, decision],
                {semconv.PARENT_ORIGIN: origin, semconv.SAMPLING_RESULT: decision},
            )

    def live(self) -> Iterator[Observation]:
        for decision, number in self.runtime.sink.spans.live.items():
            yield Observation(number, {semconv.SAMPLING_RESULT: decision})

    def created(self) -> Iterator[Observation]:
        yield Observation(self.runtime.sink.logs_created[None], {})

    def processed(self, signal: str) -> Iterator[Observation]:
        count: Count = self.runtime.log.counts[signal]
        yield Observation(count.acked, _LOG)
        dropped = Counter(count.dropped)
        dropped["encode_error"] += self.runtime.sink.failures[signal]
        if signal == "traces":
            dropped["sampled"] += self.runtime.sink.spans.unsampled
        for reason, lost in dropped.items():
            if lost:
                shown = "already_shutdown" if reason == "shutdown" else reason
                yield Observation(lost, {**_LOG, semconv.ERROR_TYPE: shown})

    def exported(self, signal: str) -> Iterator[Observation]:
        for backend in self.runtime.backends:
            component = _component(backend.plan)
            for (one, reason), count in list(backend.shipping.exported.items()):
                if one == signal and count:
                    error = {semconv.ERROR_TYPE: reason} if reason else {}
                    yield Observation(count, {**component, **error})

    def inflight(self, signal: str) -> Iterator[Observation]:
        for backend in self.runtime.backends:
            if signal in backend.plan.signals:
                yield Observation(backend.inflight[signal], _component(backend.plan))

    def queue(self, signal: str) -> Iterator[Observation]:
        yield Observation(self.runtime.log.counts[signal].waiting, _LOG)

    def capacity(self, signal: str) -> Iterator[Observation]:
        log = self.runtime.log
        if isinstance(log, Log):
            writer = log.writers[signal]
            if writer.size:
                room = log.options.buffer_bytes * writer.count.acked // writer.size
                yield Observation(room, _LOG)

    def backlog(self) -> Iterator[Observation]:
        for backend in self.runtime.backends:
            for signal in backend.plan.signals:
                acked = self.runtime.log.counts[signal].acked
                yield Observation(
                    max(0, acked - backend.shipping.settled_own[signal]),
                    {semconv.BACKEND_NAME: backend.name, semconv.LOG_SIGNAL: signal},
                )

    def lag(self) -> Iterator[Observation]:
        now = self.runtime.clock.time_ns()
        for backend in self.runtime.backends:
            for signal in backend.plan.signals:
                oldest = backend.oldest(signal)
                yield Observation(
                    0.0 if oldest is None else max(0, now - oldest) / 1e9,
                    {semconv.BACKEND_NAME: backend.name, semconv.LOG_SIGNAL: signal},
                )

    def states(self) -> Iterator[Observation]:
        for backend in self.runtime.backends:
            for state in _STATES:
                yield Observation(
                    int(backend.state == state),
                    {semconv.BACKEND_NAME: backend.name, semconv.BACKEND_STATE: state},
                )

    def retries(self) -> Iterator[Observation]:
        for backend in self.runtime.backends:
            for error, count in list(backend.shipping.retries.items()):
                yield Observation(
                    count, {semconv.BACKEND_NAME: backend.name, semconv.ERROR_TYPE: error}
                )

    def size(self) -> Iterator[Observation]:
        return self._on_disk(lambda found: sum(one.size for one in found))

    def number(self) -> Iterator[Observation]:
        return self._on_disk(len)

    def _on_disk(self, measure: Callable[[list[segments.Segment]], int]) -> Iterator[Observation]:
        home = getattr(self.runtime.log, "home", None)
        if home is None:
            return
        for signal in SIGNALS:
            found = segments.listed(home, signal)
            yield Observation(measure(found), {semconv.LOG_SIGNAL: signal})

    def skipped(self) -> Iterator[Observation]:
        for backend in self.runtime.backends:
            yield from _counted(backend.shipping.skipped, semconv.LOG_REASON)

    def evicted(self) -> Iterator[Observation]:
        return _counted(self.runtime.evicted, semconv.LOG_SIGNAL)

    def truncations(self) -> Iterator[Observation]:
        found = Counter(dict(self.runtime.sink.limits.counters))
        found.update(dict(values.truncations))  # those before a record was made
        return _counted(found, semconv.SDK_LIMIT)

    def overflows(self) -> Iterator[Observation]:
        return _counted(instruments.overflows, semconv.SDK_INSTRUMENT)

    def scrubs(self) -> Iterator[Observation]:
        return _counted(self.runtime.scrub.hits, semconv.SDK_PATTERN)

    def errors(self) -> Iterator[Observation]:
        for (site, kind), count in list(safety.errors.items()):
            yield Observation(count, {semconv.SDK_SITE: site, semconv.ERROR_TYPE: kind})

    def appends(self) -> Iterator[export.ScopeMetrics]:
        """How long appends took: too many of them for an instrument of the SDK."""
        log = self.runtime.log
        if not isinstance(log, Log):
            return
        now = self.runtime.clock.time_ns()
        points = []
        for durability in APPENDS:
            times = [writer.appends[durability] for writer in log.writers.values()]
            whole = reduce(Durations.plus, times)
            if sum(whole.counts):
                points.append(_point(whole, {semconv.LOG_DURABILITY: durability}, now))
        if points:
            row = semconv.LOG_WRITE_DURATION
            data = export.Histogram(points, export.AggregationTemporality.CUMULATIVE)
            metric = export.Metric(row.name, row.description, row.unit, data)
            yield export.ScopeMetrics(_SCOPE, [metric], semconv.SCHEMA_SYSTEM)


def _point(times: Durations, attributes: dict[str, str], now: int) -> export.HistogramDataPoint:
    return export.HistogramDataPoint(
        attributes=attributes,
        start_time_unix_nano=times.since,
        time_unix_nano=now,
        count=sum(times.counts),
        sum=times.total,
        bucket_counts=times.counts,
        explicit_bounds=semconv.LOCAL_SECONDS,
        min=times.shortest,
        max=times.longest,
    )


def _component(plan: Plan) -> dict[str, str]:
    kind = plan.component
    return {semconv.COMPONENT_TYPE: kind, semconv.COMPONENT_NAME: f"{kind}/{plan.name}"}


def _counted(counter: Counter[str], key: str) -> Iterator[Observation]:
    for name, count in list(counter.items()):
        yield Observation(count, {key: name})


def _of(signal: str, observe: ObserveOf) -> Observe:
    return lambda seen: observe(seen, signal)


def _each(rows: Mapping[str, Metric], observe: ObserveOf) -> Iterator[tuple[Metric, Observe]]:
    """A row for each signal."""
    return ((row, _of(signal, observe)) for signal, row in rows.items())


_ROWS: tuple[tuple[Metric, Observe], ...] = (
    (semconv.SPANS_STARTED, _Seen.started),
    (semconv.SPANS_LIVE, _Seen.live),
    (semconv.LOGS_CREATED, _Seen.created),
    *_each(_PROCESSED, _Seen.processed),
    *_each(_EXPORTED, _Seen.exported),
    *_each(_INFLIGHT, _Seen.inflight),
    *_each(_QUEUES, _Seen.queue),
    *_each(_CAPACITIES, _Seen.capacity),
    (semconv.BACKEND_BACKLOG, _Seen.backlog),
    (semconv.BACKEND_LAG, _Seen.lag),
    (semconv.BACKEND_STATES, _Seen.states),
    (semconv.BACKEND_RETRIES, _Seen.retries),
    (semconv.LOG_SIZE, _Seen.size),
    (semconv.LOG_SEGMENTS, _Seen.number),
    (semconv.LOG_SKIPPED, _Seen.skipped),
    (semconv.LOG_EVICTED, _Seen.evicted),
    (semconv.SDK_ERRORS, _Seen.errors),
    (semconv.SDK_TRUNCATIONS, _Seen.truncations),
    (semconv.SDK_OVERFLOWS, _Seen.overflows),
    (semconv.SDK_SCRUBS, _Seen.scrubs),
)
_present: _Seen | None = None
