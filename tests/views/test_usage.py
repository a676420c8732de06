from __future__ import annotations

from decimal import Decimal

import pytest
from store.lines import DAY, NOW, Clock, call, line, segment

from otel_empathy.core.errors import WrongValue
from otel_empathy.core.prices import Prices
from otel_empathy.views.store import Store

PRICES = Prices.bundled().override(
    {"demo/big": {"input": "10", "output": "20"}, "demo/small": {"input": "1", "output": "2"}}
)


def store(home, *spans) -> Store:
    segment(home, *[line(one) for one in spans])
    return Store(home, clock=Clock(), prices=PRICES)


class TestUsage:
    def test_no_data_gives_zero_counts_and_unknown_rates(self, tmp_path):
        found = store(tmp_path).usage()
        assert found.as_dict() == {
            "days": 30,
            "total_calls": 0,
            "total_cost": 0.0,
            "currency": "USD",
            "tokens_input": 0,
            "tokens_output": 0,
            "tokens_cached": 0,
            "errors": 0,
            "error_rate": None,
            "cache_hits": 0,
            "cache_misses": 0,
            "cache_hit_rate": None,
            "latency_p50": None,
            "latency_p95": None,
            "by_tier": {},
            "by_workflow": {},
            "by_provider": {},
            "by_model": {},
            "unpriced_calls": 0,
        }

    def test_totals_and_groups_are_sums_over_the_calls(self, tmp_path):
        found = store(
            tmp_path,
            call(model="a", tier="cheap", workflow="w", cost=0.123, cached=40, seconds=1),
            call(model="b", tier="premium", workflow="w", cost=1.0, error=True, seconds=2),
            call(model="b", provider="other", cost=None, seconds=3),
            call(model="a", hit=True, cost=None, input=None, output=None, seconds=4),
        ).usage()
        assert found.total_calls == 4
        assert found.total_cost == Decimal("1.12")
        assert found.exact_cost == Decimal("1.123")
        assert (found.tokens_input, found.tokens_output, found.tokens_cached) == (300, 30, 40)
        assert (found.errors, found.error_rate) == (1, 0.25)
        assert (found.cache_hits, found.cache_misses, found.cache_hit_rate) == (1, 3, 25.0)
        assert (found.latency_p50, found.latency_p95) == (2.0, 4.0)
        assert found.unpriced_calls == 1
        assert found.by_tier == {"premium": 1, "cheap": Decimal("0.123"), "unknown": 0}
        assert found.by_workflow == {"w": Decimal("1.123"), "unknown": 0}
        assert found.by_provider == {"openai": Decimal("1.123"), "other": 0}
        assert found.by_model == {"b": 1, "a": Decimal("0.123")}
        assert found.as_dict()["by_model"] == {"b": 1.0, "a": 0.12}

    def test_a_window_is_exactly_the_days_that_were_asked_for(self, tmp_path):
        home = store(tmp_path, call(start=NOW - 7 * DAY), call(start=NOW - 7 * DAY + 1), call())
        assert home.usage(days=7).total_calls == 2
        assert home.usage(days=0).total_calls == 0
        assert home.usage(days=None).total_calls == 3
        assert home.usage(since=NOW - 7 * DAY, until=NOW).total_calls == 2
        assert home.usage(since=NOW - 7 * DAY, until=NOW).days is None

    def test_every_segment_of_the_window_is_read(self, tmp_path):
        for seq in range(1, 6):
            segment(tmp_path, line(call()), seq=seq, utc=f"202512{20 + seq}T000000Z")
        assert Store(tmp_path, clock=Clock()).usage().total_calls == 5

    def test_small_amounts_do_not_vanish_before_they_are_added_up(self, tmp_path):
        found = store(tmp_path, *[call(cost=0.000001) for _ in range(1000)]).usage(by="model")
        assert found.exact_cost == Decimal("0.001")
        assert found.rows[0].as_dict()["cost"] == 0.001

    @pytest.mark.parametrize(
        ("by", "names"),
        [
            ("model", ["b", "a"]),
            ("tier", ["premium", "unknown"]),
            ("workflow", ["w", "unknown"]),
            ("provider", ["x", "y"]),
            ("user", ["u2", "u1"]),
        ],
    )
    def test_rows_are_one_per_group_and_the_dearest_first(self, tmp_path, by, names):
        found = store(
            tmp_path,
            call(model="a", provider="y", user="u1", cost=0.1),
            call(model="b", provider="x", user="u2", cost=0.2, tier="premium", workflow="w"),
        ).usage(by=by)
        assert [row.name for row in found.rows] == names
        assert [row.as_dict()["cost"] for row in found.rows] == [0.2, 0.1]
        assert found.as_dict()["by"] == by

    def test_a_group_that_there_is_not_is_refused(self, tmp_path):
        with pytest.raises(WrongValue, match="model, tier, workflow, provider, user"):
            store(tmp_path).usage(by="colour")

    def test_money_of_different_currencies_is_never_added_up(self, tmp_path):
        euro = {"empathy.cost.currency": "EUR"}
        found = store(tmp_path, call(cost=1.0), call(cost=1.0), call(cost=5.0, more=euro)).usage()
        assert (found.total_cost, found.currency) == (2, "USD")
        assert found.other_costs == {"EUR": 5}
        assert found.by_model == {"gpt-4o": 2}
        assert found.as_dict()["other_costs"] == {"EUR": 5.0}

    def test_a_log_in_another_currency_is_summed_in_it(self, tmp_path):
        found = store(tmp_path, call(cost=1.0, more={"empathy.cost.currency": "EUR"})).usage()
        assert (found.total_cost, found.currency) == (1, "EUR")


