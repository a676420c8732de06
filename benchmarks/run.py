"""`make bench`: what otel-empathy costs beside the stock SDK, as ratios within one run.

CPU time of the whole process, so that background threads count; cases interleaved in rotating
order; a ratio is taken inside each repeat and the median printed with its spread. Both sides do the
same work and the bench counts what arrived before it prints a figure. Absolute times are shown for
orientation and never judged.
"""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

REPEATS = 7


@dataclass
class Row:
    """One line of the table."""

    name: str
    against: str
    ratio: float
    spread: float
    ours_us: float
    theirs_us: float
    aim: float | None = None


ROWS: list[Row] = []


def interleaved(cases: dict[str, Callable[[], None]], operations: int) -> dict[str, list[float]]:
    """CPU seconds per operation of each case, one figure per repeat."""
    times: dict[str, list[float]] = {name: [] for name in cases}
    names = list(cases)
    for case in cases.values():
        case()
    for repeat in range(REPEATS):
        order = names[repeat % len(names) :] + names[: repeat % len(names)]
        for name in order:
            gc.collect()
            begin = time.process_time()
            cases[name]()
            times[name].append((time.process_time() - begin) / operations)
    return times


def compare(
    name: str,
    against: str,
    times: dict[str, list[float]],
    ours: str,
    theirs: str,
    aim: float | None = None,
) -> None:
    """Add the row of one comparison."""
    ratios = [a / b for a, b in zip(times[ours], times[theirs], strict=True)]
    ROWS.append(
        Row(
            name,
            against,
            statistics.median(ratios),
            max(ratios) - min(ratios),
            statistics.median(times[ours]) * 1e6,
            statistics.median(times[theirs]) * 1e6,
            aim,
        )
    )


# -- the hot path ---------------------------------------------------------------------------------
START = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o-mini",
    "server.address": "api.openai.com",
    "server.port": 443,
    "gen_ai.request.temperature": 0.2,
    "gen_ai.request.max_tokens": 512,
}
END = {
    "gen_ai.response.model": "gpt-4o-mini-2024-07-18",
    "gen_ai.response.id": "chatcmpl-1",
    "gen_ai.response.finish_reasons": ("stop",),
    "gen_ai.usage.input_tokens": 120,
    "gen_ai.usage.output_tokens": 30,
}


def hot_path() -> None:
    """An LLM call with twelve attributes and three measurements."""
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import (
        BatchSpanProcessor,
        SpanExporter,
        SpanExportResult,
    )
    from opentelemetry.trace import SpanKind

    import otel_empathy
    from otel_empathy.core import semconv

    class Nowhere(SpanExporter):
        seen = 0

        def export(self, spans: Any) -> SpanExportResult:
            Nowhere.seen += len(spans)
            return SpanExportResult.SUCCESS

    tracers = TracerProvider(shutdown_on_exit=False)
    batch = BatchSpanProcessor(Nowhere(), max_queue_size=100_000)
    tracers.add_span_processor(batch)
    reader = InMemoryMetricReader()
    meters = MeterProvider([reader], shutdown_on_exit=False)
    tracer, meter = tracers.get_tracer("raw"), meters.get_meter("raw")
    duration = meter.create_histogram(
        "gen_ai.client.operation.duration", "s",
        explicit_bucket_boundaries_advisory=semconv.SECONDS,
    )  # fmt: skip
    tokens = meter.create_histogram(
        "gen_ai.client.token.usage", "{token}",
        explicit_bucket_boundaries_advisory=semconv.TOKENS,
    )  # fmt: skip
    count = 2000

    def raw_full() -> None:
        for _ in range(count):
            begin = time.perf_counter()
            with tracer.start_as_current_span(
                "chat gpt-4o-mini", kind=SpanKind.CLIENT, attributes=START
            ) as span:
                span.set_attributes(END)
                labels = {
                    "gen_ai.operation.name": "chat",
                    "gen_ai.provider.name": "openai",
                    "gen_ai.request.model": "gpt-4o-mini",
                    "gen_ai.response.model": "gpt-4o-mini-2024-07-18",
                    "server.address": "api.openai.com",
                    "server.port": 443,
                }
                duration.record(time.perf_counter() - begin, labels)
                tokens.record(120, {**labels, "gen_ai.token.type": "input"})
                tokens.record(30, {**labels, "gen_ai.token.type": "output"})
        batch.force_flush()

    home = Path(tempfile.mkdtemp(prefix="empathy-bench-"))

    @otel_empathy.llm_call(provider="openai", model="gpt-4o-mini")
    def ask() -> None:
        call = otel_empathy.current_call()
        call.request(temperature=0.2, max_tokens=512)
        call.usage(input=120, output=30)
        call.response(model="gpt-4o-mini-2024-07-18", id="chatcmpl-1", finish="stop")

    def bare() -> None:
        for _ in range(count):
            plain()

    def plain() -> None:
        return None

    @otel_empathy.llm_call(provider="openai", model="gpt-4o-mini")
    def off_call() -> None:
        return None

    def off() -> None:
        for _ in range(count):
            off_call()

    off_times = interleaved({"off": off, "bare": bare}, count)
    with otel_empathy.configure(service="bench", home=home, backends=[]) as runtime:

        def ours() -> None:
            for _ in range(count):
                ask()
            runtime.flush(10)

        times = interleaved({"ours": ours, "raw_full": raw_full}, count)
        acked = runtime.ledger().acked["traces"]
    if acked != count * (REPEATS + 1):
        sys.exit(f"bench: {acked} of {count * (REPEATS + 1)} calls are in the log")
    shutil.rmtree(home)
    tracers.shutdown()
    compare("decorated LLM call, in the log", "stock SDK, no-op exporter", times, "ours",
            "raw_full", 0.12)  # fmt: skip
    added = statistics.median(
        a - b for a, b in zip(off_times["off"], off_times["bare"], strict=True)
    )
    ROWS.append(Row("switched off, added", "bare function (us, not a ratio)", added * 1e6, 0.0,
                    statistics.median(off_times["off"]) * 1e6,
                    statistics.median(off_times["bare"]) * 1e6, 1.0))  # fmt: skip


