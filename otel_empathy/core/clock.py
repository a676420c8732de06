"""The one place that asks for the time.

Durations, limits and back-off use the monotonic clock, records the wall clock. Everything with
time in it takes a `Clock`, so that a test moves time by hand (`otel_empathy.testing.ManualClock`).
"""

from __future__ import annotations

import time
from typing import Protocol

__all__ = ["SYSTEM", "Clock", "SystemClock"]


class Clock(Protocol):
    """What the product asks of a clock."""

    def time_ns(self) -> int:
        """Wall clock, UTC nanoseconds since 1970."""
        ...

    def monotonic(self) -> float:
        """Seconds on a clock that never goes backwards."""
        ...


class SystemClock:
    """The clock of the machine."""

    __slots__ = ()
    time_ns = staticmethod(time.time_ns)
    monotonic = staticmethod(time.monotonic)


SYSTEM = SystemClock()
