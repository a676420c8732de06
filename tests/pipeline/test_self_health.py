"""The fan-out's own metrics, as they stand in the log of a process that emitted something."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import flow
from faulty import FaultyBackend

PRELUDE = """
import os
import otel_empathy
from opentelemetry import trace, metrics, _logs
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context
HOME = os.environ["HOME_OF_TEST"]
def remote(sampled):
    flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
    return set_span_in_context(NonRecordingSpan(SpanContext(1, 2, True, flags)))
"""


def points(home: Path, code: str, **environ: str) -> dict[str, list[Any]]:
    """The last points of every metric in the log after a program."""
    base = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "PYTEST"))}
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(code)],
        env={**base, "HOME_OF_TEST": str(home), **environ},
        capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, list[Any]] = {}
    for request in flow.segments(home, "metrics"):
        for resource in request["resourceMetrics"]:
            for scope in resource["scopeMetrics"]:
                for metric in scope["metrics"]:
                    kind = next(metric[k] for k in ("sum", "gauge", "histogram") if k in metric)
                    found.setdefault(metric["name"], []).append(kind["dataPoints"])
    return {name: max(several, key=_time) for name, several in found.items()}


def _time(several: list[Any]) -> int:
    return max(int(point["timeUnixNano"]) for point in several)


def labelled(found: dict[str, list[Any]], name: str) -> dict[tuple[str, ...], Any]:
    """Values of a metric by the values of their attributes."""
    known = {}
    for point in found.get(name, []):
        labels = tuple(a["value"]["stringValue"] for a in point.get("attributes", []))
        value = point.get("asInt", point.get("asDouble", point.get("count")))
        known[labels] = json.loads(str(value))
    return known


def test_started_and_live_spans_by_origin_and_decision(empathy_home: Path) -> None:
    found = points(
        empathy_home,
        """
        rt = otel_empathy.configure(home=HOME, backends=[])
        tracer = trace.get_tracer("t")
        with tracer.start_as_current_span("root"):
            tracer.start_span("child").end()
        open_one = tracer.start_span("open")
        tracer.start_span("from afar", remote(True)).end()
        tracer.start_span("dropped", remote(False)).end()
        assert rt.ledger().dropped == {"sampled": 1}, rt.ledger()
        assert rt.ledger().offered == 4, rt.ledger().offered
        otel_empathy.shutdown()
        """,
    )
    assert labelled(found, "otel.sdk.span.started") == {
        ("none", "RECORD_AND_SAMPLE"): 2,
        ("local", "RECORD_AND_SAMPLE"): 1,
        ("remote", "RECORD_AND_SAMPLE"): 1,
        ("remote", "DROP"): 1,
    }
    assert labelled(found, "otel.sdk.span.live") == {("RECORD_AND_SAMPLE",): 1}
    processed = labelled(found, "otel.sdk.processor.span.processed")
    assert processed == {
        ("empathy_log", "empathy_log/log"): 3,
        ("empathy_log", "empathy_log/log", "sampled"): 1,
    }


def test_spans_of_an_application_that_only_records_are_counted_as_sampled_out(
    empathy_home: Path,
) -> None:
    found = points(
        empathy_home,
        """
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
        class RecordOnly(Sampler):
            def should_sample(self, *args, **kwargs):
                return SamplingResult(Decision.RECORD_ONLY)
            def get_description(self):
                return "record only"
        trace.set_tracer_provider(TracerProvider(RecordOnly()))
        rt = otel_empathy.configure(home=HOME, backends=[])
        trace.get_tracer("t").start_span("x").end()
        otel_empathy.event("noted")
        assert rt.ledger().dropped == {"sampled": 1}, rt.ledger()
        otel_empathy.shutdown()
        """,
    )
    assert labelled(found, "otel.sdk.span.started") == {("none", "RECORD_ONLY"): 1}
    assert labelled(found, "otel.sdk.span.live") == {("RECORD_ONLY",): 0}
    assert labelled(found, "otel.sdk.log.created") == {(): 1}


def test_a_sampler_that_was_asked_for_decides_and_keeps_its_description(
    empathy_home: Path,
) -> None:
    points(
        empathy_home,
        """
        otel_empathy.configure(home=HOME, backends=[])
        sampler = trace.get_tracer_provider().sampler
        assert sampler.get_description() == "AlwaysOffSampler", sampler.get_description()
        for _ in range(3):
            trace.get_tracer("t").start_span("x").end()
        assert otel_empathy.runtime().ledger().dropped == {"sampled": 3}
        otel_empathy.shutdown()
        trace.get_tracer("t").start_span("x").end()
        rt = otel_empathy.configure(home=HOME, backends=[])
        trace.get_tracer("t").start_span("x").end()
        assert rt.ledger().dropped == {"sampled": 1}, rt.ledger()
        """,
        OTEL_TRACES_SAMPLER="always_off",
    )


def test_every_append_is_in_the_histogram_of_its_kind(empathy_home: Path) -> None:
    found = points(
        empathy_home,
        """
        rt = otel_empathy.configure(home=HOME, backends=[])
        for _ in range(30):
            trace.get_tracer("t").start_span("x").end()
        otel_empathy.shutdown()
        """,
    )
    appends = labelled(found, "empathy.log.write.duration")
    assert sum(appends.values()) >= 1
    (point, *_) = found["empathy.log.write.duration"]
    assert sum(int(n) for n in point["bucketCounts"]) == int(point["count"])
    assert len(point["bucketCounts"]) == len(point["explicitBounds"]) + 1
    assert 0 < point["min"] <= point["max"] <= point["sum"]
    assert int(point["startTimeUnixNano"]) < int(point["timeUnixNano"])
    # Thirty spans, written through or in batches; metrics are written after they are collected.
    lines = sum(len(p.read_bytes().splitlines())
                for p in (empathy_home / "otlp/traces").glob("*.jsonl"))  # fmt: skip
    assert lines == 30 or ("batched",) in appends
    assert appends.get(("sync",), 0) <= 30


def test_the_capacity_of_the_queue_is_told_in_spans_of_the_mean_size(empathy_home: Path) -> None:
    found = points(
        empathy_home,
        """
        rt = otel_empathy.configure(home=HOME, backends=[])
        for _ in range(10):
            trace.get_tracer("t").start_span("x").end()
        otel_empathy.shutdown()
        """,
    )
    size = sum(p.stat().st_size for p in (empathy_home / "otlp/traces").glob("*.jsonl"))
    log = ("empathy_log", "empathy_log/log")
    capacity = labelled(found, "otel.sdk.processor.span.queue.capacity")
    assert capacity == {log: (64 << 20) * 10 // size}
    assert labelled(found, "otel.sdk.processor.span.queue.size") == {log: 0}
    assert "otel.sdk.processor.log.queue.capacity" not in found  # nothing to take a mean of


def test_collections_are_timed_but_not_in_a_process_that_recorded_nothing(
    empathy_home: Path,
) -> None:
    found = points(
        empathy_home,
        """
        rt = otel_empathy.configure(home=HOME, backends=[])
        reader = rt.providers.reader
        reader.gather()
        reader.gather()
        assert not list(__import__("pathlib").Path(HOME).rglob("*.jsonl"))
        trace.get_tracer("t").start_span("x").end()
        reader.gather()
        otel_empathy.shutdown()
        """,
    )
    name = "otel.sdk.metric_reader.collection.duration"
    reader = ("periodic_metric_reader", "periodic_metric_reader/log")
    assert labelled(found, name) == {reader: 1}


def test_lines_that_cannot_be_read_while_shipping_are_counted_once(empathy_home: Path) -> None:
    code = """
        # What another process left: a good line, one that is no JSON, a good line.
        otel_empathy.configure(home=HOME, backends=[])
        for _ in range(2):
            trace.get_tracer("t").start_span("x").end()
        otel_empathy.shutdown()
        from pathlib import Path
        (path,) = Path(HOME).glob("otlp/traces/*.jsonl")
        first, second = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(first + b'{"resourceSpans":[\\n' + second)
        rt = otel_empathy.configure(
            home=HOME, backends=[otel_empathy.Otlp(os.environ["ENDPOINT"], start="oldest")]
        )
        trace.get_tracer("t").start_span("x").end()
        (backend,) = rt.backends
        import time
        end = time.monotonic() + 15
        while not backend.shipping.skipped and time.monotonic() < end:
            time.sleep(0.02)
        otel_empathy.shutdown()
        """
    with FaultyBackend() as backend:
        found = points(empathy_home, code, ENDPOINT=backend.endpoint)
    assert labelled(found, "empathy.log.skipped") == {("corrupt",): 1}


def test_after_a_second_configure_the_figures_are_those_of_the_second_runtime(
    empathy_home: Path,
) -> None:
    found = points(
        empathy_home,
        """
        for number in (5, 1):
            otel_empathy.configure(home=HOME, backends=[])
            for _ in range(number):
                trace.get_tracer("t").start_span("x").end()
            otel_empathy.shutdown()
        """,
    )
    log = ("empathy_log", "empathy_log/log")
    assert labelled(found, "otel.sdk.processor.span.processed") == {log: 1}
    assert labelled(found, "otel.sdk.span.started") == {("none", "RECORD_AND_SAMPLE"): 1}


def test_a_backend_lags_by_the_age_of_the_oldest_record_that_it_has_not_taken(
    empathy_home: Path,
) -> None:
    code = """
        import time
        from otel_empathy.pipeline import self_health
        down = otel_empathy.Otlp("http://127.0.0.1:9", name="down")
        up = otel_empathy.Otlp(os.environ["ENDPOINT"], name="up")
        rt = otel_empathy.configure(home=HOME, backends=[down, up])
        before = time.time_ns()
        trace.get_tracer("t").start_span("x").end()
        healthy = next(b for b in rt.backends if b.name == "up")
        end = time.monotonic() + 15
        while healthy.shipping.settled_own["traces"] < 1 and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(0.5)
        least = 0.5
        seen = self_health._present
        lags = {
            (o.attributes["empathy.backend.name"], o.attributes["empathy.log.signal"]): o.value
            for o in seen.lag()
        }
        most = (time.time_ns() - before) / 1e9
        assert least <= lags["down", "traces"] <= most + 0.001, (lags, most)
        assert lags["up", "traces"] == 0, lags
        assert lags["down", "metrics"] == 0, lags  # none were collected yet
        otel_empathy.shutdown(0.1)
        """
    with FaultyBackend() as backend:
        points(empathy_home, code, ENDPOINT=backend.endpoint)
