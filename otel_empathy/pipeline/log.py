"""The log of this process: one writer per signal, write-through, bounded memory behind it.

A record is acknowledged when `write(2)` of its line has returned. Up to about two thousand records
a second each is written by the thread that made it; above that, and whenever the disk is slow, full
or gone, records wait in bounded memory and one thread writes them in batches. What does not fit is
counted. Nothing here knows what a record means, and nothing here raises into the caller.
"""

from __future__ import annotations

import bisect
import contextlib
import errno
import logging
import os
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Protocol

from otel_empathy.core import semconv
from otel_empathy.core.clock import SYSTEM, Clock
from otel_empathy.emit import safety
from otel_empathy.pipeline import segments
from otel_empathy.pipeline.bell import Bell
from otel_empathy.pipeline.chunk import SIGNALS, Chunk, Signal
from otel_empathy.pipeline.inside import Inside
from otel_empathy.pipeline.ledger import Count

__all__ = ["Jsonl", "Line", "Log", "Options"]

_LOGGER = logging.getLogger("otel_empathy")
_HEAD = b'"resource":{"attributes":['
_RATE = 2000.0  # records a second that are written through
_HOLD = 0.001  # seconds that a caller may be held, at the most
_SLOW = 0.001  # a write that took longer is a slow one
_PATIENCE = 0.05  # seconds that slow writes may take before the next second is batched
_EARNED = _PATIENCE / 1000  # what each quick write gives back: a wait of 5 ms in a hundred writes
_SLOW_MOST = 30.0
_WINDOW = 0.05  # seconds that a batch waits, at the most
_LINE = 512 * 1024
_WRITE = 1 << 20
_TAIL = 8 << 20
_RETRY = 1.0  # seconds between two tries of a disk that refuses
_CHECK = 0.5  # seconds between two looks whether the segment still has a name
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True, slots=True)
class Jsonl:
    """The log, as its user asks for it.

    Args:
        home: Where it lies, instead of the setting.
        fsync: Seconds between two syncs to the disk; 0 syncs each write, None never.
        keep: Size beyond which the oldest segments are removed.
        days: Age at which segments are removed.
    """

    home: str | Path | None = None
    _: KW_ONLY
    fsync: float | None = 0.5
    keep: str | int = "2GiB"
    days: float = 90


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How the log behaves; the defaults are those of the settings."""

    segment_bytes: int = 10_000_000
    buffer_bytes: int = 64 << 20
    fsync: float | None = 0.5
    tail: bool = False


@dataclass(slots=True)
class Line:
    """A line that was just written, kept in the form that backends take."""

    seq: int
    start: int
    end: int
    name: str
    chunks: list[Chunk]

    @property
    def count(self) -> int:
        """Records in the line."""
        return sum(chunk.count for chunk in self.chunks)


class Listener(Protocol):
    """Who wants to know of new records."""

    def wrote(self, count: int) -> None:
        """Learn that records came."""
        ...


class Log:
    """The three signals of one process.

    Args:
        home: Where the log lies.
        service: Name of the service, part of each segment's name.
        instance: Identity of the process; its first eight digits name the segments.
        options: Sizes and times.
        clock: Time, for names and for waiting.
        on_rotate: Called in the writer's thread when a segment was closed or the first was opened.
    """

    def __init__(
        self,
        home: Path,
        *,
        service: str,
        instance: str,
        options: Options | None = None,
        clock: Clock = SYSTEM,
        on_rotate: Callable[[], object] | None = None,
    ) -> None:
        self.home = home
        self.service = segments.sanitised(service)
        self.instance = instance
        self.options = options or Options()
        self.clock = clock
        self.on_rotate = on_rotate
        self.on_open: Callable[[], object] | None = None
        self.on_tick: Callable[[], object] | None = None
        self.listeners: tuple[Listener, ...] = ()
        self.writers = {name: _Writer(self, signal) for name, signal in SIGNALS.items()}
        self.closed = False
        self.trouble: str | None = None  # the ledger's reason while the disk refuses
        self._retry_at = 0.0
        self._complained: dict[str, float] = {}
        self._room = threading.Lock()
        self._freed = Bell()
        self._used = 0
        self._tokens = _RATE
        self._refilled = clock.monotonic()
        self._slow_until = 0.0
        self._slow_for = 0.0
        self._patience = _PATIENCE
        self._wake = Bell()
        self._urgent = Bell()
        self._flushes: deque[Bell] = deque()
        self._thread: threading.Thread | None = None
        self._start = threading.Lock()
        self._dirty = False
        self._synced = self._refilled

    # -- the caller's side ------------------------------------------------------------------------

    def append(self, signal: str, resource: bytes, scope: bytes, body: bytes, count: int) -> None:
        """Take one record; it is acknowledged, waiting or counted as dropped on return."""
        self.writers[signal].append(Chunk(SIGNALS[signal], resource, scope, body, count))

    @property
    def durability(self) -> str:
        """`sync` while each record is written by its own thread, else `batched`."""
        behind = any(writer.pending for writer in self.writers.values())
        return "batched" if behind or self._slow_until > self.clock.monotonic() else "sync"

    @property
    def counts(self) -> dict[str, Count]:
        """What became of this process's records, by signal."""
        return {name: writer.count for name, writer in self.writers.items()}

    @property
    def dropped(self) -> Counter[str]:
        """Records that never reached the log, by reason."""
        total: Counter[str] = Counter()
        for writer in self.writers.values():
            total.update(writer.count.dropped)
        return total

    @property
    def waiting(self) -> int:
        """Records in memory that are not acknowledged yet."""
        return sum(writer.count.waiting for writer in self.writers.values())

    def flush(self, timeout: float) -> bool:
        """Wait until what waits in memory is written; False at the limit or on a refusing disk."""
        if not any(writer.pending for writer in self.writers.values()):
            return self.trouble is None
        self._retry_at = 0.0
        done = Bell()
        self._flushes.append(done)
        self._urgent.ring()
        self._awake()
        if self._thread is None or not self._thread.is_alive():
            self._drain()  # a thread could not be started, as late in the life of an interpreter
        done.wait(timeout)
        return not any(writer.pending for writer in self.writers.values())

    def close(self, timeout: float) -> None:
        """Write what waits, count what cannot be written, let go of all files."""
        self.flush(timeout)
        self.closed = True
        self._urgent.ring()
        self._wake.ring()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)
        if thread is None or not thread.is_alive():
            self._drain()
        for writer in self.writers.values():
            writer.close(timeout)

    def abandon(self) -> None:
        """Close inherited files after a fork; the parent owns them and what waited."""
        for writer in self.writers.values():
            writer.abandon()

    # -- deciding ---------------------------------------------------------------------------------

    def through(self, now: float) -> bool:
        """Whether the next record may be written by its own thread."""
        if self.trouble is not None or now < self._slow_until:
            return False
        tokens = min(_RATE, self._tokens + (now - self._refilled) * _RATE)
        self._refilled = now
        if tokens < 1.0:
            self._tokens = tokens
            return False
        self._tokens = tokens - 1.0
        return True

    def took(self, seconds: float) -> None:
        """Learn from the time that a write needed: a hiccup is borne, a slow disk is spared.

        Whoever finds the disk still slow after a pause spares it twice as long.
        """
        if seconds <= _SLOW:
            self._slow_for = 0.0
            self._patience = min(_PATIENCE, self._patience + _EARNED)
            return
        self._patience -= seconds
        if self._patience > 0:
            return
        self._patience = 0.0
        now = self.clock.monotonic()
        if now >= self._slow_until:
            self._slow_for = min(_SLOW_MOST, self._slow_for * 2 or 1.0)
        self._slow_until = now + self._slow_for

    def reserve(self, size: int) -> bool:
        """Make room for a waiting record; the caller is held for a millisecond at the most."""
        if self._used + size > self.options.buffer_bytes:
            self._urgent.ring()
            self._freed.wait(_HOLD)
        with self._room:
            if self._used + size > self.options.buffer_bytes:
                return False
            self._used += size
            return True

    def release(self, size: int) -> None:
        """Give back the room of records that left memory."""
        with self._room:
            self._used -= size
        self._freed.ring()

    def failed(self, error: OSError, what: str) -> None:
        """Note that the disk refuses; the writer's thread tries again in a second."""
        self.trouble = "disk_full" if error.errno in _FULL else "io_error"
        now = self.clock.monotonic()
        self._retry_at = now + _RETRY
        if now - self._complained.get(self.trouble, -60.0) >= 60.0:  # noqa: PLR2004 - once a minute
            self._complained[self.trouble] = now
            _LOGGER.warning("log cannot be written, records wait in memory: %s: %s", what, error)
        self._awake()

    def recovered(self) -> None:
        """Note that the disk takes records again."""
        self.trouble = None

    def written(self, count: int) -> None:
        """Tell who waits for new records; ask for a sync within the interval."""
        if not self._dirty and self.options.fsync:
            self._dirty = True
            self._awake()
        for listener in self.listeners:
            listener.wrote(count)

    # -- the writer's thread ----------------------------------------------------------------------

    def tick(self) -> None:
        """Have the writer's thread look, because something was counted."""
        self._awake()

    def queued(self) -> None:
        """Tell the writer's thread that something waits."""
        self._awake()

    def _awake(self) -> None:
        if self._thread is None and not self.closed:
            with self._start:
                if self._thread is None:
                    thread = threading.Thread(
                        target=self._run, name="otel-empathy-log", daemon=True
                    )
                    self._thread = thread
                    try:
                        thread.start()
                    except RuntimeError:  # the interpreter is going down; close() still drains
                        self._thread = None
                        return
        self._wake.ring()

    def _run(self) -> None:
        with Inside():
            while not self.closed:
                if self._wake.wait(self._pause()):
                    self._gather()
                with safety.guarded("export"):
                    self._drain()
            with safety.guarded("export"):
                self._drain()
                self._sync(force=True)

    def _gather(self) -> None:
        """Let a batch grow for one window, unless it is large or somebody waits for it."""
        waits = any(writer.pending for writer in self.writers.values())
        if waits and self._used < _WRITE and self.trouble is None and not self.closed:
            self._urgent.wait(_WINDOW)
        self._urgent.silence()

    def _pause(self) -> float | None:
        now = self.clock.monotonic()
        times = []
        if self.trouble is not None:
            times.append(self._retry_at - now)
        if self._dirty and self.options.fsync:
            times.append(self._synced + self.options.fsync - now)
        return max(0.0, min(times)) if times else None

    def _drain(self) -> None:
        if self.trouble is None or self.clock.monotonic() >= self._retry_at or self.closed:
            for writer in self.writers.values():
                writer.drain()
        if not any(writer.pending for writer in self.writers.values()) or self.trouble is not None:
            while self._flushes:
                self._flushes.popleft().ring()
        self._sync()
        if self.on_tick is not None:
            self.on_tick()

    def _sync(self, *, force: bool = False) -> None:
        interval = self.options.fsync
        if not self._dirty or not interval:
            return
        now = self.clock.monotonic()
        if not force and now - self._synced < interval:
            return
        self._dirty = False
        self._synced = now
        for writer in self.writers.values():
            writer.sync()


