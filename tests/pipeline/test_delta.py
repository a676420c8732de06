from __future__ import annotations

import copy
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View

from otel_empathy.pipeline import encode_json
from otel_empathy.pipeline.chunk import SIGNALS, Chunk, records
from otel_empathy.pipeline.delta import Delta

RESOURCE = b'"resource":{"attributes":[]}'
SCOPE = b'"scope":{"name":"s"}'


def chunk_of(*metrics: dict[str, Any], resource: bytes = RESOURCE) -> Chunk:
    body = b",".join(orjson.dumps(metric) for metric in metrics)
    return Chunk(SIGNALS["metrics"], resource, SCOPE, body, len(metrics))


def total(value: Any, time: int, *, start: int = 1, label: str = "a", name: str = "c") -> Any:
    number = {"asInt": str(value)} if isinstance(value, int) else {"asDouble": value}
    point = {
        "attributes": [{"key": "label", "value": {"stringValue": label}}],
        "startTimeUnixNano": str(start),
        "timeUnixNano": str(time),
        **number,
    }
    data = {"dataPoints": [point], "aggregationTemporality": 2, "isMonotonic": True}
    return {"name": name, "sum": data}


def histogram(counts: list[int], time: int, *, start: int = 1, sum_: float | None = None) -> Any:
    point = {
        "attributes": [],
        "startTimeUnixNano": str(start),
        "timeUnixNano": str(time),
        "count": str(sum(counts)),
        "bucketCounts": [str(count) for count in counts],
        "explicitBounds": [float(index) for index in range(len(counts) - 1)],
        "min": 0.5,
        "max": 9.5,
    }
    if sum_ is not None:
        point["sum"] = sum_
    return {"name": "h", "histogram": {"dataPoints": [point], "aggregationTemporality": 2}}


def points(chunks: list[Chunk], kind: str = "sum") -> list[dict[str, Any]]:
    return [
        point
        for chunk in chunks
        for metric in records(chunk)
        for point in metric[kind]["dataPoints"]
    ]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 10**18)), min_size=1, max_size=30))
def test_deltas_of_each_series_add_up_to_its_last_value(steps: list[tuple[str, int]]) -> None:
    delta = Delta()
    values: dict[str, int] = {}
    sums: dict[str, int] = {}
    ends: dict[str, int] = {}
    for time, (label, step) in enumerate(steps, 2):
        values[label] = values.get(label, 0) + step
        [point] = points(delta.convert([chunk_of(total(values[label], time, label=label))]))
        sums[label] = sums.get(label, 0) + int(point["asInt"])
        assert int(point["startTimeUnixNano"]) == ends.get(label, 1)
        ends[label] = int(point["timeUnixNano"])

    assert sums == values


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=30))
def test_deltas_of_doubles_add_up_to_their_last_value(steps: list[float]) -> None:
    delta = Delta()
    value = found = 0.0
    for time, step in enumerate(steps, 2):
        value += step
        [point] = points(delta.convert([chunk_of(total(value, time))]))
        assert point["asDouble"] >= 0
        found += point["asDouble"]

    assert found == pytest.approx(value)


@given(st.lists(st.lists(st.integers(0, 5), min_size=3, max_size=3), min_size=1, max_size=20))
def test_deltas_of_histograms_add_up_bucket_by_bucket(steps: list[list[int]]) -> None:
    delta = Delta()
    value, found = [0, 0, 0], [0, 0, 0]
    for time, step in enumerate(steps, 2):
        value = [a + b for a, b in zip(value, step, strict=True)]
        metric = histogram(value, time, sum_=float(sum(value)))
        [point] = points(delta.convert([chunk_of(metric)]), "histogram")
        found = [a + int(b) for a, b in zip(found, point["bucketCounts"], strict=True)]
        assert int(point["count"]) == sum(step)
        assert point["sum"] == sum(step)

    assert found == value


def test_a_delta_has_the_delta_temporality_and_no_extremes() -> None:
    [chunk] = Delta().convert([chunk_of(histogram([1, 2], 5), total(3, 5))])

    first, second = records(chunk)
    assert first["histogram"]["aggregationTemporality"] == 1
    assert second["sum"]["aggregationTemporality"] == 1
    assert not {"min", "max", "sum"} & first["histogram"]["dataPoints"][0].keys()
    assert chunk.count == 2


def test_a_new_start_time_begins_anew() -> None:
    delta = Delta()
    delta.convert([chunk_of(total(10, 5))])

    [point] = points(delta.convert([chunk_of(total(12, 9, start=7))]))

    assert (point["asInt"], point["startTimeUnixNano"]) == ("12", "7")


def test_a_value_that_went_back_counts_in_full_since_the_last_point() -> None:
    delta = Delta()
    delta.convert([chunk_of(total(10, 5), histogram([1, 4], 5))])

    found = delta.convert([chunk_of(total(3, 9), histogram([2, 3], 9))])

    first, second = records(found[0])
    assert first["sum"]["dataPoints"][0]["asInt"] == "3"
    assert first["sum"]["dataPoints"][0]["startTimeUnixNano"] == "5"
    assert second["histogram"]["dataPoints"][0]["bucketCounts"] == ["2", "3"]


def test_other_bucket_bounds_begin_anew() -> None:
    delta = Delta()
    delta.convert([chunk_of(histogram([1, 4], 5))])

    [point] = points(delta.convert([chunk_of(histogram([1, 4, 0], 9))]), "histogram")

    assert point["bucketCounts"] == ["1", "4", "0"]


