"""OTLP protobuf bytes, written from OTLP-JSON without the protobuf library.

The messages are tables: the JSON name of a field and what writes it. A chunk's records are written
once and kept on the chunk, so that every backend shares them; requests are made by joining, because
protobuf messages merge by concatenation. Fields that the tables do not know are left out. What
cannot be written raises `ValueError`, so that a batch can be split until the record is found.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, Final

import orjson

from otel_empathy.pipeline.chunk import Chunk, Signal, records

__all__ = ["record", "request", "resource", "scope"]

Write = Callable[[Any], bytes]
"""Writes one field, its tag included, from the field's JSON value."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_UINT64 = 2**64
_DOUBLES = struct.Struct("<d")
_FIXED64S = struct.Struct("<Q")
_SFIXED64S = struct.Struct("<q")
_FIXED32S = struct.Struct("<I")
_CACHED = 4096  # attributes kept as bytes
_SHORT = 64  # characters of a text that is kept


def request(signal: Signal, chunks: Iterable[Chunk]) -> bytes:
    """One protobuf export request; what is equal in resource and scope stands together.

    Raises:
        ValueError: A record has a field that its JSON value does not fit.
    """
    groups: dict[bytes, dict[bytes, list[bytes]]] = {}
    for chunk in chunks:
        if chunk.proto is None:
            chunk.proto = b"".join(
                [b"\x12" + _sized(record(signal, found)) for found in records(chunk)]
            )
        groups.setdefault(chunk.resource, {}).setdefault(chunk.scope, []).append(chunk.proto)
    return b"".join([
        b"\x0a" + _sized(resource(outer) + b"".join([
            b"\x12" + _sized(scope(inner) + b"".join(bodies)) for inner, bodies in scopes.items()
        ]))
        for outer, scopes in groups.items()
    ])  # fmt: skip


def record(signal: Signal, obj: dict[str, Any]) -> bytes:
    """One span, metric or log record as protobuf message."""
    return _checked(_LEAVES[signal.name], obj, signal.leaf)


@lru_cache(maxsize=256)
def resource(members: bytes) -> bytes:
    """Resource and schema of a chunk as fields of the outer message."""
    return _checked(_OUTER, orjson.loads(b"{%b}" % members), "resource")


@lru_cache(maxsize=1024)
def scope(members: bytes) -> bytes:
    """Scope and schema of a chunk as fields of the inner message."""
    return _checked(_INNER, orjson.loads(b"{%b}" % members), "scope")


def _checked(fields: dict[str, Write], obj: dict[str, Any], name: str) -> bytes:
    try:
        return _message(fields, obj)
    except (AttributeError, TypeError, ValueError, OverflowError, struct.error) as error:
        raise ValueError(f"{name}: {error}") from error
    except RecursionError as error:
        raise ValueError(f"{name}: nested too deep") from error


# -- the wire -------------------------------------------------------------------------------------
def _message(fields: dict[str, Write], obj: dict[str, Any]) -> bytes:
    return b"".join(
        [fields[name](value) for name, value in obj.items() if value is not None and name in fields]
    )


def _long(number: int) -> bytes:
    out = bytearray()
    while number > 127:  # noqa: PLR2004 - seven bits go into each byte
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


_VARINTS: Final = tuple(_long(number) for number in range(1024))


def _varint(number: int) -> bytes:
    if 0 <= number < 1024:  # noqa: PLR2004 - the length of the table
        return _VARINTS[number]
    if not -_UINT64 // 2 <= number < _UINT64:
        raise ValueError("an integer is wider than 64 bit")
    return _long(number % _UINT64)


def _sized(raw: bytes) -> bytes:
    return _varint(len(raw)) + raw


def _tag(number: int, wire: int) -> bytes:
    return _varint(number << 3 | wire)


# -- fields ---------------------------------------------------------------------------------------
def _string(number: int) -> Write:
    tag = _tag(number, _BYTES)

    def write(value: str) -> bytes:
        raw = value.encode()
        return tag + _varint(len(raw)) + raw

    return write


