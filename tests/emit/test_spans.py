from __future__ import annotations

from typing import Any

import pytest
from captured import Captured, capturing

from otel_empathy.core.scrub import Scrubber
from otel_empathy.emit.values import truncations
from otel_empathy.sources.agent import agent, phase, tool, workflow
from otel_empathy.sources.llm import llm_call

EXCEPTION = "gen_ai.client.operation.exception"
LONG = "x" * 9_000


@pytest.mark.parametrize("begin", [llm_call, tool, agent, workflow, phase("p")])
@pytest.mark.parametrize(
    ("text", "cut"), [("x" * 8_192, False), (LONG, True), ("x" * 50_000, True)]
)
def test_a_message_that_was_cut_is_marked_and_counted(
    captured: Captured, begin: Any, text: str, *, cut: bool
) -> None:
    truncations.clear()

    @begin
    def fail() -> None:
        raise ValueError(text)

    with pytest.raises(ValueError, match="xxx"):
        fail()
    (span,) = captured.spans
    (told,) = [event for event in span.events if event.name == "exception"]
    assert len(str((told.attributes or {})["exception.message"])) == 8_192
    assert (span.attributes or {}).get("empathy.sdk.truncated") == (True if cut else None)
    assert truncations == ({"value": 1} if cut else {})


def test_the_event_of_a_call_that_failed_is_marked_too(captured: Captured) -> None:
    with pytest.raises(ValueError, match="xxx"), llm_call():
        raise ValueError(LONG)
    assert captured.event(EXCEPTION)["empathy.sdk.truncated"] is True


def test_a_stack_that_was_cut_keeps_its_end_and_is_marked() -> None:
    truncations.clear()
    with capturing(stacktraces=True, scrub=Scrubber()) as captured:
        with pytest.raises(ValueError, match="short"), llm_call():
            raise ValueError("short") from KeyError(LONG)
        found = captured.event(EXCEPTION)
        assert len(found["exception.stacktrace"]) == 8_192
        assert found["exception.stacktrace"].endswith("ValueError: short\n")
        assert found["empathy.sdk.truncated"] is True
        assert truncations == {"value": 1}
