"""Spans, events and data points as flat typed records, with plain Python attributes.

The whole of a record, for questions about single ones; `calls` has the quick form for sums.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any, Final

from msgspec import Struct

from otel_empathy.core import semconv
from otel_empathy.store import wire
from otel_empathy.store.calls import FAILED, MOST_MONEY
from otel_empathy.store.reader import Follow, Scan
from otel_empathy.store.window import rfc3339

__all__ = [
    "DECODERS", "Event", "Moment", "Point", "Span", "cost", "count", "currency", "events", "points",
    "spans", "used",
]  # fmt: skip

_KINDS: Final = ("unspecified", "internal", "server", "client", "producer", "consumer")
_SEVERITY: Final = "SEVERITY_NUMBER_"


class Moment(Struct, frozen=True, kw_only=True):
    """A named moment inside a span."""

    time: int
    name: str
    attributes: dict[str, Any]


class Span(Struct, frozen=True, kw_only=True):
    """One span. Times are UTC nanoseconds, `duration` seconds; ids are the text of the file."""

    trace_id: str
    span_id: str
    parent_id: str | None
    name: str
    kind: str
    start: int
    duration: float | None
    failed: bool
    message: str | None
    service: str | None
    scope: str | None
    attributes: dict[str, Any]
    events: list[Moment]
    resource: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """What a line of JSON shows of it."""
        return {
            "signal": "traces",
            "ts": rfc3339(self.start),
            "trace_id": self.trace_id,
            "span_id": self.span_id,
            "parent_id": self.parent_id,
            "name": self.name,
            "kind": self.kind,
            "duration": self.duration,
            "failed": self.failed,
            "message": self.message,
            "service": self.service,
            "attributes": self.attributes,
            "events": [
                {"ts": rfc3339(one.time), "name": one.name, "attributes": one.attributes}
                for one in self.events
            ],
        }


class Event(Struct, frozen=True, kw_only=True):
    """One log record; it is an event when it has a name."""

    time: int
    name: str | None
    severity: int
    severity_text: str | None
    body: Any
    service: str | None
    trace_id: str | None
    span_id: str | None
    attributes: dict[str, Any]
    resource: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """What a line of JSON shows of it."""
        return {
            "signal": "logs",
            "ts": rfc3339(self.time),
            "name": self.name,
            "severity": self.severity,
            "severity_text": self.severity_text,
            "body": self.body,
            "service": self.service,
            "trace_id": self.trace_id,
            "span_id": self.span_id,
            "attributes": self.attributes,
        }


class Point(Struct, frozen=True, kw_only=True):
    """One data point: `value` of a number, `count` and `sum` of a histogram or summary."""

    time: int
    metric: str
    unit: str
    kind: str
    value: float | None
    count: int | None
    sum: float | None
    service: str | None
    attributes: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """What a line of JSON shows of it."""
        return {
            "signal": "metrics",
            "ts": rfc3339(self.time),
            "metric": self.metric,
            "unit": self.unit,
            "kind": self.kind,
            "value": self.value,
            "count": self.count,
            "sum": self.sum,
            "service": self.service,
            "attributes": self.attributes,
        }


def spans(source: Scan | Follow, lines: Iterable[bytes]) -> Iterator[Span]:
    """The spans of lines, in their order."""
    for line in wire.decoded(source, lines, wire.decoder(wire.TracesLine)):
        for sender in line.spans if isinstance(line.spans, list) else ():
            resource = wire.attributes(sender.resource.attributes if sender.resource else None)
            for group in sender.scopes or ():
                scope = group.scope.name if group.scope else None
                for one in group.records or ():
                    yield _span(one, resource, scope)


def events(source: Scan | Follow, lines: Iterable[bytes]) -> Iterator[Event]:
    """The log records of lines, in their order."""
    for line in wire.decoded(source, lines, wire.decoder(wire.LogsLine)):
        for sender in line.logs if isinstance(line.logs, list) else ():
            resource = wire.attributes(sender.resource.attributes if sender.resource else None)
            for group in sender.scopes or ():
                for one in group.records or ():
                    yield _event(one, resource)


def points(source: Scan | Follow, lines: Iterable[bytes]) -> Iterator[Point]:
    """The data points of lines, in their order."""
    for line in wire.decoded(source, lines, wire.decoder(wire.MetricsLine)):
        for sender in line.metrics if isinstance(line.metrics, list) else ():
            resource = wire.attributes(sender.resource.attributes if sender.resource else None)
            service = _text(resource.get(semconv.SERVICE_NAME))
            for group in sender.scopes or ():
                for metric in group.records or ():
                    yield from _points(metric, service)


DECODERS: Final[
    dict[str, Callable[[Scan | Follow, Iterable[bytes]], Iterator[Span | Event | Point]]]
] = {"traces": spans, "metrics": points, "logs": events}


def count(value: object) -> int | None:
    """A count as an attribute carries it; None where it is none that can be."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and value >= 0 else None


