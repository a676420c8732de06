"""The segments of one signal: how a record gets into a file, or waits, or is counted as dropped.

The log decides when a record may be written through, and holds the clock, the limits and the
thread; here is what happens to the file.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

from otel_empathy.core import semconv
from otel_empathy.pipeline import segments
from otel_empathy.pipeline.chunk import Chunk, Signal
from otel_empathy.pipeline.durations import Durations
from otel_empathy.pipeline.ledger import Count
from otel_empathy.pipeline.tail import Line, Tail

if TYPE_CHECKING:
    from otel_empathy.pipeline.log import Log

__all__ = ["APPENDS", "HOLD", "WRITE", "Writer"]

HOLD = 0.0005  # seconds that a caller waits for the file, and again for room, at the most
WRITE = 1 << 20
APPENDS = ("sync", "batched")
_HEAD = b'"resource":{"attributes":['
_LINE = 512 * 1024
_FRAME = 256  # more than a line holds besides its resource, its scopes and its records
_CHECK = 0.5  # seconds between two looks whether the segment still has a name
_OVER = 4  # segments that are over and wait for their last sync


class Writer:
    """The segments of one signal.

    `io` is held while a line is written, the queue's counters are guarded by `count.lock`.
    """

    def __init__(self, log: Log, signal: Signal) -> None:
        self.log = log
        self.signal = signal
        self.io = threading.RLock()  # so that only its holder can let go of it
        self.pending: deque[Chunk] = deque()
        self.count = Count()
        self.tail = Tail()
        self.size = 0  # bytes of everything that was acknowledged
        self.appends = {kind: Durations(log.clock.time_ns()) for kind in APPENDS}
        self.name: segments.Name | None = None
        self.offset = 0
        self._start = -1  # where the record that is being written begins, once that is known
        self._busy = 0  # how many of those that wait are being written
        self._refusal = 0  # why the last write failed
        self._fd = -1
        self._file = (0, 0)
        self._named = True  # whether the folder was synced since the segment was opened
        self._over: deque[tuple[int, tuple[int, int]]] = deque()
        self._most = log.options.segment_bytes
        self._seq = 0
        self._day = -1
        self._segment = b""
        self._checked = 0.0

    # -- taking -----------------------------------------------------------------------------------

    def append(self, chunk: Chunk) -> None:
        """Take one record: write it, let it wait, or count it as dropped."""
        log = self.log
        try:
            if log.closed:
                self._drop(chunk, "shutdown")
                return
            if len(chunk.resource) + len(chunk.scope) + len(chunk.body) + _FRAME > _LINE:
                self._drop(chunk, "too_large")
                return
            quick = log.through(log.clock.monotonic())
            if quick and not self.pending and self.io.acquire(timeout=HOLD):
                try:
                    if not self.pending and not log.closed:
                        self._through(chunk)
                        return
                finally:
                    self.io.release()
            self._enqueue(chunk, counted=False)
        except BaseException:
            # A signal handler that raises may do so right after the lock was taken.
            with contextlib.suppress(RuntimeError):
                self.io.release()
            self._square()
            raise

    def _drop(self, chunk: Chunk, reason: str) -> None:
        count = self.count
        with count.lock:
            count.queued += chunk.count
            count.dropped[reason] += chunk.count
        self.log.tick()

    def _through(self, chunk: Chunk) -> None:
        """Write one record in the thread that made it; what the disk refuses waits."""
        acked = self.count.acked
        self._start = -1
        try:
            written = self._write([chunk], through=True)
        except BaseException:
            # Ctrl-C, or any signal handler that raises: the file may hold more than we know of.
            self.tail.clear()
            if self._start < 0 or self.offset == self._start:
                self._undo()
                self._enqueue(chunk, counted=False)
            else:
                self.count.acked = acked + chunk.count
            raise
        self.count.through += chunk.count
        if not written:
            self._enqueue(chunk, counted=True)

    def _square(self) -> None:
        """Have the counters agree after a step was broken off: what it lost was never offered."""
        count = self.count
        try:
            if self.io.acquire(timeout=1.0):
                with count.lock:
                    count.waiting = sum(chunk.count for chunk in self.pending)
                    accounted = count.acked + count.waiting + count.dropped.total()
                    count.through = accounted - count.queued
        finally:
            with contextlib.suppress(RuntimeError):
                self.io.release()

    def _enqueue(self, chunk: Chunk, *, counted: bool) -> None:
        log, count = self.log, self.count
        room = log.reserve(len(chunk.body))
        with count.lock:
            if not counted:
                count.queued += chunk.count
            if log.closed:
                count.dropped["shutdown"] += chunk.count
                return
            if room:
                count.waiting += chunk.count
                self.pending.append(chunk)
            else:
                count.dropped[log.trouble or "queue_full"] += chunk.count
        log.queued()

    # -- writing ----------------------------------------------------------------------------------

    def drain(self) -> None:
        """Write what waits by now, in batches; stops at the first refusal."""
        left = len(self.pending)  # what comes meanwhile has its turn after the other signals
        while left > 0:
            with self.io:
                most = self._most
                batch, size = self._batch(min(WRITE, most // 2))
                if not batch:
                    return
                written = self._write(batch)
                never = self._refusal == errno.EFBIG and len(batch) == 1 and not self.offset
                with self.count.lock:
                    self._busy = 0
                    for chunk in batch if written or never else ():
                        self.pending.popleft()
                        self.count.waiting -= chunk.count
                        if not written:
                            self.count.dropped["too_large"] += chunk.count
                if written or never:
                    left -= len(batch)
                    self.log.release(size)
                elif len(batch) == 1 or self._most == most:
                    return

    def _batch(self, limit: int) -> tuple[list[Chunk], int]:
        """The first of those that wait, up to a size, and how much memory they held."""
        batch: list[Chunk] = []
        size = 0
        with self.count.lock:
            for chunk in self.pending:
                if batch and size + len(chunk.body) > limit:
                    break
                batch.append(chunk)
                size += len(chunk.body)
            self._busy = len(batch)
        return batch, size

    def _write(self, chunks: list[Chunk], *, through: bool = False) -> bool:
        """Write chunks as whole lines; True when all are acknowledged."""
        log = self.log
        try:
            self._ready(sum(len(chunk.body) for chunk in chunks))
        except OSError as error:
            self._refusal = error.errno or 0
            log.failed(self.signal.name, error, "open")
            return False
        lines = list(self._lines(chunks))
        data = b"".join(text for text, _ in lines)
        size, start, count = len(data), self.offset, sum(chunk.count for chunk in chunks)
        begin = log.clock.monotonic()
        self._start = start
        try:
            done = os.write(self._fd, data)
            while done < size:
                done += os.write(self._fd, data[done:])
            if log.options.fsync == 0:
                segments.to_disk(self._fd)
                self._sync_name()
        except OSError as error:
            self._undo()
            self._refusal = error.errno or 0
            if error.errno == errno.EFBIG:
                # Files may not be as large as ours: this segment is over, later ones end sooner.
                self._most = min(self._most, max(4096, start, (start + size) // 2))
                if start:
                    self._shut()
                    return self._write(chunks, through=through)
            log.failed(self.signal.name, error, "write")
            return False
        # Nothing is called between these two, so no signal handler can come between them.
        self.offset = start + size
        self.count.acked += count
        self.size += size
        took = log.clock.monotonic() - begin
        if through:  # what the writer's thread waits for holds nobody, and earns no patience
            log.took(took)
        self.appends["sync" if through else "batched"].note(took)
        self._keep(lines, start)
        if log.trouble is not None:
            log.recovered(self.signal.name)
        log.written(count)
        return True

    def _undo(self) -> None:
        """Cut our own segment back to its last whole line, or leave it for a new one."""
        with contextlib.suppress(OSError):
            if _is(self._fd, self._file):
                os.ftruncate(self._fd, self.offset)
                return
        self._shut()

    def _lines(self, chunks: list[Chunk]) -> Iterator[tuple[bytes, list[Chunk]]]:
        """Lines of one resource each, none longer or of more records than one request may be."""
        most = self.log.options.line_records
        group: list[Chunk] = []
        size = records = 0
        for chunk in chunks:
            more = len(chunk.body) + len(chunk.scope) + 32
            same = group and group[0].resource == chunk.resource
            records += chunk.count
            if group and (not same or size + more + _FRAME > _LINE or records > most):
                yield self._line(group), group
                group = []
            if not group:
                size, records = len(chunk.resource), chunk.count
            group.append(chunk)
            size += more
        if group:
            yield self._line(group), group

    def _line(self, group: list[Chunk]) -> bytes:
        outer, inner, leaf = (
            self.signal.outer.encode(),
            self.signal.inner.encode(),
            self.signal.leaf.encode(),
        )
        rest = group[0].resource[len(_HEAD) :]
        comma = b"" if rest.startswith(b"]") else b","
        scopes: list[bytes] = []
        index = 0
        while index < len(group):
            scope = group[index].scope
            bodies = []
            while index < len(group) and group[index].scope == scope:
                bodies.append(group[index].body)
                index += 1
            scopes.append(b'{%s,"%s":[%s]}' % (scope, leaf, b",".join(bodies)))
        return b'{"%s":[{%s%s%s%s,"%s":[%s]}]}\n' % (
            outer, _HEAD, self._segment, comma, rest, inner, b",".join(scopes),
        )  # fmt: skip

    def _keep(self, lines: list[tuple[bytes, list[Chunk]]], start: int) -> None:
        """Remember the newest lines for backends that are not behind."""
        if not self.log.options.tail or self.name is None:
            return
        made = []
        for text, chunks in lines:
            end = start + len(text)
            made.append(Line(self.name.seq, start, end, str(self.name), chunks))
            start = end
        self.tail.add(made)

    # -- segments ---------------------------------------------------------------------------------

    def _ready(self, size: int) -> None:
        """Have a segment open that this write fits into, of today, that still has its name."""
        log = self.log
        now = log.clock.time_ns()
        day = now // 86_400_000_000_000
        if self._fd >= 0:
            if self.offset and (self.offset + size > self._most or day != self._day):
                self._open(day)
                return
            mono = log.clock.monotonic()
            if mono - self._checked < _CHECK:
                return
            self._checked = mono
            if self._intact():
                return
            self._shut()
        self._open(day)

    def _intact(self) -> bool:
        """Whether our segment is still where it was and as long as we made it."""
        path = segments.folder(self.log.home, self.signal.name) / str(self.name)
        try:
            ours, found = os.fstat(self._fd), path.stat(follow_symlinks=False)
        except OSError:
            return False
        return os.path.samestat(ours, found) and ours.st_size == self.offset

    def _open(self, day: int) -> None:
        log = self.log
        if log.on_open is not None:
            log.on_open()
        fd, name = segments.open_new(
            log.home, self.signal.name, log.service, log.instance[:8], self._seq + 1, log.clock
        )
        made = os.fstat(fd)
        old, file = self._fd, self._file
        self._fd, self._file, self._named = fd, (made.st_dev, made.st_ino), False
        self._seq, self.name, self.offset, self._day = name.seq, name, 0, day
        log.leased = segments.lockless(fd)
        self._checked = log.clock.monotonic()
        identity = f"{log.instance}-{name.seq}-{self.signal.name}"
        self._segment = b'{"key":"%s","value":{"stringValue":"%s"}}' % (
            semconv.SEGMENT_ID.encode(),
            identity.encode(),
        )
        self._leave(old, file)
        if log.on_rotate is not None:
            log.on_rotate()

    def sync(self) -> None:
        """Bring what was written to the disk itself; called by one thread at a time."""
        while self._over:
            fd, file = self._over.popleft()
            if _is(fd, file):
                self._end(fd)
        fd = self._fd
        try:
            if fd >= 0:
                self._sync_name()
                segments.to_disk(fd)
        except OSError as error:
            if fd == self._fd:  # else it was closed meanwhile, after a sync of its own
                self.log.failed(self.signal.name, error, "sync")

    def _sync_name(self) -> None:
        """Bring the name of a new segment to the disk: without it, nobody finds what it holds."""
        if self._named:
            return
        self._named = True
        with contextlib.suppress(OSError):  # not every file system can do it
            where = segments.open_folder(self.log.home, self.signal.name)
            try:
                os.fsync(where)
            finally:
                os.close(where)

    def touch(self) -> None:
        """Renew the date of the segment, where that is the sign of life."""
        with contextlib.suppress(OSError):
            if self._fd >= 0:
                os.utime(self._fd)

    def _shut(self) -> None:
        """Let go of the segment."""
        fd, self._fd = self._fd, -1
        self._leave(fd, self._file)

    def _leave(self, fd: int, file: tuple[int, int]) -> None:
        """Close a segment that is over, after a last sync that the writer's thread can make."""
        log = self.log
        if fd < 0 or not _is(fd, file):
            return
        if log.options.fsync and len(self._over) < _OVER and not log.closed:
            segments.unlock(fd)  # nothing is added to it any more
            self._over.append((fd, file))
            log.unsynced()
        else:
            self._end(fd)

    def _end(self, fd: int) -> None:
        try:
            if self.log.options.fsync is not None:
                segments.to_disk(fd)
        except OSError as error:
            self.log.failed(self.signal.name, error, "sync")
        finally:
            os.close(fd)

    def close(self, timeout: float) -> None:
        """Let go of the segment; what still waits is lost and counted."""
        count = self.count
        locked = self.io.acquire(timeout=timeout)
        try:
            with count.lock:
                # Without the lock a write hangs: what it has in hand may yet be written, or not.
                busy = 0 if locked else self._busy
                while len(self.pending) > busy:
                    lost = self.pending.pop()
                    count.dropped["shutdown"] += lost.count
                    count.waiting -= lost.count
            if locked:
                self._close_all()
        finally:
            if locked:
                self.io.release()

    def abandon(self) -> None:
        """Close the inherited descriptors of a parent's segments."""
        self._close_all()

    def _close_all(self) -> None:
        fd, self._fd = self._fd, -1
        self._over.append((fd, self._file))
        while self._over:
            fd, file = self._over.popleft()
            if _is(fd, file):
                os.close(fd)


def _is(fd: int, file: tuple[int, int]) -> bool:
    """Whether a descriptor is still that file: a program may close what it did not open."""
    try:
        found = os.fstat(fd)
    except OSError:
        return False
    return (found.st_dev, found.st_ino) == file
