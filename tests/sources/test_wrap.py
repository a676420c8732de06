from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import inspect
import threading
import traceback
import types
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from captured import Captured
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.context import Context, attach, detach, get_current, set_value
from opentelemetry.trace import StatusCode, get_current_span

from otel_empathy.core.errors import WrongType, WrongValue
from otel_empathy.emit import safety, spans
from otel_empathy.emit.context import current_call, current_run
from otel_empathy.emit.live import live
from otel_empathy.sources.agent import agent, phase, tool, workflow
from otel_empathy.sources.llm import llm_call
from otel_empathy.sources.wrap import wrap

DECORATORS = [llm_call, agent, tool, workflow, phase("thinking")]
NAMES = ["llm_call", "agent", "tool", "workflow", "phase"]


def function(x: int, *, fail: BaseException | None = None) -> int:
    """Twice."""
    if fail is not None:
        raise fail
    return 2 * x


async def coroutine(x: int, *, fail: BaseException | None = None) -> int:
    """Twice."""
    await asyncio.sleep(0)
    if fail is not None:
        raise fail
    return 2 * x


def generator(x: int, *, fail: BaseException | None = None) -> Iterator[int]:
    """Twice."""
    yield x
    if fail is not None:
        raise fail
    yield x


async def async_generator(x: int, *, fail: BaseException | None = None) -> AsyncIterator[int]:
    """Twice."""
    yield x
    await asyncio.sleep(0)
    if fail is not None:
        raise fail
    yield x


SHAPES = [function, coroutine, generator, async_generator]


