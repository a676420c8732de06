from __future__ import annotations

import asyncio
import functools
import json
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
from captured import Captured, capturing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, StatusCode

from otel_empathy.core.errors import WrongType, WrongValue
from otel_empathy.core.limits import Timeouts
from otel_empathy.core.scrub import Scrubber
from otel_empathy.core.settings import Capture
from otel_empathy.core.states import Phase
from otel_empathy.emit import safety
from otel_empathy.emit.context import carry, current_call, current_run, using
from otel_empathy.emit.live import live
from otel_empathy.emit.runs import open_run
from otel_empathy.emit.tools import open_tool
from otel_empathy.sources.agent import agent, phase, tool, workflow
from otel_empathy.sources.llm import llm_call
from otel_empathy.testing import ManualClock


def of(captured: Captured, name: str) -> dict[str, Any]:
    return dict(captured.span(name).attributes or {})


def told(captured: Captured, name: str) -> list[dict[str, Any]]:
    return [attributes for known, attributes in captured.events if known == name]


def test_a_run_is_one_span_with_its_states_and_phases() -> None:
    clock = ManualClock()
    with capturing(clock=clock) as captured:

        @agent(name="planner", timeouts=Timeouts(run=60, call=5))
        async def plan() -> str:
            run = current_run()
            assert (run.state, run.phase, run.policy) == ("running", "starting", "strict")
            clock.advance(2)
            return str(run.id)

        run_id = asyncio.run(plan())
        span = captured.span("invoke_agent planner")
        assert span.kind is SpanKind.INTERNAL
        assert span.status.status_code is StatusCode.UNSET
        assert dict(span.attributes or {}) == {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.name": "planner",
            "empathy.run.id": run_id,
            "empathy.run.timeout": 60.0,
            "empathy.run.state": "completed",
        }
        about = {"gen_ai.agent.name": "planner", "empathy.run.id": run_id}
        assert captured.events == [
            ("empathy.phase.changed", {**about, "empathy.phase.name": "starting"}),
            (
                "empathy.run.changed",
                {
                    **about,
                    "empathy.run.state": "running",
                    "empathy.run.previous_state": "starting",
                },
            ),
            (
                "empathy.run.changed",
                {
                    **about,
                    "empathy.run.state": "completed",
                    "empathy.run.previous_state": "running",
                },
            ),
            (
                "empathy.phase.changed",
                {
                    **about,
                    "empathy.phase.name": "completed",
                    "empathy.phase.previous_name": "starting",
                    "empathy.phase.previous_duration": 2.0,
                },
            ),
        ]
        assert {record.span_id for record in captured.records} == {span.context.span_id}
        name = {"gen_ai.agent.name": "planner"}
        assert captured.points("gen_ai.invoke_agent.duration") == [(name, 2.0)]
        assert captured.points("gen_ai.invoke_agent.inference_calls") == [(name, 0)]
        assert captured.points("gen_ai.invoke_agent.tool_calls") == [(name, 0)]
        assert captured.points("empathy.run.active") == [(name, 0)]
        assert captured.points("empathy.run.finished") == [
            ({**name, "empathy.run.state": "completed"}, 1)
        ]


@pytest.mark.parametrize(
    ("error", "state", "phases", "status", "severity"),
    [
        (ValueError("x"), "failed", ["starting", "failed"], StatusCode.ERROR, 17),
        (TimeoutError("x"), "timeout", ["starting", "timeout"], StatusCode.ERROR, 17),
        (asyncio.CancelledError(), "cancelled", ["starting"], StatusCode.UNSET, 9),
        (KeyboardInterrupt(), "cancelled", ["starting"], StatusCode.UNSET, 9),
    ],
    ids=["failed", "timeout", "cancelled", "interrupted"],
)
def test_how_a_run_ends(
    captured: Captured,
    error: BaseException,
    state: str,
    phases: list[str],
    status: StatusCode,
    severity: int,
) -> None:
    @agent
    def run() -> None:
        raise error

    with pytest.raises(type(error)):
        run()
    span = captured.span("invoke_agent run")
    assert (span.attributes or {})["empathy.run.state"] == state
    assert span.status.status_code is status
    assert [e["empathy.phase.name"] for e in told(captured, "empathy.phase.changed")] == phases
    last = told(captured, "empathy.run.changed")[-1]
    assert last["empathy.run.state"] == state
    assert captured.records[-1 if state == "cancelled" else -2].severity_number.value == severity
    if status is StatusCode.ERROR:
        assert last["empathy.run.reason"] == type(error).__name__
    ((labels, _),) = captured.points("empathy.run.finished")
    assert labels["empathy.run.state"] == state
    # A cancelled run keeps its last phase, whose time counts all the same.
    ((labels, _),) = captured.points("empathy.phase.duration")
    assert labels["empathy.phase.name"] == "starting"


