"""Ended spans, log records and metrics as OTLP-JSON bytes.

One object is at most one line's worth, on one line. Spans and log records are read through their
public properties only, metrics by what their kinds have, so that other classes than the SDK's can
stand in for them. What may leave, and how much of it, is decided in `values`; where the bytes go is
not known here; protobuf is made from them in `encode_proto`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from opentelemetry.trace import INVALID_SPAN_CONTEXT, SpanKind

from otel_empathy.core import semconv
from otel_empathy.pipeline import values
from otel_empathy.pipeline.chunk import Chunk, Signal
from otel_empathy.pipeline.values import SAFE_KEYS, Limits, Note, double, dropped, name, text

if TYPE_CHECKING:
    from opentelemetry.sdk._logs import ReadableLogRecord, ReadWriteLogRecord
    from opentelemetry.sdk.metrics.export import Metric, MetricsData
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import Event, ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import Link, SpanContext

__all__ = [
    "SAFE_KEYS",
    "Limits",
    "log_record",
    "metrics",
    "request",
    "resource",
    "scope",
    "span",
]

# A record, the resource, the scope and the frame of a line stay below 512 KiB together.
_RECORD = 500 * 1024
_METRIC = 256 * 1024
_RESOURCE = 6 * 1024
_SCOPE = 2 * 1024
_SCOPE_NAME = 256
_SCOPE_VERSION = 64
_SCHEMA = 256
_REMOTE_KNOWN = 0x100
_REMOTE = 0x200
_KINDS = {kind: kind.value + 1 for kind in SpanKind}


# -- spans ----------------------------------------------------------------------------------------
def span(span: ReadableSpan, limits: Limits) -> bytes:
    """An ended span as one JSON object that begins with its trace id."""
    note = Note()
    context = span.get_span_context() or INVALID_SPAN_CONTEXT
    parent = span.parent
    fragments, lost = values.attributes(span.attributes, limits, note)
    state = _state(context, limits, note) if context.trace_state else b""
    behind = _behind(span, lost, limits, note)
    title = name(span.name, limits, note)
    if note.cut:
        values.mark(fragments, span.attributes)
    raw = (
        b'{"traceId":"%032x","spanId":"%016x"%b%b,"flags":%d,"name":%b,"kind":%d,'
        b'"startTimeUnixNano":"%d","endTimeUnixNano":"%d","attributes":[%b]%b}'
    ) % (
        context.trace_id,
        context.span_id,
        state,
        b"" if parent is None else b',"parentSpanId":"%016x"' % parent.span_id,
        _flags(parent),
        title,
        _kind(span),
        span.start_time or 0,
        span.end_time or 0,
        b",".join(fragments),
        behind,
    )
    return values.fitted(raw, _RECORD, limits)


def _kind(span: ReadableSpan) -> int:
    """The kind; a call that a local cache answered asked nobody, which is known only at its end."""
    kind = span.kind
    if kind is SpanKind.CLIENT and (span.attributes or {}).get(semconv.CALL_CACHE_HIT):
        kind = SpanKind.INTERNAL
    return _KINDS[kind]


def _behind(span: ReadableSpan, lost: int, limits: Limits, note: Note) -> bytes:
    """The members that stand behind the attributes, where a span has them."""
    raw = b""
    if lost := lost + _before(span.dropped_attributes, limits, note):
        raw = dropped(lost)
    if events := span.events:
        raw += b',"events":[%b]' % b",".join([_event(event, limits, note) for event in events])
    if count := _before(span.dropped_events, limits, note):
        raw += b',"droppedEventsCount":%d' % count
    if links := span.links:
        raw += b',"links":[%b]' % b",".join([_link(link, limits, note) for link in links])
    if count := _before(span.dropped_links, limits, note):
        raw += b',"droppedLinksCount":%d' % count
    status = span.status
    if status.is_unset and not status.description:
        return raw
    code = status.status_code.value
    if status.description:
        message = text(status.description, limits, note)
        return raw + b',"status":{"message":%b,"code":%d}' % (message, code)
    return raw + b',"status":{"code":%d}' % code


def _before(count: int, limits: Limits, note: Note) -> int:
    """How many the SDK's own limits dropped before us, noted like what ours drop."""
    if count:
        limits.counters["keys"] += 1
        note.cut = True
    return count


