"""What `doctor` looks at: one function per thing, each answers with what it found and the fix.

Looks and touches nothing. A warning is worth knowing; a finding is a defect that somebody should
mend, and makes `doctor` exit with 1.
"""

from __future__ import annotations

import json
import os
import platform
import socket
import stat
import sys
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from otel_empathy.cli.numbers import size

if TYPE_CHECKING:
    from otel_empathy.core.settings import Settings
    from otel_empathy.pipeline.segments import Segment

__all__ = ["Check", "Level", "examine", "examine_settings"]

Level = Literal["ok", "warning", "finding"]
Address = tuple[str, int]

_OLDEST_PYTHON = (3, 10)
_PACKAGES = (
    "opentelemetry-api",
    "opentelemetry-sdk",
    "opentelemetry-exporter-otlp",
    "opentelemetry-instrumentation",
    "orjson",
    "msgspec",
)
_ONE_RELEASE = _PACKAGES[:2]  # these two must be of the same release
_REMOTE = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "ceph", "glusterfs", "afs"}
_LITTLE_ROOM = 64 << 20  # bytes; as much as waits in memory while the disk is full
_CONNECT = 1.0  # seconds
_PREFIX = "OTEL_EMPATHY_"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Args:
        name: What it is.
        level: How it stands.
        detail: What was seen.
        fix: What to do about it, one sentence, empty when all is well.
    """

    name: str
    level: Level
    detail: str
    fix: str = ""

    def as_dict(self) -> dict[str, str]:
        """The check as a flat record."""
        return {
            "name": self.name,
            "level": self.level,
            "detail": self.detail,
            "fix": self.fix,
        }


def examine(
    settings: Settings, complaints: list[str], *, proc_root: Path = Path("/proc")
) -> Iterator[Check]:
    """Every check, in the order in which a person would ask.

    Args:
        settings: What applies here.
        complaints: What is wrong with the environment.
        proc_root: Where to read the mounts from.
    """
    yield _python()
    yield from _packages()
    yield from examine_settings(settings, complaints)
    yield from _home(settings.home, unsafe=settings.unsafe_home, proc_root=proc_root)
    if settings.home.is_dir():
        yield _segments(settings.home)
        yield _cursors(settings.home)
    yield from _backends(settings)
    yield _capture(settings)


def _python() -> Check:
    version = f"{platform.python_version()} ({platform.python_implementation()})"
    if sys.version_info >= _OLDEST_PYTHON:
        return Check("python", "ok", version)
    return Check("python", "finding", version, "use Python 3.10 or newer")


def _packages() -> Iterator[Check]:
    installed = {package: _version(package) for package in _PACKAGES}
    versions = {package: version for package, version in installed.items() if version}
    for package in installed.keys() - versions.keys():
        yield Check("packages", "finding", f"{package} is missing", f"pip install {package}")
    releases = {versions[package] for package in _ONE_RELEASE if package in versions}
    text = ", ".join(f"{name} {version}" for name, version in versions.items())
    if len(releases) > 1:
        yield Check(
            "packages",
            "finding",
            text,
            f"install one release of both: pip install -U {' '.join(_ONE_RELEASE)}",
        )
    else:
        yield Check("packages", "ok", text)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def examine_settings(settings: Settings, complaints: list[str]) -> Iterator[Check]:
    """What is wrong with the settings; nothing when all is well."""
    for complaint in complaints:
        yield Check("settings", "finding", complaint, "correct or unset the variable")
    for variable, meant in _unknown_variables(settings):
        fix = f"did you mean {meant}?" if meant else "unset it; `config` lists what there is"
        yield Check("settings", "finding", f"{variable} is no setting", fix)
    if settings.sdk_disabled:
        yield Check(
            "settings",
            "warning",
            "OTEL_SDK_DISABLED is true: nothing is recorded",
            "unset OTEL_SDK_DISABLED to record again",
        )
    if not settings.log:
        yield Check(
            "settings",
            "warning",
            "the log is off: what a backend does not take is lost",
            "unset OTEL_EMPATHY_LOG to keep a log",
        )


def _unknown_variables(settings: Settings) -> Iterator[tuple[str, str | None]]:
    """Variables with our prefix that no row of the table knows, and what was probably meant."""
    from otel_empathy.core.settings import TABLE

    known = [variable for row in TABLE for variable in row.env]
    for variable in sorted(settings.environ):
        if variable.startswith(_PREFIX) and variable not in known:
            close = get_close_matches(variable, known, 1, 0.8)
            yield variable, close[0] if close else None


def _home(home: Path, *, unsafe: bool, proc_root: Path) -> Iterator[Check]:
    if not home.exists():
        parent = next((p for p in home.absolute().parents if p.exists()), Path("/"))
        if os.access(parent, os.W_OK | os.X_OK):
            yield Check(
                "home", "ok", f"{home} is made when something is recorded: try `otel-empathy demo`"
            )
        else:
            yield Check(
                "home",
                "finding",
                f"{home} does not exist and {parent} cannot be written",
                "set OTEL_EMPATHY_HOME to a folder of yours",
            )
        return
    if not home.is_dir():
        yield Check("home", "finding", f"{home} is no folder", "set OTEL_EMPATHY_HOME to a folder")
        return
    problems = list(_home_problems(home, unsafe=unsafe, proc_root=proc_root))
    yield from problems
    if not problems:
        yield Check("home", "ok", f"{home}, yours alone, {size(_room(home))} free")


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
    if not os.access(home, os.W_OK | os.X_OK):
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


def _backends(settings: Settings) -> Iterator[Check]:
    from otel_empathy.pipeline.environment import from_environment
    from otel_empathy.pipeline.otlp import origin

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        backends = from_environment(settings.environ)
    for warning in caught:
        yield Check("backends", "finding", str(warning.message), "correct or unset the variable")
    addresses: dict[Address, str] = {}
    for backend in backends:
        for signal in backend.signals:
            _, host, port = origin(backend.url(signal))
            addresses.setdefault((host, port), backend.name or host)
    if not addresses:
        yield Check(
            "backends", "ok", "none: records stay in the log (OTEL_EXPORTER_OTLP_ENDPOINT adds one)"
        )
        return
    for (address, name), error in zip(addresses.items(), _answers(list(addresses)), strict=True):
        where = f"{name} at {address[0]}:{address[1]}"
        if error is None:
            yield Check("backends", "ok", f"{where} answers")
        else:
            yield Check(
                "backends",
                "finding",
                f"{where} does not answer: {error}; the log keeps what it misses",
                "start it, or correct OTEL_EXPORTER_OTLP_ENDPOINT",
            )


def _answers(addresses: list[Address]) -> list[str | None]:
    """For each address why nobody answers, None where somebody does; all asked at once."""
    late = f"no connection within {_CONNECT:g} s"
    errors: dict[Address, str | None] = dict.fromkeys(addresses, late)

    def ask(address: Address) -> None:
        try:
            socket.create_connection(address, timeout=_CONNECT).close()
        except TimeoutError:
            return
        except OSError as error:
            errors[address] = (error.strerror or str(error)).lower()
        else:
            errors[address] = None

    # Daemon threads, because looking up a name can take longer than anybody wants to wait.
    threads = [threading.Thread(target=ask, args=(a,), daemon=True) for a in addresses]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(_CONNECT + 0.5)
    return [errors[address] for address in addresses]


def _capture(settings: Settings) -> Check:
    mode = settings.capture.value
    if not (settings.capture.spans or settings.capture.events):
        return Check("content", "ok", f"{mode}: prompts and replies are not recorded")
    return Check("content", "ok", f"{mode}: prompts and replies are recorded, scrubbed")
