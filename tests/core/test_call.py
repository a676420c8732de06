from __future__ import annotations

import itertools
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_empathy.core.call import NO_CALL, Call
from otel_empathy.core.usage import Usage
from otel_empathy.testing import ManualClock

ANYTHING: Any = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.binary(max_size=5),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=2), st.none(), max_size=2),
)


class Index:
    """A whole number of another library."""

    def __index__(self) -> int:
        return 7


def test_counts_are_collected_and_later_ones_win() -> None:
    call = Call("chat").usage(input=5, output=1).usage(output=3, reasoning=2).usage(input=None)
    assert call.tokens == Usage(input=5, output=3, reasoning=2)
    assert call.source == "provider"
    assert Call("chat").usage(input=Index()).tokens == Usage(input=7)  # type: ignore[arg-type]


def test_nothing_said_is_nothing_known() -> None:
    call = Call("chat").usage().response().request().cost(0)
    assert call.tokens is None
    assert call.source is None
    assert call.attributes == {}
    assert call.amount == 0
    assert call.refused == ()


def test_zero_is_a_count() -> None:
    assert Call("chat").usage(input=0).tokens == Usage(input=0)


def test_one_call_does_not_know_of_another() -> None:
    Call("chat").request(temperature=1).retry().response(id="x")
    fresh = Call("chat")
    assert (fresh.attributes, fresh.retries, fresh.response_id) == ({}, (), None)


@given(value=st.one_of(st.integers(max_value=-1), st.booleans(), st.floats(), st.text(max_size=4)))
def test_what_is_no_count_is_refused_and_noted(value: Any) -> None:
    call = Call("chat").usage(input=value)
    assert call.tokens is None
    assert call.refused == ("usage.input",)


@given(
    name=st.sampled_from(
        ["usage", "response", "request", "cost", "retry", "parsed", "validated", "cached",
         "fallback", "prompt", "messages"]
    ),
    values=st.lists(ANYTHING, min_size=4, max_size=4),
)  # fmt: skip
def test_nothing_that_is_said_ever_raises(name: str, values: list[Any]) -> None:
    a, b, c, d = values
    arguments: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
        "usage": ((), {"input": a, "cache_write_1h": b, "source": c}),
        "response": ((), {"model": a, "id": b, "finish": c, "system_fingerprint": d}),
        "request": (
            (),
            {"agent_id": a, "temperature": b, "stop_sequences": c, "compacted": d},
        ),
        "cost": ((a, b), {}),
        "retry": ((a if isinstance(a, str) else None,), {"delay": b}),
        "parsed": ((a,), {}),
        "validated": ((a,), {}),
        "cached": ((a,), {}),
        "fallback": ((a, b), {}),
        "prompt": ((a,), {"version": b, "format": c}),
        "messages": ((), {"input": a, "output": b}),
    }
    positional, keywords = arguments[name]
    for call in (Call("chat"), NO_CALL):
        assert getattr(call, name)(*positional, **keywords) is call
    assert NO_CALL.refused == ()


@pytest.mark.parametrize(
    ("amount", "expected"),
    [(0.1, "0.1"), ("0.30", "0.30"), (Decimal("1e-9"), "1E-9"), (2, "2")],
)
def test_money_is_exact(amount: Any, expected: str) -> None:
    assert str(Call("chat").cost(amount).amount) == expected


def test_what_was_asked_for() -> None:
    call = Call("chat").request(
        stop_sequences="END", seed=-3, choice_count=1, top_k=5, server_port=443, output_type="json"
    )
    assert call.attributes == {
        "gen_ai.request.stop_sequences": ("END",),
        "gen_ai.request.seed": -3,
        "gen_ai.request.top_k": 5,
        "server.port": 443,
        "gen_ai.output.type": "json",
    }
    assert call.request(choice_count=2).attributes["gen_ai.request.choice.count"] == 2
    assert call.attributes["gen_ai.request.seed"] == -3


class Hostile:
    """An object of which nothing works."""

    def fail(self, *_: Any) -> Any:
        raise RuntimeError("hostile")

    __str__ = __repr__ = __index__ = __float__ = __bool__ = __iter__ = __len__ = __eq__ = fail
    __hash__ = None  # type: ignore[assignment]


@pytest.mark.fault("P9")
@pytest.mark.parametrize(
    ("name", "keywords", "refused"),
    [
        ("usage", {"input": Hostile()}, "usage.input"),
        ("usage", {"input": 1, "source": Hostile()}, "usage.source"),
        ("response", {"model": Hostile()}, "response.model"),
        ("response", {"finish": Hostile()}, "response.finish"),
        ("response", {"finish": [Hostile()]}, "response.finish"),
        ("request", {"temperature": Hostile()}, "request.temperature"),
        ("request", {"stop_sequences": Hostile()}, "request.stop_sequences"),
        ("cost", {"amount": Hostile()}, "cost.amount"),
        ("cost", {"amount": 10**5000}, "cost.amount"),
        ("cost", {"amount": 1, "currency": Hostile()}, "cost.currency"),
        ("retry", {"delay": Hostile()}, "retry.delay"),
        ("parsed", {"ok": Hostile()}, "parsed"),
        ("validated", {"ok": Hostile()}, "validated"),
        ("cached", {"type": Hostile()}, "cached.type"),
        ("prompt", {"name": "p", "variables": ["a"]}, "prompt.variables"),
        ("prompt", {"name": "p", "variables": Hostile()}, "prompt.variables"),
    ],
)
def test_objects_of_which_nothing_works_are_refused(
    name: str, keywords: dict[str, Any], refused: str
) -> None:
    call = Call("chat")
    assert getattr(call, name)(**keywords) is call
    assert refused in call.refused
    assert call.tokens is None
    assert call.amount is None


