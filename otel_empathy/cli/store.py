"""The store as commands use it: of this home, with its prices, over any window of time.

Opens it with a progress bar, says what could not be read, and puts the questions that need one
pass over the log for more than one view.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

from otel_empathy.cli.options import Window, settings_of
from otel_empathy.cli.screen import Screen

if TYPE_CHECKING:
    from otel_empathy.store.window import Window as Stretch
    from otel_empathy.views.cache import CacheView
    from otel_empathy.views.store import Store
    from otel_empathy.views.usage import By, Method, SavingsView, UsageView

__all__ = ["Form", "cache", "export", "opened", "usage"]

Form = Literal["csv", "jsonl", "otlp"]


@contextmanager
def opened(screen: Screen, home: Path | None) -> Iterator[Store]:
    """The store of a home; notes say what is wrong with settings and what could not be read."""
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
        lines = "1 line" if skipped == 1 else f"{skipped:,} lines"
        screen.note(
            f"{lines} could not be read, the first in {first.path} at byte {first.offset}"
            f" ({first.reason}): `otel-empathy doctor` examines the log"
        )


def usage(
    store: Store, window: Window, *, by: By, method: Method = "premium_mean"
) -> tuple[UsageView, SavingsView]:
    """Usage and savings of a window."""
    from otel_empathy.store.cells import add_up
    from otel_empathy.views import usage as views

    cells = add_up(store.reader, _stretch(window), by_user=by == "user", progress=store.progress)
    used = views.usage(cells, by=by, days=window.days)
    if method == "premium_mean":
        return used, views.savings(cells, days=window.days)
    calls = store.calls(since=window.since, until=window.until)
    return used, views.repriced(cells, calls, store.prices, days=window.days)


def cache(store: Store, window: Window) -> CacheView:
    """What the providers' prompt caches saved in a window."""
    from otel_empathy.views.cache import cache as view

    calls = store.calls(since=window.since, until=window.until)
    return view(calls, store.prices, days=window.days)


def export(store: Store, file: BinaryIO, form: Form, *, signal: str, window: Window) -> int:
    """Write calls or a signal's lines of a window; how many there were."""
    from otel_empathy.views.export import write_csv, write_jsonl, write_otlp

    if form == "otlp":
        return write_otlp(
            store.reader, file, signal=signal, window=_stretch(window), progress=store.progress
        )
    calls = store.calls(since=window.since, until=window.until)
    return (write_csv if form == "csv" else write_jsonl)(calls, file)


def _stretch(window: Window) -> Stretch:
    from otel_empathy.store.window import Window as Stretch

    return Stretch.between(window.since, window.until)
