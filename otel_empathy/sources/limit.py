"""Making a limit hold: a callable of any shape, and the seconds that it may take.

Coroutines are cancelled (asyncio). A function runs in a thread of its own with the context carried,
so that its caller is free at the limit; what it delivers later is dropped. Generators are held to
the limit between their steps, async generators also inside them.
"""

from __future__ import annotations

import contextvars
import functools
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from typing import Any

from otel_empathy.core.clock import SYSTEM
from otel_empathy.sources.shape import Shape, name_of

__all__ = ["limited"]


def limited(
    fn: Callable[..., Any], shape: Shape, seconds: float, *, what: str | None = None
) -> Callable[..., Any]:
    """The same callable, which raises TimeoutError when it takes longer.

    Args:
        fn: What to run.
        shape: Its shape.
        seconds: How long each of its calls may take.
        what: How to name it in the error.
    """
    text = f"{what or name_of(fn)} took longer than its limit of {seconds:g} s"
    make = {
        Shape.FUNCTION: _function,
        Shape.COROUTINE: _coroutine,
        Shape.GENERATOR: _generator,
        Shape.ASYNC_GENERATOR: _async_generator,
    }[shape]
    return functools.update_wrapper(make(fn, seconds, text), fn)


def _function(fn: Callable[..., Any], seconds: float, text: str) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        outcome: list[tuple[Any, BaseException | None]] = []
        done = threading.Event()

        def work() -> None:
            try:
                outcome.append((fn(*args, **kwargs), None))
            except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
                outcome.append((None, error))
            finally:
                done.set()

        context = contextvars.copy_context()
        name = f"otel-empathy limit of {name_of(fn)}"
        threading.Thread(target=context.run, args=(work,), name=name, daemon=True).start()
        if not done.wait(seconds):
            raise TimeoutError(text)
        result, error = outcome.pop()
        if error is None:
            return result
        try:
            raise error
        finally:
            del error  # the traceback points at this frame: no circle

    return wrapper


def _coroutine(fn: Callable[..., Any], seconds: float, text: str) -> Callable[..., Any]:
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        return await _within(fn(*args, **kwargs), seconds, text)

    return wrapper


async def _within(awaitable: Awaitable[Any], seconds: float, text: str) -> Any:
    import asyncio  # noqa: PLC0415 - 65 ms, and whoever awaits has it already

    task = asyncio.current_task()
    assert task is not None
    # Python 3.10 cannot tell whose cancellation it was; there ours wins.
    cancelling, uncancel = getattr(task, "cancelling", None), getattr(task, "uncancel", None)
    before = 0 if cancelling is None else cancelling()
    fired = False

    def fire() -> None:
        nonlocal fired
        fired = True
        task.cancel()

    timer = asyncio.get_running_loop().call_later(seconds, fire)
    try:
        result = await awaitable
    except asyncio.CancelledError as error:
        timer.cancel()
        if fired and (uncancel is None or uncancel() <= before):
            raise TimeoutError(text) from error
        raise
    except BaseException:
        timer.cancel()
        if fired and uncancel is not None:
            uncancel()
        raise
    timer.cancel()
    if fired:  # it went on in spite of the cancellation: its result is late
        if uncancel is not None:
            uncancel()
        raise TimeoutError(text)
    return result


def _generator(fn: Callable[..., Any], seconds: float, text: str) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        deadline = SYSTEM.monotonic() + seconds
        inner = fn(*args, **kwargs)
        step: Callable[..., Any] = inner.__next__
        given: tuple[Any, ...] = ()
        while True:
            if SYSTEM.monotonic() >= deadline:
                inner.close()
                raise TimeoutError(text)
            try:
                value = step(*given)
            except StopIteration as stop:
                return stop.value
            if SYSTEM.monotonic() >= deadline:
                inner.close()
                raise TimeoutError(text)
            try:
                given = ((yield value),)
                step = inner.send
            except GeneratorExit:
                inner.close()
                raise
            except BaseException as error:  # noqa: BLE001 - handed to the generator inside
                step, given = inner.throw, (error,)

    return wrapper


def _async_generator(fn: Callable[..., Any], seconds: float, text: str) -> Callable[..., Any]:
    async def wrapper(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        deadline = SYSTEM.monotonic() + seconds
        inner = fn(*args, **kwargs)
        step: Callable[..., Any] = inner.__anext__
        given: tuple[Any, ...] = ()
        while True:
            left = deadline - SYSTEM.monotonic()
            if left <= 0:
                await inner.aclose()
                raise TimeoutError(text)
            try:
                value = await _within(step(*given), left, text)
            except StopAsyncIteration:
                return
            try:
                given = ((yield value),)
                step = inner.asend
            except GeneratorExit:
                await inner.aclose()
                raise
            except BaseException as error:  # noqa: BLE001 - handed to the generator inside
                step, given = inner.athrow, (error,)

    return wrapper
