"""Segments of the log as files: their names, how they are opened, who lives, what they hold.

A segment has one writer for ever and keeps its name for life. This module knows the folder and the
file system; what is written into a segment and when is the log's business.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import BinaryIO

from otel_empathy.core.clock import SYSTEM, Clock
from otel_empathy.core.errors import SettingError
from otel_empathy.pipeline.chunk import SIGNALS, parse

__all__ = [
    "Name",
    "Repair",
    "Segment",
    "count_records",
    "folder",
    "is_locked",
    "listed",
    "lock",
    "lockless",
    "make_folder",
    "make_home",
    "make_ours",
    "open_folder",
    "open_new",
    "repair",
    "sanitised",
    "to_disk",
    "unlock",
    "whole",
]

_NAME = re.compile(
    r"(?P<service>[A-Za-z0-9_.]{1,80})-(?P<instance>[0-9a-f]{8})"
    r"-(?P<utc>[0-9]{8}T[0-9]{6}Z)-(?P<seq>[0-9]{6,})\.jsonl"
)
# How often the opening byte string of a record occurs in a segment of ours is the number of its
# records: quotes inside JSON strings are escaped, so the string occurs nowhere else.
_MARKS = {"traces": b'{"traceId":"', "logs": b'{"timeUnixNano":"'}
_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}
_GONE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}
_LONGEST = 16 << 20
_TRIES = 1000
LEASE = 30.0  # seconds that a file counts as alive after its last change where there are no locks


def sanitised(service: str) -> str:
    """The service's name as it may stand in a file name."""
    return re.sub(r"[^A-Za-z0-9_.]", "_", service)[:80].lstrip(".") or "unknown"


@dataclass(frozen=True, slots=True)
class Name:
    """The parts of a segment's name."""

    service: str
    instance: str
    utc: str
    seq: int

    def __str__(self) -> str:
        return f"{self.service}-{self.instance}-{self.utc}-{self.seq:06d}.jsonl"

    @classmethod
    def parse(cls, text: str) -> Name | None:
        """The parts, or None when a file of that name is none of ours."""
        match = _NAME.fullmatch(text)
        if match is None:
            return None
        name = cls(match["service"], match["instance"], match["utc"], int(match["seq"]))
        try:
            _ = name.began_ns
        except ValueError:  # a day that no calendar has
            return None
        return name

    @property
    def day(self) -> str:
        """The UTC day, as YYYYMMDD."""
        return self.utc[:8]

    @property
    def began_ns(self) -> int:
        """When the segment was opened, by its name."""
        utc = self.utc  # strptime takes seven times as long, and a home may hold many segments
        iso = f"{utc[:4]}-{utc[4:6]}-{utc[6:11]}:{utc[11:13]}:{utc[13:15]}+00:00"
        return int(datetime.fromisoformat(iso).timestamp()) * 1_000_000_000


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment that was met on disk."""

    signal: str
    name: Name
    path: Path
    size: int


def folder(home: Path, signal: str) -> Path:
    """Where the segments of a signal lie."""
    return home / "otlp" / signal


def make_home(home: Path, *, unsafe: bool = False) -> None:
    """Make the home owner-only, or refuse one that others may write to.

    Raises:
        SettingError: Another user owns the home or may write to it, or a link leads out of it.
        OSError: It cannot be made.
    """
    if not home.is_dir():  # which may be a link that its owner made
        make_folder(home)
    for path in (home, home / "otlp", *(folder(home, s) for s in SIGNALS)):
        if path != home:
            if path.is_symlink():
                raise SettingError(
                    f"home={str(home)!r}: {path} is a symbolic link, which the log does not "
                    "follow; remove it, or give the folder that it leads to as home"
                )
            make_folder(path)
        if not unsafe and stat.S_IMODE(path.stat().st_mode) & stat.S_IWOTH:
            raise SettingError(
                f"home={str(home)!r}: every user of this machine may write to "
                f"{'it' if path == home else path}; choose another home, "
                "run `chmod o-w` on it or set OTEL_EMPATHY_UNSAFE_HOME=true"
            )
    owner = home.stat().st_uid
    if not unsafe and owner != os.geteuid():
        raise SettingError(
            f"home={str(home)!r}: it belongs to user {owner}, not to user {os.geteuid()}; "
            "choose another home or set OTEL_EMPATHY_UNSAFE_HOME=true"
        )


def make_folder(path: Path) -> None:
    """Make one folder for the owner alone, whatever the umask says; an existing one is left.

    Raises:
        OSError: It cannot be made, or a link stands in its place.
    """
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        if path.is_symlink():
            raise OSError(errno.ELOOP, "a symbolic link is not followed", str(path)) from None
        return
    except FileNotFoundError:
        make_folder(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)
    path.chmod(0o700)


def open_new(
    home: Path, signal: str, service: str, instance: str, seq: int, clock: Clock
) -> tuple[int, Name]:
    """Open the next free segment for writing and take its lock.

    Raises:
        OSError: No segment can be made there.
    """
    moment = datetime.fromtimestamp(clock.time_ns() // 1_000_000_000, tz=timezone.utc)
    utc = moment.strftime("%Y%m%dT%H%M%SZ")
    flags = os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_WRONLY
    try:
        where = open_folder(home, signal)
    except FileNotFoundError:
        make_folder(folder(home, signal))
        where = open_folder(home, signal)
    try:
        while True:
            name = Name(service, instance, utc, seq)
            try:
                fd = os.open(str(name), flags, 0o600, dir_fd=where)
                break
            except FileExistsError:
                seq += 1
    finally:
        os.close(where)
    make_ours(fd)
    return fd, name


def open_folder(home: Path, signal: str) -> int:
    """A descriptor of the folder of a signal; links below the home are not followed.

    Raises:
        OSError: It is missing, a link leads there, or it cannot be opened.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    inner = os.open(home, flags)
    for part in ("otlp", signal):
        outer = inner
        try:
            inner = os.open(part, flags | os.O_NOFOLLOW, dir_fd=outer)
        finally:
            os.close(outer)
    return inner


