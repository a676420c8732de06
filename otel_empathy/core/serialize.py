"""Any Python object as JSON, within a budget, without ever raising.

Owns what becomes of each kind of object and how much of it is kept. It runs almost no code of the
object's class: a `__repr__` that raises can be survived, one that takes ten seconds cannot be
interrupted, so it is never called. What is not data is shown as its type, `<app.Bot>`.

| object | JSON |
|---|---|
| text, numbers, true, false, null | itself; as text: NaN, infinities, integers beyond 64 bits |
| mapping, dataclass, named tuple, `model_dump()` (pydantic) | object |
| list, tuple, set, deque, range, views of a dict | array |
| enum | its value |
| date, time, UUID, path, decimal, fraction | text; a time span its seconds |
| bytes, `data:` URLs in base64 | `{"mime", "bytes", "sha256"}`, without `mime` when unknown |
| exception | `"ValueError: its arguments"` |
| numpy scalar | its number |
| everything else: generators (not consumed), files, classes, functions | `"<module.Class>"` |

Cut places say so: `<+12345 characters>`, `<+9872 keys>`, `<+998976 items>`, `<depth>`, `<cycle>`,
`<size>`, `<error: ValueError>` where the class's own code failed. Lone surrogates become U+FFFD.
"""

from __future__ import annotations

import binascii
import hashlib
import json
import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sized
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from itertools import islice
from pathlib import PurePath
from typing import Any, Final
from uuid import UUID

from otel_empathy.core.scrub import beginning

__all__ = ["Budget", "blob", "clean", "cut", "plain", "to_json"]

JSON = Any  # str | int | float | bool | None | list | dict, all the way down

_KEY: Final = 256
_MARK: Final = 32
_DATA_URL: Final = 256
_INT64: Final = 1 << 63
_UINT64: Final = 1 << 64
_MAGIC: Final = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"%PDF-", "application/pdf"),
    (b"OggS", "audio/ogg"),
    (b"fLaC", "audio/flac"),
    (b"ID3", "audio/mpeg"),
    (b"\x1aE\xdf\xa3", "video/webm"),
    (b"PK\x03\x04", "application/zip"),
    (b"\x1f\x8b", "application/gzip"),
)
_RIFF: Final = {b"WAVE": "audio/wav", b"WEBP": "image/webp", b"AVI ": "video/x-msvideo"}
_TEXTUAL: Final = (UUID, PurePath, Decimal, Fraction)
_VIEWS: Final[tuple[Any, ...]] = (type({}.keys()), type({}.values()), type({}.items()))
_ARRAYS: Final[tuple[Any, ...]] = (list, tuple, set, frozenset, deque, range, *_VIEWS)


@dataclass(frozen=True, slots=True)
class Budget:
    """How much of an object is kept.

    Args:
        value: Bytes of one text.
        keys: Keys of one object.
        depth: Levels of nesting.
        total: Bytes of the whole JSON text.
        items: Items of one array.
    """

    value: int = 8192
    keys: int = 128
    depth: int = 8
    total: int = 131_072
    items: int = 1024


_DEFAULT: Final = Budget()
_NESTED: Final = frozenset({dict, list, tuple})  # asked for first, because most values are these


def to_json(value: Any, *, budget: Budget = _DEFAULT) -> tuple[str, bool]:
    """The JSON text of anything, and whether something was cut."""
    try:
        return _to_json(value, budget)
    except Exception as error:  # noqa: BLE001 - such as a RecursionError at the end of the stack
        return f'"<error: {type(error).__name__}>"', True


def _to_json(value: Any, budget: Budget) -> tuple[str, bool]:
    found, truncated = plain(value, budget=budget)
    text = _dumps(found)
    total = budget.total
    # The budget of `plain` counts characters before JSON escapes them, so the text may be longer.
    while len(text) > budget.total or len(text.encode()) > budget.total:
        total //= 2
        if total == 0:
            return '"<size>"', True
        found, truncated = plain(value, budget=replace(budget, total=total))
        text = _dumps(found)
    return text, truncated


def plain(
    value: Any, *, budget: Budget = _DEFAULT, scrub: Callable[[str], str] | None = None
) -> tuple[JSON, bool]:
    """Anything as an object that JSON knows, and whether something was cut.

    Args:
        value: The object.
        budget: How much of it is kept.
        scrub: Masks secrets in texts that are cut, before they are: half a secret looks like none.
    """
    walk = _Walk(budget, scrub)
    return walk.any(value, 0), walk.truncated


