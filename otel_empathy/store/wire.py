"""OTLP-JSON as typed structs: the fields that readers look at, everything else is skipped.

Ids stay the text that stands in the file, 64-bit numbers may be numbers or strings, null is the
same as absent, unknown fields are ignored. What the records mean is for `records` and `calls`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any, Final, TypeVar

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType, field

from otel_empathy.store.reader import Follow, Scan

__all__ = [
    "FAULTS", "LINES", "AnyValue", "Attribute", "Line", "LogRecord", "LogsLine", "Metric",
    "MetricsLine", "Resource", "Scope", "Span", "SpanEvent", "Status", "Time", "TracesLine",
    "Whole", "attributes", "decoded", "decoder", "python",
]  # fmt: skip

T = TypeVar("T")

# Numbers that OTLP can carry. Without these bounds a file could hold one that is too large to be
# divided or printed.
_MOST: Final = (1 << 63) - 1
Time = Annotated[int, Meta(ge=0, le=_MOST)]
Whole = Annotated[int, Meta(ge=-_MOST - 1, le=_MOST)]

FAULTS: Final = (msgspec.DecodeError, ValueError, RecursionError)


class AnyValue(Struct, frozen=True, gc=False):
    """A value of an attribute; nothing set is the empty value."""

    text: str | None = field(default=None, name="stringValue")
    flag: bool | None = field(default=None, name="boolValue")
    whole: Whole | None = field(default=None, name="intValue")
    number: float | None = field(default=None, name="doubleValue")
    array: ArrayValue | None = field(default=None, name="arrayValue")
    map: KeyValues | None = field(default=None, name="kvlistValue")
    bytes: str | None = field(default=None, name="bytesValue")


class ArrayValue(Struct, frozen=True, gc=False):
    """A list of values."""

    values: list[AnyValue] | None = None


class Attribute(Struct, frozen=True, gc=False):
    """A key and its value."""

    key: str = ""
    value: AnyValue | None = None


class KeyValues(Struct, frozen=True, gc=False):
    """A map of values."""

    values: list[Attribute] | None = None


class Resource(Struct, frozen=True, gc=False):
    """What sent the records."""

    attributes: list[Attribute] | None = None


class Scope(Struct, frozen=True, gc=False):
    """The part of the program that made the records."""

    name: str | None = None
    version: str | None = None


class Status(Struct, frozen=True, gc=False):
    """How a span ended."""

    code: int | str | None = 0
    message: str | None = None


class SpanEvent(Struct, frozen=True, gc=False):
    """Something that happened during a span."""

    time: Time | None = field(default=0, name="timeUnixNano")
    name: str | None = None
    attributes: list[Attribute] | None = None


class Span(Struct, frozen=True, gc=False):
    """One span."""

    trace_id: str | None = field(default=None, name="traceId")
    span_id: str | None = field(default=None, name="spanId")
    parent_id: str | None = field(default=None, name="parentSpanId")
    name: str | None = None
    kind: int | str | None = 0
    start: Time | None = field(default=0, name="startTimeUnixNano")
    end: Time | None = field(default=0, name="endTimeUnixNano")
    attributes: list[Attribute] | None = None
    events: list[SpanEvent] | None = None
    status: Status | None = None


class LogRecord(Struct, frozen=True, gc=False):
    """One log record; an event when it has a name."""

    time: Time | None = field(default=0, name="timeUnixNano")
    observed: Time | None = field(default=0, name="observedTimeUnixNano")
    severity: int | str | None = field(default=0, name="severityNumber")
    severity_text: str | None = field(default=None, name="severityText")
    name: str | None = field(default=None, name="eventName")
    body: AnyValue | None = None
    attributes: list[Attribute] | None = None
    trace_id: str | None = field(default=None, name="traceId")
    span_id: str | None = field(default=None, name="spanId")


class DataPoint(Struct, frozen=True, gc=False):
    """One point of a metric: a number, or the sums of a histogram or summary."""

    time: Time | None = field(default=0, name="timeUnixNano")
    attributes: list[Attribute] | None = None
    whole: Whole | None = field(default=None, name="asInt")
    number: float | None = field(default=None, name="asDouble")
    count: Whole | None = None
    sum: float | None = None


class Points(Struct, frozen=True, gc=False):
    """The points of a metric."""

    points: list[DataPoint] | None = field(default=None, name="dataPoints")


class Metric(Struct, frozen=True, gc=False):
    """One metric with its points."""

    name: str | None = None
    unit: str | None = None
    gauge: Points | None = None
    sum: Points | None = None
    histogram: Points | None = None
    exponential: Points | None = field(default=None, name="exponentialHistogram")
    summary: Points | None = None

    def points(self) -> Iterator[tuple[str, DataPoint]]:
        """Each data point with the kind of data it belongs to."""
        for kind in ("gauge", "sum", "histogram", "exponential", "summary"):
            data: Points | None = getattr(self, kind)
            for one in (data.points if data is not None else None) or ():
                yield kind, one


class ScopeSpans(Struct, frozen=True, gc=False):
    """Spans of one scope."""

    scope: Scope | None = None
    records: list[Span] | None = field(default=None, name="spans")


class ScopeLogs(Struct, frozen=True, gc=False):
    """Log records of one scope."""

    scope: Scope | None = None
    records: list[LogRecord] | None = field(default=None, name="logRecords")


class ScopeMetrics(Struct, frozen=True, gc=False):
    """Metrics of one scope."""

    scope: Scope | None = None
    records: list[Metric] | None = field(default=None, name="metrics")


class ResourceSpans(Struct, frozen=True, gc=False):
    """Spans of one resource."""

    resource: Resource | None = None
    scopes: list[ScopeSpans] | None = field(default=None, name="scopeSpans")


class ResourceLogs(Struct, frozen=True, gc=False):
    """Log records of one resource."""

    resource: Resource | None = None
    scopes: list[ScopeLogs] | None = field(default=None, name="scopeLogs")


class ResourceMetrics(Struct, frozen=True, gc=False):
    """Metrics of one resource."""

    resource: Resource | None = None
    scopes: list[ScopeMetrics] | None = field(default=None, name="scopeMetrics")


class Line(Struct, frozen=True, gc=False):
    """The signals that a line may hold; each kind of line types its own."""

    spans: Any = field(default=UNSET, name="resourceSpans")
    logs: Any = field(default=UNSET, name="resourceLogs")
    metrics: Any = field(default=UNSET, name="resourceMetrics")

    def __post_init__(self) -> None:
        """A line without any signal is somebody else's JSON."""
        if self.spans is UNSET and self.logs is UNSET and self.metrics is UNSET:
            raise ValueError("no OTLP signal in it")