def test_nested_runs_know_their_parent(captured: Captured) -> None:
    @agent
    def inner() -> tuple[Any, Any]:
        run = current_run()
        return run.id, run.parent_id

    @agent
    def outer() -> tuple[Any, Any, Any]:
        return (current_run().id, *inner())

    mine, other, parent = outer()
    assert parent == mine != other
    assert of(captured, "invoke_agent inner")["empathy.run.parent_id"] == mine
    assert of(captured, "invoke_agent inner")["empathy.run.id"] == other
    assert of(captured, "invoke_agent inner")["gen_ai.agent.name"] == "inner"
    assert "empathy.run.parent_id" not in of(captured, "invoke_agent outer")


def test_everything_inside_a_run_carries_it(captured: Captured) -> None:
    @workflow(name="shop")
    def flow() -> None:
        with using(session="s-1", conversation="c-1"):
            bot()

    @agent
    def bot() -> None:
        with phase("thinking"), llm_call(model="m"):
            search()

    @tool
    def search() -> None:
        captured.tracers.get_tracer("other").start_span("foreign").end()

    flow()
    run_id = of(captured, "invoke_agent bot")["empathy.run.id"]
    for name in ("phase thinking", "chat m", "execute_tool search"):
        found = of(captured, name)
        assert found["empathy.run.id"] == run_id
        assert found["gen_ai.agent.name"] == "bot"
        assert found["gen_ai.workflow.name"] == "shop"
        assert found["session.id"] == "s-1"
        assert found["gen_ai.conversation.id"] == "c-1"
    parents = {span.name: span.parent and span.parent.span_id for span in captured.spans}
    ids = {span.name: span.context.span_id for span in captured.spans}
    assert parents["foreign"] == ids["execute_tool search"]
    assert parents["execute_tool search"] == ids["chat m"]
    assert parents["chat m"] == ids["phase thinking"]
    assert parents["phase thinking"] == ids["invoke_agent bot"]
    assert parents["invoke_agent bot"] == ids["invoke_workflow shop"]
    ((labels, _),) = captured.points("gen_ai.execute_tool.duration")
    assert labels == {
        "gen_ai.tool.name": "search",
        "gen_ai.tool.type": "function",
        "gen_ai.agent.name": "bot",
    }
    ((labels, _),) = captured.points("gen_ai.invoke_workflow.duration")
    assert labels == {"gen_ai.workflow.name": "shop"}


def test_leaving_a_nested_phase_goes_back_and_the_last_one_stays() -> None:
    clock = ManualClock()
    with capturing(clock=clock) as captured:
        seen = []

        @agent
        def run() -> list[Any]:
            here = current_run()
            clock.advance(1)
            with phase(Phase.THINKING):
                clock.advance(2)
                with phase("reranking", documents=12):
                    clock.advance(3)
                    seen.append(here.phase)
                clock.advance(4)
                seen.append(here.phase)
            clock.advance(5)
            seen.append(here.phase)
            with phase("completing"):
                clock.advance(6)
                seen.append((here.phase, here.state))
            return here.history

        history = run()
        assert seen == ["reranking", "thinking", "thinking", ("completing", "completing")]
        assert [(step.previous, step.phase, step.duration) for step in history] == [
            (None, "starting", None),
            ("starting", "thinking", 1.0),
            ("thinking", "reranking", 2.0),
            ("reranking", "thinking", 3.0),
            ("thinking", "completing", 9.0),
        ]
        durations = {
            labels["empathy.phase.name"]: value
            for labels, value in captured.points("empathy.phase.duration")
        }
        assert durations == {"starting": 1, "thinking": 11, "reranking": 3, "completing": 6}
        ((_, total),) = captured.points("gen_ai.invoke_agent.duration")
        assert total == sum(durations.values())
        reranking = captured.span("phase reranking")
        assert reranking.end_time - reranking.start_time == 3_000_000_000
        assert of(captured, "phase reranking")["documents"] == 12
        assert of(captured, "phase reranking")["empathy.phase.previous_name"] == "thinking"
        on_span = [
            (e.attributes or {})["empathy.phase.name"]
            for e in captured.span("invoke_agent run").events
        ]
        assert on_span == [
            "starting",
            "thinking",
            "reranking",
            "thinking",
            "completing",
            "completed",
        ]
        states = [e["empathy.run.state"] for e in told(captured, "empathy.run.changed")]
        assert states == ["running", "completing", "completed"]