class _Writer:
    """The segments of one signal.

    `io` is held while a line is written, the queue's counters are guarded by `count.lock`.
    """

    def __init__(self, log: Log, signal: Signal) -> None:
        self.log = log
        self.signal = signal
        self.io = threading.RLock()  # so that only its holder can let go of it
        self.pending: deque[Chunk] = deque()
        self.count = Count()
        self.tail: list[Line] = []
        self.tail_bytes = 0
        self.name: segments.Name | None = None
        self.offset = 0
        self._fd = -1
        self._most = log.options.segment_bytes
        self._seq = 0
        self._day = -1
        self._segment = b""
        self._checked = 0.0

    # -- taking -----------------------------------------------------------------------------------

    def append(self, chunk: Chunk) -> None:
        log, count = self.log, self.count
        if log.closed:
            with count.lock:
                count.queued += chunk.count
                count.dropped["shutdown"] += chunk.count
            return
        if len(chunk.resource) + len(chunk.scope) + len(chunk.body) + 256 > _LINE:
            with count.lock:
                count.queued += chunk.count
                count.dropped["too_large"] += chunk.count
            log.tick()
            return
        now = log.clock.monotonic()
        try:
            if not self.pending and log.through(now) and self.io.acquire(timeout=_HOLD):
                try:
                    if not self.pending and not log.closed:
                        self._through(chunk)
                        return
                finally:
                    self.io.release()
        except BaseException:
            # A signal handler that raises may do so right after the lock was taken.
            with contextlib.suppress(RuntimeError):
                self.io.release()
            raise
        self._enqueue(chunk, counted=False)

    def _through(self, chunk: Chunk) -> None:
        """Write one record in the thread that made it; what the disk refuses waits."""
        acked = self.count.acked
        try:
            written = self._write([chunk])
        except BaseException:
            # Ctrl-C, or any signal handler that raises: the file may hold more than we know of.
            self._forget_tail()
            if self.count.acked == acked:
                self._undo()
                self._enqueue(chunk, counted=False)
            else:
                self.count.through += chunk.count
            raise
        self.count.through += chunk.count
        if not written:
            self._enqueue(chunk, counted=True)

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
        """Write all that waits, in batches; stops at the first refusal."""
        while self.pending:
            with self.io:
                most = self._most
                limit = min(_WRITE, most // 2)
                batch: list[Chunk] = []
                size = 0
                with self.count.lock:
                    for chunk in self.pending:
                        if batch and size + len(chunk.body) > limit:
                            break
                        batch.append(chunk)
                        size += len(chunk.body)
                if not batch or not self._write(batch):
                    if self._most < most and len(batch) > 1:
                        continue
                    return
                with self.count.lock:
                    for chunk in batch:
                        self.pending.popleft()
                        self.count.waiting -= chunk.count
                self.log.release(size)

    def _write(self, chunks: list[Chunk]) -> bool:
        """Write chunks as whole lines; True when all are acknowledged."""
        log = self.log
        try:
            self._ready(sum(len(chunk.body) for chunk in chunks))
        except OSError as error:
            log.failed(error, "open")
            return False
        lines = list(self._lines(chunks))
        data = b"".join(text for text, _ in lines)
        size, start, count = len(data), self.offset, sum(chunk.count for chunk in chunks)
        begin = log.clock.monotonic()
        try:
            done = os.write(self._fd, data)
            while done < size:
                done += os.write(self._fd, data[done:])
            if log.options.fsync == 0:
                os.fdatasync(self._fd)
        except OSError as error:
            self._undo()
            if error.errno == errno.EFBIG:
                # Files may not be as large as ours: this segment is over, later ones end sooner.
                self._shut()
                self._most = max(4096, min(self._most, start or size // 2))
                if start:
                    return self._write(chunks)
            log.failed(error, "write")
            return False
        # Nothing is called between these two, so no signal handler can come between them.
        self.offset = start + size
        self.count.acked += count
        if len(chunks) == 1:  # the caller's own write; a long batch says nothing about the disk
            log.took(log.clock.monotonic() - begin)
        self._keep(lines, start)
        if log.trouble is not None:
            log.recovered()
        log.written(count)
        return True

    def _undo(self) -> None:
        """Cut our own segment back to its last whole line, or leave it for a new one."""
        try:
            os.ftruncate(self._fd, self.offset)
        except OSError:
            self._shut()

    def _lines(self, chunks: list[Chunk]) -> Iterator[tuple[bytes, list[Chunk]]]:
        group: list[Chunk] = []
        size = 0
        for chunk in chunks:
            same = group and group[0].resource == chunk.resource
            if group and (not same or size + len(chunk.body) + len(chunk.scope) > _LINE - 16384):
                yield self._line(group), group
                group, size = [], 0
            group.append(chunk)
            size += len(chunk.body) + len(chunk.scope) + 32
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
        name = str(self.name)
        for text, chunks in lines:
            end = start + len(text)
            self.tail.append(Line(self.name.seq, start, end, name, chunks))
            self.tail_bytes += len(text)
            start = end
        if self.tail_bytes > _TAIL:
            cut = 0
            while self.tail_bytes > _TAIL * 3 // 4 and cut < len(self.tail) - 1:
                self.tail_bytes -= self.tail[cut].end - self.tail[cut].start
                cut += 1
            self.tail = self.tail[cut:]  # a new list, since somebody may be reading this one

    def _forget_tail(self) -> None:
        """Let backends read the file, when a line may be missing here."""
        self.tail = []
        self.tail_bytes = 0

    def recent(self, seq: int, offset: int, records: int) -> list[Line] | None:
        """Lines from a position on, or None when memory no longer reaches back to it."""
        tail = self.tail  # it only grows; what is cut off makes a new list
        if not tail:
            return None
        at = bisect.bisect_left(tail, (seq, offset), key=lambda x: (x.seq, x.start))
        if at == len(tail):
            last = tail[-1]
            return [] if (last.seq, last.end) == (seq, offset) else None
        first = tail[at]
        follows = (first.seq, first.start) == (seq, offset) or (
            at > 0 and (tail[at - 1].seq, tail[at - 1].end) == (seq, offset)
        )
        if not follows:
            return None
        taken: list[Line] = []
        total = 0
        for line in tail[at : at + records]:
            if taken and total + line.count > records:
                break
            taken.append(line)
            total += line.count
        return taken

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
        ours = os.fstat(self._fd)
        try:
            found = (segments.folder(self.log.home, self.signal.name) / str(self.name)).stat(
                follow_symlinks=False
            )
        except FileNotFoundError:
            return False
        return os.path.samestat(ours, found) and ours.st_size == self.offset

    def _open(self, day: int) -> None:
        log = self.log
        if log.on_open is not None:
            log.on_open()
        fd, name = segments.open_new(
            log.home, self.signal.name, log.service, log.instance[:8], self._seq + 1, log.clock
        )
        old, self._fd = self._fd, fd
        self._seq, self.name, self.offset, self._day = name.seq, name, 0, day
        self._checked = log.clock.monotonic()
        identity = f"{log.instance}-{name.seq}-{self.signal.name}"
        self._segment = b'{"key":"%s","value":{"stringValue":"%s"}}' % (
            semconv.SEGMENT_ID.encode(),
            identity.encode(),
        )
        if old >= 0:
            if log.options.fsync is not None:
                os.fdatasync(old)
            os.close(old)
        if log.on_rotate is not None:
            log.on_rotate()

    def sync(self) -> None:
        """Bring what was written to the disk itself."""
        fd = self._fd
        if fd < 0:
            return
        try:
            copy = os.dup(fd)  # a rotation may close the segment while we wait for the disk
        except OSError:
            return
        try:
            os.fdatasync(copy)
        except OSError as error:
            self.log.failed(error, "sync")
        finally:
            os.close(copy)

    def _shut(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def close(self, timeout: float) -> None:
        """Let go of the segment; what still waits is lost and counted."""
        locked = self.io.acquire(timeout=timeout)
        try:
            with self.count.lock:
                if self.count.waiting:
                    self.count.dropped["shutdown"] += self.count.waiting
                    self.count.waiting = 0
                self.pending.clear()
            if locked:
                self._shut()
        finally:
            if locked:
                self.io.release()

    def abandon(self) -> None:
        """Close the inherited descriptor of a parent's segment."""
        self._shut()
