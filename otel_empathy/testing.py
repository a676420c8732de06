"""What tests of telemetry need, ours and yours: a clock moved by hand, a home of one's own.

The module is a pytest plugin of the installed package and therefore imports nothing heavy; each
fixture imports what it needs when it is used.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from otel_empathy.wiring import Runtime

__all__ = ["ManualClock", "empathy_home", "empathy_runtime", "leftovers"]


class ManualClock:
    """A clock that stands until it is moved: `clock = ManualClock(); clock.advance(31)`."""

    def __init__(self, time_ns: int = 1_767_225_600_000_000_000, monotonic: float = 1000.0) -> None:
        self._time_ns = time_ns
        self._monotonic = monotonic
        self._lock = threading.Lock()

    def time_ns(self) -> int:
        """The wall clock."""
        return self._time_ns

    def monotonic(self) -> float:
        """The clock that never goes back."""
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Let time pass on both clocks."""
        with self._lock:
            self._time_ns += round(seconds * 1e9)
            self._monotonic += seconds

    def step(self, seconds: float) -> None:
        """Set the wall clock forwards or back, as an administrator or NTP does."""
        with self._lock:
            self._time_ns += round(seconds * 1e9)


def leftovers() -> list[str]:
    """Names of the threads of ours that are still running."""
    return [t.name for t in threading.enumerate() if t.name.startswith("otel-empathy")]


@pytest.fixture
def empathy_home(tmp_path: Path) -> Path:
    """A home of this test alone."""
    return tmp_path / "home"


@pytest.fixture
def empathy_runtime(empathy_home: Path) -> Iterator[Runtime]:
    """Telemetry switched on for one test, into a home of its own, shipping nowhere."""
    from otel_empathy.wiring import configure

    made = configure(service="test", home=empathy_home, backends=[])
    yield made
    made.shutdown()