def test_the_present_phase_may_be_entered_again(captured: Captured) -> None:
    with agent(name="a") as run:
        with phase("thinking"), phase("thinking"):
            pass
        with phase("thinking"):
            pass
    assert [step.phase for step in run.history].count("thinking") == 4
    assert captured.names.count("phase thinking") == 3


def test_phases_of_parallel_tasks_do_not_pull_the_run_back(captured: Captured) -> None:
    async def use() -> None:
        with agent(name="a") as run, phase("outer"):
            entered, leave = asyncio.Event(), asyncio.Event()

            async def first() -> None:
                with phase("first"):
                    await entered.wait()
                leave.set()

            async def second() -> None:
                with phase("second"):
                    entered.set()
                    await leave.wait()
                    assert run.phase == "second"  # the first one has left, and did not move it

            await asyncio.gather(first(), second())
            assert run.phase == "outer"

    asyncio.run(use())
    assert captured.open == 0


def test_outside_a_run_a_phase_is_a_plain_span(captured: Captured) -> None:
    @phase("thinking")
    def think() -> int:
        return 1

    assert think() == 1
    with pytest.raises(ValueError, match="x"), phase("completed"):
        raise ValueError("x")
    assert captured.names == ["phase thinking", "phase completed"]
    assert captured.events == []
    assert captured.metrics() == {}
    assert captured.spans[1].status.status_code is StatusCode.ERROR
    assert of(captured, "phase completed")["error.type"] == "ValueError"


def test_a_terminal_phase_ends_the_run_and_has_no_span(captured: Captured) -> None:
    @agent
    def run() -> None:
        with phase("failed"):
            pass
        with phase("thinking"):
            assert current_run().phase == "failed"
        assert not current_run().finish(current_run().state or 0)  # type: ignore[arg-type]

    run()
    assert captured.names == ["phase thinking", "invoke_agent run"]
    found = captured.span("invoke_agent run")
    assert of(captured, found.name)["empathy.run.state"] == "failed"
    assert of(captured, found.name)["error.type"] == "_OTHER"
    assert found.status.status_code is StatusCode.ERROR
    ((labels, _),) = captured.points("gen_ai.invoke_agent.duration")
    assert labels["error.type"] == "_OTHER"
    assert len(told(captured, "empathy.run.changed")) == 2


@pytest.mark.parametrize("name", ["", "Thinking", "9lives", "a-b", "x" * 65, "a b", "a\n"])
def test_names_of_phases_are_checked_at_once(name: str) -> None:
    with pytest.raises(WrongValue, match="must match"):
        phase(name)
    with pytest.raises(WrongType):
        phase(3)  # type: ignore[arg-type]


@given(
    plan=st.recursive(
        st.sampled_from(["thinking", "reranking", "tool_execution"]),
        lambda inner: st.lists(inner, max_size=4),
        max_leaves=12,
    )
)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_durations_add_up_and_every_phase_has_one_span(plan: Any) -> None:
    clock = ManualClock()
    entered = 0

    def play(node: Any) -> None:
        nonlocal entered
        clock.advance(0.5)
        for item in node if isinstance(node, list) else [node]:
            if isinstance(item, list):
                play(item)
                continue
            with phase(item):
                entered += 1
                assert current_run().phase == item
                clock.advance(1)
                play([])
                assert current_run().phase == item

    with capturing(clock=clock) as captured:
        with agent(name="a") as run:
            play(plan)
        assert sum(run.durations.values()) == pytest.approx(run.age())
        history = run.history
        assert sum(step.duration or 0 for step in history) == pytest.approx(run.age())
        assert all(a.phase == b.previous for a, b in pairwise(history))
        assert len([name for name in captured.names if name.startswith("phase")]) == entered
        assert captured.open == 0


def test_progress_is_told_kept_and_checked(captured: Captured) -> None:
    nan = float("nan")
    with safety.swallow() as errors:
        with agent(name="a") as run:
            run.beat(progress=0.25, task="reading").beat(task="writing")
            run.beat()
            run.beat(progress=1.5)
            run.beat(progress=nan).beat(progress="half")  # type: ignore[arg-type]
        assert errors["extract", "beat.progress"] == 3
    assert run.progress == 1.0
    assert of(captured, "invoke_agent a")["empathy.run.progress"] == 1.0
    progressed = told(captured, "empathy.run.progressed")
    assert progressed[0]["empathy.run.progress"] == 0.25
    assert progressed[0]["empathy.run.task"] == "reading"
    assert len(progressed) == 3
    run.beat(progress=0.1)
    assert run.progress == 1.0


