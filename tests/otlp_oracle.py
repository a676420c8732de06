"""The official encoders as oracle: what a record means, whoever encoded it.

Meaning is the official protobuf message as a dict, without what is empty either way.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.exporter.otlp.json.common._log_encoder import encode_logs as logs_to_json
from opentelemetry.exporter.otlp.json.common.metrics_encoder import (
    encode_metrics as metrics_to_json,
)
from opentelemetry.exporter.otlp.json.common.trace_encoder import encode_spans as spans_to_json
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.metrics import export as m
from opentelemetry.sdk.metrics._internal.exemplar import Exemplar
from opentelemetry.sdk.metrics._internal.point import Buckets
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util import BoundedList
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    Link,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
)

from otel_empathy.pipeline import encode_json
from otel_empathy.pipeline.chunk import SIGNALS, Chunk

REQUESTS: dict[str, Callable[[], Message]] = {
    "traces": ExportTraceServiceRequest,
    "metrics": ExportMetricsServiceRequest,
    "logs": ExportLogsServiceRequest,
}
TO_PROTO: dict[str, Callable[[Any], Message]] = {
    "traces": encode_spans,
    "metrics": encode_metrics,
    "logs": encode_logs,
}
TO_JSON: dict[str, Callable[[Any], Any]] = {
    "traces": spans_to_json,
    "metrics": metrics_to_json,
    "logs": logs_to_json,
}
LOOSE = encode_json.Limits(value=10**6, keys=10**4, depth=64, content=10**6)
"""Limits that nothing in these tests reaches."""
MARK = {"key": "empathy.sdk.truncated", "value": {"boolValue": True}}
PHASES = (Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink)
FEW = settings(
    max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), phases=PHASES
)
"""For properties over whole batches, whose examples are large."""


# -- meaning --------------------------------------------------------------------------------------
def of_proto(signal: str, raw: bytes) -> Any:
    """What protobuf bytes mean."""
    request = REQUESTS[signal]()
    request.ParseFromString(raw)
    return of_message(request)


def of_json(signal: str, raw: bytes | str) -> Any:
    """What OTLP-JSON means, read by protobuf's own JSON parser."""
    request = REQUESTS[signal]()
    json_format.ParseDict(_with_base64_ids(json.loads(raw)), request)
    return of_message(request)


def of_message(message: Message) -> Any:
    return _lean(json_format.MessageToDict(message))


def flat(tree: Any) -> Any:
    """Each record with its resource and its scope, however they were grouped."""
    [outers] = tree.values() if tree else [[]]
    return [
        ({**outer, inner_name: None}, {**inner, leaf_name: None}, leaf)
        for outer in outers
        for inner_name in outer
        if inner_name.startswith("scope")
        for inner in outer[inner_name]
        for leaf_name in inner
        if leaf_name in {"spans", "logRecords"}
        for leaf in inner[leaf_name]
    ]


def _with_base64_ids(tree: Any) -> Any:
    if isinstance(tree, list):
        return [_with_base64_ids(item) for item in tree]
    if not isinstance(tree, dict):
        return tree
    return {
        key: base64.b64encode(bytes.fromhex(value)).decode()
        if key in {"traceId", "spanId", "parentSpanId"}
        else _with_base64_ids(value)
        for key, value in tree.items()
    }


def _lean(tree: Any) -> Any:
    """Without messages that are present and empty, and without our mark of what was dropped."""
    if isinstance(tree, list):
        return [_lean(item) for item in tree if item != MARK]
    if not isinstance(tree, dict):
        return tree
    found = {key: _lean(value) for key, value in tree.items()}
    return {
        key: value
        for key, value in found.items()
        if not (key in {"status", "body", "value", "scope", "resource"} and value == {})
        and not (key == "attributes" and not value)
    }


