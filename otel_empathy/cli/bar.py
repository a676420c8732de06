"""A progress bar on stderr, for work that turns out to be long, where somebody sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from otel_empathy.core.clock import SYSTEM, Clock

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ["Bar"]

_PATIENCE = 0.5  # seconds of work before a bar appears


class Bar:
    """Called with what is done and what there is in all; gone when the work is.

    Args:
        text: What is being done.
        err: Where it appears, if that is a terminal.
        clock: Tells whether the work is long.
    """

    def __init__(self, text: str, *, err: TextIO, clock: Clock = SYSTEM) -> None:
        self._text = text
        self._err = err
        self._clock = clock
        self._begin = clock.monotonic()
        self._progress: Progress | None = None

    def __call__(self, done: float, total: float) -> None:
        """Show how far the work is."""
        if self._progress is None:
            if self._clock.monotonic() - self._begin < _PATIENCE or not self._err.isatty():
                return
            self._progress = self._appear()
        self._progress.update(self._progress.task_ids[0], completed=done, total=total)

    def _appear(self) -> Progress:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        progress = Progress(
            TextColumn("{task.description}", style="dim"),
            BarColumn(bar_width=30),
            TimeRemainingColumn(),
            console=Console(file=self._err, markup=False, emoji=False),
            transient=True,
        )
        progress.add_task(self._text)
        progress.start()
        return progress

    def stop(self) -> None:
        """Take the bar away."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
