"""What calls cost: names, dates, sizes, tiers, overrides, and when nobody can say."""

from __future__ import annotations

import decimal
import json
import re
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_empathy.core.errors import EmpathyError, SettingError
from otel_empathy.core.price_table import RATES, bundled
from otel_empathy.core.prices import Cost, Prices
from otel_empathy.core.usage import Usage

BUNDLED = Prices.bundled()
SMALL = {"input": "2", "output": "8", "cache_read": "0.5", "cache_write": "2.5"}


def ns(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=timezone.utc).timestamp()) * 10**9


NOW = ns("2026-11-20T12:00")


def own(entry: dict[str, Any], key: str = "demo/small") -> Prices:
    return BUNDLED.override({key: entry})


def amount(
    entry: dict[str, Any], at: str = "2026-11-20T12:00", **usage: int | None
) -> Decimal | None:
    return own(entry).cost("demo", "small", Usage(**usage), at_ns=ns(at)).amount


def test_cached_tokens_are_part_of_the_input_and_reasoning_of_the_output() -> None:
    cost = own(SMALL).cost(
        "demo",
        "small",
        Usage(input=1000, output=100, cache_read=600, cache_write=100, reasoning=40),
    )
    assert (
        cost.amount
        == Decimal(300) * 2 / 10**6
        + Decimal(600 * Decimal("0.5") + 100 * Decimal("2.5") + 100 * 8) / 10**6
    )
    assert cost.currency == "USD"
    assert cost.source == "local"
    assert cost.price_key == "demo/small"
    assert cost.price_version == own(SMALL).version
    assert cost.reason is None


@pytest.mark.parametrize(
    ("usage", "dollars"),
    [
        ({"input": 1_000_000, "output": 0}, "2"),
        ({"input": 0, "output": 1_000_000}, "8"),
        ({"input": 0, "output": 0}, "0"),
        ({"input": 1_000_000, "output": 0, "cache_read": 1_000_000}, "0.5"),
        ({"input": 1_000_000, "output": 0, "cache_write": 1_000_000}, "2.5"),
        ({"input": 1_000_000, "output": 0, "image_input": 1_000_000}, "2"),
        ({"input": 0, "output": 1_000_000, "image_output": 1_000_000}, "8"),
        # More parts than the whole: the parts are paid, the rest is nothing, never negative.
        ({"input": 10, "output": 0, "cache_read": 1_000_000}, "0.000005"),
        ({"input": 0, "output": 5, "reasoning": 1_000_000}, "8"),
    ],
)
def test_each_kind_of_token_has_its_rate(usage: dict[str, int], dollars: str) -> None:
    assert amount(SMALL, **usage) == Decimal(dollars)


def test_amounts_are_exact_and_rounded_to_nine_places() -> None:
    cost = own({"input": "0.123456789", "output": "0"}).cost(
        "demo", "small", Usage(input=7, output=0)
    )
    assert cost.amount == Decimal("0.000000864")
    assert cost.amount is not None
    assert cost.amount.as_tuple().exponent == -9


def test_the_decimal_context_of_the_application_does_not_matter() -> None:
    with decimal.localcontext() as context:
        context.prec = 3
        context.traps[decimal.Inexact] = True
        assert amount(SMALL, input=1_234_567, output=7_654_321) == Decimal("63.703702")


@pytest.mark.parametrize(
    ("usage", "reason"),
    [
        (Usage(), "no_usage"),
        (Usage(output=5), "no_usage"),
        (Usage(input=5), "no_usage"),
        (Usage(input=5, output=5, cache_write_1h=1), "unknown_rate"),
        (Usage(input=5, output=5, audio_input=1), "unknown_rate"),
        (Usage(input=5, output=5, audio_output=1), "unknown_rate"),
    ],
)
def test_an_unknown_count_or_rate_gives_a_reason_and_no_amount(usage: Usage, reason: str) -> None:
    cost = own(SMALL).cost("demo", "small", usage)
    assert (cost.amount, cost.currency, cost.source, cost.reason) == (None, None, None, reason)


