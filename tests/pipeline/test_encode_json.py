from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import otlp_oracle as oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry._logs import LogRecord
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, Status, StatusCode, TraceFlags, TraceState

from otel_empathy.pipeline import encode_json
from otel_empathy.pipeline.chunk import SIGNALS, parse
from otel_empathy.pipeline.encode_json import Limits

CONTEXT = SpanContext(0x5B8EFFF798038103D269B633813FC60C, 0xEEE19B7EC3C1B174, False)


def a_span(**fields: Any) -> ReadableSpan:
    found = {"name": "work", "context": CONTEXT, "start_time": 1, "end_time": 2, **fields}
    return ReadableSpan(**found)


@pytest.mark.parametrize("signal", ["traces", "metrics", "logs"])
def test_json_means_what_the_official_encoders_mean(signal: str) -> None:
    @oracle.FEW
    @given(oracle.BATCHES[signal])
    def check(batch: Any) -> None:
        ours = encode_json.request(SIGNALS[signal], oracle.chunks_of(signal, batch))
        assert b"\n" not in ours
        assert oracle.of_json(signal, ours) == oracle.of_json(
            signal, oracle.TO_JSON[signal](batch).to_json()
        )

    check()


@oracle.FEW
@given(st.lists(oracle.SPANS, min_size=1, max_size=3))
def test_a_trace_id_begins_each_span_and_nothing_else(spans: list[ReadableSpan]) -> None:
    line = encode_json.request(SIGNALS["traces"], oracle.chunks_of("traces", spans))

    assert line.count(b'{"traceId":"') == len(spans)


@oracle.FEW
@given(st.lists(oracle.log_records(), min_size=1, max_size=3))
def test_a_time_begins_each_log_record_and_nothing_else(rows: list[Any]) -> None:
    line = encode_json.request(SIGNALS["logs"], oracle.chunks_of("logs", rows))

    assert line.count(b'{"timeUnixNano":"') == len(rows)


def test_a_link_keeps_the_trace_state_of_its_context() -> None:
    context = SpanContext(1, 2, True, TraceFlags(1), TraceState([("a", "1")]))

    found = json.loads(encode_json.span(a_span(links=[Link(context)]), oracle.LOOSE))

    assert found["links"] == [
        {
            "spanId": "0000000000000002",
            "traceId": "00000000000000000000000000000001",
            "traceState": "a=1",
            "attributes": [],
            "flags": 0x300,
        }
    ]


def test_a_span_without_context_or_times_is_still_written() -> None:
    found = json.loads(encode_json.span(ReadableSpan("x"), oracle.LOOSE))

    assert found["traceId"] == "0" * 32
    assert found["endTimeUnixNano"] == "0"


def test_a_span_of_the_sdk_is_written_as_it_ended() -> None:
    tracer = TracerProvider(resource=Resource({})).get_tracer("t")
    with tracer.start_as_current_span("outer") as outer:
        span = tracer.start_span("inner", attributes={"a": 1})
        span.record_exception(ValueError("no"))
        span.end()

    found = json.loads(encode_json.span(span, oracle.LOOSE))  # type: ignore[arg-type]

    assert found["parentSpanId"] == f"{outer.get_span_context().span_id:016x}"
    assert found["events"][0]["name"] == "exception"
    assert found["attributes"] == [{"key": "a", "value": {"intValue": "1"}}]


def test_names_messages_and_events_are_scrubbed() -> None:
    limits = encode_json.Limits(lambda text: text.replace("secret", "***"))
    span = a_span(
        name="secret name",
        status=Status(StatusCode.ERROR, "secret status"),
        events=[Event("secret event", {"exception.message": "secret message"}, 5)],
        attributes={"note": "secret note", "gen_ai.response.id": "id-secret"},
    )

    raw = encode_json.span(span, limits)

    assert raw.count(b"***") == 5
    assert raw.count(b"secret") == 1
    assert b"id-secret" in raw


def test_a_log_body_is_scrubbed_inside_maps_and_lists() -> None:
    limits = encode_json.Limits(lambda text: text.replace("secret", "***"))
    row = oracle.LogRecord(body={"a": ["secret", {"b": "secret"}]}, event_name="e")

    raw = encode_json.log_record(oracle.ReadableLogRecord(row, Resource({})), limits)

    assert b"secret" not in raw
    assert raw.count(b"***") == 2


