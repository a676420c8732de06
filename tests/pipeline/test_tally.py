"""Counts without a lock."""

from __future__ import annotations

import threading

from otel_empathy.pipeline.tally import Tally


def test_a_key_that_never_came_up_counts_nothing() -> None:
    tally: Tally[str] = Tally()
    assert tally["x"] == 0
    assert list(tally) == []


def test_asking_does_not_count() -> None:
    tally: Tally[str] = Tally()
    tally.up("x")
    assert (tally["x"], tally["x"], list(tally)) == (1, 1, ["x"])


def test_threads_lose_no_count() -> None:
    tally: Tally[int] = Tally()
    start = threading.Barrier(8)

    def work() -> None:
        start.wait(5)
        for number in range(20_000):
            tally.up(number % 3)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(tally[key] for key in tally) == 160_000
