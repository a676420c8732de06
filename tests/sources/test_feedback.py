from __future__ import annotations

import contextvars
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import pytest
from captured import Captured, capturing

from otel_empathy.core.errors import WrongType, WrongValue
from otel_empathy.emit.context import using
from otel_empathy.sources.agent import agent, phase
from otel_empathy.sources.feedback import event, feedback
from otel_empathy.sources.llm import llm_call

RESULT = "gen_ai.evaluation.result"


def test_a_score_is_an_event_and_a_measurement(captured: Captured) -> None:
    with using(workflow="shop", tier="cheap", stage="draft"), agent(name="a") as run:
        feedback(score=0.9, name="helpfulness", comment="good")
    assert captured.event(RESULT) == {
        "gen_ai.agent.name": "a",
        "empathy.run.id": run.id,
        "gen_ai.workflow.name": "shop",
        "gen_ai.evaluation.name": "helpfulness",
        "gen_ai.evaluation.score.value": 0.9,
        "gen_ai.evaluation.explanation": "good",
        "empathy.feedback.source": "user",
        "empathy.call.stage": "draft",
        "empathy.call.tier": "cheap",
    }
    (record,) = [r for r in captured.records if r.event_name == RESULT]
    assert record.severity_number.value == 9
    assert record.span_id == captured.span("invoke_agent a").context.span_id
    assert captured.points("empathy.feedback.score") == [
        (
            {
                "gen_ai.evaluation.name": "helpfulness",
                "gen_ai.workflow.name": "shop",
                "empathy.call.tier": "cheap",
                "empathy.feedback.source": "user",
            },
            0.9,
        )
    ]


@pytest.mark.parametrize(("rating", "score"), [(1, 0.0), (2, 0.25), (3, 0.5), (4, 0.75), (5, 1.0)])
def test_stars_become_scores(captured: Captured, rating: int, score: float) -> None:
    feedback(rating=rating)
    found = captured.event(RESULT)
    assert found["gen_ai.evaluation.score.value"] == score
    assert found["gen_ai.evaluation.score.label"] == str(rating)


def test_a_run_that_is_over_can_be_judged_by_itself_or_by_its_id(captured: Captured) -> None:
    with agent(name="a") as run:
        pass
    feedback(score=1, run=run)
    feedback(score=0, run="run_X", workflow="w", tier="premium", stage="s")
    first, second = [found for name, found in captured.events if name == RESULT]
    assert first["empathy.run.id"] == run.id
    records = [r for r in captured.records if r.event_name == RESULT]
    assert records[0].span_id == captured.span("invoke_agent a").context.span_id
    assert second["empathy.run.id"] == "run_X"
    assert second["gen_ai.workflow.name"] == "w"
    assert second["empathy.call.tier"] == "premium"


@pytest.mark.parametrize("by_id", [True, False])
@pytest.mark.parametrize("running", [True, False])
def test_feedback_stands_with_the_run_it_judges(*, by_id: bool, running: bool) -> None:
    with capturing(hash_user=lambda user: f"hash of {user}") as captured:
        _judge_a_run(captured, by_id=by_id, running=running)


def _judge_a_run(captured: Captured, *, by_id: bool, running: bool) -> None:
    with (
        using(workflow="shop", user="ada", session="s-1", tier="cheap", stage="draft"),
        agent(name="a") as run,
        llm_call() as call,
    ):
        call.response(id="not judged")
        if running:
            elsewhere = contextvars.Context()
            elsewhere.run(feedback, rating=2, run=run.id if by_id else run)
    if not running:
        feedback(rating=2, run=run.id if by_id else run)
    span = captured.span("invoke_agent a")
    assert span.context is not None
    (record,) = [r for r in captured.records if r.event_name == RESULT]
    assert (record.trace_id, record.span_id) == (span.context.trace_id, span.context.span_id)
    found = captured.event(RESULT)
    own = dict(span.attributes or {})
    for name in ("empathy.run.id", "gen_ai.agent.name", "gen_ai.workflow.name", "session.id"):
        assert found[name] == own[name]
    assert found["user.hash"] == "hash of ada"
    assert (found["empathy.call.tier"], found["empathy.call.stage"]) == ("cheap", "draft")
    assert "gen_ai.response.id" not in found
    ((labels, _),) = captured.points("empathy.feedback.score")
    assert labels["gen_ai.workflow.name"] == "shop"


