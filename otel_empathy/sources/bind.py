"""Which attributes of a client library's object may be run on what stands in for it.

Streams have methods that read them (`get_final_message()`, `until_done()`, a `text_stream`). Run on
the stream itself they would pass us by, so those that are plain Python are bound to the stand-in,
whose reading they then do. What is written in C, or asks for the object's very type, stays where it
is. Nothing here reads, and no object is changed.
"""

from __future__ import annotations

import dis
import functools
import inspect
from types import (
    AsyncGeneratorType,
    CodeType,
    FrameType,
    FunctionType,
    GeneratorType,
    GetSetDescriptorType,
    MethodDescriptorType,
    MethodType,
)
from typing import Any, Final, Generic

__all__ = ["attribute_of", "hands_out", "reads"]

_ABSENT: Final = object()
_HEAP: Final = 1 << 9  # the flag of classes that a `class` statement made, and of few others
_LAYOUT: Final = frozenset({"__dict__", "__weakref__"})
_BEGINNING: Final = dis.opmap.get("RETURN_GENERATOR")
# Through these a function looks past whatever a stand-in can answer.
_STRICT: Final = frozenset({"type", "object"})
# What `with` needs, and what every class has; an object with more is more than a way to a stream.
_BARE: Final = frozenset(
    {
        "__init__", "__new__", "__del__", "__repr__", "__str__", "__init_subclass__",
        "__class_getitem__", "__subclasshook__", "__call__", "__annotate__", "__annotate_func__",
        "__enter__", "__exit__", "__aenter__", "__aexit__",
    }
)  # fmt: skip


def attribute_of(thing: Any, name: str, standin: Any, own: dict[str, Any]) -> tuple[Any, bool]:
    """An attribute, run on the stand-in where that is sound; and whether it is.

    Args:
        thing: Whose attribute it is.
        name: Its name.
        standin: What stands in for the thing.
        own: Where the stand-in keeps what must stay the same object.
    """
    kind: Any = type(thing)
    if not _plain(kind):
        return getattr(thing, name), False
    found = _of_class(kind, name)
    if type(found) is property and _bindable(found.fget):
        return found.fget(standin), True  # type: ignore[misc]
    held = getattr(thing, "__dict__", {}).get(name, _ABSENT)
    if held is _ABSENT:
        if _bindable(found):
            return MethodType(found, standin), True
        return getattr(thing, name), False
    if name not in own:
        # What is private the library may read itself, at the same time.
        again = None if name.startswith("_") else _anew(thing, held, standin)
        if again is None:
            return getattr(thing, name), False
        own[name] = again
    return own[name], True


def reads(value: Any) -> bool:
    """Whether something that was handed out may read the stream."""
    kind = type(value)
    return callable(value) or hasattr(kind, "__next__") or hasattr(kind, "__anext__")


@functools.lru_cache(maxsize=256)
def hands_out(kind: type) -> tuple[bool, bool, bool] | None:
    """Whether objects of a class that may hand out a stream are entered, awaited to be, called.

    It is None for a class of objects that can be used in any other way than by entering them.
    """
    enters, waits = hasattr(kind, "__enter__"), hasattr(kind, "__aenter__")
    if not (enters or waits) or not _plain(kind):
        return None
    for base in _bases(kind):
        for name, value in vars(base).items():
            special = name.startswith("__") and name.endswith("__") and callable(value)
            if special and name not in _BARE:
                return None
    return enters, waits, callable(getattr(kind, "__call__", None))  # noqa: B004 - of the class


def _anew(thing: Any, held: Any, standin: Any) -> Any:
    """The same generator over the stand-in, if nobody has begun to read the one that is there."""
    frame: FrameType | None
    if isinstance(held, GeneratorType):
        code, frame = held.gi_code, held.gi_frame
    elif isinstance(held, AsyncGeneratorType):
        code, frame = held.ag_code, held.ag_frame
    else:
        return None
    if frame is None or not _unbegun(frame, code) or _arguments(code) != 1:
        return None
    if frame.f_locals.get(code.co_varnames[0]) is not thing:
        return None
    for base in _bases(type(thing)):
        for value in vars(base).values():
            if _bindable(value) and value.__code__ is code:
                return value(standin)
    return None


def _unbegun(frame: FrameType, code: CodeType) -> bool:
    return frame.f_lasti < 0 or code.co_code[frame.f_lasti] == _BEGINNING


def _arguments(code: CodeType) -> int:
    more = inspect.CO_VARARGS | inspect.CO_VARKEYWORDS
    return -1 if code.co_flags & more else code.co_argcount + code.co_kwonlyargcount


def _of_class(kind: type, name: str) -> Any:
    for base in kind.__mro__:
        if name in vars(base):
            return vars(base)[name]
    return None


def _bases(kind: type) -> list[type]:
    return [base for base in kind.__mro__ if base is not object and base is not Generic]


@functools.lru_cache(maxsize=256)
def _plain(kind: type) -> bool:
    """Whether a class is Python all the way down, with no word of its own on what is looked up."""
    for base in _bases(kind):
        known = vars(base)
        if not base.__flags__ & _HEAP or "__getattribute__" in known:
            return False
        for name, value in known.items():
            if isinstance(value, MethodDescriptorType):
                return False
            if isinstance(value, GetSetDescriptorType) and name not in _LAYOUT:
                return False
    return True


@functools.lru_cache(maxsize=2_048)
def _sound(code: CodeType) -> bool:
    return not any(
        step.opname in {"LOAD_GLOBAL", "LOAD_NAME"} and step.argval in _STRICT
        for step in dis.get_instructions(code)
    )


def _bindable(value: Any) -> bool:
    return isinstance(value, FunctionType) and _sound(value.__code__)
