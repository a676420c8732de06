"""Every view against a loop over the raw lines that knows nothing of the readers.

The home is recorded through the public API by several processes, then read twice: by the views, and
by the plainest code that can do it. Lines of other programs, which the API would never write, are
thrown by dice.
"""

from __future__ import annotations

import csv
import io
import json
import math
import random
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from store.lines import segment

from otel_empathy.cli import main
from otel_empathy.core.prices import Prices
from otel_empathy.views.store import Store

DAY = 86_400_000_000_000
MODELS = {
    "house/large": {"input": "15", "output": "75", "cache_read": "1.50", "cache_write": "18.75"},
    "house/small": {"input": "0.25", "output": "1.25", "cache_read": "0.025"},
    "barn/plain": {"input": "2", "output": "8"},
}
RECORDER = """
import os, random, sys
import otel_empathy as oe

home, prices, seed = sys.argv[1], sys.argv[2], int(sys.argv[3])
dice = random.Random(seed)
TIERS = {"large": "premium", "small": "cheap", "plain": "capable", "unheard-of": "premium"}

def ask(model):
    provider = dice.choice(["house", "barn"]) if model == "unheard-of" else (
        "barn" if model == "plain" else "house")
    operation = dice.choice(["chat", "chat", "embeddings", "text_completion"])
    @oe.llm_call(provider=provider, model=model, operation=operation,
                 tier=dice.choice([None, TIERS[model]]), stage=dice.choice([None, "draft"]))
    def call():
        current = oe.current_call()
        fate = dice.random()
        if fate < 0.15:
            current.cached("exact")
            return "again"
        if fate < 0.30:
            raise TimeoutError("no answer")
        if fate < 0.90:
            sent = dice.randrange(1, 200_000)
            read = dice.choice([None, 0, dice.randrange(sent)])
            write = dice.choice([None, 0, dice.randrange(sent - (read or 0) + 1)])
            current.usage(input=sent, output=dice.randrange(5_000), cache_read=read,
                          cache_write=write, reasoning=dice.choice([None, 3]))
        if fate < 0.6:
            current.response(model=model)
        if 0.5 < fate < 0.6:
            current.cost(round(dice.random(), 9), currency=dice.choice(["USD", "USD", "EUR"]))
        return "well"
    try:
        return call()
    except TimeoutError:
        return "late"

@oe.tool
def look(): ask("small")

@oe.agent(name="planner")
def plan():
    for _ in range(dice.randrange(4)):
        with oe.phase("thinking"): ask(dice.choice(list(TIERS)))
    look()

spelling = "gen_ai" if seed % 2 else "empathy"
oe.configure(service=f"shop-{seed}", home=home,
             settings={"prices": prices, "cost_names": spelling, "segment_bytes": 20_000})
for number in range(25):
    with oe.using(user=dice.choice([None, "ada", "bob"]), session=f"s{number}",
                  workflow=dice.choice([None, "checkout", "search", "=sum(A1)"])):
        plan() if dice.random() < 0.5 else ask(dice.choice(list(TIERS)))
if seed % 3 == 0:
    os._exit(0)
oe.shutdown()
"""


# -- the plain loop --------------------------------------------------------------------------------


def plain(value: dict[str, Any]) -> Any:
    [(kind, found)] = value.items()
    if kind == "arrayValue":
        return [plain(one) for one in found["values"]]
    return int(found) if kind == "intValue" else found


def spans_of(home: Path) -> list[dict[str, Any]]:
    """Every span once, in the order of instance and sequence."""
    files = sorted((home / "otlp/traces").iterdir(), key=lambda path: path.name.split("-")[-3:])
    found: dict[Any, dict[str, Any]] = {}
    for path in files:
        for text in path.read_bytes().splitlines():
            for sender in json.loads(text)["resourceSpans"]:
                service = next(
                    plain(one["value"])
                    for one in sender["resource"]["attributes"]
                    if one["key"] == "service.name"
                )
                for scope in sender["scopeSpans"]:
                    for span in scope["spans"]:
                        flat = {one["key"]: plain(one["value"]) for one in span["attributes"]}
                        span |= {"flat": flat, "service": service}
                        found.setdefault((span["traceId"], span["spanId"]), span)
    return list(found.values())


def number(value: Any) -> float | None:
    fits = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value if fits and abs(value) < 1e9 else None


