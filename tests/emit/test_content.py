from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from captured import Captured, capturing
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from planted import SECRETS

from otel_empathy.core.scrub import Scrubber
from otel_empathy.core.settings import Capture
from otel_empathy.emit import content, safety
from otel_empathy.emit.context import using
from otel_empathy.emit.live import live
from otel_empathy.emit.values import truncations
from otel_empathy.sources.agent import tool
from otel_empathy.sources.llm import llm_call

CANARY = "canary-7f3a"
DETAILS = "gen_ai.client.inference.operation.details"
INPUT, OUTPUT = "gen_ai.input.messages", "gen_ai.output.messages"
SYSTEM = "gen_ai.system_instructions"


def talk() -> None:
    @tool
    def look_up(query: str) -> str:
        return f"{query} found"

    with llm_call(model="m") as call:
        call.messages(
            input=f"hello {CANARY}",
            output=[{"role": "assistant", "content": f"hi {CANARY}"}],
            system=f"be kind {CANARY}",
            tools=[{"name": CANARY}],
        )
        call.prompt("p", variables={"who": CANARY})
        look_up(CANARY)


def everything(captured: Captured) -> tuple[str, str]:
    spans = repr([(s.name, s.attributes, s.events, s.status.description) for s in captured.spans])
    return spans, repr(captured.events)


@pytest.mark.parametrize(
    ("capture", "in_spans", "in_events"),
    [
        (Capture.NO_CONTENT, False, False),
        (Capture.SPAN_ONLY, True, False),
        (Capture.EVENT_ONLY, False, True),
        (Capture.SPAN_AND_EVENT, True, True),
    ],
)
def test_content_goes_where_the_mode_says_and_nowhere_else(
    capture: Capture, *, in_spans: bool, in_events: bool
) -> None:
    with capturing(capture=capture, emit_event=True) as captured:
        talk()
        spans, events = everything(captured)
        assert (CANARY in spans) == in_spans
        assert (CANARY in events) == in_events
        assert CANARY not in repr(captured.metrics())
        assert [name for name, _ in captured.events] == [DETAILS]


def test_details_hold_all_attributes_and_structured_messages() -> None:
    with capturing(capture=Capture.EVENT_ONLY, emit_event=True) as captured:
        talk()
        found = captured.event(DETAILS)
        assert found["gen_ai.request.model"] == "m"
        assert found["empathy.call.outcome"] == "ok"
        (message,) = found[INPUT]
        assert message["role"] == "user"
        assert dict(message["parts"][0]) == {"type": "text", "content": f"hello {CANARY}"}
        (record,) = captured.records
        assert record.severity_number.value == 5
        assert record.span_id == captured.span("chat m").context.span_id


def test_without_events_there_are_no_details() -> None:
    with capturing(capture=Capture.EVENT_ONLY, emit_event=False) as captured:
        talk()
        assert captured.events == []


def test_content_is_scrubbed_before_anything_sees_it() -> None:
    scrubber = Scrubber()
    with capturing(
        capture=Capture.SPAN_AND_EVENT, emit_event=True, scrub=scrubber, scrub_value=scrubber.value
    ) as captured:
        with llm_call() as call:
            call.messages(input="key AKIAIOSFODNN7EXAMPLE")
        for text in everything(captured):
            assert "AKIAIOSFODNN7EXAMPLE" not in text
            assert "key" in text


@pytest.mark.fault("C1")
def test_half_a_secret_at_the_cut_is_masked_too() -> None:
    scrub = Scrubber()
    hidden = SECRETS["github"][0]
    with capturing(
        capture=Capture.SPAN_AND_EVENT, emit_event=True, scrub=scrub, scrub_value=scrub.value
    ) as captured:
        for before in range(8120, 8192, 4):
            with llm_call(model="m") as call:
                call.messages(input="x" * before + f" {hidden} and more")
            with pytest.raises(ValueError, match="xxx"), llm_call(model="m"):
                raise ValueError("x" * before + f" {hidden} and more")
        assert hidden[:4] not in "".join(everything(captured))


def test_what_is_handed_over_is_taken_at_once() -> None:
    with capturing(capture=Capture.SPAN_ONLY) as captured:
        messages = [{"role": "user", "content": "first"}]
        with llm_call() as call:
            call.messages(input=messages)
            messages.append({"role": "assistant", "content": "second"})
        (span,) = captured.spans
        assert "second" not in str((span.attributes or {})[INPUT])


