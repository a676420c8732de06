"""The loss ledger: what was offered, what is in the log, what was dropped and why.

Per process `offered = acked + sum of dropped`, per backend `acked = shipped + pending + sum of
dropped`; both hold at any quiet moment. The counts of a living process are exact in its memory. A
process that is gone is recomputed: its records from its segments, its drops from the small file it
kept, its shipments from its cursors.
"""

from __future__ import annotations

import errno
import os
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from otel_empathy.pipeline import segments
from otel_empathy.pipeline.chunk import SIGNALS

__all__ = [
    "REASONS",
    "BackendBalance",
    "Balance",
    "Evicted",
    "Record",
    "Retired",
    "evicted_file",
    "evicted_state",
    "ledger_folder",
    "ledger_lock",
    "note_evicted",
    "read_evicted",
    "read_record",
    "read_retired",
    "recompute",
    "recorded",
    "replace",
]

# The closed list of reasons; every drop anywhere carries one of them.
REASONS = (
    "disk_full", "io_error", "queue_full", "too_large", "encode_error", "backlog_cap", "age",
    "rejected", "poison", "shutdown", "sampled", "fork",
)  # fmt: skip
_SIZE = 4096  # the file of a process is rewritten in place, so it keeps its length; a step of it


def ledger_folder(home: Path) -> Path:
    """Where each process keeps its drops."""
    return home / "ledger"


@dataclass(slots=True)
class Record:
    """The file of one process: who it is, what it dropped. Its lock is the sign that it lives."""

    instance: str
    service: str = ""
    pid: int = 0
    began_ns: int = 0
    backends: tuple[str, ...] = ()
    dropped: Counter[str] = field(default_factory=Counter)
    waiting: int = 0
    durability: str = "sync"
    leased: bool = False
    """Whether only a date says that it lives, because its file system knows no locks."""
    closed: bool = False
    fd: int = -1
    _path: Path = Path()
    _size: int = 0

    def open(self, home: Path) -> bool:
        """Create the file and lock it; False when another process has the same name.

        Raises:
            OSError: It cannot be made; nothing of it is left.
        """
        self._path = ledger_folder(home) / f"{self.instance[:8]}.json"
        try:
            self.fd = self._create()
        except FileExistsError:
            return False
        return True

    def _create(self) -> int:
        segments.make_folder(self._path.parent)
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(self._path, flags, 0o600)
        try:
            segments.make_ours(fd)
            self._write(fd)
        except OSError:
            # A full disk: who tries again each second must not leave a file each time.
            os.close(fd)
            self._path.unlink(missing_ok=True)
            raise
        return fd

    def save(self) -> None:
        """Write the present counts in place; a file that somebody removed is made again."""
        if self.fd < 0:
            return
        if not os.fstat(self.fd).st_nlink:
            fd, self.fd = self.fd, self._create()
            os.close(fd)
        self._write(self.fd)

    def _write(self, fd: int) -> None:
        text = orjson.dumps(
            {
                "v": 1,
                "instance": self.instance,
                "service": self.service,
                "pid": self.pid,
                "began_ns": str(self.began_ns),
                "backends": list(self.backends),
                "dropped": dict(self.dropped),
                "waiting": self.waiting,
                "durability": self.durability,
                "leased": self.leased,
                "closed": self.closed,
            }
        )
        self._size = max(self._size, -(-(len(text) + 1) // _SIZE) * _SIZE)
        data = text.ljust(self._size - 1) + b"\n"
        if os.pwrite(fd, data, 0) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))

    def close(self) -> None:
        """Save for the last time and let go of the lock."""
        if self.fd >= 0:
            self.closed = True
            try:
                self.save()
            finally:
                os.close(self.fd)
                self.fd = -1