def count(value: Any) -> int:
    fits = isinstance(value, (int, float)) and not isinstance(value, bool)
    return int(value) if fits and value >= 0 and value == int(value) else 0


@dataclass
class Plain:
    """One call as the plain loop sees it."""

    span: dict[str, Any]

    def __post_init__(self) -> None:
        self.flat = flat = self.span["flat"]
        self.start = int(self.span["startTimeUnixNano"])
        self.took = int(self.span["endTimeUnixNano"]) - self.start
        self.failed = self.span.get("status", {}).get("code") == 2
        self.model = flat.get("gen_ai.request.model") or flat.get("gen_ai.response.model")
        self.hit = flat.get("empathy.call.cache_hit") is True
        amounts = (flat.get("empathy.cost.amount"), flat.get("gen_ai.usage.cost.amount"))
        known = [number(one) for one in amounts if number(one) is not None]
        self.cost = Decimal(str(known[0])) if known else Decimal(0) if self.hit else None
        names = (flat.get("empathy.cost.currency"), flat.get("gen_ai.usage.cost.currency"))
        self.currency = next((name for name in names if name), "USD")
        self.input = count(flat.get("gen_ai.usage.input_tokens"))
        self.output = count(flat.get("gen_ai.usage.output_tokens"))
        self.read = count(flat.get("gen_ai.usage.cache_read.input_tokens"))
        self.groups = {
            "model": self.model or "unknown",
            "tier": flat.get("empathy.call.tier") or "unknown",
            "workflow": flat.get("gen_ai.workflow.name") or "unknown",
            "provider": flat.get("gen_ai.provider.name") or "unknown",
            "user": flat.get("user.hash") or "unknown",
        }


CALLS = {"chat", "text_completion", "generate_content", "embeddings"}


def calls_of(home: Path) -> list[Plain]:
    return [
        Plain(span) for span in spans_of(home) if span["flat"].get("gen_ai.operation.name") in CALLS
    ]


def main_currency(calls: list[Plain]) -> str:
    priced = [one.currency for one in calls if one.cost is not None]
    return max(sorted(set(priced), key=lambda name: name != "USD"), key=priced.count, default="USD")


def sums(calls: list[Plain], group: str) -> dict[str, Decimal]:
    found: dict[str, Decimal] = defaultdict(Decimal)
    for one in calls:
        if one.currency == main_currency(calls):
            found[one.groups[group]] += one.cost or 0
    return dict(found)


def rank(calls: list[Plain], share: float) -> float | None:
    took = sorted(one.took for one in calls if one.took >= 0)
    return took[max(math.ceil(share * len(took)) - 1, 0)] / 1e9 if took else None


def usage_of(calls: list[Plain]) -> dict[str, Any]:
    ours = [one for one in calls if one.currency == main_currency(calls)]
    hits = sum(one.hit for one in calls)
    errors = sum(one.failed for one in calls)
    cost = sum((one.cost or Decimal(0) for one in ours), Decimal(0))
    return {
        "total_calls": len(calls),
        "exact_cost": cost,
        "total_cost": round(cost, 2),
        "tokens_input": sum(one.input for one in calls),
        "tokens_output": sum(one.output for one in calls),
        "tokens_cached": sum(one.read for one in calls),
        "errors": errors,
        "error_rate": round(errors / len(calls), 4) if calls else None,
        "cache_hits": hits,
        "cache_misses": len(calls) - hits,
        "cache_hit_rate": round(100 * hits / len(calls), 1) if calls else None,
        "latency_p50": rank(calls, 0.5),
        "latency_p95": rank(calls, 0.95),
        "by_tier": sums(calls, "tier"),
        "by_workflow": sums(calls, "workflow"),
        "by_provider": sums(calls, "provider"),
        "by_model": sums(calls, "model"),
        "unpriced_calls": sum(one.cost is None for one in calls),
    }