class TestSavings:
    def test_premium_calls_of_the_window_tell_what_one_costs(self, tmp_path):
        found = store(
            tmp_path,
            call(tier="premium", cost=0.10),
            call(tier="premium", cost=0.30),
            call(tier="cheap", cost=0.01),
            call(tier="cheap", cost=0.01),
        ).savings()
        assert found.method == "premium_mean"
        assert found.actual_cost == Decimal("0.42")
        assert found.baseline_cost == Decimal("0.8")
        assert found.savings == Decimal("0.38")
        assert found.savings_percent == 47.5
        assert found.tier_distribution == {"cheap": 50.0, "premium": 50.0}
        assert found.total_calls == 4

    def test_without_a_premium_call_one_is_taken_to_cost_five_cents(self, tmp_path):
        found = store(tmp_path, call(tier="cheap", cost=0.01), call(cost=0.01)).savings()
        assert found.method == "premium_fallback"
        assert found.baseline_cost == Decimal("0.10")
        assert found.savings_percent == 80.0

    def test_a_call_without_a_price_is_no_saving(self, tmp_path):
        found = store(tmp_path, call(tier="premium", cost=0.1), call(cost=None)).savings()
        assert (found.actual_cost, found.baseline_cost) == (Decimal("0.1"), Decimal("0.1"))
        assert found.unpriced_calls == 1

    def test_hits_of_the_response_cache_saved_what_other_calls_cost_on_average(self, tmp_path):
        found = store(
            tmp_path, call(cost=0.02), call(cost=0.04), call(hit=True, cost=0.0)
        ).savings()
        assert found.cache_savings == Decimal("0.03")

    def test_no_data_saves_nothing(self, tmp_path):
        found = store(tmp_path).savings()
        assert found.as_dict() | {"method": ""} == {
            "days": 30, "method": "", "actual_cost": 0.0, "baseline_cost": 0.0, "savings": 0.0,
            "savings_percent": None, "tier_distribution": {}, "cache_savings": 0.0,
            "total_calls": 0, "unpriced_calls": 0, "currency": "USD", "reference": None,
        }  # fmt: skip
        assert store(tmp_path).savings(method="repriced").total_calls == 0

    def test_repriced_calls_cost_their_own_tokens_at_the_reference_model(self, tmp_path):
        found = store(
            tmp_path,
            call(provider="demo", model="small", input=1_000_000, output=0, cost=1.0),
            call(provider="demo", model="big", tier="premium", input=0, output=500_000, cost=10.0),
        ).savings(method="repriced")
        assert found.reference == "demo/big"
        assert found.baseline_cost == 20
        assert found.savings == 9

    def test_a_call_that_cannot_be_repriced_saves_nothing(self, tmp_path):
        found = store(
            tmp_path, call(input=None, output=None, cost=0.5), call(hit=True, cost=0.0)
        ).savings(method="repriced", reference="demo/big")
        assert found.baseline_cost == Decimal("0.5")

    def test_calls_in_other_currencies_and_of_absurd_size_are_repriced_too(self, tmp_path):
        found = store(
            tmp_path,
            call(input=1_000_000, output=0, cost=1.0),
            call(input=float(2**70), output=0, cost=2.0),  # other programs write what they like
            call(cost=5.0, more={"empathy.cost.currency": "EUR"}),
            call(cost=None, input=1_000_000, output=0),
        ).savings(method="repriced", reference="demo/big")
        assert found.actual_cost == 3
        assert found.baseline_cost == pytest.approx(Decimal(10 + (2**63 - 1) // 10**5))
        assert found.unpriced_calls == 1

    def test_a_reference_in_another_currency_is_refused(self, tmp_path):
        entry = {"input": 1, "output": 2, "currency": "EUR"}
        prices = Prices.bundled().override({"demo/euro": entry})
        segment(tmp_path, line(call(cost=1.0)))
        with pytest.raises(WrongValue, match="its prices are in EUR, the calls were paid in USD"):
            Store(tmp_path, clock=Clock(), prices=prices).savings(
                method="repriced", reference="demo/euro"
            )

    @pytest.mark.parametrize("reference", [None, "demo", "demo/unheard-of"])
    def test_a_reference_without_prices_is_refused(self, tmp_path, reference):
        with pytest.raises(WrongValue, match="reference"):
            store(tmp_path, call()).savings(method="repriced", reference=reference)

    def test_an_unknown_method_is_refused(self, tmp_path):
        with pytest.raises(WrongValue, match="premium_mean or repriced"):
            store(tmp_path).savings(method="guessed")


def test_two_windows_stand_side_by_side(tmp_path):
    found = store(tmp_path, call(start=NOW - 10 * DAY), call()).compare(7, 30)
    assert (found.first.total_calls, found.second.total_calls) == (1, 2)
    assert (found.first.days, found.second.days) == (7, 30)
    assert set(found.as_dict()) == {"first", "second"}


def test_recent_calls_are_the_newest_ones_wherever_they_stand(tmp_path):
    segment(tmp_path, line(*[call(start=NOW - n) for n in (5, 1, 3)]), instance="aaaaaaaa")
    segment(tmp_path, line(*[call(start=NOW - n) for n in (4, 0, 2)]), instance="bbbbbbbb")
    home = Store(tmp_path, clock=Clock())
    assert [NOW - one.start for one in home.recent(3)] == [0, 1, 2]
    assert len(home.recent()) == 6
    assert home.recent(0) == []
    assert home.recent(5, days=0) == []
    with pytest.raises(WrongValue, match="limit=-1"):
        home.recent(-1)