def test_what_was_cut_in_an_event_is_marked_on_the_span() -> None:
    limits = encode_json.Limits(value=10)
    span = a_span(events=[Event("e", {"text": "x" * 11}, 5)])

    found = json.loads(encode_json.span(span, limits))

    assert found["attributes"] == [{"key": "empathy.sdk.truncated", "value": {"boolValue": True}}]
    assert limits.counters == {"value": 1}


def test_a_span_too_large_for_a_line_loses_its_largest_parts_and_tells_so() -> None:
    limits = encode_json.Limits()
    span = a_span(
        attributes={"gen_ai.input.messages": "\x00" * 131_000, "small": "kept"},
        events=[
            Event(f"event {index}", {f"key {i}": "y" * 8000 for i in range(5)}, index)
            for index in range(20)
        ],
        links=[Link(CONTEXT, {"k": "z" * 8000}) for _ in range(3)],
    )

    raw = encode_json.span(span, limits)
    found = json.loads(raw)

    assert len(raw) <= 500 * 1024
    assert raw.startswith(b'{"traceId":"')
    assert found["droppedAttributesCount"] == 1
    assert [item["key"] for item in found["attributes"]] == ["small", "empathy.sdk.truncated"]
    dropped = sum(event.get("droppedAttributesCount", 0) for event in found["events"])
    kept = sum(len(event["attributes"]) for event in found["events"])
    assert dropped + kept == 100
    assert limits.counters == {"record": 1}


def test_events_go_when_a_span_is_too_large_without_any_attribute() -> None:
    span = a_span(events=[Event("n" * 8000, None, index) for index in range(128)])

    raw = encode_json.span(span, encode_json.Limits())
    found = json.loads(raw)

    assert len(raw) <= 500 * 1024
    assert found["droppedEventsCount"] + len(found["events"]) == 128


def test_a_log_record_too_large_for_a_line_keeps_the_beginning_of_its_body() -> None:
    row = oracle.LogRecord(body="\x01" * 131_000, attributes={"a": "kept"})

    raw = encode_json.log_record(oracle.ReadableLogRecord(row, Resource({})), encode_json.Limits())

    assert len(raw) <= 500 * 1024
    assert json.loads(raw)["body"] == {"stringValue": "\x01" * 8192}


@pytest.mark.fault("H5")
def test_h5_hostile_attributes_are_reduced_to_a_line_of_valid_json() -> None:
    deep: Any = "end"
    for _ in range(1000):
        deep = [deep]
    attributes: dict[str, Any] = {
        "string": "\U0001f600" * 2_500_000,
        "list": [1] * 1_000_000,
        "deep": deep,
        "nan": float("nan"),
        "inf": [float("inf"), -float("inf")],
        "surrogate": "\ud800",
        "breaks": "\n\r\x00\x1b\u2028\u2029\x85",
        **{f"key {index}": "\x00" * 10_000 for index in range(10_000)},
    }
    limits = encode_json.Limits(lambda text: text)

    raw = encode_json.span(a_span(attributes=attributes), limits)

    assert len(raw) <= 500 * 1024
    assert len(raw.decode().splitlines()) == 1
    found = json.loads(raw)
    assert found["droppedAttributesCount"] + len(found["attributes"]) == len(attributes) + 1
    assert found["attributes"][-1]["key"] == "empathy.sdk.truncated"
    assert set(limits.counters) == {"value", "keys", "depth", "record"}


def test_resource_and_scope_leave_room_for_the_largest_span_in_a_line() -> None:
    many = {f"\x01{index}": "\x01" * 9000 for index in range(200)}
    url = "\x01" * 256
    resource = encode_json.resource(many, url)
    scope = encode_json.scope(InstrumentationScope("\x01" * 9000, "\x01" * 9000, url, many))

    assert len(resource) + len(scope) + 500 * 1024 + 512 <= 512 * 1024
    assert resource.startswith(b'"resource":{"attributes":[')
    assert json.loads(b"{%b}" % resource)["resource"]["droppedAttributesCount"] == 200


def test_a_metric_with_too_many_points_for_a_line_becomes_several_objects() -> None:
    reader = InMemoryMetricReader()
    counter = MeterProvider([reader]).get_meter("m").create_counter("c")
    for index in range(1500):
        counter.add(1, {"label": f"{index:0300d}"})

    [(_, _, _, rows)] = encode_json.metrics(reader.get_metrics_data())

    assert len(rows) > 1
    assert all(len(raw) < 300 * 1024 for raw, _ in rows)
    assert sum(points for _, points in rows) == 1500