def test_an_unknown_model_has_no_amount_and_no_key() -> None:
    cost = BUNDLED.cost("openai", "gpt-unheard-of", Usage(input=5, output=5))
    assert cost == Cost(price_version=BUNDLED.version, reason="unknown_model")
    assert BUNDLED.rates("openai", "gpt-unheard-of") is None
    for provider, model in (("vllm", "gpt-4o"), (None, "unheard-of"), ("openai", ""), (None, None)):
        assert BUNDLED.cost(provider, model, Usage(input=5, output=5)).reason == "unknown_model"


def test_a_model_without_output_needs_no_output_count() -> None:
    cost = BUNDLED.cost("openai", "text-embedding-3-small", Usage(input=1_000_000))
    assert cost.amount == Decimal("0.02")


@pytest.mark.parametrize(
    ("provider", "model", "key"),
    [
        ("openai", "gpt-4o", "openai/gpt-4o"),
        ("openai", "GPT-4o", "openai/gpt-4o"),
        ("openai", "gpt-4o-2024-08-06", "openai/gpt-4o"),
        ("openai", "gpt-4o-2024-05-13", "openai/gpt-4o-2024-05-13"),
        ("openai", "gpt-4o-2031-01-02", "openai/gpt-4o"),
        ("openai", "openai/gpt-4o-mini", "openai/gpt-4o-mini"),
        ("openai", "ft:gpt-4o-mini-2024-07-18:org::id", "openai/ft:gpt-4o-mini"),
        ("anthropic", "claude-3-7-sonnet-20250219", "anthropic/claude-3-7-sonnet-latest"),
        ("anthropic", "claude-sonnet-4-5", "anthropic/claude-sonnet-4-5"),
        ("gcp.gemini", "models/gemini-2.5-pro", "gcp.gemini/gemini-2.5-pro"),
        ("gcp.vertex_ai", "publishers/google/models/gemini-2.5-flash",
         "gcp.gemini/gemini-2.5-flash"),
        ("gcp.vertex_ai", "claude-sonnet-4-5@20250929", "gcp.gemini/claude-sonnet-4-5"),
        ("aws.bedrock", "us.anthropic.claude-3-5-sonnet-20241022-v2:0",
         "aws.bedrock/regional.anthropic.claude-3-5-sonnet-20241022-v2:0"),
        ("aws.bedrock", "arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-lite-v1:0",
         "aws.bedrock/amazon.nova-lite-v1:0"),
        ("bedrock", "amazon.nova-lite-v1:0", "aws.bedrock/amazon.nova-lite-v1:0"),
        ("azure.ai.openai", "gpt-4o", "openai/gpt-4o"),
        ("azure.ai.openai", "gpt-35-turbo", "openai/gpt-3.5-turbo"),
        ("azure.ai.inference", "phi-4", "azure.ai.openai/phi-4"),
        ("mistral", "mistral-large-latest", "mistral_ai/mistral-large"),
        ("X-AI", "grok-3", "x_ai/grok-3"),
        ("openrouter", "openai/gpt-4o", "openrouter/openai/gpt-4o"),
        ("litellm", "anthropic/claude-sonnet-4-5", "anthropic/claude-sonnet-4-5"),
        (None, "gpt-4o", "openai/gpt-4o"),
        (None, "gemini/gemini-2.5-pro", "gcp.gemini/gemini-2.5-pro"),
    ],
)  # fmt: skip
def test_a_name_finds_its_entry(provider: str | None, model: str, key: str) -> None:
    rates = BUNDLED.rates(provider, model)
    assert rates is not None
    assert rates.key == key


def test_another_providers_model_is_not_priced_by_its_last_name() -> None:
    assert BUNDLED.rates("openai", "anthropic/claude-sonnet-4-5") is None
    assert BUNDLED.rates("anthropic", "gpt-4o") is None
    assert BUNDLED.rates("openai", "mine/gpt-4o") is None


def test_a_context_tier_prices_the_whole_request() -> None:
    entry = {"input": ["1", [200_000, "2"]], "output": ["10", [200_000, "20"]]}
    assert amount(entry, input=200_000, output=1000) == Decimal("0.21")
    assert amount(entry, input=200_001, output=1000) == Decimal("0.420002")
    assert amount(entry, input=200_001, output=0, cache_read=0) == Decimal("0.400002")
    prices = own(entry)
    assert [
        rates.input
        for size in (0, 200_000, 200_001)
        if (rates := prices.rates("demo", "small", input_tokens=size))
    ] == [1, 1, 2]


