"""The life of a run, of its phases, and of the workflow around it.

A run is one span with the events of its states and phases; a phase is a span below it for as long
as its block lasts. What follows what is decided by `core.run.Run`, this is its listener.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from opentelemetry.context import Context, get_current
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

from otel_empathy.core import semconv
from otel_empathy.core.ids import run_id
from otel_empathy.core.limits import Timeouts
from otel_empathy.core.outcomes import OTHER, Outcome
from otel_empathy.core.run import Policy, Run, Transition
from otel_empathy.core.states import Phase, RunState
from otel_empathy.emit import events, judged
from otel_empathy.emit.context import CALL_KEY, SPAN_KEY, entered, inherited, scope_of, suppressed
from otel_empathy.emit.duplicates import CLEARED
from otel_empathy.emit.instruments import record
from otel_empathy.emit.live import live
from otel_empathy.emit.safety import count, guarded
from otel_empathy.emit.spans import Operation, kind_of, record_error, told_of
from otel_empathy.emit.values import span_values

__all__ = [
    "PhaseMark",
    "PhaseSpan",
    "RunSpan",
    "WorkflowSpan",
    "open_phase",
    "open_run",
    "open_workflow",
]

_STATE_OF: Final = {
    Outcome.OK: RunState.COMPLETED,
    Outcome.ERROR: RunState.FAILED,
    Outcome.TIMEOUT: RunState.TIMEOUT,
    Outcome.CANCELLED: RunState.CANCELLED,
    Outcome.ABANDONED: RunState.CANCELLED,
}
_BAD: Final = frozenset({RunState.FAILED, RunState.TIMEOUT, RunState.DEAD})
_TERMINAL: Final = frozenset(phase.value for phase in Phase if phase.is_terminal)
# A run or a workflow is no part of the call around it, even if a tool of that call starts it.
_OUTSIDE: Final[Mapping[str, None]] = {**CLEARED, CALL_KEY: None}


def open_run(
    name: str | None,
    parent: Context,
    *,
    timeouts: Timeouts,
    policy: Policy,
    description: str | None = None,
    agent_id: str | None = None,
) -> RunSpan | None:
    """Begin a run; None where somebody asked for silence."""
    if suppressed(parent):
        return None
    return RunSpan(
        name,
        parent,
        timeouts=timeouts,
        policy=policy,
        description=description,
        agent_id=agent_id,
    )


def open_workflow(name: str, parent: Context) -> WorkflowSpan | None:
    """Begin a workflow; None where somebody asked for silence."""
    return None if suppressed(parent) else WorkflowSpan(name, parent)


def open_phase(name: str, parent: Context, attributes: Mapping[str, Any]) -> PhaseSpan | None:
    """Enter a phase; None where somebody asked for silence."""
    return None if suppressed(parent) else PhaseSpan(name, parent, attributes)


class RunSpan(Operation):
    """One run of an agent under way."""

    __slots__ = ("_labels", "run")

    def __init__(
        self,
        name: str | None,
        parent: Context,
        *,
        timeouts: Timeouts,
        policy: Policy,
        description: str | None,
        agent_id: str | None,
    ) -> None:
        super().__init__()
        scope = scope_of(parent)
        around = inherited(parent)
        run = self.run = Run(
            run_id(clock=live.clock),
            name,
            agent_id=agent_id,
            parent_id=around.get(semconv.RUN_ID),
            policy=policy,
            timeouts=timeouts,
            clock=live.clock,
            listener=self,
        )
        inside = scope.with_(run=run, agent=name or scope.agent, phase=None)
        known = {semconv.OPERATION: "invoke_agent", **around, **inside.attributes}
        if run.parent_id is not None:
            known[semconv.RUN_PARENT_ID] = run.parent_id
        if timeouts.run is not None:
            known[semconv.RUN_TIMEOUT] = timeouts.run
        if description is not None:
            known[semconv.AGENT_DESCRIPTION] = description
        if agent_id is not None:
            known[semconv.AGENT_ID] = agent_id
        title = "invoke_agent" if name is None else f"invoke_agent {name}"
        span = self.open(title, SpanKind.INTERNAL, known, parent)
        self.context = entered(parent, inside, **_OUTSIDE, **{SPAN_KEY: span})
        run.context = set_span_in_context(span, Context())
        judged.opened(run.id, self.context)
        self._labels: dict[str, Any] = {semconv.AGENT_NAME: name}
        record(semconv.RUN_ACTIVE, 1, self._labels, self.context)
        run.start()

    def close(self, outcome: Outcome, error: BaseException | None, elapsed: float) -> None:
        """Bring the run to its end, if it is not there yet, and measure it."""
        run, span, context = self.run, self.span, self.context
        assert span is not None
        failure = error if outcome.is_failure else None
        kind = None if failure is None else kind_of(failure)
        labels = self._labels
        try:
            run.finish(_STATE_OF[outcome], kind)
            run.listener = None  # breaks the only circle that leads back to this object
            for what in run.refused:
                count("extract", what)
            state = run.state
            known: dict[str, Any] = {} if state is None else {semconv.RUN_STATE: state.value}
            if run.agent_id is not None:
                known[semconv.AGENT_ID] = run.agent_id
            if run.progress is not None:
                known[semconv.RUN_PROGRESS] = run.progress
            if run.violations:
                known[semconv.RUN_VIOLATIONS] = run.violations
            if kind is None and state in _BAD:  # by the phase that it entered itself
                kind = OTHER
                span.set_status(Status(StatusCode.ERROR))
            if kind is not None:
                known[semconv.ERROR_TYPE] = kind
            span.set_attributes(known)
            labels = {**labels, **known}
            record(semconv.AGENT_DURATION, elapsed, labels, context)
            record(semconv.AGENT_INFERENCE_CALLS, run.inference_calls, labels, context)
            record(semconv.AGENT_TOOL_CALLS, run.tool_calls, labels, context)
            record(semconv.RUN_ACTIVE, -1, labels, context)
            record(semconv.RUN_FINISHED, 1, labels, context)
            if failure is not None:
                record_error(span, failure, told_of(failure), self.time_at(elapsed))
        finally:
            judged.closed(run.id)
            self.stop(elapsed)

    @guarded("wrap")
    def state_changed(self, run: Run, previous: RunState, reason: str | None) -> None:
        """Tell that the run is in a new state."""
        state = run.state
        assert state is not None
        known = {
            semconv.RUN_STATE: state.value,
            semconv.RUN_PREVIOUS_STATE: previous.value,
            semconv.RUN_REASON: reason,
        }
        severity = events.ERROR if state in _BAD else events.INFO
        events.emit(semconv.EVENT_RUN_CHANGED, severity, known, context=self.context)

    @guarded("wrap")
    def phase_changed(self, run: Run, transition: Transition) -> None:  # noqa: ARG002
        """Tell that the run is in a new phase, on the stream of events and on the span."""
        known: dict[str, Any] = {semconv.PHASE_NAME: transition.phase}
        if transition.previous is not None:
            known[semconv.PHASE_PREVIOUS_NAME] = transition.previous
        span = self.span
        if span is not None and span.is_recording():
            span.add_event(semconv.EVENT_PHASE_CHANGED, known, transition.time)
        known = {**known, semconv.PHASE_PREVIOUS_DURATION: transition.duration}
        events.emit(semconv.EVENT_PHASE_CHANGED, events.INFO, known, context=self.context)

    @guarded("wrap")
    def phase_left(self, run: Run, phase: str, duration: float) -> None:
        """Measure the phase that was left, in the context of its own span where that is open."""
        here = get_current()
        labels = {**self._labels, semconv.PHASE_NAME: phase}
        context = here if scope_of(here).run is run else self.context
        record(semconv.PHASE_DURATION, duration, labels, context)

    @guarded("wrap")
    def progressed(self, run: Run) -> None:
        """Tell how far the run is."""
        known = {semconv.RUN_PROGRESS: run.progress, semconv.RUN_TASK: run.task}
        events.emit(semconv.EVENT_RUN_PROGRESSED, events.DEBUG, known, context=self.context)


class PhaseMark:
    """That a block of a phase is open, for the blocks inside it."""

    __slots__ = ("name", "open", "visit")

    def __init__(self, name: str, visit: Transition | None) -> None:
        self.name = name
        self.visit = visit
        self.open = True


class PhaseSpan(Operation):
    """One block of a phase; outside a run it is a plain span."""

    __slots__ = ("_mark", "_outer", "_run")

    def __init__(self, name: str, parent: Context, attributes: Mapping[str, Any]) -> None:
        super().__init__()
        scope = scope_of(parent)
        run = scope.run
        self._run = run
        self._outer = scope.phase
        known = {**span_values(attributes), **inherited(parent), semconv.PHASE_NAME: name}
        if run is not None and run.phase is not None:
            known[semconv.PHASE_PREVIOUS_NAME] = run.phase
        visit = None if run is None else run.enter(name)
        self._mark = PhaseMark(name, visit)
        values: dict[str, Any] = {}
        if name not in _TERMINAL or run is None:
            values[SPAN_KEY] = self.open(f"phase {name}", SpanKind.INTERNAL, known, parent)
        self.context = entered(parent, scope.with_(phase=self._mark), **values)

    def close(self, outcome: Outcome, error: BaseException | None, elapsed: float) -> None:
        """Go back to the phase around this block, if there is one and nobody else has moved on."""
        run, mark, outer, span = self._run, self._mark, self._outer, self.span
        mark.open = False
        try:
            if (
                run is not None
                and outer is not None
                and outer.open
                and mark.visit is not None
                and run.visit is mark.visit
            ):
                outer.visit = run.enter(outer.name)
            if span is not None and error is not None and outcome.is_failure:
                kind = record_error(span, error, told_of(error), self.time_at(elapsed))
                span.set_attribute(semconv.ERROR_TYPE, kind)
        finally:
            self.stop(elapsed)


class WorkflowSpan(Operation):
    """One run of a workflow under way."""

    __slots__ = ("_labels",)

    def __init__(self, name: str, parent: Context) -> None:
        super().__init__()
        inside = scope_of(parent).with_(workflow=name)
        known = {
            semconv.OPERATION: "invoke_workflow",
            **inherited(parent),
            semconv.WORKFLOW_NAME: name,
        }
        span = self.open(f"invoke_workflow {name}", SpanKind.INTERNAL, known, parent)
        self.context = entered(parent, inside, **_OUTSIDE, **{SPAN_KEY: span})
        self._labels: dict[str, Any] = {semconv.WORKFLOW_NAME: name}

    def close(self, outcome: Outcome, error: BaseException | None, elapsed: float) -> None:
        """Measure it."""
        span = self.span
        assert span is not None
        labels = self._labels
        try:
            if error is not None and outcome.is_failure:
                kind = record_error(span, error, told_of(error), self.time_at(elapsed))
                span.set_attribute(semconv.ERROR_TYPE, kind)
                labels = {**labels, semconv.ERROR_TYPE: kind}
            record(semconv.WORKFLOW_DURATION, elapsed, labels, self.context)
        finally:
            self.stop(elapsed)
