from __future__ import annotations

import random
from decimal import Decimal
from fractions import Fraction

import pytest
from store.lines import NOW, SECOND, call, line, segment, span

from otel_empathy.store import cells
from otel_empathy.store.calls import calls
from otel_empathy.store.cells import Durations, add_up, summed
from otel_empathy.store.reader import Reader
from otel_empathy.store.window import ALWAYS


def random_call(dice: random.Random) -> dict:
    more = dice.choice(
        [
            {},
            {"gen_ai.usage.cost.amount": dice.random()},
            {"empathy.cost.currency": dice.choice(["USD", "EUR"])},
            {"gen_ai.response.model": "answered"},
            {f"app.key.{dice.randrange(5)}": "x"},
        ]
    )
    return call(
        operation=dice.choice(["chat", "embeddings", "execute_tool"]),
        provider=dice.choice(["openai", None]),
        model=dice.choice(["a", "b", None]),
        cost=dice.choice([None, round(dice.random(), 9)]),
        input=dice.choice([None, dice.randrange(10_000), -3]),
        output=dice.choice([None, dice.randrange(1_000)]),
        cached=dice.choice([None, dice.randrange(1_000)]),
        tier=dice.choice([None, "cheap", "premium"]),
        workflow=dice.choice([None, "w"]),
        user=dice.choice([None, "u1", "u2"]),
        hit=dice.choice([None, False, True]),
        error=dice.random() < 0.2,
        start=NOW + dice.randrange(10**9),
        seconds=dice.randrange(-1, 9),
        more=more,
    )


@pytest.mark.parametrize("seed", range(5))
def test_cells_are_the_sums_of_the_calls(tmp_path, seed):
    dice = random.Random(seed)
    content = [line(*[random_call(dice) for _ in range(dice.randrange(1, 6))]) for _ in range(120)]
    segment(tmp_path, *content)
    found = add_up(Reader(tmp_path), ALWAYS, by_user=True)
    expected: dict[tuple, list] = {}
    for one in calls(Reader(tmp_path), ALWAYS):
        key = (one.provider, one.model, one.tier, one.workflow, one.currency, one.user)
        sums = expected.setdefault(key, [0, 0, 0, 0, Decimal(0), 0, 0, 0])
        values = (
            1, not one.success, one.cache_hit, one.cost is not None, one.cost or Decimal(0),
            one.input or 0, one.output or 0, one.cache_read or 0,
        )  # fmt: skip
        for place, number in enumerate(values):
            sums[place] += number
    assert {
        (c.provider, c.model, c.tier, c.workflow, c.currency, c.user): [
            c.calls, c.errors, c.hits, c.priced, c.cost, c.input, c.output, c.cached,
        ]
        for c in found.cells
    } == {
        key: [*sums[:4], pytest.approx(sums[4], abs=Decimal("1e-8")), *sums[5:]]
        for key, sums in expected.items()
    }  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("by_user", [False, True])
@pytest.mark.parametrize("most", [20_000, 4])
def test_calls_add_up_to_the_same_cells(tmp_path, monkeypatch, seed, by_user, most):
    monkeypatch.setattr(cells, "_MOST", most)
    monkeypatch.setattr(cells, "_EXACT", 100)
    dice = random.Random(seed)
    content = [line(*[random_call(dice) for _ in range(dice.randrange(1, 6))]) for _ in range(120)]
    segment(tmp_path, *content)
    fast = add_up(Reader(tmp_path), ALWAYS, by_user=by_user)
    slow = summed(calls(Reader(tmp_path), ALWAYS), by_user=by_user)
    assert slow.cells == fast.cells
    for share in (0.05, 0.5, 0.95, 1):
        assert slow.durations.quantile(share) == fast.durations.quantile(share)


def test_money_is_added_up_exactly(tmp_path):
    segment(tmp_path, *[line(*[call(cost=0.1) for _ in range(100)]) for _ in range(10)])
    [cell] = add_up(Reader(tmp_path), ALWAYS).cells
    assert cell.cost == 100


def test_calls_of_different_users_share_a_cell_unless_users_are_asked_for(tmp_path):
    segment(tmp_path, line(call(user="a"), call(user="b")))
    assert [cell.calls for cell in add_up(Reader(tmp_path), ALWAYS).cells] == [2]
    found = add_up(Reader(tmp_path), ALWAYS, by_user=True).cells
    assert sorted((cell.user, cell.calls) for cell in found) == [("a", 1), ("b", 1)]


def test_combinations_beyond_the_bound_are_one_cell(tmp_path, monkeypatch):
    monkeypatch.setattr(cells, "_MOST", 3)
    segment(tmp_path, line(*[call(model=f"m{n}") for n in range(10)], call(model="m0")))
    found = add_up(Reader(tmp_path), ALWAYS).cells
    assert [(c.model, c.calls) for c in found] == [("m0", 2), ("m1", 1), ("m2", 1), ("_other", 7)]


def test_spans_of_a_line_without_calls_add_nothing(tmp_path):
    segment(tmp_path, line(span("a"), span("b")), line(call()))
    assert [cell.calls for cell in add_up(Reader(tmp_path), ALWAYS).cells] == [1]


def test_quantiles_of_few_durations_are_exact():
    durations = Durations()
    durations.recent.extend(n * SECOND for n in (5, 1, 4, 2, 3))
    assert durations.quantile(0.5) == 3.0
    assert durations.quantile(0.95) == 5.0
    assert durations.quantile(0) == 1.0


def test_without_durations_there_is_no_quantile():
    assert Durations().quantile(0.5) is None


def test_quantiles_of_many_durations_are_close_and_their_memory_is_bounded():
    dice = random.Random(7)
    exact = [int(dice.lognormvariate(20, 2)) for _ in range(60_000)] + [0, 1, 2]
    durations = Durations()
    for start in range(0, len(exact), 1000):
        durations.recent.extend(exact[start : start + 1000])
        durations.classify()
    exact.sort()
    for share in (n / 50 for n in range(1, 50)):
        want = exact[-(-Fraction(str(share)) * len(exact) // 1) - 1]
        assert durations.quantile(share) == pytest.approx(want / 1e9, rel=0.001)
    assert len(durations._classes) < 20_000
