"""What calls used and cost: totals, groups, savings by tiers, two windows side by side.

Pure functions over cells (the sums that `store.cells` makes) and calls. Money is added up exactly
and rounded in reports only, to two places. Which calls belong to a window is decided before.
"""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Literal

from otel_empathy.core.errors import WrongValue
from otel_empathy.core.prices import Prices
from otel_empathy.core.usage import Usage
from otel_empathy.store.calls import Call
from otel_empathy.store.cells import Cell, Cells

__all__ = [
    "BY", "FALLBACK", "UNKNOWN", "By", "CompareView", "Method", "Row", "SavingsView", "Spent",
    "UsageView", "compare", "recent", "repriced", "savings", "usage",
]  # fmt: skip

By = Literal["model", "tier", "workflow", "provider", "user"]
Method = Literal["premium_mean", "repriced"]

UNKNOWN: Final = "unknown"  # the group of calls that do not say
PREMIUM: Final = "premium"
FALLBACK: Final = Decimal("0.05")  # USD a call, where no premium call tells what one costs
_DEFAULT_CURRENCY: Final = "USD"
_CENT: Final = Decimal("0.01")
_SIXTH: Final = Decimal("1e-6")
_NANO: Final = Decimal("1e-9")
_ZERO: Final = Decimal(0)
_COUNTS: Final = ("input", "output", "cache_read", "cache_write", "reasoning")
_ABSENT: Final = -1
_LARGEST: Final = (1 << 63) - 1
_MOST_CURRENCIES: Final = 1_000

BY: Final[dict[str, Callable[[Cell], str | None]]] = {
    "model": lambda cell: cell.model,
    "tier": lambda cell: cell.tier,
    "workflow": lambda cell: cell.workflow,
    "provider": lambda cell: cell.provider,
    "user": lambda cell: cell.user,
}


@dataclass(frozen=True, slots=True)
class Row:
    """Sums of one group of calls; `cost` is exact, and what the priced calls cost."""

    name: str
    calls: int
    cost: Decimal
    tokens_input: int
    tokens_output: int
    tokens_cached: int
    errors: int
    cache_hits: int
    unpriced_calls: int

    def as_dict(self) -> dict[str, Any]:
        """The row as JSON, money with six places."""
        return {
            "name": self.name,
            "calls": self.calls,
            "cost": float(self.cost.quantize(_SIXTH)),
            "tokens_input": self.tokens_input,
            "tokens_output": self.tokens_output,
            "tokens_cached": self.tokens_cached,
            "errors": self.errors,
            "cache_hits": self.cache_hits,
            "unpriced_calls": self.unpriced_calls,
        }


