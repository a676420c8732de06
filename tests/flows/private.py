"""A program that says what must not get out, in every place where something can be said.

It takes JSON on its standard input: the texts to plant, the endpoints, and arguments of
`configure()`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from typing import Any

from opentelemetry import _logs, metrics, trace
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.trace import Link, Status, StatusCode

import otel_empathy
from otel_empathy import (
    Console,
    Otlp,
    agent,
    current_call,
    current_run,
    event,
    feedback,
    llm_call,
    phase,
    tool,
    using,
    workflow,
)


def unreadable(reply: str) -> None:
    """An extractor that fails and says with what."""
    raise ValueError(f"cannot read {reply}")


@llm_call(provider="openai", model="gpt-4o", extract=unreadable)
def ask(text: str) -> str:
    """Ask a model."""
    call = current_call()
    call.messages(
        input=[{"role": "user", "content": text}, {"role": "tool", "content": {"deep": [text]}}],
        output=[text, {"role": "assistant", "parts": [{"type": "text", "content": text}]}],
        system=text,
        tools=[{"name": "t", "description": text}],
    )
    call.prompt("greeting", variables={"name": text, "list": [text]})
    call.request(stop_sequences=[text]).retry(text).retry(ValueError(text))
    return text


@llm_call(provider="openai", model="gpt-4o")
def stream(text: str) -> Any:
    """Ask a model for a stream."""
    yield text
    current_call().messages(output=text)
    raise ConnectionError(f"lost after {text}")


@tool
def look_up(text: str, *, options: Any) -> Any:
    """Look something up."""
    return {"found": text, "options": options}


@tool
def break_down(text: str) -> None:
    """Fail."""
    try:
        _ = {}[text]
    except KeyError as error:
        raise RuntimeError(f"failed with {text}") from error


@agent
@workflow
def work(text: str) -> None:
    """Do everything that an agent can do."""
    with phase("thinking", note=text, nested={"list": [text]}), contextlib.suppress(Exception):
        ask(text)
        look_up(text, options={"inner": text, "list": [text]})
        current_run().beat(progress=0.5, task=text)
        break_down(text)
    with contextlib.suppress(ConnectionError):
        list(stream(text))
    event("shop.noted", note=text, nested={"list": [text], "map": {"inner": text}})
    feedback(score=0.5, comment=text)
    raise ValueError(text)


def foreign(text: str, number: int) -> None:
    """What other libraries do."""
    tracer = trace.get_tracer("foreign", attributes={"note": text})
    with tracer.start_as_current_span("one") as one:
        pass
    with tracer.start_as_current_span(
        f"GET {text}",
        links=[Link(one.get_span_context(), {"note": text})],
        attributes={"url.full": f"https://shop.example/x?note={text}", "list": ["a", text]},
    ) as span:
        span.add_event(f"noted {text}", {"note": text})
        span.record_exception(ValueError(text))
        span.set_status(Status(StatusCode.ERROR, text))
    counter = metrics.get_meter("foreign").create_counter(f"shop.{number}", "1", f"Has {text}.")
    counter.add(1, {"note": text})
    logger = _logs.get_logger("foreign")
    for body in (text, {"note": text, "list": [text]}):
        logger.emit(
            LogRecord(body=body, severity_number=SeverityNumber.INFO, attributes={"note": text})
        )


@llm_call(provider="openai", model="gpt-4o")
def answer(text: str) -> str:
    """Say it as content, and nowhere else."""
    current_call().prompt("greeting", variables={"name": text}).messages(
        input=text, output=[text], system=text, tools=[{"description": text}]
    )
    return text


def content(text: str, _: int) -> None:
    """Content of ours, and of a library that knows nothing of us."""
    answer(text)
    look_up(text, options=[text])
    held = {
        "gen_ai.input.messages": text,
        "gen_ai.output.messages": text,
        "gen_ai.system_instructions": text,
        "gen_ai.tool.definitions": text,
        "gen_ai.tool.call.arguments": text,
        "gen_ai.tool.call.result": text,
        "gen_ai.prompt.variable.name": text,
    }
    with trace.get_tracer("foreign").start_as_current_span("chat other", attributes=held) as span:
        span.add_event("gen_ai.client.inference.operation.details", held)
    _logs.get_logger("foreign").emit(
        LogRecord(
            event_name="gen_ai.client.inference.operation.details",
            severity_number=SeverityNumber.DEBUG,
            attributes=held,
        )
    )


def everything(text: str, number: int) -> None:
    """Everything that can be said in every place."""
    with using(user="ada@example.com", session="s-1"), contextlib.suppress(ValueError):
        work(text)
    foreign(text, number)


def main() -> None:
    """Plant all of it, then flush."""
    logging.basicConfig(level=logging.DEBUG, stream=sys.stdout)
    given = json.load(sys.stdin)
    plant = content if given.get("content") else everything
    backends: list[Any] = [Otlp(**one) for one in given["backends"]]
    if given.get("console"):
        backends.append(Console())
    with otel_empathy.configure(
        service="private", backends=backends, **given["configure"]
    ) as runtime:
        for number, text in enumerate(given["texts"]):
            plant(text, number)
        flushed = otel_empathy.flush(60)
    print(json.dumps({"pid": os.getpid(), "flushed": flushed, "acked": runtime.ledger().acked}))


if __name__ == "__main__":
    main()