# -- our encoders ---------------------------------------------------------------------------------
def chunks_of(signal: str, found: Any, limits: encode_json.Limits = LOOSE) -> list[Chunk]:
    """Records of the SDK as chunks, one each."""
    if signal == "metrics":
        return [
            Chunk(
                SIGNALS[signal],
                encode_json.resource(resource.attributes, resource.schema_url, limits),
                encode_json.scope(scope, limits),
                body,
                points,
            )
            for resource, scope, _, rows in encode_json.metrics(found, limits)
            for body, points in rows
        ]
    encode = encode_json.span if signal == "traces" else encode_json.log_record
    return [
        Chunk(
            SIGNALS[signal],
            encode_json.resource(row.resource.attributes, _schema(signal, row), limits),
            encode_json.scope(row.instrumentation_scope, limits),
            encode(row, limits),
            1,
        )
        for row in found
    ]


def _schema(signal: str, row: Any) -> str:
    return row.resource.schema_url


# -- records of all kinds -------------------------------------------------------------------------
NAMES = st.text(min_size=1, max_size=12)
TIMES = st.integers(0, 2**63 - 1)
INTS = st.integers(-(2**63), 2**63 - 1)
SPAN_IDS = st.integers(1, 2**64 - 1)
TRACE_IDS = st.integers(1, 2**128 - 1)
SCALARS = st.one_of(
    st.text(max_size=8), st.booleans(), INTS, st.floats(), st.binary(max_size=12), st.none()
)
ANY_VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(NAMES, inner, max_size=4)),
    max_leaves=5,
)
ATTRIBUTES = st.dictionaries(NAMES, ANY_VALUES, max_size=4)
STATES = st.sampled_from(
    [TraceState(), TraceState([("a", "1")]), TraceState([("b", "xy"), ("c", "2")])]
)


@st.composite
def bounded(draw: st.DrawFn) -> BoundedAttributes:
    found = BoundedAttributes(None, draw(ATTRIBUTES), immutable=False)
    found.dropped = draw(st.integers(0, 3))
    return found


@st.composite
def contexts(draw: st.DrawFn) -> SpanContext:
    return SpanContext(
        draw(TRACE_IDS), draw(SPAN_IDS), draw(st.booleans()), TraceFlags(1), draw(STATES)
    )


@st.composite
def lists(draw: st.DrawFn, items: st.SearchStrategy[Any]) -> BoundedList:
    found = BoundedList(None)
    found.extend(draw(st.lists(items, max_size=3)))
    found.dropped = draw(st.integers(0, 2))
    return found


RESOURCES = st.builds(Resource, ATTRIBUTES, st.sampled_from(["", "https://example.org/1"]))
SCOPES = st.builds(
    InstrumentationScope,
    NAMES,
    st.sampled_from([None, "1.0"]),
    st.sampled_from(["", "https://example.org/2"]),
    ATTRIBUTES,
)
STATUSES = st.one_of(
    st.builds(Status, st.sampled_from(StatusCode)),
    st.builds(Status, st.just(StatusCode.ERROR), st.text(max_size=20)),
)
PLAIN_LINKS = contexts().map(lambda c: SpanContext(c.trace_id, c.span_id, c.is_remote))
SPANS = st.builds(
    ReadableSpan,
    name=st.text(max_size=20),
    context=contexts(),
    parent=st.one_of(st.none(), contexts()),
    resource=RESOURCES,
    attributes=bounded(),
    events=lists(st.builds(Event, NAMES, bounded(), TIMES)),
    links=lists(st.builds(Link, PLAIN_LINKS, bounded())),
    kind=st.sampled_from(SpanKind),
    status=STATUSES,
    start_time=TIMES,
    end_time=TIMES,
    instrumentation_scope=st.one_of(st.none(), SCOPES),
)


@st.composite
def log_records(draw: st.DrawFn) -> ReadableLogRecord:
    row = LogRecord(
        timestamp=draw(st.one_of(st.none(), TIMES)),
        observed_timestamp=draw(TIMES),
        severity_text=draw(st.one_of(st.none(), NAMES)),
        severity_number=draw(st.one_of(st.none(), st.sampled_from(SeverityNumber))),
        body=draw(ANY_VALUES),
        attributes=draw(bounded()),
        event_name=draw(st.one_of(st.none(), NAMES)),
    )
    if draw(st.booleans()):
        row.trace_id, row.span_id = draw(TRACE_IDS), draw(SPAN_IDS)
        row.trace_flags = TraceFlags(draw(st.integers(0, 1)))
    return ReadableLogRecord(row, draw(RESOURCES), draw(st.one_of(st.none(), SCOPES)))


