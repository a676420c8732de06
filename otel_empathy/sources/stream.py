"""Streams: what happens around each step of a generator, or of a stream that a client returned.

The context of the operation is attached only while a step runs, and what the step leaves attached
is kept for the next one, so nothing leaks into the code that reads the stream. The span ends with
the last chunk, an error, a close, a throw, or when nobody holds the stream any more.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from types import TracebackType
from typing import Any, Final

from opentelemetry.context import Context, get_current

from otel_empathy.emit.context import enter, leave, restore
from otel_empathy.emit.spans import Held, Operation
from otel_empathy.sources.bind import attribute_of, hands_out, reads

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
                    await _close(inner.aclose(), operation, context, operation.abandon)
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


async def _close(
    closing: Awaitable[Any], operation: Operation, context: Context, end: Callable[[], None]
) -> Any:
    previous = get_current()
    enter(context)
    try:
        return await closing
    except BaseException as error:
        operation.fail(error)
        raise
    finally:
        end()
        restore(context, previous)


class _Reading(Held):
    """How a stream is read; all who stand in for it share this, and the last one ends it."""

    __slots__ = ("aside", "context", "handed", "seen")

    def __init__(self, operation: Operation) -> None:
        super().__init__(operation)
        self.context = operation.context
        self.handed = False  # a manager has handed out its stream
        self.seen = False  # a chunk came by
        self.aside = False  # something was handed out that reads without coming by

    def leave(self) -> None:
        """End with what is known: who read past us may have read everything."""
        if self.aside and not self.seen:
            self.operation.exhaust()
        else:
            self.operation.abandon()

    def __del__(self) -> None:
        if not self.operation.ended and not sys.is_finalizing():
            self.leave()


class _Proxy:
    """Stands in for an object of a client library: everything but reading goes through.

    Its own names are long, because every short one may be the library's.
    """

    __slots__ = ("__weakref__", "_oe_own", "_oe_reading", "_oe_stream")

    _oe_own: dict[str, Any]
    _oe_reading: _Reading
    _oe_stream: Any

    def __init__(self, stream: Any, reading: _Reading) -> None:
        put = object.__setattr__
        put(self, "_oe_stream", stream)
        put(self, "_oe_reading", reading)
        put(self, "_oe_own", {})

    # What isinstance() asks for: a caller that checks for the library's class is right.
    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return type(self._oe_stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._oe_stream, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._oe_own.pop(name, None)
        setattr(self._oe_stream, name, value)

    def __delattr__(self, name: str) -> None:
        self._oe_own.pop(name, None)
        delattr(self._oe_stream, name)

    def __dir__(self) -> list[str]:
        return dir(self._oe_stream)

    def __repr__(self) -> str:
        return repr(self._oe_stream)

    def __eq__(self, other: object) -> bool:
        return bool(self._oe_stream == (other._oe_stream if isinstance(other, _Proxy) else other))

    def __hash__(self) -> int:
        return hash(self._oe_stream)


class _Read(_Proxy):
    """Stands in for a stream."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        stream, reading = self._oe_stream, self._oe_reading
        if name in _ENDS:
            return functools.partial(_end, self, getattr(stream, name))
        if name in _STEPS:
            step = getattr(stream, name)
            return functools.partial(_read_async if _STEPS[name] else _read, self, step)
        value, bound = attribute_of(stream, name, self, self._oe_own)
        if not bound and reads(value):
            reading.aside = True
        return value


class Stream(_Read):
    """A stream that a function returned, read with `for`."""

    __slots__ = ()

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> Any:
        return _read(self, self._oe_stream.__next__)

    def __enter__(self) -> Any:
        return _enter(self)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> Any:
        return _end(self, self._oe_stream.__exit__, kind, error, tb)


class AsyncStream(_Read):
    """A stream that a function returned, read with `async for`."""

    __slots__ = ()

    def __aiter__(self) -> AsyncStream:
        return self

    async def __anext__(self) -> Any:
        return await _read_async(self, self._oe_stream.__anext__)

    async def __aenter__(self) -> Any:
        return await _enter_async(self)

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


class _Entered(_Proxy):
    """Stands in for what hands out a stream when it is entered.

    Who uses it in another way has a result of another kind, and with that the operation is over.
    """

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._oe_stream, name)
        if not name.startswith("_") and not self._oe_reading.handed:
            self._oe_reading.operation.finish(self._oe_stream)
        return value


class _Manager(_Entered):
    """What `with` takes a stream from."""

    __slots__ = ()

    def __enter__(self) -> Any:
        return _enter(self)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> Any:
        return _end(self, self._oe_stream.__exit__, kind, error, tb)


