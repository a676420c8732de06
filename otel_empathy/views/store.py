"""The store as everybody asks it: one object over a home or a set of files, each view a method.

It chooses files and windows and hands records to the views. It reads only; how files are read is
the business of `store`, what the answers mean that of the other modules here.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Literal

from otel_empathy.core.clock import SYSTEM, Clock
from otel_empathy.core.errors import WrongType, WrongValue
from otel_empathy.core.prices import Prices
from otel_empathy.store import calls, records
from otel_empathy.store.calls import Call
from otel_empathy.store.reader import Reader, Skip
from otel_empathy.store.records import Event, Point, Span
from otel_empathy.store.window import Window
from otel_empathy.views import cache, export, traces, usage
from otel_empathy.views.cache import CacheView
from otel_empathy.views.traces import Trace, TraceSummary
from otel_empathy.views.usage import By, CompareView, SavingsView, UsageView

__all__ = ["Store", "open_store"]

Moment = datetime | int  # an aware datetime, or UTC nanoseconds
Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]


def open_store(
    home: Paths | None = None,
    *,
    clock: Clock = SYSTEM,
    prices: Prices | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Store:
    """The store of a home, of any folder or file of OTLP-JSON, or of several of them.

    ```python
    print(open_store().usage(days=7).total_cost)
    ```

    Args:
        home: The home to read; unset, the one of the settings. A path that does not exist yet is
            an empty store.
        clock: What "the last n days" is measured with.
        prices: The price table of the cache and the repriced savings; unset, the bundled one.
        progress: Called with (bytes done, bytes in all) while files are read.
    """
    if home is None:
        from otel_empathy.core.settings import Settings  # noqa: PLC0415 - only without a home

        home = Settings.load().home
    return Store(home, clock=clock, prices=prices, progress=progress)


class Store:
    """Answers from the log. Each question reads the files anew, so an answer is never stale."""

    def __init__(
        self,
        home: Paths,
        *,
        clock: Clock = SYSTEM,
        prices: Prices | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.clock = clock
        self.progress = progress
        self._prices = prices
        self.reader = Reader(home)

    # -- money and tokens --------------------------------------------------------------------------

    def usage(
        self,
        *,
        days: float | None = 30,
        by: By | None = None,
        since: Moment | None = None,
        until: Moment | None = None,
    ) -> UsageView:
        """What the calls of a window used and cost.

        Args:
            days: The last n x 24 hours; None means everything. `since` or `until` replace it.
            by: Fill `.rows`, one for each model, tier, workflow, provider or user.
            since: First moment of the window.
            until: The moment behind the window.
        """
        raise NotImplementedError

    def savings(
        self,
        days: float | None = 30,
        *,
        method: Literal["premium_mean", "repriced"] = "premium_mean",
        reference: str | None = None,
    ) -> SavingsView:
        """What the choice of tiers saved against sending every call to a premium model."""
        raise NotImplementedError

    def cache(self, days: float | None = 7) -> CacheView:
        """What the providers' prompt caches saved."""
        raise NotImplementedError

    def compare(self, first: float = 7, second: float = 30) -> CompareView:
        """Usage of two windows side by side."""
        raise NotImplementedError

    def recent(self, limit: int = 20, days: float | None = None) -> list[Call]:
        """The newest calls, newest first."""
        raise NotImplementedError

    # -- traces ------------------------------------------------------------------------------------

    def traces(
        self,
        *,
        limit: int = 50,
        since: Moment | None = None,
        until: Moment | None = None,
        service: str | None = None,
        model: str | None = None,
        agent: str | None = None,
        run: str | None = None,
        status: Literal["ok", "error"] | None = None,
        text: str | None = None,
        min_duration: float | None = None,
        min_cost: float | None = None,
    ) -> list[TraceSummary]:
        """The newest traces that match every filter, newest first."""
        raise NotImplementedError

    def trace(self, id_prefix: str) -> Trace | None:
        """One trace as a tree, by its id or the beginning of it; None when there is none."""
        raise NotImplementedError

    # -- records -----------------------------------------------------------------------------------

    def calls(
        self,
        days: float | None = None,
        *,
        since: Moment | None = None,
        until: Moment | None = None,
    ) -> Iterator[Call]:
        """Every call of a window, in the order of the files."""
        raise NotImplementedError

    def events(
        self,
        days: float | None = None,
        *,
        name: str | None = None,
        since: Moment | None = None,
        until: Moment | None = None,
    ) -> Iterator[Event]:
        """Every event and log record of a window, in the order of the files."""
        raise NotImplementedError

    def follow(
        self,
        *,
        signals: Iterable[str] = ("traces", "logs"),
        poll: float = 0.2,
        stop: threading.Event | None = None,
    ) -> Iterator[Span | Event | Point]:
        """New records as they are written, until `stop` is set."""
        raise NotImplementedError

    def export(
        self,
        stream: BinaryIO,
        format: Literal["csv", "jsonl", "otlp"],  # noqa: A002 - the word of the command
        *,
        days: float | None = None,
        signal: str = "traces",
    ) -> int:
        """Write calls (`csv`, `jsonl`) or the log's own lines (`otlp`); how many were written."""
        raise NotImplementedError

    # -- what could not be read --------------------------------------------------------------------

    @property
    def skipped(self) -> Counter[str]:
        """How often a line was skipped, by reason: `torn`, `corrupt`, `too_long`, `unreadable`."""
        raise NotImplementedError

    @property
    def skips(self) -> list[Skip]:
        """Where lines were skipped: file, offset, reason (the first thousand)."""
        raise NotImplementedError
