"""`otel-empathy traces`: the newest traces as a list, one of them as a tree, or all in a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from otel_empathy.cli.errors import Finding
from otel_empathy.cli.export import write
from otel_empathy.cli.noun import Noun
from otel_empathy.cli.numbers import count, money, tokens
from otel_empathy.cli.options import Number, Window, common, window
from otel_empathy.cli.outfile import STDOUT
from otel_empathy.cli.screen import Column, Screen
from otel_empathy.cli.store import opened
from otel_empathy.cli.times import duration, local

if TYPE_CHECKING:
    from rich.text import Text

    from otel_empathy.views.traces import TraceSummary

__all__ = ["command"]

_ID = 8  # characters of an id that a list shows; any unambiguous beginning is accepted
_WIDE = 110  # columns from which on a list has room for everything
_NARROW = 76  # columns below which it has none for when a trace began


@click.group("traces", cls=Noun, bare="list", given="show")
def command() -> None:
    """List traces, draw one as a tree, or export them.

    `traces` alone lists the newest ones, `traces ID` draws one; the beginning of an id is enough.
    """


@command.command("list")
@click.option(
    "-n", "--limit", type=click.IntRange(min=0), default=20, show_default=True, help="How many."
)
@click.option("--service", help="Sent by this service.")
@click.option("--model", help="Asked, or answered by, this model.")
@click.option("--agent", help="With this agent.")
@click.option("--run", help="With this run.")
@click.option("--status", type=click.Choice(["ok", "error"]), help="Without or with errors.")
@click.option("--text", help="With this text in a name or an attribute.")
@click.option("--min-duration", type=Number(), metavar="SECONDS", help="At least as long.")
@click.option("--min-cost", type=Number(), metavar="AMOUNT", help="At least as dear.")
@window(days=None)
@common
def listing(
    *, limit: int, window: Window, home: Path | None, as_json: bool | None, **wanted: Any
) -> None:
    """List the newest traces that have everything that is asked for."""
    screen = Screen(as_json=as_json)
    with opened(screen, home) as store:
        found = store.traces(limit=limit, since=window.since, until=window.until, **wanted)
    if not screen.people:
        screen.records(trace.as_dict() for trace in found)
    elif found:
        _draw_list(screen, found, when=window.text)
    if not found:
        screen.note(f"no traces in {window.text}; `otel-empathy demo` makes one")


@command.command("show")
@click.argument("id_", metavar="ID")
@common
def show(*, id_: str, home: Path | None, as_json: bool | None) -> None:
    """Draw one trace as a tree with durations, tokens and money."""
    from otel_empathy.cli.tree import draw

    screen = Screen(as_json=as_json)
    with opened(screen, home) as store:
        trace = store.trace(id_)
    if trace is None:
        raise Finding(f"there is no trace {id_!r} in the log. `otel-empathy traces` lists them.")
    if screen.people:
        draw(screen, trace)
    else:
        screen.record(trace.as_dict())


@command.command("export")
@click.option(
    "-o",
    "--output",
    default=STDOUT,
    show_default=True,
    metavar="FILE",
    help="Where to; - is stdout.",
)
@window(days=None)
@common
def export(*, output: str, window: Window, home: Path | None, as_json: bool | None) -> None:
    """Write the spans of the log as OTLP-JSON lines, as a Collector reads them."""
    screen = Screen(as_json=as_json)
    write(screen, home, output=output, form="otlp", signal="traces", window=window)


def _draw_list(screen: Screen, found: Sequence[TraceSummary], *, when: str) -> None:
    wide, narrow = screen.width >= _WIDE, screen.width < _NARROW
    columns = [
        Column("trace", style="cyan"),
        *([] if narrow else [Column("started", spare=4)]),
        *([Column("service", grow=True)] if wide else []),
        Column("name", style="bold", grow=True),
        Column("errors", right=True, spare=2),
        *([Column("spans", right=True), Column("calls", right=True)] if wide else []),
        Column("tokens", right=True, spare=3),
        Column("cost", right=True),
        Column("time", right=True, spare=1),
    ]
    screen.title("Traces", when)
    screen.table(columns, [_row(trace, wide=wide, narrow=narrow) for trace in found])
    screen.print()
    screen.note(f"`otel-empathy traces {found[0].trace_id[:_ID]}` draws the newest")


def _row(trace: TraceSummary, *, wide: bool, narrow: bool) -> list[str | Text]:
    from rich.text import Text

    used = trace.tokens_input + trace.tokens_output
    known = trace.calls > 0
    began = local(trace.start) if wide else local(trace.start)[5:16]
    return [
        trace.trace_id[:_ID],
        *([] if narrow else [began]),
        *([trace.service or "-"] if wide else []),
        trace.name,
        Text(f"✗ {trace.errors}", style="red") if trace.errors else "",
        *([count(trace.spans), count(trace.calls)] if wide else []),
        tokens(used) if known else "",
        money(trace.cost) if known else "",
        duration(trace.duration),
    ]
