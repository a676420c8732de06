"""How far a backend has read the log of one process, and who may read it further.

A cursor moves only after the backend's success, and never backwards. One that is missing or damaged
starts at the oldest segment: that repeats records, and repeats are counted, but it skips none. What
is repeated is no longer settled, so the ledger still adds up. The claim is a lock that dies with
its holder.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import get_ident
from typing import Any

import orjson

from otel_empathy.pipeline import segments
from otel_empathy.pipeline.chunk import SIGNALS

__all__ = ["Claim", "Cursor", "Position", "all_cursors", "cursor_folder", "register", "registered"]

_VERSION = 1


def cursor_folder(home: Path, backend: str) -> Path:
    """Where the cursors of a backend lie."""
    return home / "cursors" / re.sub(r"[^A-Za-z0-9_.-]", "_", backend)[:120]


@dataclass(slots=True)
class Position:
    """A place between two lines of one signal of one process.

    Args:
        seq: Number of the segment; 0 before the first.
        offset: Bytes of it that are settled.
        records: Records of it that are settled, so that a removed segment tells what it took along.
    """

    seq: int = 0
    offset: int = 0
    records: int = 0

    @classmethod
    def checked(cls, row: Mapping[str, Any]) -> Position:
        """A position as it was saved.

        Raises:
            ValueError: It cannot be one.
        """
        place = cls(int(row["seq"]), int(row["offset"]), int(row["records"]))
        if min(place.seq, place.offset, place.records) < 0:
            raise ValueError("negative position")
        return place


@dataclass(slots=True)
class Cursor:
    """What one backend has taken of one process."""

    backend: str
    instance: str
    positions: dict[str, Position] = field(
        default_factory=lambda: {name: Position() for name in SIGNALS}
    )
    shipped: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    repeats: int = 0
    state: str = "healthy"
    sync: bool = False
    signals: tuple[str, ...] = tuple(SIGNALS)  # those that the backend takes

    def path(self, home: Path) -> Path:
        """The cursor's file."""
        return cursor_folder(home, self.backend) / f"{self.instance}.json"

    @classmethod
    def load(cls, home: Path, backend: str, instance: str) -> Cursor:
        """The cursor as it was saved, or one at the very beginning."""
        cursor = cls(backend, instance)
        path = cursor.path(home)
        try:
            data = _understood(orjson.loads(path.read_bytes()))
            for name in SIGNALS:
                row = data["positions"][name]
                cursor.positions[name] = Position.checked(row)
            cursor.shipped = max(0, int(data["shipped"]))
            cursor.dropped = Counter({str(k): int(v) for k, v in data["dropped"].items()})
            cursor.state = str(data["state"])
            cursor.repeats = int(data["repeats"])
            cursor.signals = tuple(name for name in data["signals"] if name in SIGNALS)
        except FileNotFoundError:
            return cursor
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return cursor.anew()
        return cursor

    def anew(self) -> Cursor:
        """The cursor at the very beginning, because where it stood cannot be."""
        return Cursor(self.backend, self.instance, repeats=1)

    def take_back(self, count: int) -> None:
        """Hold records for unsettled that will be sent again."""
        self.repeats += count
        unshipped = min(self.shipped, count)
        self.shipped -= unshipped
        count -= unshipped
        for reason in tuple(self.dropped):
            undropped = min(self.dropped[reason], count)
            self.dropped[reason] -= undropped
            count -= undropped

    def save(self, home: Path) -> None:
        """Replace the file in one step."""
        path = self.path(home)
        segments.make_folder(path.parent)
        data = orjson.dumps(
            {
                "v": _VERSION,
                "backend": self.backend,
                "instance": self.instance,
                "positions": {
                    name: {"seq": p.seq, "offset": p.offset, "records": p.records}
                    for name, p in self.positions.items()
                },
                "shipped": self.shipped,
                "dropped": dict(self.dropped),
                "repeats": self.repeats,
                "state": self.state,
                "signals": list(self.signals),
            }
        )
        temporary = path.with_suffix(f".{os.getpid()}-{get_ident()}.tmp")
        flags = os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(temporary, flags, 0o600)
        try:
            _write(fd, data)
            if self.sync:
                os.fsync(fd)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        finally:
            os.close(fd)
        temporary.replace(path)


def _understood(data: Any) -> dict[str, Any]:
    """What a cursor's file says; one of another version may count differently."""
    if not isinstance(data, dict) or data["v"] != _VERSION:
        raise ValueError("no cursor of this version")
    return data


def _write(fd: int, data: bytes) -> None:
    """Write all or raise: half a cursor in the place of an old one would be worse than that."""
    if os.write(fd, data) < len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Claim:
    """The right to ship one process to one backend; it ends with its holder."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    @classmethod
    def take(cls, home: Path, backend: str, instance: str) -> Claim | None:
        """The claim, or None while somebody else has it."""
        where = cursor_folder(home, backend)
        segments.make_folder(where)
        flags = os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(where / f"{instance}.lock", flags, 0o600)
        if segments.lock(fd):
            return cls(fd)
        os.close(fd)
        return None

    def free(self) -> None:
        """Give the claim back."""
        if self._fd >= 0:
            segments.unlock(self._fd)
            os.close(self._fd)
            self._fd = -1


def registered(home: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The backends that a home has seen, with what is noted of each."""
    for path in sorted((home / "cursors").glob("*/backend.json")):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            data = orjson.loads(path.read_bytes())
            yield str(data["name"]), data


def register(home: Path, backend: str, now_ns: int) -> None:
    """Note that a backend exists and was seen now."""
    where = cursor_folder(home, backend)
    segments.make_folder(where)
    path = where / "backend.json"
    first = now_ns
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        first = int(orjson.loads(path.read_bytes())["registered_ns"])
    temporary = path.with_suffix(f".{os.getpid()}-{get_ident()}.tmp")
    temporary.write_bytes(
        orjson.dumps({"name": backend, "registered_ns": str(first), "seen_ns": str(now_ns)})
    )
    temporary.chmod(0o600)
    temporary.replace(path)


def all_cursors(home: Path) -> dict[tuple[str, str], Cursor]:
    """Every cursor of a home, by (backend, instance)."""
    found: dict[tuple[str, str], Cursor] = {}
    for name, _ in registered(home):
        for path in cursor_folder(home, name).glob("????????.json"):
            found[name, path.stem] = Cursor.load(home, name, path.stem)
    return found
