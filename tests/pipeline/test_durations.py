"""The cheap histogram."""

from __future__ import annotations

from otel_empathy.core.semconv import LOCAL_SECONDS
from otel_empathy.pipeline.durations import Durations


def test_a_value_counts_in_the_first_bucket_whose_bound_it_does_not_pass() -> None:
    times = Durations(0)
    for seconds in (0.0, 0.0001, 0.00011, 10.0, 10.1):
        times.note(seconds)
    assert times.counts[:2] == [2, 1]
    assert times.counts[-2:] == [1, 1]
    assert len(times.counts) == len(LOCAL_SECONDS) + 1
    assert (times.shortest, times.longest) == (0.0, 10.1)
    assert times.total == 0.0 + 0.0001 + 0.00011 + 10.0 + 10.1


def test_two_together_are_the_sum_and_began_with_the_first() -> None:
    one, two = Durations(5), Durations(3)
    one.note(0.2)
    two.note(0.4)
    both = one.plus(two)
    assert both.since == 3
    assert sum(both.counts) == 2
    assert (both.shortest, both.longest) == (0.2, 0.4)
    assert both.total == 0.2 + 0.4
