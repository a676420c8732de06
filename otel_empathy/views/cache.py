"""What the providers' prompt caches saved: hits, tokens and money, by workflow.

Not the local response cache, whose hits `usage` counts. Savings come from each call's own model at
the prices of its time; a model without prices is named and not guessed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from otel_empathy.core.prices import Prices
from otel_empathy.store.calls import Call
from otel_empathy.views.usage import UNKNOWN

__all__ = ["CacheRow", "CacheView", "cache"]

_MILLION: Final = 1_000_000
_CENT: Final = Decimal("0.01")
_MOST_WORKFLOWS: Final = 10_000
_OTHER: Final = "_other"


@dataclass(slots=True)
class CacheRow:
    """Requests of one workflow, and what their provider's cache did for them."""

    hits: int = 0
    reads: int = 0
    writes: int = 0
    requests: int = 0

    @property
    def hit_rate(self) -> float | None:
        """Share of requests that read from the cache, four places; None without requests."""
        return round(self.hits / self.requests, 4) if self.requests else None

    def as_dict(self) -> dict[str, Any]:
        """The row as JSON."""
        return {
            "hits": self.hits,
            "reads": self.reads,
            "writes": self.writes,
            "requests": self.requests,
            "hit_rate": self.hit_rate,
        }


@dataclass(frozen=True, slots=True)
class CacheView:
    """Prompt caches of a window.

    Args:
        hit_rate: Share of requests with a read from the cache, 0 to 1, four places.
        total_requests: Calls that went to a provider.
        total_reads: Tokens read from caches.
        total_writes: Tokens written to caches.
        savings: Money, in USD, over the models whose prices are known.
        unpriced_models: Models that read from a cache and have no price, as `provider/model`.
    """

    days: float | None
    hit_rate: float | None
    hit_count: int
    total_requests: int
    total_reads: int
    total_writes: int
    savings: Decimal
    by_workflow: dict[str, CacheRow]
    unpriced_models: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """The view as JSON, money with two places."""
        return {
            "days": self.days,
            "hit_rate": self.hit_rate,
            "hit_count": self.hit_count,
            "total_requests": self.total_requests,
            "total_reads": self.total_reads,
            "total_writes": self.total_writes,
            "savings": float(self.savings.quantize(_CENT)),
            "by_workflow": {name: row.as_dict() for name, row in self.by_workflow.items()},
            "unpriced_models": list(self.unpriced_models),
        }


def cache(calls: Iterable[Call], prices: Prices, *, days: float | None = None) -> CacheView:
    """The cache view of the calls of a window."""
    total = CacheRow()
    workflows: dict[str, CacheRow] = {}
    unpriced: set[str] = set()
    savings = Decimal(0)
    for call in calls:
        if call.cache_hit:
            continue  # no provider was asked
        name = call.workflow or UNKNOWN
        if name not in workflows and len(workflows) >= _MOST_WORKFLOWS:
            name = _OTHER
        reads, writes = call.cache_read or 0, call.cache_write or 0
        for row in (total, workflows.setdefault(name, CacheRow())):
            row.requests += 1
            row.hits += reads > 0
            row.reads += reads
            row.writes += writes
        if reads:
            saved = _saved(call, reads, prices)
            if saved is None:
                unpriced.add(f"{call.provider or UNKNOWN}/{call.model or UNKNOWN}")
            else:
                savings += saved
    return CacheView(
        days=days,
        hit_rate=total.hit_rate,
        hit_count=total.hits,
        total_requests=total.requests,
        total_reads=total.reads,
        total_writes=total.writes,
        savings=savings,
        by_workflow=dict(sorted(workflows.items())),
        unpriced_models=tuple(sorted(unpriced)),
    )


def _saved(call: Call, reads: int, prices: Prices) -> Decimal | None:
    """The money at the prices of the model that answered, else of the one that was asked."""
    for model in dict.fromkeys((call.response_model, call.model)):
        rates = prices.rates(call.provider, model, at_ns=call.start, input_tokens=call.input or 0)
        if rates is not None:
            if rates.input is None or rates.cache_read is None:
                return None
            return reads * (rates.input - rates.cache_read) / _MILLION
    return None
