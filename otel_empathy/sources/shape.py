"""Which of the four call shapes a callable has, and what to call it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from enum import Enum
from typing import Any

from otel_empathy.core.errors import WrongType

__all__ = ["Shape", "checked", "description_of", "name_of", "shape_of"]

_DESCRIPTION = 1024


class Shape(Enum):
    """How a callable delivers what it makes."""

    FUNCTION = "function"
    COROUTINE = "coroutine"
    GENERATOR = "generator"
    ASYNC_GENERATOR = "async generator"


def shape_of(fn: Callable[..., Any]) -> Shape:
    """The shape of a function, a partial, or an object that can be called."""
    plain: Any = fn
    while isinstance(plain, functools.partial):
        plain = plain.func
    if not inspect.isroutine(plain):
        plain = type(plain).__call__
    if inspect.isasyncgenfunction(plain):
        return Shape.ASYNC_GENERATOR
    if inspect.iscoroutinefunction(plain) or inspect.iscoroutinefunction(fn):
        return Shape.COROUTINE
    code = getattr(plain, "__code__", None)
    if getattr(code, "co_flags", 0) & inspect.CO_ITERABLE_COROUTINE:  # of @types.coroutine
        return Shape.COROUTINE
    if inspect.isgeneratorfunction(plain):
        return Shape.GENERATOR
    return Shape.FUNCTION


def name_of(fn: Callable[..., Any]) -> str:
    """What a callable is called where nobody names it."""
    plain: Any = fn
    while isinstance(plain, functools.partial):
        plain = plain.func
    name = getattr(plain, "__name__", None)
    return name if isinstance(name, str) else type(plain).__name__


def description_of(fn: Callable[..., Any]) -> str | None:
    """What a function says it does: the first paragraph of its docstring, in one line."""
    plain: Any = fn
    while isinstance(plain, functools.partial):
        plain = plain.func
    text = inspect.getdoc(plain) if inspect.isroutine(plain) else None
    first = " ".join(text.partition("\n\n")[0].split()) if text else ""
    return first[:_DESCRIPTION] or None


def checked(fn: Any, *, by: str) -> Callable[..., Any]:
    """Something that can be decorated.

    Raises:
        WrongType: It is a class, or cannot be called.
    """
    if isinstance(fn, type) or not callable(fn):
        raise WrongType(f"{by} cannot decorate {fn!r}: give it a function, method or callable")
    plain: Callable[..., Any] = fn
    return plain