def _flags(context: SpanContext | None) -> int:
    return _REMOTE_KNOWN | _REMOTE if context is not None and context.is_remote else _REMOTE_KNOWN


def _state(context: SpanContext, limits: Limits, note: Note) -> bytes:
    return b',"traceState":%b' % text(context.trace_state.to_header(), limits, note)


def _event(event: Event, limits: Limits, note: Note) -> bytes:
    fragments, lost = values.attributes(event.attributes, limits, note)
    return b'{"timeUnixNano":"%d","name":%b,"attributes":[%b]%b}' % (
        event.timestamp or 0,
        name(event.name, limits, note),
        b",".join(fragments),
        dropped(lost + _before(event.dropped_attributes, limits, note)),
    )


def _link(link: Link, limits: Limits, note: Note) -> bytes:
    context = link.context
    fragments, lost = values.attributes(link.attributes, limits, note)
    # The span id stands first: a trace id begins spans and nothing else, so readers can count them.
    return b'{"spanId":"%016x","traceId":"%032x"%b,"attributes":[%b]%b,"flags":%d}' % (
        context.span_id,
        context.trace_id,
        _state(context, limits, note) if context.trace_state else b"",
        b",".join(fragments),
        dropped(lost + _before(link.dropped_attributes, limits, note)),
        _flags(context),
    )


# -- log records ----------------------------------------------------------------------------------
def log_record(record: ReadableLogRecord | ReadWriteLogRecord, limits: Limits) -> bytes:
    """A log record as one JSON object that begins with its time."""
    note = Note()
    row = record.log_record
    parts = [
        b'{"timeUnixNano":"%d","observedTimeUnixNano":"%d"'
        % (row.timestamp or 0, row.observed_timestamp or 0)
    ]
    if row.severity_number is not None:
        parts.append(b',"severityNumber":%d' % row.severity_number.value)
    if row.severity_text:
        parts.append(b',"severityText":%b' % text(row.severity_text, limits, note))
    if row.event_name:
        parts.append(b',"eventName":%b' % name(row.event_name, limits, note))
    if row.body is not None:
        parts.append(b',"body":%b' % values.any_value(row.body, limits, note))
    fragments, lost = values.attributes(row.attributes, limits, note)
    lost += _before(record.dropped_attributes, limits, note)
    if note.cut:
        values.mark(fragments, row.attributes)
    parts.append(b',"attributes":[%b]' % b",".join(fragments))
    parts.append(dropped(lost))
    if row.trace_flags:
        parts.append(b',"flags":%d' % int(row.trace_flags))
    if row.trace_id:
        parts.append(b',"traceId":"%032x"' % row.trace_id)
    if row.span_id:
        parts.append(b',"spanId":"%016x"' % row.span_id)
    parts.append(b"}")
    return values.fitted(b"".join(parts), _RECORD, limits)


# -- metrics --------------------------------------------------------------------------------------
def metrics(
    data: MetricsData, limits: Limits | None = None
) -> list[tuple[Resource, InstrumentationScope, str, list[tuple[bytes, int]]]]:
    """What a metric reader collected, per resource and scope: JSON objects and their data points.

    A metric with very many data points becomes several objects, each of which fits into a line.
    """
    limits = limits or Limits()
    return [
        (
            outer.resource,
            inner.scope,
            inner.schema_url,
            [found for metric in inner.metrics for found in _metric(metric, limits)],
        )
        for outer in data.resource_metrics
        for inner in outer.scope_metrics
    ]


