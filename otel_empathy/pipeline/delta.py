"""Cumulative metrics as deltas, for backends that prefer those.

The log holds cumulative points; what changed between two of them is worked out here while shipping.
Only monotonic sums and histograms have deltas; gauges and other sums pass as they are. Which
backend wants deltas is not known here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import orjson

from otel_empathy.pipeline.chunk import Chunk, count_records, records

__all__ = ["Delta"]

Point = dict[str, Any]
Series = tuple[bytes, bytes, str, bytes]

_DELTA: Final = 1
_CUMULATIVE: Final = (2, "AGGREGATION_TEMPORALITY_CUMULATIVE")


class Delta:
    """The last point of each series, and the change to the next one.

    A batch is converted once: one that could not be delivered is kept as converted and sent again.
    """

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last: dict[Series, Point] = {}

    def convert(self, chunks: Iterable[Chunk]) -> list[Chunk]:
        """The same metrics with deltas in place of cumulative sums and histograms.

        The first point of a series counts in full, and so does one behind a reset; points that are
        not newer than the last one are left out, because they have been counted. A metric that is
        not in order passes as it is.
        """
        found = [self._converted(chunk) for chunk in chunks]
        return [chunk for chunk in found if chunk is not None]

    def prime(self, chunks: Iterable[Chunk]) -> None:
        """Take note of points that a backend has already, so that the next ones follow on them."""
        self.convert(chunks)

    def _converted(self, chunk: Chunk) -> Chunk | None:
        metrics = records(chunk)
        if not any(_subtraction(metric) for metric in metrics):
            return chunk
        kept = []
        count = 0
        for metric in metrics:
            try:
                points = self._points(chunk, metric)
            except (AttributeError, TypeError, ValueError, OverflowError):
                points = None  # the backend that is sent it counts it as refused
            if points is None:
                kept.append(metric)
                count += count_records(chunk.signal, [metric])
            elif points:
                name = _data(metric)
                data = {**metric[name], "dataPoints": points, "aggregationTemporality": _DELTA}
                kept.append({**metric, name: data})
                count += len(points)
        if not kept:
            return None
        body = b",".join([orjson.dumps(metric) for metric in kept])
        return Chunk(chunk.signal, chunk.resource, chunk.scope, body, count)

    def _points(self, chunk: Chunk, metric: dict[str, Any]) -> list[Point] | None:
        """The deltas of a metric's points; None if it is of a kind that passes as it is."""
        subtract = _subtraction(metric)
        if subtract is None:
            return None
        name = _data(metric)
        found = []
        for point in metric[name].get("dataPoints") or ():
            series = (
                chunk.resource,
                chunk.scope,
                f"{name} {metric.get('name')} {metric.get('unit')}",
                _identity(point),
            )
            change = self._change(series, point, subtract)
            if change is not None:
                found.append(change)
        return found

    def _change(
        self, series: Series, point: Point, subtract: Callable[[Point, Point], Point | None]
    ) -> Point | None:
        last = self._last.get(series)
        if last is not None and _time(point) <= _time(last):
            return None
        self._last[series] = point
        change = None
        if last is not None and _start(point) == _start(last):
            change = subtract(point, last)
            # Gone back without a new start: the reset lies somewhere behind the last point.
            change = change if change is not None else dict(point)
            change["startTimeUnixNano"] = last["timeUnixNano"]
        change = dict(point) if change is None else change
        change.pop("min", None)  # of all the time since the start, not of the change
        change.pop("max", None)
        return change


def _subtraction(metric: dict[str, Any]) -> Callable[[Point, Point], Point | None] | None:
    """How two points of a metric are subtracted; None if it has no deltas."""
    name = _data(metric)
    if name not in _SUBTRACTIONS or metric[name].get("aggregationTemporality") not in _CUMULATIVE:
        return None
    if name == "sum" and metric[name].get("isMonotonic") is not True:
        return None
    return _SUBTRACTIONS[name]


