"""Chunks: encoded records of one signal that share their resource and their scope.

A chunk is what the log appends, what the tail cache keeps and what a backend is sent: members of
OTLP-JSON objects as bytes that are joined into lines and requests and never taken apart on the way.
`parse` makes chunks of any OTLP-JSON line, ours or a foreign one. How a record becomes bytes is
known in `encode_json`, how bytes become protobuf in `encode_proto`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from otel_empathy.core import semconv

__all__ = ["SIGNALS", "Chunk", "Signal", "count_records", "parse", "records", "split"]


@dataclass(frozen=True, slots=True)
class Signal:
    """One of the three signals: its name, its three OTLP-JSON lists and its path over HTTP."""

    name: str
    outer: str
    inner: str
    leaf: str
    path: str


SIGNALS: Final[dict[str, Signal]] = {
    row.name: row
    for row in (
        Signal("traces", "resourceSpans", "scopeSpans", "spans", "/v1/traces"),
        Signal("metrics", "resourceMetrics", "scopeMetrics", "metrics", "/v1/metrics"),
        Signal("logs", "resourceLogs", "scopeLogs", "logRecords", "/v1/logs"),
    )
}


@dataclass(slots=True)
class Chunk:
    """Records of one resource and scope as OTLP-JSON bytes.

    Args:
        signal: What kind of records these are.
        resource: Members of the outer object without its list and without our segment id; always
            begins with `"resource":{"attributes":[`.
        scope: Members of the inner object without its list.
        body: The records, joined by commas.
        count: How many records these are; for metrics, how many data points.
        proto: The body in protobuf form once a backend has asked for it.
    """

    signal: Signal
    resource: bytes
    scope: bytes
    body: bytes
    count: int
    proto: bytes | None = field(default=None, compare=False, repr=False)


_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_RESOURCE = b'"resource":{"attributes":['
_SEGMENT = b'{"key":"' + semconv.SEGMENT_ID.encode() + b'","value":{"stringValue":"'
_END = b"]}]}]}"
_POINT_LISTS = ("gauge", "sum", "histogram", "exponentialHistogram", "summary")


def parse(line: bytes) -> list[Chunk]:
    """The chunks of one OTLP-JSON line.

    Args:
        line: One JSON value, with or without its newline.

    Raises:
        ValueError: The line holds no OTLP-JSON; the message says in a few words what is wrong.
    """
    line = line.removeprefix(_BYTE_ORDER_MARK).rstrip(b"\r\n")
    try:
        tree = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise ValueError("not JSON") from error
    found = [row for row in SIGNALS.values() if isinstance(tree, dict) and row.outer in tree]
    if not found:
        raise ValueError("no OTLP signal")
    if len(found) > 1:
        raise ValueError("more than one signal")
    signal = found[0]
    chunk = _sliced(signal, tree, line)
    if chunk is not None:
        return [chunk]
    try:
        return list(_rebuilt(signal, tree))
    except orjson.JSONEncodeError as error:
        raise ValueError("nested too deep") from error


def records(chunk: Chunk) -> list[dict[str, Any]]:
    """The records of a chunk as parsed OTLP-JSON objects; for metrics, the metrics."""
    found: list[dict[str, Any]] = orjson.loads(b"[%b]" % chunk.body)
    return found


def count_records(signal: Signal, found: list[dict[str, Any]]) -> int:
    """How many records these parsed objects are; for metrics, how many data points."""
    if signal.name != "metrics":
        return len(found)
    return sum(len(points) for metric in found for points in _points(metric))


def split(chunks: Iterable[Chunk], n: int) -> tuple[list[Chunk], list[Chunk]]:
    """The first `n` records and the rest; a metric with many data points is divided too."""
    head: list[Chunk] = []
    tail: list[Chunk] = []
    for chunk in chunks:
        if n >= chunk.count:
            head.append(chunk)
        elif n <= 0:
            tail.append(chunk)
        else:
            first, rest = _divided(chunk, n)
            head.append(first)
            tail.append(rest)
        n -= chunk.count
    return head, tail


def _sliced(signal: Signal, tree: dict[str, Any], line: bytes) -> Chunk | None:
    """The chunk of a line as our writer lays it out, cut from its bytes; None for any other."""
    head = b'{"%b":[{' % signal.outer.encode()
    to_inner = b',"%b":[{"scope":{' % signal.inner.encode()
    to_leaf = b',"%b":[' % signal.leaf.encode()
    # None of these can stand inside a JSON string, because quotes are escaped there: each is a
    # member name, and one that occurs once in the line is the one that ends the part before it.
    if any(line.count(mark) != 1 for mark in (b'"resource":', to_inner, to_leaf)):
        return None
    if not line.startswith(head + _RESOURCE) or not line.endswith(_END):
        return None
    leaves = _only_leaves(signal, tree)
    if not leaves:
        return None
    start, leaf = line.index(to_inner), line.index(to_leaf)
    resource = _without_segment(line[len(head) : start])
    if resource is None:
        return None
    return Chunk(
        signal=signal,
        resource=resource,
        scope=line[start + len(to_inner) - len(b'"scope":{') : leaf],
        body=line[leaf + len(to_leaf) : -len(_END)],
        count=count_records(signal, leaves),
    )


def _only_leaves(signal: Signal, tree: dict[str, Any]) -> list[dict[str, Any]]:
    """The records of a tree with one resource and one scope whose lists come last, or none."""
    level: Any = tree
    for name in (signal.outer, signal.inner):
        found = level[name] if _last(level) == name else None
        if not isinstance(found, list) or len(found) != 1:
            return []
        level = found[0]
    return _dicts(level[signal.leaf], signal.leaf) if _last(level) == signal.leaf else []


def _last(value: object) -> object:
    """The last member's name of an object that has any."""
    return next(reversed(value), None) if isinstance(value, dict) else None


