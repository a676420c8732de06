from __future__ import annotations

from typing import Any

import pytest
from captured import Captured

from otel_empathy.emit.context import using
from otel_empathy.emit.values import plain_values, span_values, truncations
from otel_empathy.sources.agent import agent, phase
from otel_empathy.sources.feedback import event

MANY = {f"k{number}": number for number in range(300)}


@pytest.fixture(autouse=True)
def _no_counts() -> None:
    truncations.clear()


def test_attributes_of_an_event_never_displace_ours(
    captured: Captured, caplog: pytest.LogCaptureFixture
) -> None:
    with agent(name="a"), using(session="s", workflow="w"):
        event("many", **MANY)
    found = captured.event("many")
    assert found.keys() >= {"empathy.run.id", "session.id", "gen_ai.workflow.name", "k0", "k111"}
    assert found["empathy.sdk.truncated"] is True
    assert "dict is full" not in caplog.text
    assert truncations == {"keys": 1}


def test_attributes_of_a_phase_never_displace_ours(captured: Captured) -> None:
    with agent(name="a"), using(session="s"), phase("thinking", **MANY):
        pass
    span = captured.span("phase thinking")
    found = dict(span.attributes or {})
    assert found.keys() >= {"empathy.run.id", "session.id", "empathy.phase.name", "k111"}
    assert found["empathy.sdk.truncated"] is True
    assert span.dropped_attributes == 0
    assert truncations == {"keys": 1}


@pytest.mark.parametrize("values", [plain_values, span_values])
def test_a_value_that_was_cut_is_marked_and_counted(values: Any) -> None:
    found = values({"a": {"b": "x" * 10_000}, "c": 1, "d": None})
    assert found.keys() == {"a", "c", "empathy.sdk.truncated"}
    assert truncations == {"value": 1}
    assert values({"a": ["b"], "c": 1}) == {"a": ["b"], "c": 1}
    assert truncations == {"value": 1}
