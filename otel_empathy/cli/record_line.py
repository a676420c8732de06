"""One record as one line for people: when, who, what, and what matters of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from otel_empathy.cli.numbers import money, tokens
from otel_empathy.cli.screen import clean
from otel_empathy.cli.times import duration, local
from otel_empathy.core import semconv

if TYPE_CHECKING:
    from rich.text import Text

    from otel_empathy.store.records import Event, Point, Span

    Record: TypeAlias = Span | Event | Point

__all__ = ["as_text", "error_of", "moment", "tokens_of"]

_SERVICE = 10  # columns of a service
_NAME = 28  # columns of a name before the rest of the line begins
_VALUE = 60  # characters of a value
_ERROR, _WARNING = 17, 13  # severity numbers
# What is said elsewhere in the line, or is the same in every line of a trace.
_QUIET = frozenset(
    {
        semconv.RUN_ID,
        semconv.SESSION_ID,
        semconv.USER_HASH,
        semconv.AGENT_NAME,
        semconv.WORKFLOW_NAME,
    }
)
_PREFIXES = tuple(f"{name.partition('.')[0]}." for name in (semconv.OPERATION, semconv.RUN_ID))


def moment(record: Record) -> int:
    """When a record was made: a span when it ended."""
    from otel_empathy.store.records import Span

    if isinstance(record, Span):
        return record.start + round((record.duration or 0) * 1e9)
    return record.time


def as_text(record: Record) -> Text:
    """The line of a record."""
    from rich.text import Text

    from otel_empathy.store.records import Event, Span

    at = moment(record)
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(f"{local(at, date=False)}.{at // 1_000_000 % 1000:03d}", style="dim")
    text.append(f" {_fit(record.service or '-', _SERVICE)} ", style="cyan")
    if isinstance(record, Span):
        _span(text, record)
    elif isinstance(record, Event):
        _event(text, record)
    else:
        _point(text, record)
    return text


def _span(text: Text, span: Span) -> None:
    from otel_empathy.store import records

    text.append("✗ " if span.failed else "  ", style="bold red")
    text.append(_fit(span.name, _NAME), style="red" if span.failed else "bold")
    text.append(f" {duration(span.duration):>8}")
    used = tokens_of(span.attributes)
    if used is not None:
        text.append(f"  {tokens(used)} tokens")
    cost = records.cost(span.attributes)
    if cost is not None:
        text.append(f"  {money(cost, records.currency(span.attributes) or 'USD')}")
    if span.failed:
        text.append(f"  {error_of(span)}", style="red")


def _fit(name: str, columns: int) -> str:
    """A name in so many columns of the terminal, which are not characters."""
    from rich.cells import cell_len, set_cell_size

    line = clean(name, limit=4 * columns)  # some characters take no column
    if cell_len(line) > columns:
        line = f"{set_cell_size(line, columns - 1).rstrip()}…"
    return set_cell_size(line, columns)


def _event(text: Text, event: Event) -> None:
    bad = event.severity >= _ERROR
    style = "red" if bad else "yellow" if event.severity >= _WARNING else ""
    name = event.name or event.severity_text or "log"
    text.append("✗ " if bad else "• ", style=style or "dim")
    text.append(clean(name, limit=_NAME), style=style)
    if isinstance(event.body, str):
        text.append(f"  {clean(event.body, limit=_VALUE)}")
    noun = f"{name.rpartition('.')[0]}."
    _attributes(text, {k: v for k, v in event.attributes.items() if k not in _QUIET}, noun)


def _point(text: Text, point: Point) -> None:
    text.append("∿ ", style="dim")
    text.append(clean(point.metric), style="bold")
    shown = point.value if point.value is not None else point.sum
    if shown is not None:
        text.append(f"  {shown:g} {clean(point.unit)}")
    if point.count is not None:
        text.append(f" in {point.count:,}")
    _attributes(text, point.attributes, f"{point.metric.rpartition('.')[0]}.")


def _attributes(text: Text, attributes: Mapping[str, Any], noun: str) -> None:
    """Append attributes; those of the noun itself without it, all without our prefixes."""
    for key, value in attributes.items():
        short = key
        for prefix in (noun, *_PREFIXES):
            short = short.removeprefix(prefix)
        text.append(f"  {clean(short)}=", style="dim")
        text.append(f"{value:.4g}" if isinstance(value, float) else clean(value, limit=_VALUE))


def tokens_of(attributes: Mapping[str, Any]) -> int | None:
    """Input and output tokens of a span; None when it says neither."""
    from otel_empathy.store.records import used

    known = [number for number in used(attributes) if number is not None]
    return sum(known) if known else None


def error_of(span: Span) -> str:
    """Why a span failed, in a few words."""
    kind = clean(span.attributes.get(semconv.ERROR_TYPE, ""))
    message = clean(span.message or "", limit=_VALUE)
    if kind and message.startswith(kind):
        return message
    return ": ".join(part for part in (kind, message) if part) or "failed"
