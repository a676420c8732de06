"""The log of this process: one writer per signal, write-through, bounded memory behind it.

A record is acknowledged when `write(2)` of its line has returned. Up to about two thousand records
a second each is written by the thread that made it; above that, and whenever the disk is slow, full
or gone, records wait in bounded memory and one thread writes them in batches. What does not fit is
counted. Nothing here knows what a record means, and nothing here raises into the caller.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Protocol

from otel_empathy.core.clock import SYSTEM, Clock
from otel_empathy.emit import safety
from otel_empathy.pipeline import segments
from otel_empathy.pipeline.bell import Bell
from otel_empathy.pipeline.chunk import SIGNALS, Chunk
from otel_empathy.pipeline.inside import Inside
from otel_empathy.pipeline.ledger import Count, ledger_folder
from otel_empathy.pipeline.writer import HOLD, WRITE, Writer

__all__ = ["Jsonl", "Listener", "Log", "Options"]

_LOGGER = logging.getLogger("otel_empathy")
_RATE = 2000.0  # records a second that are written through
_SLOW = 0.001  # a write that took longer is a slow one
_PATIENCE = 0.05  # seconds that slow writes may take before the next second is batched
_EARNED = _PATIENCE / 1000  # what each quick write gives back: a wait of 5 ms in a hundred writes
_COST = _EARNED * 100  # what a slow write costs at least, so that not more than one in a hundred is
_SLOW_MOST = 30.0
_WINDOW = 0.05  # seconds that a batch waits, at the most
_RETRY = 1.0  # seconds between two tries of a disk that refuses
_RENEW = segments.LEASE / 3  # seconds between two signs of life where there are no locks
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
    line_records: int = 512
    buffer_bytes: int = 64 << 20
    fsync: float | None = 0.5
    tail: bool = False


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
        self.writers = {name: Writer(self, signal) for name, signal in SIGNALS.items()}
        self.closed = False
        self.trouble: str | None = None  # the ledger's reason while the disk refuses
        self.leased = False  # whether a date must say that we live, because locks cannot
        self._refusing: dict[str, str] = {}  # the same, by signal
        self._retry_at = 0.0
        self._complained: dict[str, float] = {}
        self._told: Counter[str] = Counter()
        self._room = threading.Lock()
        self._freed = Bell()
        self._used = 0
        self._tokens = _RATE
        self._refilled = clock.monotonic()
        self._fast = float("-inf")  # when a record last came that was one too many
        self._slow_until = 0.0
        self._slow_for = 0.0
        self._patience = _PATIENCE
        self._wake = Bell()
        self._urgent = Bell()
        self._flushes: deque[Bell] = deque()
        self._thread: threading.Thread | None = None
        self._start = threading.Lock()
        self._dirty = False
        self._synced = self._renewed = self._refilled

    # -- the caller's side ------------------------------------------------------------------------

    def append(self, signal: str, resource: bytes, scope: bytes, body: bytes, count: int) -> None:
        """Take one record; it is acknowledged, waiting or counted as dropped on return."""
        self.writers[signal].append(Chunk(SIGNALS[signal], resource, scope, body, count))

    @property
    def durability(self) -> str:
        """`sync` while each record is written by its own thread, else `batched`."""
        return "batched" if self._behind or self._slow_until > self.clock.monotonic() else "sync"

    @property
    def counts(self) -> dict[str, Count]:
        """What became of this process's records, by signal."""
        return {name: writer.count for name, writer in self.writers.items()}

    @property
    def dropped(self) -> Counter[str]:
        """Records that never reached the log, by reason."""
        total: Counter[str] = Counter()
        for writer in self.writers.values():
            total.update(dict(writer.count.dropped))  # a copy, since others count meanwhile
        return total

    @property
    def waiting(self) -> int:
        """Records in memory that are not acknowledged yet."""
        return sum(writer.count.waiting for writer in self.writers.values())

    def flush(self, timeout: float) -> bool:
        """Wait until what waits in memory is written; False at the limit or on a refusing disk."""
        if not self._behind:
            return self.trouble is None
        self._retry_at = 0.0
        done = Bell()
        self._flushes.append(done)
        self._urgent.ring()
        self._awake()
        if self._thread is None or not self._thread.is_alive():
            self._drain()  # a thread could not be started, as late in the life of an interpreter
        return done.wait(timeout) and self.trouble is None

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
            self._sync(force=True)
        for writer in self.writers.values():
            writer.close(timeout)
        self._tell()

    def abandon(self) -> None:
        """Close inherited files after a fork; the parent owns them and what waited."""
        for writer in self.writers.values():
            writer.abandon()

    # -- deciding ---------------------------------------------------------------------------------

    @property
    def _behind(self) -> bool:
        return any(writer.pending for writer in self.writers.values())

    def through(self, now: float) -> bool:
        """Whether the next record may be written by its own thread; each record asks once."""
        tokens = min(_RATE, self._tokens + (now - self._refilled) * _RATE)
        self._refilled = now
        if tokens < 1.0:
            self._tokens = tokens
            self._fast = now
            return False
        self._tokens = tokens - 1.0
        return self.trouble is None and now >= self._slow_until

    def took(self, seconds: float) -> None:
        """Learn from the time that a write needed: a hiccup is borne, a slow disk is spared.

        Whoever finds the disk still slow after a pause spares it twice as long.
        """
        if seconds <= _SLOW:
            self._slow_for = 0.0
            self._patience = min(_PATIENCE, self._patience + _EARNED)
            return
        self._patience -= max(seconds, _COST)
        if self._patience > 0:
            return
        self._patience = 0.0
        now = self.clock.monotonic()
        if now >= self._slow_until:
            self._slow_for = min(_SLOW_MOST, self._slow_for * 2 or 1.0)
        self._slow_until = now + self._slow_for

    def reserve(self, size: int) -> bool:
        """Make room for a waiting record; the caller is held where a moment may bring room."""
        if self._used + size > self.options.buffer_bytes and self.trouble is None:
            self._urgent.ring()
            self._freed.wait(HOLD)
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

    def failed(self, signal: str, error: OSError, what: str) -> None:
        """Note that the disk refuses; the writer's thread tries again in a second."""
        reason = "disk_full" if error.errno in _FULL else "io_error"
        self._refusing[signal] = self.trouble = reason
        self._retry_at = self.clock.monotonic() + _RETRY
        if self._may_say(reason):
            _LOGGER.warning("log cannot be written, records wait in memory: %s: %s; "
                            "`otel-empathy doctor` knows what to do", what, error)  # fmt: skip
        self._awake()

    def recovered(self, signal: str) -> None:
        """Note that the disk takes records of a signal again."""
        self._refusing.pop(signal, None)
        left = list(self._refusing.values())
        self.trouble = left[0] if left else None

    def _may_say(self, what: str) -> bool:
        """Whether something may be complained of, which is once a minute."""
        now = self.clock.monotonic()
        if now - self._complained.get(what, -60.0) < 60.0:  # noqa: PLR2004 - a minute
            return False
        self._complained[what] = now
        return True

    def _tell(self) -> None:
        """Say what was lost."""
        for reason, count in self.dropped.items():
            if count > self._told[reason] and self._may_say(f"lost: {reason}"):
                _LOGGER.warning("%d record(s) were dropped: %s", count - self._told[reason], reason)
                self._told[reason] = count

    def unsynced(self) -> None:
        """Ask for a sync within the interval."""
        if not self._dirty and self.options.fsync:
            self._dirty = True
            self._awake()

    def written(self, count: int) -> None:
        """Tell who waits for new records; ask for a sync within the interval."""
        if not self._dirty:
            self.unsynced()
        for listener in self.listeners:
            listener.wrote(count)

    # -- the writer's thread ----------------------------------------------------------------------

    def tick(self) -> None:
        """Have the writer's thread look, because something was counted."""
        with Inside():  # a finaliser may run while the thread is being started
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
        """Let a batch grow for one window, unless it is large or somebody waits for it.

        On a slow disk each write is window enough for the next one, so nothing waits longer there.
        """
        fast = self.clock.monotonic() - self._fast < _WINDOW and self._used < WRITE
        if (fast or self.trouble is not None) and self._behind and not self.closed:
            self._urgent.wait(_WINDOW)
        self._urgent.silence()

    def _pause(self) -> float | None:
        now = self.clock.monotonic()
        times = []
        if self.trouble is not None and self._behind:
            times.append(self._retry_at - now)
        if self._dirty and self.options.fsync:
            times.append(self._synced + self.options.fsync - now)
        if self.leased:
            times.append(self._renewed + _RENEW - now)
        return max(0.0, min(times)) if times else None

    def _drain(self) -> None:
        asked = len(self._flushes)
        if self.trouble is None or self.clock.monotonic() >= self._retry_at or self.closed:
            for writer in self.writers.values():
                writer.drain()
        with suppress(IndexError):  # another thread may be at it, where ours could not be started
            for _ in range(asked):
                self._flushes.popleft().ring()
        self._sync()
        self._renew()
        self._tell()
        if self.on_tick is not None:
            self.on_tick()

    def _renew(self) -> None:
        """Say that this process lives, where its locks do not say it."""
        now = self.clock.monotonic()
        if not self.leased or now - self._renewed < _RENEW:
            return
        self._renewed = now
        for writer in self.writers.values():
            writer.touch()
        with suppress(OSError):
            os.utime(ledger_folder(self.home) / f"{self.instance[:8]}.json")

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
