"""Wrapping: one place where a function becomes an observed one, whatever its shape.

A wrapped callable keeps its signature, its kind and its results; while telemetry is off it costs
one test. Nobody else in the product writes a wrapper.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator
from types import CoroutineType, TracebackType
from typing import Any, Final, Generic, TypeVar, cast

from opentelemetry.context import Context, get_current

from otel_empathy.core.errors import WrongType, WrongValue
from otel_empathy.emit.context import Entries, enter, leave, restore
from otel_empathy.emit.live import live
from otel_empathy.emit.safety import guarded
from otel_empathy.emit.spans import Held, Operation
from otel_empathy.sources.future import followed
from otel_empathy.sources.limit import limited
from otel_empathy.sources.shape import Shape, checked, name_of, shape_of
from otel_empathy.sources.stream import async_generator, drive, proxied

__all__ = ["Block", "Define", "Guard", "Open", "wrap"]

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")
Open = Callable[[Context, tuple[Any, ...], dict[str, Any]], "Operation | None"]
"""Begins the operation of one call, in a context, from the call's arguments; None leaves it be."""
Define = Callable[["Callable[..., Any] | None"], Open]
"""Makes what begins the operations of a function, once; of a `with` block where there is none."""
Guard = Callable[[Callable[..., Any]], Callable[..., Any]]
"""A decorator that goes inside the span, so that its retries are part of the operation."""

_GUARD: Final = guarded("wrap")


def wrap(
    fn: Any,
    define: Define,
    *,
    by: str,
    guard: Guard | None = None,
    seconds: float | None = None,
) -> Any:
    """The observed form of a callable.

    Args:
        fn: A function, method, classmethod, staticmethod, partial or other callable.
        define: Makes what opens the operation, once, from the plain function.
        by: The decorator's name, for errors.
        guard: A decorator to put around the function, inside the span.
        seconds: How long a call may take, guard and all.

    Raises:
        WrongType: What is given cannot be decorated, or the guard is no decorator.
    """
    if isinstance(fn, (classmethod, staticmethod)):
        inside = wrap(fn.__func__, define, by=by, guard=guard, seconds=seconds)
        return type(fn)(inside)
    plain = checked(fn, by=by)
    shape = shape_of(plain)
    inner = plain
    if guard is not None:
        inner = guard(plain)
        if not callable(inner):
            raise WrongType(f"guard {guard!r} must be a decorator: a callable that gives one back")
    if seconds is not None:
        inner = limited(inner, shape, seconds, what=name_of(plain))
    make = {
        Shape.FUNCTION: _function,
        Shape.COROUTINE: _coroutine,
        Shape.GENERATOR: _generator,
        Shape.ASYNC_GENERATOR: _async_generator,
    }[shape]
    wrapper = functools.update_wrapper(make(inner, _GUARD(define(plain))), plain)
    wrapper.__name__ = name_of(plain)
    wrapper.__qualname__ = getattr(plain, "__qualname__", wrapper.__name__)
    return wrapper


