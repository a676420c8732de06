"""Anything becomes JSON, within its budget, and nothing that it does stops the caller."""

from __future__ import annotations

import base64
import enum
import hashlib
import json
import math
import sys
import types
import uuid
from collections import OrderedDict, deque, namedtuple
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePosixPath
from typing import Any, NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import SECRETS

from otel_empathy.core.scrub import Scrubber
from otel_empathy.core.serialize import Budget, blob, clean, cut, plain, to_json


class Hostile:
    """Fails at everything that could be asked of it."""

    def __init__(self, error: type[BaseException] = ValueError) -> None:
        object.__setattr__(self, "error", error)

    def fail(self, *_: Any, **__: Any) -> NoReturn:
        raise object.__getattribute__(self, "error")

    __repr__ = __str__ = __iter__ = __len__ = __bool__ = __eq__ = __hash__ = fail  # type: ignore[assignment]
    __getattr__ = __getitem__ = __call__ = __format__ = __index__ = fail  # type: ignore[assignment]


class HostileDict(dict[str, int]):
    def __iter__(self) -> NoReturn:
        raise ValueError

    __len__ = items = keys = __getitem__ = __iter__  # type: ignore[assignment]


class HostileList(list[int]):
    def __iter__(self) -> NoReturn:
        raise ValueError

    __len__ = __getitem__ = __iter__  # type: ignore[assignment]


class HostileText(str):
    __slots__ = ()

    def __str__(self) -> NoReturn:
        raise ValueError

    __len__ = encode = isascii = __str__  # type: ignore[assignment]


class Model:
    def __init__(self, content: Any) -> None:
        self.content = content

    def model_dump(self) -> Any:
        if isinstance(self.content, Exception):
            raise self.content
        return self.content


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


@dataclass
class Point:
    x: int
    y: Any


Pair = namedtuple("Pair", "left right")  # noqa: PYI024 - the untyped kind exists too


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (0, 0),
        ("", ""),
        ([], []),
        ({}, {}),
        (2**63, 2**63),
        (-(2**63) - 1, str(-(2**63) - 1)),
        (2**64, str(2**64)),
        (math.nan, "NaN"),
        (math.inf, "Infinity"),
        (-math.inf, "-Infinity"),
        (1.5, 1.5),
        (Decimal("0.10"), "0.10"),
        (Fraction(1, 3), "1/3"),
        (date(2026, 1, 31), "2026-01-31"),
        (datetime(2026, 1, 31, 1, 2, 3, tzinfo=timezone.utc), "2026-01-31T01:02:03+00:00"),
        (timedelta(minutes=1.5), 90.0),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (PurePosixPath("/a/b"), "/a/b"),
        (Colour.RED, "red"),
        (Level.LOW, 1),
        ((1, 2), [1, 2]),
        ({3}, [3]),
        (deque([1]), [1]),
        (range(3), [0, 1, 2]),
        ({"a": 1}.keys(), ["a"]),
        ({"a": 1}.items(), [["a", 1]]),
        (OrderedDict(a=1), {"a": 1}),
        (types.MappingProxyType({"a": 1}), {"a": 1}),
        (Point(1, [2]), {"x": 1, "y": [2]}),
        (Pair(1, 2), {"left": 1, "right": 2}),
        (Model({"a": Model({"b": 1})}), {"a": {"b": 1}}),
        (Model([Model("root")]), ["root"]),
        (ValueError("bad", 3), "ValueError: bad, 3"),
        (KeyError(), "KeyError"),
        ({1: "a", None: "b", False: "c", Colour.RED: "d", (1, 2): "e"},
         {"1": "a", "null": "b", "false": "c", "red": "d", "[1,2]": "e"}),
        (HostileDict(a=1), {"a": 1}),
        (HostileList([1]), [1]),
        (HostileText("ada"), "ada"),
        ("\ud83d\ude00 \ud800", "\U0001f600 \ufffd"),
    ],
    ids=repr,
)  # fmt: skip
def test_data_keeps_its_meaning(value: Any, expected: Any) -> None:
    assert plain(value) == (expected, False)
    text, truncated = to_json(value)
    assert (json.loads(text), truncated) == (expected, False)


def test_what_is_no_data_is_shown_as_its_type() -> None:
    def generator() -> Any:
        yield 1

    consumed = iter([1, 2])
    paused = generator()
    shown, truncated = plain([object(), len, Point, paused, consumed, sys, Hostile(), Ellipsis])
    assert shown == [
        "<object>", "<builtin_function_or_method>", f"<{__name__}.Point>", "<generator>",
        "<list_iterator>", "<module>", f"<{__name__}.Hostile>", "<ellipsis>",
    ]  # fmt: skip
    assert not truncated
    assert next(consumed) == 1
    assert next(paused) == 1


@pytest.mark.fault("P9")
def test_no_repr_or_str_of_a_class_is_ever_called() -> None:
    called = []

    class Slow:
        def __repr__(self) -> str:
            called.append("repr")
            return "slow"

        __str__ = __repr__

    to_json([Slow(), {"a": Slow()}, {Slow(): 1}, ValueError(Slow())])
    assert called == []


@pytest.mark.fault("P9")
@pytest.mark.parametrize("error", [ValueError, RecursionError, MemoryError, StopIteration])
def test_an_object_that_fails_at_everything_is_survived(error: type[Exception]) -> None:
    text, _ = to_json({"a": Hostile(error), "b": [Hostile(error)], "c": 1})
    assert json.loads(text)["c"] == 1


def test_code_of_a_class_that_fails_is_marked() -> None:
    assert plain(Model(ValueError("x"))) == ("<error: ValueError>", True)


