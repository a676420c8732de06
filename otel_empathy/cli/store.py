"""The store as commands open it: of this home, with its prices, with a bar while it reads long."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from otel_empathy.cli.options import settings_of
from otel_empathy.cli.screen import Screen
from otel_empathy.core.errors import Unavailable

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

    Raises:
        Unavailable: The home is no folder and no file, or a folder of its log cannot be read.
    """
    from otel_empathy.cli.demo.prices import with_demo
    from otel_empathy.views.store import open_store

    settings, complaints = settings_of(home)
    if settings.home.exists() and not (settings.home.is_dir() or settings.home.is_file()):
        raise Unavailable(f"{settings.home} is neither a folder nor a file: choose another --home.")
    for complaint in complaints:
        screen.note(f"warning: {complaint}")
    with screen.progress("reading the log") as progress:
        store = open_store(
            settings.home,
            prices=with_demo(settings.prices),
            progress=progress if bar else None,
        )
        yield store
    closed = [s.path for s in store.skips if s.path.parent == settings.home / "otlp"]
    if closed:  # a folder of the log itself: what was counted is not what there is
        raise Unavailable(
            f"{closed[0]} cannot be read, so nobody knows what is in it:"
            " `otel-empathy doctor` examines the log"
        )
    if not settings.home.exists():
        screen.note(f"there is no {settings.home} yet; `otel-empathy demo` makes a log to look at")
    if store.skips:
        screen.note(_skipped(store))


def _skipped(store: Store) -> str:
    closed = store.skipped["unreadable"]
    broken = store.skipped.total() - closed
    parts = [
        f"{number:,} {thing}{'' if number == 1 else 's'}"
        for number, thing in ((broken, "line"), (closed, "file"))
        if number
    ]
    first = store.skips[0]
    return (
        f"{' and '.join(parts)} could not be read, the first in {first.path} at byte"
        f" {first.offset} ({first.reason}): `otel-empathy doctor` examines the log"
    )