class TracesLine(Line, frozen=True, gc=False):
    """A line that is read for its spans."""

    spans: list[ResourceSpans] | UnsetType | None = field(default=UNSET, name="resourceSpans")
    logs: Raw | UnsetType = field(default=UNSET, name="resourceLogs")
    metrics: Raw | UnsetType = field(default=UNSET, name="resourceMetrics")


class LogsLine(Line, frozen=True, gc=False):
    """A line that is read for its log records."""

    logs: list[ResourceLogs] | UnsetType | None = field(default=UNSET, name="resourceLogs")
    spans: Raw | UnsetType = field(default=UNSET, name="resourceSpans")
    metrics: Raw | UnsetType = field(default=UNSET, name="resourceMetrics")


class MetricsLine(Line, frozen=True, gc=False):
    """A line that is read for its metrics."""

    metrics: list[ResourceMetrics] | UnsetType | None = field(default=UNSET, name="resourceMetrics")
    spans: Raw | UnsetType = field(default=UNSET, name="resourceSpans")
    logs: Raw | UnsetType = field(default=UNSET, name="resourceLogs")


LINES: Final[dict[str, type[Line]]] = {
    "traces": TracesLine,
    "logs": LogsLine,
    "metrics": MetricsLine,
}


def decoder(kind: type[T]) -> Callable[[bytes], T]:
    """What turns a line into a struct; it raises one of `FAULTS` at a line that is none."""
    # Not strict, because OTLP-JSON writes 64-bit numbers as strings.
    return msgspec.json.Decoder(kind, strict=False).decode


def decoded(
    source: Scan | Follow, lines: Iterable[bytes], decode: Callable[[bytes], T]
) -> Iterator[T]:
    """The lines of a source decoded; those that cannot be are counted there and passed over."""
    for line in lines:
        try:
            found = decode(line)
        except FAULTS:
            again = _again(source, line, decode)
            if again is None:
                continue
            found = again
        yield found


def _again(source: Scan | Follow, line: bytes, decode: Callable[[bytes], T]) -> T | None:
    """A line that made no sense as it stands, mended; None when that did not help."""
    whole = _whole(line)
    if whole is not line:
        try:
            return decode(whole)
        except FAULTS:
            pass  # it may have more than one fault
    rest = source.rescue(whole)
    if rest is None:
        return None
    try:
        return decode(rest)
    except FAULTS:
        return None  # it was counted when the rescue was tried


# Escapes one by one, so that the backslash of `\\ud800` is not taken for the beginning of one.
_ESCAPES: Final = re.compile(
    rb"(\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    rb"|\\u[dD][89a-fA-F][0-9a-fA-F]{2}|(\\.)",
    re.DOTALL,
)


def _whole(line: bytes) -> bytes:
    """The line with U+FFFD for each half of a surrogate pair, as JavaScript cuts texts."""
    if b"\\ud" not in line and b"\\uD" not in line:
        return line
    return _ESCAPES.sub(lambda found: found[1] or found[2] or b"\\ufffd", line)


def python(value: AnyValue | None, *, depth: int = 32) -> Any:
    """The value in Python's own types; bytes stay base64 text, what lies too deep is left out."""
    if value is None or depth == 0:
        return None
    for found in (value.text, value.flag, value.whole, value.number, value.bytes):
        if found is not None:
            return found
    if value.array is not None:
        return [python(one, depth=depth - 1) for one in value.array.values or ()]
    if value.map is not None:
        return {one.key: python(one.value, depth=depth - 1) for one in value.map.values or ()}
    return None


def attributes(found: list[Attribute] | None) -> dict[str, Any]:
    """Attributes as a dict; the last of two equal keys stands."""
    return {one.key: python(one.value) for one in found or ()}
