"""What a full demo run emits against the catalogue: nothing extra, and what is missing is named."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import flow
import pytest

from otel_empathy.core import semconv

pytestmark = pytest.mark.timeout(180)  # the demo on a busy machine

ROWS = {row.name: row for row in semconv.METRICS}
KNOWN = {v for k, v in vars(semconv).items() if k.isupper() and isinstance(v, str)}
# The demo has no backend, loses nothing, gives up no stream, names no prompt and keeps the default
# profile; these need something else.
LATEST = {name for name in ROWS if name.startswith("gen_ai.client.inference.")}
NOT_IN_THE_DEMO = {
    *LATEST,
    "empathy.backend.backlog",
    "empathy.backend.lag",
    "empathy.backend.retries",
    "empathy.backend.state",
    "empathy.call.abandoned",
    "empathy.log.evicted",
    "empathy.log.skipped",
    "empathy.prompt.results",
    "empathy.sdk.errors",
    "empathy.sdk.overflows",
    "empathy.sdk.scrubs",
    "empathy.sdk.truncations",
    "gen_ai.client.operation.cost",
    "otel.sdk.exporter.log.exported",
    "otel.sdk.exporter.log.inflight",
    "otel.sdk.exporter.metric_data_point.exported",
    "otel.sdk.exporter.metric_data_point.inflight",
    "otel.sdk.exporter.operation.duration",
    "otel.sdk.exporter.span.exported",
    "otel.sdk.exporter.span.inflight",
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("signals") / "home"
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "PYTEST"))}
    subprocess.run(
        [sys.executable, "-m", "otel_empathy.cli", "demo"],
        env={**environ, "OTEL_EMPATHY_HOME": str(made)},
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    return made


def metrics(home: Path) -> list[dict[str, Any]]:
    return [one["record"] for one in flow.flat("metrics", flow.segments(home, "metrics"))]


def points(metric: dict[str, Any]) -> list[dict[str, Any]]:
    for kind in ("sum", "gauge", "histogram"):
        if kind in metric:
            return metric[kind]["dataPoints"]
    raise AssertionError(metric)


def test_every_metric_stands_in_the_catalogue_with_its_unit_and_description(home: Path) -> None:
    for metric in metrics(home):
        row = ROWS[metric["name"]]
        assert (metric["unit"], metric["description"]) == (row.unit, row.description)


def test_no_point_has_an_attribute_that_its_row_does_not_allow(home: Path) -> None:
    for metric in metrics(home):
        row = ROWS[metric["name"]]
        for point in points(metric):
            assert set(point.get("attributes", {})) <= set(row.attributes), metric["name"]


def test_histograms_have_the_buckets_of_their_row(home: Path) -> None:
    seen = 0
    for metric in metrics(home):
        for point in metric.get("histogram", {}).get("dataPoints", []):
            assert tuple(point["explicitBounds"]) == ROWS[metric["name"]].buckets
            seen += 1
    assert seen > 5


def test_nothing_of_the_catalogue_is_missing_but_what_is_named_here(home: Path) -> None:
    assert set(ROWS) - {metric["name"] for metric in metrics(home)} == NOT_IN_THE_DEMO


def test_every_name_of_a_span_or_event_stands_in_the_catalogue(home: Path) -> None:
    names = set()
    for signal in ("traces", "logs"):
        for one in flow.flat(signal, flow.segments(home, signal)):
            record = one["record"]
            names |= set(record.get("attributes", {})) | set(one["resource"])
            names.add(record.get("eventName", semconv.OPERATION))
            for event in record.get("events", []):
                names |= set(event.get("attributes", {}))
    ours = {name for name in names if name.startswith(("gen_ai.", "empathy."))}
    assert ours <= KNOWN, ours - KNOWN
    standard = ("telemetry.", "service.", "process.", "host.", "os.", "error.", "exception.",
                "server.", "session.", "user.", "otel.")  # fmt: skip
    own_of_the_demo = {"plan.ready", "places"}
    assert {n for n in names - ours if not n.startswith(standard)} == own_of_the_demo


def test_exemplars_carry_the_trace_of_their_call(home: Path) -> None:
    traces = {
        one["record"]["traceId"] for one in flow.flat("traces", flow.segments(home, "traces"))
    }
    found = [
        exemplar
        for metric in metrics(home)
        if metric["name"] == "gen_ai.client.operation.duration"
        for point in points(metric)
        for exemplar in point.get("exemplars", [])
    ]
    assert found
    assert {exemplar["traceId"] for exemplar in found} <= traces


def test_scopes_carry_the_schema_of_their_conventions(home: Path) -> None:
    schemas = {
        one["scope"]["name"]: one["schema"]
        for signal in flow.LISTS
        for one in flow.flat(signal, flow.segments(home, signal))
    }
    assert schemas == {
        "otel_empathy": "https://opentelemetry.io/schemas/1.41.0",
        "otel_empathy.sdk": "https://opentelemetry.io/schemas/1.44.0",
    }


def test_with_a_backend_the_rest_of_the_ledger_is_there_too(tmp_path: Path) -> None:
    from faulty import FaultyBackend

    home = tmp_path / "home"
    with FaultyBackend() as backend:
        flow.run(home, [{"endpoint": backend.endpoint}])
    found = {metric["name"]: points(metric) for metric in metrics(home)}
    for name in NOT_IN_THE_DEMO:
        if name.startswith(("otel.sdk.exporter", "empathy.backend")) and "retries" not in name:
            for point in found[name]:
                assert set(point["attributes"]) <= set(ROWS[name].attributes)
