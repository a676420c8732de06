"""The demo's trace, read back through Jaeger's own query API."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import services

from otel_empathy import open_store


@pytest.mark.tool("jaeger")
@pytest.mark.timeout(180)
@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_the_demos_trace_is_read_back_as_it_was_sent(
    protocol: str, empathy_home: Path, tmp_path: Path
) -> None:
    with services.jaeger(folder=tmp_path / "jaeger") as jaeger:
        endpoint = f"http://{jaeger.grpc}" if protocol == "grpc" else jaeger.http
        environ = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "PYTEST"))}
        environ |= {
            "OTEL_EMPATHY_HOME": str(empathy_home),
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_LOGS_EXPORTER": "none",
        }
        done = subprocess.run(
            [sys.executable, "-m", "otel_empathy.cli", "demo"],
            env=environ, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        traces = open_store(empathy_home).traces(limit=100)
        assert traces
        sent = [span for one in traces for span in raw(empathy_home, one.trace_id)]
        services.until(
            lambda: sum(len(jaeger.spans(t.trace_id)) for t in traces) >= len(sent),
            what="the demo's spans in Jaeger",
        )
        for one in traces:
            ours = {s["spanId"]: s for s in raw(empathy_home, one.trace_id)}
            theirs = {s["spanId"]: s for s in jaeger.spans(one.trace_id)}
            assert set(theirs) == set(ours)
            for key, span in ours.items():
                assert told(theirs[key]) == told(span)
        assert jaeger.services() == ["demo"]


def raw(home: Path, trace_id: str) -> list[dict]:
    import flow

    return [
        one["record"]
        for one in flow.flat("traces", flow.segments(home, "traces"))
        if one["record"]["traceId"] == trace_id
    ]


def told(span: dict) -> dict:
    import flow

    span = flow.plain(span)
    return {
        "name": span["name"],
        "parent": span.get("parentSpanId", ""),
        "kind": span.get("kind"),
        "attributes": span.get("attributes", {}),
        "status": span.get("status", {}),
        "begin": span["startTimeUnixNano"],
        "end": span["endTimeUnixNano"],
        "events": [(e["name"], e.get("attributes", {})) for e in span.get("events", [])],
    }
