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
        ("configure(home=HOME, log='off')", "log='off': must be True, False or Jsonl"),
        ("configure(home=HOME, backends=Otlp())", "must be a list, such as [Otlp"),
        ("configure(home=HOME, backends='http://c')", "must be a list, such as [Otlp"),
        ("configure(home=HOME, backends=[named('../..')])", "name='../..': must be letters"),
        ("configure(home=HOME, backends=[named('a/b')])", "name='a/b': must be letters"),
        ("configure(home=HOME, settings={'prices': '/no/such.json'})", "/no/such.json"),
    ],
)
def test_a_bad_argument_raises_at_once_and_changes_nothing(
    empathy_home: Path, call: str, message: str
) -> None:
    facts = run(
        empathy_home,
        f"""
        from otel_empathy import Console, Jsonl, Otlp, configure
        class Sender:
            def send(self, signal, chunks, deadline): pass
            def close(self): pass
        def named(name):
            sender = Sender()
            sender.name = name
            return sender
        try:
            {call}
        except (TypeError, ValueError) as error:
            say(message=str(error), kind=isinstance(error, otel_empathy.EmpathyError))
        assert otel_empathy.runtime() is None
        with trace.get_tracer("t").start_as_current_span("x"): pass
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
    told = facts["stderr"].splitlines()
    (line,) = (one for one in told if "records wait in memory" in one)
    assert str(empathy_home) in line
    assert "otel-empathy doctor" in line


@pytest.mark.parametrize(
    "call",
    [
        "configure(home=HOME, backends=[Console(), Console()])",
        "configure(home=HOME, settings={'prices': '/no/such.json'})",
        "configure(home=HOME + '/open')",
    ],
)
def test_a_second_call_that_is_refused_leaves_the_first_as_it_was(
    empathy_home: Path, call: str
) -> None:
    facts = run(
        empathy_home,
        f"""
        from otel_empathy import Console, configure
        first = configure(service="one", home=HOME, backends=[])
        os.mkdir(HOME + "/open")
        os.chmod(HOME + "/open", 0o777)
        with warnings.catch_warnings(record=True) as caught:
            try:
                {call}
            except ValueError:
                say(refused=True)
        same = otel_empathy.runtime() is first
        with trace.get_tracer("t").start_as_current_span("x"): pass
        say(same=same, spans=spans(), warned=len(caught))
        """,
    )
    assert facts["refused"]
    assert (facts["same"], facts["spans"], facts["warned"]) == (True, [["one", "x"]], 0)


def test_two_threads_that_configure_at_once_log_each_span_once(empathy_home: Path) -> None:
    facts = run(
        empathy_home,
        """
        import threading
        warnings.simplefilter("ignore")
        sys.setswitchinterval(1e-6)
        ready = threading.Barrier(8)
        def work():
            ready.wait()
            otel_empathy.configure(service="shop", home=HOME, backends=[])
        several = [threading.Thread(target=work) for _ in range(8)]
        for one in several: one.start()
        for one in several: one.join()
        with trace.get_tracer("t").start_as_current_span("x"): pass
        say(spans=spans())
        """,
    )
    assert facts["spans"] == [["shop", "x"]]


def test_any_row_of_the_table_may_be_given_among_the_settings(empathy_home: Path) -> None:
    facts = run(
        empathy_home,
        """
        rows = {"home": HOME, "service": "shop", "capture": "SPAN_ONLY"}
        runtime = otel_empathy.configure(backends=[], settings=rows)
        say(home=str(runtime.home), service=runtime.service, capture=runtime.settings.capture.name)
        """,
    )
    assert (facts["home"], facts["service"]) == (str(empathy_home), "shop")
    assert facts["capture"] == "SPAN_ONLY"


@pytest.mark.parametrize("how", ["log=Jsonl()", "backends=[Jsonl()]"])
def test_a_log_that_is_asked_for_wins_over_the_environment(empathy_home: Path, how: str) -> None:
    facts = run(
        empathy_home,
        f"""
        from otel_empathy import Jsonl
        runtime = otel_empathy.configure(home=HOME, {how})
        with trace.get_tracer("t").start_as_current_span("x"): pass
        say(durability=runtime.durability, spans=len(spans()))
        """,
        OTEL_EMPATHY_LOG="off",
    )
    assert (facts["durability"], facts["spans"]) == ("sync", 1)


@pytest.mark.fault("P2")
def test_a_flush_waits_for_spans_where_the_backend_serves_nothing_else(empathy_home: Path) -> None:
    facts = run(
        empathy_home,
        """
        import time
        from otel_empathy.pipeline.outcome import Outcome
        class Jaeger:
            taken = 0
            def send(self, signal, chunks, deadline):
                if signal.name != "traces":
                    return Outcome("pause", error="404", signal_only=True)
                time.sleep(0.05)
                Jaeger.taken += sum(chunk.count for chunk in chunks)
                return Outcome("ok")
            def close(self): pass
        rows = {"batch_records": 20}
        runtime = otel_empathy.configure(home=HOME, backends=[Jaeger()], settings=rows)
        tracer = trace.get_tracer("t")
        def some():
            for _ in range(100):
                with tracer.start_as_current_span("x"): pass
        some()
        first = otel_empathy.flush(10)
        state = runtime.backends[0].state
        some()
        say(first=first, state=state, second=otel_empathy.flush(10), taken=Jaeger.taken)
        some()
        import atexit
        atexit.unregister(runtime.shutdown)
        otel_empathy.shutdown(10)
        say(last=Jaeger.taken)
        """,
    )
    assert (facts["first"], facts["state"]) == (True, "paused")
    assert (facts["second"], facts["taken"], facts["last"]) == (True, 200, 300)


@pytest.mark.fault("P3")
def test_a_child_inherits_no_claim(empathy_home: Path) -> None:
    facts = run(
        empathy_home,
        """
        import threading
        from otel_empathy.pipeline import cursor, segments
        inside, lock = threading.Event(), segments.lock
        def slow(fd, **how):
            done = lock(fd, **how)
            if threading.current_thread().name.endswith("-b"):
                inside.set()
                threading.Event().wait(0.03)  # while somebody forks
            return done
        cursor.segments.lock = slow
        backends = [otel_empathy.Otlp("http://127.0.0.1:9", name="b")]
        otel_empathy.configure(home=HOME, backends=backends)
        with trace.get_tracer("t").start_as_current_span("x"): pass
        assert inside.wait(10)
        child = os.fork()
        if child == 0:
            found = []
            for name in os.listdir("/proc/self/fd"):
                try:
                    found.append(os.readlink("/proc/self/fd/" + name))
                except OSError:
                    pass
            say(held=[name for name in found if name.endswith(".lock")])
            sys.stdout.flush()
            os._exit(0)
        os.waitpid(child, 0)
        """,
    )
    assert facts["held"] == []


@pytest.mark.fault("P1")
def test_a_handler_that_shuts_down_inside_a_shutdown_does_not_wait_for_itself(
    empathy_home: Path,
) -> None:
    run(
        empathy_home,
        """
        runtime = otel_empathy.configure(home=HOME, backends=[])
        with trace.get_tracer("t").start_as_current_span("x"): pass
        for nth in range(1, 12):
            count = 0
            def counting(frame, event, arg):
                global count
                if frame.f_code is type(runtime).shutdown.__code__:
                    frame.f_trace_opcodes = True
                    if event == "opcode":
                        count += 1
                        if count == nth:
                            sys.settrace(None)
                            frame.f_trace = None
                            runtime.shutdown()  # as a handler would, at the worst of moments
                    return counting
                return None
            sys.settrace(counting)
            runtime.shutdown()
            sys.settrace(None)
            runtime = otel_empathy.configure(home=HOME, backends=[])
        """,
    )


def test_a_timeout_may_be_endless_but_must_be_a_number(empathy_home: Path) -> None:
    run(
        empathy_home,
        """
        rt = otel_empathy.configure(home=HOME, backends=[])
        trace.get_tracer("t").start_span("x").end()
        assert otel_empathy.flush(float("inf")) is True
        assert otel_empathy.flush(-1) is True
        for wrong in ("3", None, True, float("nan")):
            for wait in (otel_empathy.flush, otel_empathy.shutdown):
                try:
                    wait(wrong)
                except (TypeError, ValueError) as error:
                    assert repr(wrong) in str(error) and "seconds" in str(error), error
                else:
                    raise AssertionError(wrong)
        otel_empathy.shutdown(float("inf"))
        """,
    )


def test_a_count_that_could_not_be_saved_is_saved_later(empathy_home: Path) -> None:
    facts = run(
        empathy_home,
        """
        from otel_empathy.pipeline.ledger import read_record
        rt = otel_empathy.configure(home=HOME, backends=[])
        trace.get_tracer("t").start_span("x").end()
        record, save = rt._record, rt._record.save
        def refuse(): raise OSError(28, "no room")
        type(record).save = lambda self: refuse()
        rt.log.counts["traces"].dropped["queue_full"] += 1
        rt._tick()
        type(record).save = lambda self: save()
        rt._tick()
        from pathlib import Path
        (path,) = (Path(HOME) / "ledger").glob("????????.json")
        say(dropped=dict(read_record(path).dropped))
        """,
    )
    assert facts["dropped"] == {"queue_full": 1}


def test_prices_given_in_code_are_what_calls_cost(empathy_home: Path) -> None:
    facts = run(
        empathy_home,
        """
        own = {"models": {"acme/own": {"input": "3", "output": "6"}}}
        with otel_empathy.configure(home=HOME, backends=[], settings={"prices": own}):
            with otel_empathy.llm_call(provider="acme", model="own") as call:
                call.usage(input=1_000_000, output=1_000_000)
            found = list(otel_empathy.open_store(HOME).calls())
        try:
            otel_empathy.configure(home=HOME, settings={"prices": {"acme/own": {}}})
        except ValueError as error:
            say(refused=str(error))
        say(costs=[str(one.cost) for one in found])
        """,
    )
    assert facts["costs"] == ["9.0"]
    assert "prices: needs an object 'models'" in facts["refused"]


def test_spans_that_are_open_at_the_end_are_counted_and_come_no_second_time(
    empathy_home: Path,
) -> None:
    facts = run(
        empathy_home,
        """
        tracer = lambda: trace.get_tracer("t")
        runtime = otel_empathy.configure(home=HOME, backends=[])
        late, never = tracer().start_span("late"), tracer().start_span("never")
        tracer().start_span("done").end()
        otel_empathy.shutdown()
        first = runtime.ledger().as_dict()
        late.end()
        again = otel_empathy.configure(home=HOME, backends=[])
        never.end()
        tracer().start_span("new").end()
        otel_empathy.shutdown()
        kept = otel_empathy.open_store(HOME).status()["ledger"]["dropped"]
        say(spans=sorted(n for _, n in spans()), first=first["dropped"],
            again=again.ledger().as_dict()["dropped"], kept=kept)
        """,
    )
    assert facts["spans"] == ["done", "new"]
    assert (facts["first"], facts["again"]) == ({"shutdown": 2}, {})
    assert facts["kept"] == {"shutdown": 2}


def test_spans_that_are_open_while_settings_are_replaced_are_written_by_the_new_ones(
    empathy_home: Path,
) -> None:
    facts = run(
        empathy_home,
        """
        tracer = lambda: trace.get_tracer("t")
        runtime = otel_empathy.configure(home=HOME, backends=[])
        late, never = tracer().start_span("late"), tracer().start_span("never")
        with warnings.catch_warnings(record=True):
            again = otel_empathy.configure(home=HOME, backends=[])
        late.end()
        otel_empathy.shutdown()
        say(spans=[n for _, n in spans()], first=runtime.ledger().as_dict()["dropped"],
            again=again.ledger().as_dict()["dropped"])
        """,
    )
    assert facts["spans"] == ["late"]
    assert (facts["first"], facts["again"]) == ({}, {"shutdown": 1})


def test_a_child_does_not_count_the_open_spans_of_its_parent(empathy_home: Path) -> None:
    facts = run(
        empathy_home,
        """
        runtime = otel_empathy.configure(home=HOME, backends=[])
        late = trace.get_tracer("t").start_span("late")
        pid = os.fork()
        if pid == 0:
            trace.get_tracer("t").start_span("childs").end()
            otel_empathy.shutdown()
            os._exit(0 if not runtime.ledger().dropped else 1)
        _, status = os.waitpid(pid, 0)
        late.end()
        otel_empathy.shutdown()
        say(child=status, spans=sorted(n for _, n in spans()), dropped=runtime.ledger().dropped)
        """,
    )
    assert (facts["child"], facts["dropped"]) == (0, {})
    assert facts["spans"] == ["childs", "late"]


def test_what_configure_cannot_do_is_said_once(empathy_home: Path) -> None:
    facts = run(
        empathy_home,
        """
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        theirs = Resource({"service.name": "theirs"})
        trace.set_tracer_provider(TracerProvider(resource=theirs))
        def warned(**asked):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                with otel_empathy.configure(home=HOME, backends=[], **asked): pass
            return [(w.filename, str(w.message)) for w in caught]
        say(service=warned(service="ours"), same=warned(service="theirs"), none=warned(),
            host=warned(host=True), off=warned(host=False))
        """,
    )
    [[where, text]] = facts["service"]
    assert "service='ours'" in text
    assert "'theirs'" in text
    assert where == "<string>"
    [[where, text]] = facts["host"]
    assert "no gauges of the machine" in text
    assert where == "<string>"
    assert facts["same"] == facts["none"] == facts["off"] == []
