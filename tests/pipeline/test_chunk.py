from __future__ import annotations

import contextlib
import json
from typing import Any

import orjson
import otlp_oracle as oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_empathy.pipeline import encode_json
from otel_empathy.pipeline.chunk import SIGNALS, Chunk, parse, records, split

SEGMENT = b'{"key":"empathy.segment.id","value":{"stringValue":"0123456789abcdef"}}'
SPAN = b'{"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174","name":"x"}'
RESOURCE = b'"resource":{"attributes":[{"key":"a","value":{"intValue":"1"}}]},"schemaUrl":"u"'
SCOPE = b'"scope":{"name":"s","version":"1"},"schemaUrl":"v"'


def ours(chunk: Chunk) -> bytes:
    """The line that our writer makes of a chunk."""
    signal = chunk.signal
    rest = chunk.resource.removeprefix(b'"resource":{"attributes":[')
    comma = b"" if rest.startswith(b"]") else b","
    return b'{"%b":[{"resource":{"attributes":[%b%b%b,"%b":[{%b,"%b":[%b]}]}]}\n' % (
        signal.outer.encode(), SEGMENT, comma, rest, signal.inner.encode(), chunk.scope,
        signal.leaf.encode(), chunk.body,
    )  # fmt: skip


def trace(body: bytes, count: int, resource: bytes = RESOURCE) -> Chunk:
    return Chunk(SIGNALS["traces"], resource, SCOPE, body, count)


def gauge(points: int, name: str = "g") -> bytes:
    found = [{"timeUnixNano": "1", "asInt": str(index)} for index in range(points)]
    return orjson.dumps({"name": name, "gauge": {"dataPoints": found}})


@pytest.mark.parametrize("signal", ["traces", "metrics", "logs"])
def test_a_line_of_ours_gives_back_the_very_chunk_it_was_made_of(signal: str) -> None:
    @oracle.FEW
    @given(oracle.BATCHES[signal])
    def check(batch: Any) -> None:
        for chunk in oracle.chunks_of(signal, batch):
            [found] = parse(ours(chunk))
            assert found == chunk

    check()


@pytest.mark.parametrize("signal", ["traces", "metrics", "logs"])
def test_parsing_and_writing_again_changes_nothing(signal: str) -> None:
    @oracle.FEW
    @given(oracle.BATCHES[signal])
    def check(batch: Any) -> None:
        line = encode_json.request(SIGNALS[signal], oracle.chunks_of(signal, batch))
        chunks = parse(line)
        again = encode_json.request(SIGNALS[signal], chunks)
        assert parse(again) == chunks
        assert oracle.of_json(signal, again) == oracle.of_json(signal, line)

    check()


def reversed_keys(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: reversed_keys(tree[key]) for key in reversed(tree)}
    return [reversed_keys(item) for item in tree] if isinstance(tree, list) else tree


@pytest.mark.parametrize("signal", ["traces", "metrics", "logs"])
def test_a_foreign_line_with_other_key_order_and_spaces_means_the_same(signal: str) -> None:
    @oracle.FEW
    @given(oracle.BATCHES[signal])
    def check(batch: Any) -> None:
        chunks = oracle.chunks_of(signal, batch)
        line = encode_json.request(SIGNALS[signal], chunks)
        foreign = json.dumps(reversed_keys(json.loads(line)), indent=1).replace("\n", " ")
        found = parse(foreign.encode())
        assert sum(chunk.count for chunk in found) == sum(chunk.count for chunk in chunks)
        assert all(chunk.resource.startswith(b'"resource":{"attributes":[') for chunk in found)
        assert oracle.of_json(
            signal, encode_json.request(SIGNALS[signal], found)
        ) == oracle.of_json(signal, line)

    check()


def test_fields_that_nobody_knows_are_kept() -> None:
    line = (
        b'{"resourceSpans":[{"x":1,"resource":{"y":2,"attributes":null},"scopeSpans":'
        b'[{"z":3,"scope":{"w":4},"spans":[{"traceId":"00","v":{"u":5}}]}]}]}'
    )

    [chunk] = parse(line)

    assert chunk.resource == b'"resource":{"attributes":[],"y":2},"x":1'
    assert chunk.scope == b'"scope":{"w":4},"z":3'
    assert chunk.body == b'{"traceId":"00","v":{"u":5}}'