def test_long_content_is_cut_and_marked() -> None:
    with capturing(capture=Capture.SPAN_ONLY) as captured:
        with llm_call() as call:
            call.messages(input="x" * 300_000)
        found = dict(captured.spans[0].attributes or {})
        assert found["empathy.sdk.truncated"] is True
        assert len(str(found[INPUT])) < 131_072


@dataclass
class Part:
    type: str
    content: str


@dataclass
class Message:
    role: str
    parts: list[Part]


def text(value: str) -> dict[str, Any]:
    return {"type": "text", "content": value}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("hi", [{"role": "user", "parts": [text("hi")]}]),
        (["a", "b"], [{"role": "user", "parts": [text(x)]} for x in "ab"]),
        (
            {"role": "system", "content": "be kind"},
            [{"role": "system", "parts": [text("be kind")]}],
        ),
        (
            [{"role": "user", "content": [{"type": "text", "text": "look"}, {"type": "odd"}]}],
            [
                {
                    "role": "user",
                    "parts": [text("look"), {"type": "generic", "content": {"type": "odd"}}],
                }
            ],
        ),
        (
            [
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [
                        {"id": "c1", "function": {"name": "f", "arguments": '{"x": 1}'}}
                    ],
                },
                {"role": "tool", "tool_call_id": "c1", "content": "42"},
            ],
            [
                {
                    "role": "assistant",
                    "parts": [
                        {"type": "tool_call", "id": "c1", "name": "f", "arguments": '{"x": 1}'}
                    ],
                },
                {
                    "role": "tool",
                    "parts": [{"type": "tool_call_response", "id": "c1", "response": "42"}],
                },
            ],
        ),
        (
            [
                {"type": "thinking", "thinking": "hm"},
                {"type": "tool_use", "id": "c2", "name": "g", "input": {"y": 2}},
                {"type": "tool_result", "tool_use_id": "c2", "content": "ok"},
            ],
            [
                {
                    "role": "user",
                    "parts": [
                        {"type": "reasoning", "content": "hm"},
                        {"type": "tool_call", "id": "c2", "name": "g", "arguments": {"y": 2}},
                        {"type": "tool_call_response", "id": "c2", "response": "ok"},
                    ],
                }
            ],
        ),
        (
            [
                {
                    "role": "model",
                    "parts": [{"text": "hi"}, {"function_call": {"name": "h", "args": {}}}],
                }
            ],
            [
                {
                    "role": "model",
                    "parts": [text("hi"), {"type": "tool_call", "name": "h", "arguments": {}}],
                }
            ],
        ),
        (
            [{"index": 0, "message": {"role": "assistant", "content": "choice"}}],
            [{"role": "assistant", "parts": [text("choice")]}],
        ),
        (
            [Message("user", [Part("text", "typed"), Part("reasoning", "why")])],
            [{"role": "user", "parts": [text("typed"), {"type": "reasoning", "content": "why"}]}],
        ),
        (7, [{"role": "user", "parts": [{"type": "generic", "content": 7}]}]),
        ([], []),
    ],
)
def test_messages_of_all_kinds_take_the_standard_form(
    given: Any, expected: list[dict[str, Any]]
) -> None:
    with capturing(capture=Capture.SPAN_ONLY):
        kept = content.take(INPUT, given)
        assert kept is not None
        assert kept == (expected, False)


def test_system_instructions_are_parts_alone() -> None:
    with capturing(capture=Capture.SPAN_ONLY):
        assert content.take(SYSTEM, "be kind") == ([text("be kind")], False)
        given = {"role": "system", "content": "be kind"}
        assert content.take(SYSTEM, given) == ([text("be kind")], False)


def test_bytes_become_a_description_of_themselves() -> None:
    with capturing(capture=Capture.SPAN_ONLY):
        kept = content.take(
            INPUT, [{"role": "user", "content": [b"\x89PNG\r\n\x1a\n" + b"0" * 99]}]
        )
        assert kept is not None
        (part,) = kept[0][0]["parts"]
        assert part["type"] == "blob"
        assert part["content"]["bytes"] == 107
        json.dumps(kept[0])