def test_a_point_that_was_seen_is_left_out() -> None:
    delta = Delta()
    delta.convert([chunk_of(total(10, 5))])

    assert delta.convert([chunk_of(total(10, 5)), chunk_of(total(8, 4))]) == []
    [point] = points(delta.convert([chunk_of(total(11, 6))]))
    assert point["asInt"] == "1"


def test_primed_points_are_not_sent_again() -> None:
    delta = Delta()
    delta.prime([chunk_of(total(10, 5))])

    [point] = points(delta.convert([chunk_of(total(14, 9))]))

    assert (point["asInt"], point["startTimeUnixNano"]) == ("4", "5")


def test_resources_names_and_labels_are_series_of_their_own() -> None:
    delta = Delta()
    other = b'"resource":{"attributes":[{"key":"a","value":{}}]}'
    delta.convert([chunk_of(total(10, 5))])

    found = delta.convert(
        [
            chunk_of(total(1, 9, name="d"), total(2, 9, label="b")),
            chunk_of(total(3, 9), resource=other),
        ]
    )

    assert [point["asInt"] for point in points(found)] == ["1", "2", "3"]


def test_the_order_of_labels_makes_no_series() -> None:
    delta = Delta()
    first, second = total(10, 5), total(14, 9)
    labels = [{"key": "a", "value": {}}, {"key": "b", "value": {}}]
    first["sum"]["dataPoints"][0]["attributes"] = labels
    second["sum"]["dataPoints"][0]["attributes"] = labels[::-1]
    delta.convert([chunk_of(first)])

    [point] = points(delta.convert([chunk_of(second)]))

    assert point["asInt"] == "4"


def test_gauges_and_other_sums_pass_untouched() -> None:
    rising = total(5, 5)
    up_down, already = copy.deepcopy(rising), copy.deepcopy(rising)
    up_down["sum"]["isMonotonic"] = False
    already["sum"]["aggregationTemporality"] = 1
    gauge = {"name": "g", "gauge": {"dataPoints": [{"timeUnixNano": "1", "asInt": "5"}]}}
    chunk = chunk_of(up_down, already, gauge)
    delta = Delta()

    assert delta.convert([chunk])[0] is chunk
    [mixed] = delta.convert([chunk_of(up_down, already, gauge, rising)])
    assert records(mixed)[:3] == [up_down, already, gauge]
    assert mixed.count == 4


@pytest.mark.parametrize("field", ["asInt", "timeUnixNano", "startTimeUnixNano"])
def test_a_metric_that_is_not_in_order_passes_as_it_is(field: str) -> None:
    delta = Delta()
    delta.convert([chunk_of(total(1, 5))])
    broken = total(2, 9)
    broken["sum"]["dataPoints"][0][field] = "nonsense"

    [chunk] = delta.convert([chunk_of(broken)])

    assert records(chunk) == [broken]


@given(st.lists(st.lists(st.floats(1e-9, 1e9), max_size=5), min_size=1, max_size=6))
def test_exponential_histograms_add_up_to_what_the_sdk_counts(steps: list[list[float]]) -> None:
    reader = InMemoryMetricReader()
    view = View(instrument_name="e", aggregation=ExponentialBucketHistogramAggregation(max_size=20))
    recorded = MeterProvider([reader], views=[view]).get_meter("m").create_histogram("e")
    delta = Delta()
    last: dict[str, Any] = {}
    found: list[dict[str, Any]] = []
    for step in steps:
        for value in step:
            recorded.record(value)
        for chunk in collected(reader):
            [last] = points([chunk], "exponentialHistogram")
            found += points(delta.convert([chunk]), "exponentialHistogram")

    if not last:
        return
    assert sum(int(point["count"]) for point in found) == int(last["count"])
    added: dict[int, int] = {}
    for point in found:
        side = point.get("positive") or {}
        for index, count in enumerate(side.get("bucketCounts", ()), side.get("offset", 0)):
            coarse = index >> (point["scale"] - last["scale"])
            added[coarse] = added.get(coarse, 0) + int(count)
    side = last["positive"]
    expected = {
        index: int(count)
        for index, count in enumerate(side["bucketCounts"], side["offset"])
        if int(count)
    }
    assert {index: count for index, count in added.items() if count} == expected


def collected(reader: InMemoryMetricReader) -> list[Chunk]:
    data = reader.get_metrics_data()
    return (
        [
            Chunk(SIGNALS["metrics"], RESOURCE, SCOPE, body, count)
            for _, _, _, rows in encode_json.metrics(data)
            for body, count in rows
        ]
        if data
        else []
    )


def test_deltas_are_those_that_the_sdk_itself_would_have_reported() -> None:
    kinds = {Counter: AggregationTemporality.DELTA, Histogram: AggregationTemporality.DELTA}
    plain, direct = InMemoryMetricReader(), InMemoryMetricReader(preferred_temporality=kinds)
    meter = MeterProvider([plain, direct]).get_meter("m")
    counter, recorded = meter.create_counter("c"), meter.create_histogram("h")
    delta = Delta()

    for round_ in range(3):
        counter.add(round_ + 1)
        recorded.record(round_ * 10)
        ours = delta.convert(collected(plain))
        official = collected(direct)
        assert [p["asInt"] for p in points(ours[:1])] == [p["asInt"] for p in points(official[:1])]
        mine, theirs = points(ours[1:], "histogram"), points(official[1:], "histogram")
        assert mine[0]["bucketCounts"] == theirs[0]["bucketCounts"]
        assert mine[0]["sum"] == theirs[0]["sum"]