def test_a_segment_id_is_removed_wherever_it_stands() -> None:
    for attributes in (
        SEGMENT,
        SEGMENT + b"," + SEGMENT,
        b'{"key":"a","value":{}},' + SEGMENT,
        b'{"value":{"stringValue":"x"},"key":"empathy.segment.id"}',
        SEGMENT.replace(b"0123", b'\\"}}'),
    ):
        resource = b'"resource":{"attributes":[%b]}' % attributes
        [chunk] = parse(encode_json.request(SIGNALS["traces"], [trace(SPAN, 1, resource)]))

        assert b"empathy.segment.id" not in chunk.resource
        assert orjson.loads(b"{%b}" % chunk.resource)


def test_several_resources_and_scopes_become_several_chunks() -> None:
    chunks = [
        Chunk(SIGNALS["traces"], resource, scope, SPAN, 1)
        for resource in (b'"resource":{"attributes":[]}', RESOURCE)
        for scope in (SCOPE, b'"scope":{}')
    ]

    assert parse(encode_json.request(SIGNALS["traces"], chunks)) == chunks


def test_texts_that_look_like_structure_do_not_mislead() -> None:
    trap = ',"scopeSpans":[{"scope":{},"spans":[{"traceId":"'
    span = {"traceId": "00", "name": trap, ',"spans":[': trap, "resource": 1}
    body = orjson.dumps(span)
    resource = b'"resource":{"attributes":[{"key":%b,"value":{"stringValue":%b}}]}' % (
        orjson.dumps(trap),
        orjson.dumps(trap),
    )

    assert parse(ours(trace(body, 1, resource))) == [trace(body, 1, resource)]


@pytest.mark.parametrize(
    "inner",
    [
        b'"scopeSpans":[{"scope":{},"spans":[%b]}],"schemaUrl":"late"' % SPAN,
        b'"scopeSpans":[{"scope":{},"spans":[%b],"schemaUrl":"late"}]' % SPAN,
        b'"scopeSpans":[],"resource":{"attributes":[]},"scopeSpans":[{"scope":{},"spans":[%b]}]'
        % SPAN,
        b'"scopeSpans":[{"spans":[%b]}]' % SPAN,
        b'"scopeSpans":[{"scope":{},"spans":[%b]}],"x":[{"y":[]}]' % SPAN,
        b'"scopeSpans":[{"scope":{},"spans":[%b],"x":[{"y":[]}]}]' % SPAN,
    ],
)
def test_members_in_unusual_places_are_read_as_json_reads_them(inner: bytes) -> None:
    line = b'{"resourceSpans":[{%b,%b}]}' % (RESOURCE, inner)

    [chunk] = parse(line)

    assert records(chunk) == [orjson.loads(SPAN)]
    again = orjson.loads(encode_json.request(SIGNALS["traces"], [chunk]))
    [outer] = again["resourceSpans"]
    [expected] = orjson.loads(line)["resourceSpans"]
    expected["scopeSpans"][0].setdefault("scope", {})
    assert outer == expected


