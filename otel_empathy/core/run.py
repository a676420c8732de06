"""One run of an agent: its state, its phases and what it did.

A `Run` is the record and its arithmetic. It opens no span: whoever started it listens, and hears of
each change after it has happened, outside the lock. Which phase may follow which is not decided
here yet: any phase may follow any other until the run has ended.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from threading import RLock
from typing import Any, Final, Literal, Protocol

from otel_empathy.core.clock import SYSTEM, Clock
from otel_empathy.core.errors import WrongType, WrongValue
from otel_empathy.core.limits import Timeouts
from otel_empathy.core.said import number_of, shown, text_of
from otel_empathy.core.states import Phase, RunState

__all__ = ["NO_RUN", "Listener", "Policy", "Run", "Transition", "policy_name"]

Policy = Literal["strict", "warn"]
_HISTORY: Final = 1_000
_NO_LIMITS: Final = Timeouts()
_STATE_OF: Final = {
    Phase.COMPLETING.value: RunState.COMPLETING,
    Phase.COMPLETED.value: RunState.COMPLETED,
    Phase.FAILED.value: RunState.FAILED,
    Phase.TIMEOUT.value: RunState.TIMEOUT,
}
_PHASE_OF: Final = {
    RunState.COMPLETED: Phase.COMPLETED.value,
    RunState.FAILED: Phase.FAILED.value,
    RunState.TIMEOUT: Phase.TIMEOUT.value,
}


def policy_name(value: Any) -> Policy:
    """What happens when a phase does not follow the table, checked.

    Raises:
        WrongType: The value is no text.
        WrongValue: There is no such policy.
    """
    name = text_of(value)
    if name is None:
        raise WrongType(f"phases={value!r} must be 'strict' or 'warn'")
    if name == "strict":
        return "strict"
    if name == "warn":
        return "warn"
    raise WrongValue(f"phases={value!r} must be 'strict' or 'warn'")


@dataclass(frozen=True, slots=True)
class Transition:
    """One step from phase to phase.

    Args:
        previous: The phase that was left; None at the start.
        phase: The phase that was entered.
        time: When, in UTC nanoseconds.
        duration: Seconds spent in the phase that was left; None at the start.
    """

    previous: str | None
    phase: str
    time: int
    duration: float | None


class Listener(Protocol):
    """Who hears of the changes of a run."""

    def state_changed(self, run: Run, previous: RunState, reason: str | None) -> None:
        """Hear that the run is in a new state."""

    def phase_changed(self, run: Run, transition: Transition) -> None:
        """Hear that the run is in a new phase."""

    def phase_left(self, run: Run, phase: str, duration: float) -> None:
        """Hear how long a phase took, which is over now."""

    def progressed(self, run: Run) -> None:
        """Hear that the run told of its progress."""


class Run:
    """The run that is under way.

    Outside a run `current_run()` gives one on which all of this does nothing.

    Args:
        id: Its id.
        agent: Name of the agent.
        agent_id: Id of the agent's definition, which is the same for all of its runs.
        parent_id: The run that started this one.
        policy: What happens when a phase does not follow the table.
        timeouts: What this run and its calls may take.
        clock: Where times come from.
        listener: Who hears of its changes.
    """

    __slots__ = (
        "_clock",
        "_entered",
        "_history",
        "_lock",
        "_phase",
        "_refused",
        "_state",
        "agent",
        "agent_id",
        "context",
        "dropped",
        "durations",
        "id",
        "inference_calls",
        "last_beat",
        "listener",
        "parent_id",
        "policy",
        "progress",
        "reason",
        "started",
        "task",
        "timeouts",
        "tool_calls",
        "violations",
    )  # fmt: skip

    def __init__(
        self,
        id: str | None,  # noqa: A002 - what the attribute is called
        agent: str | None,
        *,
        agent_id: str | None = None,
        parent_id: str | None = None,
        policy: Policy = "strict",
        timeouts: Timeouts = _NO_LIMITS,
        clock: Clock = SYSTEM,
        listener: Listener | None = None,
    ) -> None:
        self.id = id
        self.agent = agent
        self.agent_id = agent_id
        self.parent_id = parent_id
        self.policy: Policy = policy
        self.timeouts = timeouts
        self.listener = listener
        self.context: object = None  # where its span stands; opaque here
        self.progress: float | None = None
        self.task: str | None = None
        self.reason: str | None = None
        self.inference_calls = 0
        self.tool_calls = 0
        self.violations = 0
        self._refused: list[str] = []
        self.durations: dict[str, float] = {}
        self.dropped = 0  # transitions that the history no longer holds
        self._clock = clock
        self._lock = RLock()
        self._state: RunState | None = None
        self._phase: str | None = None
        self._history: deque[Transition] = deque(maxlen=_HISTORY)
        self.started = self.last_beat = self._entered = clock.monotonic()

    def __repr__(self) -> str:
        return f"<Run {self.id} of {self.agent}: {self._state}, {self._phase}>"

    @property
    def state(self) -> RunState | None:
        """Where the run is in its life; None outside a run."""
        return self._state

    @property
    def phase(self) -> str | None:
        """The phase it is in; None outside a run."""
        return self._phase

    @property
    def history(self) -> list[Transition]:
        """The steps from phase to phase, oldest first; the newest 1,000 are kept."""
        with self._lock:
            return list(self._history)

    @property
    def refused(self) -> tuple[str, ...]:
        """What could not be used, one entry for each time."""
        return tuple(self._refused)

    @property
    def ended(self) -> bool:
        """Whether nothing can change any more."""
        return self._state is None or self._state.is_terminal

    def start(self) -> None:
        """Begin: starting, then running at once, since the function's first statement follows."""
        with self._lock:
            if self._state is not None:
                return
            self._state = RunState.STARTING
            changes = [*self._move(Phase.STARTING.value), *self._change(RunState.RUNNING, None)]
        self._tell(changes)

    @property
    def visit(self) -> Transition | None:
        """The step that led into the present phase."""
        with self._lock:
            return self._history[-1] if self._history else None

    def enter(self, phase: str) -> Transition | None:
        """Be in a phase, and in the state that goes with it; None when the run has ended."""
        with self._lock:
            if self.ended:
                return None
            changes = list(self._move(phase))
            visit = self._history[-1]
            state = _STATE_OF.get(phase)
            if state is not None and state is not self._state:
                changes += self._change(state, None)
        self._tell(changes)
        return visit

    def finish(self, state: RunState, reason: str | None = None) -> bool:
        """Be over; the first end wins, a later one gets False and changes nothing."""
        with self._lock:
            if self.ended:
                return False
            changes = list(self._change(state, reason))
            phase = _PHASE_OF.get(state)
            if phase is not None:
                changes += self._move(phase)
            elif self._phase is not None:
                changes.append(("left", (self._phase, self._book())))
        self._tell(changes)
        return True

    def beat(self, *, progress: float | None = None, task: str | None = None) -> Run:
        """Say that the run is alive, how far it is (0..1) and what it does."""
        if self.ended:
            return self
        self.last_beat = self._clock.monotonic()
        share = None if progress is None else self._share(progress)
        name = None if task is None else self._named(task)
        if share is not None:
            self.progress = share
        if name is not None:
            self.task = name
        if self.listener is not None and not (share is None and name is None):
            self.listener.progressed(self)
        return self

    def describe(self, *, agent_id: str | None = None) -> Run:
        """Say which definition of an agent this is a run of: an id that outlives the run."""
        if not self.ended and agent_id is not None:
            name = text_of(agent_id)
            if name:
                self.agent_id = name
            else:
                self._refused.append("describe.agent_id")
        return self

    def count_inference(self, number: int = 1) -> None:
        """Count an inference call that this run makes itself."""
        with self._lock:
            self.inference_calls += number

    def count_tool(self) -> None:
        """Count a tool that this run uses itself."""
        with self._lock:
            self.tool_calls += 1

    def age(self) -> float:
        """Seconds since the start."""
        return self._clock.monotonic() - self.started

    def _share(self, value: Any) -> float | None:
        share = number_of(value)
        if share is not None and 0 <= share <= 1:
            return share
        self._refused.append("beat.progress")
        return None if share is None or math.isnan(share) else min(max(share, 0.0), 1.0)

    def _named(self, value: Any) -> str | None:
        name = shown(value)
        if name is None:
            self._refused.append("beat.task")
        return name

    def _book(self) -> float:
        now = self._clock.monotonic()
        duration = now - self._entered
        self._entered = now
        assert self._phase is not None
        self.durations[self._phase] = self.durations.get(self._phase, 0.0) + duration
        return duration

    def _move(self, phase: str) -> Iterator[tuple[str, Any]]:
        previous, duration = self._phase, None
        if previous is None:
            self._entered = self._clock.monotonic()
        else:
            duration = self._book()
            yield "left", (previous, duration)
        if len(self._history) == _HISTORY:
            self.dropped += 1
        step = Transition(previous, phase, self._clock.time_ns(), duration)
        self._history.append(step)
        self._phase = phase
        yield "phase", step

    def _change(self, state: RunState, reason: str | None) -> Iterator[tuple[str, Any]]:
        previous, self._state = self._state, state
        self.reason = reason
        yield "state", (previous, reason)

    def _tell(self, changes: list[tuple[str, Any]]) -> None:
        listener = self.listener
        if listener is None:
            return
        for kind, what in changes:
            if kind == "state":
                listener.state_changed(self, *what)
            elif kind == "phase":
                listener.phase_changed(self, what)
            else:
                listener.phase_left(self, *what)


NO_RUN: Final = Run(None, None)
