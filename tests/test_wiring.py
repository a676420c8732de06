"""configure(), flush() and shutdown() as a program meets them, each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

PRELUDE = """
import json, os, sys, warnings
import otel_empathy
from opentelemetry import trace, metrics, _logs
HOME = os.environ["HOME_OF_TEST"]
def say(**facts): print(json.dumps(facts))
def spans():
    found = []
    for path in sorted((__import__("pathlib").Path(HOME) / "otlp/traces").glob("*.jsonl")):
        for line in path.read_text().splitlines():
            for outer in json.loads(line)["resourceSpans"]:
                known = {a["key"]: a["value"] for a in outer["resource"]["attributes"]}
                service = known["service.name"]["stringValue"]
                for inner in outer["scopeSpans"]:
                    found += [(service, span["name"]) for span in inner["spans"]]
    return found
"""


def run(home: Path, code: str, *flags: str, **environ: str) -> dict[str, Any]:
    base = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "PYTEST"))}
    done = subprocess.run(
        [sys.executable, *flags, "-c", PRELUDE + textwrap.dedent(code)],
        env={**base, "HOME_OF_TEST": str(home), **environ},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    facts = {"stderr": done.stderr}
    for line in done.stdout.splitlines():
        facts |= json.loads(line)
    return facts


def test_unconfigured_everything_is_a_no_op(empathy_home: Path) -> None:
    facts = run(
        empathy_home,
        """
        assert otel_empathy.runtime() is None
        say(flushed=otel_empathy.flush())
        otel_empathy.shutdown()
        """,
    )
    assert facts["flushed"] is True
    assert not empathy_home.exists()


def test_configure_alone_starts_no_thread_and_writes_no_segment(empathy_home: Path) -> None:
    facts = run(
        empathy_home,
        """
        import threading
        otel_empathy.configure(home=HOME, backends=[otel_empathy.Otlp("http://127.0.0.1:9")])
        say(threads=threading.active_count())
        """,
    )
    assert facts["threads"] == 1
    assert list(empathy_home.rglob("*.jsonl")) == []


def test_the_disabled_sdk_leaves_nothing(empathy_home: Path) -> None:
    run(
        empathy_home,
        """
        with otel_empathy.configure(home=HOME):
            with trace.get_tracer("t").start_as_current_span("x"): pass
        """,
        OTEL_SDK_DISABLED="true",
    )
    assert not empathy_home.exists()


def test_a_span_of_any_tracer_is_in_the_log_under_the_services_name(empathy_home: Path) -> None:
    facts = run(
        empathy_home,
        """
        otel_empathy.configure(service="shop", home=HOME, backends=[])
        with trace.get_tracer("t").start_as_current_span("x"): pass
        say(spans=spans())
        """,
    )
    assert facts["spans"] == [["shop", "x"]]


@pytest.mark.parametrize("own", ["tracer", "meter", "logger", "all"])
def test_a_provider_of_the_application_is_joined_and_left_as_it_was(
    empathy_home: Path, own: str
) -> None:
    facts = run(
        empathy_home,
        f"""
        own = {own!r}
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk._logs import LoggerProvider
        from opentelemetry.sdk.resources import Resource
        theirs = Resource({{"service.name": "theirs"}})
        memory = InMemorySpanExporter()
        if own in ("tracer", "all"):
            provider = TracerProvider(resource=theirs)
            provider.add_span_processor(SimpleSpanProcessor(memory))
            trace.set_tracer_provider(provider)
        if own in ("meter", "all"):
            metrics.set_meter_provider(MeterProvider(resource=theirs))
        if own in ("logger", "all"):
            _logs.set_logger_provider(LoggerProvider(resource=theirs))
        before = [trace.get_tracer_provider() if own in ("tracer", "all") else None]
        runtime = otel_empathy.configure(service="ours", home=HOME, backends=[])
        with trace.get_tracer("t").start_as_current_span("x"):
            metrics.get_meter("t").create_counter("c").add(1)
        otel_empathy.shutdown()
        with trace.get_tracer("t").start_as_current_span("after"): pass
        names = [span.name for span in memory.get_finished_spans()]
        say(spans=spans(), memory=names, same=before[0] in (None, trace.get_tracer_provider()))
        """,
    )
    whose = "theirs" if own in {"tracer", "all"} else "ours"
    assert facts["spans"] == [[whose, "x"]]
    assert facts["same"]
    assert facts["memory"] == (["x", "after"] if own in {"tracer", "all"} else [])


def test_configured_twice_the_second_call_replaces_and_warns(empathy_home: Path) -> None:
    facts = run(
        empathy_home,
        """
        otel_empathy.configure(service="one", home=HOME, backends=[])
        tracer = trace.get_tracer("t")
        with tracer.start_as_current_span("first"): pass
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            otel_empathy.configure(service="two", home=HOME, backends=[])
        with tracer.start_as_current_span("second"): pass
        say(spans=sorted(spans()), warned=[str(w.message) for w in caught])
        """,
    )
    assert facts["spans"] == [["one", "first"], ["two", "second"]]
    assert facts["warned"] == [
        "configure() was called again: the new settings replace the earlier ones"
    ]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("configure(home=HOME, settings={'nonsense': 1})", "unknown setting 'nonsense'"),
        ("configure(home='')", "home='': must be a non-empty text"),
        ("configure(home=HOME, capture='sometimes')", "capture='sometimes': must be one of"),
        ("configure(home=HOME, backends=[3])", "backends: 3 is no backend"),
        ("configure(home=HOME, backends=[Otlp('collector')])", "endpoint='collector'"),
        ("configure(home=HOME, backends=[Console(), Console()])", "two are named 'console'"),
        ("configure(home=HOME, log=Jsonl(keep='lots'))", "log_max_bytes='lots': must be a size"),
    ],
)
def test_a_bad_argument_raises_at_once_and_changes_nothing(
    empathy_home: Path, call: str, message: str
) -> None:
    facts = run(
        empathy_home,
        f"""
        from otel_empathy import Console, Jsonl, Otlp, configure
        try:
            {call}
        except ValueError as error:
            say(message=str(error), kind=isinstance(error, otel_empathy.EmpathyError))
        assert otel_empathy.runtime() is None
        """,
    )
    assert message in facts["message"]
    assert facts["kind"]
    assert not list(empathy_home.rglob("*.jsonl"))


def test_a_malformed_variable_warns_once_and_the_default_applies(empathy_home: Path) -> None:
    facts = run(
        empathy_home,
        """
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            runtime = otel_empathy.configure(home=HOME, backends=[])
        say(warned=[str(w.message) for w in caught], days=runtime.settings.retention_days)
        """,
        OTEL_EMPATHY_RETENTION_DAYS="many",
    )
    assert facts["days"] == 90
    assert len(facts["warned"]) == 1
    assert "OTEL_EMPATHY_RETENTION_DAYS='many'" in facts["warned"][0]


def test_without_a_log_memory_stands_in_and_the_ledger_says_so(empathy_home: Path) -> None:
    facts = run(
        empathy_home,
        """
        class Sender:
            name = "mine"
            taken = 0
            def send(self, signal, chunks, deadline):
                from otel_empathy.pipeline.outcome import Outcome
                if signal.name == "traces":
                    Sender.taken += sum(chunk.count for chunk in chunks)
                return Outcome("ok")
            def close(self): pass
        runtime = otel_empathy.configure(home=HOME, log=False, backends=[Sender()])
        for _ in range(10):
            with trace.get_tracer("t").start_as_current_span("x"): pass
        flushed = otel_empathy.flush()
        row = runtime.ledger().backends["mine"].as_dict()
        say(flushed=flushed, taken=Sender.taken, row=row, durability=runtime.durability)
        """,
    )
    assert (facts["flushed"], facts["taken"], facts["durability"]) == (True, 10, "memory")
    assert facts["row"]["pending"] == 0
    assert not empathy_home.exists()


def test_metrics_are_in_the_log_when_the_process_ends(empathy_home: Path) -> None:
    run(
        empathy_home,
        """
        otel_empathy.configure(home=HOME, backends=[])
        metrics.get_meter("t").create_counter("c").add(3)
        """,
    )
    (path,) = (empathy_home / "otlp/metrics").glob("*.jsonl")
    assert '"name":"c"' in path.read_text()


def test_the_home_of_another_may_not_be_world_writable(empathy_home: Path) -> None:
    empathy_home.mkdir()
    empathy_home.chmod(0o777)
    facts = run(
        empathy_home,
        """
        try:
            otel_empathy.configure(home=HOME)
        except ValueError as error:
            say(message=str(error))
        """,
    )
    assert "chmod o-w" in facts["message"]


def test_a_home_that_cannot_be_made_leaves_the_program_alone(empathy_home: Path) -> None:
    empathy_home.write_text("a file")
    facts = run(
        empathy_home,
        """
        runtime = otel_empathy.configure(home=HOME, backends=[])
        with trace.get_tracer("t").start_as_current_span("x"): pass
        balance = runtime.ledger()
        say(waiting=balance.waiting, acked=balance.acked.total(), degraded=bool(runtime.degraded))
        """,
    )
    assert (facts["waiting"], facts["acked"], facts["degraded"]) == (1, 0, True)
    (line,) = facts["stderr"].splitlines()
    assert "records wait in memory" in line
    assert str(empathy_home) in line
    assert "otel-empathy doctor" in line
