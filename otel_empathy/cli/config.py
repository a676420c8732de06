"""`otel-empathy config`: the settings that apply here, and where each came from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from otel_empathy.cli.errors import FINDING, OK
from otel_empathy.cli.noun import Noun
from otel_empathy.cli.numbers import size
from otel_empathy.cli.options import common, settings_of
from otel_empathy.cli.screen import Column, Screen

if TYPE_CHECKING:
    from otel_empathy.core.settings import Setting, Settings

__all__ = ["command"]

_WIDE = 120  # columns from which on there is room for every variable's name


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
        columns = [
            Column("setting", style="bold"),
            Column("value", grow=True),
            Column("from", spare=1),
        ]
        rows: list[tuple[str, ...]] = [
            (row.name, _value(settings, row), _origin(settings, row)) for row in TABLE
        ]
        if screen.width >= _WIDE:
            columns.append(Column("variable", style="dim"))
            rows = [(*cells, row.env[0]) for cells, row in zip(rows, TABLE, strict=True)]
        screen.print()
        screen.table(columns, rows)
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
    """Check the environment; exit with 1 when a variable cannot be used."""
    from otel_empathy.cli.examination import examine_settings

    screen = Screen(as_json=as_json)
    settings, complaints = settings_of(home)
    findings = [c for c in examine_settings(settings, complaints) if c.level == "finding"]
    if screen.people:
        screen.checks(findings)
    else:
        screen.records(check.as_dict() for check in findings)
    screen.note(f"findings: {len(findings)}" if findings else "every setting can be used")
    ctx.exit(FINDING if findings else OK)


def _value(settings: Settings, row: Setting) -> str:
    value = getattr(settings, row.name)
    if row.name.endswith("_bytes"):
        return size(value)
    return settings.shown(row.name)


def _origin(settings: Settings, row: Setting) -> str:
    """Where a value came from; for the environment the variable that was used."""
    source = settings.source(row.name)
    if source != "environment":
        return source
    return next(name for name in row.env if settings.environ.get(name))