def test_rates_change_on_their_date_whatever_was_asked_before() -> None:
    entry = {
        "input": "10",
        "output": "0",
        "later": [{"from": "2026-06-01", "input": "5", "output": "0"},
                  {"from": "2026-07-01", "input": "1", "output": "0"}],
    }  # fmt: skip
    prices = own(entry)
    usage = Usage(input=1_000_000, output=0)
    asked = ("2026-07-01T00:00", "2026-05-31T23:59", "2026-06-01T00:00", "2030-01-01T00:00",
             "2026-06-30T23:59", "2020-01-01T00:00")  # fmt: skip
    amounts = [prices.cost("demo", "small", usage, at_ns=ns(at)).amount for at in asked]
    assert amounts == [1, 10, 5, 1, 5, 10]


def test_rates_change_with_the_time_of_the_day() -> None:
    night = {"hours": ["22:00", "06:00"], "input": "1", "output": "0"}
    prices = own({"input": "3", "output": "0", "later": [night]})
    usage = Usage(input=1_000_000, output=0)
    asked = ("21:59", "22:00", "23:59", "00:00", "05:59", "06:00", "12:00")
    amounts = [
        prices.cost("demo", "small", usage, at_ns=ns(f"2026-11-20T{at}")).amount for at in asked
    ]
    assert amounts == [3, 1, 1, 1, 1, 3, 3]


def test_the_time_is_the_clocks_when_none_is_given() -> None:
    class Clock:
        now = ns("2026-05-31T23:00")

        def time_ns(self) -> int:
            return self.now

        def monotonic(self) -> float:
            return 0.0

    clock = Clock()
    later = [{"from": "2026-06-01", "input": "5", "output": "0"}]
    prices = Prices.bundled(clock=clock).override(
        {"demo/small": {"input": "10", "output": "0", "later": later}}
    )
    usage = Usage(input=1_000_000, output=0)
    assert prices.cost("demo", "small", usage).amount == 10
    clock.now = ns("2026-06-01T00:00")
    assert prices.cost("demo", "small", usage).amount == 5


def test_service_tiers_have_rates_or_factors_of_their_own() -> None:
    entry = {
        **SMALL,
        "service": {
            "batch": {"factor": "0.5"},
            "priority": {"input": "4", "output": "16"},
            "flex": [{"from": "2026-12-01", "output": "1"}, {"input": "1", "output": "2"}],
        },
    }
    prices = own(entry)
    usage = Usage(input=1_000_000, output=1_000_000)
    dollars = {
        tier: prices.cost("demo", "small", usage, at_ns=NOW, service_tier=tier).amount
        for tier in (None, "default", "auto", "standard", "batch", "priority", "flex", "Flex")
    }
    assert dollars == {
        None: 10, "default": 10, "auto": 10, "standard": 10, "batch": 5, "priority": 20,
        "flex": 3, "Flex": 3,
    }  # fmt: skip
    later = prices.cost("demo", "small", usage, at_ns=ns("2026-12-01T00:00"), service_tier="flex")
    assert later.amount == 2
    read = Usage(input=1_000_000, output=0, cache_read=1_000_000)
    assert prices.cost("demo", "small", read, service_tier="priority").amount == Decimal("0.5")


def test_an_unlisted_service_tier_is_an_unknown_rate() -> None:
    cost = own(SMALL).cost("demo", "small", Usage(input=5, output=5), service_tier="scale")
    assert (cost.amount, cost.reason, cost.price_key) == (None, "unknown_rate", "demo/small")
    assert own(SMALL).rates("demo", "small", service_tier="scale") is None


def test_a_price_per_request_is_added_once() -> None:
    assert amount({**SMALL, "request": "0.012"}, input=0, output=0) == Decimal("0.012")


def test_audio_has_rates_of_its_own_and_text_is_cached_first() -> None:
    entry = {**SMALL, "audio_input": "40", "audio_output": "80", "audio_cache_read": "4"}
    assert amount(entry, input=1_000_000, output=0, audio_input=400_000) == Decimal("17.2")
    assert amount(entry, input=0, output=1_000_000, audio_output=500_000) == 44
    mixed = {"input": 1_000_000, "output": 0, "audio_input": 400_000, "cache_read": 700_000}
    assert amount(entry, **mixed) == Decimal("0.3") + Decimal("0.4") + 12


