from __future__ import annotations

import threading

import pytest

from otel_empathy.pipeline.bell import Bell


def test_a_ring_ends_the_wait_and_is_silenced_by_it() -> None:
    bell = Bell()
    bell.ring()
    assert bell.wait(0)
    assert not bell.wait(0)


def test_many_rings_are_one() -> None:
    bell = Bell()
    for _ in range(100):
        bell.ring()
    assert bell.wait(0)
    assert not bell.wait(0)


def test_a_silenced_ring_wakes_nobody() -> None:
    bell = Bell()
    bell.ring()
    bell.silence()
    assert not bell.wait(0)


def test_a_ring_from_another_thread_ends_a_wait_under_way() -> None:
    bell = Bell()
    other = threading.Thread(target=bell.ring)
    other.start()
    assert bell.wait(10)
    other.join()


@pytest.mark.parametrize("timeout", [-1.0, float("-inf"), float("inf"), 1e300])
def test_any_number_of_seconds_is_a_timeout(timeout: float) -> None:
    bell = Bell()
    bell.ring()
    assert bell.wait(timeout)
    if timeout < 0:
        assert not bell.wait(timeout)