def make_ours(fd: int) -> None:
    """Make a file that we have just created the owner's alone, and lock it."""
    with contextlib.suppress(OSError):  # some file systems know no modes; a umask only takes away
        os.fchmod(fd, 0o600)
    # Somebody may just be looking whether its writer lives, and holds the lock for that instant.
    for _ in range(_TRIES):
        if lock(fd):
            return
        os.sched_yield()


def to_disk(fd: int) -> None:
    """Bring what was written to the disk itself; not every system can leave the dates out."""
    if hasattr(os, "fdatasync"):
        os.fdatasync(fd)
    else:
        os.fsync(fd)


def lock(fd: int) -> bool:
    """Take the advisory lock of an open file without waiting; False when somebody has it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # Nobody can hold what does not exist; there, the lease says who lives.
        return error.errno in _NO_LOCKS
    return True


def unlock(fd: int) -> None:
    """Give a lock back, also where a process that was forked meanwhile inherited it."""
    with contextlib.suppress(OSError):
        fcntl.flock(fd, fcntl.LOCK_UN)


def lockless(fd: int) -> bool:
    """Whether the file system of an open file of ours knows no locks."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in _NO_LOCKS
    return False


def is_locked(path: Path, *, clock: Clock = SYSTEM) -> bool:
    """Whether the writer of a file lives; where that cannot be seen, it may, so it does."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        return error.errno not in _GONE
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return clock.time_ns() / 1e9 - os.fstat(fd).st_mtime < LEASE
        return True
    finally:
        os.close(fd)
    return False


def listed(home: Path, signal: str, instance: str | None = None) -> list[Segment]:
    """The segments of a signal, oldest first within each instance; links are not followed."""
    found: list[Segment] = []
    where = folder(home, signal)
    if where.is_symlink() or where.parent.is_symlink():
        return found
    try:
        entries = os.scandir(where)
    except OSError:
        return found
    with entries:
        for entry in entries:
            name = Name.parse(entry.name)
            if name is None or (instance is not None and name.instance != instance):
                continue
            try:
                if not entry.is_file(follow_symlinks=False):
                    continue
                size = entry.stat(follow_symlinks=False).st_size
            except OSError:
                continue  # it was removed while we looked, which is normal
            found.append(Segment(signal, name, Path(entry.path), size))
    found.sort(key=lambda segment: (segment.name.instance, segment.name.seq))
    return found


def count_records(path: Path, signal: str, start: int = 0) -> int:
    """Records in the whole lines of a segment of ours, from an offset on; 0 if it is gone."""
    try:
        with path.open("rb") as file:
            file.seek(start)
            if signal in _MARKS:
                return _count_marks(file, _MARKS[signal])
            return sum(_count_line(line) for line in _lines(file))
    except FileNotFoundError:
        return 0


def _count_marks(file: BinaryIO, mark: bytes) -> int:
    """How often a mark stands before the last newline, in bounded memory."""
    total = behind = 0
    rest = b""
    while block := file.read(1 << 22):
        block = rest + block
        cut = block.rfind(b"\n") + 1
        if cut:
            total += behind + block.count(mark, 0, cut)
            behind = 0
        behind += block.count(mark, cut)
        rest = block[max(cut, len(block) - len(mark) + 1) :]  # a mark may go on in the next block
    return total


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Whole lines; one that is too long to be anybody's is passed over."""
    long = False
    while line := file.readline(_LONGEST):
        whole = line.endswith(b"\n")
        if whole and not long:
            yield line
        long = not whole


def _count_line(line: bytes) -> int:
    try:
        return sum(chunk.count for chunk in parse(line))
    except ValueError:
        return 0  # readers count corrupt lines; here they hold no records


@dataclass(frozen=True, slots=True)
class Repair:
    """A torn tail that was cut off, and the copy that was kept of the segment."""

    segment: Path
    offset: int
    cut: int
    copy: Path


def repair(home: Path) -> list[Repair]:
    """Cut the torn tails of segments whose writer is gone, keeping a copy of each."""
    done: list[Repair] = []
    for signal in SIGNALS:
        for segment in listed(home, signal):
            if segment.size == 0 or is_locked(segment.path):
                continue
            offset = whole(segment.path)
            if offset == segment.size:
                continue
            copies = home / "repaired"
            make_folder(copies)
            copy = copies / segment.path.name
            copy.unlink(missing_ok=True)  # of an earlier time; also a link that somebody planted
            with segment.path.open("rb") as torn, copy.open("xb") as kept:
                copy.chmod(0o600)
                shutil.copyfileobj(torn, kept)
            os.truncate(segment.path, offset)
            done.append(Repair(segment.path, offset, segment.size - offset, copy))
    return done


def whole(path: Path) -> int:
    """Bytes of a segment up to the end of its last whole line; 0 if it is gone."""
    try:
        return _last_whole_line(path)
    except FileNotFoundError:
        return 0


def _last_whole_line(path: Path) -> int:
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - (1 << 16))
            file.seek(start)
            cut = file.read(end - start).rfind(b"\n")
            if cut >= 0:
                return start + cut + 1
            end = start
    return 0
