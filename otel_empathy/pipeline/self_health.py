"""The fan-out's own metrics: the loss ledger under the standard names, read when collected.

A process that has recorded nothing reports nothing, so a bystander leaves no trace of itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from otel_empathy.core import semconv
from otel_empathy.core.semconv import Metric
from otel_empathy.emit import instruments, safety
from otel_empathy.pipeline import segments
from otel_empathy.pipeline.chunk import SIGNALS
from otel_empathy.pipeline.ledger import Count

__all__ = ["Watched", "watch"]

_LOG = {semconv.COMPONENT_TYPE: "empathy_log", semconv.COMPONENT_NAME: "empathy_log/log"}
_STATES = ("healthy", "retrying", "paused", "full")
_PROCESSED = {"traces": semconv.SPANS_PROCESSED, "logs": semconv.LOGS_PROCESSED}
_EXPORTED = {
    "traces": semconv.SPANS_EXPORTED,
    "logs": semconv.LOGS_EXPORTED,
    "metrics": semconv.POINTS_EXPORTED,
}
_MAKE = {
    "observable_counter": "create_observable_counter",
    "observable_updown": "create_observable_up_down_counter",
    "observable_gauge": "create_observable_gauge",
}

Observe = Callable[[], Iterable[Observation]]


class Watched(Protocol):
    """What is read of a runtime."""

    @property
    def log(self) -> Any:
        """The log, or what stands in for it."""
        ...

    @property
    def backends(self) -> tuple[Any, ...]:
        """The backends."""
        ...

    @property
    def sink(self) -> Any:
        """Where records are encoded."""
        ...

    @property
    def scrub(self) -> Any:
        """The scrubber."""
        ...


def watch(runtime: Watched, meter: Meter) -> None:
    """Register every self-health instrument that is read on collection."""

    def offered() -> bool:
        counts: Iterable[Count] = runtime.log.counts.values() if runtime.log is not None else ()
        return any(count.offered for count in counts)

    def register(row: Metric, observe: Observe) -> None:
        def callback(_: CallbackOptions) -> list[Observation]:
            with safety.guarded("sample"):
                if offered():
                    return list(observe())
            return []

        make = getattr(meter, _MAKE[row.kind])
        make(row.name, callbacks=[callback], unit=row.unit, description=row.description)

    def processed(signal: str) -> Observe:
        def observe() -> Iterator[Observation]:
            count: Count = runtime.log.counts[signal]
            yield Observation(count.acked, _LOG)
            dropped = Counter(count.dropped)
            dropped["encode_error"] += runtime.sink.failures[signal]
            for reason, lost in dropped.items():
                if lost:
                    shown = "already_shutdown" if reason == "shutdown" else reason
                    yield Observation(lost, {**_LOG, semconv.ERROR_TYPE: shown})

        return observe

    def exported(signal: str) -> Observe:
        def observe() -> Iterator[Observation]:
            for backend in runtime.backends:
                for (one, reason), count in list(backend.exported.items()):
                    if one == signal and count:
                        error = {semconv.ERROR_TYPE: reason} if reason else {}
                        yield Observation(count, {**component(backend), **error})

        return observe

    def component(backend: Any) -> dict[str, str]:
        kind = backend.plan.component
        return {
            semconv.COMPONENT_TYPE: kind,
            semconv.COMPONENT_NAME: f"{kind}/{backend.name}",
        }

    for signal, row in _PROCESSED.items():
        register(row, processed(signal))
    for signal, row in _EXPORTED.items():
        register(row, exported(signal))

    def queue() -> Iterator[Observation]:
        yield Observation(runtime.log.counts["traces"].waiting, _LOG)

    def backlog() -> Iterator[Observation]:
        for backend in runtime.backends:
            for signal in backend.plan.signals:
                behind = runtime.log.counts[signal].acked - backend.settled_own[signal]
                yield Observation(
                    max(0, behind),
                    {semconv.BACKEND_NAME: backend.name, semconv.LOG_SIGNAL: signal},
                )

    def states() -> Iterator[Observation]:
        for backend in runtime.backends:
            for state in _STATES:
                yield Observation(
                    int(backend.state == state),
                    {semconv.BACKEND_NAME: backend.name, semconv.BACKEND_STATE: state},
                )

    def retries() -> Iterator[Observation]:
        for backend in runtime.backends:
            for error, count in list(backend.retries.items()):
                yield Observation(
                    count, {semconv.BACKEND_NAME: backend.name, semconv.ERROR_TYPE: error}
                )

    def on_disk(measure: Callable[[list[segments.Segment]], int]) -> Observe:
        def observe() -> Iterator[Observation]:
            home = getattr(runtime.log, "home", None)
            if home is None:
                return
            for signal in SIGNALS:
                found = segments.listed(home, signal)
                yield Observation(measure(found), {semconv.LOG_SIGNAL: signal})

        return observe

    def errors() -> Iterator[Observation]:
        for (site, kind), count in list(safety.errors.items()):
            yield Observation(count, {semconv.SDK_SITE: site, semconv.ERROR_TYPE: kind})

    def counted(counter: Callable[[], Counter[str]], key: str) -> Observe:
        def observe() -> Iterator[Observation]:
            for name, count in list(counter().items()):
                yield Observation(count, {key: name})

        return observe

    register(semconv.SPAN_QUEUE_SIZE, queue)
    register(semconv.BACKEND_BACKLOG, backlog)
    register(semconv.BACKEND_STATES, states)
    register(semconv.BACKEND_RETRIES, retries)
    register(semconv.LOG_SIZE, on_disk(lambda found: sum(s.size for s in found)))
    register(semconv.LOG_SEGMENTS, on_disk(len))
    register(semconv.SDK_ERRORS, errors)
    register(
        semconv.SDK_TRUNCATIONS, counted(lambda: runtime.sink.limits.counters, semconv.SDK_LIMIT)
    )
    register(semconv.SDK_OVERFLOWS, counted(lambda: instruments.overflows, semconv.SDK_INSTRUMENT))
    register(semconv.SDK_SCRUBS, counted(lambda: runtime.scrub.hits, semconv.SDK_PATTERN))
