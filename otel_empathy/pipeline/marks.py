"""When records were acknowledged, told from a few marks instead of a time for each record.

Whoever ships marks now and then how many records there are, and since when those beyond the last
mark can have been there. The answer for the oldest record that is not settled is never too young:
it is exact to the wake-up of a thread for one that came while the shipper rested, and too old by no
more than the time between two marks for any other.
"""

from __future__ import annotations

__all__ = ["Marks"]

_MOST = 1024


class Marks:
    """Marks of one signal, oldest first; one thread adds, any may ask."""

    __slots__ = ("_marks", "_seen")

    def __init__(self) -> None:
        self._marks: list[tuple[int, int]] = []  # records up to here, there since
        self._seen = 0

    def add(self, total: int, since_ns: int, settled: int) -> None:
        """Note how many records there are by now, and forget what is settled.

        Args:
            total: Records that were acknowledged so far.
            since_ns: The first moment at which those that are new here can have come.
            settled: Records that need no time any more.
        """
        marks = [mark for mark in self._marks if mark[0] > settled]
        if total > max(self._seen, settled):
            marks.append((total, since_ns))
        self._seen = max(self._seen, total)
        if len(marks) > _MOST:
            # Of two neighbours, where the later one ends and since when the earlier one was there.
            marks = [
                (marks[at + 1][0], marks[at][1]) for at in range(0, len(marks) - 1, 2)
            ] + marks[len(marks) // 2 * 2 :]
        self._marks = marks  # a new list, since somebody may be reading the other

    def oldest(self, settled: int) -> int | None:
        """Since when the first record behind the settled ones is there; None when no mark says."""
        return next((since for total, since in self._marks if total > settled), None)
