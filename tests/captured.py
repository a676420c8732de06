"""Everything that the sources emit, kept in memory by the real SDK, without global providers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import AlwaysOnExemplarFilter, MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler

from otel_empathy.emit import instruments, safety
from otel_empathy.emit.live import live


class Counting(SpanProcessor):
    """Counts the spans that were started and not ended."""

    def __init__(self) -> None:
        self.open: set[int] = set()

    def on_start(self, span: Span, parent_context: Any = None) -> None:
        self.open.add(span.context.span_id)

    def on_end(self, span: ReadableSpan) -> None:
        self.open.remove(span.context.span_id)


class Captured:
    """Providers in memory, and short ways to what they got."""

    def __init__(self, sampler: Sampler = ALWAYS_ON) -> None:
        resource = Resource({})
        self.counting = Counting()
        self._spans = InMemorySpanExporter()
        self.tracers = TracerProvider(sampler, resource, shutdown_on_exit=False)
        self.tracers.add_span_processor(self.counting)
        self.tracers.add_span_processor(SimpleSpanProcessor(self._spans))
        self._reader = InMemoryMetricReader()
        self.meters = MeterProvider(
            [self._reader],
            resource=resource,
            exemplar_filter=AlwaysOnExemplarFilter(),
            shutdown_on_exit=False,
        )
        self._logs = InMemoryLogRecordExporter()
        self.loggers = LoggerProvider(resource=resource, shutdown_on_exit=False)
        self.loggers.add_log_record_processor(SimpleLogRecordProcessor(self._logs))

    def install(self, **fields: Any) -> None:
        live.install(
            tracer=self.tracers.get_tracer("otel_empathy"),
            meter=self.meters.get_meter("otel_empathy"),
            logger=self.loggers.get_logger("otel_empathy"),
            **fields,
        )

    @property
    def open(self) -> int:
        """Spans that have not ended."""
        return len(self.counting.open)

    @property
    def spans(self) -> list[ReadableSpan]:
        """Ended spans, in the order in which they ended."""
        return list(self._spans.get_finished_spans())

    def span(self, name: str) -> ReadableSpan:
        """The only ended span of that name."""
        found = [span for span in self.spans if span.name == name]
        assert len(found) == 1, [span.name for span in self.spans]
        return found[0]

    @property
    def names(self) -> list[str]:
        return [span.name for span in self.spans]

    @property
    def events(self) -> list[tuple[str, dict[str, Any]]]:
        """Events, oldest first: name and attributes."""
        return [(r.event_name, dict(r.attributes)) for r in self.records]

    @property
    def records(self) -> list[Any]:
        return [data.log_record for data in self._logs.get_finished_logs()]

    def event(self, name: str) -> dict[str, Any]:
        """The attributes of the only event of that name."""
        found = [attributes for known, attributes in self.events if known == name]
        assert len(found) == 1, self.events
        return found[0]

    def metrics(self) -> dict[str, list[Any]]:
        """The data points of every instrument since the start, by its name."""
        data = self._reader.get_metrics_data()
        found: dict[str, list[Any]] = {}
        for resource in data.resource_metrics if data else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    found[metric.name] = list(metric.data.data_points)
        return found

    def points(self, name: str) -> list[tuple[dict[str, Any], float]]:
        """Attributes and value (of a histogram: the sum) of an instrument's points."""
        return [
            (dict(p.attributes), p.sum if hasattr(p, "sum") else p.value)
            for p in self.metrics().get(name, [])
        ]

    def clear(self) -> None:
        self._spans.clear()
        self._logs.clear()


@contextmanager
def capturing(*, sampler: Sampler = ALWAYS_ON, **fields: Any) -> Iterator[Captured]:
    """Telemetry on, into memory; off and forgotten afterwards."""
    made = Captured(sampler)
    instruments.forget()
    safety.errors.clear()
    made.install(**fields)
    try:
        yield made
    finally:
        live.remove()
        instruments.forget()
        made.tracers.shutdown()
        made.meters.shutdown()
        made.loggers.shutdown()
