"""`otel-empathy ship`: send what is still waiting in the log of processes that are gone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from otel_empathy.cli.backends import STATES, dropped
from otel_empathy.cli.errors import OK, UNAVAILABLE
from otel_empathy.cli.numbers import count
from otel_empathy.cli.options import Number, common, settings_of
from otel_empathy.cli.screen import Column, Screen, clean
from otel_empathy.core.clock import SYSTEM

if TYPE_CHECKING:
    from otel_empathy.pipeline.backends import Shipment

__all__ = ["command"]


@click.command("ship")
@click.option(
    "--endpoint",
    "endpoints",
    metavar="URL",
    multiple=True,
    help="An OTLP endpoint; may be repeated. Default: those of the environment.",
)
@click.option(
    "--start",
    type=click.Choice(["oldest", "now"]),
    default="oldest",
    show_default=True,
    help="What an --endpoint that is new to this home gets: all there is, or nothing yet.",
)
@click.option(
    "--timeout",
    type=Number(),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="For all backends together.",
)
@common
@click.pass_context
def command(
    ctx: click.Context,
    *,
    endpoints: Sequence[str],
    start: str,
    timeout: float,
    home: Path | None,
    as_json: bool | None,
) -> None:
    """Send what is still waiting in the log to the backends.

    Ships what processes that are gone have left; a process that lives ships its own. Exits with 3
    when a backend does not take all of it in time; the log keeps the rest.
    """
    from otel_empathy.pipeline.backends import ship
    from otel_empathy.pipeline.environment import from_environment
    from otel_empathy.pipeline.otlp import Otlp
    from otel_empathy.pipeline.plans import plans

    screen = Screen(as_json=as_json)
    settings, complaints = settings_of(home)
    for complaint in complaints:
        screen.note(f"warning: {complaint}")
    oldest = start == "oldest"
    backends = [Otlp(url, start="oldest" if oldest else "now") for url in endpoints]
    chosen = plans(backends or from_environment(settings.environ), settings, SYSTEM)
    if not chosen:
        raise click.UsageError(
            "no backend is named: give --endpoint URL or set OTEL_EXPORTER_OTLP_ENDPOINT."
        )
    screen.silence()
    done = ship(settings.home, chosen, timeout=timeout, records=settings.batch_records)
    if screen.people:
        _draw(screen, done)
    else:
        screen.records(
            {
                "backend": one.backend,
                "state": one.state,
                "shipped": one.shipped,
                "dropped": dict(one.dropped),
                "error": one.error,
                "message": one.message,
                "unfinished": one.unfinished,
            }
            for one in done
        )
    behind = [one for one in done if one.state != "healthy" or one.unfinished]
    for one in behind:
        reason = one.message or one.error or "no answer"
        if one.state == "healthy":
            reason = f"not all was sent in {timeout:g} s, give a longer --timeout"
        screen.note(f"backend {one.backend} is {one.state}: {reason}; the log keeps the rest")
    ctx.exit(UNAVAILABLE if behind else OK)


def _draw(screen: Screen, done: Sequence[Shipment]) -> None:
    from rich.text import Text

    screen.print()
    screen.table(
        (
            Column("backend", style="bold", grow=True),
            Column("state"),
            Column("shipped", right=True),
            Column("dropped"),
        ),
        [
            (
                one.backend,
                Text(clean(one.state), style=STATES.get(one.state, "")),
                count(one.shipped),
                dropped(one.dropped),
            )
            for one in done
        ],
    )
