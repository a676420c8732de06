from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from captured import Captured
from opentelemetry.context import get_current
from opentelemetry.trace import StatusCode

from otel_empathy.emit.context import current_call, current_run
from otel_empathy.sources.agent import agent, tool
from otel_empathy.sources.llm import llm_call


def outcome(captured: Captured) -> tuple[Any, ...]:
    (span,) = captured.spans
    found = span.attributes or {}
    return found["empathy.call.outcome"], span.status.status_code, found.get("error.type")


async def reply() -> dict[str, Any]:
    await asyncio.sleep(0)
    current_call().usage(input=7)
    return {"model": "m-1"}


def test_a_call_that_hands_out_a_task_ends_with_it(captured: Captured) -> None:
    @llm_call(model="m")
    def ask() -> asyncio.Task[dict[str, Any]]:
        return asyncio.create_task(reply())

    async def use() -> None:
        before = get_current()
        task = ask()
        assert isinstance(task, asyncio.Task)
        assert get_current() is before
        assert captured.open == 1
        assert await task == {"model": "m-1"}
        assert captured.open == 0

    asyncio.run(use())
    (span,) = captured.spans
    found = span.attributes or {}
    assert (found["gen_ai.usage.input_tokens"], found["gen_ai.response.model"]) == (7, "m-1")


def test_a_run_goes_on_while_its_task_does(captured: Captured) -> None:
    async def work() -> str:
        await asyncio.sleep(0)
        return str(current_run().state)

    async def use() -> None:
        run = agent(name="a")(lambda: asyncio.ensure_future(work()))
        assert await run() == "running"

    asyncio.run(use())
    assert (captured.span("invoke_agent a").attributes or {})["empathy.run.state"] == "completed"


def test_a_task_that_fails_is_an_error_and_still_complains_when_nobody_looks(
    captured: Captured,
) -> None:
    told: list[str] = []

    async def fail() -> None:
        raise KeyError("x")

    async def use() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, found: told.append(found["message"]))
        tool(name="t")(lambda: loop.create_task(fail()))()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        gc.collect()

    asyncio.run(use())
    assert outcome(captured) == ("error", StatusCode.ERROR, "KeyError")
    assert told == ["Task exception was never retrieved"]


def test_a_task_that_is_cancelled_is_no_failure(captured: Captured) -> None:
    async def use() -> None:
        task = llm_call(lambda: asyncio.create_task(asyncio.sleep(60)))()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(use())
    assert outcome(captured) == ("cancelled", StatusCode.UNSET, None)


def test_a_future_of_a_pool_ends_its_call(captured: Captured) -> None:
    go, done = threading.Event(), threading.Event()

    def work() -> int:
        go.wait(5)
        return 3

    with ThreadPoolExecutor(1) as pool:
        future = tool(name="t")(lambda: pool.submit(work))()
        assert isinstance(future, Future)
        assert captured.open == 1
        future.add_done_callback(lambda _: done.set())  # called after ours
        go.set()
        assert future.result(5) == 3
        assert done.wait(5)
    assert outcome(captured) == ("ok", StatusCode.UNSET, None)


@pytest.mark.parametrize("how", ["result", "error", "cancelled"])
def test_a_future_that_is_done_already_ends_its_call_at_once(captured: Captured, how: str) -> None:
    future: Future[int] = Future()
    if how == "result":
        future.set_result(1)
    elif how == "error":
        future.set_exception(TimeoutError("late"))
    else:
        future.cancel()
    assert llm_call(lambda: future)() is future
    assert outcome(captured)[0] == {"result": "ok", "error": "timeout"}.get(how, how)


def test_a_task_of_a_closed_loop_that_is_done_ends_its_call(captured: Captured) -> None:
    async def make() -> asyncio.Task[int]:
        task = asyncio.ensure_future(asyncio.sleep(0, 5))
        await task
        return task

    task = asyncio.run(make())
    assert llm_call(lambda: task)() is task
    assert outcome(captured) == ("ok", StatusCode.UNSET, None)


def test_a_future_that_is_dropped_undone_is_abandoned(captured: Captured) -> None:
    llm_call(lambda: Future())()  # noqa: PLW0108 - each call makes its own
    gc.collect()
    with llm_call(model="next"):
        pass
    found = captured.spans[0].attributes or {}
    assert found["empathy.call.outcome"] == "abandoned"
    assert captured.open == 0


def test_what_only_resembles_a_future_is_a_result_like_any_other(captured: Captured) -> None:
    class Resembling:
        def add_done_callback(self, fn: Any) -> None:
            raise AssertionError

    made = Resembling()
    assert llm_call(lambda: made)() is made
    assert outcome(captured) == ("ok", StatusCode.UNSET, None)


def test_a_function_with_a_plain_result_imports_no_asyncio() -> None:
    code = (
        "import sys\n"
        "from otel_empathy.emit.live import live\n"
        "live.install()\n"
        "from otel_empathy import llm_call\n"
        "class Odd:\n"
        "    def add_done_callback(self): ...\n"
        "llm_call(lambda: Odd())()\n"
        "print(sys.modules.keys() & {'asyncio', 'concurrent.futures'})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "set()\n"
