"""`otel-empathy cache`: what the providers' prompt caches bring."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from otel_empathy.cli.numbers import count, money, percent, tokens
from otel_empathy.cli.options import Window, common, window
from otel_empathy.cli.screen import Column, Screen
from otel_empathy.cli.store import opened

if TYPE_CHECKING:
    from otel_empathy.views.cache import CacheView

__all__ = ["command"]

_DAYS = 7.0
_LOW = 0.3  # below this share of hits some advice is given


@click.command("cache")
@window(days=_DAYS)
@common
def command(*, window: Window, home: Path | None, as_json: bool | None) -> None:
    """What prompt caching brings.

    Hits, tokens and money of the providers' prompt caches, by workflow.
    """
    screen = Screen(as_json=as_json)
    with opened(screen, home) as store:
        view = store.cache(**window.question)
    if screen.people:
        _draw(screen, view, when=window.text)
    else:
        screen.record(view.as_dict())
    if view.hit_rate is not None and view.hit_rate < _LOW:
        screen.note(
            f"{percent(view.hit_rate)} of the requests read from a cache. Put what never changes"
            " (instructions, tools, examples) first in the prompt, keep it byte for byte, and put"
            " what changes last."
        )
    if view.unpriced_models:
        screen.note(f"without prices, so not in the savings: {', '.join(view.unpriced_models)}")


def _draw(screen: Screen, view: CacheView, *, when: str) -> None:
    screen.title("Prompt caches", when)
    if not view.total_requests:
        screen.print(" no requests")
        return
    hits = f"{count(view.hit_count)} of {count(view.total_requests)} requests"
    screen.facts(
        [
            ("hits", f"{percent(view.hit_rate)}, {hits}"),
            ("tokens", f"{tokens(view.total_reads)} read, {tokens(view.total_writes)} written"),
            ("saved", money(view.savings)),
        ]
    )
    screen.print()
    screen.table(
        (
            Column("workflow", style="bold", grow=True),
            Column("requests", right=True, spare=2),
            Column("hits", right=True, spare=3),
            Column("hit rate", right=True),
            Column("read", right=True, spare=1),
            Column("written", right=True, spare=4),
        ),
        [
            (
                name,
                count(row.requests),
                count(row.hits),
                percent(row.hit_rate),
                tokens(row.reads),
                tokens(row.writes),
            )
            for name, row in view.by_workflow.items()
        ],
    )
