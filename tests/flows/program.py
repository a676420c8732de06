"""A program that emits one of everything, run by the flow tests in a process of its own.

It prints one JSON line with what it believes was sent.
"""

from __future__ import annotations

import json
import sys

from opentelemetry import metrics, trace
from opentelemetry.trace import Link, SpanKind, Status, StatusCode

import otel_empathy
from otel_empathy import agent, current_call, event, llm_call, phase, tool, using


@llm_call(provider="openai", model="gpt-4o", tier="premium")
def ask(question: str) -> str:
    current_call().usage(input=100, output=20, cache_read=40, reasoning=5)
    current_call().response(model="gpt-4o-2024-08-06", id="r-1", finish="stop")
    return question


@llm_call(provider="openai", model="gpt-4o")
def fail() -> None:
    raise ConnectionError("the provider hung up")


@tool
def look_up(word: str) -> str:
    return word


@agent(name="planner")
def plan() -> None:
    with phase("thinking"):
        look_up("a")
    with phase("llm_interaction"):
        ask("why")
        try:
            fail()
        except ConnectionError:
            event("shop.gave_up", tries=1)


def foreign() -> None:
    """Spans and metrics of other libraries, with every kind of value."""
    tracer = trace.get_tracer("foreign", "2.0", attributes={"scope.kind": "test"})
    with tracer.start_as_current_span(
        "root", kind=SpanKind.SERVER,
        attributes={
            "text": "grüße\u2028\x07", "flag": True, "whole": -(2**63), "share": 0.1,
            "texts": ["a", "b"], "flags": [True, False], "wholes": [1, 2], "shares": [0.5, 1.5],
            "empty": "", "none": [],
        },
    ) as root:  # fmt: skip
        root.add_event("happened", {"n": 1})
        with tracer.start_as_current_span(
            "child", links=[Link(root.get_span_context(), {"why": "because"})]
        ) as child:
            child.set_status(Status(StatusCode.ERROR, "broken"))
            child.record_exception(ValueError("bad value"))
    # As large as a record gets, so that its line is nearly as long as a line may be.
    long = {f"part.{n:02}": f"{n} " + "as it was said, " * 500 for n in range(62)}
    tracer.start_span("long", attributes=long).end()
    meter = metrics.get_meter("foreign", "2.0")
    meter.create_counter("shop.orders", "{order}", "Orders.").add(3, {"shop": "a"})
    meter.create_up_down_counter("shop.queue", "{job}", "Jobs.").add(-2)
    meter.create_histogram("shop.wait", "s", "Wait.").record(0.25, {"shop": "a"})
    meter.create_gauge("shop.heat", "Cel", "Heat.").set(21.5)


def main() -> None:
    """Emit, flush, and say what is in the ledger."""
    given = json.loads(sys.argv[1])
    backends = [otel_empathy.Otlp(**one) for one in given.pop("backends")]
    with otel_empathy.configure(service="flow", backends=backends, **given) as runtime:
        with using(user="ada@example.com", session="s-1", workflow="flow"):
            plan()
            foreign()
        flushed = otel_empathy.flush(60)
    print(json.dumps({"flushed": flushed, "ledger": runtime.ledger().as_dict()}))


if __name__ == "__main__":
    main()
