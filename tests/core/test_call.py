from __future__ import annotations

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
        "response": ((), {"model": a, "id": b, "finish": c, "service_tier": d}),
        "request": (
            (),
            {"model": a, "temperature": b, "stop_sequences": c, "choice_count": d},
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
