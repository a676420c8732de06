"""How old the oldest record is: never too young, exact where the shipper rested."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as some

from otel_empathy.pipeline.marks import Marks


def test_a_mark_answers_for_what_lies_behind_the_settled_records() -> None:
    marks = Marks()
    marks.add(3, 100, 0)
    marks.add(5, 200, 0)
    assert [marks.oldest(settled) for settled in range(6)] == [100, 100, 100, 200, 200, None]


def test_what_was_settled_before_anybody_looked_needs_no_mark() -> None:
    marks = Marks()
    marks.add(3, 100, 3)
    assert marks.oldest(3) is None


def test_no_number_of_marks_is_kept_for_ever() -> None:
    marks = Marks()
    for number in range(1, 100_001):
        marks.add(number, number, 0)
    assert len(marks._marks) <= 1024
    assert marks.oldest(0) == 1
    assert marks.oldest(99_999) > 99_000


FEW = some.integers(0, 5)


@given(some.lists(some.tuples(FEW, some.integers(1, 9), FEW), max_size=60))
def test_no_answer_is_younger_than_the_record(steps: list[tuple[int, int, int]]) -> None:
    marks = Marks()
    came: list[int] = []  # the moment of each record
    now = looked = settled = 0
    for new, time, done in steps:
        for _ in range(new):
            now += time
            came.append(now)
        settled = min(len(came), settled + done)
        marks.add(len(came), looked, settled)
        looked = now
        if settled < len(came):
            since = marks.oldest(settled)
            assert since is not None
            assert since <= came[settled]
