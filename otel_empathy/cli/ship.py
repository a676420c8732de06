"""`otel-empathy ship`: send what is still waiting in the log, whoever wrote it."""

from __future__ import annotations

from pathlib import Path

import click

from otel_empathy.cli.options import common

__all__ = ["command"]


@click.command("ship")
@click.option(
    "--timeout", type=click.FloatRange(min=0), default=60.0, show_default=True, help="Seconds."
)
@common
@click.pass_context
def command(ctx: click.Context, *, timeout: float, home: Path | None, as_json: bool | None) -> None:
    """Send what is still waiting in the log to the backends."""
