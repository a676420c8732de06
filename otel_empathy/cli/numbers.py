"""Numbers as people read them; a dash stands for what is unknown, never a 0."""

from __future__ import annotations

from decimal import Decimal

from otel_empathy.cli.screen import clean

__all__ = ["UNKNOWN", "count", "money", "percent", "size", "tokens"]

UNKNOWN = "-"
_CENT = Decimal("0.01")
_SHORT, _MILLION = 100_000, 1_000_000
_CODE = 8  # characters of a currency, which is whatever a sender says


def count(value: int | None) -> str:
    """A count with its thousands apart."""
    return UNKNOWN if value is None else f"{value:,}"


def tokens(value: int | None) -> str:
    """A number of tokens, shortened from 100,000 on: `1,840`, `412 k`, `3.2 M`."""
    if value is None or value < _SHORT:
        return count(value)
    if value < _MILLION:
        return f"{value / 1000:.0f} k"
    return f"{value / _MILLION:.1f} M"


def money(value: Decimal | float | None, currency: str = "USD") -> str:
    """An amount: cents for people, more digits where cents would hide it."""
    if value is None:
        return UNKNOWN
    amount = value if isinstance(value, Decimal) else Decimal(str(value))
    digits = 2 if amount == 0 or abs(amount) >= 1 else 4 if abs(amount) >= _CENT else 6
    sign = "-" if amount < 0 else ""
    mark = "$" if currency == "USD" else ""
    text = f"{sign}{mark}{abs(amount):,.{digits}f}"
    return text if mark else f"{text} {clean(currency, limit=_CODE)}"


def percent(ratio: float | None) -> str:
    """A ratio between 0 and 1 as percent."""
    return UNKNOWN if ratio is None else f"{ratio * 100:.1f} %"


def size(value: float | None) -> str:
    """A number of bytes."""
    if value is None:
        return UNKNOWN
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:  # noqa: PLR2004 - the step between units
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"