def test_anthropics_documented_cache_rules_fill_what_an_entry_leaves_out() -> None:
    prices = BUNDLED.override({"anthropic/claude-next": {"input": "3", "output": "15"}})
    rates = prices.rates("anthropic", "claude-next")
    assert rates is not None
    assert (rates.cache_read, rates.cache_write, rates.cache_write_1h) == (
        Decimal("0.3"),
        Decimal("3.75"),
        Decimal(6),
    )
    other = BUNDLED.override({"openai/gpt-next": {"input": "3", "output": "15"}})
    rates = other.rates("openai", "gpt-next")
    assert rates is not None
    assert (rates.cache_read, rates.cache_write, rates.reasoning) == (None, None, 15)


def test_one_hour_cache_writes_cost_twice_the_input_at_anthropic() -> None:
    rates = BUNDLED.rates("anthropic", "claude-sonnet-4-5")
    assert rates is not None
    usage = Usage(input=1_000_000, output=0, cache_write=1_000_000, cache_write_1h=400_000)
    small = BUNDLED.cost("anthropic", "claude-haiku-4-5", usage, at_ns=NOW)
    assert small.amount == Decimal("0.6") * Decimal("1.25") + Decimal("0.4") * 2
    only_hour = Usage(input=1_000_000, output=0, cache_write_1h=1_000_000)
    assert BUNDLED.cost("anthropic", "claude-haiku-4-5", only_hour, at_ns=NOW).amount == 2


@pytest.mark.system("1")
def test_a_million_cached_tokens_at_three_dollars_save_two_seventy() -> None:
    rates = BUNDLED.rates("anthropic", "claude-sonnet-4-5", at_ns=NOW)
    assert rates is not None
    assert rates.input is not None
    assert rates.cache_read is not None
    assert rates.input - rates.cache_read == Decimal("2.70")


def test_the_version_names_date_and_content() -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\d\+[0-9a-f]{8}", BUNDLED.version)
    first, second = own(SMALL).version, own({**SMALL, "input": "3"}).version
    assert first.endswith("+user")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d\+[0-9a-f]{8}\+user", first)
    assert len({BUNDLED.version, first, second}) == 3
    assert own(SMALL).version == first


def test_an_override_replaces_the_entry_and_keeps_its_names() -> None:
    prices = BUNDLED.override({"openai/gpt-4o": {"input": "1", "output": "1"}})
    usage = Usage(input=1_000_000, output=0)
    for name in ("gpt-4o", "gpt-4o-2024-08-06", "gpt-4o-2031-01-02"):
        cost = prices.cost("openai", name, usage)
        assert (cost.amount, cost.price_key) == (1, "openai/gpt-4o")
    assert prices.cost("azure", "gpt-4o", usage).amount == 1
    sonnet = BUNDLED.override({"anthropic/claude-3-7-sonnet-latest": {"input": "1"}})
    assert sonnet.cost("anthropic", "claude-3-7-sonnet-20250219", usage).amount == 1
    read = Usage(input=5, output=0, cache_read=5)
    assert prices.cost("openai", "gpt-4o", read).reason == "unknown_rate"
    assert BUNDLED.cost("openai", "gpt-4o", usage).amount != 1


def test_overrides_add_up_and_the_last_one_wins() -> None:
    prices = own(SMALL).override({"demo/big": {"input": "9", "output": "9"}})
    prices = prices.override({"demo/small": {"input": "7", "output": "7"}})
    usage = Usage(input=1_000_000, output=0)
    assert prices.cost("demo", "small", usage).amount == 7
    assert prices.cost("demo", "big", usage).amount == 9


def test_an_override_may_match_many_names_and_count_in_another_currency() -> None:
    prices = BUNDLED.override(
        {"bedrock/tuned": {"match": ["^arn:aws:bedrock", "~^eu[.]"], "input": 1, "output": 0.1,
                           "currency": "EUR"}}
    )  # fmt: skip
    cost = prices.cost(
        "aws.bedrock", "arn:aws:bedrock:eu:1:profile/x", Usage(input=10**6, output=0)
    )
    assert (cost.amount, cost.currency, cost.price_key) == (1, "EUR", "aws.bedrock/tuned")
    assert prices.cost("aws", "eu.mine", Usage(input=0, output=10**6)).amount == Decimal("0.1")


