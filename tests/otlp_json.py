"""OTLP-JSON requests and segments made by hand, for tests that need a sender without our SDK."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

START = 1_780_000_000_000_000_000
LISTS = {
    "traces": ("resourceSpans", "scopeSpans", "spans"),
    "metrics": ("resourceMetrics", "scopeMetrics", "metrics"),
    "logs": ("resourceLogs", "scopeLogs", "logRecords"),
}


def attributes(values: Mapping[str, str | int | float | bool]) -> list[dict[str, Any]]:
    """Attributes in OTLP-JSON: 64-bit integers are strings."""
    return [{"key": key, "value": _value(value)} for key, value in values.items()]


def _value(value: str | float | bool) -> dict[str, Any]:  # an attribute's value
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    return {"stringValue": value}


def span(number: int, *, trace: int = 1, seconds: float = 1.0, **more: Any) -> dict[str, Any]:
    """A span with ids made of numbers."""
    plain = {
        "traceId": f"{trace:032x}",
        "spanId": f"{number:016x}",
        "name": f"chat {number}",
        "kind": 3,
        "startTimeUnixNano": str(START),
        "endTimeUnixNano": str(START + int(seconds * 1e9)),
        "attributes": attributes({"gen_ai.request.model": "m-1", "n": number, "share": 0.5}),
        "status": {},
    }
    return {**plain, **more}


def metric(number: int) -> dict[str, Any]:
    """A cumulative counter with one point."""
    point = {
        "attributes": attributes({"n": number}),
        "startTimeUnixNano": str(START),
        "timeUnixNano": str(START + number),
        "asInt": str(number),
    }
    sums = {"aggregationTemporality": 2, "isMonotonic": True, "dataPoints": [point]}
    return {"name": f"calls.{number}", "description": "Calls.", "unit": "{call}", "sum": sums}


def log(number: int) -> dict[str, Any]:
    """A log record that is an event."""
    return {
        "timeUnixNano": str(START + number),
        "severityNumber": 9,
        "body": {"stringValue": f"line {number}"},
        "attributes": attributes({"n": number}),
        "eventName": "empathy.run.changed",
    }


LEAVES = {"traces": span, "metrics": metric, "logs": log}


def body(
    signal: str, leaves: Sequence[Mapping[str, Any]], *, segment: str | None = None
) -> dict[str, Any]:
    """One request with one resource and one scope; the segment id, where given, comes first."""
    outer, inner, leaf = LISTS[signal]
    first = {"empathy.segment.id": segment} if segment else {}
    resource = {"attributes": attributes({**first, "service.name": "shop"})}
    scope = {"name": "otel_empathy", "version": "1"}
    return {outer: [{"resource": resource, inner: [{"scope": scope, leaf: list(leaves)}]}]}


def encoded(request: Mapping[str, Any]) -> bytes:
    """The request as one line without its newline."""
    return json.dumps(request, separators=(",", ":")).encode()


def segment(
    home: Path, signal: str, name: str, numbers: Sequence[int], *, named: bool = True, pad: int = 0
) -> Path:
    """Appends one line for each number to the segment of that name.

    Args:
        home: Where the log is.
        signal: `traces`, `metrics` or `logs`.
        name: The name of the file without `.jsonl`.
        numbers: One record each.
        named: Whether lines begin with a segment id.
        pad: Bytes that are the same in every segment, before anything else that differs.
    """
    folder = home / "otlp" / signal
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.jsonl"
    with file.open("ab") as stream:
        for number in numbers:
            request = body(
                signal, [LEAVES[signal](number)], segment=f"seg-{name}" if named else None
            )
            resource = request[LISTS[signal][0]][0]["resource"]["attributes"]
            resource += attributes({"pad": "x" * pad}) if pad else []
            stream.write(encoded(request) + b"\n")
    return file


def leaves(signal: str, lines: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """The spans, metrics or log records of some requests."""
    outer, inner, leaf = LISTS[signal]
    for line in lines:
        for resource in line[outer]:
            for scope in resource[inner]:
                yield from scope[leaf]


def resource_keys(signal: str, lines: Sequence[Mapping[str, Any]]) -> set[str]:
    """The keys of all resource attributes of some requests."""
    outer = LISTS[signal][0]
    resources = [each["resource"] for line in lines for each in line[outer]]
    return {pair["key"] for resource in resources for pair in resource["attributes"]}
