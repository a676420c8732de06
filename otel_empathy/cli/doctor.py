"""`otel-empathy doctor`: examine the installation and the log, and mend torn segments."""

from __future__ import annotations

from pathlib import Path

import click

from otel_empathy.cli.errors import FINDING, OK
from otel_empathy.cli.options import common, settings_of
from otel_empathy.cli.screen import Screen

__all__ = ["command"]


@click.command("doctor")
@click.option(
    "--repair",
    "mend",
    is_flag=True,
    help="Cut the torn tails of segments whose writer is gone; a copy of each is kept.",
)
@common
@click.pass_context
def command(ctx: click.Context, *, mend: bool, home: Path | None, as_json: bool | None) -> None:
    """Examine the installation and the log, and say how to mend them.

    Looks at Python, packages, settings, the home, segments, every line, cursors and the backends
    that the environment names. Exits with 1 when something should be mended.
    """
    from otel_empathy.cli.examination import examine

    screen = Screen(as_json=as_json)
    settings, complaints = settings_of(home)
    if mend:
        _repair(screen, settings.home)
    with screen.progress("reading the log") as progress:
        checks = list(examine(settings, complaints, progress=progress))
    if screen.people:
        screen.print()
        screen.checks(checks)
        screen.print()
    else:
        screen.records(check.as_dict() for check in checks)
    findings = sum(check.level == "finding" for check in checks)
    screen.note(f"findings: {findings}" if findings else "all is well")
    ctx.exit(FINDING if findings else OK)


def _repair(screen: Screen, home: Path) -> None:
    from otel_empathy.pipeline.segments import repair

    done = repair(home)
    for torn in done:
        screen.note(
            f"cut {torn.cut} bytes off {torn.segment.name} at {torn.offset}; copy: {torn.copy}"
        )
    if not done:
        screen.note("no torn segment: nothing was changed")
