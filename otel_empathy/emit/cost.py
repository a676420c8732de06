"""What a call cost, as attributes of its span.

The provider's own figure wins over the price table. Without a figure there is a reason, never a 0;
0 is what a call costs that a local cache answered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otel_empathy.core import semconv
from otel_empathy.core.call import Call
from otel_empathy.core.usage import Usage
from otel_empathy.emit.live import live

if TYPE_CHECKING:
    from otel_empathy.core.prices import Cost, Prices

__all__ = ["cost_attributes"]


def cost_attributes(call: Call, *, at_ns: int) -> dict[str, Any]:
    """The money for a call, or why it is unknown.

    Args:
        call: What is known about it.
        at_ns: When it began; prices change.
    """
    if call.cache_hit:
        return {**_money(0.0, call.currency, None), semconv.COST_REASON: "cached"}
    if call.amount is not None:
        return _money(float(round(call.amount, 9)), call.currency, "provider")
    if live.prices is None:
        return {}
    if call.source == "estimated":
        return {semconv.COST_REASON: "estimated"}
    if call.tokens is None:
        return {semconv.COST_REASON: "no_usage"}
    cost = _priced(live.prices, call, call.tokens, at_ns)
    known = {
        semconv.COST_PRICE_VERSION: cost.price_version,
        semconv.COST_PRICE_KEY: cost.price_key,
        semconv.COST_REASON: cost.reason,
    }
    if cost.amount is not None:
        known.update(_money(float(cost.amount), cost.currency, cost.source))
    return {key: value for key, value in known.items() if value is not None}


def _money(amount: float, currency: str | None, source: str | None) -> dict[str, Any]:
    if live.cost_names == "gen_ai":
        names = (semconv.GENAI_COST_AMOUNT, semconv.GENAI_COST_CURRENCY, semconv.GENAI_COST_SOURCE)
    else:
        names = (semconv.COST_AMOUNT, semconv.COST_CURRENCY, semconv.COST_SOURCE)
    pairs = zip(names, (amount, currency, source), strict=True)
    return {key: value for key, value in pairs if value is not None}


def _priced(prices: Prices, call: Call, tokens: Usage, at_ns: int) -> Cost:
    """The price of the model that answered, else of the one that was asked."""
    answered = call.response_model or call.model
    tier = call.service_tier
    cost = prices.cost(call.provider, answered, tokens, at_ns=at_ns, service_tier=tier)
    if cost.reason == "unknown_model" and call.model not in {None, answered}:
        cost = prices.cost(call.provider, call.model, tokens, at_ns=at_ns, service_tier=tier)
    return cost
