"""`otel-empathy config`: the settings that apply here, and where each came from."""

from __future__ import annotations

from pathlib import Path

import click

from otel_empathy.cli.noun import Noun
from otel_empathy.cli.options import common, settings_of
from otel_empathy.cli.screen import Column, Screen

__all__ = ["command"]


@click.group("config", cls=Noun, bare="show")
def command() -> None:
    """Show or check the settings that apply here.

    Without an action it shows them.
    """


@command.command("show")
@common
def show(*, home: Path | None, as_json: bool | None) -> None:
    """Show each setting, its value and where that came from; secrets are masked."""
    from otel_empathy.core.settings import TABLE

    screen = Screen(as_json=as_json)
    settings, complaints = settings_of(home)
    if screen.people:
        columns = (
            Column("setting", style="bold"),
            Column("value", grow=True),
            Column("from"),
            Column("variable", style="dim"),
        )
        shown = ((row, settings.shown(row.name), settings.source(row.name)) for row in TABLE)
        screen.print()
        screen.table(
            columns,
            ((row.name, value, source, row.env[0]) for row, value, source in shown),
        )
    else:
        screen.records(
            {
                "name": row.name,
                "value": settings.shown(row.name),
                "source": settings.source(row.name),
                "variables": list(row.env),
                "doc": row.doc,
            }
            for row in TABLE
        )
    for complaint in complaints:
        screen.note(f"warning: {complaint}")


@command.command("validate")
@common
@click.pass_context
def validate(ctx: click.Context, *, home: Path | None, as_json: bool | None) -> None:
    """Check the variables of the environment; exit with 1 when one cannot be used."""
    from otel_empathy.cli.examination import examine_settings

    screen = Screen(as_json=as_json)
    settings, complaints = settings_of(home)
    findings = [c for c in examine_settings(settings, complaints) if c.level == "finding"]
    if screen.people:
        screen.checks(findings)
    else:
        screen.records(check.as_dict() for check in findings)
    screen.note(f"findings: {len(findings)}" if findings else "every setting can be used")
    ctx.exit(1 if findings else 0)