def blob(data: bytes | bytearray | memoryview, *, mime: str | None = None) -> dict[str, Any]:
    """What stands for bytes: kind, length and digest, never the content."""
    view = memoryview(data)
    view = view.cast("B") if view.c_contiguous else memoryview(view.tobytes())
    kind = mime or _mime(bytes(view[:12]))
    known = {} if kind is None else {"mime": kind}
    return {**known, "bytes": view.nbytes, "sha256": hashlib.sha256(view).hexdigest()}


def clean(text: str) -> str:
    """A text that UTF-8 can carry: surrogates that stand alone become U+FFFD."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def cut(text: str, limit: int, *, gone: int = 0) -> tuple[str, bool]:
    """A clean text of at most that many bytes, and whether something of it is missing.

    Args:
        text: The text.
        limit: Bytes that it may have.
        gone: Characters behind it that were cut off before.
    """
    if not gone and len(text) * 4 <= limit:
        return clean(text), False
    short = clean(text[: limit + 1])
    data = short.encode()
    if not gone and len(data) <= limit:
        return short, False
    kept = data[: max(limit - _MARK, 0)].decode("utf-8", "ignore")
    return f"{kept}<+{len(text) + gone - len(kept)} characters>"[:limit], True


class _Walk:
    """One pass over an object; counts down the bytes that are left."""

    __slots__ = ("_above", "_budget", "_left", "_scrub", "truncated")

    def __init__(self, budget: Budget, scrub: Callable[[str], str] | None = None) -> None:
        self._budget = budget
        self._scrub = scrub
        self._left = budget.total
        self._above: set[int] = set()
        self.truncated = False

    def any(self, value: Any, depth: int) -> JSON:
        try:
            return self._any(value, depth)
        except Exception as error:  # noqa: BLE001 - code of the object's class may raise anything
            return self._marked(f"<error: {type(error).__name__}>")

    def _any(self, value: Any, depth: int) -> JSON:
        kind = type(value)
        if value is None or kind is bool:
            self._left -= 5
            return value
        if kind is str:
            return self._text(value)
        if self._left <= 0:
            return self._marked("<size>")
        if kind in _NESTED:
            return self._nested(value, kind, depth)
        if issubclass(kind, Enum):
            return self.any(object.__getattribute__(value, "_value_"), depth)
        if issubclass(kind, str):
            return self._text(str.__str__(value))
        if issubclass(kind, int):
            return self._int(int.__index__(value))
        if issubclass(kind, float):
            return self._float(float.__float__(value))
        if (simple := self._simple(value, kind)) is not None:
            return simple
        return self._nested(value, kind, depth)

    def _nested(self, value: Any, kind: type, depth: int) -> JSON:
        if id(value) in self._above:
            return self._marked("<cycle>")
        if depth >= self._budget.depth:
            return self._marked("<depth>")
        self._above.add(id(value))
        try:
            if kind not in _NESTED and hasattr(kind, "model_dump"):
                dumped = value.model_dump()
                endless = hasattr(type(dumped), "model_dump")
                return self.any(dumped, depth + 1 if endless else depth)
            pairs = None if kind is list else _pairs(value, kind)
            if pairs is not None:
                return self._object(pairs, depth + 1)
            base = next((base for base in _ARRAYS if issubclass(kind, base)), None)
            if base is not None:
                return self._array(base.__iter__(value), base.__len__(value), depth + 1)
        finally:
            self._above.discard(id(value))
        return self._marked(_type_mark(value if issubclass(kind, type) else kind), cut=False)

    def _object(self, pairs: Iterable[tuple[Any, Any]], depth: int) -> JSON:
        found: dict[str, JSON] = {}
        self._left -= 2
        size = len(pairs) if isinstance(pairs, Sized) else 0
        # Taken at once, so that a dict which another thread changes is read as it was.
        for number, (key, item) in enumerate(list(islice(pairs, self._budget.keys + 1))):
            if number == self._budget.keys or self._left <= 0:
                left = f"<+{size - number} keys>" if size else "<+keys>"
                found[self._marked(left)] = None
                break
            usual = type(key) is str and len(key) <= _KEY and key.isascii()
            name = key if usual else self._key(key)
            if name in found:
                name = f"{name}#{number}"
            self._left -= len(name) + 4
            found[name] = self.any(item, depth)
        return found

    def _array(self, items: Iterable[Any], size: int, depth: int) -> JSON:
        found: list[JSON] = []
        self._left -= 2
        for number, item in enumerate(list(islice(items, self._budget.items + 1))):
            if number == self._budget.items or self._left <= 0:
                found.append(self._marked(f"<+{size - number} items>"))
                break
            self._left -= 1
            found.append(self.any(item, depth))
        return found

    def _key(self, key: Any) -> str:
        kind = type(key)
        if issubclass(kind, Enum):
            key = object.__getattribute__(key, "_value_")
            kind = type(key)
        if issubclass(kind, str):
            name, short = cut(str.__str__(key), _KEY)
        else:
            inner = _Walk(Budget(value=_KEY, keys=8, depth=2, total=_KEY, items=8))
            name, short = cut(_dumps(inner.any(key, 0)).strip('"'), _KEY)
            short = short or inner.truncated
        self.truncated = self.truncated or short
        return name

    def _text(self, text: str) -> JSON:
        if len(text) > _DATA_URL and text.startswith("data:") and ";base64," in text[:128]:
            head, _, encoded = text.partition(";base64,")
            with suppress(ValueError):  # then it is a text like any other
                return self._blob(binascii.a2b_base64(encoded), head[5:].partition(";")[0])
        limit = max(min(self._budget.value, self._left), 0)
        gone = 0
        if self._scrub is not None and (len(text) > limit or not text.isascii()):
            gone = max(len(text) - limit, 0)
            text = beginning(text, limit, self._scrub)
        short, missing = cut(text, limit, gone=gone)
        self.truncated = self.truncated or missing
        self._left -= len(short) + 3
        return short if short or not text else "<size>"

    def _int(self, number: int) -> JSON:
        self._left -= 8
        if -_INT64 <= number < _UINT64:
            return number
        if number.bit_length() > _KEY * 8:
            return self._marked(f"<{number.bit_length()} bits>")
        return str(number)

    def _float(self, number: float) -> JSON:
        self._left -= 12
        if math.isfinite(number):
            return number
        if number != number:  # noqa: PLR0124 - only NaN differs from itself
            return "NaN"
        return "Infinity" if number > 0 else "-Infinity"

    def _blob(self, value: Any, mime: str | None = None) -> JSON:
        self._left -= 128
        return blob(value, mime=mime)

    def _simple(self, value: Any, kind: type) -> JSON:
        if issubclass(kind, bytes | bytearray | memoryview):
            return self._blob(value)
        if issubclass(kind, datetime | date | time):
            return self._text(value.isoformat())
        if issubclass(kind, timedelta):
            return self._float(value.total_seconds())
        if issubclass(kind, _TEXTUAL):
            return self._text(str(value))
        if issubclass(kind, BaseException):
            return self._text(_exception(value, kind))
        if kind.__module__ == "numpy" and getattr(value, "ndim", None) == 0:
            return self.any(value.item(), self._budget.depth)
        return None

    def _marked(self, mark: str, *, cut: bool = True) -> str:
        self._left -= len(mark) + 3
        self.truncated = self.truncated or cut
        return mark


def _pairs(value: Any, kind: type) -> Iterable[tuple[Any, Any]] | None:
    """The keys and values of what is an object in JSON; None for everything else."""
    if issubclass(kind, dict):
        return dict.items(value)
    if hasattr(kind, "__dataclass_fields__"):
        return [(name, getattr(value, name, None)) for name in kind.__dataclass_fields__]
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return zip(kind._fields, tuple.__iter__(value), strict=False)
    if issubclass(kind, Mapping):
        return ((key, value[key]) for key in value)
    return None


def _exception(error: BaseException, kind: type) -> str:
    told = ", ".join(str(a) for a in error.args if type(a) in {str, int, float})
    return f"{kind.__qualname__}: {told}" if told else kind.__qualname__


def _type_mark(kind: type) -> str:
    module = type.__getattribute__(kind, "__module__")
    name = type.__getattribute__(kind, "__qualname__")
    prefix = f"{module}." if type(module) is str and module != "builtins" else ""
    return clean(f"<{prefix}{name}>"[:_KEY])


def _mime(start: bytes) -> str | None:
    if start[:4] == b"RIFF":
        return _RIFF.get(start[8:12])
    if start[4:8] == b"ftyp":
        return "video/mp4"
    return next((mime for magic, mime in _MAGIC if start.startswith(magic)), None)


def _dumps(value: JSON) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
