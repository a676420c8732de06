"""OTLP-JSON lines as a log and other programs write them, for tests of those who read them."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

SECOND = 1_000_000_000
DAY = 86_400 * SECOND
NOW = 1_767_225_600 * SECOND  # 2026-01-01
_ids = itertools.count(1)


class Clock:
    """Stands still at the time of the records."""

    def time_ns(self) -> int:
        return NOW

    def monotonic(self) -> float:
        return 0.0


def value(of: Any) -> dict[str, Any]:
    if isinstance(of, bool):
        return {"boolValue": of}
    if isinstance(of, int):
        return {"intValue": str(of)}
    if isinstance(of, float):
        return {"doubleValue": of}
    if isinstance(of, list):
        return {"arrayValue": {"values": [value(one) for one in of]}}
    return {"stringValue": of}


def pairs(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": value(one)} for key, one in found.items() if one is not None]


def span(
    name: str = "work",
    *,
    start: int = NOW,
    seconds: float = 1.0,
    trace: str = "0" * 31 + "1",
    id: str | None = None,  # noqa: A002 - what the field is called
    parent: str | None = None,
    error: bool = False,
    attributes: dict[str, Any] | None = None,
    **members: Any,
) -> dict[str, Any]:
    found = {
        "traceId": trace,
        "spanId": id or f"{next(_ids):016x}",
        "name": name,
        "kind": 3,
        "startTimeUnixNano": str(start),
        "endTimeUnixNano": str(start + int(seconds * SECOND)),
        "attributes": pairs(attributes or {}),
        "status": {"code": 2, "message": "it broke"} if error else {},
        **members,
    }
    if parent is not None:
        found["parentSpanId"] = parent
    return found


def call(
    *,
    operation: str = "chat",
    provider: str | None = "openai",
    model: str | None = "gpt-4o",
    cost: float | None = 0.01,
    input: int | None = 100,  # noqa: A002 - what the field is called
    output: int | None = 10,
    cached: int | None = None,
    tier: str | None = None,
    workflow: str | None = None,
    user: str | None = None,
    hit: bool | None = None,
    more: dict[str, Any] | None = None,
    **members: Any,
) -> dict[str, Any]:
    return span(
        f"{operation} {model}",
        attributes={
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": provider,
            "gen_ai.request.model": model,
            "gen_ai.usage.input_tokens": input,
            "gen_ai.usage.output_tokens": output,
            "gen_ai.usage.cache_read.input_tokens": cached,
            "empathy.cost.amount": cost,
            "empathy.call.tier": tier,
            "gen_ai.workflow.name": workflow,
            "user.hash": user,
            "empathy.call.cache_hit": hit,
            **(more or {}),
        },
        **members,
    )


def line(*spans: dict[str, Any], segment: str = "s1", service: str = "shop") -> bytes:
    tree = {
        "resourceSpans": [
            {
                "resource": {
                    "attributes": pairs({"empathy.segment.id": segment, "service.name": service})
                },
                "scopeSpans": [{"scope": {"name": "otel_empathy"}, "spans": list(spans)}],
            }
        ]
    }
    return json.dumps(tree, separators=(",", ":")).encode() + b"\n"


def log_line(*logs: dict[str, Any]) -> bytes:
    tree = {
        "resourceLogs": [
            {
                "resource": {"attributes": pairs({"service.name": "shop"})},
                "scopeLogs": [{"scope": {}, "logRecords": list(logs)}],
            }
        ]
    }
    return json.dumps(tree).encode() + b"\n"


def segment(
    home: Path,
    *content: bytes,
    signal: str = "traces",
    instance: str = "0badcafe",
    utc: str = "20260101T000000Z",
    seq: int = 1,
) -> Path:
    folder = home / "otlp" / signal
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"shop-{instance}-{utc}-{seq:06d}.jsonl"
    path.write_bytes(b"".join(content))
    return path