def test_a_file_overrides_the_bundled_table(tmp_path: Path) -> None:
    file = tmp_path / "prices.json"
    file.write_text(
        '{"date": "2027-01-01", "providers": {"house": {"names": ["haus"], "models": ["^house-"]}},'
        ' "models": {"house/one": {"match": ["^house-1"], "input": 0.1, "output": "0.2"}},'
        ' "rules": [{"provider": "house", "cache_read": ["input", "0.5"]}]}'
    )
    prices = Prices.bundled(file)
    assert re.fullmatch(r"2027-01-01\+[0-9a-f]{8}\+user", prices.version)
    usage = Usage(input=2_000_000, output=0, cache_read=1_000_000)
    for provider in ("house", "haus", None):
        assert prices.cost(provider, "house-1b", usage).amount == Decimal("0.15")
    assert prices.cost("openai", "gpt-4o", Usage(input=5, output=5)).amount is not None


def test_the_bundled_file_is_itself_a_valid_override() -> None:
    file = Path(__file__).parents[2] / "otel_empathy" / "core" / "prices.json"
    prices = Prices.bundled(file)
    assert prices.rates("openai", "gpt-4o") == BUNDLED.rates("openai", "gpt-4o")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "is no JSON"),
        ("[" * 99_999, "is no JSON"),
        ("[]", "needs an object 'models'"),
        ('{"models": []}', "needs an object 'models'"),
        ('{"models": {}, "extra": 1}', "'extra' is unknown"),
        ('{"models": {}, "currency": "EUR"}', "the table is in USD"),
        ('{"models": {}, "date": "yesterday"}', "not a date"),
        ('{"models": {"gpt-4o": {"input": "1"}}}', "is not named 'provider/model'"),
        ('{"models": {"a/b": 5}}', "not an object"),
        ('{"models": {"a/b": {}}}', "has no rate"),
        ('{"models": {"a/b": {"match": ["=c"]}}}', "has no rate"),
        ('{"models": {"a/b": {"inptu": "1"}}}', "'inptu' is unknown; use input"),
        ('{"models": {"a/b": {"input": "one"}}}', "'input' is 'one', not a decimal"),
        ('{"models": {"a/b": {"input": "-1"}}}', "not a decimal from 0"),
        ('{"models": {"a/b": {"input": true}}}', "not a decimal"),
        ('{"models": {"a/b": {"input": NaN}}}', "not a decimal"),
        ('{"models": {"a/b": {"input": []}}}', "not a decimal"),
        ('{"models": {"a/b": {"input": ["1", ["x", "2"]]}}}', "not \\[tokens, rate\\]"),
        ('{"models": {"a/b": {"input": ["1", [9, "2"], [9, "3"]]}}}', "not \\[tokens, rate\\]"),
        ('{"models": {"a/b": {"input": "1", "match": "c"}}}', "not a list"),
        ('{"models": {"a/b": {"input": "1", "match": ["c"]}}}', "does not begin with"),
        ('{"models": {"a/b": {"input": "1", "match": ["=C"]}}}', "lower case"),
        ('{"models": {"a/b": {"input": "1", "match": ["~("]}}}', "is no pattern"),
        ('{"models": {"a/b": {"later": [{"from": "2026"}]}}}', "'from'.*not a date"),
        ('{"models": {"a/b": {"later": [{"hours": ["8", "x"]}]}}}', "not two times"),
        ('{"models": {"a/b": {"input": "1", "service": {"x": {"factor": "f"}}}}}', "'factor'"),
        ('{"models": {"a/b": {"input": "1", "currency": "euro"}}}', "ISO 4217"),
        ('{"models": {}, "providers": {"a": {"names": [5]}}}', "which is no name"),
        ('{"models": {}, "rules": [{"cache_read": ["input", "1"]}]}', "name its 'provider'"),
        ('{"models": {}, "rules": [{"provider": "a", "input": ["x", "1"]}]}', "\\[rate, factor\\]"),
    ],
)
def test_a_bad_file_is_refused_with_file_entry_and_rule(
    tmp_path: Path, content: str, told: str
) -> None:
    file = tmp_path / "prices.json"
    file.write_text(content)
    with pytest.raises(SettingError, match=f"prices.json.*{told}"):
        Prices.bundled(file)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="cannot be read"):
        Prices.bundled(tmp_path / "none.json")