def test_lists_without_an_end_are_cut() -> None:
    call = Call("chat").request(stop_sequences=(str(i) for i in itertools.count()))
    assert len(call.attributes["gen_ai.request.stop_sequences"]) == 128


@pytest.mark.parametrize("amount", ["1e15", 1e30, "1e400", 10**20, "-1e-30", "sNaN", "inf"])
def test_money_that_no_span_can_hold_is_refused(amount: Any) -> None:
    call = Call("chat").cost(amount)
    assert (call.amount, call.refused) == (None, ("cost.amount",))


@pytest.mark.parametrize("currency", ["", "EURO", "E1R", "€€€", "x" * 50, None, 978])
def test_currencies_have_three_letters(currency: Any) -> None:
    call = Call("chat").cost(1, currency)
    assert (call.amount, call.refused) == (None, ("cost.currency",))
    assert Call("chat").cost(1, "eur").currency == "EUR"


def test_a_choice_without_a_reason_keeps_its_place() -> None:
    assert Call("chat").response(finish=["stop", None, "length"]).finish == (
        "stop", "error", "length",
    )  # fmt: skip


def test_a_retrieval_has_a_top_k_of_its_own() -> None:
    asked = Call("retrieval").request(top_k=5, data_source="docs").attributes
    assert asked == {"gen_ai.retrieval.top_k": 5, "gen_ai.data_source.id": "docs"}


def test_numbers_beyond_all_measure_are_refused() -> None:
    call = Call("chat").usage(input=2**63).request(temperature=10**400, seed=-(2**63) - 1)
    assert call.refused == ("usage.input", "request.temperature", "request.seed")


def test_retries_remember_when_and_why_but_not_the_exception() -> None:
    clock = ManualClock()
    call = Call("chat", clock=clock).retry(KeyError("x"), delay=1)
    clock.advance(2)
    call.retry()
    first, second = call.retries
    assert (first.error_type, first.delay) == ("KeyError", 1.0)
    assert (second.error_type, second.delay) == (None, None)
    assert second.time_ns - first.time_ns == 2_000_000_000


def test_a_closed_call_takes_nothing() -> None:
    call = Call("chat")
    call.close()
    call.usage(input=-1).response(id="x").request(model="m").cost(-1).cached()
    assert (call.tokens, call.response_id, call.model, call.refused) == (None, None, None, ())
    assert not call.cache_hit


class Gone:
    """A proxy outside of its request: even to ask for its class fails."""

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        raise RuntimeError("outside of its request")


class Sly(str):
    """A text whose own methods fail."""

    __slots__ = ()

    @property
    def value(self) -> str:
        raise RuntimeError("no value")

    def __str__(self) -> str:
        raise RuntimeError("no text")


def said(call: Call, value: Any) -> Call:
    """The value said in every place that there is."""
    taken = dict.fromkeys(("temperature", "max_tokens", "model", "stop_sequences", "compacted"))
    return (
        call.usage(input=value, source=value)
        .usage(input=value)
        .response(model=value, id=value, finish=value, service_tier=value)
        .request(**dict.fromkeys(taken, value))
        .cost(value)
        .cost(1, value)
        .retry(value, value)
        .parsed(value)
        .validated(value)
        .cached(value)
        .fallback(value, value)
        .prompt(value, version=value, format=value, variables=value)
        .messages(input=value)
    )


def test_an_object_that_hides_its_class_is_refused_everywhere() -> None:
    call = said(Call("chat"), Gone())
    assert set(call.refused) == {
        "usage.source", "usage.input", "response.model", "response.id", "response.finish",
        "response.service_tier", "request.temperature", "request.max_tokens", "request.model",
        "request.stop_sequences", "cost.amount", "cost.currency", "retry.error", "retry.delay",
        "cached.type", "fallback", "prompt.name", "prompt.version", "prompt.format",
        "prompt.variables",
    }  # fmt: skip
    assert [(retried.error_type, retried.delay) for retried in call.retries] == [(None, None)]


def test_a_text_counts_as_text_whatever_its_own_methods_do() -> None:
    call = said(Call("chat"), Sly("eur"))
    assert (call.model, call.response_id, call.prompt_name) == ("eur", "eur", "eur")
    assert (call.finish, call.currency, call.fallback_from) == (("eur",), "EUR", "eur/eur")
    assert type(call.model) is str
    assert call.refused.count("usage.source") == 1


def test_no_more_variables_than_sixty_four_are_taken_and_no_others_are_looked_at() -> None:
    looked: list[str] = []

    class Counting(dict[str, int]):
        def __getitem__(self, key: str) -> int:
            looked.append(key)
            return super().__getitem__(key)

    call = Call("chat")
    call.take = lambda _key, value: (value, False)
    call.prompt("n", variables=Counting({f"v{number}": number for number in range(64)}))
    assert len(call.content) == 64
    assert not call.shortened
    call.prompt("n", variables=Counting({"v0": "again", **{f"w{n}": n for n in range(10_000)}}))
    assert len(call.content) == 64
    assert call.content["gen_ai.prompt.variable.v0"] == ("again", False)
    assert call.shortened
    assert len(looked) == 65
    call.messages(input="hi")
    assert len(call.content) == 65
