from __future__ import annotations

import json
from typing import Any

import pytest

from otel_empathy.core.errors import WrongType, WrongValue
from otel_empathy.core.states import Phase, RunState, phase_name


def test_members_are_their_text() -> None:
    assert RunState.RUNNING == "running"
    assert f"{RunState.RUNNING} {Phase.THINKING!s}" == "running thinking"
    assert json.dumps([RunState.DEAD, Phase.CREATED]) == '["dead", "created"]'


def test_which_states_are_terminal() -> None:
    assert {state.value for state in RunState if state.is_terminal} == {
        "completed",
        "failed",
        "timeout",
        "cancelled",
        "dead",
    }
    assert {phase.value for phase in Phase if phase.is_terminal} == {
        "completed",
        "timeout",
        "failed",
    }


@pytest.mark.parametrize("state", RunState)
def test_a_state_is_found_by_itself_and_by_its_text(state: RunState) -> None:
    assert RunState.of(state) is state
    assert RunState.of(state.value) is state


@pytest.mark.parametrize("value", [{"state": "running"}, None, 3, ["running"], b"running"])
def test_what_is_no_text_is_no_state(value: Any) -> None:
    with pytest.raises(WrongType, match="pending, starting, running"):
        RunState.of(value)


@pytest.mark.parametrize("value", ["", "Running", "RUNNING", " running", "gone"])
def test_unknown_text_is_no_state(value: str) -> None:
    with pytest.raises(WrongValue, match="pending, starting, running"):
        RunState.of(value)


def test_names_of_phases() -> None:
    assert phase_name(Phase.THINKING) == "thinking"
    assert type(phase_name(Phase.THINKING)) is str
    assert phase_name("my_own_2") == "my_own_2"
    assert phase_name("x" * 64) == "x" * 64
