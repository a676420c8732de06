"""What the flow tests share: running the program, and records in a form that can be compared."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

PROGRAM = Path(__file__).parent / "flows/program.py"
LISTS = {
    "traces": ("resourceSpans", "scopeSpans", "spans"),
    "metrics": ("resourceMetrics", "scopeMetrics", "metrics"),
    "logs": ("resourceLogs", "scopeLogs", "logRecords"),
}
# Written by a sender or left out by a receiver without a change of meaning: the default values of
# protobuf.
DEFAULTS: tuple[Any, ...] = (0, "0", "", [], {}, None, False)


def run(home: Path, backends: list[dict[str, Any]]) -> dict[str, Any]:
    """Run the program and give what it said."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "PYTEST"))}
    done = subprocess.run(
        [sys.executable, str(PROGRAM), json.dumps({"home": str(home), "backends": backends})],
        env=environ, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    facts: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert facts["flushed"], done.stderr
    return facts


def segments(home: Path, signal: str) -> list[dict[str, Any]]:
    """The lines of our own segments."""
    return [
        json.loads(line)
        for path in sorted((home / "otlp" / signal).glob("*.jsonl"))
        for line in path.read_bytes().splitlines()
    ]


def flat(signal: str, requests: Iterable[Mapping[str, Any]]) -> list[Any]:
    """Every record with its resource and scope, without order, defaults and segment id."""
    outer, inner, leaf = LISTS[signal]
    found = []
    for request in requests:
        for one in request.get(outer, []):
            resource = [
                pair
                for pair in one.get("resource", {}).get("attributes", [])
                if pair["key"] != "empathy.segment.id"
            ]
            for two in one.get(inner, []):
                found += [
                    plain({"resource": resource, "scope": two.get("scope", {}),
                           "schema": two.get("schemaUrl", ""), "record": record})
                    for record in two.get(leaf, [])
                ]  # fmt: skip
    return sorted(found, key=lambda one: json.dumps(one, sort_keys=True))


def plain(value: Any) -> Any:
    """A JSON value in one normal form: no defaults, attributes by key, 64-bit integers as text."""
    if isinstance(value, Mapping):
        kept = {}
        for key, held in value.items():
            if key in {"attributes", "filteredAttributes"} and isinstance(held, list):
                shown: Any = {pair["key"]: plain(pair.get("value", {})) for pair in held}
            elif key in {"intValue", "asInt"} or key.endswith(("UnixNano", "count")):
                shown = str(held)
            elif key == "explicitBounds":
                shown = [float(one) for one in held]
            elif isinstance(held, int) and not isinstance(held, bool) and key in FLOATS:
                shown = float(held)
            else:
                shown = plain(held)
            if shown not in DEFAULTS or key in VALUES:
                kept[key] = shown
        return kept
    if isinstance(value, list):
        if value and isinstance(value[0], Mapping) and set(value[0]) <= {"key", "value"}:
            return {pair["key"]: plain(pair.get("value", {})) for pair in value}
        return [plain(one) for one in value]
    return value


VALUES = {"boolValue", "intValue", "doubleValue", "stringValue", "arrayValue", "kvlistValue",
          "asInt", "asDouble"}  # fmt: skip
FLOATS = {"doubleValue", "asDouble", "sum", "min", "max"}