def _metric(metric: Metric, limits: Limits) -> Iterable[tuple[bytes, int]]:
    data: Any = metric.data
    note = Note()
    head = b'{"name":%b' % name(metric.name, limits, note)
    if metric.description:
        head += b',"description":%b' % name(metric.description, limits, note)
    if metric.unit:
        head += b',"unit":%b' % name(metric.unit, limits, note)
    tail = b"}}"
    # Recognised by what the kinds have, not by class: readers of other make have classes too.
    if not hasattr(data, "aggregation_temporality"):
        kind, encode = b"gauge", _gauge_point
    elif hasattr(data, "is_monotonic"):
        kind, encode = b"sum", _sum_point
        tail = b',"isMonotonic":%b}}' % (b"true" if data.is_monotonic else b"false")
    elif data.data_points and hasattr(data.data_points[0], "scale"):
        kind, encode = b"exponentialHistogram", _exponential_point
    else:
        kind, encode = b"histogram", _histogram_point
    if kind != b"gauge":
        tail = b',"aggregationTemporality":%d' % data.aggregation_temporality + tail
    points = [values.one_line(encode(point, limits)) for point in data.data_points]
    kept = [raw for raw in points if len(raw) <= _METRIC]
    if len(kept) < len(points):
        limits.counters["record"] += len(points) - len(kept)
    for group in _grouped(kept):
        raw = b'%b,"%b":{"dataPoints":[%b]%b' % (head, kind, b",".join(group), tail)
        yield values.one_line(raw), len(group)


def _grouped(points: list[bytes]) -> Iterable[list[bytes]]:
    """The data points in groups that fit into one object each."""
    group: list[bytes] = []
    size = 0
    for raw in points:
        if group and size + len(raw) > _METRIC:
            yield group
            group, size = [], 0
        group.append(raw)
        size += len(raw) + 1
    if group:
        yield group


def _gauge_point(point: Any, limits: Limits) -> bytes:
    return b'{%b,"timeUnixNano":"%d",%b%b}' % (
        _labels(point.attributes, limits),
        point.time_unix_nano,
        _number(point.value),
        _exemplars(point.exemplars, limits),
    )


def _sum_point(point: Any, limits: Limits) -> bytes:
    return b"{%b,%b,%b%b}" % (
        _labels(point.attributes, limits),
        _times(point),
        _number(point.value),
        _exemplars(point.exemplars, limits),
    )


def _histogram_point(point: Any, limits: Limits) -> bytes:
    return b'{%b,%b,"count":"%d"%b,"bucketCounts":%b,"explicitBounds":[%b]%b}' % (
        _labels(point.attributes, limits),
        _times(point),
        point.count,
        _extent(point),
        _counts(point.bucket_counts),
        b",".join([double(bound) for bound in point.explicit_bounds]),
        _exemplars(point.exemplars, limits),
    )


def _exponential_point(point: Any, limits: Limits) -> bytes:
    return b'{%b,%b,"count":"%d"%b,"scale":%d,"zeroCount":"%d"%b%b,"flags":%d%b}' % (
        _labels(point.attributes, limits),
        _times(point),
        point.count,
        _extent(point),
        point.scale,
        point.zero_count,
        _buckets(b"positive", point.positive),
        _buckets(b"negative", point.negative),
        point.flags,
        _exemplars(point.exemplars, limits),
    )


def _labels(attributes: Mapping[str, Any] | None, limits: Limits) -> bytes:
    # No mark for what was cut: another attribute would make another series of it.
    return b'"attributes":[%b]' % b",".join(values.attributes(attributes, limits, Note())[0])


def _times(point: Any) -> bytes:
    return b'"startTimeUnixNano":"%d","timeUnixNano":"%d"' % (
        point.start_time_unix_nano or 0,
        point.time_unix_nano,
    )


def _extent(point: Any) -> bytes:
    """Sum, minimum and maximum; a minimum above the maximum says that none is known."""
    raw = b"" if point.sum is None else b',"sum":%b' % double(point.sum)
    if point.min is None or point.max is None or point.min > point.max:
        return raw
    return b'%b,"min":%b,"max":%b' % (raw, double(point.min), double(point.max))


