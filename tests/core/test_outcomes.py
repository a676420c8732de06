from __future__ import annotations

import asyncio
import concurrent.futures
from enum import Enum
from http import HTTPStatus
from typing import Any

import pytest

from otel_empathy.core.outcomes import Outcome, error_type, outcome_of


class ReadTimeout(Exception):
    pass


class Slow(ReadTimeout):
    pass


class Coded(Exception):
    def __init__(self, **given: Any) -> None:
        super().__init__("x")
        self.__dict__.update(given)


class Code(str, Enum):
    QUOTA = "quota_exceeded"


class Hostile(Exception):
    @property
    def code(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (None, Outcome.OK),
        (ValueError(), Outcome.ERROR),
        (TimeoutError(), Outcome.TIMEOUT),
        (asyncio.TimeoutError(), Outcome.TIMEOUT),
        (concurrent.futures.TimeoutError(), Outcome.TIMEOUT),
        (Slow(), Outcome.TIMEOUT),
        (asyncio.CancelledError(), Outcome.CANCELLED),
        (concurrent.futures.CancelledError(), Outcome.CANCELLED),
        (KeyboardInterrupt(), Outcome.CANCELLED),
        (SystemExit(), Outcome.CANCELLED),
        (GeneratorExit(), Outcome.ABANDONED),
    ],
)
def test_what_an_exception_means(error: BaseException | None, expected: Outcome) -> None:
    assert outcome_of(error) is expected


def test_only_errors_and_timeouts_are_failures() -> None:
    assert [outcome for outcome in Outcome if outcome.is_failure] == [
        Outcome.ERROR,
        Outcome.TIMEOUT,
    ]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError(), "ValueError"),
        (Coded(), f"{__name__}.Coded"),
        (Coded(code="rate_limit_exceeded", status_code=429), "rate_limit_exceeded"),
        (Coded(code=None, status_code=429), "429"),
        (Coded(code=404), "404"),
        (Coded(code=HTTPStatus.TOO_MANY_REQUESTS), "429"),
        (Coded(code=Code.QUOTA), "quota_exceeded"),
        (Coded(code=12), f"{__name__}.Coded"),
        (Coded(code=True), f"{__name__}.Coded"),
        (Coded(code="the key sk-1 is wrong"), f"{__name__}.Coded"),
        (Coded(code=lambda: 3), f"{__name__}.Coded"),
        (Coded(code="x" * 65), f"{__name__}.Coded"),
        (Hostile(), f"{__name__}.Hostile"),
        (SystemExit(3), "SystemExit"),
        ("rate_limit", "rate_limit"),
        ("a whole sentence", "_OTHER"),
        ("", "_OTHER"),
    ],
)
def test_names_of_errors_are_few(error: BaseException | str, expected: str) -> None:
    assert error_type(error) == expected