def test_a_bad_override_in_code_is_refused_and_changes_nothing() -> None:
    with pytest.raises(SettingError, match="the price override: entry 'small'"):
        BUNDLED.override({"demo/good": SMALL, "small": SMALL})
    assert BUNDLED.rates("demo", "good") is None


def test_names_from_outside_do_not_fill_the_memory() -> None:
    prices = own(SMALL)
    for number in range(5000):
        prices.cost("demo", f"model-{number}", Usage(input=1, output=1))
    assert len(prices._cache) <= 4096


def test_every_bundled_entry_is_sound_and_can_be_asked_for() -> None:
    table = bundled()
    priced = 0
    for provider, models in table.models.items():
        for model in models:
            rates = BUNDLED.rates(provider, model, at_ns=NOW)
            if rates is None or rates.input is None:
                continue
            output = None if rates.output is None else 100
            cost = BUNDLED.cost(provider, model, Usage(input=1000, output=output), at_ns=NOW)
            assert cost.amount is not None, (provider, model)
            priced += 1
    assert priced > 2000


def test_the_providers_of_the_conventions_are_known() -> None:
    table = bundled()
    for name in (
        "openai", "anthropic", "aws.bedrock", "azure.ai.inference", "azure.ai.openai", "cohere",
        "deepseek", "gcp.gemini", "gcp.vertex_ai", "gcp.gen_ai", "groq", "mistral_ai",
        "moonshot_ai", "perplexity", "x_ai", "together_ai",
    ):  # fmt: skip
        assert table.provider(name) in table.models, name


def test_the_licence_of_the_table_travels_with_it() -> None:
    core = Path(__file__).parents[2] / "otel_empathy" / "core"
    notice = (core / "prices.LICENSE").read_text()
    assert "The MIT License" in notice
    assert "genai-prices" in notice
    assert "genai-prices" in json.loads((core / "prices.json").read_text())["source"]


COUNTS = st.none() | st.integers(0, 10**9)


@given(
    counts=st.fixed_dictionaries(dict.fromkeys(Usage.__slots__, COUNTS)),
    rates=st.dictionaries(
        st.sampled_from(RATES), st.decimals(0, 1000, places=6).map(str), min_size=1
    ),
)
@settings(max_examples=300, deadline=None)
def test_any_usage_at_any_rates_has_an_amount_or_a_reason(
    counts: dict[str, int | None], rates: dict[str, str]
) -> None:
    cost = own(rates).cost("demo", "small", Usage(**counts))
    assert (cost.amount is None) == (cost.reason is not None)
    assert cost.amount is None or cost.amount >= 0
    if counts["input"] is None:
        assert cost.reason == "no_usage"


def test_what_a_file_holds_may_be_given_as_it_is_and_is_copied() -> None:
    own: dict[str, Any] = {"models": {"acme/own": {"input": 3, "output": 6}}}
    prices = Prices.bundled(own)
    own["models"]["acme/own"]["input"] = 1000
    found = prices.cost("acme", "own", Usage(input=1_000_000, output=1_000_000))
    assert found.amount == 9
    assert prices.version.endswith("+user")
    with pytest.raises(SettingError, match="prices: needs an object 'models'"):
        Prices.bundled({"acme/own": {"input": 3}})


@pytest.mark.parametrize(
    ("counts", "kind"),
    [({"input": -1}, ValueError), ({"output": 1.5}, TypeError), ({"cache_read": True}, TypeError)],
)
def test_what_cannot_be_a_count_is_refused_with_value_and_fix(
    counts: dict[str, Any], kind: type[Exception]
) -> None:
    ((name, value),) = counts.items()
    with pytest.raises(kind, match=f"{name}={value!r} must be a whole number") as caught:
        Usage(**counts)
    assert isinstance(caught.value, EmpathyError)
