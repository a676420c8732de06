"""Streams: what happens around each step of a generator, or of a stream that a client returned.

The context of the operation is attached only while a step runs, and what the step leaves attached
is kept for the next one, so nothing leaks into the code that reads the stream. The span ends with
the last chunk, an error, a close, a throw, or when nobody holds the stream any more.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from types import TracebackType
from typing import Any

from opentelemetry.context import Context, attach, detach, get_current

from otel_empathy.emit.spans import Held, Operation

__all__ = ["AsyncStream", "Stream", "drive", "drive_async", "is_async_stream", "is_stream"]


def is_stream(value: Any) -> bool:
    """Whether a result is read step by step."""
    return hasattr(type(value), "__next__")


def is_async_stream(value: Any) -> bool:
    """Whether a result is read step by step, asynchronously."""
    return hasattr(type(value), "__anext__")


def drive(inner: Any, operation: Operation) -> Generator[Any, Any, Any]:
    """Run a generator to its end, each step in the context of its operation."""
    context = operation.context
    chunk = operation.chunk if operation.streams else None
    step: Callable[..., Any] = inner.__next__
    given: tuple[Any, ...] = ()
    while True:
        token = attach(context)
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
            detach(token)
        if chunk is not None:
            chunk(value)
        try:
            given = ((yield value),)
            step = inner.send
        except GeneratorExit:
            token = attach(context)
            try:
                inner.close()
            except BaseException as error:
                operation.fail(error)
                raise
            finally:
                operation.abandon()
                detach(token)
            raise
        except BaseException as error:  # noqa: BLE001 - handed to the generator inside
            step, given = inner.throw, (error,)


async def drive_async(inner: Any, operation: Operation | None) -> AsyncGenerator[Any, Any]:
    """Run an async generator to its end, each step in the context of its operation.

    Without an operation it only hands on: there is no `yield from` for async generators.
    """
    context = get_current() if operation is None else operation.context
    held = None if operation is None else Held(operation)
    chunk = operation.chunk if operation is not None and operation.streams else None
    step: Callable[..., Any] = inner.__anext__
    given: tuple[Any, ...] = ()
    while True:
        token = None if operation is None else attach(context)
        try:
            value = await step(*given)
            context = get_current()
        except StopAsyncIteration:
            if operation is not None:
                operation.exhaust()
            return
        except BaseException as error:
            if operation is not None:
                operation.fail(error)
            raise
        finally:
            if token is not None:
                detach(token)
        if chunk is not None:
            chunk(value)
        try:
            given = ((yield value),)
            step = inner.asend
        except GeneratorExit:
            await _close(inner, operation, context)
            raise
        except BaseException as error:  # noqa: BLE001 - handed to the generator inside
            step, given = inner.athrow, (error,)
    del held


async def _close(inner: Any, operation: Operation | None, context: Context) -> None:
    if operation is None:
        await inner.aclose()
        return
    token = attach(context)
    try:
        await inner.aclose()
    except BaseException as error:
        operation.fail(error)
        raise
    finally:
        operation.abandon()
        detach(token)


class _Proxy:
    """Stands in for a stream of a client library: everything but reading goes through."""

    __slots__ = ("_chunk", "_context", "_held", "_operation", "_stream", "__weakref__")

    def __init__(self, stream: Any, operation: Operation) -> None:
        set_ = object.__setattr__
        set_(self, "_stream", stream)
        set_(self, "_operation", operation)
        set_(self, "_held", Held(operation))
        set_(self, "_context", operation.context)
        set_(self, "_chunk", operation.chunk)

    # isinstance() asks for this; a caller that checks for the library's class is right.
    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return type(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._stream, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._stream, name)

    def __dir__(self) -> list[str]:
        return dir(self._stream)

    def __repr__(self) -> str:
        return repr(self._stream)

    def _enter(self) -> Any:
        return attach(self._context)

    def _leave(self, token: Any) -> None:
        object.__setattr__(self, "_context", get_current())
        detach(token)


class Stream(_Proxy):
    """A stream that a function returned, read with `for`."""

    __slots__ = ()

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> Any:
        token = self._enter()
        try:
            value = next(self._stream)
        except StopIteration:
            self._operation.exhaust()
            raise
        except BaseException as error:
            self._operation.fail(error)
            raise
        finally:
            self._leave(token)
        self._chunk(value)
        return value

    def close(self) -> Any:
        """Close the stream, and end its span."""
        return self._end(self._stream.close)

    def send(self, value: Any) -> Any:
        """Hand a value to the generator inside."""
        return self._step(self._stream.send, value)

    def throw(self, *error: Any) -> Any:
        """Raise inside the generator."""
        return self._step(self._stream.throw, *error)

    def __enter__(self) -> Any:
        entered = self._stream.__enter__()
        return self if entered is self._stream else entered

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> Any:
        return self._end(self._stream.__exit__, kind, error, tb)

    def _step(self, step: Callable[..., Any], *given: Any) -> Any:
        token = self._enter()
        try:
            value = step(*given)
        except StopIteration:
            self._operation.exhaust()
            raise
        except BaseException as error:
            self._operation.fail(error)
            raise
        finally:
            self._leave(token)
        self._chunk(value)
        return value

    def _end(self, last: Callable[..., Any], *given: Any) -> Any:
        token = self._enter()
        try:
            return last(*given)
        except BaseException as error:
            self._operation.fail(error)
            raise
        finally:
            self._operation.abandon()
            self._leave(token)


class AsyncStream(_Proxy):
    """A stream that a function returned, read with `async for`."""

    __slots__ = ()

    def __aiter__(self) -> AsyncStream:
        return self

    async def __anext__(self) -> Any:
        return await self._step(self._stream.__anext__)

    async def asend(self, value: Any) -> Any:
        """Hand a value to the generator inside."""
        return await self._step(self._stream.asend, value)

    async def athrow(self, *error: Any) -> Any:
        """Raise inside the generator."""
        return await self._step(self._stream.athrow, *error)

    async def close(self) -> Any:
        """Close the stream, and end its span."""
        return await self._end(self._stream.close)

    async def aclose(self) -> Any:
        """Close the stream, and end its span."""
        return await self._end(self._stream.aclose)

    async def __aenter__(self) -> Any:
        entered = await self._stream.__aenter__()
        return self if entered is self._stream else entered

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> Any:
        return await self._end(self._stream.__aexit__, kind, error, tb)

    async def _step(self, step: Callable[..., Any], *given: Any) -> Any:
        token = self._enter()
        try:
            value = await step(*given)
        except StopAsyncIteration:
            self._operation.exhaust()
            raise
        except BaseException as error:
            self._operation.fail(error)
            raise
        finally:
            self._leave(token)
        self._chunk(value)
        return value

    async def _end(self, last: Callable[..., Any], *given: Any) -> Any:
        token = self._enter()
        try:
            return await last(*given)
        except BaseException as error:
            self._operation.fail(error)
            raise
        finally:
            self._operation.abandon()
            self._leave(token)