def _data(metric: dict[str, Any]) -> str:
    for name in _KINDS:
        if metric.get(name) is not None:
            return name
    return ""


def _identity(point: Point) -> bytes:
    attributes = point.get("attributes") or []
    return orjson.dumps(sorted(attributes, key=lambda item: str(item.get("key"))))


def _time(point: Point) -> int:
    return int(point.get("timeUnixNano") or 0)


def _start(point: Point) -> int:
    return int(point.get("startTimeUnixNano") or 0)


def _number_change(point: Point, last: Point) -> Point | None:
    if "asInt" in point and "asInt" in last:
        whole = int(point["asInt"]) - int(last["asInt"])
        return {**point, "asInt": str(whole)} if whole >= 0 else None
    change = _number(point) - _number(last)
    if change < 0:
        return None
    found = {name: value for name, value in point.items() if name != "asInt"}
    return {**found, "asDouble": change}


def _number(point: Point) -> float:
    value = point.get("asInt")
    return float(point.get("asDouble") or 0.0) if value is None else float(value)


def _histogram_change(point: Point, last: Point) -> Point | None:
    counts, before = point.get("bucketCounts") or [], last.get("bucketCounts") or []
    if point.get("explicitBounds") != last.get("explicitBounds") or len(counts) != len(before):
        return None
    buckets = [int(now) - int(then) for now, then in zip(counts, before, strict=True)]
    count = int(point.get("count") or 0) - int(last.get("count") or 0)
    if count < 0 or any(bucket < 0 for bucket in buckets):
        return None
    return _summed(point, last, count) | {"bucketCounts": [str(bucket) for bucket in buckets]}


def _exponential_change(point: Point, last: Point) -> Point | None:
    shift = int(last.get("scale") or 0) - int(point.get("scale") or 0)
    count = int(point.get("count") or 0) - int(last.get("count") or 0)
    zero = int(point.get("zeroCount") or 0) - int(last.get("zeroCount") or 0)
    if (
        shift < 0
        or count < 0
        or zero < 0
        or point.get("zeroThreshold") != last.get("zeroThreshold")
    ):
        return None
    found = _summed(point, last, count) | {"zeroCount": str(zero)}
    for name in ("positive", "negative"):
        now, then = _buckets(point.get(name), 0), _buckets(last.get(name), shift)
        change = {index: now.get(index, 0) - then.get(index, 0) for index in now.keys() | then}
        if any(bucket < 0 for bucket in change.values()):
            return None
        found[name] = _side(change)
    return found


def _buckets(side: dict[str, Any] | None, shift: int) -> dict[int, int]:
    """One half of an exponential histogram by index, at a scale that is `shift` steps coarser."""
    side = side or {}
    found: dict[int, int] = {}
    for index, count in enumerate(side.get("bucketCounts") or (), int(side.get("offset") or 0)):
        found[index >> shift] = found.get(index >> shift, 0) + int(count)
    return found


def _side(buckets: dict[int, int]) -> dict[str, Any]:
    filled = [index for index, count in buckets.items() if count]
    if not filled:
        return {"offset": 0, "bucketCounts": []}
    indices = range(min(filled), max(filled) + 1)
    return {"offset": indices[0], "bucketCounts": [str(buckets.get(i, 0)) for i in indices]}


def _summed(point: Point, last: Point, count: int) -> Point:
    """A histogram's point with the change of its count and, where both tell it, of its sum."""
    found = {name: value for name, value in point.items() if name != "sum"}
    found["count"] = str(count)
    if point.get("sum") is not None and last.get("sum") is not None:
        found["sum"] = float(point["sum"]) - float(last["sum"])
    return found


_SUBTRACTIONS: Final = {
    "sum": _number_change,
    "histogram": _histogram_change,
    "exponentialHistogram": _exponential_change,
}
_KINDS: Final = ("gauge", *_SUBTRACTIONS, "summary")
