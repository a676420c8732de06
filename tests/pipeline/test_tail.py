from __future__ import annotations

from otel_empathy.pipeline.chunk import SIGNALS, Chunk
from otel_empathy.pipeline.tail import Line, Tail


def line(seq: int, start: int, size: int = 100, count: int = 1) -> Line:
    chunk = Chunk(SIGNALS["traces"], b"", b"", b"", count)
    return Line(seq, start, start + size, f"segment {seq}", [chunk])


def filled(*lines: Line) -> Tail:
    tail = Tail()
    tail.add(lines)
    return tail


def test_memory_that_holds_nothing_says_so() -> None:
    assert Tail().after(1, 0, 10) is None


def test_lines_follow_from_any_position_between_two_of_them() -> None:
    lines = [line(1, 0), line(1, 100), line(1, 200)]
    tail = filled(*lines)
    for index, one in enumerate(lines):
        assert tail.after(1, one.start, 10) == lines[index:]
    assert tail.after(1, 300, 10) == []


def test_a_position_inside_a_line_or_beyond_the_end_is_left_to_the_file() -> None:
    tail = filled(line(1, 0), line(1, 100))
    for offset in (1, 99, 101, 201, 10_000):
        assert tail.after(1, offset, 10) is None
    assert tail.after(2, 0, 10) is None


def test_a_line_that_is_missing_in_memory_is_left_to_the_file() -> None:
    tail = filled(line(1, 100), line(1, 300))
    assert tail.after(1, 0, 10) is None
    assert tail.after(1, 250, 10) is None
    assert tail.after(1, 200, 10) is None  # the end of one line, but not the begin of the next


def test_the_end_of_a_segment_leads_to_the_beginning_of_the_next() -> None:
    tail = filled(line(1, 0), line(2, 0), line(2, 100))
    found = tail.after(1, 100, 10)
    assert found is not None
    assert [(one.seq, one.start) for one in found] == [(2, 0), (2, 100)]


def test_as_many_records_are_given_as_were_asked_for_but_at_least_one_line() -> None:
    tail = filled(*(line(1, start, count=10) for start in range(0, 500, 100)))
    for asked, lines in ((1, 1), (10, 1), (25, 2), (50, 5), (1000, 5)):
        found = tail.after(1, 0, asked)
        assert found is not None
        assert len(found) == lines


def test_beyond_the_bound_the_oldest_are_forgotten_and_the_newest_is_kept() -> None:
    tail = filled(*(line(1, start, size=1 << 20) for start in range(0, 9 << 20, 1 << 20)))
    assert tail.bytes <= 8 << 20
    assert tail.after(1, 0, 10) is None
    assert tail.after(1, 9 << 20, 10) == []
    tail.add([line(2, 0, size=100 << 20)])
    found = tail.after(2, 0, 10)
    assert found is not None
    assert len(found) == 1


def test_what_was_cleared_is_read_from_the_file() -> None:
    tail = filled(line(1, 0), line(1, 100))
    tail.clear()
    assert (tail.after(1, 0, 10), tail.bytes) == (None, 0)
    tail.add([line(1, 200)])
    assert tail.after(1, 100, 10) is None
    assert tail.after(1, 300, 10) == []