class Block(Generic[T]):
    """A decorator that was given its arguments; it can be entered with `with` as well.

    Args:
        define: Makes what opens the operations.
        show: What the block is given to work with.
        by: The decorator's name, for errors.
        guard: A decorator to put around a decorated function, inside the span.
        seconds: How long a call of a decorated function may take.

    Raises:
        WrongType: The guard is no decorator.
    """

    __slots__ = ("_by", "_define", "_entries", "_guard", "_open", "_seconds", "_show")

    def __init__(
        self,
        define: Define,
        show: Callable[[Operation | None], T],
        *,
        by: str,
        guard: Guard | None = None,
        seconds: float | None = None,
    ) -> None:
        if guard is not None and not callable(guard):
            raise WrongType(f"guard {guard!r} must be a decorator: a callable that gives one back")
        self._define = define
        self._open = _GUARD(define(None))
        self._show = show
        self._by = by
        self._guard = guard
        self._seconds = seconds
        self._entries: Entries[Operation] = Entries()

    def __call__(self, fn: F) -> F:
        """Decorate a function."""
        return cast(
            "F", wrap(fn, self._define, by=self._by, guard=self._guard, seconds=self._seconds)
        )

    def __enter__(self) -> T:
        """Begin.

        Raises:
            WrongValue: A guard or a limit is given, which only a function can have.
        """
        if self._guard is not None or self._seconds is not None:
            raise WrongValue(f"{self._by} with a guard or a limit must decorate a function")
        operation = None
        # Also one that stays silent is entered, lest its end be taken for that of another.
        if live.on or self._entries.open:
            previous = get_current()
            operation = self._open(previous, (), {}) if live.on else None
            inside = previous if operation is None else operation.context
            self._entries.enter(inside, previous, operation)
        return self._show(operation)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """End."""
        if live.on or self._entries.open:
            self._entries.leave(Operation.finish if error is None else lambda one: one.fail(error))

    async def __aenter__(self) -> T:
        """Begin."""
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """End."""
        self.__exit__(kind, error, tb)


def _function(inner: Callable[..., Any], begin: Open) -> Any:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if not live.on:
            return inner(*args, **kwargs)
        operation = begin(get_current(), args, kwargs)
        if operation is None:
            return inner(*args, **kwargs)
        token = enter(operation.context)
        try:
            call = inner
            if operation.limit is not None:
                call = limited(inner, Shape.FUNCTION, operation.limit)
            return _delivered(call(*args, **kwargs), operation)
        except BaseException as error:
            operation.fail(error)
            raise
        finally:
            leave(token)

    return wrapper


def _delivered(result: Any, operation: Operation) -> Any:
    """The result for the caller; one that is still to come keeps the operation open."""
    if type(result) is CoroutineType:  # a plain function in front of a coroutine
        return _awaited(lambda: result, operation, Held(operation))
    if followed(result, operation):
        return result
    if operation.streams:
        stream = proxied(result, operation)
        if stream is not result:
            return stream
    operation.finish(result)
    return result


def _coroutine(inner: Callable[..., Any], begin: Open) -> Any:
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        if not live.on:
            return await inner(*args, **kwargs)
        operation = begin(get_current(), args, kwargs)
        if operation is None:
            return await inner(*args, **kwargs)
        call = inner
        if operation.limit is not None:
            call = limited(inner, Shape.COROUTINE, operation.limit)
        return await _awaited(lambda: call(*args, **kwargs), operation, None)

    return wrapper


async def _awaited(make: Callable[[], Any], operation: Operation, _held: Held | None) -> Any:
    """Await in the operation's context; `_held` ends it if nobody ever awaits."""
    previous = get_current()
    token = enter(operation.context)
    try:
        result = _delivered(await make(), operation)
    except GeneratorExit as error:
        # Somebody dropped the coroutine; this may be another flow of control than its own.
        operation.fail(error)
        restore(operation.context, previous)
        raise
    except BaseException as error:
        operation.fail(error)
        leave(token)
        raise
    leave(token)
    return result


def _generator(inner: Callable[..., Any], begin: Open) -> Any:
    def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        operation = begin(get_current(), args, kwargs) if live.on else None
        if operation is None:
            return (yield from inner(*args, **kwargs))
        call = inner
        if operation.limit is not None:
            call = limited(inner, Shape.GENERATOR, operation.limit)
        return (yield from drive(lambda: call(*args, **kwargs), operation))

    return wrapper


def _async_generator(inner: Callable[..., Any], begin: Open) -> Any:
    def start(
        args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Callable[[], Any], Operation | None]:
        operation = begin(get_current(), args, kwargs) if live.on else None
        call = inner
        if operation is not None and operation.limit is not None:
            call = limited(inner, Shape.ASYNC_GENERATOR, operation.limit)
        return lambda: call(*args, **kwargs), operation

    return async_generator(start)