def test_outside_a_run_nothing_has_an_effect(captured: Captured) -> None:
    run = current_run()
    assert (run.id, run.state, run.phase, run.history, run.ended) == (None, None, None, [], True)
    assert run.beat(progress=0.5) is run
    assert run.progress is None


def test_an_agent_may_deliver_step_by_step(captured: Captured) -> None:
    @agent
    async def answer() -> AsyncIterator[str]:
        with phase("thinking"):
            assert current_run().phase == "thinking"
            yield "a"
            yield "b"

    async def use() -> None:
        async for _ in answer():
            assert current_run().id is None
        stream = answer()
        await stream.__anext__()
        await stream.aclose()

    asyncio.run(use())
    states = [
        (span.attributes or {})["empathy.run.state"]
        for span in captured.spans
        if span.name == "invoke_agent answer"
    ]
    assert states == ["completed", "cancelled"]
    assert captured.names.count("phase thinking") == 2
    assert captured.open == 0


def test_a_run_reaches_threads_that_carry_it(captured: Captured) -> None:
    with agent(name="a") as run:
        seen = []
        for work in (carry(lambda: seen.append(current_run())), lambda: seen.append(current_run())):
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
        assert seen[0] is run
        assert seen[1].id is None


# -- limits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("on", [True, False], ids=["on", "off"])
def test_a_function_over_its_limit_frees_its_caller(captured: Captured, *, on: bool) -> None:
    if not on:
        live.remove()
    free = threading.Event()
    inside = []

    @agent(timeouts=Timeouts(run=0.05))
    def slow() -> str:
        inside.append((threading.current_thread(), current_run().id))
        free.wait(10)
        return "late"

    with pytest.raises(TimeoutError, match=r"slow took longer than its limit of 0\.05 s"):
        slow()
    free.set()
    assert inside[0][0] is not threading.current_thread()
    if on:
        found = of(captured, "invoke_agent slow")
        assert inside[0][1] == found["empathy.run.id"]
        assert found["empathy.run.state"] == "timeout"
        assert found["error.type"] == "TimeoutError"


def test_within_the_limit_results_and_errors_come_through(captured: Captured) -> None:
    limits = Timeouts(run=10)
    error = KeyError("mine")

    @agent(timeouts=limits)
    def run(*, fail: bool) -> str:
        if fail:
            raise error
        return "done"

    @agent(timeouts=limits)
    async def run_async(*, fail: bool) -> str:
        await asyncio.sleep(0)
        if fail:
            raise error
        return "done"

    @agent(timeouts=limits)
    def steps() -> Any:
        got = yield 1
        try:
            yield got
        except ValueError:
            yield "caught"
        return "end"

    @agent(timeouts=limits)
    async def steps_async() -> Any:
        got = yield 1
        try:
            yield got
        except ValueError:
            yield "caught"

    assert run(fail=False) == asyncio.run(run_async(fail=False)) == "done"
    with pytest.raises(KeyError) as caught:
        run(fail=True)
    assert caught.value is error
    with pytest.raises(KeyError) as caught:
        asyncio.run(run_async(fail=True))
    assert caught.value is error
    stream = steps()
    assert [next(stream), stream.send("x"), stream.throw(ValueError())] == [1, "x", "caught"]
    with pytest.raises(StopIteration) as stop:
        next(stream)
    assert stop.value.value == "end"

    async def use() -> list[Any]:
        stream = steps_async()
        found = [await stream.__anext__(), await stream.asend("x")]
        found.append(await stream.athrow(ValueError()))
        await stream.aclose()
        return found

    assert asyncio.run(use()) == [1, "x", "caught"]
    assert captured.open == 0


def test_a_coroutine_over_its_limit_is_cancelled(captured: Captured) -> None:
    cancelled = []

    @agent(timeouts=Timeouts(run=0.02))
    async def slow() -> None:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def use() -> str:
        with pytest.raises(TimeoutError):
            await slow()
        await asyncio.sleep(0)  # the task itself goes on uncancelled
        return "on"

    assert asyncio.run(use()) == "on"
    assert cancelled == [True]
    assert of(captured, "invoke_agent slow")["empathy.run.state"] == "timeout"