def _counts(counts: Sequence[int]) -> bytes:
    return b'["%b"]' % b'","'.join([b"%d" % count for count in counts]) if counts else b"[]"


def _buckets(side: bytes, buckets: Any) -> bytes:
    if not buckets.bucket_counts:
        return b""
    counts = _counts(buckets.bucket_counts)
    return b',"%b":{"offset":%d,"bucketCounts":%b}' % (side, buckets.offset, counts)


def _number(value: float) -> bytes:
    if isinstance(value, int) and values.integer_fits(value):
        return b'"asInt":"%d"' % value
    return b'"asDouble":%b' % double(value)


def _exemplars(exemplars: Sequence[Any], limits: Limits) -> bytes:
    if not exemplars:
        return b""
    return b',"exemplars":[%b]' % b",".join([_exemplar(row, limits) for row in exemplars])


def _exemplar(exemplar: Any, limits: Limits) -> bytes:
    fragments, _ = values.attributes(exemplar.filtered_attributes, limits, Note())
    raw = b'{"filteredAttributes":[%b],"timeUnixNano":"%d",%b' % (
        b",".join(fragments),
        exemplar.time_unix_nano,
        _number(exemplar.value),
    )
    if exemplar.span_id is None or exemplar.trace_id is None:
        return raw + b"}"
    return raw + b',"spanId":"%016x","traceId":"%032x"}' % (exemplar.span_id, exemplar.trace_id)


# -- resource, scope, request ---------------------------------------------------------------------
def resource(
    attributes: Mapping[str, Any], schema_url: str | None, limits: Limits | None = None
) -> bytes:
    """A resource as the members that a chunk begins with."""
    limits = limits or Limits()
    fragments, lost = values.attributes(attributes, limits, Note())
    raw = b'{"attributes":[%b]%b}' % (b",".join(fragments), dropped(lost))
    raw = values.fitted(raw, _RESOURCE, limits, marked=False)
    return b'"resource":%b%b' % (raw, _schema(schema_url, limits))


def scope(scope: InstrumentationScope | None, limits: Limits | None = None) -> bytes:
    """An instrumentation scope as the members that stand before its records."""
    if scope is None:
        return b'"scope":{}'
    limits = limits or Limits()
    note = Note()
    raw = b'{"name":%b' % text(scope.name, limits, note, _SCOPE_NAME)
    if scope.version:
        raw += b',"version":%b' % text(scope.version, limits, note, _SCOPE_VERSION)
    if scope.attributes:
        fragments, lost = values.attributes(scope.attributes, limits, note)
        raw += b',"attributes":[%b]%b' % (b",".join(fragments), dropped(lost))
    raw = values.fitted(raw + b"}", _SCOPE, limits, marked=False)
    return b'"scope":%b%b' % (raw, _schema(scope.schema_url, limits))


def _schema(url: str | None, limits: Limits) -> bytes:
    if not url or len(url) > _SCHEMA:
        return b""
    return values.one_line(b',"schemaUrl":%b' % name(url, limits, Note()))


def request(signal: Signal, chunks: Iterable[Chunk]) -> bytes:
    """One OTLP-JSON request; what is equal in resource and scope stands together, order is kept."""
    groups: dict[bytes, dict[bytes, list[bytes]]] = {}
    for chunk in chunks:
        groups.setdefault(chunk.resource, {}).setdefault(chunk.scope, []).append(chunk.body)
    leaf = signal.leaf.encode()
    outers = []
    for outer, scopes in groups.items():
        inners = [
            b'{%b,"%b":[%b]}' % (inner, leaf, b",".join(bodies)) for inner, bodies in scopes.items()
        ]
        outers.append(b'{%b,"%b":[%b]}' % (outer, signal.inner.encode(), b",".join(inners)))
    return b'{"%b":[%b]}' % (signal.outer.encode(), b",".join(outers))
