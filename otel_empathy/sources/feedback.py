"""What is said about finished work, and what else happened: `feedback` and `event`."""

from __future__ import annotations

from typing import Any, Final

from opentelemetry.context import Context, get_current

from otel_empathy.core import semconv
from otel_empathy.core.call import tier_name
from otel_empathy.core.errors import WrongType, WrongValue
from otel_empathy.core.run import Run
from otel_empathy.core.said import text_of
from otel_empathy.emit import events
from otel_empathy.emit.context import current_call, current_run, scope_of
from otel_empathy.emit.instruments import record
from otel_empathy.emit.judged import context_of
from otel_empathy.emit.live import live
from otel_empathy.emit.safety import guarded
from otel_empathy.emit.values import plain_values

__all__ = ["event", "feedback"]

_NAME: Final = "feedback"
_RATINGS: Final = (1, 5)
_COMMENT: Final = 8_192


def feedback(
    *,
    score: float | None = None,
    rating: int | None = None,
    name: str | None = None,
    run: str | Run | None = None,
    workflow: str | None = None,
    stage: str | None = None,
    tier: str | None = None,
    comment: str | None = None,
) -> None:
    """Say how good an answer was: a score of 0 to 1, or a rating of 1 to 5 stars.

        feedback(rating=4, run=run.id, comment="helped, but slowly")

    Args:
        score: How good, 0..1.
        rating: How many stars, 1..5; becomes a score of (rating - 1) / 4.
        name: What was judged, such as `helpfulness`.
        run: The run that is judged, itself or its id; the current one by default. Running runs are
            known by their id, and the 1,000 that finished last.
        workflow: The workflow that is judged; that of the run by default.
        stage: The stage inside it; that of the run by default.
        tier: The tier that is judged; that of the run by default.
        comment: Why; scrubbed, and its beginning alone if it is long.

    Raises:
        WrongType: A value is no number, a name is no text, or the run is neither run nor id.
        WrongValue: A value is out of its range, or not exactly one of the two is given.
    """
    value = _score(score, rating)
    label = None if rating is None else str(rating)
    tier = tier_name(tier)
    name, workflow, stage = (
        _text("name", name), _text("workflow", workflow), _text("stage", stage)
    )  # fmt: skip
    if not isinstance(run, Run):
        run = _text("run", run)
    if live.on:
        _tell(value, label, name, run, workflow, stage, tier, comment)


@guarded("wrap")
def _tell(
    value: float,
    label: str | None,
    name: str | None,
    run: str | Run | None,
    workflow: str | None,
    stage: str | None,
    tier: str | None,
    comment: str | None,
) -> None:
    around = current_run()
    judged = run if isinstance(run, str) else (around if run is None else run).id
    where = get_current()
    if judged != around.id:
        known_here = None if judged is None else context_of(judged)
        own = run.context if isinstance(run, Run) else None
        where = known_here or (own if isinstance(own, Context) else where)
    scope = scope_of(where)
    known: dict[str, Any] = {
        semconv.EVALUATION_NAME: name or _NAME,
        semconv.EVALUATION_SCORE: value,
        semconv.EVALUATION_LABEL: label,
        semconv.EVALUATION_EXPLANATION: None if comment is None else _beginning(comment),
        semconv.RESPONSE_ID: current_call().response_id if judged == around.id else None,
        semconv.FEEDBACK_SOURCE: "user",
        semconv.RUN_ID: judged,
        semconv.WORKFLOW_NAME: workflow or scope.workflow,
        semconv.CALL_STAGE: stage or scope.stage,
        semconv.CALL_TIER: tier or scope.tier,
    }
    events.emit(semconv.EVENT_EVALUATION, events.INFO, known, context=where)
    record(semconv.FEEDBACK_SCORE, value, known, where)


def _beginning(comment: Any) -> str:
    from otel_empathy.core.scrub import beginning  # noqa: PLC0415 - only where somebody comments

    return beginning(str(comment), _COMMENT, live.scrub)


def event(name: str, /, **attributes: Any) -> None:
    """Say that something happened, as an event in the current trace.

        event("plan.ready", places=3)

    Args:
        name: What happened.
        attributes: What is known about it.

    Raises:
        WrongType: The name is no text.
        WrongValue: The name is empty.
    """
    if not isinstance(name, str):
        raise WrongType(f"event name {name!r} is no text: give its name")
    if not name:
        raise WrongValue("event name is empty: give its name")
    if live.on:
        with guarded("serialize"):
            events.emit(name, events.INFO, plain_values(attributes))


def _score(score: Any, rating: Any) -> float:
    if (score is None) == (rating is None):
        raise WrongValue(f"score={score!r}, rating={rating!r}: give exactly one of the two")
    name, value = ("score", score) if rating is None else ("rating", rating)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise WrongType(f"{name}={value!r} must be a number")
    if rating is not None and not isinstance(value, int):
        raise WrongType(f"rating={value!r} must be a whole number of stars: use score for others")
    low, high = (0, 1) if rating is None else _RATINGS
    if not low <= value <= high:  # which NaN is not
        raise WrongValue(f"{name}={value!r} must be between {low} and {high}")
    return float(value) if rating is None else (value - low) / (high - low)


def _text(name: str, value: Any) -> str | None:
    if value is None:
        return None
    text = text_of(value)
    if text is None:
        raise WrongType(f"{name}={value!r} is no text: give its name or id, or leave it out")
    if not text:
        raise WrongValue(f"{name} is empty: give its name or id, or leave it out")
    return text
