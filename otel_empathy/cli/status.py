"""`otel-empathy status`: the log, its backends and the loss ledger."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from otel_empathy.cli.backends import STATES, dropped
from otel_empathy.cli.numbers import UNKNOWN, count, size
from otel_empathy.cli.options import common
from otel_empathy.cli.screen import Column, Screen, clean
from otel_empathy.cli.store import opened

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["command"]


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
    log, ledger = status["log"], status["ledger"]
    screen.print()
    screen.facts(
        [
            ("log", clean(log["home"])),
            ("segments", f"{count(log['segments'])}, {count(log['live'])} live"),
            ("size", f"{size(log['bytes'])}: {_by_signal(log['signals'])}"),
        ]
    )
    if status["processes"]:
        screen.title("Processes", "that write now")
        screen.table(
            (
                Column("pid", right=True),
                Column("service", style="bold", grow=True),
                Column("durability", spare=2),
                Column("waiting", right=True, spare=1),
                Column("backends", spare=3),
            ),
            [
                (
                    str(one["pid"]),
                    one["service"],
                    one["durability"],
                    count(one["waiting"]),
                    ", ".join(one["backends"]) or UNKNOWN,
                )
                for one in status["processes"]
            ],
        )
    if any(one["leased"] for one in status["processes"]):
        screen.note(
            "the home lies on a file system without locks: who lives is known from dates alone, "
            "so a dead process is found up to 30 s late"
        )
    screen.title("Ledger", "offered = acked + waiting + dropped")
    screen.facts(
        [
            ("offered", count(ledger["offered"])),
            ("acked", f"{count(ledger['acked'])} are in the log"),
            ("waiting", f"{count(ledger['waiting'])} in the memory of a process"),
            ("dropped", dropped(ledger["dropped"])),
        ]
    )
    backends = ledger["backends"]
    if not backends:
        screen.note("no backend was ever configured: OTEL_EXPORTER_OTLP_ENDPOINT adds one")
        return
    screen.title("Backends", "acked = shipped + pending + dropped")
    screen.table(
        (
            Column("backend", style="bold", grow=True),
            Column("state"),
            Column("acked", right=True, spare=3),
            Column("shipped", right=True, spare=2),
            Column("pending", right=True),
            Column("dropped", spare=1),
        ),
        ((name, *_backend(row)) for name, row in backends.items()),
    )


def _by_signal(signals: Mapping[str, Mapping[str, int]]) -> str:
    return ", ".join(f"{clean(name)} {size(row['bytes'])}" for name, row in signals.items())


def _backend(row: Mapping[str, Any]) -> tuple[str | Text, ...]:
    from rich.text import Text

    state = clean(row["state"])
    return (
        Text(state, style=STATES.get(state, "")),
        count(row["acked"]),
        count(row["shipped"]),
        count(row["pending"]),
        dropped(row["dropped"]),
    )