def test_a_byte_order_mark_and_a_carriage_return_are_ignored() -> None:
    chunk = trace(SPAN, 1)

    assert parse(b"\xef\xbb\xbf" + ours(chunk).rstrip() + b"\r\n") == [chunk]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"", "not JSON"),
        (b"\x00" * 100, "not JSON"),
        (b'{"resourceSpans":[{"resource"', "not JSON"),
        (b'{"resourceSpans":[{"a":"\xff"}]}', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "no OTLP signal"),
        (b"{}", "no OTLP signal"),
        (b'"resourceSpans"', "no OTLP signal"),
        (b'{"resourceSpans":[],"resourceLogs":[]}', "more than one signal"),
        (b'{"resourceSpans":{}}', "resourceSpans is no list"),
        (b'{"resourceSpans":[1]}', "resourceSpans is no list of objects"),
        (b'{"resourceSpans":[{"scopeSpans":5}]}', "scopeSpans is no list"),
        (b'{"resourceSpans":[{"resource":5}]}', "resource is no object"),
        (b'{"resourceSpans":[{"resource":{"attributes":{}}}]}', "attributes is no list"),
        (b'{"resourceSpans":[{"scopeSpans":[{"scope":[],"spans":[{}]}]}]}', "scope is no object"),
        (b'{"resourceSpans":[{"scopeSpans":[{"spans":["x"]}]}]}', "spans is no list of objects"),
        (
            b'{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"sum":5}]}]}]}',
            "sum is no object",
        ),
        (
            b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"a":%b}]}]}]}'
            % (b"[" * 300 + b"]" * 300),
            "nested too deep",
        ),
    ],
)
def test_what_is_no_otlp_is_refused_with_a_reason(line: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse(line)


@pytest.mark.parametrize(
    "line",
    [
        b'{"resourceSpans":[]}',
        b'{"resourceSpans":null}',
        b'{"resourceSpans":[{}]}',
        b'{"resourceSpans":[{"scopeSpans":[{"spans":[]}]}]}',
        ours(trace(b"", 0)),
    ],
)
def test_a_line_without_records_has_no_chunks(line: bytes) -> None:
    assert parse(line) == []


def test_metrics_count_data_points_of_every_kind() -> None:
    kinds = ("gauge", "sum", "histogram", "exponentialHistogram", "summary")
    metrics = [{"name": kind, kind: {"dataPoints": [{}, {}]}} for kind in kinds]
    metrics.append({"name": "none"})
    line = orjson.dumps({"resourceMetrics": [{"scopeMetrics": [{"metrics": metrics}]}]})

    [chunk] = parse(line)

    assert chunk.count == 10
    assert len(records(chunk)) == 6


@given(st.lists(st.integers(1, 4), max_size=5), st.integers(-1, 25))
def test_split_divides_after_n_records(counts: list[int], n: int) -> None:
    spans = iter(range(100))
    chunks = [
        trace(b",".join(orjson.dumps({"name": str(next(spans))}) for _ in range(count)), count)
        for count in counts
    ]

    head, tail = split(chunks, n)

    names = [[row["name"] for chunk in part for row in records(chunk)] for part in (head, tail)]
    assert names[0] + names[1] == [str(index) for index in range(sum(counts))]
    assert len(names[0]) == max(0, min(n, sum(counts)))
    assert all(len(records(chunk)) == chunk.count for chunk in head + tail)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=5), st.integers(0, 25))
def test_split_divides_a_metric_between_its_points(counts: list[int], n: int) -> None:
    body = b",".join(gauge(count, str(index)) for index, count in enumerate(counts))
    chunk = Chunk(SIGNALS["metrics"], RESOURCE, SCOPE, body, sum(counts))

    parts = split([chunk], n)

    found = [
        [
            (row["name"], point["asInt"])
            for chunk in part
            for row in records(chunk)
            for point in row["gauge"]["dataPoints"]
        ]
        for part in parts
    ]
    assert found[0] + found[1] == [
        (str(index), str(point)) for index, count in enumerate(counts) for point in range(count)
    ]
    assert len(found[0]) == min(n, sum(counts))
    assert [sum(chunk.count for chunk in part) for part in parts] == [len(row) for row in found]


@pytest.mark.fault("S4")
@pytest.mark.parametrize("first", [b"", b"{},"])
def test_a_line_whose_lists_stand_elsewhere_holds_nothing_and_is_no_error(first: bytes) -> None:
    inner = b'{"a":1,"scopeSpans":[{"scope":{"b":1},"spans":[{}]}]}'
    line = b'{"resourceSpans":[{"resource":{"attributes":[]},"y":[%b%b]}]}' % (first, inner)
    assert parse(line) == []


@pytest.mark.fault("S4")
@pytest.mark.parametrize("signal", ["traces", "metrics", "logs"])
def test_whatever_is_changed_in_a_line_it_is_read_or_refused(signal: str) -> None:
    pieces = (b"{", b"}", b"[", b"]", b",", b":", b"null", b"1", b'"x"', b"[]", b"{}")

    @oracle.FEW
    @given(oracle.BATCHES[signal], st.data())
    def check(batch: Any, data: Any) -> None:
        line = b"".join(ours(chunk) for chunk in oracle.chunks_of(signal, batch)[:1])
        for _ in range(3):
            start = data.draw(st.integers(0, len(line)))
            end = data.draw(st.integers(start, min(len(line), start + 40)))
            new = b"".join(data.draw(st.lists(st.sampled_from(pieces), max_size=3)))
            line = line[:start] + new + line[end:]
        with contextlib.suppress(ValueError):
            for chunk in parse(line):
                assert len(records(chunk)) >= (chunk.count > 0)

    check()