def read_record(path: Path) -> Record | None:
    """The file of a process, or None when it is missing or damaged."""
    try:
        data = orjson.loads(path.read_bytes())
        return Record(
            instance=str(data["instance"]),
            service=str(data["service"]),
            pid=int(data["pid"]),
            began_ns=int(data["began_ns"]),
            backends=tuple(str(name) for name in data["backends"]),
            dropped=Counter({str(k): int(v) for k, v in data["dropped"].items()}),
            waiting=int(data["waiting"]),
            durability=str(data["durability"]),
            leased=bool(data.get("leased", False)),
            closed=bool(data["closed"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


@dataclass(frozen=True, slots=True)
class Evicted:
    """A segment that retention removed."""

    signal: str
    name: str
    records: int
    reason: str

    @property
    def instance(self) -> str:
        """The short name of the process that wrote it; empty when the name is none of ours."""
        name = segments.Name.parse(self.name)
        return name.instance if name is not None else ""

    def line(self) -> bytes:
        """The note of it."""
        row = {
            "signal": self.signal,
            "name": self.name,
            "records": self.records,
            "reason": self.reason,
        }
        return orjson.dumps(row) + b"\n"


def evicted_file(home: Path) -> Path:
    """Where retention notes what it removed."""
    return ledger_folder(home) / "evicted.jsonl"


def note_evicted(home: Path, evicted: Evicted) -> None:
    """Write down a removal before it happens, so that no record vanishes uncounted.

    Raises:
        OSError: It cannot be written down; half a note is taken back.
    """
    flags = os.O_CREAT | os.O_APPEND | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
    fd = os.open(evicted_file(home), flags, 0o600)
    try:
        size = os.fstat(fd).st_size
        # Who was killed half-way left a torn line, which must not swallow ours.
        torn = size > 0 and os.pread(fd, 1, size - 1) != b"\n"
        line = b"\n" * torn + evicted.line()
        if os.write(fd, line) != len(line):
            os.ftruncate(fd, size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(evicted_file(home)))
    finally:
        os.close(fd)


def evicted_state(home: Path) -> tuple[int, ...]:
    """What differs when retention has removed something more."""
    try:
        state = evicted_file(home).stat()
    except OSError:
        return ()
    return state.st_ino, state.st_mtime_ns, state.st_size


def read_evicted(home: Path) -> dict[tuple[str, str], Evicted]:
    """What retention removed, by signal and segment name."""
    found: dict[tuple[str, str], Evicted] = {}
    try:
        lines = evicted_file(home).read_bytes().splitlines()
    except OSError:
        return found
    for line in lines:
        try:
            data = orjson.loads(line)
            one = Evicted(data["signal"], data["name"], int(data["records"]), data["reason"])
        except (ValueError, KeyError, TypeError):
            continue  # a torn line of a run that was killed; the segment is noted again
        found[one.signal, one.name] = one
    return found


@dataclass(slots=True)
class Retired:
    """Totals of processes of which nothing is left on disk.

    Args:
        acked: Records that they wrote, by signal.
        dropped: Records that they dropped, by reason.
        backends: What each backend took of them, and what it was not given.
        folded: Short names of processes that are in these totals while files of theirs may still
            be there, because whoever folded them was stopped half-way.
    """

    acked: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    backends: dict[str, BackendBalance] = field(default_factory=dict)
    folded: set[str] = field(default_factory=set)

    def save(self, home: Path) -> None:
        """Replace the file in one step."""
        data = {
            "acked": self.acked,
            "dropped": self.dropped,
            "backends": {
                name: {"acked": row.acked, "shipped": row.shipped, "dropped": row.dropped}
                for name, row in self.backends.items()
            },
            "folded": sorted(self.folded),
        }
        replace(ledger_folder(home) / "retired.json", orjson.dumps(data))


def read_retired(home: Path) -> Retired:
    """The totals as they were saved; a damaged file holds none."""
    try:
        data = orjson.loads((ledger_folder(home) / "retired.json").read_bytes())
        return Retired(
            acked=_counter(data["acked"]),
            dropped=_counter(data["dropped"]),
            backends={
                str(name): BackendBalance(
                    int(row["acked"]), int(row["shipped"]), _counter(row["dropped"])
                )
                for name, row in data["backends"].items()
            },
            folded={str(name) for name in data["folded"]},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Retired()


def _counter(row: Mapping[str, Any]) -> Counter[str]:
    return Counter({str(name): int(count) for name, count in row.items()})


def replace(path: Path, data: bytes) -> None:
    """Put a whole file in the place of another, on the disk itself before the other is gone."""
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    flags = os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW
    with open(os.open(temporary, flags, 0o600), "wb") as file:  # noqa: PTH123 - a descriptor
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


@dataclass(slots=True)
class Balance:
    """The ledger of one process or of a whole home."""

    acked: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    backends: dict[str, BackendBalance] = field(default_factory=dict)
    waiting: int = 0

    @property
    def offered(self) -> int:
        """Everything that was handed to the log."""
        return self.acked.total() + self.dropped.total() + self.waiting

    def as_dict(self) -> dict[str, Any]:
        """The form that `status --json` prints."""
        return {
            "offered": self.offered,
            "acked": self.acked.total(),
            "waiting": self.waiting,
            "dropped": dict(sorted(self.dropped.items())),
            "backends": {name: row.as_dict() for name, row in sorted(self.backends.items())},
        }


@dataclass(slots=True)
class BackendBalance:
    """What one backend took of the records that it is owed."""

    acked: int = 0
    shipped: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    state: str = "unknown"

    @property
    def pending(self) -> int:
        """What is in the log and not settled with this backend."""
        return self.acked - self.shipped - self.dropped.total()

    def as_dict(self) -> dict[str, Any]:
        """The form that `status --json` prints."""
        return {
            "acked": self.acked,
            "shipped": self.shipped,
            "pending": self.pending,
            "dropped": dict(sorted(self.dropped.items())),
            "state": self.state,
        }


class ledger_lock:  # noqa: N801 - reads as a statement: `with ledger_lock(home):`
    """One writer of the home's totals at a time; entering says whether we are the one."""

    def __init__(self, home: Path, name: str) -> None:
        self._path = ledger_folder(home) / name
        self._fd = -1

    def __enter__(self) -> bool:
        segments.make_folder(self._path.parent)
        flags = os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd = os.open(self._path, flags, 0o600)
        return segments.lock(self._fd)

    def __exit__(self, *_: object) -> None:
        segments.unlock(self._fd)
        os.close(self._fd)


class Count:
    """One process's own counts for one signal.

    `through` is written under the segment's lock and `queued` under the queue's, so that neither
    path takes a second lock only to count.
    """

    __slots__ = ("acked", "dropped", "lock", "queued", "through", "waiting")

    def __init__(self) -> None:
        self.through = 0
        self.queued = 0
        self.acked = 0
        self.waiting = 0
        self.dropped: Counter[str] = Counter()
        self.lock = threading.Lock()

    @property
    def offered(self) -> int:
        """Everything that was handed in."""
        return self.through + self.queued


def instances(home: Path) -> Iterator[str]:
    """The short names of all processes that left anything in the home."""
    seen: set[str] = set()
    for signal in SIGNALS:
        for segment in segments.listed(home, signal):
            seen.add(segment.name.instance)
    yield from sorted(seen.union(recorded(home)))


def recorded(home: Path) -> Iterator[str]:
    """The short names of all processes that keep or kept a file of the ledger."""
    for path in ledger_folder(home).glob("????????.json"):
        yield path.stem


def recompute(home: Path, cursors: Mapping[tuple[str, str], Any]) -> Balance:
    """The ledger of a home from what is on disk.

    Args:
        home: The home.
        cursors: What each backend took, by (backend, instance).
    """
    balance = Balance()
    retired = read_retired(home)
    acked = _acked(home, retired.folded)
    for counts in acked.values():
        balance.acked.update(counts)
    _add_records(home, balance, acked, cursors, retired.folded)
    for (backend, instance), cursor in cursors.items():
        if instance in retired.folded:
            continue
        row = balance.backends.setdefault(backend, BackendBalance())
        row.acked += sum(acked.get(instance, Counter())[signal] for signal in cursor.signals)
        row.shipped += cursor.shipped
        row.dropped.update(cursor.dropped)
        row.state = cursor.state
    balance.acked.update(retired.acked)
    balance.dropped.update(retired.dropped)
    for backend, gone in retired.backends.items():
        row = balance.backends.setdefault(backend, BackendBalance())
        row.acked += gone.acked
        row.shipped += gone.shipped
        row.dropped.update(gone.dropped)
    return balance


def _acked(home: Path, folded: set[str]) -> dict[str, Counter[str]]:
    """Records that each process wrote, by signal: those on disk and those that were removed."""
    found: dict[str, Counter[str]] = {}
    there: set[tuple[str, str]] = set()
    for signal in SIGNALS:
        for segment in segments.listed(home, signal):
            count = segments.count_records(segment.path, signal)
            found.setdefault(segment.name.instance, Counter())[signal] += count
            if count:  # else it may just have been removed
                there.add((signal, str(segment.name)))
    for key, one in read_evicted(home).items():
        # A segment that was noted and still stands is one whose removal was broken off.
        if key not in there and one.instance and one.instance not in folded:
            found.setdefault(one.instance, Counter())[one.signal] += one.records
    return found


def _add_records(
    home: Path,
    balance: Balance,
    acked: Mapping[str, Counter[str]],
    cursors: Mapping[tuple[str, str], Any],
    folded: set[str],
) -> None:
    """Add what each process dropped, and what it owes to backends that never asked."""
    for path in ledger_folder(home).glob("????????.json"):
        record = read_record(path)
        if record is None or path.stem in folded:
            continue
        balance.dropped.update(record.dropped)
        if segments.is_locked(path):
            balance.waiting += record.waiting
        for backend in record.backends:
            # A process that died before its first request still owes what it wrote.
            if (backend, path.stem) not in cursors:
                row = balance.backends.setdefault(backend, BackendBalance())
                row.acked += acked.get(path.stem, Counter()).total()