def test_feedback_on_another_run_says_nothing_of_the_one_around(captured: Captured) -> None:
    with using(workflow="first"), agent(name="judged") as run:
        pass
    with using(workflow="second", session="s-2"), agent(name="judge"), llm_call() as call:
        call.response(id="r-1")
        feedback(score=1, run=run.id)
    found = captured.event(RESULT)
    assert found["gen_ai.agent.name"] == "judged"
    assert found["gen_ai.workflow.name"] == "first"
    assert found["empathy.run.id"] == run.id
    assert "session.id" not in found
    assert "gen_ai.response.id" not in found


def test_inside_a_call_its_reply_is_judged(captured: Captured) -> None:
    with llm_call() as call:
        call.response(id="r-1")
        feedback(score=0.5)
    assert captured.event(RESULT)["gen_ai.response.id"] == "r-1"


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"score": 1, "rating": 5},
        {"score": 1.01},
        {"score": -0.1},
        {"score": float("nan")},
        {"rating": 0},
        {"rating": 6},
        {"score": 0.5, "tier": "huge"},
        {"score": 0.5, "run": ""},
        {"score": 0.5, "workflow": ""},
    ],
)
@pytest.mark.parametrize("on", [True, False], ids=["on", "off"])
def test_what_is_out_of_range_raises_and_stores_nothing(given: dict[str, Any], *, on: bool) -> None:
    if not on:
        with pytest.raises(WrongValue):
            feedback(**given)
        return
    with capturing() as captured:
        with pytest.raises(WrongValue):
            feedback(**given)
        assert captured.events == []
        assert captured.metrics() == {}


@pytest.mark.parametrize(
    "given",
    [
        {"score": "1"},
        {"rating": True},
        {"rating": 4.5},
        {"rating": 4.0},
        {"score": 1, "tier": 3},
        {"score": 1, "run": 5},
        {"score": 1, "workflow": 5},
        {"score": 1, "name": 5},
        {"score": 1, "stage": 5},
    ],
)
def test_what_has_another_type_raises(given: dict[str, Any]) -> None:
    with pytest.raises(WrongType):
        feedback(**given)


def test_comments_are_scrubbed() -> None:
    with capturing(scrub=lambda text: text.replace("sk-1", "***")) as captured:
        feedback(score=1, comment="my key is sk-1")
        found = captured.event(RESULT)
        assert found["gen_ai.evaluation.explanation"] == "my key is ***"


def test_of_a_long_comment_only_the_beginning_is_looked_at() -> None:
    looked: list[int] = []

    def scrub(text: str) -> str:
        looked.append(len(text))
        return text

    with capturing(scrub=scrub) as captured:
        feedback(score=1, comment="word " * 400_000)
        assert captured.event(RESULT)["gen_ai.evaluation.explanation"] == ("word " * 2_000)[:8_192]
        assert max(looked) < 20_000


def test_events_are_bound_to_where_they_happen(captured: Captured) -> None:
    with agent(name="a") as run:
        event("plan.ready", places=3, nothing=None)
    assert captured.event("plan.ready") == {
        "gen_ai.agent.name": "a",
        "empathy.run.id": run.id,
        "places": 3,
    }
    (record,) = [r for r in captured.records if r.event_name == "plan.ready"]
    assert record.span_id == captured.span("invoke_agent a").context.span_id


def test_values_of_any_kind_are_kept_as_data(captured: Captured) -> None:
    when = datetime(2026, 1, 2, tzinfo=timezone.utc)
    event("e", when=when, ids=[1, 2], nested={"a": Decimal("0.1")}, thing=object(), no=None)
    found = captured.event("e")
    assert found["when"].startswith("2026-01-02T00:00:00")
    assert list(found["ids"]) == [1, 2]
    assert dict(found["nested"]) == {"a": "0.1"}
    assert found["thing"] == "<object>"
    assert "no" not in found
    with phase("thinking", when=when, ids=[1, 2], nested={"a": 1}, mixed=[1, "x"], empty=[]):
        pass
    attributes = dict(captured.span("phase thinking").attributes or {})
    assert attributes["ids"] == (1, 2)
    assert attributes["nested"] == '{"a":1}'
    assert attributes["mixed"] == '[1,"x"]'
    assert attributes["empty"] == "[]"


def test_names_of_events_are_checked() -> None:
    event("unconfigured")
    with pytest.raises(WrongValue):
        event("")
    with pytest.raises(WrongType):
        event(3)  # type: ignore[arg-type]


def test_a_score_beyond_all_measure_is_out_of_range(captured: Captured) -> None:
    with pytest.raises(WrongValue, match="between 0 and 1"):
        feedback(score=10**400)
    assert captured.events == []