def used(attributes: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Input and output tokens of a call, by their names or their older ones."""
    found = [
        next((n for key in keys if (n := count(attributes.get(key))) is not None), None)
        for keys in (
            (semconv.USAGE_INPUT, semconv.OLD_USAGE_INPUT),
            (semconv.USAGE_OUTPUT, semconv.OLD_USAGE_OUTPUT),
        )
    ]
    return found[0], found[1]


def cost(attributes: Mapping[str, Any]) -> Decimal | None:
    """What a call cost, by its attributes; None where they do not say."""
    for key in (semconv.COST_AMOUNT, semconv.GENAI_COST_AMOUNT):
        amount = attributes.get(key)
        if isinstance(amount, bool) or not isinstance(amount, (int, float)):
            continue
        if -MOST_MONEY < amount < MOST_MONEY:
            return Decimal(str(amount))
    if attributes.get(semconv.CALL_CACHE_HIT) is True:
        return Decimal(0)  # nothing was asked of the provider
    return None


def currency(attributes: Mapping[str, Any]) -> str | None:
    """What a call was paid in, by its attributes."""
    found = (attributes.get(key) for key in (semconv.COST_CURRENCY, semconv.GENAI_COST_CURRENCY))
    return next((text for text in found if text and isinstance(text, str)), None)


def _span(one: wire.Span, resource: dict[str, Any], scope: str | None) -> Span:
    start, end = one.start or 0, one.end or 0
    return Span(
        trace_id=(one.trace_id or "").lower(),
        span_id=(one.span_id or "").lower(),
        parent_id=(one.parent_id or "").lower() or None,
        name=one.name or "",
        kind=_kind(one.kind),
        start=start,
        duration=(end - start) / 1e9 if end >= start else None,
        failed=one.status is not None and one.status.code in FAILED,
        message=(one.status.message or None) if one.status else None,
        service=_text(resource.get(semconv.SERVICE_NAME)),
        scope=scope,
        attributes=wire.attributes(one.attributes),
        events=[
            Moment(
                time=event.time or 0,
                name=event.name or "",
                attributes=wire.attributes(event.attributes),
            )
            for event in one.events or ()
        ],
        resource=resource,
    )


def _event(one: wire.LogRecord, resource: dict[str, Any]) -> Event:
    severity = one.severity
    return Event(
        time=one.time or one.observed or 0,
        name=one.name or None,
        severity=severity if isinstance(severity, int) else _number(severity),
        severity_text=one.severity_text or None,
        body=wire.python(one.body),
        service=_text(resource.get(semconv.SERVICE_NAME)),
        trace_id=(one.trace_id or "").lower() or None,
        span_id=(one.span_id or "").lower() or None,
        attributes=wire.attributes(one.attributes),
        resource=resource,
    )


def _points(metric: wire.Metric, service: str | None) -> Iterator[Point]:
    for kind, one in metric.points():
        yield Point(
            time=one.time or 0,
            metric=metric.name or "",
            unit=metric.unit or "",
            kind=kind,
            value=one.whole if one.whole is not None else one.number,
            count=one.count,
            sum=one.sum,
            service=service,
            attributes=wire.attributes(one.attributes),
        )


def _kind(kind: int | str | None) -> str:
    if isinstance(kind, str):
        kind = kind.removeprefix("SPAN_KIND_").lower()
        if kind in _KINDS:
            return kind
        kind = int(kind) if kind.isdecimal() else 0
    return _KINDS[kind] if kind is not None and 0 <= kind < len(_KINDS) else _KINDS[0]


def _number(severity: str | None) -> int:
    """The number of a severity that was written as text: `9`, or `SEVERITY_NUMBER_INFO`."""
    if severity is None:
        return 0
    if severity.isdecimal():
        return int(severity)
    names = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")
    name = severity.removeprefix(_SEVERITY)
    step = name[-1:] if name[-1:].isdecimal() else "1"
    name = name.removesuffix(step)
    return names.index(name) * 4 + int(step) if name in names else 0


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