@dataclass(frozen=True, slots=True)
class UsageView:
    """What the calls of a window used and cost.

    Args:
        total_cost: Two places, in `currency`, over the calls whose price is known.
        exact_cost: The same, not rounded.
        other_costs: Sums in other currencies, which no sum of money contains.
        error_rate: Share of calls that failed, 0 to 1; None without calls.
        cache_hit_rate: Percent of calls that a local response cache answered, one place.
        latency_p50: Seconds.
        by_model: Cost sums; groups that calls do not name are `unknown`.
        rows: One per group that was asked for, the dearest first.
    """

    days: float | None
    total_calls: int
    total_cost: Decimal
    exact_cost: Decimal
    currency: str
    other_costs: dict[str, Decimal]
    tokens_input: int
    tokens_output: int
    tokens_cached: int
    errors: int
    error_rate: float | None
    cache_hits: int
    cache_misses: int
    cache_hit_rate: float | None
    latency_p50: float | None
    latency_p95: float | None
    by_tier: dict[str, Decimal]
    by_workflow: dict[str, Decimal]
    by_provider: dict[str, Decimal]
    by_model: dict[str, Decimal]
    unpriced_calls: int
    by: By | None = None
    rows: tuple[Row, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The view as JSON: sums of money with two places, unknown rates null."""
        report: dict[str, Any] = {
            "days": self.days,
            "total_calls": self.total_calls,
            "total_cost": float(self.total_cost),
            "currency": self.currency,
            "tokens_input": self.tokens_input,
            "tokens_output": self.tokens_output,
            "tokens_cached": self.tokens_cached,
            "errors": self.errors,
            "error_rate": self.error_rate,
            "cache_hits": self.cache_hits,
            "cache_misses": self.cache_misses,
            "cache_hit_rate": self.cache_hit_rate,
            "latency_p50": self.latency_p50,
            "latency_p95": self.latency_p95,
            "by_tier": _reported(self.by_tier),
            "by_workflow": _reported(self.by_workflow),
            "by_provider": _reported(self.by_provider),
            "by_model": _reported(self.by_model),
            "unpriced_calls": self.unpriced_calls,
        }
        if self.other_costs:
            report["other_costs"] = _reported(self.other_costs)
        if self.by is not None:
            report["by"] = self.by
            report["rows"] = [row.as_dict() for row in self.rows]
        return report


def usage(found: Cells, *, by: By | None = None, days: float | None = None) -> UsageView:
    """The usage view of the cells of a window.

    Raises:
        WrongValue: `by` names no group.
    """
    if by is not None and by not in BY:
        raise WrongValue(f"by={by!r}: choose one of {', '.join(BY)}, or None")
    cells = found.cells
    currency = _currency(cells)
    paid = [cell for cell in cells if (cell.currency or _DEFAULT_CURRENCY) == currency]
    others: dict[str, Decimal] = {}
    for cell in cells:
        name = cell.currency or _DEFAULT_CURRENCY
        if name != currency:
            others[name] = others.get(name, _ZERO) + cell.cost
    calls = sum(cell.calls for cell in cells)
    errors = sum(cell.errors for cell in cells)
    hits = sum(cell.hits for cell in cells)
    cost = sum((cell.cost for cell in paid), _ZERO)
    return UsageView(
        days=days,
        total_calls=calls,
        total_cost=cost.quantize(_CENT),
        exact_cost=cost,
        currency=currency,
        other_costs=others,
        tokens_input=sum(cell.input for cell in cells),
        tokens_output=sum(cell.output for cell in cells),
        tokens_cached=sum(cell.cached for cell in cells),
        errors=errors,
        error_rate=round(errors / calls, 4) if calls else None,
        cache_hits=hits,
        cache_misses=calls - hits,
        cache_hit_rate=round(100 * hits / calls, 1) if calls else None,
        latency_p50=found.durations.quantile(0.50),
        latency_p95=found.durations.quantile(0.95),
        by_tier=_costs(paid, "tier"),
        by_workflow=_costs(paid, "workflow"),
        by_provider=_costs(paid, "provider"),
        by_model=_costs(paid, "model"),
        unpriced_calls=calls - sum(cell.priced for cell in cells),
        by=by,
        rows=_rows(cells, by, currency) if by is not None else (),
    )


@dataclass(frozen=True, slots=True)
class SavingsView:
    """What the calls cost against what they would have cost on a premium model.

    Only calls whose cost is known are compared: an unknown cost is no saving.

    Args:
        savings_percent: One place; None when the baseline is 0.
        tier_distribution: Percent of calls by tier, one place.
        cache_savings: Hits of the response cache x mean cost of a call that was none.
        method: `premium_mean`, `premium_fallback` or `repriced`: where the baseline comes from.
        reference: The model whose prices were used, when repriced.
    """

    days: float | None
    method: Literal["premium_mean", "premium_fallback", "repriced"]
    actual_cost: Decimal
    baseline_cost: Decimal
    savings: Decimal
    savings_percent: float | None
    tier_distribution: dict[str, float]
    cache_savings: Decimal
    total_calls: int
    unpriced_calls: int
    currency: str = _DEFAULT_CURRENCY
    reference: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The view as JSON, money with two places."""
        return {
            "days": self.days,
            "method": self.method,
            "actual_cost": float(self.actual_cost.quantize(_CENT)),
            "baseline_cost": float(self.baseline_cost.quantize(_CENT)),
            "savings": float(self.savings.quantize(_CENT)),
            "savings_percent": self.savings_percent,
            "tier_distribution": self.tier_distribution,
            "cache_savings": float(self.cache_savings.quantize(_CENT)),
            "total_calls": self.total_calls,
            "unpriced_calls": self.unpriced_calls,
            "currency": self.currency,
            "reference": self.reference,
        }


def savings(found: Cells, *, days: float | None = None) -> SavingsView:
    """Savings against the mean cost of the window's premium calls, or 0.05 USD without any."""
    currency = _currency(found.cells)
    paid = [cell for cell in found.cells if (cell.currency or _DEFAULT_CURRENCY) == currency]
    premium = [cell for cell in paid if cell.tier == PREMIUM]
    known = sum(cell.priced for cell in premium)
    mean = sum((cell.cost for cell in premium), _ZERO) / known if known else FALLBACK
    baseline = mean * sum(cell.priced for cell in paid)
    return _savings(
        found.cells,
        baseline=baseline,
        method="premium_mean" if known else "premium_fallback",
        days=days,
    )


class Spent:
    """What pricing calls anew needs of them, kept while they are read for something else.

    The log is read once, and a reference may be known only at its end. A call whose cost is known
    takes some 60 bytes here, others none.
    """

    __slots__ = ("_costs", "_counts", "_currencies", "_hits", "_places", "_starts")

    def __init__(self) -> None:
        self._starts = array("Q")
        self._costs = array("q")  # billionths, as sums of money are exact to these
        self._hits = array("b")
        self._places = array("H")
        self._currencies: dict[str, int] = {}
        self._counts = {name: array("q") for name in _COUNTS}

    def of(self, calls: Iterable[Call]) -> Iterator[Call]:
        """The same calls, each noted before it is handed on."""
        for call in calls:
            if call.cost is not None:
                self._note(call, call.cost)
            yield call

    def _note(self, call: Call, cost: Decimal) -> None:
        currencies = self._currencies
        name = call.currency or _DEFAULT_CURRENCY
        if len(currencies) >= _MOST_CURRENCIES and name not in currencies:
            return  # names that nobody checks; no sum is made of them
        self._places.append(currencies.setdefault(name, len(currencies)))
        self._starts.append(call.start)
        self._costs.append(round(cost / _NANO))
        self._hits.append(call.cache_hit)
        for key, column in self._counts.items():
            value = getattr(call, key)
            column.append(_ABSENT if value is None else min(value, _LARGEST))

    def repriced(self, prices: Prices, provider: str | None, model: str, currency: str) -> Decimal:
        """What the calls in a currency would have cost on a model.

        A call that cannot be priced, or that a local cache answered, costs what it did.
        """
        total = _ZERO
        wanted = self._currencies.get(currency)
        rows = zip(self._places, self._starts, self._costs, self._hits, strict=True)
        for (place, start, cost, hit), counts in zip(
            rows, zip(*self._counts.values(), strict=True), strict=True
        ):
            if place != wanted:
                continue
            price = None
            if not hit:
                known = zip(_COUNTS, counts, strict=True)
                usage = Usage(**{key: n for key, n in known if n != _ABSENT})
                price = prices.cost(provider, model, usage, at_ns=start).amount
            total += cost * _NANO if price is None else price
        return total


def repriced(
    found: Cells,
    spent: Spent,
    prices: Prices,
    *,
    reference: str | None = None,
    days: float | None = None,
) -> SavingsView:
    """Savings against each call's own tokens at the prices of one premium model.

    A call whose tokens are not known counts with what it cost, and so saves nothing.

    Args:
        found: The sums of the window.
        spent: The calls of the same window.
        prices: The price table.
        reference: `provider/model`; unset, the premium model that was called most.
        days: The window, to be shown.

    Raises:
        WrongValue: There is no reference, or no price of it.
    """
    currency = _currency(found.cells)
    provider, model = _reference(found.cells, reference)
    rates = prices.rates(provider, model) if found.cells else None
    if found.cells and rates is None:
        raise WrongValue(
            f"reference={provider}/{model}: the price table does not know it; "
            "choose another premium model or add its prices"
        )
    if rates is not None and rates.currency != currency:
        raise WrongValue(
            f"reference={provider}/{model}: its prices are in {rates.currency}, the calls were "
            f"paid in {currency}; choose another premium model"
        )
    baseline = spent.repriced(prices, provider, model, currency)
    view = _savings(found.cells, baseline=baseline, method="repriced", days=days)
    name = f"{provider}/{model}" if found.cells else reference
    return SavingsView(
        **{slot: getattr(view, slot) for slot in view.__slots__ if slot != "reference"},
        reference=name,
    )


@dataclass(frozen=True, slots=True)
class CompareView:
    """Usage of two windows."""

    first: UsageView
    second: UsageView

    def as_dict(self) -> dict[str, Any]:
        """Both views as JSON."""
        return {"first": self.first.as_dict(), "second": self.second.as_dict()}


def compare(first: UsageView, second: UsageView) -> CompareView:
    """Two windows side by side."""
    return CompareView(first, second)


def recent(calls: Iterable[Call], limit: int = 20) -> list[Call]:
    """The newest calls, newest first.

    Raises:
        WrongValue: `limit` is negative.
    """
    if limit < 0:
        raise WrongValue(f"limit={limit}: give a number of calls from 0 on")
    return heapq.nlargest(limit, calls, key=lambda call: call.start)


def _currency(cells: list[Cell]) -> str:
    """The currency that most calls were paid in; sums of money must not mix them."""
    counts: dict[str, int] = {}
    for cell in cells:
        if cell.priced:
            name = cell.currency or _DEFAULT_CURRENCY
            counts[name] = counts.get(name, 0) + cell.priced
    return max(counts, key=lambda name: (counts[name], name == _DEFAULT_CURRENCY), default="USD")


def _costs(cells: list[Cell], by: str) -> dict[str, Decimal]:
    """Cost sums by group, the dearest first."""
    costs: dict[str, Decimal] = {}
    for cell in cells:
        name = BY[by](cell) or UNKNOWN
        costs[name] = costs.get(name, _ZERO) + cell.cost
    return dict(sorted(costs.items(), key=lambda item: (-item[1], item[0])))


def _rows(cells: list[Cell], by: str, currency: str) -> tuple[Row, ...]:
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(BY[by](cell) or UNKNOWN, []).append(cell)
    rows = [
        Row(
            name=name,
            calls=sum(cell.calls for cell in group),
            cost=sum(
                (c.cost for c in group if (c.currency or _DEFAULT_CURRENCY) == currency), _ZERO
            ),
            tokens_input=sum(cell.input for cell in group),
            tokens_output=sum(cell.output for cell in group),
            tokens_cached=sum(cell.cached for cell in group),
            errors=sum(cell.errors for cell in group),
            cache_hits=sum(cell.hits for cell in group),
            unpriced_calls=sum(cell.calls - cell.priced for cell in group),
        )
        for name, group in groups.items()
    ]
    return tuple(sorted(rows, key=lambda row: (-row.cost, -row.calls, row.name)))


def _savings(
    cells: list[Cell],
    *,
    baseline: Decimal,
    method: Literal["premium_mean", "premium_fallback", "repriced"],
    days: float | None,
) -> SavingsView:
    currency = _currency(cells)
    paid = [cell for cell in cells if (cell.currency or _DEFAULT_CURRENCY) == currency]
    actual = sum((cell.cost for cell in paid), _ZERO)
    calls = sum(cell.calls for cell in cells)
    hits = sum(cell.hits for cell in cells)
    # Hits are priced calls, and they cost nothing.
    asked = sum(cell.priced - cell.hits for cell in paid)
    tiers: dict[str, int] = {}
    for cell in cells:
        tiers[cell.tier or UNKNOWN] = tiers.get(cell.tier or UNKNOWN, 0) + cell.calls
    return SavingsView(
        days=days,
        method=method,
        actual_cost=actual,
        baseline_cost=baseline,
        savings=baseline - actual,
        savings_percent=round(float(100 * (baseline - actual) / baseline), 1) if baseline else None,
        tier_distribution={
            name: round(100 * count / calls, 1) for name, count in sorted(tiers.items())
        },
        cache_savings=hits * actual / asked if asked else _ZERO,
        total_calls=calls,
        unpriced_calls=calls - sum(cell.priced for cell in cells),
        currency=currency,
    )


def _reference(cells: list[Cell], reference: str | None) -> tuple[str | None, str]:
    if reference is not None:
        provider, slash, model = reference.partition("/")
        if not slash or not provider or not model:
            raise WrongValue(f"reference={reference!r}: write it as provider/model")
        return provider, model
    counts: dict[tuple[str | None, str], int] = {}
    for cell in cells:
        if cell.tier == PREMIUM and cell.model is not None:
            key = (cell.provider, cell.model)
            counts[key] = counts.get(key, 0) + cell.calls
    if counts:
        return max(counts, key=lambda key: (counts[key], str(key)))
    if not cells:
        return None, ""
    raise WrongValue(
        "method='repriced': the window has no premium call to take prices from; "
        "give a reference, written as provider/model"
    )


def _reported(costs: dict[str, Decimal]) -> dict[str, float]:
    return {name: float(cost.quantize(_CENT)) for name, cost in costs.items()}
