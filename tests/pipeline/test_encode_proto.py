from __future__ import annotations

from typing import Any

import orjson
import otlp_oracle as oracle
import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_empathy.pipeline import encode_json, encode_proto
from otel_empathy.pipeline.chunk import SIGNALS, Chunk, parse

IDS = {"traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174"}


def a_chunk(signal: str = "traces", **fields: Any) -> Chunk:
    body = orjson.dumps({**IDS, **fields} if signal == "traces" else fields)
    return Chunk(SIGNALS[signal], b'"resource":{"attributes":[]}', b'"scope":{}', body, 1)


def value_of(value: dict[str, Any]) -> Any:
    """What an attribute's value becomes in protobuf."""
    raw = encode_proto.record(SIGNALS["traces"], {"attributes": [{"key": "k", "value": value}]})
    [attribute] = Span.FromString(raw).attributes
    kind = attribute.value.WhichOneof("value")
    return getattr(attribute.value, kind) if kind else None


@pytest.mark.parametrize("signal", ["traces", "metrics", "logs"])
def test_protobuf_means_what_the_official_encoder_means(signal: str) -> None:
    @oracle.FEW
    @given(oracle.BATCHES[signal])
    def check(batch: Any) -> None:
        ours = encode_proto.request(SIGNALS[signal], oracle.chunks_of(signal, batch))
        official = oracle.TO_PROTO[signal](batch)
        if signal == "metrics":
            assert oracle.of_proto(signal, ours) == oracle.of_message(official)
        else:
            # Resources that are equal but for the order of their attributes are one to the SDK.
            assert oracle.flat(oracle.of_proto(signal, ours)) == oracle.flat(
                oracle.of_message(official)
            )

    check()


@pytest.mark.parametrize("signal", ["traces", "metrics", "logs"])
def test_protobuf_means_what_its_json_means(signal: str) -> None:
    @oracle.FEW
    @given(oracle.BATCHES[signal])
    def check(batch: Any) -> None:
        line = encode_json.request(SIGNALS[signal], oracle.chunks_of(signal, batch))
        raw = encode_proto.request(SIGNALS[signal], parse(line))
        assert oracle.of_proto(signal, raw) == oracle.of_json(signal, line)

    check()


def test_a_chunk_is_written_once_and_shared() -> None:
    chunk = a_chunk(name="x")
    first = encode_proto.request(chunk.signal, [chunk])
    kept = chunk.proto

    assert encode_proto.request(chunk.signal, [chunk]) == first
    assert chunk.proto is kept


def test_a_summary_is_written_though_we_make_none() -> None:
    metric = {
        "name": "s",
        "metadata": [{"key": "a", "value": {"intValue": "1"}}],
        "summary": {
            "dataPoints": [
                {
                    "timeUnixNano": "5",
                    "count": "2",
                    "sum": 3,
                    "flags": 1,
                    "quantileValues": [{"quantile": 0.5, "value": 1.5}, {}],
                }
            ]
        },
    }

    raw = encode_proto.record(SIGNALS["metrics"], metric)

    assert Metric.FromString(raw) == json_format.ParseDict(metric, Metric())


def test_entities_and_dropped_counts_of_a_resource_are_written() -> None:
    members = (
        b'"resource":{"attributes":[],"droppedAttributesCount":2,"entityRefs":[{"type":"service",'
        b'"schemaUrl":"u","idKeys":["a","b"],"descriptionKeys":["c"]}]},"schemaUrl":"v"'
    )
    line = b'{"resourceSpans":[{%b,"scopeSpans":[]}]}' % members

    raw = b"\x0a" + encode_proto._sized(encode_proto.resource(members))

    assert oracle.of_proto("traces", raw) == oracle.of_json("traces", line)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"intValue": "-1"}, -1),
        ({"intValue": 7}, 7),
        ({"intValue": 7.0}, 7),
        ({"doubleValue": "1.5"}, 1.5),
        ({"doubleValue": "Infinity"}, float("inf")),
        ({"doubleValue": 2}, 2.0),
        ({"bytesValue": "_-8="}, b"\xff\xef"),
        ({"bytesValue": "/+8"}, b"\xff\xef"),
        ({"stringValue": None}, None),
        ({"somethingNew": "x"}, None),
        ({}, None),
    ],
)
def test_values_are_read_as_leniently_as_protobuf_reads_json(value: Any, expected: Any) -> None:
    assert value_of(value) == expected


def test_equal_texts_of_different_kinds_are_not_mixed_up() -> None:
    for _ in range(2):
        assert value_of({"stringValue": "12"}) == "12"
        assert value_of({"intValue": "12"}) == 12
        assert value_of({"bytesValue": "12"}) == b"\xd7"
        assert [v.string_value for v in value_of({"arrayValue": {"values": [{"stringValue": "12"}]}}).values] == ["12"]  # fmt: skip # noqa: E501
        assert [v.int_value for v in value_of({"arrayValue": {"values": [{"intValue": "12"}]}}).values] == [12]  # fmt: skip # noqa: E501


def test_enums_are_read_by_name_too() -> None:
    span = Span.FromString(
        encode_proto.record(
            SIGNALS["traces"],
            {"kind": "SPAN_KIND_CLIENT", "status": {"code": "STATUS_CODE_ERROR"}},
        )
    )

    assert span.kind == Span.SPAN_KIND_CLIENT
    assert span.status.code == 2


def test_null_is_absence() -> None:
    fields = ("name", "attributes", "events", "status", "kind", "flags", "parentSpanId")

    assert encode_proto.record(SIGNALS["traces"], dict.fromkeys(fields)) == b""


@pytest.mark.parametrize(
    "fields",
    [
        {"traceId": "xyz"},
        {"traceId": "00"},
        {"spanId": 5},
        {"name": 5},
        {"kind": "SPAN_KIND_NEW"},
        {"startTimeUnixNano": "-1"},
        {"startTimeUnixNano": str(2**64)},
        {"startTimeUnixNano": "soon"},
        {"attributes": {"a": 1}},
        {"attributes": [5]},
        {"attributes": [{"key": 5, "value": {}}]},
        {"attributes": [{"key": "k", "value": {"intValue": str(2**70)}}]},
        {"attributes": [{"key": "k", "value": {"boolValue": "yes"}}]},
        {"attributes": [{"key": "k", "value": {"bytesValue": "*"}}]},
        {"attributes": [{"key": "k", "value": {"doubleValue": {}}}]},
        {"attributes": [{"key": "k", "value": {"arrayValue": {"values": 5}}}]},
        {"events": "x"},
        {"status": []},
    ],
)
def test_what_does_not_fit_its_field_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="spans: "):
        encode_proto.request(SIGNALS["traces"], [a_chunk(**fields)])


def test_endless_nesting_is_refused() -> None:
    value: Any = {"stringValue": "end"}
    for _ in range(2000):
        value = {"arrayValue": {"values": [value]}}

    with pytest.raises(ValueError, match="nested too deep"):
        value_of(value)


@given(st.integers(0, 2**64 - 1))
def test_a_varint_is_read_back(number: int) -> None:
    raw = encode_proto._varint(number)

    assert sum((byte & 127) << 7 * index for index, byte in enumerate(raw)) == number


def test_kept_attributes_are_bounded() -> None:
    for index in range(10_000):
        value_of({"stringValue": f"text {index}"})
        encode_proto._key(f"key {index}")

    assert len(encode_proto._kept) <= 4096
    assert len(encode_proto._keys) <= 4096
