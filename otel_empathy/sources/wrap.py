"""Wrapping: one place where a function becomes an observed one, whatever its shape.

A wrapped callable keeps its signature, its kind and its results; while telemetry is off it costs
one test. Nobody else in the product writes a wrapper.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Callable, Generator
from types import CoroutineType, TracebackType
from typing import Any, Final, TypeVar, cast

from opentelemetry.context import attach, detach, get_current

from otel_empathy.core.errors import WrongType
from otel_empathy.emit.context import restore
from otel_empathy.emit.live import live
from otel_empathy.emit.safety import guarded
from otel_empathy.emit.spans import Operation
from otel_empathy.sources.limit import limited
from otel_empathy.sources.shape import Shape, checked, name_of, shape_of
from otel_empathy.sources.stream import (
    AsyncStream,
    Stream,
    drive,
    drive_async,
    is_async_stream,
    is_stream,
)

__all__ = ["Block", "Guard", "Open", "wrap"]

F = TypeVar("F", bound=Callable[..., Any])
Open = Callable[[tuple[Any, ...], dict[str, Any]], "Operation | None"]
"""Begins the operation of one call, from its arguments; None leaves the call alone."""
Guard = Callable[[Callable[..., Any]], Callable[..., Any]]
"""A decorator that goes inside the span, so that its retries are part of the operation."""

_GUARD: Final = guarded("wrap")


def wrap(
    fn: Any,
    define: Callable[[Callable[..., Any]], Open],
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
        inner = guard(plain) if callable(guard) else None  # type: ignore[assignment]
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
    return wrapper


def _function(inner: Callable[..., Any], begin: Open) -> Any:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if not live.on:
            return inner(*args, **kwargs)
        operation = begin(args, kwargs)
        if operation is None:
            return inner(*args, **kwargs)
        token = attach(operation.context)
        try:
            if operation.limit is None:
                result = inner(*args, **kwargs)
            else:
                result = limited(inner, Shape.FUNCTION, operation.limit)(*args, **kwargs)
            return _delivered(result, operation)
        except BaseException as error:
            operation.fail(error)
            raise
        finally:
            detach(token)

    return wrapper


def _coroutine(inner: Callable[..., Any], begin: Open) -> Any:
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        if not live.on:
            return await inner(*args, **kwargs)
        operation = begin(args, kwargs)
        if operation is None:
            return await inner(*args, **kwargs)
        if operation.limit is None:
            return await _awaited(inner(*args, **kwargs), operation)
        bounded = limited(inner, Shape.COROUTINE, operation.limit)
        return await _awaited(bounded(*args, **kwargs), operation)

    return wrapper


async def _awaited(coroutine: Any, operation: Operation) -> Any:
    previous = get_current()
    token = attach(operation.context)
    try:
        result = _delivered(await coroutine, operation)
    except GeneratorExit as error:
        # Somebody dropped the coroutine; this may be another flow of control than its own.
        operation.fail(error)
        restore(operation.context, previous)
        raise
    except BaseException as error:
        operation.fail(error)
        detach(token)
        raise
    detach(token)
    return result


def _delivered(result: Any, operation: Operation) -> Any:
    """The result for the caller; one that is still to come keeps the operation open."""
    if type(result) is CoroutineType:  # a plain function in front of a coroutine
        return _awaited(result, operation)
    if operation.streams:
        if is_stream(result):
            return cast("Any", Stream(result, operation))
        if is_async_stream(result):
            return cast("Any", AsyncStream(result, operation))
    operation.finish(result)
    return result


def _generator(inner: Callable[..., Any], begin: Open) -> Any:
    def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        operation = begin(args, kwargs) if live.on else None
        if operation is None:
            return (yield from inner(*args, **kwargs))
        return (yield from drive(_bounded(inner, Shape.GENERATOR, operation, args, kwargs), operation))

    return wrapper


def _async_generator(inner: Callable[..., Any], begin: Open) -> Any:
    async def wrapper(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        ...

    return wrapper
