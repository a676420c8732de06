from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from captured import Captured
from opentelemetry import baggage
from opentelemetry.context import attach, detach
from opentelemetry.trace import NonRecordingSpan, get_current_span

from otel_empathy.emit import judged
from otel_empathy.emit.context import scope_of, using
from otel_empathy.sources.agent import agent


def test_a_run_is_known_while_it_runs_and_afterwards(captured: Captured) -> None:
    with using(workflow="w"), agent(name="a") as run:
        assert run.id is not None
        during = judged.context_of(run.id)
    after = judged.context_of(run.id)
    assert during is not None
    assert after is not None
    span = captured.span("invoke_agent a")
    for context in (during, after):
        assert get_current_span(context).get_span_context() == span.context
        assert (scope_of(context).agent, scope_of(context).workflow) == ("a", "w")


def test_of_a_finished_run_neither_span_nor_run_is_kept(captured: Captured) -> None:
    with agent(name="a") as run:
        pass
    assert run.id is not None
    kept = judged.context_of(run.id)
    assert kept is not None
    assert isinstance(get_current_span(kept), NonRecordingSpan)
    assert scope_of(kept).run is None
    assert captured.open == 0


def test_what_came_in_from_outside_is_kept(captured: Captured) -> None:
    token = attach(baggage.set_baggage("session.id", "s-1"))
    try:
        with agent(name="a") as run:
            pass
    finally:
        detach(token)
    assert run.id is not None
    kept = judged.context_of(run.id)
    assert baggage.get_all(kept) == {"session.id": "s-1"}
    assert captured.open == 0


def test_the_thousand_runs_that_finished_last_are_known(captured: Captured) -> None:
    def one(_: int) -> str | None:
        with agent(name="a") as run:
            return run.id

    with agent(name="long") as long:
        with ThreadPoolExecutor(4) as pool:
            early = list(pool.map(one, range(100)))
        late = [one(number) for number in range(1_000)]
        known = [judged.context_of(id_) is not None for id_ in late if id_]
        assert known == [True] * 1_000
        assert not any(judged.context_of(id_) for id_ in early if id_)
        assert long.id is not None
        assert judged.context_of(long.id) is not None
    assert judged.context_of("run_nobody") is None
    assert captured.open == 0
