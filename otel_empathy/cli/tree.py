"""One trace drawn as a tree: what failed first, then every span with its time, tokens and money.

A span's own numbers stand bright; what stands dim is the sum of the calls below it. Where the
terminal is wide enough, a bar shows when a span ran.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import TYPE_CHECKING

from otel_empathy.cli.numbers import count, money, tokens
from otel_empathy.cli.record_line import error_of
from otel_empathy.cli.screen import Column, Screen, clean
from otel_empathy.cli.times import duration, local
from otel_empathy.core import semconv

if TYPE_CHECKING:
    from rich.text import Text

    from otel_empathy.views.traces import Node, Trace

__all__ = ["draw"]

_WIDE = 100  # columns from which on there is room for bars
_MOST_ERRORS = 10
_EIGHTHS = " ▏▎▍▌▋▊▉"


def draw(screen: Screen, trace: Trace) -> None:
    """Print the tree of a trace."""
    _head(screen, trace)
    bars = min(36, screen.width - 74) if screen.width >= _WIDE else 0
    columns = [
        Column("span", grow=True),
        *([Column("when")] if bars else []),
        Column("time", right=True, spare=1),
        Column("tokens", right=True, spare=2),
        Column("cost", right=True),
    ]
    sums = _sums(trace)
    rows: list[list[str | Text]] = []
    for prefix, node in _lines(trace):
        used, cost = sums[id(node)]
        style = "" if node.is_call else "dim"
        rows.append(
            [
                _name(prefix, node),
                *([_bar(trace, node, bars)] if bars else []),
                duration(node.span.duration),
                _styled("" if used is None else tokens(used), style),
                _styled("" if cost is None else money(cost), style),
            ]
        )
    screen.table(columns, rows)


def _head(screen: Screen, trace: Trace) -> None:
    from rich.text import Text

    services = dict.fromkeys(node.span.service or "-" for _, node in trace.walk())
    screen.title(f"Trace {trace.trace_id}", f"{', '.join(services)}, {local(trace.start)}")
    parts = [_number(trace.spans, "span"), _number(trace.calls, "call")]
    if trace.calls:
        parts.append(f"{tokens(trace.tokens_input)} + {tokens(trace.tokens_output)} tokens")
        parts.append(money(trace.cost))
    parts.append(duration(trace.duration))
    # A call that failed used nothing that anybody could price.
    unpriced = sum(n.is_call and n.cost is None and not n.span.failed for _, n in trace.walk())
    screen.print(
        Text.assemble(
            f" {', '.join(parts)}",
            (f", {_number(unpriced, 'call')} without a price" if unpriced else "", "yellow"),
        )
    )
    screen.print()
    failed = [node for _, node in trace.walk() if node.span.failed]
    for node in failed[:_MOST_ERRORS]:
        after = duration((node.span.start - trace.start) / 1e9)
        line = Text.assemble(
            (" ✗ ", "bold red"), (clean(node.span.name), "red"), f"  {error_of(node.span)}",
            (f"  after {after}", "dim"),
        )  # fmt: skip
        screen.line(line)
    if len(failed) > _MOST_ERRORS:
        screen.print(f" … and {len(failed) - _MOST_ERRORS} more")
    if failed:
        screen.print()


def _number(value: int, thing: str) -> str:
    return f"{count(value)} {thing}{'' if value == 1 else 's'}"


def _lines(trace: Trace) -> Iterator[tuple[str, Node]]:
    """Every node with the lines that lead to it, parents before their children."""
    waiting = [(f"{'' if len(trace.roots) == 1 else '• '}", "", node) for node in trace.roots[::-1]]
    while waiting:
        lead, below, node = waiting.pop()
        yield lead, node
        last = len(node.children) - 1
        for place in range(last, -1, -1):
            is_last = place == last
            lead, deeper = ("└─ ", "   ") if is_last else ("├─ ", "│  ")
            waiting.append((f"{below}{lead}", f"{below}{deeper}", node.children[place]))


def _sums(trace: Trace) -> dict[int, tuple[int | None, Decimal | None]]:
    """Tokens and money of every node with all that is below it; None where none is known."""
    sums: dict[int, tuple[int | None, Decimal | None]] = {}
    for _, node in reversed(list(trace.walk())):
        used = [n for n in (node.tokens_input, node.tokens_output) if n is not None]
        costs = [] if node.cost is None else [node.cost]
        for child in node.children:
            below, cost = sums[id(child)]
            used += [] if below is None else [below]
            costs += [] if cost is None else [cost]
        sums[id(node)] = (sum(used) if used else None, sum(costs, Decimal(0)) if costs else None)
    return sums


def _name(prefix: str, node: Node) -> Text:
    from rich.text import Text

    span = node.span
    text = Text(prefix, style="dim")
    if span.failed:
        text.append("✗ ", style="bold red")
    style = "red" if span.failed else "bold" if node.is_call else ""
    text.append(clean(span.name), style=f"not dim {style}".strip())
    for mark in _marks(node):
        text.append(f"  {mark}", style="cyan")
    return text


def _marks(node: Node) -> Iterator[str]:
    found = node.span.attributes
    if node.span.failed:
        yield clean(found.get(semconv.ERROR_TYPE, "failed"), limit=32)
    retries = found.get(semconv.CALL_RETRIES)
    if retries:
        yield f"↻{clean(retries, limit=4)}"
    if found.get(semconv.CALL_CACHE_HIT) is True:
        yield "from cache"
    fallback = found.get(semconv.CALL_FALLBACK_FROM)
    if fallback:
        yield f"instead of {clean(str(fallback).rpartition('/')[2], limit=32)}"
    if found.get(semconv.CALL_OUTCOME) in {"cancelled", "abandoned"}:
        yield clean(found[semconv.CALL_OUTCOME])
    if node.orphan:
        yield "parent not in the log"


def _bar(trace: Trace, node: Node, width: int) -> Text:
    """When a span ran, as a bar under the trace's whole time; an eighth of a column at least."""
    from rich.text import Text

    whole = trace.duration or 1e-9
    begin = (node.span.start - trace.start) / 1e9 / whole * width
    length = (node.span.duration or 0) / whole * width
    begin = min(max(begin, 0.0), width - 0.125)
    first = int(begin)
    eighths = max(1, round(min(length, width - first) * 8))
    full, rest = divmod(eighths, 8)
    shown = " " * first + "█" * full + (_EIGHTHS[rest] if rest else "")
    style = "red" if node.span.failed else "green" if node.is_call else "blue"
    return Text(shown[:width].ljust(width), style=style)


def _styled(text: str, style: str) -> Text:
    from rich.text import Text

    return Text(text, style=style)