def savings_of(calls: list[Plain]) -> dict[str, Any]:
    paid = [one for one in calls if one.cost is not None and one.currency == main_currency(calls)]
    premium = [one for one in paid if one.groups["tier"] == "premium"]
    mean = Decimal("0.05")
    if premium:
        mean = sum((one.cost for one in premium), Decimal(0)) / len(premium)
    actual, baseline = sum((one.cost for one in paid), Decimal(0)), mean * len(paid)
    asked = [one for one in paid if not one.hit]
    tiers = [one.groups["tier"] for one in calls]
    return {
        "method": "premium_mean" if premium else "premium_fallback",
        "actual_cost": actual,
        "baseline_cost": baseline,
        "savings": baseline - actual,
        "savings_percent": round(float(100 * (1 - actual / baseline)), 1) if baseline else None,
        "tier_distribution": {
            name: round(100 * tiers.count(name) / len(tiers), 1) for name in set(tiers)
        },
        "cache_savings": sum(one.hit for one in calls) * actual / len(asked) if asked else 0,
        "total_calls": len(calls),
        "unpriced_calls": sum(one.cost is None for one in calls),
    }


def cache_of(calls: list[Plain]) -> dict[str, Any]:
    asked = [one for one in calls if not one.hit]
    hits = [one for one in asked if one.read]
    saved, unpriced = Decimal(0), set()
    for one in hits:
        name = f"{one.groups['provider']}/{one.model or 'unknown'}"
        rates = MODELS.get(name, {})
        if "cache_read" in rates:
            saved += one.read * (Decimal(rates["input"]) - Decimal(rates["cache_read"])) / 1_000_000
        else:
            unpriced.add(name)
    return {
        "hit_rate": round(len(hits) / len(asked), 4) if asked else None,
        "hit_count": len(hits),
        "total_requests": len(asked),
        "total_reads": sum(one.read for one in asked),
        "total_writes": sum(
            count(one.flat.get("gen_ai.usage.cache_write.input_tokens"))
            or count(one.flat.get("gen_ai.usage.cache_creation.input_tokens"))
            for one in asked
        ),
        "savings": saved,
        "unpriced_models": tuple(sorted(unpriced)),
        "requests": {
            name: sum(one.groups["workflow"] == name for one in asked)
            for name in {one.groups["workflow"] for one in asked}
        },
    }


def same(view: Any, expected: dict[str, Any]) -> None:
    for name, value in expected.items():
        found = getattr(view, name)
        if isinstance(value, Decimal):
            assert abs(found - value) < Decimal("1e-15"), name
        else:
            assert found == value, name


def compared(store: Store, calls: list[Plain], **window: Any) -> None:
    """Usage, savings and cache of a window against those of the calls that lie in it."""
    used = store.usage(**window)
    same(used, usage_of(calls))
    for by in ("model", "tier", "workflow", "provider", "user"):
        rows = store.usage(by=by, **window).rows
        names = {one.groups[by] for one in calls}
        assert {row.name for row in rows} == names
        for row in rows:
            group = [one for one in calls if one.groups[by] == row.name]
            whole = usage_of(group)
            for name in ("tokens_input", "tokens_output", "tokens_cached", "errors", "cache_hits"):
                assert getattr(row, name) == whole[name], (by, row.name, name)
            assert row.calls == len(group)
            assert row.unpriced_calls == whole["unpriced_calls"]
            paid = (one.cost for one in group if one.currency == used.currency and one.cost)
            assert row.cost == sum(paid, Decimal(0))
    same(store.savings(**window), savings_of(calls))
    view, expected = store.cache(**window), cache_of(calls)
    assert {name: row.requests for name, row in view.by_workflow.items()} == expected.pop(
        "requests"
    )
    same(view, expected)


# -- a home that was recorded ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recorded")
    prices = folder / "prices.json"
    prices.write_text(json.dumps({"models": MODELS}))
    writers = [
        subprocess.Popen([sys.executable, "-c", RECORDER, folder / "home", prices, str(seed)])
        for seed in range(4)
    ]
    assert [writer.wait(18) for writer in writers] == [0] * 4
    return folder / "home"


@cache
def recorded(home: Path) -> tuple[Plain, ...]:
    return tuple(calls_of(home))


class Stopped:
    """A clock that stands still."""

    def __init__(self, now_ns: int) -> None:
        self._now = now_ns

    def time_ns(self) -> int:
        return self._now

    def monotonic(self) -> float:
        return 0.0


def store_of(home: Path, now_ns: int = 1 << 62) -> Store:
    return Store(home, clock=Stopped(now_ns), prices=Prices.bundled().override(MODELS))