def _identifier(number: int, size: int) -> Write:
    """A trace or span id, in hexadecimal digits."""
    tag = _tag(number, _BYTES)
    head = tag + _varint(size)

    def write(value: str) -> bytes:
        raw = bytes.fromhex(value)
        if len(raw) == size:
            return head + raw
        if raw:
            raise ValueError(f"an id has {len(raw)} bytes instead of {size}")
        return b""

    return write


def _base64(number: int) -> Write:
    tag = _tag(number, _BYTES)

    def write(value: str) -> bytes:
        plain = value.replace("-", "+").replace("_", "/").rstrip("=")
        return tag + _sized(base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True))

    return write


def _packed(number: int, wire: int, pack: Callable[[Any], bytes]) -> Write:
    """A number of fixed width."""
    tag = _tag(number, wire)

    def write(value: Any) -> bytes:
        return tag + pack(value)

    return write


def _fixed64(number: int) -> Write:
    return _packed(number, _FIXED64, lambda value: _FIXED64S.pack(int(value)))


def _sfixed64(number: int) -> Write:
    return _packed(number, _FIXED64, lambda value: _SFIXED64S.pack(int(value)))


def _fixed32(number: int) -> Write:
    return _packed(number, _FIXED32, lambda value: _FIXED32S.pack(int(value)))


def _double(number: int) -> Write:
    return _packed(number, _FIXED64, lambda value: _DOUBLES.pack(float(value)))


def _int(number: int) -> Write:
    return _packed(number, _VARINT, lambda value: _varint(int(value)))


def _sint(number: int) -> Write:
    return _packed(number, _VARINT, lambda value: _varint(_zigzag(int(value))))


def _zigzag(value: int) -> int:
    return value * 2 if value >= 0 else -value * 2 - 1


def _bool(number: int) -> Write:
    tag = _tag(number, _VARINT)

    def write(value: bool) -> bytes:  # noqa: FBT001 - the one thing a field writer takes
        if value is True:
            return tag + b"\x01"
        if value is False:
            return tag + b"\x00"
        raise ValueError("a boolean is neither true nor false")

    return write


def _enum(number: int, prefix: str, names: tuple[str, ...]) -> Write:
    """An enum, by number as OTLP wants it or by name as lax writers do."""
    tag = _tag(number, _VARINT)
    numbers = {prefix + name: _varint(index) for index, name in enumerate(names)}

    def write(value: int | str) -> bytes:
        if isinstance(value, str) and value in numbers:
            return tag + numbers[value]
        return tag + _varint(int(value))

    return write


def _one(number: int, fields: dict[str, Write]) -> Write:
    tag = _tag(number, _BYTES)

    def write(value: dict[str, Any]) -> bytes:
        return tag + _sized(_message(fields, value))

    return write


def _many(number: int, fields: dict[str, Write]) -> Write:
    tag = _tag(number, _BYTES)

    def write(values: list[dict[str, Any]]) -> bytes:
        return b"".join([tag + _sized(_message(fields, value)) for value in values])

    return write


def _strings(number: int) -> Write:
    write_one = _string(number)

    def write(values: list[str]) -> bytes:
        return b"".join([write_one(value) for value in values])

    return write


def _numbers(number: int, code: str, kind: type[int | float]) -> Write:
    """A packed list of fixed-width numbers."""
    tag = _tag(number, _BYTES)

    def write(values: list[Any]) -> bytes:
        return tag + _sized(struct.pack(f"<{len(values)}{code}", *map(kind, values)))

    return write


def _varints(number: int) -> Write:
    tag = _tag(number, _BYTES)

    def write(values: list[Any]) -> bytes:
        return tag + _sized(b"".join([_varint(int(value)) for value in values]))

    return write


def _attributes(number: int) -> Write:
    """A list of attributes, the hottest field of all."""
    tag = _tag(number, _BYTES)

    def write(values: list[dict[str, Any]]) -> bytes:
        return b"".join([tag + _attribute(value) for value in values])

    return write


# -- attributes and values ------------------------------------------------------------------------
_kept: dict[tuple[str, str, str], bytes] = {}
_keys: dict[str, bytes] = {}


