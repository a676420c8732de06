"""Streams: what happens around each step of a generator, or of a stream that a client returned.

The context of the operation is attached only while a step runs, and what the step leaves attached
is kept for the next one, so nothing leaks into the code that reads the stream. The span ends with
the last chunk, an error, a close, a throw, or when nobody holds the stream any more.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from types import TracebackType
from typing import Any, Final

from opentelemetry.context import Context, get_current

from otel_empathy.emit.context import enter, leave, restore
from otel_empathy.emit.spans import Held, Operation

__all__ = ["AsyncStream", "Start", "Stream", "async_generator", "drive", "proxied"]

Start = Callable[[tuple[Any, ...], dict[str, Any]], "tuple[Callable[[], Any], Operation | None]"]
"""From the arguments of a call: what makes the async generator, and its operation."""

_STEPS: Final = {"send": False, "throw": False, "asend": True, "athrow": True}
_ENDS: Final = frozenset({"close", "aclose"})


def drive(make: Callable[[], Any], operation: Operation) -> Generator[Any, Any, Any]:
    """Make a generator and run it to its end, each step in the context of its operation."""
    operation.stream()
    context = operation.context
    inner = _made(make, operation)
    chunk = operation.chunk if operation.streams else None
    step: Callable[..., Any] = inner.__next__
    given: tuple[Any, ...] = ()
    while True:
        token = enter(context)
        try:
            value = step(*given)
            context = get_current()
        except StopIteration as stop:
            operation.exhaust()
            return stop.value
        except BaseException as error:
            operation.fail(error)
            raise
        finally:
            leave(token)
        if chunk is not None:
            chunk(value)
        try:
            given = ((yield value),)
            step = inner.send
        except GeneratorExit:
            closing = enter(context)
            try:
                inner.close()
            except BaseException as error:
                operation.fail(error)
                raise
            finally:
                operation.abandon()
                leave(closing)
            raise
        except BaseException as error:  # noqa: BLE001 - handed to the generator inside
            step, given = inner.throw, (error,)


def async_generator(start: Start) -> Callable[..., Any]:
    """An async generator function that runs another one, each step in its operation's context.

    Where there is no operation it only hands on: async generators have no `yield from`.
    """

    async def wrapper(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        make, operation = start(args, kwargs)
        # A loop that is closed never finishes its generators; this does.
        _held = None if operation is None else Held(operation)
        context = None if operation is None else operation.context
        chunk = operation.chunk if operation is not None and operation.streams else None
        if operation is not None:
            operation.stream()
        inner = make() if operation is None else _made(make, operation)
        step: Callable[..., Any] = inner.__anext__
        given: tuple[Any, ...] = ()
        while True:
            try:
                if operation is None or context is None:
                    value = await step(*given)
                else:
                    value, context = await _step(step, given, operation, context)
            except StopAsyncIteration:
                return
            if chunk is not None:
                chunk(value)
            try:
                given = ((yield value),)
                step = inner.asend
            except GeneratorExit:
                if operation is None or context is None:
                    await inner.aclose()
                else:
                    await _close(inner.aclose(), operation, context)
                raise
            except BaseException as error:  # noqa: BLE001 - handed to the generator inside
                step, given = inner.athrow, (error,)

    return wrapper


def _made(make: Callable[[], Any], operation: Operation) -> Any:
    """The generator; arguments that do not fit show here."""
    token = enter(operation.context)
    try:
        return make()
    except BaseException as error:
        operation.fail(error)
        raise
    finally:
        leave(token)


async def _step(
    step: Callable[..., Any], given: tuple[Any, ...], operation: Operation, context: Context
) -> tuple[Any, Context]:
    """One step of an async stream; gives its chunk and the context that it left."""
    previous = get_current()
    token = enter(context)
    try:
        value = await step(*given)
    except GeneratorExit as error:
        # Somebody dropped the stream in the middle of a step, perhaps in another flow of control.
        operation.fail(error)
        restore(context, previous)
        raise
    except StopAsyncIteration:
        operation.exhaust()
        leave(token)
        raise
    except BaseException as error:
        operation.fail(error)
        leave(token)
        raise
    left = get_current()
    leave(token)
    return value, left


async def _close(closing: Awaitable[Any], operation: Operation, context: Context) -> Any:
    previous = get_current()
    enter(context)
    try:
        return await closing
    except BaseException as error:
        operation.fail(error)
        raise
    finally:
        operation.abandon()
        restore(context, previous)


class _Proxy:
    """Stands in for a stream of a client library: everything but reading goes through.

    Its own names are long, because every short one may be the library's.
    """

    __slots__ = ("__weakref__", "_oe_context", "_oe_held", "_oe_operation", "_oe_stream")

    _oe_context: Context
    _oe_operation: Operation
    _oe_stream: Any

    def __init__(self, stream: Any, operation: Operation) -> None:
        operation.stream()
        put = object.__setattr__
        put(self, "_oe_stream", stream)
        put(self, "_oe_operation", operation)
        put(self, "_oe_held", Held(operation))
        put(self, "_oe_context", operation.context)

    # What isinstance() asks for: a caller that checks for the library's class is right.
    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return type(self._oe_stream)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._oe_stream, name)
        if name in _ENDS:
            return functools.partial(_end, self, value)
        if name in _STEPS:
            return functools.partial(_read_async if _STEPS[name] else _read, self, value)
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._oe_stream, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._oe_stream, name)

    def __dir__(self) -> list[str]:
        return dir(self._oe_stream)

    def __repr__(self) -> str:
        return repr(self._oe_stream)


class Stream(_Proxy):
    """A stream that a function returned, read with `for`."""

    __slots__ = ()

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> Any:
        return _read(self, self._oe_stream.__next__)

    def __enter__(self) -> Any:
        entered = self._oe_stream.__enter__()
        return self if entered is self._oe_stream else entered

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> Any:
        return _end(self, self._oe_stream.__exit__, kind, error, tb)


class AsyncStream(_Proxy):
    """A stream that a function returned, read with `async for`."""

    __slots__ = ()

    def __aiter__(self) -> AsyncStream:
        return self

    async def __anext__(self) -> Any:
        return await _read_async(self, self._oe_stream.__anext__)

    async def __aenter__(self) -> Any:
        entered = await self._oe_stream.__aenter__()
        return self if entered is self._oe_stream else entered

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> Any:
        return await _end(self, self._oe_stream.__aexit__, kind, error, tb)


class _EitherStream(Stream, AsyncStream):
    """A stream that may be read in both ways."""

    __slots__ = ()


def proxied(result: Any, operation: Operation) -> Any:
    """What stands in for a result that is a stream; the result itself if it is none."""
    kind = type(result)
    waits = hasattr(kind, "__anext__")
    if hasattr(kind, "__next__"):
        return (_EitherStream if waits else Stream)(result, operation)
    return AsyncStream(result, operation) if waits else result


def _of(proxy: _Proxy) -> tuple[Operation, Context]:
    return proxy._oe_operation, proxy._oe_context  # noqa: SLF001 - methods would hide the library's


def _read(proxy: _Proxy, step: Callable[..., Any], *given: Any) -> Any:
    operation, context = _of(proxy)
    token = enter(context)
    try:
        value = step(*given)
        object.__setattr__(proxy, "_oe_context", get_current())
    except StopIteration:
        operation.exhaust()
        raise
    except BaseException as error:
        operation.fail(error)
        raise
    finally:
        leave(token)
    operation.chunk(value)
    return value


async def _read_async(proxy: _Proxy, step: Callable[..., Any], *given: Any) -> Any:
    operation, before = _of(proxy)
    value, context = await _step(step, given, operation, before)
    object.__setattr__(proxy, "_oe_context", context)
    operation.chunk(value)
    return value


def _end(proxy: _Proxy, last: Callable[..., Any], *given: Any) -> Any:
    """The last word to a stream; a library may want it awaited or not."""
    operation, context = _of(proxy)
    token = enter(context)
    try:
        result = last(*given)
    except BaseException as error:
        operation.fail(error)
        raise
    finally:
        leave(token)
    if hasattr(result, "__await__"):
        return _close(result, operation, context)
    operation.abandon()
    return result
