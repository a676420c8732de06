"""Batches for a backend: from memory while it keeps up, from the segments when it is behind.

Both give whole lines from a position on and the position behind them. What a corrupt line held is
not known and not guessed; it is skipped and counted.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import Counter, deque
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from otel_empathy.pipeline import ledger, segments
from otel_empathy.pipeline.chunk import SIGNALS, Chunk, parse
from otel_empathy.pipeline.cursor import Position
from otel_empathy.pipeline.log import Log

__all__ = ["Batch", "Disk", "Orphan", "Own", "Queue"]

_BLOCK = 4 << 20
_LONGEST = 16 << 20


@dataclass(slots=True)
class Batch:
    """Chunks to send, and where the cursor stands once they are settled.

    Args:
        chunks: What to send.
        after: Where the cursor stands then.
        lost: Records that were removed before anybody had read them, by reason.
        skipped: Lines that could not be read, by reason.
        repeated: Records that were settled already, because the cursor pointed to an odd place.
    """

    chunks: list[Chunk]
    after: Position
    lost: Counter[str]
    skipped: Counter[str] = field(default_factory=Counter)
    repeated: int = 0

    @property
    def count(self) -> int:
        """Records in the batch."""
        return sum(chunk.count for chunk in self.chunks)


class Disk:
    """One signal of one process, read from its segments."""

    def __init__(self, home: Path, signal: str, instance: str) -> None:
        self.home = home
        self.signal = signal
        self.instance = instance
        self._known: list[segments.Segment] = []
        self._answered: object = None  # the last question about removals that had no answer

    def read(self, position: Position, records: int) -> Batch | None:
        """The next batch, or None when nothing more is whole on disk."""
        place = Position(position.seq, position.offset, position.records)
        lost: Counter[str] = Counter()
        while True:
            segment = self._segment(place, lost)
            if segment is None:
                moved = (place.seq, place.offset) != (position.seq, position.offset)
                return Batch([], place, lost) if lost or moved else None
            try:
                batch = self._lines(segment, place, records)
            except FileNotFoundError:
                self._known = [one for one in self._known if one is not segment]
                continue
            if batch is not None:
                batch.lost.update(lost)
                return batch
            following = self._after(segment)
            if following is None:
                return Batch([], place, lost) if lost else None
            # What was written after we read and before the next segment was opened.
            batch = self._rest(segment, place, records)
            if batch is not None:
                batch.lost.update(lost)
                return batch
            place = Position(following.name.seq, 0, 0)

    def behind(self, position: Position) -> list[tuple[segments.Segment, int]]:
        """Segments that are not wholly read, with their unread bytes."""
        return [
            (s, s.size - (position.offset if s.name.seq == position.seq else 0))
            for s in self._look()
            if s.name.seq >= position.seq
        ]

    def is_ahead(self, position: Position) -> bool:
        """Whether a position lies behind all that was ever written, where no cursor can stand."""
        last = max((segment.name.seq for segment in self._look()), default=0)
        if position.seq <= last:
            return False
        for one in ledger.read_evicted(self.home).values():
            name = segments.Name.parse(one.name)
            if name is not None and (one.signal, name.instance) == (self.signal, self.instance):
                last = max(last, name.seq)
        # Who has given up a segment, or found it removed, stands before one that may never come.
        return (position.seq, position.offset) > (last + 1, 0)

    def _look(self) -> list[segments.Segment]:
        """What there is now."""
        self._known = segments.listed(self.home, self.signal, self.instance)
        return self._known

    def _segment(self, place: Position, lost: Counter[str]) -> segments.Segment | None:
        for again in (False, True):
            for segment in self._look() if again else self._known:
                if segment.name.seq == place.seq and place.seq:
                    return segment
        found = next((s for s in self._known if s.name.seq > place.seq), None)
        before = found.name.seq if found else None
        self._count_lost(place, before, lost)
        if found is not None:
            place.seq, place.offset, place.records = found.name.seq, 0, 0
        return found

    def _count_lost(self, place: Position, before: int | None, lost: Counter[str]) -> None:
        """Count what retention removed between the position and the next segment."""
        asked = ledger.evicted_state(self.home), place.seq, place.records, before
        if asked == self._answered:
            return
        last = place.seq
        removed = False
        for one in ledger.read_evicted(self.home).values():
            name = segments.Name.parse(one.name)
            if name is None or one.signal != self.signal or name.instance != self.instance:
                continue
            if name.seq < place.seq or (before is not None and name.seq >= before):
                continue
            removed = True
            done = place.records if name.seq == place.seq else 0
            lost[one.reason] += max(0, one.records - done)
            last = max(last, name.seq)
        if not removed:
            self._answered = asked  # a lane without a segment asks whenever it looks
        if before is None and last > place.seq:
            place.seq, place.offset, place.records = last + 1, 0, 0
        elif before is None and lost:
            place.seq, place.offset, place.records = place.seq + 1, 0, 0

    def _after(self, segment: segments.Segment) -> segments.Segment | None:
        return next((s for s in self._look() if s.name.seq > segment.name.seq), None)

    def _end(self, segment: segments.Segment) -> int:  # noqa: ARG002 - one who writes knows better
        """Bytes of a segment that may be read."""
        return sys.maxsize

    def _rest(self, segment: segments.Segment, place: Position, records: int) -> Batch | None:
        try:
            return self._lines(segment, place, records)
        except FileNotFoundError:
            return None

    def _lines(self, segment: segments.Segment, place: Position, records: int) -> Batch | None:
        endless = False
        repeated = 0
        with segment.path.open("rb") as file:
            size = min(os.fstat(file.fileno()).st_size, self._end(segment))
            if place.offset and not _at_line(file.fileno(), place.offset, size):
                # A cursor that points beyond the end or into a line is damaged: begin again.
                repeated = place.records
                place.offset = place.records = 0
            offset = place.offset
            file.seek(offset)
            block = file.read(min(_BLOCK, size - offset))
            while b"\n" not in block:
                more = file.read(min(_BLOCK, size - file.tell()))
                if not more:
                    return None
                if len(block) > _LONGEST:
                    block = b"\0"  # too long for a line of anybody's: look for its end only
                    endless = True
                    offset = file.tell() - len(more) - 1
                block += more
        batch = self._parse(block, segment.name.seq, offset, place, records)
        batch.repeated = repeated
        if endless:  # the rest of it came first in the block
            batch.skipped["corrupt"] -= 1
            batch.skipped["too_long"] += 1
        return batch

    def _parse(self, block: bytes, seq: int, offset: int, place: Position, records: int) -> Batch:
        chunks: list[Chunk] = []
        skipped: Counter[str] = Counter()
        count = 0
        start = 0
        while count < records:
            end = block.find(b"\n", start)
            if end < 0:
                break
            line = block[start : end + 1]
            try:
                found = parse(line)
            except ValueError:
                skipped["corrupt"] += 1
                found = []
            got = sum(chunk.count for chunk in found)
            if chunks and count + got > records:
                break
            chunks += found
            count += got
            start = end + 1
        after = Position(seq, offset + start, place.records + count)
        return Batch(chunks, after, Counter(), skipped)


class Orphan(Disk):
    """One signal of a process that is gone; `left` is what it left, to which nothing is added."""

    def __init__(
        self, home: Path, signal: str, instance: str, left: list[segments.Segment]
    ) -> None:
        super().__init__(home, signal, instance)
        self._known = left

    def _look(self) -> list[segments.Segment]:
        return self._known


def _at_line(fd: int, offset: int, size: int) -> bool:
    return offset <= size and os.pread(fd, 1, offset - 1) == b"\n"


class Own(Disk):
    """One signal of this process: its newest lines come from memory."""

    def __init__(self, log: Log, signal: str) -> None:
        super().__init__(log.home, signal, log.instance[:8])
        self._writer = log.writers[signal]

    def read(self, position: Position, records: int) -> Batch | None:
        """The next batch, or None when all is read."""
        lines = self._writer.tail.after(position.seq, position.offset, records)
        if not lines and position.seq:
            # At the end of a segment the next line stands at the beginning of the next one.
            name = self._writer.name
            if name is not None and name.seq > position.seq and self._at_end(position):
                lines = self._writer.tail.after(position.seq + 1, 0, records)
        if not lines:
            if lines is not None and self._caught_up(position):
                return None
            return super().read(position, records)
        same = lines[0].seq == position.seq
        first = lines[0].seq
        lines = [line for line in lines if line.seq == first]
        count = sum(line.count for line in lines)
        done = position.records if same else 0
        after = Position(first, lines[-1].end, done + count)
        return Batch([chunk for line in lines for chunk in line.chunks], after, Counter())

    def _end(self, segment: segments.Segment) -> int:
        """Only what is acknowledged: what stands behind it may be cut off again."""
        name, end = self._writer.name, self._writer.offset
        if name is None or name.seq != segment.name.seq:
            return sys.maxsize
        # The writer may have gone on to its next segment between the two, which begins at 0.
        return end if self._writer.name is name else sys.maxsize

    def _caught_up(self, position: Position) -> bool:
        name = self._writer.name
        return (
            name is not None and name.seq == position.seq and position.offset == self._writer.offset
        )

    def _at_end(self, position: Position) -> bool:
        for segment in segments.listed(self.home, self.signal, self.instance):
            if segment.name.seq == position.seq:
                return segment.size == position.offset
        return False


class Queue:
    """One signal of this process in memory alone, for `log=False`."""

    def __init__(self, signal: str, limit: int) -> None:
        self.signal = SIGNALS[signal].name
        self.limit = limit
        self._chunks: deque[Chunk] = deque()
        self._bytes = 0
        self._taken = 0
        self.records = 0  # that were ever taken in
        self._lock = threading.RLock()  # a finaliser may record while its own thread is in here

    @property
    def end(self) -> int:
        """Chunks that were taken in so far."""
        with self._lock:
            return self._taken + len(self._chunks)

    def put(self, chunk: Chunk) -> bool:
        """Keep a chunk; False when there is no room."""
        with self._lock:
            if self._bytes + len(chunk.body) > self.limit:
                return False
            self._bytes += len(chunk.body)
            self.records += chunk.count
            self._chunks.append(chunk)
            return True

    def read(self, position: Position, records: int) -> Batch | None:
        """The next batch; what lies before the position is settled and forgotten."""
        with self._lock:
            while self._taken < position.offset:
                done = self._chunks.popleft()
                self._bytes -= len(done.body)
                self._taken += 1
            first = list(islice(self._chunks, records))
        chunks: list[Chunk] = []
        count = 0
        for chunk in first:
            if chunks and count + chunk.count > records:
                break
            chunks.append(chunk)
            count += chunk.count
        if not chunks:
            return None
        after = Position(1, self._taken + len(chunks), position.records + count)
        return Batch(chunks, after, Counter())

    def behind(self, _: Position) -> list[tuple[segments.Segment, int]]:
        """Nothing of it lies on disk."""
        return []


Source = Disk | Queue | Own | Orphan