def test_a_late_result_is_dropped_though_the_cancellation_was_ignored(captured: Captured) -> None:
    @agent(timeouts=Timeouts(run=0.02))
    async def stubborn() -> str:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            return "late"
        return "never"

    async def use() -> None:
        with pytest.raises(TimeoutError):
            await stubborn()
        await asyncio.sleep(0)

    asyncio.run(use())


def test_a_cancellation_from_outside_stays_one(captured: Captured) -> None:
    @agent(timeouts=Timeouts(run=30))
    async def slow() -> None:
        await asyncio.sleep(30)

    async def use() -> None:
        task = asyncio.ensure_future(slow())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(use())
    assert of(captured, "invoke_agent slow")["empathy.run.state"] == "cancelled"


@pytest.mark.skipif(
    sys.version_info < (3, 11), reason="Python 3.10 cannot tell whose cancellation it is"
)
def test_a_cancellation_from_outside_wins_over_the_limit(captured: Captured) -> None:
    @agent(timeouts=Timeouts(run=0.02))
    async def slow() -> None:
        try:
            await asyncio.sleep(30)
        finally:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()

    async def use() -> None:
        task = asyncio.ensure_future(slow())
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(use())
    assert of(captured, "invoke_agent slow")["empathy.run.state"] == "cancelled"


def test_generators_are_held_to_the_limit_between_steps(captured: Captured) -> None:
    closed = []
    gate = threading.Event()

    @agent(timeouts=Timeouts(run=0.05))
    def steps() -> Iterator[int]:
        try:
            yield 1
            yield 2
        finally:
            closed.append("sync")

    @agent(timeouts=Timeouts(run=0.05))
    async def steps_async() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.sleep(30)
            yield 2
        finally:
            closed.append("async")

    stream = steps()
    assert next(stream) == 1
    gate.wait(0.06)
    with pytest.raises(TimeoutError):
        next(stream)

    async def use() -> None:
        with pytest.raises(TimeoutError):
            async for _ in steps_async():
                pass

    asyncio.run(use())
    assert closed == ["sync", "async"]
    for span in captured.spans:
        assert (span.attributes or {})["empathy.run.state"] == "timeout"


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_limits_must_be_above_nothing(value: float) -> None:
    with pytest.raises(WrongValue, match="above 0 seconds"):
        Timeouts(run=value)


@pytest.mark.parametrize("value", ["5", True])
def test_limits_must_be_numbers(value: Any) -> None:
    with pytest.raises(WrongType):
        Timeouts(call=value)


# -- tools, definitions ---------------------------------------------------------------------------


def test_a_failing_tool(captured: Captured) -> None:
    @tool(name="weather")
    def forecast(city: str) -> str:
        raise TimeoutError("no answer")

    with pytest.raises(TimeoutError), agent(name="a") as run:
        forecast("Lisbon")
    assert run.tool_calls == 1
    found = of(captured, "execute_tool weather")
    assert found["empathy.call.outcome"] == "timeout"
    assert found["error.type"] == "TimeoutError"
    assert not [key for key in found if "arguments" in key or "result" in key]


def test_a_tool_tells_under_which_id_it_was_asked_for(captured: Captured) -> None:
    @tool
    def weather(tool_call_id: str) -> None:
        current_call().request(tool_call_id=tool_call_id)

    weather("call_1")
    with tool(name="maps") as call:
        call.request(tool_call_id="call_2")
    assert of(captured, "execute_tool weather")["gen_ai.tool.call.id"] == "call_1"
    assert of(captured, "execute_tool maps")["gen_ai.tool.call.id"] == "call_2"
    labels = [labels for labels, _ in captured.points("gen_ai.execute_tool.duration")]
    assert all("gen_ai.tool.call.id" not in found for found in labels)


def test_a_tool_takes_nothing_that_is_a_matter_of_calls_to_models(captured: Captured) -> None:
    with tool(name="maps") as call:
        call.usage(input=1).request(temperature=0.5).response(model="m").cost(1)
    assert of(captured, "execute_tool maps") == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "maps",
        "gen_ai.tool.type": "function",
        "empathy.call.outcome": "ok",
    }
    assert call.usage(input=2).tokens.input == 1  # it is over


def test_the_id_of_a_tools_call_belongs_to_no_other_call(captured: Captured) -> None:
    with llm_call(model="m") as call:
        call.request(tool_call_id="call_1", temperature=0.5)
    assert "gen_ai.tool.call.id" not in of(captured, "chat m")
    assert of(captured, "chat m")["gen_ai.request.temperature"] == 0.5
    assert safety.errors["extract", "request.tool_call_id"] == 1


