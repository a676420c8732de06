from __future__ import annotations

import threading
from typing import Any

import pytest

from otel_empathy.core.call import Call
from otel_empathy.core.errors import WrongType, WrongValue
from otel_empathy.core.run import NO_RUN, Run, Transition, policy_name
from otel_empathy.core.states import RunState
from otel_empathy.testing import ManualClock


class Notes:
    def __init__(self) -> None:
        self.heard: list[Any] = []

    def state_changed(self, run: Run, previous: RunState, reason: str | None) -> None:
        self.heard.append(("state", previous.value, run.state and run.state.value, reason))

    def phase_changed(self, run: Run, transition: Transition) -> None:
        self.heard.append(("phase", transition.previous, transition.phase))

    def phase_left(self, run: Run, phase: str, duration: float) -> None:
        self.heard.append(("left", phase, duration))

    def progressed(self, run: Run) -> None:
        self.heard.append(("progress", run.progress, run.task))


def begun() -> tuple[Run, Notes, ManualClock]:
    clock, notes = ManualClock(), Notes()
    run = Run("run_1", "a", clock=clock, listener=notes)
    run.start()
    return run, notes, clock


def test_a_life_as_the_listener_hears_it() -> None:
    run, notes, clock = begun()
    clock.advance(1)
    run.enter("thinking")
    clock.advance(2)
    assert run.finish(RunState.COMPLETED)
    assert notes.heard == [
        ("phase", None, "starting"),
        ("state", "starting", "running", None),
        ("left", "starting", 1.0),
        ("phase", "starting", "thinking"),
        ("state", "running", "completed", None),
        ("left", "thinking", 2.0),
        ("phase", "thinking", "completed"),
    ]
    assert run.durations == {"starting": 1.0, "thinking": 2.0}


def test_the_first_end_wins() -> None:
    run, notes, _ = begun()
    assert run.finish(RunState.FAILED, "boom")
    heard = len(notes.heard)
    assert not run.finish(RunState.COMPLETED)
    assert run.enter("thinking") is None
    run.start()
    run.beat(progress=0.5)
    assert (run.state, run.reason, run.progress) == (RunState.FAILED, "boom", None)
    assert len(notes.heard) == heard


def test_of_many_threads_that_end_a_run_one_does() -> None:
    run, notes, _ = begun()
    begin, won = threading.Barrier(8), []

    def end() -> None:
        begin.wait(5)
        if run.finish(RunState.COMPLETED):
            won.append(1)

    threads = [threading.Thread(target=end) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert won == [1]
    assert [h for h in notes.heard if h[0] == "state"][-1][2] == "completed"


def test_cancelled_and_dead_keep_the_last_phase() -> None:
    for state in (RunState.CANCELLED, RunState.DEAD):
        run, notes, clock = begun()
        run.enter("thinking")
        clock.advance(3)
        run.finish(state)
        assert run.phase == "thinking"
        assert run.durations["thinking"] == 3.0
        assert notes.heard[-1] == ("left", "thinking", 3.0)


def test_phases_that_bring_a_state_along() -> None:
    run, _, _ = begun()
    run.enter("completing")
    assert run.state is RunState.COMPLETING
    run.enter("timeout")
    assert (run.state, run.phase, run.ended) == (RunState.TIMEOUT, "timeout", True)


def test_history_is_bounded_and_durations_are_not_lost() -> None:
    run, _, clock = begun()
    for number in range(1_200):
        clock.advance(1)
        run.enter("thinking" if number % 2 else "reranking")
    assert len(run.history) == 1_000
    assert run.dropped == 201
    assert run.history[-1].phase == "thinking"
    run.finish(RunState.COMPLETED)
    assert sum(run.durations.values()) == 1_200


def test_a_definition_that_is_no_text_is_refused_and_noted() -> None:
    run = Run("r", "a")
    run.start()
    assert run.describe(agent_id="asst_1").describe().agent_id == "asst_1"
    assert run.describe(agent_id=7).agent_id == "asst_1"  # type: ignore[arg-type]
    assert run.refused == ("describe.agent_id",)


def test_beats_are_no_changes_of_phase() -> None:
    run, notes, clock = begun()
    clock.advance(1)
    run.beat(progress=0.5, task="x")
    clock.advance(1)
    run.finish(RunState.COMPLETED)
    assert ("progress", 0.5, "x") in notes.heard
    assert run.durations == {"starting": 2.0}


@pytest.mark.parametrize(
    ("given", "expected", "refused"),
    [
        (0, 0.0, 0),
        (1, 1.0, 0),
        (-2, 0.0, 1),
        (7, 1.0, 1),
        (float("nan"), None, 1),
        (True, None, 1),
        (10**400, 1.0, 1),
        (-(10**400), 0.0, 1),
        ("0.5", None, 1),
    ],
)
def test_progress_is_a_share(given: Any, expected: float | None, refused: int) -> None:
    run, _, _ = begun()
    run.beat(progress=given)
    assert run.progress == expected
    assert len(run.refused) == refused


@pytest.mark.fault("P9")
def test_a_task_that_cannot_be_shown_is_refused() -> None:
    class Hostile:
        def __str__(self) -> str:
            raise RuntimeError("no")

    run, _, _ = begun()
    run.beat(task="first").beat(task=Hostile())  # type: ignore[arg-type]
    assert run.task == "first"
    assert run.refused == ("beat.task",)


def test_policies() -> None:
    assert [policy_name("strict"), policy_name("warn")] == ["strict", "warn"]
    with pytest.raises(WrongValue):
        policy_name("loose")
    with pytest.raises(WrongType):
        policy_name(True)


def test_the_run_outside_of_runs_cannot_begin_or_end() -> None:
    assert NO_RUN.finish(RunState.COMPLETED) is False
    assert NO_RUN.enter("thinking") is None
    assert NO_RUN.visit is None
    assert NO_RUN.beat(progress=1).progress is None


def test_a_beat_of_which_nothing_can_be_used_is_no_news() -> None:
    run, notes, _ = begun()
    run.beat(progress=0.5)
    heard = list(notes.heard)
    run.beat(progress=float("nan"))
    run.beat(progress="0.7")  # type: ignore[arg-type]
    assert notes.heard == heard
    assert run.progress == 0.5
    assert run.refused == ("beat.progress", "beat.progress")
    run.beat(progress=float("nan"), task="still here")
    assert notes.heard == [*heard, ("progress", 0.5, "still here")]


@pytest.mark.fault("P9")
def test_an_object_that_hides_its_class_is_refused() -> None:
    class Gone:
        @property  # type: ignore[misc]
        def __class__(self) -> Any:
            raise RuntimeError("outside of its request")

        def __str__(self) -> str:
            raise RuntimeError("outside of its request")

    run, notes, _ = begun()
    heard = list(notes.heard)
    run.beat(progress=Gone(), task=Gone()).describe(agent_id=Gone())  # type: ignore[arg-type]
    assert notes.heard == heard
    assert run.refused == ("beat.progress", "beat.task", "describe.agent_id")


def test_a_refusal_costs_no_more_because_of_those_before_it() -> None:
    run, _, _ = begun()
    call = Call("chat")
    for _ in range(100_000):
        run.beat(progress=float("nan"))
        call.usage(source="nowhere")
    assert (len(run.refused), len(call.refused)) == (100_000, 100_000)
