"""A bell that one thread waits for and others ring.

`threading.Event` takes a lock inside, and leaves it locked for ever when a signal handler raises at
the wrong moment, as Ctrl-C does, or waits for itself when one sets it in the middle of setting it.
The queue below is made for both.
"""

from __future__ import annotations

from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import TIMEOUT_MAX

__all__ = ["Bell"]


class Bell:
    """Rung by many, waited for by one; the wait silences it."""

    __slots__ = ("_rings",)

    def __init__(self) -> None:
        self._rings: SimpleQueue[None] = SimpleQueue()

    def ring(self) -> None:
        """Wake who waits, or who waits next."""
        if self._rings.empty():
            self._rings.put(None)

    def wait(self, timeout: float | None) -> bool:
        """Wait for a ring and silence it; False when none came in time."""
        if timeout is not None:
            timeout = min(max(0.0, timeout), TIMEOUT_MAX)
        try:
            self._rings.get(timeout=timeout)
        except Empty:
            return False
        self.silence()
        return True

    def silence(self) -> None:
        """Forget rings that nobody waited for."""
        with suppress(Empty):
            while not self._rings.empty():
                self._rings.get_nowait()