def _without_segment(resource: bytes) -> bytes | None:
    """A resource's members without our segment id; None where it stands in an unusual place."""
    if resource.startswith(_SEGMENT, len(_RESOURCE)):
        end = resource.find(b'"}}', len(_RESOURCE)) + 3
        if b"\\" in resource[:end]:
            return None
        resource = _RESOURCE + resource[end:].removeprefix(b",")
    return None if semconv.SEGMENT_ID.encode() in resource else resource


def _rebuilt(signal: Signal, tree: dict[str, Any]) -> Iterable[Chunk]:
    for outer in _dicts(tree[signal.outer], signal.outer):
        resource = _resource(outer, signal)
        for inner in _dicts(outer.get(signal.inner), signal.inner):
            leaves = _dicts(inner.get(signal.leaf), signal.leaf)
            if not leaves:
                continue
            scope = _dict(inner.get("scope"), "scope")
            others = {k: v for k, v in inner.items() if k not in {"scope", signal.leaf}}
            yield Chunk(
                signal=signal,
                resource=resource,
                scope=_members({"scope": scope, **others}),
                body=_members(leaves),
                count=count_records(signal, leaves),
            )


def _resource(outer: dict[str, Any], signal: Signal) -> bytes:
    resource = _dict(outer.get("resource"), "resource")
    attributes = _dicts(resource.get("attributes"), "attributes")
    kept = [item for item in attributes if item.get("key") != semconv.SEGMENT_ID]
    resource = {"attributes": kept, **{k: v for k, v in resource.items() if k != "attributes"}}
    others = {k: v for k, v in outer.items() if k not in {"resource", signal.inner}}
    return _members({"resource": resource, **others})


def _members(value: dict[str, Any] | list[dict[str, Any]]) -> bytes:
    """What stands between the brackets of an object or a list."""
    return orjson.dumps(value)[1:-1]


def _dicts(value: object, name: str) -> list[dict[str, Any]]:
    """A JSON list of objects; null and absence are the empty list."""
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ValueError(f"{name} is no list of objects")
    return value


def _dict(value: object, name: str) -> dict[str, Any]:
    """A JSON object; null and absence are the empty one."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"{name} is no object")  # noqa: TRY004 - what is wrong is the line's content
    return value


def _points(metric: dict[str, Any]) -> Iterable[list[dict[str, Any]]]:
    """The data points of a metric, of whatever kind it is."""
    for name in _POINT_LISTS:
        if metric.get(name) is not None:
            yield _dicts(_dict(metric[name], name).get("dataPoints"), "dataPoints")


def _divided(chunk: Chunk, n: int) -> tuple[Chunk, Chunk]:
    """A chunk cut behind its `n`th record, where `n` lies inside it."""
    first: list[dict[str, Any]] = []
    rest: list[dict[str, Any]] = []
    left = n
    for record in records(chunk):
        size = count_records(chunk.signal, [record])
        if size <= left:
            first.append(record)
        elif left <= 0:
            rest.append(record)
        else:
            first.append(_with_points(record, 0, left))
            rest.append(_with_points(record, left, size))
        left -= size
    return _like(chunk, first, n), _like(chunk, rest, chunk.count - n)


def _with_points(metric: dict[str, Any], start: int, stop: int) -> dict[str, Any]:
    found = dict(metric)
    for name in _POINT_LISTS:
        if metric.get(name) is not None:
            points = metric[name].get("dataPoints") or []
            found[name] = {**metric[name], "dataPoints": points[start:stop]}
    return found


def _like(chunk: Chunk, leaves: list[dict[str, Any]], count: int) -> Chunk:
    return Chunk(chunk.signal, chunk.resource, chunk.scope, _members(leaves), count)
