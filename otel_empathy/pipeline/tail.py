"""The newest lines of one signal, kept in the form that backends take.

A backend that keeps up reads here and never parses; one that is behind reads the segments. What is
kept is bounded by its bytes, the oldest go first.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from dataclasses import dataclass

from otel_empathy.pipeline.chunk import Chunk

__all__ = ["Line", "Tail"]

_MOST = 8 << 20


@dataclass(slots=True)
class Line:
    """A line that was just written."""

    seq: int
    start: int
    end: int
    name: str
    chunks: list[Chunk]

    @property
    def count(self) -> int:
        """Records in the line."""
        return sum(chunk.count for chunk in self.chunks)


class Tail:
    """Lines in the order in which they were written; one thread at a time adds, any may read."""

    __slots__ = ("_lines", "bytes")

    def __init__(self) -> None:
        self._lines: list[Line] = []
        self.bytes = 0

    def add(self, lines: Iterable[Line]) -> None:
        """Remember lines, and forget the oldest beyond the bound."""
        for line in lines:
            self._lines.append(line)
            self.bytes += line.end - line.start
        if self.bytes > _MOST:
            cut = 0
            while self.bytes > _MOST * 3 // 4 and cut < len(self._lines) - 1:
                self.bytes -= self._lines[cut].end - self._lines[cut].start
                cut += 1
            self._lines = self._lines[cut:]  # a new list, since somebody may be reading this one

    def clear(self) -> None:
        """Forget all, so that backends read the file; for when a line may be missing here."""
        self._lines = []
        self.bytes = 0

    def after(self, seq: int, offset: int, records: int) -> list[Line] | None:
        """Lines from a position on, or None when memory does not reach back to it."""
        lines = self._lines  # it only grows; what is cut off makes a new list
        if not lines:
            return None
        at = bisect.bisect_left(lines, (seq, offset), key=lambda line: (line.seq, line.start))
        if at == len(lines):
            last = lines[-1]
            return [] if (last.seq, last.end) == (seq, offset) else None
        first = lines[at]
        follows = (first.seq, first.start) == (seq, offset) or (
            at > 0 and first.start == 0 and (lines[at - 1].seq, lines[at - 1].end) == (seq, offset)
        )
        if not follows:
            return None
        taken: list[Line] = []
        total = 0
        for line in lines[at : at + records]:
            if taken and total + line.count > records:
                break
            taken.append(line)
            total += line.count
        return taken
