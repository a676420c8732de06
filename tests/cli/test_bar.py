from __future__ import annotations

import io

from otel_empathy.cli.bar import Bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Hands:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def time_ns(self) -> int:
        return 0


def shown(err: io.StringIO, seconds: float) -> str:
    clock = Hands()
    bar = Bar("reading the log", err=err, clock=clock)
    bar(1, 100)
    clock.now = seconds
    bar(50, 100)
    bar.stop()
    return err.getvalue()


def test_short_work_shows_no_bar() -> None:
    assert shown(Terminal(), 0.4) == ""


def test_long_work_shows_a_bar_on_a_terminal() -> None:
    assert "reading the log" in shown(Terminal(), 0.6)


def test_nobody_sees_a_bar_in_a_pipe() -> None:
    assert shown(io.StringIO(), 60.0) == ""