NUMBERS = st.one_of(INTS, st.floats())
EXEMPLARS = st.lists(
    st.one_of(
        st.builds(Exemplar, ATTRIBUTES, NUMBERS, TIMES),
        st.builds(Exemplar, ATTRIBUTES, NUMBERS, TIMES, SPAN_IDS, TRACE_IDS),
    ),
    max_size=2,
)
POINTS = st.builds(m.NumberDataPoint, ATTRIBUTES, TIMES, TIMES, NUMBERS, EXEMPLARS)
COUNTS = st.integers(0, 2**64 - 1)
ENDS = st.floats(0, 1e300)


@st.composite
def histogram_points(draw: st.DrawFn) -> m.HistogramDataPoint:
    bounds = draw(st.lists(st.floats(allow_nan=False), max_size=4))
    least = draw(st.floats(-1e300, 0))
    return m.HistogramDataPoint(
        draw(ATTRIBUTES), draw(TIMES), draw(TIMES), draw(COUNTS), draw(st.floats()),
        [draw(COUNTS) for _ in range(len(bounds) + 1)], bounds, least, draw(ENDS), draw(EXEMPLARS),
    )  # fmt: skip


BUCKETS = st.builds(Buckets, st.integers(-(2**31), 2**31 - 1), st.lists(COUNTS, max_size=4))
EXPONENTIAL_POINTS = st.builds(
    m.ExponentialHistogramDataPoint,
    ATTRIBUTES, TIMES, TIMES, COUNTS, st.floats(), st.integers(-10, 20), COUNTS, BUCKETS, BUCKETS,
    st.integers(0, 1), st.floats(-1e300, 0), ENDS, EXEMPLARS,
)  # fmt: skip
TEMPORALITIES = st.sampled_from(
    [m.AggregationTemporality.DELTA, m.AggregationTemporality.CUMULATIVE]
)


def _some(points: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(points, min_size=1, max_size=3)


METRICS = st.builds(
    m.Metric,
    NAMES,
    st.sampled_from(["", None, "what it is"]),
    st.sampled_from(["", None, "s"]),
    st.one_of(
        st.builds(m.Gauge, _some(POINTS)),
        st.builds(m.Sum, _some(POINTS), TEMPORALITIES, st.booleans()),
        st.builds(m.Histogram, _some(histogram_points()), TEMPORALITIES),
        st.builds(m.ExponentialHistogram, _some(EXPONENTIAL_POINTS), TEMPORALITIES),
    ),
)


@st.composite
def metrics_data(draw: st.DrawFn) -> m.MetricsData:
    """Collected metrics; as the SDK's, they name no resource and no scope twice."""
    scopes = st.lists(SCOPES, min_size=1, max_size=2, unique_by=lambda scope: scope.name)
    kinds = ("a", "b")
    resources = [
        Resource({**draw(ATTRIBUTES), "kind": kind}, "")
        for kind in kinds[: draw(st.integers(1, 2))]
    ]
    return m.MetricsData(
        [
            m.ResourceMetrics(
                resource,
                [
                    m.ScopeMetrics(
                        scope,
                        draw(st.lists(METRICS, min_size=1, max_size=2)),
                        scope.schema_url or "",
                    )
                    for scope in draw(scopes)
                ],
                resource.schema_url,
            )
            for resource in resources
        ]
    )


BATCHES: dict[str, st.SearchStrategy[Any]] = {
    "traces": st.lists(SPANS, min_size=1, max_size=3),
    "metrics": metrics_data(),
    "logs": st.lists(log_records(), min_size=1, max_size=3),
}