def test_the_recorded_home_has_everything_that_the_views_tell_apart(home: Path) -> None:
    calls = recorded(home)
    assert len(list((home / "otlp/traces").iterdir())) > 8
    assert len({one.span["service"] for one in calls}) == 4
    assert any(one.failed for one in calls)
    assert any(one.hit for one in calls)
    assert any(one.cost is None for one in calls)
    assert {one.currency for one in calls} == {"USD", "EUR"}
    assert all(len({one.groups[by] for one in calls}) > 2 for by in ("model", "tier", "user"))
    spellings = {key for one in calls for key in one.flat if key.endswith("cost.amount")}
    assert spellings == {"empathy.cost.amount", "gen_ai.usage.cost.amount"}


@pytest.mark.system("1")
def test_usage_savings_and_cache_of_everything(home: Path) -> None:
    compared(store_of(home), list(recorded(home)), days=None)


@pytest.mark.system("1")
@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 0.9, 1.0])
def test_days_are_exactly_so_many_times_24_hours(home: Path, share: float) -> None:
    starts = sorted(one.start for one in recorded(home))
    edge = starts[round(share * (len(starts) - 1))]
    inside = [one for one in recorded(home) if edge < one.start <= edge + DAY]
    compared(store_of(home, edge + DAY), inside, days=1)
    both = store_of(home, edge + DAY).compare(0, 1)
    assert (both.first.total_calls, both.second.total_calls) == (0, len(inside))


