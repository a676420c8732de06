from __future__ import annotations

from decimal import Decimal

from store.lines import DAY, NOW, Clock, call, line, segment

from otel_empathy.core.prices import Prices
from otel_empathy.views.store import Store

PRICES = Prices.bundled().override(
    {
        "demo/model": {"input": "3", "output": "15", "cache_read": "0.30"},
        "demo/plain": {"input": "3"},
    }
)
WRITE = "gen_ai.usage.cache_write.input_tokens"


def cache(home, *spans, days=7):
    segment(home, *[line(one) for one in spans])
    return Store(home, clock=Clock(), prices=PRICES).cache(days)


def demo(**members):
    return call(provider="demo", model="model", **members)


def test_reads_save_what_input_costs_more_than_a_read(tmp_path):
    found = cache(tmp_path, demo(input=1_500_000, cached=1_000_000))
    assert found.savings == Decimal("2.70")
    assert found.unpriced_models == ()


def test_hits_and_tokens_are_counted_by_workflow(tmp_path):
    found = cache(
        tmp_path,
        demo(cached=60, workflow="a"),
        demo(cached=0, workflow="a", more={WRITE: 40}),
        demo(workflow="a"),
        demo(cached=30),
    )
    assert found.as_dict() == {
        "days": 7,
        "hit_rate": 0.5,
        "hit_count": 2,
        "total_requests": 4,
        "total_reads": 90,
        "total_writes": 40,
        "savings": 0.0,
        "by_workflow": {
            "a": {"hits": 1, "reads": 60, "writes": 40, "requests": 3, "hit_rate": 0.3333},
            "unknown": {"hits": 1, "reads": 30, "writes": 0, "requests": 1, "hit_rate": 1.0},
        },
        "unpriced_models": [],
    }


def test_a_model_without_prices_is_named_and_not_guessed(tmp_path):
    found = cache(
        tmp_path,
        demo(cached=1_000_000, input=1_000_000),
        call(provider="demo", model="unheard-of", cached=5),
        call(provider=None, model=None, cached=5),
        call(provider="demo", model="plain", cached=5),
        call(provider="demo", model="never-cached"),
    )
    assert found.savings == Decimal("2.70")
    assert found.unpriced_models == ("demo/plain", "demo/unheard-of", "unknown/unknown")


def test_calls_that_a_local_cache_answered_are_no_requests(tmp_path):
    found = cache(tmp_path, demo(hit=True, cost=0.0), demo(cached=5))
    assert (found.total_requests, found.hit_rate) == (1, 1.0)


def test_no_data_gives_zero_counts_and_no_rate(tmp_path):
    found = cache(tmp_path, demo(start=NOW - 8 * DAY))
    assert (found.hit_rate, found.hit_count, found.total_requests, found.savings) == (None, 0, 0, 0)
    assert cache(tmp_path, demo(), days=0).total_requests == 0


def test_the_prices_are_those_of_the_model_that_answered(tmp_path):
    found = cache(
        tmp_path,
        call(
            provider="demo",
            model="my-deployment",
            cached=1_000_000,
            more={"gen_ai.response.model": "model"},
        ),
        call(
            provider="demo",
            model="model",
            cached=1_000_000,
            more={"gen_ai.response.model": "nobody lists it"},
        ),
    )
    assert found.savings == Decimal("5.40")
    assert found.unpriced_models == ()
