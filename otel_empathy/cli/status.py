"""`otel-empathy status`: the log, its backends and the loss ledger."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from otel_empathy.cli.numbers import UNKNOWN, count, size
from otel_empathy.cli.options import common
from otel_empathy.cli.screen import Column, Screen, clean
from otel_empathy.cli.store import opened

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["command"]

_STATES = {"healthy": "green", "retrying": "yellow", "paused": "bold red", "full": "bold red"}


@click.command("status")
@common
def command(*, home: Path | None, as_json: bool | None) -> None:
    """The log, its backends and the loss ledger.

    What was offered is in the log or dropped for a reason, and what is in the log was shipped to
    each backend, waits for it, or was dropped for a reason.
    """
    screen = Screen(as_json=as_json)
    with opened(screen, home) as store:
        status = store.status()
    if not screen.people:
        screen.record(status)
        return
    log, ledger = status.get("log", {}), status.get("ledger", {})
    screen.print()
    screen.facts(_log_facts(log))
    screen.title("Ledger", "offered = acked + waiting + dropped")
    screen.facts(
        [
            ("offered", count(ledger.get("offered"))),
            ("acked", f"{count(ledger.get('acked'))} are in the log"),
            *([("waiting", count(ledger["waiting"]))] if ledger.get("waiting") else []),
            ("dropped", _dropped(ledger.get("dropped", {}))),
        ]
    )
    backends = ledger.get("backends", {})
    if not backends:
        screen.note("no backend was ever configured: OTEL_EXPORTER_OTLP_ENDPOINT adds one")
        return
    screen.title("Backends", "acked = shipped + pending + dropped")
    screen.table(
        (
            Column("backend", style="bold", grow=True),
            Column("state"),
            Column("acked", right=True),
            Column("shipped", right=True),
            Column("pending", right=True),
            Column("dropped"),
        ),
        ((name, *_backend(row)) for name, row in backends.items()),
    )


def _log_facts(log: Mapping[str, Any]) -> list[tuple[str, str | Text]]:
    skipped = log.get("skipped") or 0
    facts: list[tuple[str, str | Text]] = [
        ("log", str(log.get("home", ""))),
        ("segments", f"{count(log.get('segments'))}, {size(log.get('bytes'))}"),
    ]
    if skipped:
        text = (
            ", ".join(f"{n} {reason}" for reason, n in skipped.items())
            if isinstance(skipped, Mapping)
            else f"{skipped}"
        )
        facts.append(("skipped", f"{text} lines: `otel-empathy doctor` says more"))
    return [fact for fact in facts if fact[1]]


def _backend(row: Mapping[str, Any]) -> tuple[str | Text, ...]:
    from rich.text import Text

    state = clean(row.get("state", UNKNOWN))
    return (
        Text(state, style=_STATES.get(state, "")),
        count(row.get("acked")),
        count(row.get("shipped")),
        count(row.get("pending")),
        _dropped(row.get("dropped", {})),
    )


def _dropped(reasons: Mapping[str, int]) -> str | Text:
    from rich.text import Text

    if not reasons:
        return "0"
    text = ", ".join(f"{number:,} {clean(reason)}" for reason, number in reasons.items())
    return Text(text, style="bold red")
