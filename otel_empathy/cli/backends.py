"""How the state of a backend and its losses look in every table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from otel_empathy.cli.screen import clean

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["STATES", "dropped"]

STATES: Final = {
    "healthy": "green",
    "retrying": "yellow",
    "paused": "bold red",
    "full": "bold red",
}


def dropped(reasons: Mapping[str, int]) -> Text:
    """Losses by reason, in red; a plain 0 where there are none."""
    from rich.text import Text

    lost = {reason: number for reason, number in reasons.items() if number}
    if not lost:
        return Text("0")
    text = ", ".join(f"{number:,} {clean(reason)}" for reason, number in lost.items())
    return Text(text, style="bold red")