def test_a_structure_that_contains_itself_is_cut() -> None:
    loop: dict[str, Any] = {"n": 1}
    loop["self"] = loop
    assert plain(loop) == ({"n": 1, "self": "<cycle>"}, True)
    shared = [1]
    assert plain([shared, shared]) == ([[1], [1]], False)


def test_a_model_that_unfolds_for_ever_is_cut_by_depth() -> None:
    class Endless:
        def model_dump(self) -> Any:
            return {"next": Endless()}

    class Mirror:
        def model_dump(self) -> Any:
            return Mirror()

    assert '"<depth>"' in to_json(Endless())[0]
    assert to_json(Mirror()) == ('"<depth>"', True)


def test_the_end_of_the_stack_is_survived() -> None:
    def down(levels: int) -> tuple[str, bool]:
        try:
            return down(levels + 1)
        except RecursionError:
            return to_json({"a": [{"b": [1]}]})

    text, _ = down(0)
    assert json.loads(text) is not None


@pytest.mark.fault("H5")
def test_each_limit_is_marked_and_told() -> None:
    deep: list[Any] = []
    for _ in range(1000):
        deep = [deep]
    for value, mark in (
        ("x" * 10_000_000, "characters>"),
        ({str(n): n for n in range(10_000)}, "<+9872 keys>"),
        (list(range(1_000_000)), "<+998976 items>"),
        (deep, "<depth>"),
        (10**10_000, "bits>"),
        (["x" * 8000] * 1000, "items>"),
    ):
        text, truncated = to_json(value)
        assert truncated
        assert mark in text
        assert len(text.encode()) <= 131_072


def test_a_text_is_cut_between_characters_and_says_how_many_are_missing() -> None:
    short, truncated = plain("é" * 10_000)
    assert truncated
    assert len(short.encode()) <= 8192
    kept, _, rest = short.partition("<+")
    assert set(kept) == {"é"}
    assert int(rest.removesuffix(" characters>")) == 10_000 - len(kept)
    assert plain("é" * 4096) == ("é" * 4096, False)


def test_a_text_that_escapes_make_longer_still_fits() -> None:
    text, truncated = to_json(["\x00" * 8000] * 16)
    assert truncated
    assert len(text) <= 131_072
    assert to_json("é" * 100, budget=Budget(total=0)) == ('"<size>"', True)


@pytest.mark.parametrize(
    ("data", "mime"),
    [
        (b"\x89PNG\r\n\x1a\n123", "image/png"),
        (b"RIFF1234WAVEfmt", "audio/wav"),
        (b"\x00\x00\x00\x18ftypmp42", "video/mp4"),
        (b"just bytes", None),
    ],
)
def test_bytes_become_their_kind_size_and_digest(data: bytes, mime: str | None) -> None:
    expected = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    if mime is not None:
        expected = {"mime": mime, **expected}
    assert plain(data)[0] == plain(bytearray(data))[0] == plain(memoryview(data))[0] == expected
    assert blob(memoryview(data)[::-1], mime="a/b")["bytes"] == len(data)


def test_a_data_url_becomes_what_its_bytes_become() -> None:
    data = bytes(range(256)) * 4
    url = "data:image/png;base64," + base64.b64encode(data).decode()
    assert plain({"url": url})[0] == {"url": blob(data, mime="image/png")}
    broken = url[:-3]
    assert plain(broken)[0] == broken


def test_keys_that_read_the_same_are_both_kept() -> None:
    assert plain({1: "a", "1": "b"})[0] == {"1": "a", "1#1": "b"}


def test_a_long_key_is_cut() -> None:
    found, truncated = plain({"k" * 1000: 1})
    assert truncated
    assert len(next(iter(found))) <= 256


def test_a_text_without_lone_surrogates_is_the_same_object() -> None:
    for text in ("plain", "élan \U0001f600"):
        assert clean(text) is text
    assert cut("abc", 3) == ("abc", False)


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.binary()
    | st.decimals()
    | st.datetimes()
    | st.builds(Hostile)
    | st.builds(object),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner)
        | st.dictionaries(st.text(st.characters()) | st.integers() | st.none(), inner)
        | st.builds(Point, st.integers(), inner)
        | st.builds(Model, inner)
    ),
    max_leaves=30,
)


@given(value=ANYTHING, total=st.integers(0, 3000), width=st.integers(0, 200), n=st.integers(0, 6))
@settings(max_examples=400, deadline=None)
def test_anything_becomes_json_within_any_budget(
    value: Any, total: int, width: int, n: int
) -> None:
    text, _ = to_json(value, budget=Budget(value=width, keys=n, depth=n, total=total, items=n))
    json.loads(text)
    assert len(text.encode()) <= max(total, 30)
    assert "\n" not in text


@given(value=ANYTHING)
@settings(max_examples=200, deadline=None)
def test_what_was_not_cut_is_found_again(value: Any) -> None:
    found, truncated = plain(value)
    text, cut_too = to_json(value)
    if not truncated and not cut_too:
        assert json.loads(text) == found


@pytest.mark.fault("C1")
def test_texts_are_scrubbed_before_they_are_cut() -> None:
    scrub = Scrubber()
    hidden = SECRETS["github"][0]
    for before in range(8100, 8200, 3):
        text = "x" * before + f" {hidden} and more"
        kept, missing = plain({"deep": [text]}, scrub=scrub)
        assert missing == (len(text) > 8192)
        assert hidden[:4] not in scrub(kept["deep"][0])
    kept, missing = plain("é" * 9000, scrub=scrub)
    assert missing
    assert kept.endswith("characters>")
    assert len(kept.encode()) <= 8192
    assert plain("x" * 8192, scrub=scrub) == ("x" * 8192, False)