def _attribute(obj: dict[str, Any]) -> bytes:
    """A key with its value, as message with its length before it."""
    key = obj.get("key", "")
    value = obj.get("value") or {}
    for kind, content in value.items():
        if kind == "doubleValue" and len(key) <= _SHORT:
            head = _key(key)
            packed = _DOUBLES.pack(float(content))
            return _VARINTS[len(head) + 11] + head + b"\x12\x09\x21" + packed
        # Texts and integers, which JSON has as texts too, come again and again, and so do lists
        # of one text.
        found = content
        if kind == "arrayValue":
            found = _only_text(content)
        if type(found) is str and len(found) <= _SHORT and len(value) == 1:
            kept = _kept.get((key, kind, found))
            if kept is None:
                kept = _written(key, value)
                if len(key) <= _SHORT:
                    _keep(_kept, (key, kind, found), kept)
            return kept
        break
    return _written(key, value)


def _only_text(array: dict[str, Any]) -> str | None:
    """The text of a list that holds nothing else."""
    items = array.get("values")
    if not items or len(items) != 1 or len(items[0]) != 1:
        return None
    return items[0].get("stringValue")  # type: ignore[no-any-return]


def _written(key: str, value: dict[str, Any]) -> bytes:
    raw = _message(_ANY, value)
    return _sized(b"%b\x12%b%b" % (_key(key), _varint(len(raw)), raw))


def _key(key: str) -> bytes:
    kept = _keys.get(key)
    if kept is None:
        kept = b"\x0a" + _sized(key.encode())
        if len(key) <= _SHORT:
            _keep(_keys, key, kept)
    return kept


def _keep(cache: dict[Any, bytes], key: Any, value: bytes) -> None:
    """Keep a fragment; a full cache starts anew, since what is frequent comes back at once."""
    if len(cache) >= _CACHED:
        cache.clear()
    cache[key] = value


# -- the messages, field by field -----------------------------------------------------------------
_ANY: dict[str, Write] = {
    "stringValue": _string(1),
    "boolValue": _bool(2),
    "intValue": _int(3),
    "doubleValue": _double(4),
    "bytesValue": _base64(7),
    "stringValueStrindex": _int(8),
}
_ANY["arrayValue"] = _one(5, {"values": _many(1, _ANY)})
_ANY["kvlistValue"] = _one(6, {"values": _attributes(1)})

_ENTITY: Final[dict[str, Write]] = {
    "schemaUrl": _string(1),
    "type": _string(2),
    "idKeys": _strings(3),
    "descriptionKeys": _strings(4),
}
_OUTER: Final[dict[str, Write]] = {
    "resource": _one(
        1,
        {
            "attributes": _attributes(1),
            "droppedAttributesCount": _int(2),
            "entityRefs": _many(3, _ENTITY),
        },
    ),
    "schemaUrl": _string(3),
}
_INNER: Final[dict[str, Write]] = {
    "scope": _one(
        1,
        {
            "name": _string(1),
            "version": _string(2),
            "attributes": _attributes(3),
            "droppedAttributesCount": _int(4),
        },
    ),
    "schemaUrl": _string(3),
}

_EVENT: Final[dict[str, Write]] = {
    "timeUnixNano": _fixed64(1),
    "name": _string(2),
    "attributes": _attributes(3),
    "droppedAttributesCount": _int(4),
}
_LINK: Final[dict[str, Write]] = {
    "traceId": _identifier(1, 16),
    "spanId": _identifier(2, 8),
    "traceState": _string(3),
    "attributes": _attributes(4),
    "droppedAttributesCount": _int(5),
    "flags": _fixed32(6),
}
_SPAN: Final[dict[str, Write]] = {
    "traceId": _identifier(1, 16),
    "spanId": _identifier(2, 8),
    "traceState": _string(3),
    "parentSpanId": _identifier(4, 8),
    "name": _string(5),
    "kind": _enum(
        6,
        "SPAN_KIND_",
        ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"),
    ),
    "startTimeUnixNano": _fixed64(7),
    "endTimeUnixNano": _fixed64(8),
    "attributes": _attributes(9),
    "droppedAttributesCount": _int(10),
    "events": _many(11, _EVENT),
    "droppedEventsCount": _int(12),
    "links": _many(13, _LINK),
    "droppedLinksCount": _int(14),
    "status": _one(
        15, {"message": _string(2), "code": _enum(3, "STATUS_CODE_", ("UNSET", "OK", "ERROR"))}
    ),
    "flags": _fixed32(16),
}