def test_an_id_of_a_tools_call_that_is_none_is_counted(captured: Captured) -> None:
    with tool(name="maps") as call:
        call.request(tool_call_id=7)
    assert "gen_ai.tool.call.id" not in of(captured, "execute_tool maps")
    assert safety.errors["extract", "request.tool_call_id"] == 1


def test_what_opens_a_tool_may_know_its_id_and_kind_at_the_start(captured: Captured) -> None:
    operation = open_tool("search", Context(), call_id="call_3", kind="extension")
    assert operation is not None
    assert operation.span.attributes["gen_ai.tool.call.id"] == "call_3"
    operation.finish()
    assert of(captured, "execute_tool search")["gen_ai.tool.type"] == "extension"
    ((labels, _),) = captured.points("gen_ai.execute_tool.duration")
    assert labels == {"gen_ai.tool.name": "search", "gen_ai.tool.type": "extension"}


def test_a_run_tells_of_which_definition_it_is(captured: Captured) -> None:
    with agent(name="a") as run:
        assert current_run().describe(agent_id="asst_1") is run
    assert run.agent_id == "asst_1"
    assert of(captured, "invoke_agent a")["gen_ai.agent.id"] == "asst_1"
    assert "gen_ai.agent.id" not in captured.points("gen_ai.invoke_agent.duration")[0][0]
    assert run.describe(agent_id="asst_2").agent_id == "asst_1"


def test_what_opens_a_run_may_know_the_definition_at_the_start(captured: Captured) -> None:
    operation = open_run("a", Context(), timeouts=Timeouts(), policy="strict", agent_id="asst_1")
    assert operation is not None
    assert operation.span.attributes["gen_ai.agent.id"] == "asst_1"
    assert operation.run.agent_id == "asst_1"
    operation.finish()


def test_agents_and_tools_are_described_by_their_docstrings(captured: Captured) -> None:
    @tool
    def look_up(city: str) -> str:
        """Say what the weather
        will be.

        Nothing of this.
        """
        return city

    @tool
    def silent() -> None: ...

    @agent
    async def plan() -> None:
        """Plan a journey."""
        look_up("Lisbon")
        silent()
        functools.partial(look_up, "Lisbon")()
        tool(name="object")(Desk())()

    class Desk:
        """No function."""

        def __call__(self) -> None: ...

    asyncio.run(plan())
    assert of(captured, "invoke_agent plan")["gen_ai.agent.description"] == "Plan a journey."
    described = [
        (span.attributes or {}).get("gen_ai.tool.description")
        for span in captured.spans
        if span.name.startswith("execute_tool")
    ]
    assert described == ["Say what the weather will be.", None] * 2


def test_arguments_and_results_of_tools_need_capture() -> None:
    with capturing(capture=Capture.SPAN_ONLY, scrub_value=Scrubber().value) as captured:

        class Desk:
            @tool
            def look_up(self, city: str, *, days: int = 3) -> dict[str, Any]:
                return {"city": city, "password": "hunter2"}

        Desk().look_up("Lisbon", days=2)
        found = of(captured, "execute_tool look_up")
        arguments = json.loads(found["gen_ai.tool.call.arguments"])
        assert arguments == {"city": "Lisbon", "days": 2}
        assert json.loads(found["gen_ai.tool.call.result"]) == {
            "city": "Lisbon",
            "password": "[scrubbed:field]",
        }


@pytest.mark.parametrize("decorate", [agent, tool, workflow])
@pytest.mark.parametrize("name", ["", "a\nb", "x" * 257])
def test_names_are_checked_at_definition(decorate: Callable[..., Any], name: str) -> None:
    with pytest.raises(WrongValue, match="printable characters"):
        decorate(name=name)
    with pytest.raises(WrongType):
        decorate(name=3)


def test_policies_and_limits_are_checked_at_definition() -> None:
    with pytest.raises(WrongValue, match="'strict' or 'warn'"):
        agent(phases="loose")  # type: ignore[call-overload]
    with pytest.raises(WrongType):
        agent(phases=None)  # type: ignore[call-overload]
    with pytest.raises(WrongType, match="Timeouts"):
        agent(timeouts=3)  # type: ignore[call-overload]
    with capturing(), agent(name="a", phases="warn") as run:
        assert run.policy == "warn"
