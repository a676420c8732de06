"""`otel-empathy export`: the log in a file, as calls for people or as OTLP for programs."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from otel_empathy.cli import outfile
from otel_empathy.cli.numbers import count
from otel_empathy.cli.options import Window, common, window
from otel_empathy.cli.screen import Screen
from otel_empathy.cli.store import opened

__all__ = ["command", "write"]

Form = Literal["csv", "jsonl", "otlp"]


@click.command("export")
@click.option(
    "-o",
    "--output",
    default=outfile.STDOUT,
    show_default=True,
    metavar="FILE",
    help="Where to; - is stdout.",
)
@click.option(
    "-f",
    "--format",
    "form",
    type=click.Choice(["csv", "jsonl", "otlp"]),
    required=True,
    help="Calls as CSV or flat JSON lines, or one signal as OTLP-JSON lines.",
)
@click.option(
    "--signal",
    type=click.Choice(["traces", "logs", "metrics"]),
    default="traces",
    show_default=True,
    help="Which one, with -f otlp.",
)
@window(days=None)
@common
def command(
    *,
    output: str,
    form: Form,
    signal: str,
    window: Window,
    home: Path | None,
    as_json: bool | None,
) -> None:
    """Write calls as CSV or JSON lines, or signals as OTLP.

    A file appears when it is complete, readable by its owner alone. CSV cells that a spreadsheet
    would take for a formula begin with a quote.
    """
    if form != "otlp" and signal != "traces":
        raise click.UsageError(f"--signal {signal} needs -f otlp: calls come from traces.")
    write(Screen(as_json=as_json), home, output=output, form=form, signal=signal, window=window)


def write(
    screen: Screen, home: Path | None, *, output: str, form: Form, signal: str, window: Window
) -> None:
    """Write the export and say how much it was.

    Raises:
        WrongValue: The output path must not be written.
        Unavailable: It cannot be written.
    """
    streamed = output == outfile.STDOUT
    with opened(screen, home, bar=not streamed) as store:
        log = store.reader.paths[0] / "otlp"
        with outfile.opened(output, log=log) as file:
            written = store.export(file, form, signal=signal, **window.question)
    what = "lines" if form == "otlp" else "calls"
    where = "stdout" if streamed else output
    screen.note(f"{count(written)} {what} of {window.text} to {where}")
