"""`otel-empathy usage`: calls, tokens and money of a stretch of time, and what was saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import click

from otel_empathy.cli.numbers import UNKNOWN, count, money, percent, tokens
from otel_empathy.cli.options import Window, common, window
from otel_empathy.cli.screen import Column, Screen, clean
from otel_empathy.cli.store import opened
from otel_empathy.cli.times import duration

if TYPE_CHECKING:
    from rich.text import Text

    from otel_empathy.views.usage import By, Method, SavingsView, UsageView

__all__ = ["command", "draw"]

_DAYS = 30.0
_NAME = 40  # characters of a name in a list of several
_GROUPS_SHOWN = 6
_GROUPS = ("model", "tier", "workflow", "provider", "user")


@click.command("usage")
@click.option(
    "--by",
    type=click.Choice(_GROUPS),
    default="model",
    show_default=True,
    help="One row for each.",
)
@click.option(
    "--method",
    type=click.Choice(["premium_mean", "repriced"]),
    default="premium_mean",
    show_default=True,
    help="Baseline of the savings: mean cost of premium calls, or each call's own tokens.",
)
@click.option(
    "--reference",
    metavar="PROVIDER/MODEL",
    help="Whose prices `repriced` takes; default the premium model that was called most.",
)
@window(days=_DAYS)
@common
def command(
    *,
    by: By,
    method: Method,
    reference: str | None,
    window: Window,
    home: Path | None,
    as_json: bool | None,
) -> None:
    """Calls, tokens and money, and what was saved.

    Savings compare with sending every call to a premium model.
    """
    if reference is not None and method != "repriced":
        raise click.UsageError("--reference needs --method repriced.")
    screen = Screen(as_json=as_json)
    with opened(screen, home) as store:
        used, savings = store.usage_and_savings(
            **window.question, by=by, method=method, reference=reference
        )
    if screen.people:
        draw(screen, used, savings, when=window.text)
    else:
        screen.record({**used.as_dict(), "savings": savings.as_dict()})


def draw(screen: Screen, usage: UsageView, savings: SavingsView, *, when: str) -> None:
    """Print usage and savings for people."""
    from rich.text import Text

    screen.title("Usage", when)
    if not usage.total_calls:
        screen.print(" no calls")
        screen.note(
            "`otel-empathy demo` makes some; `otel-empathy doctor` tells why there are none"
        )
        return
    currency = usage.currency
    cached = f" ({tokens(usage.tokens_cached)} from a prompt cache)" if usage.tokens_cached else ""
    output = tokens(usage.tokens_output)
    screen.facts(
        [
            ("calls", _calls(usage)),
            ("tokens", f"{tokens(usage.tokens_input)} in{cached}, {output} out"),
            ("cost", _cost(usage)),
            ("latency", f"p50 {duration(usage.latency_p50)}, p95 {duration(usage.latency_p95)}"),
        ]
    )
    screen.print()
    screen.table(
        (
            Column(usage.by or "group", style="bold", grow=True),
            Column("calls", right=True, spare=1),
            Column("errors", right=True, spare=4),
            Column("in", right=True, spare=2),
            Column("cached", right=True, spare=5),
            Column("out", right=True, spare=3),
            Column("cost", right=True),
        ),
        [
            (
                row.name,
                count(row.calls),
                Text(count(row.errors), style="red") if row.errors else "0",
                tokens(row.tokens_input),
                tokens(row.tokens_cached),
                tokens(row.tokens_output),
                UNKNOWN if row.unpriced_calls == row.calls else money(row.cost, currency),
            )
            for row in usage.rows
        ],
    )
    sums = (("tier", usage.by_tier), ("workflow", usage.by_workflow))
    screen.print()
    screen.facts([(f"by {name}", _sums(by, currency)) for name, by in sums if name != usage.by])
    screen.title("Savings", "against every call on a premium model")
    screen.facts(_savings(savings, usage))


def _sums(costs: Mapping[str, Decimal], currency: str) -> str:
    """The dearest groups with what they cost, and how many more there are."""
    parts = [
        f"{clean(name, limit=_NAME)} {money(cost, currency)}"
        for name, cost in islice(costs.items(), _GROUPS_SHOWN)
    ]
    more = len(costs) - len(parts)
    return ", ".join([*parts, f"{count(more)} more"] if more else parts)


def _calls(usage: UsageView) -> Text:
    from rich.text import Text

    text = Text(count(usage.total_calls))
    if usage.errors:
        text.append(f", {usage.errors:,} failed ({percent(usage.error_rate)})", style="red")
    if usage.cache_hits:
        text.append(f", {usage.cache_hits:,} answered by a response cache")
    return text


def _cost(usage: UsageView) -> Text:
    from rich.text import Text

    priced = usage.total_calls - usage.unpriced_calls
    text = Text(money(usage.exact_cost, usage.currency) if priced else UNKNOWN, style="bold")
    for currency, amount in usage.other_costs.items():
        text.append(f" + {money(amount, currency)}")
    if usage.unpriced_calls:
        plural = "" if usage.unpriced_calls == 1 else "s"
        text.append(f", {usage.unpriced_calls:,} call{plural} without a price", style="yellow")
    return text


def _savings(savings: SavingsView, usage: UsageView) -> Sequence[tuple[str, str | Text]]:
    from rich.text import Text

    currency = savings.currency
    saved = Text(money(savings.savings, currency), style="bold")
    if savings.savings_percent is not None:
        saved.append(f" ({savings.savings_percent:.1f} %)")
    saved.append(
        f": {money(savings.actual_cost, currency)} instead of"
        f" {money(savings.baseline_cost, currency)}",
        style="not bold",
    )
    how = {
        "premium_mean": "the mean cost of the premium calls here",
        "premium_fallback": "no premium call here, so $0.05 each",
        "repriced": f"the same tokens on {savings.reference}",
    }
    facts: list[tuple[str, str | Text]] = [("saved", saved), ("baseline", how[savings.method])]
    if usage.cache_hits:
        facts.append(("caches", f"{money(savings.cache_savings, currency)} by response caches"))
    shares = savings.tier_distribution.items()
    if savings.tier_distribution:
        facts.append(("tiers", ", ".join(f"{tier} {share:.1f} %" for tier, share in shares)))
    return facts