def run(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function of any shape and take all that it delivers."""
    made = fn(*args, **kwargs)
    if inspect.isasyncgen(made):

        async def collect() -> list[Any]:
            return [item async for item in made]

        return asyncio.run(collect())
    if inspect.iscoroutine(made):
        return asyncio.run(made)
    if inspect.isgenerator(made):
        return list(made)
    return made


def outcome(captured: Captured) -> tuple[Any, StatusCode, Any]:
    (span,) = captured.spans
    attributes = span.attributes or {}
    return (
        attributes.get("empathy.call.outcome"),
        span.status.status_code,
        attributes.get("error.type"),
    )


@pytest.mark.parametrize("decorate", DECORATORS, ids=NAMES)
@pytest.mark.parametrize("fn", SHAPES)
def test_kind_signature_and_result_stay_as_they_are(
    captured: Captured, fn: Callable[..., Any], decorate: Any
) -> None:
    wrapped = decorate(fn)
    for kind in (
        inspect.isfunction,
        inspect.iscoroutinefunction,
        inspect.isgeneratorfunction,
        inspect.isasyncgenfunction,
    ):
        assert kind(wrapped) == kind(fn)
    assert inspect.signature(wrapped) == inspect.signature(fn)
    assert wrapped.__wrapped__ is fn
    assert (wrapped.__name__, wrapped.__doc__) == (fn.__name__, fn.__doc__)
    assert run(wrapped, 3) == run(fn, 3)
    assert len(captured.spans) == 1
    assert captured.open == 0


@pytest.mark.parametrize("decorate", DECORATORS, ids=NAMES)
@pytest.mark.parametrize("fn", SHAPES)
def test_an_exception_is_the_very_same_object_and_the_span_tells(
    captured: Captured, fn: Callable[..., Any], decorate: Any
) -> None:
    error = KeyError("nothing")
    with pytest.raises(KeyError) as caught:
        run(decorate(fn), 3, fail=error)
    assert caught.value is error
    (span,) = captured.spans
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["error.type"] == "KeyError"
    (recorded,) = [event for event in span.events if event.name == "exception"]
    assert dict(recorded.attributes or {}) == {
        "exception.type": "KeyError",
        "exception.message": "'nothing'",
    }


def test_the_traceback_gains_one_frame_for_a_function(captured: Captured) -> None:
    with pytest.raises(KeyError) as plain:
        function(1, fail=KeyError())
    with pytest.raises(KeyError) as wrapped:
        llm_call(function)(1, fail=KeyError())
    frames = len(traceback.extract_tb(wrapped.value.__traceback__))
    assert frames - len(traceback.extract_tb(plain.value.__traceback__)) == 1


@pytest.mark.parametrize("fn", SHAPES)
@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (TimeoutError("late"), ("timeout", StatusCode.ERROR, "TimeoutError")),
        (ValueError("bad"), ("error", StatusCode.ERROR, "ValueError")),
        (asyncio.CancelledError(), ("cancelled", StatusCode.UNSET, None)),
        (KeyboardInterrupt(), ("cancelled", StatusCode.UNSET, None)),
    ],
    ids=["timeout", "error", "cancelled", "interrupted"],
)
def test_outcomes_of_a_call(
    captured: Captured,
    fn: Callable[..., Any],
    error: BaseException,
    expected: tuple[str, StatusCode, str | None],
) -> None:
    with pytest.raises(type(error)):
        run(llm_call(fn), 1, fail=error)
    assert outcome(captured) == expected
    (span,) = captured.spans
    assert (span.attributes or {})["gen_ai.response.finish_reasons"] == ("error",)


@pytest.mark.parametrize("shape", ["generator", "returned"])
@pytest.mark.parametrize("how", ["closed", "dropped", "collected", "thrown into"])
def test_a_stream_left_early_ends_its_span(captured: Captured, shape: str, how: str) -> None:
    @llm_call
    def returned(x: int) -> Iterator[int]:
        return generator(x)

    stream: Any = llm_call(generator)(1) if shape == "generator" else returned(1)
    assert next(stream) == 1
    assert captured.open == 1
    if how == "closed":
        stream.close()
    elif how == "dropped":
        del stream
    elif how == "collected":
        circle: list[Any] = [stream]
        circle.append(circle)
        del stream, circle
        gc.collect()
        assert captured.open == 1  # never while the collector runs
        assert spans.reap() == 1
    else:
        with pytest.raises(ValueError, match="mine"):
            stream.throw(ValueError("mine"))
    assert captured.open == 0
    if how == "thrown into":
        assert outcome(captured) == ("error", StatusCode.ERROR, "ValueError")
    else:
        assert outcome(captured) == ("abandoned", StatusCode.UNSET, None)
        assert captured.points("empathy.call.abandoned") == [({}, 1)]


@pytest.mark.parametrize("shape", ["generator", "returned"])
@pytest.mark.parametrize("how", ["closed", "dropped", "thrown into", "cancelled"])
def test_an_async_stream_left_early_ends_its_span(captured: Captured, shape: str, how: str) -> None:
    @llm_call
    async def returned(x: int) -> AsyncIterator[int]:
        return async_generator(x)

    async def leave() -> None:
        stream: Any = llm_call(async_generator)(1) if shape == "generator" else await returned(1)
        assert await stream.__anext__() == 1
        if how == "closed":
            await stream.aclose()
        elif how == "dropped":
            del stream
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        elif how == "thrown into":
            with pytest.raises(ValueError, match="mine"):
                await stream.athrow(ValueError("mine"))
        else:
            step = asyncio.ensure_future(stream.__anext__())
            await asyncio.sleep(0)
            step.cancel()
            with pytest.raises(asyncio.CancelledError):
                await step

    asyncio.run(leave())
    assert captured.open == 0
    expected = {
        "thrown into": ("error", StatusCode.ERROR, "ValueError"),
        "cancelled": ("cancelled", StatusCode.UNSET, None),
    }
    assert outcome(captured) == expected.get(how, ("abandoned", StatusCode.UNSET, None))


def test_an_async_stream_outliving_its_loop_ends_its_span(captured: Captured) -> None:
    kept: list[Any] = []

    async def begin() -> None:
        stream = llm_call(async_generator)(1)
        await stream.__anext__()
        kept.append(stream)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(begin())
    loop.close()
    kept.clear()
    assert captured.open == 0
    assert outcome(captured)[0] == "abandoned"


@pytest.mark.parametrize("how", ["refcount", "collector"])
def test_ten_thousand_abandoned_streams_leave_no_open_span(captured: Captured, how: str) -> None:
    wrapped = llm_call(generator)
    for _ in range(10_000):
        stream = wrapped(1)
        next(stream)
        if how == "collector":
            circle: list[Any] = [stream]
            circle.append(circle)
            del circle
        del stream
    gc.collect()
    spans.reap()
    assert captured.open == 0
    assert len(captured.spans) == 10_000


def test_the_collector_changes_no_context_when_it_closes_a_stream(captured: Captured) -> None:
    # It may run in the middle of a change of the context, and Python crashes when the context
    # changes under that.
    seen = []

    @llm_call
    def ask() -> Iterator[int]:
        try:
            yield 1
        finally:
            seen.append(get_current())

    with phase("thinking"):
        here = get_current()
        for collected in (False, True):
            stream = ask()
            next(stream)
            if collected:
                circle: list[Any] = [stream]
                circle.append(circle)
                del circle
            del stream
            gc.collect()
            assert get_current() is here
    spans.reap()
    assert seen[0] is not here
    assert seen[1] is here
    assert captured.open == 0


def test_a_collected_stream_is_not_kept_alive(captured: Captured) -> None:
    class Chunks:
        def __iter__(self) -> Chunks:
            return self

        def __next__(self) -> int:
            return 1

    import weakref

    @llm_call
    def ask() -> Chunks:
        return Chunks()

    stream: Any = ask()
    next(stream)
    inner = weakref.ref(stream._oe_stream)
    circle: list[Any] = [stream]
    circle.append(circle)
    del stream, circle
    gc.collect()
    assert inner() is None
    spans.reap()


def test_a_stream_alive_at_the_end_of_the_interpreter_is_quiet() -> None:
    import subprocess
    import sys

    code = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "from captured import Captured\n"
        "from otel_empathy.sources.llm import llm_call\n"
        "Captured().install()\n"
        "def numbers():\n"
        "    yield 1\n"
        "    yield 2\n"
        "a = llm_call(numbers)(); next(a)\n"
        "b = llm_call(lambda: numbers())(); next(b)\n"
        "c = [b]; c.append(c)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=15, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_context_never_leaks_into_the_reader(captured: Captured) -> None:
    seen = []

    @llm_call
    def stream() -> Iterator[int]:
        for i in range(3):
            seen.append(get_current_span())
            yield i

    before = get_current()
    for _ in stream():
        assert get_current() is before
        assert current_call().closed
    assert get_current() is before
    assert len({span.get_span_context().span_id for span in seen}) == 1
    assert seen[0].get_span_context().is_valid


def test_what_a_generator_attaches_stays_inside_it(captured: Captured) -> None:
    inside = []

    @llm_call
    def stream() -> Iterator[int]:
        token = attach(set_value("mine", "yes"))
        for i in range(3):
            inside.append(get_current().get("mine"))
            yield i
        detach(token)

    for _ in stream():
        assert get_current().get("mine") is None
    assert inside == ["yes", "yes", "yes"]


def test_two_interleaved_streams_keep_their_own_context(captured: Captured) -> None:
    @llm_call
    def stream() -> Iterator[int]:
        mine = current_call()
        for i in range(3):
            assert current_call() is mine
            yield i

    assert list(zip(stream(), stream(), strict=True)) == [(0, 0), (1, 1), (2, 2)]
    assert len(captured.spans) == 2


def test_send_throw_and_return_reach_the_generator(captured: Captured) -> None:
    @llm_call
    def echo() -> Any:
        got = []
        try:
            while True:
                got.append((yield len(got)))
        except ValueError:
            yield "caught"
        return got

    stream = echo()
    assert next(stream) == 0
    assert stream.send("a") == 1
    assert stream.throw(ValueError()) == "caught"
    with pytest.raises(StopIteration) as stop:
        next(stream)
    assert stop.value.value == ["a"]
    assert outcome(captured)[0] == "ok"


@pytest.mark.parametrize("on", [True, False], ids=["on", "off"])
def test_asend_and_athrow_reach_the_async_generator(captured: Captured, *, on: bool) -> None:
    if not on:
        live.remove()

    @llm_call
    async def echo() -> Any:
        try:
            got = yield 0
            yield got
        except ValueError:
            yield "caught"

    async def use() -> list[Any]:
        stream = echo()
        found = [await stream.__anext__(), await stream.asend("a")]
        found.append(await stream.athrow(ValueError()))
        await stream.aclose()
        return found

    assert asyncio.run(use()) == [0, "a", "caught"]
    assert len(captured.spans) == (1 if on else 0)


class Bot:
    def __init__(self) -> None:
        self.name = "bot"

    @llm_call
    def method(self, x: int) -> tuple[str, int]:
        return self.name, x

    @classmethod
    @llm_call
    def inner_class(cls, x: int) -> tuple[str, int]:
        return cls.__name__, x

    @llm_call
    @classmethod
    def outer_class(cls, x: int) -> tuple[str, int]:
        return cls.__name__, x

    @staticmethod
    @llm_call
    def inner_static(x: int) -> int:
        return x

    @llm_call
    @staticmethod
    def outer_static(x: int) -> int:
        return x

    @llm_call(model="m")
    @classmethod
    async def awaited(cls, x: int) -> tuple[str, int]:
        return cls.__name__, x

    def __call__(self, x: int) -> int:
        return x


def test_methods_of_every_kind_and_in_either_order(captured: Captured) -> None:
    bot = Bot()
    assert bot.method(1) == ("bot", 1)
    assert Bot.inner_class(2) == bot.outer_class(2) == ("Bot", 2)
    assert Bot.inner_static(3) == bot.outer_static(3) == 3
    assert asyncio.run(bot.awaited(4)) == ("Bot", 4)
    assert len(captured.spans) == 6


def test_partials_and_callable_objects(captured: Captured) -> None:
    assert agent(functools.partial(function, 4))() == 8
    assert agent(Bot())(5) == 5
    assert inspect.iscoroutinefunction(agent(functools.partial(coroutine, 4)))
    assert asyncio.run(agent(functools.partial(coroutine, 4))()) == 8
    assert captured.names == [
        "invoke_agent function",
        "invoke_agent Bot",
        "invoke_agent coroutine",
    ]


def test_a_generator_that_is_a_coroutine_can_be_awaited(captured: Captured) -> None:
    @tool
    @types.coroutine
    def nap() -> Any:
        yield from asyncio.sleep(0).__await__()
        return 5

    async def use() -> int:
        return await nap()

    assert inspect.iscoroutinefunction(nap)
    assert asyncio.run(use()) == 5
    assert captured.names == ["execute_tool nap"]


@pytest.mark.parametrize("given", [Bot, 3, None, property(lambda self: 1)])
def test_what_is_no_function_is_refused(given: Any) -> None:
    with pytest.raises(WrongType, match="cannot decorate"):
        wrap(given, lambda _: lambda *_: None, by="agent")


def test_a_plain_function_in_front_of_a_coroutine_is_timed_to_its_end(captured: Captured) -> None:
    @agent
    def front(x: int) -> Any:
        return coroutine(x)

    async def use() -> Any:
        waiting = front(3)
        assert captured.spans == []
        return await waiting

    assert asyncio.run(use()) == 6
    assert captured.names == ["invoke_agent front"]


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
def test_a_coroutine_that_nobody_awaits_is_abandoned(captured: Captured) -> None:
    @llm_call
    def front() -> Any:
        return coroutine(1)

    front()
    gc.collect()
    spans.reap()
    assert captured.open == 0
    assert outcome(captured)[0] == "abandoned"


@pytest.mark.parametrize("fn", [coroutine, generator, async_generator])
def test_wrong_arguments_end_the_span(captured: Captured, fn: Callable[..., Any]) -> None:
    with pytest.raises(TypeError):
        run(llm_call(fn), 1, 2, 3)
    assert captured.open == 0
    assert outcome(captured) == ("error", StatusCode.ERROR, "TypeError")


@pytest.mark.parametrize("decorate", DECORATORS, ids=NAMES)
@pytest.mark.parametrize("fn", SHAPES)
def test_unconfigured_nothing_happens(fn: Callable[..., Any], decorate: Any) -> None:
    assert not live.on
    assert run(decorate(fn), 3) == run(fn, 3)
    with pytest.raises(KeyError):
        run(decorate(fn), 3, fail=KeyError())
    assert current_run().id is None


def test_a_call_that_began_off_stays_off(captured: Captured) -> None:
    live.remove()

    @llm_call
    def ask() -> int:
        captured.install()
        return 1

    assert ask() == 1
    assert captured.spans == []


def test_telemetry_removed_during_a_call_harms_nobody(captured: Captured) -> None:
    @llm_call
    def ask() -> int:
        live.remove()
        return 1

    assert ask() == 1
    assert captured.open == 0


def test_a_fault_of_ours_leaves_the_call_alone(
    captured: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("ours")

    monkeypatch.setattr(live, "tracer", type("T", (), {"start_span": broken})())
    with safety.swallow() as errors:
        assert run(llm_call(function), 3) == 6
        assert run(agent(generator), 3) == [3, 3]
    assert errors["wrap", "RuntimeError"] == 2
    with pytest.raises(RuntimeError, match="ours"):
        run(llm_call(function), 3)


def test_suppressed_instrumentation_is_honoured(captured: Captured) -> None:
    from opentelemetry.instrumentation.utils import suppress_instrumentation

    with suppress_instrumentation(), phase("thinking"):
        assert run(llm_call(function), 3) == 6
        assert run(agent(generator), 3) == [3, 3]
        assert tool(function)(3) == workflow(function)(3) == 6
    assert captured.spans == []
    assert captured.events == []


def test_threads_and_tasks_do_not_mix_their_calls(captured: Captured) -> None:
    barrier = threading.Barrier(4)

    @llm_call
    def ask(i: int) -> bool:
        mine = current_call()
        mine.response(id=str(i))
        barrier.wait(5)
        return current_call() is mine and mine.response_id == str(i)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(ask, range(4)))

    @llm_call
    async def ask_async(i: int) -> bool:
        mine = current_call()
        await asyncio.sleep(0)
        return current_call() is mine

    async def together() -> list[bool]:
        return list(await asyncio.gather(*(ask_async(i) for i in range(20))))

    assert all(asyncio.run(together()))
    assert len(captured.spans) == 24
    assert all(span.parent is None for span in captured.spans)


def test_a_dropped_coroutine_does_not_complain(
    captured: Captured, caplog: pytest.LogCaptureFixture
) -> None:
    @llm_call
    async def ask() -> None:
        await asyncio.Future()

    async def begin() -> None:
        task = asyncio.ensure_future(ask())
        await asyncio.sleep(0)
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        kept.append(task)

    kept: list[Any] = []
    loop = asyncio.new_event_loop()
    loop.run_until_complete(begin())
    loop.close()
    before = get_current()
    kept.clear()
    gc.collect()
    spans.reap()
    assert get_current() is before
    assert captured.open == 0
    assert caplog.records == []


def test_blocks_are_decorators_and_context_managers(captured: Captured) -> None:
    with llm_call(provider="p", model="m") as call:
        call.usage(input=1)
        assert current_call() is call
    with agent(name="a") as running:
        assert current_run() is running
        assert running.id is not None
    with workflow(name="w"), tool(name="t"):
        pass

    async def use() -> None:
        async with llm_call(model="m2") as call:
            call.usage(output=1)

    asyncio.run(use())
    assert captured.names == [
        "chat m",
        "invoke_agent a",
        "execute_tool t",
        "invoke_workflow w",
        "chat m2",
    ]


def test_a_block_entered_by_many_tasks_finds_its_own(captured: Captured) -> None:
    block = llm_call(model="m")

    async def use(i: int) -> None:
        async with block as call:
            await asyncio.sleep(0.001 * (3 - i))
            call.response(id=str(i))

    async def together() -> None:
        await asyncio.gather(*(use(i) for i in range(3)))

    before = get_current()
    asyncio.run(together())
    assert get_current() is before
    assert [(s.attributes or {})["gen_ai.response.id"] for s in captured.spans] == ["2", "1", "0"]


def test_a_block_entered_by_many_threads_finds_its_own(captured: Captured) -> None:
    shared = phase("thinking")
    start = threading.Barrier(4)

    def work() -> bool:
        start.wait(5)
        own = []
        for _ in range(100):
            before = get_current()
            with shared:
                own.append(get_current_span())
            own.append(get_current() is before and not own.pop().is_recording())
        return all(own)

    with ThreadPoolExecutor(4) as pool:
        assert all(task.result(10) for task in [pool.submit(work) for _ in range(4)])
    assert captured.open == 0
    assert len(captured.spans) == 400


def silent() -> Any:
    return set_value("suppress_instrumentation", True)


def test_a_silent_entry_ends_nothing_of_another(captured: Captured) -> None:
    shared = llm_call(model="m")
    with shared as outer:
        token = attach(silent())
        with shared as inner:
            assert inner.closed
        detach(token)
        assert not outer.closed
        assert captured.names == []
    assert captured.names == ["chat m"]


def test_a_silent_entry_of_a_task_leaves_the_one_of_another_task_alone(captured: Captured) -> None:
    shared = llm_call(model="m")

    async def speak(entered: asyncio.Event, go: asyncio.Event) -> None:
        with shared as call:
            entered.set()
            await go.wait()
            call.response(id="mine")

    async def be_silent(entered: asyncio.Event, go: asyncio.Event) -> None:
        await entered.wait()
        attach(silent())
        with shared:
            pass
        go.set()

    async def together() -> None:
        entered, go = asyncio.Event(), asyncio.Event()
        await asyncio.gather(speak(entered, go), be_silent(entered, go))

    asyncio.run(together())
    (span,) = captured.spans
    assert (span.attributes or {})["gen_ai.response.id"] == "mine"


def test_an_entry_from_before_the_end_of_telemetry_is_not_ended_by_a_later_one(
    captured: Captured,
) -> None:
    shared = phase("thinking")
    with shared:
        live.on = False
        with shared:
            pass
        live.on = True
        assert captured.open == 1
    assert captured.names == ["phase thinking"]


def test_each_task_ends_its_own_block_whatever_else_is_attached(captured: Captured) -> None:
    shared = llm_call(model="m")

    async def use(name: str, steps: int) -> None:
        with shared as call:
            attach(set_value("left behind", name))
            for _ in range(steps):
                await asyncio.sleep(0)
            call.response(id=name)

    async def together() -> None:
        await asyncio.gather(use("long", 9), use("short", 1), use("middle", 4))

    asyncio.run(together())
    found = [(span.attributes or {}).get("gen_ai.response.id") for span in captured.spans]
    assert found == ["short", "middle", "long"]


def test_one_block_inside_itself_ends_from_the_inside_out(captured: Captured) -> None:
    shared = tool(name="t")
    before = get_current()
    with shared as outer, shared as middle:
        token = attach(set_value("other", 1))
        with shared as inner:
            assert current_call() is inner
        assert (inner.closed, middle.closed, outer.closed) == (True, False, False)
        detach(token)
        assert current_call() is middle
    assert (middle.closed, outer.closed) == (True, True)
    assert get_current() is before
    inmost, second, first = captured.spans
    assert inmost.parent == second.context
    assert second.parent == first.context


def test_a_block_entered_again_and_again_leaves_nothing_behind(captured: Captured) -> None:
    shared = phase("thinking")
    attach(set_value("leaked", 1))
    for _ in range(100):
        with shared:
            attach(set_value("leaked", 2))
    key = shared._entries._key
    assert shared._entries.open == {}
    assert getattr(get_current().get(key), "outer", None) is None
    attach(Context())


def test_a_block_that_a_generator_left_open_ends_with_it_elsewhere(captured: Captured) -> None:
    shared = llm_call(model="m")

    def steps() -> Iterator[int]:
        with shared:
            yield 1

    stream = steps()
    contextvars.Context().run(next, stream)
    assert captured.open == 1
    contextvars.Context().run(stream.close)
    (span,) = captured.spans
    assert (span.attributes or {})["empathy.call.outcome"] == "abandoned"


def test_a_block_ended_in_another_context_is_the_one_entered_from_there(
    captured: Captured,
) -> None:
    shared = llm_call(model="m")

    def requested(name: str) -> tuple[Callable[[], Any], Callable[[], Any]]:
        around = contextvars.copy_context()
        around.run(attach, set_value("request", name))

        def enter() -> None:
            shared.__enter__().response(id=name)

        # Each in a context of its own, as thread pools do with what surrounds them.
        return (
            lambda: around.copy().run(enter),
            lambda: around.copy().run(shared.__exit__, None, None, None),
        )

    begin_a, end_a = requested("a")
    begin_b, end_b = requested("b")
    for step in (begin_a, begin_b, end_a, end_b):
        step()
    assert [(s.attributes or {})["gen_ai.response.id"] for s in captured.spans] == ["a", "b"]


def test_the_collector_ends_the_block_of_what_it_closes_and_no_other(captured: Captured) -> None:
    shared = llm_call(model="m")

    def steps() -> Iterator[int]:
        with shared as call:
            call.response(id="dropped")
            yield 1

    stream = steps()
    contextvars.Context().run(next, stream)
    circle: list[Any] = [stream]
    circle.append(circle)
    with shared as mine:
        mine.response(id="mine")
        del stream, circle
        gc.collect()
        assert not mine.closed
    spans.reap()
    found = [dict(span.attributes or {}) for span in captured.spans]
    assert [(one["gen_ai.response.id"], one["empathy.call.outcome"]) for one in found] == [
        ("mine", "ok"),
        ("dropped", "abandoned"),
    ]


def test_a_phase_is_measured_in_its_own_span(captured: Captured) -> None:
    shared = phase("thinking")
    with agent(name="a"), phase("llm_interaction"), shared:
        pass
    thinking = captured.span("phase thinking").context
    (point,) = [
        point
        for point in captured.metrics()["empathy.phase.duration"]
        if point.attributes["empathy.phase.name"] == "thinking"
    ]
    assert thinking is not None
    assert [exemplar.span_id for exemplar in point.exemplars] == [thinking.span_id]


def test_a_block_with_a_limit_or_a_guard_needs_a_function(captured: Captured) -> None:
    with (
        pytest.raises(WrongValue, match="must decorate a function"),
        llm_call(guard=lambda fn: fn),
    ):
        pass


@pytest.mark.parametrize("fn", SHAPES)
def test_a_guard_stands_inside_the_span_and_works_without_telemetry(
    captured: Captured, fn: Callable[..., Any]
) -> None:
    seen = []

    def guard(inner: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(inner)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            seen.append(get_current_span().get_span_context().is_valid)
            return inner(*args, **kwargs)

        return guarded

    wrapped = llm_call(guard=guard)(fn)
    assert run(wrapped, 3) == run(fn, 3)
    live.remove()
    assert run(wrapped, 3) == run(fn, 3)
    assert seen == [True, False]


def test_what_is_no_guard_is_refused() -> None:
    with pytest.raises(WrongType, match="guard"):
        llm_call(guard=3)  # type: ignore[call-overload]
    with pytest.raises(WrongType, match="guard"):
        agent(guard=3)  # type: ignore[call-overload]
    with pytest.raises(WrongType, match="guard"):
        llm_call(guard=lambda fn: None)(function)  # type: ignore[arg-type, return-value]


@given(steps=st.lists(st.sampled_from(["next", "send", "throw", "close"]), max_size=12))
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_wrapped_generator_answers_like_the_plain_one(
    captured: Captured, steps: list[str]
) -> None:
    def plain() -> Any:
        total = 0
        while total < 5:
            try:
                got = yield total
                total += got or 1
            except ValueError:
                total += 2
        return total

    def play(stream: Any) -> list[Any]:
        log: list[Any] = []
        for step in steps:
            try:
                if step == "next":
                    log.append(next(stream))
                elif step == "send":
                    log.append(stream.send(2))
                elif step == "throw":
                    log.append(stream.throw(ValueError("x")))
                else:
                    log.append(stream.close())
            except BaseException as error:
                log.append((type(error), str(error)))
        return log

    captured.clear()
    assert play(llm_call(plain)()) == play(plain())
    captured.clear()
    returned = llm_call(lambda: plain())  # noqa: PLW0108 - a function that returns a generator
    assert play(returned()) == play(plain())
    assert captured.open == 0
    assert len(captured.spans) == 1