def test_content_that_cannot_be_taken_is_left_out() -> None:
    def broken(value: Any) -> Any:
        raise RuntimeError("no")

    with capturing(capture=Capture.SPAN_ONLY, scrub_value=broken) as captured:
        with safety.swallow() as errors, llm_call() as call:
            call.messages(input="hi")
        assert errors["serialize", "RuntimeError"] == 1
        assert INPUT not in (captured.spans[0].attributes or {})


def test_the_content_of_an_inner_call_reaches_the_outer_one() -> None:
    with capturing(capture=Capture.SPAN_ONLY) as captured:
        with llm_call(), llm_call() as inner:
            inner.messages(input="asked", output="answered")
        found = dict(captured.spans[0].attributes or {})
        assert json.loads(str(found[INPUT])) == [{"role": "user", "parts": [text("asked")]}]
        assert "answered" in str(found[OUTPUT])


VARIABLE = "gen_ai.prompt.variable."
FACTS = {
    "gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model",
    "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens", "empathy.call.tier",
    "empathy.call.outcome",
}  # fmt: skip


def variables(found: dict[str, Any]) -> int:
    return sum(key.startswith(VARIABLE) for key in found)


def crowded() -> None:
    """A call with more content than fits, around one with other variables."""
    with llm_call(model="m", provider="openai", tier="cheap") as outer:
        outer.usage(input=1, output=1).messages(input="hello")
        outer.prompt("n", variables={f"v{number}": number for number in range(200)})
        with llm_call() as inner:
            inner.prompt("n", variables={f"w{number}": number for number in range(64)})


@pytest.mark.parametrize("most", [128, 40, 32])
def test_content_never_displaces_facts(most: int, caplog: pytest.LogCaptureFixture) -> None:
    truncations.clear()
    with capturing(capture=Capture.SPAN_ONLY) as captured:
        limits = SpanLimits(max_span_attributes=most)
        tracers = TracerProvider(span_limits=limits, shutdown_on_exit=False)
        tracers.add_span_processor(SimpleSpanProcessor(captured._spans))
        live.install(tracer=tracers.get_tracer("small"))
        crowded()
        (span,) = captured.spans
        found = dict(span.attributes or {})
        assert found.keys() >= {*FACTS, "empathy.sdk.truncated"}
        assert len(found) == most
        assert truncations == {"keys": 1}
        if most == 128:
            assert INPUT in found
            assert 64 < variables(found) < 128
            assert span.dropped_attributes == 0
            assert "dict is full" not in caplog.text
        tracers.shutdown()


def test_content_of_events_leaves_room_for_facts(caplog: pytest.LogCaptureFixture) -> None:
    truncations.clear()
    with capturing(capture=Capture.EVENT_ONLY, emit_event=True) as captured:
        with using(session="s"):
            crowded()
        details = captured.event(DETAILS)
        assert details.keys() >= {*FACTS, "session.id", INPUT, "empathy.sdk.truncated"}
        assert len(details) == 128
        assert "dict is full" not in caplog.text
        assert truncations == {"keys": 1}
        assert "empathy.sdk.truncated" not in (captured.spans[0].attributes or {})


def test_content_that_fits_is_whole_and_bears_no_mark() -> None:
    truncations.clear()
    with capturing(capture=Capture.SPAN_AND_EVENT, emit_event=True) as captured:
        with llm_call(model="m") as call:
            call.prompt("n", variables={f"v{number}": number for number in range(64)})
        for found in (dict(captured.spans[0].attributes or {}), captured.event(DETAILS)):
            assert variables(found) == 64
            assert "empathy.sdk.truncated" not in found
        assert truncations == {}


def test_long_content_of_events_is_marked_too() -> None:
    truncations.clear()
    with capturing(capture=Capture.EVENT_ONLY, emit_event=True) as captured:
        with llm_call() as call:
            call.messages(input="x" * 300_000)
        assert captured.event(DETAILS)["empathy.sdk.truncated"] is True
        assert truncations == {"content": 1}


def test_what_an_inner_call_left_out_is_marked_on_the_outer_one() -> None:
    truncations.clear()
    with capturing(capture=Capture.SPAN_ONLY) as captured:
        with llm_call(), llm_call() as inner:
            inner.prompt("n", variables={str(number): number for number in range(65)})
        found = dict(captured.spans[0].attributes or {})
        assert variables(found) == 64
        assert found["empathy.sdk.truncated"] is True
        assert truncations == {"keys": 1}