class _AsyncManager(_Entered):
    """What `async with` takes a stream from."""

    __slots__ = ()

    async def __aenter__(self) -> Any:
        return await _enter_async(self)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> Any:
        return await _end(self, self._oe_stream.__aexit__, kind, error, tb)


class _EitherManager(_Manager, _AsyncManager):
    """What both take a stream from."""

    __slots__ = ()


class _Called(_Entered):
    """What is a decorator as well, as those of contextlib are."""

    __slots__ = ()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._oe_reading.operation.finish()
        return self._oe_stream(*args, **kwargs)


class _CalledManager(_Called, _Manager):
    """A decorator that `with` takes a stream from."""

    __slots__ = ()


class _CalledAsyncManager(_Called, _AsyncManager):
    """A decorator that `async with` takes a stream from."""

    __slots__ = ()


class _CalledEitherManager(_Called, _EitherManager):
    """A decorator that both take a stream from."""

    __slots__ = ()


_MANAGERS: Final[dict[tuple[bool, bool, bool], type[_Entered]]] = {
    (True, False, False): _Manager,
    (False, True, False): _AsyncManager,
    (True, True, False): _EitherManager,
    (True, False, True): _CalledManager,
    (False, True, True): _CalledAsyncManager,
    (True, True, True): _CalledEitherManager,
}


def proxied(result: Any, operation: Operation) -> Any:
    """What stands in for a result that is a stream or hands one out; else the result itself."""
    kind: Any = type(result)
    role = _stream_role(kind)
    if role is not None:
        operation.stream()
        return role(result, _Reading(operation))
    use = hands_out(kind)
    return result if use is None else _MANAGERS[use](result, _Reading(operation))


def _stream_role(kind: type) -> type[_Read] | None:
    waits = hasattr(kind, "__anext__")
    if hasattr(kind, "__next__"):
        return _EitherStream if waits else Stream
    return AsyncStream if waits else None


def _enter(proxy: _Proxy) -> Any:
    reading = proxy._oe_reading  # noqa: SLF001 - methods would hide the library's
    operation = reading.operation
    token = enter(reading.context)
    try:
        entered = proxy._oe_stream.__enter__()  # noqa: SLF001 - see above
        reading.context = get_current()
    except BaseException as error:
        operation.fail(error)
        raise
    finally:
        leave(token)
    return _handed(proxy, entered)


async def _enter_async(proxy: _Proxy) -> Any:
    reading, stream = proxy._oe_reading, proxy._oe_stream  # noqa: SLF001 - see above
    entered, reading.context = await _step(
        stream.__aenter__, (), reading.operation, reading.context
    )
    return _handed(proxy, entered)


def _handed(proxy: _Proxy, entered: Any) -> Any:
    """What entering gave, or what stands in for it; a reply that is no stream is complete."""
    if entered is proxy._oe_stream:  # noqa: SLF001 - see above
        return proxy
    reading = proxy._oe_reading  # noqa: SLF001 - see above
    operation = reading.operation
    role = None if operation.ended else _stream_role(type(entered))
    if role is not None:
        operation.stream()
        reading.handed = True
        return role(entered, reading)
    if isinstance(proxy, _Entered) and not reading.handed:
        operation.finish(entered)
    reading.aside = True
    return entered


def _read(proxy: _Proxy, step: Callable[..., Any], *given: Any) -> Any:
    reading = proxy._oe_reading  # noqa: SLF001 - see above
    operation = reading.operation
    token = enter(reading.context)
    try:
        value = step(*given)
        reading.context = get_current()
    except StopIteration:
        operation.exhaust()
        raise
    except BaseException as error:
        operation.fail(error)
        raise
    finally:
        leave(token)
    reading.seen = True
    operation.chunk(value)
    return value


async def _read_async(proxy: _Proxy, step: Callable[..., Any], *given: Any) -> Any:
    reading = proxy._oe_reading  # noqa: SLF001 - see above
    value, reading.context = await _step(step, given, reading.operation, reading.context)
    reading.seen = True
    reading.operation.chunk(value)
    return value


def _end(proxy: _Proxy, last: Callable[..., Any], *given: Any) -> Any:
    """The last word to a stream; a library may want it awaited or not."""
    reading = proxy._oe_reading  # noqa: SLF001 - see above
    operation = reading.operation
    token = enter(reading.context)
    try:
        result = last(*given)
    except BaseException as error:
        operation.fail(error)
        raise
    finally:
        leave(token)
    if hasattr(result, "__await__"):
        return _close(result, operation, reading.context, reading.leave)
    reading.leave()
    return result