# -- sending --------------------------------------------------------------------------------------
def fan_out() -> None:
    """One span to one backend, to four, and into the log, against the stock exporters."""
    from faulty_backend import spawn
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import (
        BatchSpanProcessor,
        SimpleSpanProcessor,
        SpanExporter,
        SpanExportResult,
    )

    count = 4096

    def emit(tracer: Any) -> None:
        for _ in range(count):
            with tracer.start_as_current_span("chat gpt-4o-mini", attributes=START) as span:
                span.set_attributes(END)

    class ToFile(SpanExporter):
        def __init__(self, path: Path) -> None:
            self.file = path.open("a")

        def export(self, spans: Any) -> SpanExportResult:
            for span in spans:
                self.file.write(span.to_json(indent=None) + "\n")
                self.file.flush()
            return SpanExportResult.SUCCESS

    folder = Path(tempfile.mkdtemp(prefix="empathy-bench-"))
    receivers = [spawn() for _ in range(4)]
    endpoints = [receiver.endpoint for receiver in receivers]
    try:
        bare = TracerProvider(shutdown_on_exit=False)
        stock = {}
        for kind, targets in (("stock 1", endpoints[:1]), ("stock 4", endpoints)):
            provider = TracerProvider(shutdown_on_exit=False)
            for endpoint in targets:
                provider.add_span_processor(
                    BatchSpanProcessor(
                        OTLPSpanExporter(f"{endpoint}/v1/traces"), max_queue_size=count * 2
                    )
                )
            stock[kind] = provider
        to_file = TracerProvider(shutdown_on_exit=False)
        to_file.add_span_processor(SimpleSpanProcessor(ToFile(folder / "stock.jsonl")))

        def run(provider: TracerProvider) -> Callable[[], None]:
            def case() -> None:
                emit(provider.get_tracer("bench"))
                provider.force_flush(60_000)

            return case

        cases = {"bare": run(bare), "stock file": run(to_file)}
        cases.update({name: run(provider) for name, provider in stock.items()})
        times = interleaved(cases, count)
        for name, targets in (("ours 0", []), ("ours 1", endpoints[:1]), ("ours 4", endpoints)):
            times[name] = _child(folder / name.replace(" ", ""), targets)
        for name in ("stock file", "stock 1", "stock 4", "ours 0", "ours 1", "ours 4"):
            # What a span costs on its way out: the case less the same spans going nowhere.
            base = statistics.median(times["bare"])
            times[name] = [max(1e-9, value - base) for value in times[name]]
        compare("append to the log, per span", "to_json + write per span", times, "ours 0",
                "stock file", 0.20)  # fmt: skip
        compare("log + 1 backend, per span", "1 stock OTLP/HTTP exporter", times, "ours 1",
                "stock 1", 0.20)  # fmt: skip
        compare("log + 4 backends, per span", "4 stock OTLP/HTTP exporters", times, "ours 4",
                "stock 4", 0.10)  # fmt: skip
        expected = count * (REPEATS + 1)
        first = receivers[0].received()["spans"]
        if first < expected * 3:
            sys.exit(f"bench: {first} spans arrived where {expected * 4} were expected")
        for provider in (bare, to_file, *stock.values()):
            provider.shutdown()
    finally:
        for receiver in receivers:
            receiver.stop()
        shutil.rmtree(folder)