@pytest.mark.system("1")
def test_a_stretch_of_time_holds_its_beginning_and_not_its_end(home: Path) -> None:
    starts = sorted(one.start for one in recorded(home))
    since, until = starts[len(starts) // 4], starts[3 * len(starts) // 4]
    inside = [one for one in recorded(home) if since <= one.start < until]
    compared(store_of(home), inside, since=since, until=until)


@pytest.mark.system("21")
def test_the_command_tells_the_same(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["usage", "--by", "workflow", "--days", "9", "--home", str(home)]) == 0
    found = json.loads(capsys.readouterr().out)
    expected = usage_of(list(recorded(home)))
    assert found["total_cost"] == float(expected["total_cost"])
    assert found["by_model"] == {k: float(round(v, 2)) for k, v in expected["by_model"].items()}
    saved = savings_of(list(recorded(home)))
    assert found["savings"]["savings"] == float(round(saved["savings"], 2))
    assert found["savings"]["savings_percent"] == saved["savings_percent"]
    assert found["total_calls"] == sum(row["calls"] for row in found["rows"])


@pytest.mark.system("1")
def test_the_newest_calls_are_truly_the_newest(home: Path) -> None:
    newest = sorted((one.start for one in recorded(home)), reverse=True)
    assert [call.start for call in store_of(home).recent(20)] == newest[:20]


def test_traces_are_the_sums_of_their_spans(home: Path) -> None:
    grouped = defaultdict(list)
    for span in spans_of(home):
        grouped[span["traceId"]].append(span)
    listed = store_of(home).traces(limit=10_000)
    assert len(listed) == len(grouped)
    assert [one.start for one in listed] == sorted((one.start for one in listed), reverse=True)
    for trace in listed:
        spans = grouped[trace.trace_id]
        calls = [Plain(s) for s in spans if s["flat"].get("gen_ai.operation.name") in CALLS]
        costs = [one.cost for one in calls if one.cost is not None]
        start = min(int(span["startTimeUnixNano"]) for span in spans)
        assert trace.start == start
        assert (trace.spans, trace.calls) == (len(spans), len(calls))
        assert trace.errors == sum(span.get("status", {}).get("code") == 2 for span in spans)
        assert trace.tokens_input == sum(one.input for one in calls)
        assert trace.tokens_output == sum(one.output for one in calls)
        assert trace.cost == (sum(costs, Decimal(0)) if costs else None)
        assert trace.unpriced_calls == len(calls) - len(costs)
        end = max(int(span["endTimeUnixNano"]) for span in spans)
        assert trace.duration == (end - start) / 1e9
        [root] = [span for span in spans if not span.get("parentSpanId")]
        assert (trace.name, trace.service) == (root["name"], root["service"])


def test_a_tree_has_each_span_below_its_parent(home: Path) -> None:
    parents = {span["spanId"]: span.get("parentSpanId") or None for span in spans_of(home)}
    store = store_of(home)
    largest = max(store.traces(limit=10_000), key=lambda trace: trace.spans)
    trace = store.trace(largest.trace_id[:12])
    assert trace is not None
    above: list[str] = []
    for depth, node in trace.walk():
        del above[depth:]
        assert parents[node.span.span_id] == (above[-1] if above else None)
        above.append(node.span.span_id)
    assert sum(1 for _ in trace.walk()) == largest.spans == trace.spans


_WRITES = (
    "gen_ai.usage.cache_write.input_tokens",
    "gen_ai.usage.cache_creation.input_tokens",
)


def flat_of(one: Plain) -> dict[str, Any]:
    flat = one.flat
    seconds, micros = divmod(one.start // 1000, 1_000_000)
    ts = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{micros:06d}Z"
    form: dict[str, Any] = {
        "v": 1,
        "ts": ts,
        "workflow": flat.get("gen_ai.workflow.name"),
        "stage": flat.get("empathy.call.stage"),
        "tier": flat.get("empathy.call.tier"),
        "model": one.model,
        "provider": flat.get("gen_ai.provider.name"),
        "cost": None if one.cost is None else float(round(one.cost, 6)),
        "tokens": {
            "input": flat.get("gen_ai.usage.input_tokens"),
            "output": flat.get("gen_ai.usage.output_tokens"),
        },
        "cache": {"hit": one.hit},
        "duration_ms": round(one.took / 1e6, 3),
        "user": flat.get("user.hash"),
        "success": not one.failed,
        "error_type": flat.get("error.type"),
    }
    if one.hit:
        form["cache"]["type"] = flat["empathy.call.cache_type"]
    write = count(flat.get(_WRITES[0])) or count(flat.get(_WRITES[1]))
    if one.read or write:
        form["prompt_cache"] = {"hit": one.read > 0}
        if any(key in flat for key in _WRITES):
            form["prompt_cache"]["creation_tokens"] = write
        if "gen_ai.usage.cache_read.input_tokens" in flat:
            form["prompt_cache"]["read_tokens"] = one.read
    return form


@pytest.mark.system("1")
def test_flat_lines_have_exactly_the_promised_members(home: Path) -> None:
    stream = io.BytesIO()
    written = store_of(home).export(stream, "jsonl")
    found = [json.loads(text) for text in stream.getvalue().splitlines()]
    assert written == len(found)
    assert found == [flat_of(one) for one in recorded(home)]


@pytest.mark.system("1")
@pytest.mark.fault("H11")
def test_csv_has_exactly_the_promised_columns(home: Path) -> None:
    stream = io.BytesIO()
    store_of(home).export(stream, "csv")
    found = list(csv.reader(io.StringIO(stream.getvalue().decode(), newline="")))
    assert found[0] == [
        "ts", "workflow", "stage", "tier", "model", "provider", "cost", "tokens_input",
        "tokens_output", "cache_hit", "cache_type", "duration_ms",
    ]  # fmt: skip
    for row, one in zip(found[1:], recorded(home), strict=True):
        form = flat_of(one)
        cells = [
            *(form[name] for name in ("ts", "workflow", "stage", "tier", "model", "provider")),
            None if form["cost"] is None else f"{form['cost']:.6f}",
            *form["tokens"].values(),
            str(one.hit).lower(),
            form["cache"].get("type"),
            form["duration_ms"],
        ]
        assert [cell.removeprefix("'") for cell in row] == [
            "" if cell is None else str(cell) for cell in cells
        ]
    assert "'=sum(A1)" in {row[1] for row in found}


def test_otlp_is_the_log_without_our_segment_ids(home: Path) -> None:
    stream = io.BytesIO()
    store_of(home).export(stream, "otlp")
    folder = home.parent / "exported" / "otlp" / "traces"
    folder.mkdir(parents=True)
    (folder / "a-0-b-c.jsonl").write_bytes(stream.getvalue())
    assert b"empathy.segment.id" not in stream.getvalue()
    assert spans_of(folder.parents[1]) == spans_of(home)


# -- lines of other programs -----------------------------------------------------------------------


def whole(dice: random.Random) -> dict[str, Any]:
    sent = dice.randrange(3_000)
    return dice.choice(
        [
            {"intValue": str(sent)},
            {"intValue": sent},
            {"doubleValue": float(sent)},
            {"intValue": str(-sent)},
            {"doubleValue": 0.5},
            {"stringValue": "7"},
            {"boolValue": True},
        ]
    )


def money(dice: random.Random) -> dict[str, Any]:
    odd = [{"intValue": "2"}, {"doubleValue": 1e12}, {"stringValue": "1"}, {"boolValue": True}]
    return dice.choice([*odd, *({"doubleValue": round(dice.random(), 9)} for _ in odd)])


def text(*choices: str) -> Callable[[random.Random], dict[str, Any]]:
    return lambda dice: {"stringValue": dice.choice(choices)}


VALUES: dict[str, Callable[[random.Random], dict[str, Any]]] = {
    "gen_ai.provider.name": text("a", "b", ""),
    "gen_ai.request.model": text("a", "b", ""),
    "gen_ai.response.model": text("a", "c", ""),
    "gen_ai.workflow.name": text("a", "b", ""),
    "empathy.call.tier": text("premium", "cheap"),
    "user.hash": text("a", "b"),
    "empathy.call.cache_hit": lambda dice: dice.choice(
        [{"boolValue": True}, {"boolValue": False}, {"stringValue": "true"}]
    ),
    "empathy.cost.amount": money,
    "gen_ai.usage.cost.amount": money,
    "gen_ai.usage.cost.currency": text("EUR", "USD"),
    "gen_ai.usage.input_tokens": whole,
    "gen_ai.usage.output_tokens": whole,
    "gen_ai.usage.cache_read.input_tokens": whole,
    "gen_ai.usage.cache_write.input_tokens": whole,
    "x": lambda dice: {"arrayValue": {"values": [{"intValue": "1"}]}},
}


def foreign_span(dice: random.Random, sent: list[dict[str, Any]]) -> dict[str, Any]:
    """A span, or one that was sent before, as exporters do that got no answer."""
    if sent and dice.random() < 0.2:
        return dice.choice(sent)
    operation = {"stringValue": dice.choice([*sorted(CALLS), "execute_tool"])}
    keys = [key for key in VALUES if dice.random() < 0.6]
    pairs = [("gen_ai.operation.name", operation), *((key, VALUES[key](dice)) for key in keys)]
    dice.shuffle(pairs)
    span = {
        "traceId": f"{dice.randrange(4):032x}",
        "spanId": f"{len(sent) + 1:016x}",
        "name": "s",
        "startTimeUnixNano": str(dice.randrange(1, 50)),
        "endTimeUnixNano": dice.randrange(90),
        "attributes": [{"key": key, "value": value} for key, value in pairs],
        "status": dice.choice([{}, {"code": 0}, {"code": 1}, {"code": 2}]),
    }
    sent.append(span)
    return span


def foreign_line(dice: random.Random, sent: list[dict[str, Any]]) -> bytes:
    name = {"key": "service.name", "value": {"stringValue": "x"}}
    senders = [
        {
            "resource": {"attributes": [name]},
            "scopeSpans": [
                {"scope": {}, "spans": [foreign_span(dice, sent) for _ in range(4)]}
                for _ in range(dice.randrange(3))
            ],
        }
        for _ in range(dice.randrange(3))
    ]
    return json.dumps({"resourceSpans": senders}).encode() + b"\n"


@pytest.mark.parametrize("seed", range(40))
def test_lines_of_other_programs_add_up_the_same(tmp_path: Path, seed: int) -> None:
    dice, sent = random.Random(seed), []
    segment(tmp_path, *[foreign_line(dice, sent) for _ in range(dice.randrange(4))])
    # Not named as a segment, so a span in it may be one that was sent before.
    other = tmp_path / "otlp/traces/z-1-2-3.jsonl"
    other.write_bytes(b"".join(foreign_line(dice, sent) for _ in range(dice.randrange(1, 8))))
    store, calls = store_of(tmp_path), calls_of(tmp_path)
    compared(store, calls, days=None)
    listed = store.traces(limit=99)
    assert sum(trace.spans for trace in listed) == len(spans_of(tmp_path))
    assert sum(trace.calls for trace in listed) == len(calls)
    assert sum(trace.tokens_input for trace in listed) == sum(one.input for one in calls)
    costs = [one.cost or Decimal(0) for one in calls]
    assert sum((trace.cost or 0 for trace in listed), Decimal(0)) == sum(costs, Decimal(0))
