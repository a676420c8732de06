"""The store as a command opens it: of this home, with the prices of this home, with progress."""

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
def opened(screen: Screen, home: Path | None) -> Iterator[Store]:
    """The store of a home; a bar shows while it reads long, notes say what it could not read."""
    from otel_empathy.cli.demo.prices import with_demo
    from otel_empathy.views.store import open_store

    settings, complaints = settings_of(home)
    for complaint in complaints:
        screen.note(f"warning: {complaint}")
    with screen.progress("reading the log") as progress:
        store = open_store(settings.home, prices=with_demo(settings.prices), progress=progress)
        yield store
    skipped = store.skipped.total()
    if skipped:
        first = store.skips[0]
        screen.note(
            f"skipped {skipped} lines that cannot be read, the first in {first.path} at byte"
            f" {first.offset} ({first.reason}); `otel-empathy doctor` examines the log"
        )
