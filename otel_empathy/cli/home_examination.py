"""What `doctor` looks at in a home: its rights, its disk, its segments, their lines, its cursors.

Looks and touches nothing.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from otel_empathy.cli.check import Check
from otel_empathy.cli.numbers import size

if TYPE_CHECKING:
    from otel_empathy.pipeline.segments import Segment
    from otel_empathy.store.reader import Progress, Skip

__all__ = ["examine_home"]

_REMOTE = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "ceph", "glusterfs", "afs"}
_LITTLE_ROOM = 64 << 20  # bytes; as much as waits in memory while the disk is full
_ELSEWHERE = "set OTEL_EMPATHY_HOME to a folder of yours"


def examine_home(
    home: Path, *, secret: Path, unsafe: bool, proc_root: Path, progress: Progress | None
) -> Iterator[Check]:
    """Every check of a home.

    Args:
        home: The home; it need not exist yet.
        secret: The file with the secret; it need not exist either.
        unsafe: Whether a home that others may write to is accepted.
        proc_root: Where to read the mounts from.
        progress: Called with (bytes done, bytes in all) while lines are looked at.
    """
    try:
        home.stat()
    except FileNotFoundError:
        yield _no_home(home)
        return
    except OSError as error:
        yield Check("home", "finding", f"{home}: {error.strerror}", _ELSEWHERE)
        return
    if not home.is_dir():
        yield Check("home", "finding", f"{home} is no folder", _ELSEWHERE)
        return
    problems = list(_home_problems(home, unsafe=unsafe, proc_root=proc_root))
    yield from problems
    if not problems:
        yield Check("home", "ok", f"{home}, yours alone, {size(_room(home))} free")
    if not os.access(home, os.R_OK | os.X_OK):
        return
    closed = list(_closed_folders(home))
    yield from closed
    if closed:
        return
    yield from _files(home, secret)
    yield _segments(home)
    yield from _lines(home, progress)
    yield _cursors(home)


def _no_home(home: Path) -> Check:
    parent = next((path for path in home.absolute().parents if path.exists()), Path("/"))
    if os.access(parent, os.W_OK | os.X_OK):
        text = f"{home} is made when something is recorded: try `otel-empathy demo`"
        return Check("home", "ok", text)
    text = f"{home} does not exist and {parent} cannot be written"
    return Check("home", "finding", text, _ELSEWHERE)


def _home_problems(home: Path, *, unsafe: bool, proc_root: Path) -> Iterator[Check]:
    found = home.stat()
    mode = stat.S_IMODE(found.st_mode)
    if found.st_uid != os.geteuid():
        yield Check(
            "home",
            "warning" if unsafe else "finding",
            f"{home} belongs to user {found.st_uid}, you are user {os.geteuid()}",
            "choose another home with OTEL_EMPATHY_HOME",
        )
    if mode & stat.S_IWOTH:
        yield Check(
            "home",
            "warning" if unsafe else "finding",
            f"{home} may be written by every user (mode {mode:04o})"
            + ("" if unsafe else ": recording there is refused"),
            f"chmod 700 {home}",
        )
    elif mode & 0o077:
        yield Check(
            "home",
            "finding",
            f"{home} is open to other users (mode {mode:04o})",
            f"chmod 700 {home}",
        )
    if not os.access(home, os.R_OK | os.X_OK):
        yield Check(
            "home",
            "finding",
            f"{home} cannot be read: nobody knows what is in the log",
            _ELSEWHERE,
        )
    elif not os.access(home, os.W_OK):
        yield Check(
            "home",
            "finding",
            f"{home} cannot be written: records wait in memory and may be lost",
            f"chmod u+rwx {home}, or set OTEL_EMPATHY_HOME to a folder of yours",
        )
    elif _room(home) < _LITTLE_ROOM:
        yield Check(
            "home",
            "finding",
            f"{size(_room(home))} free on the disk of {home}",
            "make room, or lower OTEL_EMPATHY_LOG_MAX_BYTES",
        )
    kind = _file_system(home, proc_root)
    if kind in _REMOTE:
        yield Check(
            "home",
            "warning",
            f"{home} lies on {kind}: locks may not work there, so signs of life are 30 s late",
            "set OTEL_EMPATHY_HOME to a local disk",
        )


def _room(home: Path) -> int:
    found = os.statvfs(home)
    return found.f_bavail * found.f_frsize


def _file_system(path: Path, proc_root: Path) -> str:
    """Type of the file system that holds a path, empty where the mounts cannot be read."""
    best, kind = -1, ""
    real = Path(os.path.realpath(path))
    try:
        lines = (proc_root / "self" / "mountinfo").read_text(errors="replace").splitlines()
    except OSError:
        return ""  # not Linux: nothing is known, so nothing is said
    for line in lines:
        left, _, right = line.partition(" - ")
        fields = left.split(" ")
        if len(fields) < 5 or not right:  # noqa: PLR2004 - the mount point is the fifth field
            continue
        point = fields[4].replace("\\040", " ")
        if (real == Path(point) or Path(point) in real.parents) and len(point) >= best:
            best, kind = len(point), right.split(" ")[0]
    return kind


def _closed_folders(home: Path) -> Iterator[Check]:
    """Folders of the log that cannot be used; nothing when all is well."""
    from otel_empathy.pipeline.chunk import SIGNALS
    from otel_empathy.pipeline.segments import folder

    for path in (home / "otlp", *(folder(home, signal) for signal in SIGNALS)):
        if not path.exists():
            continue
        if not path.is_dir():
            text = f"{path} is no folder: nothing can be recorded"
            yield Check("home", "finding", text, "move it away")
            return
        if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
            text = f"{path} cannot be read or written: what is in it is not counted anywhere"
            yield Check("home", "finding", text, f"chmod -R u+rwX {home}")
            return


def _files(home: Path, secret: Path) -> Iterator[Check]:
    """What is wrong with the files of the log; nothing when all is well."""
    links, open_ = [], []
    log = home / "otlp"
    for path in [log, *log.rglob("*"), secret]:
        try:
            mode = path.lstat().st_mode
        except OSError:
            continue  # it was removed while we looked, which is normal
        if stat.S_ISLNK(mode):
            links.append(path)
        elif mode & 0o077:
            open_.append(path)
    if links:
        text = f"{len(links)} links in the log are not followed, the first is {links[0]}"
        yield Check("files", "finding", text, "remove them, and find out who made them")
    if open_:
        text = f"{len(open_)} files are open to other users, the first is {open_[0]}"
        yield Check("files", "finding", text, f"chmod -R go-rwx {home}")


def _segments(home: Path) -> Check:
    from otel_empathy.pipeline.chunk import SIGNALS
    from otel_empathy.pipeline.segments import is_locked, listed

    segments = [segment for signal in SIGNALS for segment in listed(home, signal)]
    if not segments:
        return Check("segments", "ok", "none yet")
    live = [segment for segment in segments if is_locked(segment.path)]
    dead = [segment for segment in segments if segment not in live]
    torn = [segment for segment in dead if _is_torn(segment)]
    held = size(sum(segment.size for segment in segments))
    text = f"{len(segments)} ({held}): {len(live)} live, {len(dead)} closed, {len(torn)} torn"
    if torn:
        return Check(
            "segments",
            "finding",
            f"{text}; a writer was killed while it wrote, complete lines are safe",
            "otel-empathy doctor --repair",
        )
    return Check("segments", "ok", text)


def _is_torn(segment: Segment) -> bool:
    try:
        with segment.path.open("rb") as file:
            if file.seek(0, os.SEEK_END) == 0:
                return False
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    except OSError:
        return False  # it was removed while we looked, which is normal


def _lines(home: Path, progress: Progress | None) -> Iterator[Check]:
    """Whether every line of the log can be read; torn tails are told with their segments."""
    from otel_empathy.pipeline.segments import Name
    from otel_empathy.store import wire
    from otel_empathy.store.reader import Reader

    reader = Reader(home)
    whole = 0
    for signal, kind in wire.LINES.items():
        scan = reader.scan(signal, progress=progress)
        whole += sum(1 for _ in wire.decoded(scan, scan, wire.decoder(kind)))
    skips = [
        s for s in reader.skips.places if s.reason != "torn" or Name.parse(s.path.name) is None
    ]
    closed = [skip for skip in skips if skip.reason == "unreadable"]
    broken = [skip for skip in skips if skip.reason != "unreadable"]
    if closed:
        text = f"{len(closed)} files cannot be read, the first is {closed[0].path}"
        yield Check("lines", "finding", text, f"chmod -R u+rwX {home}")
    if broken:
        yield Check(
            "lines",
            "warning",
            f"{_about(broken)} cannot be read, the first in {_place(broken[0])}; {whole:,} can",
            "nothing: readers pass over what is no line, and all others count",
        )
    if not skips:
        yield Check("lines", "ok", f"{whole:,}, each can be read")


def _about(skips: list[Skip]) -> str:
    from otel_empathy.store.reader import REMEMBERED_PLACES

    more = " or more" if len(skips) >= REMEMBERED_PLACES else ""
    return f"{len(skips):,}{more} line{'' if len(skips) == 1 else 's'}"


def _place(skip: Skip) -> str:
    return f"{skip.path} at byte {skip.offset} ({skip.reason})"


def _cursors(home: Path) -> Check:
    files = sorted((home / "cursors").glob("*/*.json"))
    broken = [file for file in files if not _is_json(file)]
    backends = {file.parent.name for file in files}
    text = f"{len(files)} of {len(backends)} backends" if files else "none: nothing was shipped yet"
    if broken:
        return Check(
            "cursors",
            "warning",
            f"{text}; {len(broken)} unreadable, first {broken[0]}",
            "nothing: the backend starts again at its oldest segment and may get records twice",
        )
    return Check("cursors", "ok", text)


def _is_json(file: Path) -> bool:
    try:
        json.loads(file.read_bytes())
    except FileNotFoundError:
        return True
    except (OSError, ValueError):
        return False
    return True
