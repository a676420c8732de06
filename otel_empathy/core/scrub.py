"""Masks secrets in text and in nested values, before anything leaves the process.

Owns the walk and the masking. What is a secret is known by its shape (`secret_shapes`: tokens, key
blocks, headers, cookies, credentials in URLs and commands, payment cards) or by the name before it
(`secret_names`: passwords, keys). A secret becomes `[scrubbed:<pattern>]`. Personal data is no
business of it, and a random word without name or shape is not recognised. Ordinary text, numbers,
ids and model names pass unchanged.

How it is fast: one scan finds the long runs of characters that every token needs; the table is only
asked when its literals occur in those, and the named secrets are looked for where their names are
found. No expression can backtrack over more than a bounded stretch.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from otel_empathy.core.errors import WrongValue
from otel_empathy.core.secret_names import NAMES, names_secret
from otel_empathy.core.secret_shapes import MASK, SHAPES, Span

__all__ = ["Scrubber", "beginning", "ending"]

_SHORTEST: Final = 6
_REMEMBERED: Final = 4096  # clean texts, of at most _SHORT characters
_SHORT: Final = 128
_DEPTH: Final = 64
_BEYOND: Final = 4096  # longer than a token; keys in blocks are known by their first line
_LOOKS: Final = (*SHAPES, *NAMES)


class Scrubber:
    """Masks secrets; `hits` counts what was masked, by pattern.

        scrub = Scrubber(extra=[("employee", "EMP-[0-9]{6}")])
        scrub("redis://app:hunter2@db/0")       # redis://app:[scrubbed:url-password]@db/0

    Args:
        extra: Names and regular expressions of secrets that only this application has. Where one
            has groups, the first is masked, otherwise the whole match.

    Raises:
        WrongValue: An expression of `extra` is none.
    """

    __slots__ = ("_clean", "_extra", "hits")

    def __init__(self, extra: Iterable[tuple[str, str]] = ()) -> None:
        self._extra = [(name, _compiled(name, shape)) for name, shape in extra]
        self._clean: set[str] = set()
        self.hits: Counter[str] = Counter()

    def __call__(self, text: str) -> str:
        """The text without its secrets."""
        if len(text) < _SHORTEST or (len(text) <= _SHORT and text in self._clean):
            return text
        spans = self._spans(text)
        if spans:
            return self._masked(text, spans)
        if len(text) <= _SHORT:
            if len(self._clean) >= _REMEMBERED:
                self._clean.clear()
            self._clean.add(text)
        return text

    def value(self, value: Any) -> Any:
        """The same structure of dicts, lists, tuples, texts and bytes, without its secrets."""
        return self._value(value, 0)

    def pair(self, key: str, value: Any) -> Any:
        """The value without its secrets, or no value at all under a key that names a secret."""
        return self._pair(key, value, 0)

    def _value(self, value: Any, depth: int) -> Any:
        if isinstance(value, str):
            return self(value)
        if isinstance(value, bytes | bytearray):
            text = value.decode("utf-8", "surrogateescape")
            return type(value)(self(text).encode("utf-8", "surrogateescape"))
        if isinstance(value, dict | list | tuple) and depth >= _DEPTH:
            return f"{MASK}depth]"
        if isinstance(value, dict):
            return {
                self._value(key, depth + 1): self._pair(key, item, depth + 1)
                for key, item in value.items()
            }
        if isinstance(value, list):
            return list(self._items(value, depth + 1))
        if isinstance(value, tuple):
            return tuple(self._items(value, depth + 1))
        return value

    def _items(self, items: Iterable[Any], depth: int) -> Iterator[Any]:
        """The items; in a command line the one after `--password` is what it names."""
        option = ""
        for item in items:
            yield self._pair(option, item, depth) if option else self._value(item, depth)
            named = isinstance(item, str) and item.startswith("--") and "=" not in item
            option = item.lstrip("-") if named else ""

    def _pair(self, key: Any, value: Any, depth: int) -> Any:
        if isinstance(key, str) and names_secret(key) and _can_be_secret(key, value):
            self.hits["field"] += 1
            return f"{MASK}field]"
        return self._value(value, depth)

    def _masked(self, text: str, spans: list[Span]) -> str:
        spans.sort(key=lambda span: span[0])
        parts: list[str] = []
        done = 0
        start, end, name = spans[0]
        for next_start, next_end, next_name in (*spans[1:], (len(text) + 1, 0, "")):
            if next_start < end:
                end = max(end, next_end)
                continue
            parts += (text[done:start], MASK, name, "]")
            # Not exact when threads count at once: a lock that a fork leaves held would be worse.
            self.hits[name] += 1
            done = end
            start, end, name = next_start, next_end, next_name
        parts.append(text[done:])
        return "".join(parts)

    def _spans(self, text: str) -> list[Span]:
        low = text.lower()
        if len(low) != len(text):  # the dotted capital I is the one letter that grows
            low = text.replace("\u0130", "i").lower()
        found: list[Span] = []
        for anchor, look in _LOOKS:
            if anchor in low:
                look(text, low, found)
        for name, shape in self._extra:
            for match in shape.finditer(text):
                start, end = match.span(1 if shape.groups else 0)
                if end > start:
                    found.append((start, end, name))
        return found


def beginning(text: str, most: int, scrub: Callable[[str], str]) -> str:
    """At most that many characters of a text without its secrets, and no half of one at the cut."""
    if len(text) <= most + _BEYOND:
        return scrub(text)[:most]
    # The half of a secret at the end of what is looked at may not be recognised, so it goes; what
    # was masked before it does not let it move up.
    return scrub(text[: most + _BEYOND])[:-_BEYOND][:most]


def ending(text: str, most: int, scrub: Callable[[str], str]) -> str:
    """The same for the last characters of a text."""
    if len(text) <= most + _BEYOND:
        return scrub(text)[-most:]
    return scrub(text[-most - _BEYOND :])[_BEYOND:][-most:]


def _compiled(name: str, shape: str) -> re.Pattern[str]:
    try:
        return re.compile(shape)
    except re.error as error:
        raise WrongValue(f"{shape!r} for {name!r} is no regular expression: {error}") from error


def _can_be_secret(key: str, value: Any) -> bool:
    if value is None or isinstance(value, bool) or value in ("", b"", [], (), {}):
        return False
    if not isinstance(value, str):
        return True
    working_directory = value.startswith("/") and key.lower().endswith("pwd")
    return not (working_directory or value.startswith(MASK))