_EXEMPLAR: Final[dict[str, Write]] = {
    "timeUnixNano": _fixed64(2),
    "asDouble": _double(3),
    "spanId": _identifier(4, 8),
    "traceId": _identifier(5, 16),
    "asInt": _sfixed64(6),
    "filteredAttributes": _attributes(7),
}
_NUMBER: Final[dict[str, Write]] = {
    "startTimeUnixNano": _fixed64(2),
    "timeUnixNano": _fixed64(3),
    "asDouble": _double(4),
    "exemplars": _many(5, _EXEMPLAR),
    "asInt": _sfixed64(6),
    "attributes": _attributes(7),
    "flags": _int(8),
}
_HISTOGRAM: Final[dict[str, Write]] = {
    "startTimeUnixNano": _fixed64(2),
    "timeUnixNano": _fixed64(3),
    "count": _fixed64(4),
    "sum": _double(5),
    "bucketCounts": _numbers(6, "Q", int),
    "explicitBounds": _numbers(7, "d", float),
    "exemplars": _many(8, _EXEMPLAR),
    "attributes": _attributes(9),
    "flags": _int(10),
    "min": _double(11),
    "max": _double(12),
}
_BUCKETS: Final[dict[str, Write]] = {"offset": _sint(1), "bucketCounts": _varints(2)}
_EXPONENTIAL: Final[dict[str, Write]] = {
    "attributes": _attributes(1),
    "startTimeUnixNano": _fixed64(2),
    "timeUnixNano": _fixed64(3),
    "count": _fixed64(4),
    "sum": _double(5),
    "scale": _sint(6),
    "zeroCount": _fixed64(7),
    "positive": _one(8, _BUCKETS),
    "negative": _one(9, _BUCKETS),
    "flags": _int(10),
    "exemplars": _many(11, _EXEMPLAR),
    "min": _double(12),
    "max": _double(13),
    "zeroThreshold": _double(14),
}
_SUMMARY: Final[dict[str, Write]] = {
    "startTimeUnixNano": _fixed64(2),
    "timeUnixNano": _fixed64(3),
    "count": _fixed64(4),
    "sum": _double(5),
    "quantileValues": _many(6, {"quantile": _double(1), "value": _double(2)}),
    "attributes": _attributes(7),
    "flags": _int(8),
}
_TEMPORALITY = _enum(2, "AGGREGATION_TEMPORALITY_", ("UNSPECIFIED", "DELTA", "CUMULATIVE"))
_METRIC: Final[dict[str, Write]] = {
    "name": _string(1),
    "description": _string(2),
    "unit": _string(3),
    "gauge": _one(5, {"dataPoints": _many(1, _NUMBER)}),
    "sum": _one(
        7,
        {
            "dataPoints": _many(1, _NUMBER),
            "aggregationTemporality": _TEMPORALITY,
            "isMonotonic": _bool(3),
        },
    ),
    "histogram": _one(
        9, {"dataPoints": _many(1, _HISTOGRAM), "aggregationTemporality": _TEMPORALITY}
    ),
    "exponentialHistogram": _one(
        10, {"dataPoints": _many(1, _EXPONENTIAL), "aggregationTemporality": _TEMPORALITY}
    ),
    "summary": _one(11, {"dataPoints": _many(1, _SUMMARY)}),
    "metadata": _attributes(12),
}

_SEVERITIES = (
    "UNSPECIFIED",
    *(
        name + number
        for name in ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")
        for number in ("", "2", "3", "4")
    ),
)
_LOG_RECORD: Final[dict[str, Write]] = {
    "timeUnixNano": _fixed64(1),
    "severityNumber": _enum(2, "SEVERITY_NUMBER_", _SEVERITIES),
    "severityText": _string(3),
    "body": _one(5, _ANY),
    "attributes": _attributes(6),
    "droppedAttributesCount": _int(7),
    "flags": _fixed32(8),
    "traceId": _identifier(9, 16),
    "spanId": _identifier(10, 8),
    "observedTimeUnixNano": _fixed64(11),
    "eventName": _string(12),
}
_LEAVES: Final = {"traces": _SPAN, "metrics": _METRIC, "logs": _LOG_RECORD}
