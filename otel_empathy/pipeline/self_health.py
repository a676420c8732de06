"""The fan-out's own metrics: the loss ledger under the standard names, read when collected.

A process that has recorded nothing reports nothing, so a bystander leaves no trace of itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, Protocol

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from otel_empathy.core import semconv
from otel_empathy.core.semconv import Metric
from otel_empathy.emit import instruments, safety
from otel_empathy.pipeline import segments
from otel_empathy.pipeline.chunk import SIGNALS
from otel_empathy.pipeline.ledger import Count, read_evicted
from otel_empathy.pipeline.shipping import Plan

__all__ = ["ExportTimes", "Watched", "watch"]

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
_MAKE = {
    "observable_counter": "create_observable_counter",
    "observable_updown": "create_observable_up_down_counter",
    "observable_gauge": "create_observable_gauge",
}

Observe = Callable[[], Iterable[Observation]]


class Watched(Protocol):
    """What is read of a runtime."""

    log: Any
    backends: Any
    sink: Any
    scrub: Any


def watch(runtime: Watched, meter: Meter) -> None:
    """Register every self-health instrument that is read on collection."""
    seen = _Seen(runtime)
    rows: list[tuple[Metric, Observe]] = [
        *((row, partial(seen.processed, signal)) for signal, row in _PROCESSED.items()),
        *((row, partial(seen.exported, signal)) for signal, row in _EXPORTED.items()),
        *((row, partial(seen.inflight, signal)) for signal, row in _INFLIGHT.items()),
        *((row, partial(seen.queue, signal)) for signal, row in _QUEUES.items()),
        (semconv.BACKEND_BACKLOG, seen.backlog),
        (semconv.BACKEND_STATES, seen.states),
        (semconv.BACKEND_RETRIES, seen.retries),
        (semconv.LOG_SIZE, partial(seen.on_disk, lambda found: sum(s.size for s in found))),
        (semconv.LOG_SEGMENTS, partial(seen.on_disk, len)),
        (semconv.LOG_EVICTED, seen.evicted),
        (semconv.SDK_ERRORS, seen.errors),
        (
            semconv.SDK_TRUNCATIONS,
            lambda: _counted(runtime.sink.limits.counters, semconv.SDK_LIMIT),
        ),
        (semconv.SDK_OVERFLOWS, lambda: _counted(instruments.overflows, semconv.SDK_INSTRUMENT)),
        (semconv.SDK_SCRUBS, lambda: _counted(runtime.scrub.hits, semconv.SDK_PATTERN)),
    ]
    for row, observe in rows:
        make = getattr(meter, _MAKE[row.kind])
        callback = partial(seen.report, observe)
        make(row.name, callbacks=[callback], unit=row.unit, description=row.description)


class ExportTimes:
    """How long exports took with their retries, and what was wrong with them in the end."""

    def __init__(self, meter: Meter) -> None:
        row = semconv.EXPORT_DURATION
        self._histogram = meter.create_histogram(
            row.name,
            unit=row.unit,
            description=row.description,
            explicit_bucket_boundaries_advisory=row.buckets,
        )

    def note(self, plan: Plan, seconds: float, error: str | None) -> None:
        """Note one export."""
        labels = _component(plan)
        if error is not None:
            labels[semconv.ERROR_TYPE] = error
        self._histogram.record(seconds, labels)


class _Seen:
    """The present figures of a runtime, as observations."""

    def __init__(self, runtime: Watched) -> None:
        self._runtime = runtime

    def report(self, observe: Observe, _: CallbackOptions) -> list[Observation]:
        with safety.guarded("sample"):
            log = self._runtime.log
            counts: Iterable[Count] = log.counts.values() if log is not None else ()
            if any(count.offered for count in counts):
                return list(observe())
        return []

    def processed(self, signal: str) -> Iterator[Observation]:
        count: Count = self._runtime.log.counts[signal]
        yield Observation(count.acked, _LOG)
        dropped = Counter(count.dropped)
        dropped["encode_error"] += self._runtime.sink.failures[signal]
        for reason, lost in dropped.items():
            if lost:
                shown = "already_shutdown" if reason == "shutdown" else reason
                yield Observation(lost, {**_LOG, semconv.ERROR_TYPE: shown})

    def exported(self, signal: str) -> Iterator[Observation]:
        for backend in self._runtime.backends:
            component = _component(backend.plan)
            for (one, reason), count in list(backend.shipping.exported.items()):
                if one == signal and count:
                    error = {semconv.ERROR_TYPE: reason} if reason else {}
                    yield Observation(count, {**component, **error})

    def inflight(self, signal: str) -> Iterator[Observation]:
        for backend in self._runtime.backends:
            if signal in backend.plan.signals:
                yield Observation(backend.inflight[signal], _component(backend.plan))

    def queue(self, signal: str) -> Iterator[Observation]:
        yield Observation(self._runtime.log.counts[signal].waiting, _LOG)

    def backlog(self) -> Iterator[Observation]:
        for backend in self._runtime.backends:
            for signal in backend.plan.signals:
                acked = self._runtime.log.counts[signal].acked
                yield Observation(
                    max(0, acked - backend.shipping.settled_own[signal]),
                    {semconv.BACKEND_NAME: backend.name, semconv.LOG_SIGNAL: signal},
                )

    def states(self) -> Iterator[Observation]:
        for backend in self._runtime.backends:
            for state in _STATES:
                yield Observation(
                    int(backend.state == state),
                    {semconv.BACKEND_NAME: backend.name, semconv.BACKEND_STATE: state},
                )

    def retries(self) -> Iterator[Observation]:
        for backend in self._runtime.backends:
            for error, count in list(backend.shipping.retries.items()):
                yield Observation(
                    count, {semconv.BACKEND_NAME: backend.name, semconv.ERROR_TYPE: error}
                )

    def on_disk(self, measure: Callable[[list[segments.Segment]], int]) -> Iterator[Observation]:
        home = getattr(self._runtime.log, "home", None)
        if home is None:
            return
        for signal in SIGNALS:
            found = segments.listed(home, signal)
            yield Observation(measure(found), {semconv.LOG_SIGNAL: signal})

    def evicted(self) -> Iterator[Observation]:
        home = getattr(self._runtime.log, "home", None)
        if home is not None:
            yield from _counted(
                Counter(signal for signal, _ in read_evicted(home)), semconv.LOG_SIGNAL
            )

    def errors(self) -> Iterator[Observation]:
        for (site, kind), count in list(safety.errors.items()):
            yield Observation(count, {semconv.SDK_SITE: site, semconv.ERROR_TYPE: kind})


def _component(plan: Plan) -> dict[str, str]:
    kind = plan.component
    return {semconv.COMPONENT_TYPE: kind, semconv.COMPONENT_NAME: f"{kind}/{plan.name}"}


def _counted(counter: Counter[str], key: str) -> Iterator[Observation]:
    for name, count in list(counter.items()):
        yield Observation(count, {key: name})
