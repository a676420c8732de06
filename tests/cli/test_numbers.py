from __future__ import annotations

from decimal import Decimal

import pytest

from otel_empathy.cli import numbers


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (Decimal(0), "$0.00"),
        (Decimal("12.346"), "$12.35"),
        (Decimal("1234.5"), "$1,234.50"),
        (Decimal("0.0123"), "$0.0123"),
        (Decimal("0.000061"), "$0.000061"),
        (Decimal(-2), "-$2.00"),
        (0.5, "$0.5000"),
    ],
)
def test_money_shows_what_cents_would_hide(value: Decimal | float | None, text: str) -> None:
    assert numbers.money(value) == text


def test_money_of_another_currency_is_named() -> None:
    assert numbers.money(Decimal("3.5"), "EUR") == "3.50 EUR"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0, "0"),
        (1840, "1,840"),
        (99_999, "99,999"),
        (412_345, "412 k"),
        (3_210_000, "3.2 M"),
    ],
)
def test_tokens_are_shortened_when_there_are_many(value: int | None, text: str) -> None:
    assert numbers.tokens(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 << 40, "3.0 TiB")],
)
def test_sizes_are_binary(value: int | None, text: str) -> None:
    assert numbers.size(value) == text


def test_an_unknown_ratio_is_no_zero() -> None:
    assert numbers.percent(None) == "-"
    assert numbers.percent(0.25) == "25.0 %"