def test_a_data_point_too_large_for_a_line_is_left_out_and_counted() -> None:
    limits = encode_json.Limits()
    huge = {f"key {index}": "x" * 8000 for index in range(100)}
    points = [oracle.m.NumberDataPoint(labels, 1, 2, 3) for labels in (huge, {})]
    metric = oracle.m.Metric("g", "", "", oracle.m.Gauge(points))

    [(raw, count)] = encode_json._metric(metric, limits)

    assert count == 1
    assert len(raw) < 200
    assert limits.counters == {"record": 1}


def test_metrics_of_a_real_reader_mean_what_the_official_encoder_means() -> None:
    reader = InMemoryMetricReader()
    view = View(instrument_name="e", aggregation=ExponentialBucketHistogramAggregation())
    meter = MeterProvider([reader], Resource({"a": 1}), views=[view]).get_meter("m", "1")
    meter.create_counter("c", "1", "what").add(3, {"k": "v"})
    meter.create_up_down_counter("u").add(-2.5)
    meter.create_gauge("g").set(7)
    meter.create_histogram("h", "s").record(0.3, {"k": "v"})
    meter.create_histogram("e", "s").record(1e9)
    data = reader.get_metrics_data()
    assert data is not None

    ours = encode_json.request(SIGNALS["metrics"], oracle.chunks_of("metrics", data))

    assert oracle.of_json("metrics", ours) == oracle.of_message(oracle.encode_metrics(data))


def test_an_unknown_minimum_and_maximum_are_left_out() -> None:
    point = oracle.m.HistogramDataPoint({}, 1, 2, 0, 0.0, [0], [], float("inf"), float("-inf"))
    metric = oracle.m.Metric("h", "", "", oracle.m.Histogram([point], 2))

    [(raw, _)] = encode_json._metric(metric, encode_json.Limits())

    assert b'"min"' not in raw
    assert b'"max"' not in raw


def test_a_request_puts_equal_resources_and_scopes_together_in_their_order() -> None:
    first, second = Resource({"r": 1}), Resource({"r": 2})
    a, b = InstrumentationScope("a"), InstrumentationScope("b")
    spans = [
        a_span(name=str(index), resource=resource, instrumentation_scope=scope)
        for index, (resource, scope) in enumerate([(first, a), (second, a), (first, b), (first, a)])
    ]

    line = encode_json.request(SIGNALS["traces"], oracle.chunks_of("traces", spans))

    tree = json.loads(line)
    assert [
        [[span["name"] for span in inner["spans"]] for inner in outer["scopeSpans"]]
        for outer in tree["resourceSpans"]
    ] == [[["0", "3"], ["2"]], [["1"]]]
    assert sum(chunk.count for chunk in parse(line)) == 4


def test_the_encoders_load_no_sdk_and_no_protobuf() -> None:
    code = (
        "import sys; from otel_empathy.pipeline import encode_json, encode_proto, delta;"
        "print([m for m in ('opentelemetry.sdk', 'google.protobuf') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("limit", "member"),
    [
        ({"max_span_attributes": 1}, "droppedAttributesCount"),
        ({"max_events": 1}, "droppedEventsCount"),
        ({"max_links": 1}, "droppedLinksCount"),
    ],
)
def test_what_the_sdks_own_limits_dropped_from_a_span_is_marked_and_counted(
    limit: dict[str, int], member: str
) -> None:
    limits = Limits()
    tracer = TracerProvider(span_limits=SpanLimits(**limit)).get_tracer("t")
    context = SpanContext(1, 2, is_remote=False)
    with tracer.start_as_current_span("x", links=[Link(context), Link(context)]) as span:
        span.set_attributes({"a": 1, "b": 2})
        span.add_event("one")
        span.add_event("two")
    assert isinstance(span, ReadableSpan)
    found = json.loads(encode_json.span(span, limits))
    assert found[member] == 1
    assert {"key": "empathy.sdk.truncated", "value": {"boolValue": True}} in found["attributes"]
    assert limits.counters == {"keys": 1}


def test_what_the_sdks_own_limits_dropped_from_a_log_record_is_marked_and_counted() -> None:
    class Dropping:
        dropped_attributes = 2
        log_record = LogRecord(timestamp=1, body="x", attributes={"a": 1})

    limits = Limits()
    found = json.loads(encode_json.log_record(Dropping(), limits))  # type: ignore[arg-type]
    assert found["droppedAttributesCount"] == 2
    assert {"key": "empathy.sdk.truncated", "value": {"boolValue": True}} in found["attributes"]
    assert limits.counters == {"keys": 1}
