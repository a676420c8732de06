"""The store as everybody asks it: one object over a home or a set of files, each view a method.

It chooses files and windows and hands records to the views. It reads only; how files are read is
the business of `store`, what the answers mean that of the other modules here.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, Literal

from otel_empathy.core.clock import SYSTEM, Clock
from otel_empathy.core.errors import WrongValue
from otel_empathy.core.prices import Prices
from otel_empathy.emit.live import live
from otel_empathy.store import calls, records
from otel_empathy.store.calls import Call
from otel_empathy.store.cells import Cells, add_up, summed
from otel_empathy.store.reader import Follow, Paths, Progress, Reader, Skip
from otel_empathy.store.records import Event, Point, Span
from otel_empathy.store.window import Moment, Window
from otel_empathy.views import cache, export, status, traces, usage
from otel_empathy.views.cache import CacheView
from otel_empathy.views.traces import Trace, TraceSummary
from otel_empathy.views.usage import By, CompareView, Method, SavingsView, Spent, UsageView

__all__ = ["Store", "open_store"]


def open_store(
    home: Paths | None = None,
    *,
    clock: Clock = SYSTEM,
    prices: Prices | None = None,
    progress: Progress | None = None,
) -> Store:
    """The store of a home, of any folder or file of OTLP-JSON, or of several of them.

    ```python
    print(open_store().usage(days=7).total_cost)
    ```

    Args:
        home: The home to read; unset, the one of the settings. A path that does not exist yet is
            an empty store.
        clock: What "the last n days" is measured with.
        prices: The price table of the cache and the repriced savings; unset, that of the
            `configure()` of this process, else the bundled one with the file of the settings over
            it.
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
        progress: Progress | None = None,
    ) -> None:
        self.clock = clock
        self.progress = progress
        self._prices = prices
        self.reader = Reader(home, clock=clock)

    # -- money and tokens --------------------------------------------------------------------------

    def usage(
        self,
        days: float | None = 30,
        *,
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
        window, days = self._window(days, since, until)
        found = self._cells(window, by_user=by == "user")
        return usage.usage(found, by=by, days=days)

    def savings(
        self,
        days: float | None = 30,
        *,
        method: Method = "premium_mean",
        reference: str | None = None,
        since: Moment | None = None,
        until: Moment | None = None,
    ) -> SavingsView:
        """What the choice of tiers saved against sending every call to a premium model.

        Args:
            days: The last n x 24 hours; None means everything. `since` or `until` replace it.
            method: The baseline: `premium_mean`, the mean cost of the window's premium calls, or
                `repriced`, each call's own tokens at the prices of the reference.
            reference: `provider/model`; unset, the premium model that was called most.
            since: First moment of the window.
            until: The moment behind the window.
        """
        _check(method)
        window, days = self._window(days, since, until)
        found, spent = self._found(window, method)
        return self._savings(found, spent, reference, days)

    def usage_and_savings(
        self,
        days: float | None = 30,
        *,
        by: By | None = None,
        method: Method = "premium_mean",
        reference: str | None = None,
        since: Moment | None = None,
        until: Moment | None = None,
    ) -> tuple[UsageView, SavingsView]:
        """Both of the same calls, of which others may be written meanwhile; read once."""
        _check(method)
        window, days = self._window(days, since, until)
        found, spent = self._found(window, method, by_user=by == "user")
        savings = self._savings(found, spent, reference, days)
        return usage.usage(found, by=by, days=days), savings

    def cache(
        self,
        days: float | None = 7,
        *,
        since: Moment | None = None,
        until: Moment | None = None,
    ) -> CacheView:
        """What the providers' prompt caches saved."""
        window, days = self._window(days, since, until)
        read = calls.calls(self.reader, window, progress=self.progress)
        return cache.cache(read, self.prices, days=days)

    def compare(self, first: float = 7, second: float = 30) -> CompareView:
        """Usage of two windows side by side."""
        return usage.compare(self.usage(days=first), self.usage(days=second))

    def recent(self, limit: int = 20, days: float | None = None) -> list[Call]:
        """The newest calls, newest first."""
        return usage.recent(self.calls(days), limit)

    # -- traces ------------------------------------------------------------------------------------

    def traces(
        self,
        days: float | None = None,
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
        window, _ = self._window(days, since, until)
        return traces.newest(
            self.reader,
            window,
            limit=limit,
            wanted=traces.Filter(
                service=service,
                model=model,
                agent=agent,
                run=run,
                status=status,
                text=text,
                min_duration=min_duration,
                min_cost=min_cost,
            ),
            progress=self.progress,
        )

    def trace(self, id_prefix: str) -> Trace | None:
        """One trace as a tree, by its id or the beginning of it; None when there is none."""
        return traces.find(self.reader, id_prefix, progress=self.progress)

    # -- records -----------------------------------------------------------------------------------

    def calls(
        self,
        days: float | None = None,
        *,
        since: Moment | None = None,
        until: Moment | None = None,
    ) -> Iterator[Call]:
        """Every call of a window, in the order of the files."""
        window, _ = self._window(days, since, until)
        return calls.calls(self.reader, window, progress=self.progress)

    def events(
        self,
        days: float | None = None,
        *,
        name: str | None = None,
        since: Moment | None = None,
        until: Moment | None = None,
    ) -> Iterator[Event]:
        """Every event and log record of a window, in the order of the files."""
        window, _ = self._window(days, since, until)
        scan = self.reader.scan("logs", after=window.after, progress=self.progress)
        for event in records.events(scan, scan):
            if event.time in window and (name is None or event.name == name):
                yield event

    def follow(
        self,
        *,
        signals: Iterable[str] = ("traces", "logs"),
        poll: float = 0.2,
        stop: threading.Event | None = None,
    ) -> Iterator[Span | Event | Point]:
        """New records as they are written, until `stop` is set."""
        stop = stop or threading.Event()
        follows = [(signal, self.reader.follow(signal)) for signal in signals]
        return self._follow(follows, poll, stop)

    def export(
        self,
        stream: BinaryIO,
        format: Literal["csv", "jsonl", "otlp"],  # noqa: A002 - the word of the command
        *,
        days: float | None = None,
        since: Moment | None = None,
        until: Moment | None = None,
        signal: str = "traces",
    ) -> int:
        """Write calls (`csv`, `jsonl`) or the log's own lines (`otlp`); how many were written."""
        window, _ = self._window(days, since, until)
        if format == "otlp":
            return export.write_otlp(
                self.reader, stream, signal=signal, window=window, progress=self.progress
            )
        if format not in export.FORMATS:
            raise WrongValue(f"format={format!r}: choose one of {', '.join(export.FORMATS)}")
        write = export.write_csv if format == "csv" else export.write_jsonl
        return write(calls.calls(self.reader, window, progress=self.progress), stream)

    def status(self) -> dict[str, Any]:
        """The state of the home: its log, its processes, its backends, its loss ledger."""
        return status.status(self.reader.paths[0], clock=self.clock)

    # -- what could not be read --------------------------------------------------------------------

    @property
    def skipped(self) -> Counter[str]:
        """How often a line was skipped, by reason: `torn`, `corrupt`, `too_long`, `unreadable`."""
        return self.reader.skips.counts

    @property
    def skips(self) -> list[Skip]:
        """Where lines were skipped: file, offset, reason (the first thousand)."""
        return self.reader.skips.places

    # -- how it is done ----------------------------------------------------------------------------

    @property
    def prices(self) -> Prices:
        """The price table of this store, once it was asked for.

        Raises:
            SettingError: The file that the settings name cannot be used.
        """
        if self._prices is None:
            from otel_empathy.core.settings import Settings  # noqa: PLC0415 - only without prices

            self._prices = live.prices or Prices.bundled(Settings.load().prices)
        return self._prices

    def _window(
        self, days: float | None, since: Moment | None, until: Moment | None
    ) -> tuple[Window, float | None]:
        """The window, and its days when days decide."""
        if since is not None or until is not None:
            return Window.between(since, until), None
        return Window.last(days, self.clock.time_ns()), days

    def _cells(self, window: Window, *, by_user: bool = False) -> Cells:
        return add_up(self.reader, window, by_user=by_user, progress=self.progress)

    def _found(
        self, window: Window, method: Method, *, by_user: bool = False
    ) -> tuple[Cells, Spent | None]:
        """The sums, and what pricing anew needs where that is the method; read once."""
        if method == "premium_mean":
            return self._cells(window, by_user=by_user), None
        spent = Spent()
        read = calls.calls(self.reader, window, progress=self.progress)
        return summed(spent.of(read), by_user=by_user), spent

    def _savings(
        self, found: Cells, spent: Spent | None, reference: str | None, days: float | None
    ) -> SavingsView:
        if spent is None:
            return usage.savings(found, days=days)
        return usage.repriced(found, spent, self.prices, reference=reference, days=days)

    def _follow(
        self, follows: list[tuple[str, Follow]], poll: float, stop: threading.Event
    ) -> Iterator[Span | Event | Point]:
        while True:
            began = self.clock.monotonic()
            for signal, follow in follows:
                yield from records.DECODERS[signal](follow, follow.look())
            # A home with very many segments takes a while to look through: never more than a
            # tenth of the time.
            if stop.wait(max(poll, 9 * (self.clock.monotonic() - began))):
                return


def _check(method: str) -> None:
    if method not in {"premium_mean", "repriced"}:
        raise WrongValue(f"method={method!r}: choose premium_mean or repriced")
