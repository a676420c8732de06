"""The program that `testbed.py` puts through each fault, once with the stock SDK and once with us.

Both sides run the same lines; they differ in `begin()` alone. A span counts as ended when `end()`
has returned. The program says so on standard output before anything can happen to it, one line a
span, so that what arrives elsewhere is compared with what was ended here:

    e <pid> <acknowledged by the log> <span id> <monotonic time>      a span has ended
    begun | done | leaving <monotonic time>                           where it is

It leaves by itself in the way it was told, or waits to be killed.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from opentelemetry import trace

__all__ = ["Work"]

AT_ONCE = 64  # lines in one write, which is then whole also where several processes write
ATTRIBUTES: dict[str, Any] = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o-mini",
    "gen_ai.usage.input_tokens": 120,
    "gen_ai.usage.output_tokens": 30,
    "server.address": "api.openai.com",
    "server.port": 443,
}


@dataclass(frozen=True)
class Work:
    """What the program does.

    Args:
        side: `stock`, `ours`, or `bare` for no telemetry at all.
        endpoint: Where the backend is.
        home: Where our log lies.
        count: Spans of each process that works.
        rate: Spans a second; 0 for as fast as it goes.
        end: `return`, `raise`, `thread`, `os._exit` or `wait`.
        children: How its children are made, if they do the work: `os.fork`, `fork`, `spawn` or
            `forkserver`.
        processes: How many they are.
        poison: Name of the span in the middle.
    """

    side: str
    endpoint: str
    home: str
    count: int
    rate: float = 0.0
    end: str = "return"
    children: str = ""
    processes: int = 4
    poison: str = ""


acknowledged: Callable[[], int] | None = None  # set by begin(), inherited over a fork


def begin(work: Work) -> None:
    """Switch telemetry on; the only place where the sides differ."""
    global acknowledged  # noqa: PLW0603 - one provider per process, as in any program
    acknowledged = _nothing
    if work.side == "stock":
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        provider = TracerProvider()
        exporter = OTLPSpanExporter(f"{work.endpoint}/v1/traces")
        provider.add_span_processor(BatchSpanProcessor(exporter))
        trace.set_tracer_provider(provider)
    elif work.side == "ours":
        import otel_empathy

        backend = otel_empathy.Otlp(work.endpoint, name="testbed")
        runtime = otel_empathy.configure(service="testbed", home=work.home, backends=[backend])

        def acked() -> int:
            return runtime.log.counts["traces"].acked if runtime.log is not None else 0

        acknowledged = acked


def _nothing() -> int:
    return 0


def say(text: str) -> None:
    data = text.encode()
    while data:
        data = data[os.write(1, data) :]


def spans(work: Work, count: int, *, poison: str = "") -> None:
    """End so many spans, and say of each that it has ended."""
    assert acknowledged is not None
    tracer = trace.get_tracer("testbed")
    pid, rate, acked, monotonic = os.getpid(), work.rate, acknowledged, time.monotonic
    at_once = 1 if 0 < rate <= 1000 else AT_ONCE
    lines: list[str] = []
    first = monotonic()
    for number in range(count):
        if rate:
            early = first + number / rate - monotonic()
            if early > 0:
                time.sleep(early)
        name = poison if poison and number == count // 2 else "call"
        span = tracer.start_span(name, kind=trace.SpanKind.CLIENT, attributes=ATTRIBUTES)
        span.end()
        ended = monotonic()
        lines.append(f"e {pid} {acked()} {span.get_span_context().span_id:016x} {ended:.4f}\n")
        if len(lines) == at_once:
            say("".join(lines))
            lines.clear()
    say("".join(lines))


def in_child(told: dict[str, Any]) -> None:
    """What a process of `multiprocessing` does; one that inherits nothing sets up for itself."""
    work = Work(**told)
    if acknowledged is None:
        begin(work)
    spans(work, work.count)


def in_children(work: Work) -> None:
    """End a few spans here, so that all is in use, and the rest in children."""
    spans(work, 100)
    if work.children == "os.fork":
        pids = []
        for _ in range(work.processes):
            pid = os.fork()
            if not pid:
                try:
                    spans(work, work.count)
                finally:
                    os._exit(0)
            pids.append(pid)
        for pid in pids:
            os.waitpid(pid, 0)
        return
    context: Any = multiprocessing.get_context(work.children)
    several = [
        context.Process(target=in_child, args=(asdict(work),)) for _ in range(work.processes)
    ]
    for one in several:
        one.start()
    for one in several:
        one.join()


def main() -> None:
    work = Work(**json.loads(sys.argv[1]))
    begin(work)
    say(f"begun {time.monotonic()}\n")
    if work.children:
        in_children(work)
    elif work.end == "thread":

        def run() -> None:
            spans(work, work.count)
            sys.exit(3)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    else:
        spans(work, work.count, poison=work.poison)
    if work.end == "wait":
        say(f"done {time.monotonic()}\n")
        while True:
            signal.pause()
    say(f"leaving {time.monotonic()}\n")
    if work.end == "raise":
        raise RuntimeError("nobody catches this")
    if work.end == "os._exit":
        os._exit(0)


if __name__ == "__main__":
    main()
