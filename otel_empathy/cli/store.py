"""The store as commands open it: of this home, with its prices, with a bar while it reads long."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from otel_empathy.cli.options import settings_of
from otel_empathy.cli.screen import Screen

if TYPE_CHECKING:
    from otel_empathy.views.store import Store

__all__ = ["opened"]


@contextmanager
def opened(screen: Screen, home: Path | None, *, bar: bool = True) -> Iterator[Store]:
    """The store of a home; notes say what is wrong with settings and what could not be read.

    Args:
        screen: Where notes and the bar go.
        home: The home; None is that of the settings.
        bar: Whether a bar may appear, which it may not while the answer is being printed.
    """
    from otel_empathy.cli.demo.prices import with_demo
    from otel_empathy.views.store import open_store

    settings, complaints = settings_of(home)
    for complaint in complaints:
        screen.note(f"warning: {complaint}")
    with screen.progress("reading the log") as progress:
        store = open_store(
            settings.home,
            prices=with_demo(settings.prices),
            progress=progress if bar else None,
        )
        yield store
    skipped = store.skipped.total()
    if skipped:
        first = store.skips[0]
        lines = "1 line" if skipped == 1 else f"{skipped:,} lines"
        screen.note(
            f"{lines} could not be read, the first in {first.path} at byte {first.offset}"
            f" ({first.reason}): `otel-empathy doctor` examines the log"
        )
