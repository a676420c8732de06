from __future__ import annotations

import math
from decimal import Decimal
from enum import Enum
from typing import Any

import pytest

from otel_empathy.core.said import number_of, shown, text_of, whole_of


class Colour(str, Enum):
    RED = "red"


class Number(Enum):
    ONE = 1


class Proxy:
    """Stands for something else, as the proxies of web frameworks do."""

    def __init__(self, what: Any) -> None:
        self._what = what

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        if isinstance(self._what, Exception):
            raise self._what
        return type(self._what)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._what, name)

    def __str__(self) -> str:
        return str(self._what)

    def __index__(self) -> int:
        return self._what.__index__()  # type: ignore[no-any-return]

    def __float__(self) -> float:
        return float(self._what)


GONE = Proxy(RuntimeError("outside of its request"))


@pytest.mark.parametrize(
    ("given", "text", "words"),
    [
        ("red", "red", "red"),
        ("", "", ""),
        (Colour.RED, "red", "red"),
        (Number.ONE, None, "1"),
        (7, None, "7"),
        (b"red", None, "b'red'"),
    ],
)
def test_texts_are_read_and_the_rest_is_shown(given: Any, text: str | None, words: str) -> None:
    assert text_of(given) == text
    assert shown(given) == words
    assert type(shown(given)) is str


@pytest.mark.parametrize(
    ("given", "number", "whole"),
    [
        (7, 7.0, 7),
        (0.5, 0.5, None),
        (Decimal("0.5"), 0.5, None),
        (10**400, math.inf, 10**400),
        (-(10**400), -math.inf, -(10**400)),
        (True, None, None),
        ("7", None, None),
        (b"7", None, None),
        (None, None, None),
    ],
)
def test_numbers_are_read(given: Any, number: float | None, whole: int | None) -> None:
    assert number_of(given) == number
    assert whole_of(given) == whole


def test_a_proxy_is_what_it_stands_for() -> None:
    for told in (Proxy("red"), Proxy(Colour.RED)):
        assert (text_of(told), shown(told)) == ("red", "red")
    assert (number_of(Proxy(7)), whole_of(Proxy(7))) == (7.0, 7)
    truth = Proxy(what=True)
    assert (number_of(truth), whole_of(truth)) == (None, None)


@pytest.mark.fault("P9")
def test_what_hides_its_class_is_nothing() -> None:
    class Mute:
        def __str__(self) -> str:
            raise RuntimeError("no")

    assert (text_of(GONE), number_of(GONE), whole_of(GONE)) == (None, None, None)
    assert shown(Mute()) is None