CHILD = """
import json, statistics, sys, time
sys.path.insert(0, {here!r})
import otel_empathy, run
from opentelemetry import trace
runtime = otel_empathy.configure(
    service="bench", home={home!r}, backends=[otel_empathy.Otlp(url) for url in {urls!r}]
)
tracer = trace.get_tracer("bench")
times = []
for repeat in range(run.REPEATS + 1):
    begin = time.process_time()
    for _ in range(4096):
        with tracer.start_as_current_span("chat gpt-4o-mini", attributes=run.START) as span:
            span.set_attributes(run.END)
    assert runtime.flush(60)
    times.append((time.process_time() - begin) / 4096)
balance = runtime.ledger()
assert balance.acked["traces"] == 4096 * (run.REPEATS + 1), balance.as_dict()
print(json.dumps(times[1:]))
"""


def _child(home: Path, urls: list[str]) -> list[float]:
    """The same spans through us, in a process of its own, since a process has one configuration."""
    code = CHILD.format(here=str(Path(__file__).parent), home=str(home), urls=urls)
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=300
    )
    found: list[float] = json.loads(done.stdout.splitlines()[-1])
    return found


# -- start ----------------------------------------------------------------------------------------
def imports() -> None:
    """Fresh interpreters, warm bytecode, less an empty one."""
    cases = {
        "empty": "pass",
        "api": "import opentelemetry.trace, opentelemetry.metrics",
        "ours": "import otel_empathy\nfrom otel_empathy import llm_call, agent, tool",
    }
    times: dict[str, list[float]] = {name: [] for name in cases}
    for repeat in range(9):
        for name, code in cases.items():
            begin = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
            if repeat:
                times[name].append(time.perf_counter() - begin)
    base = statistics.median(times["empty"])
    net = {name: [max(1e-6, value - base) for value in values] for name, values in times.items()}
    compare("import otel_empathy and decorate", "import the API's trace and metrics", net, "ours",
            "api", 1.15)  # fmt: skip


GROUPS = {"hot_path": hot_path, "fan_out": fan_out, "imports": imports}


def table() -> None:
    """Print what was measured, and where."""
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}"
        for name in ("opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http", "orjson")
    )
    print(f"\n{platform.processor() or platform.machine()}, {os.cpu_count()} cores, "
          f"Python {platform.python_version()}, {versions}")  # fmt: skip
    head = (
        f"{'what':<34} {'against':<36} {'ratio':>7} {'spread':>7} {'aim':>6} "
        f"{'ours us':>9} {'theirs us':>10}"
    )
    print(head + "\n" + "-" * len(head))
    for row in ROWS:
        aim = f"{row.aim:.2f}" if row.aim is not None else ""
        print(f"{row.name:<34} {row.against:<36} {row.ratio:>7.3f} {row.spread:>7.3f} {aim:>6} "
              f"{row.ours_us:>9.1f} {row.theirs_us:>10.1f}")  # fmt: skip


def main() -> None:
    """Run the groups that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("groups", nargs="*", choices=[[], *GROUPS], default=[])
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    chosen = parser.parse_args()
    for name in chosen.groups or GROUPS:
        print(f"== {name}", flush=True)
        GROUPS[name]()
    table()
    if chosen.json:
        chosen.json.write_text(json.dumps([vars(row) for row in ROWS], indent=1))


if __name__ == "__main__":
    main()
