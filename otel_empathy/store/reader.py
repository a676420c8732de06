"""Lines of OTLP-JSON files: which files there are, in what order, and every whole line in them.

Reads the segments of a home, a Collector's rotated files, those of other languages, plain or
gzipped, in blocks, so that no file and no line is ever held in memory as a whole. A line counts
when its newline is there. What cannot be read is skipped and remembered with file and offset; a
file that vanishes is normal. What a line means is not known here.
"""

from __future__ import annotations

import errno
import os
import stat
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from io import BufferedReader, FileIO, RawIOBase
from pathlib import Path
from typing import Any, Final, Literal

from otel_empathy.core.clock import SYSTEM, Clock
from otel_empathy.core.errors import WrongType, WrongValue
from otel_empathy.pipeline.chunk import SIGNALS
from otel_empathy.pipeline.segments import Name, folder, is_locked

__all__ = [
    "LONGEST",
    "REMEMBERED_PLACES",
    "File",
    "Follow",
    "Paths",
    "Progress",
    "Reader",
    "Reason",
    "Scan",
    "Skip",
    "Skips",
]

Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
Progress = Callable[[int, int], None]
Reason = Literal["torn", "corrupt", "too_long", "unreadable"]

LONGEST: Final = 16 << 20  # of a line with its newline
_BUFFER: Final = 1 << 18
_NEWLINE: Final = 10
_SUFFIXES: Final = (".jsonl", ".json", ".jsonl.gz", ".json.gz")
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_DAY: Final = 86_400_000_000_000
REMEMBERED_PLACES: Final = 1_000
_REMEMBERED: Final = 100_000
_GZIP: Final = 31  # zlib's number for "expect a gzip header"


@dataclass(frozen=True, slots=True)
class Skip:
    """A line, the rest of a file, or a folder that could not be read."""

    path: Path
    offset: int
    reason: Reason


class Skips:
    """What was skipped, each place once however often its file is read."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.places: list[Skip] = []
        self._seen: set[Skip] = set()

    def add(self, path: Path, offset: int, reason: Reason) -> None:
        """Remember a place. Beyond 100,000 places it only counts."""
        skip = Skip(path, offset, reason)
        if skip in self._seen:
            return
        if len(self._seen) < _REMEMBERED:
            self._seen.add(skip)
        if len(self.places) < REMEMBERED_PLACES:
            self.places.append(skip)
        self.counts[reason] += 1


@dataclass(frozen=True, slots=True)
class File:
    """A file that may hold OTLP-JSON; `name` is set when it is a segment."""

    path: Path
    size: int
    changed_ns: int
    name: Name | None = None

    @property
    def order(self) -> tuple[str, int, str]:
        """Segments come by instance and sequence, other files by their path, behind them."""
        if self.name is None:
            return ("~", 0, str(self.path))
        return (self.name.instance, self.name.seq, str(self.path))

    def may_reach(self, time_ns: int) -> bool:
        """Whether the file may hold records from behind a time."""
        if self.name is None or self.changed_ns > time_ns:
            return True
        try:
            return self.name.began_ns + 2 * _DAY > time_ns
        except ValueError:
            return True  # somebody's file has a name like a segment's, with a date that is none


class Reader:
    """The files of one or several places.

    Args:
        paths: A home, any other folder, a file, or several of them.
        clock: What tells a file in use from an abandoned one where there are no locks.
    """

    def __init__(self, paths: Paths, *, clock: Clock = SYSTEM) -> None:
        single = isinstance(paths, (str, os.PathLike))
        if not single and (isinstance(paths, bytes) or not isinstance(paths, Iterable)):
            raise WrongType(f"path {paths!r}: give a home, a folder or a file as str or Path")
        given = [paths] if single else list(paths)  # type: ignore[arg-type]
        self.paths = [_path(one) for one in given]
        if not self.paths:
            raise WrongValue("no path to read: name a home, a folder or a file")
        self.clock = clock
        self.skips = Skips()

    def files(self, signal: str, *, after: int | None = None) -> list[File]:
        """The files that may hold records of a signal, in the order of reading.

        Args:
            signal: `traces`, `metrics` or `logs`.
            after: Leave out segments that hold nothing from behind this time: what ended on the
                day of their name, and a second day for clocks that disagree, lies before it, and
                nobody has changed them since.
        """
        if signal not in SIGNALS:
            raise WrongValue(f"signal {signal!r}: choose one of {', '.join(SIGNALS)}")
        found = [file for path in self.paths for file in _files(path, signal, self.skips)]
        if after is not None:
            found = [file for file in found if file.may_reach(after)]
        return sorted(set(found), key=lambda file: file.order)

    def scan(
        self, signal: str, *, after: int | None = None, progress: Progress | None = None
    ) -> Scan:
        """One pass over the whole lines of a signal's files."""
        return Scan(self, self.files(signal, after=after), progress)

    def follow(self, signal: str) -> Follow:
        """What is written to a signal's files from now on."""
        return Follow(self, signal)


def _path(one: object) -> Path:
    if not isinstance(one, (str, os.PathLike)):
        raise WrongType(f"path {one!r}: give a home, a folder or a file as str or Path")
    text = os.fsdecode(one)
    if "\0" in text or "://" in text:
        raise WrongValue(f"path {text!r}: only homes, folders and files can be read")
    # What the user names may be a link; what is found in a folder may not.
    return Path(os.path.realpath(Path(text).expanduser()))


def _files(path: Path, signal: str, skips: Skips) -> Iterator[File]:
    if path.is_dir():
        home = folder(path, signal)
        yield from _walk(home if home.parent.is_dir() else path, signal, skips)
        return
    try:
        found = path.stat()
        yield File(path, found.st_size, found.st_mtime_ns, Name.parse(path.name))
    except OSError:
        return  # not there yet, or gone


def _walk(top: Path, signal: str, skips: Skips) -> Iterator[File]:
    others = {name for name in SIGNALS if name != signal}
    waiting = [top]
    while waiting:
        path = waiting.pop()
        try:
            entries = list(os.scandir(path))
        except (FileNotFoundError, NotADirectoryError):
            continue  # not there yet, or removed since it was listed
        except OSError:
            skips.add(path, 0, "unreadable")
            continue
        for entry in entries:
            if _is_folder(entry):
                # A copy of a home's log keeps its folders: those of other signals are not ours.
                if entry.name not in others:
                    waiting.append(Path(entry.path))
            elif entry.name.endswith(_SUFFIXES):
                yield from _file(entry)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False  # vanished while we looked


def _file(entry: os.DirEntry[str]) -> Iterator[File]:
    try:
        if entry.is_file(follow_symlinks=False):
            found = entry.stat(follow_symlinks=False)
            name = Name.parse(entry.name)
            yield File(Path(entry.path), found.st_size, found.st_mtime_ns, name)
    except OSError:
        return  # vanished while we looked


class _Lines:
    """Gives out whole lines; `path` and `offset` tell where it stands.

    A line comes with its newline, without a byte order mark, and is known to be UTF-8. Whoever
    finds that one makes no sense says so with `reject` or `rescue`.
    """

    def __init__(self, reader: Reader) -> None:
        self.path = Path()
        self.offset = 0
        self._skips = reader.skips
        self._clock = reader.clock

    def reject(self, reason: Reason = "corrupt") -> None:
        """Count the line that was given out last as one that could not be read."""
        self._skips.add(self.path, self.offset, reason)

    def rescue(self, line: bytes) -> bytes | None:
        """What is left of a line that made no sense once NULs and blanks around it are gone.

        A crash of the machine can leave a run of NULs where a line was begun; what follows it up
        to the newline is still a line. The run is counted, an empty line is not.
        """
        rest = line.strip(b"\0 \t\r\n")
        if rest or b"\0" in line:
            self.reject()
        return rest if b"\0" in line and rest else None

    def _whole(self, file: BufferedReader[Any], offset: int = 0) -> Iterator[bytes]:
        """Every line from an offset on that has its newline; `offset` is behind them at the end."""
        after = offset
        for line in iter(partial(file.readline, LONGEST), b""):
            self.offset = after
            after += len(line)
            if line[-1] != _NEWLINE:
                size = 0 if len(line) < LONGEST else _rest_of_line(file)
                if size == 0:
                    return  # the end of the file, for now
                self.reject("too_long")
                after += size
            elif line.isascii():
                yield line
            elif _is_text(line):
                yield line.removeprefix(_BYTE_ORDER_MARK)
            else:
                self.reject()
        self.offset = after


class Scan(_Lines):
    """One pass over the lines of some files, one file after the other."""

    def __init__(self, reader: Reader, files: list[File], progress: Progress | None = None) -> None:
        super().__init__(reader)
        self.files = files
        self._progress = progress

    @property
    def may_repeat(self) -> bool:
        """Whether a record can stand in these files twice.

        Segments of one folder cannot: each is written once, by the process whose records it
        holds. A Collector's file can, because exporters send again what was not confirmed, and so
        can files of several folders, of which one may be a copy.
        """
        folders = {file.path.parent for file in self.files}
        return len(folders) > 1 or any(file.name is None for file in self.files)

    def __iter__(self) -> Iterator[bytes]:
        total = sum(file.size for file in self.files)
        done = 0
        for file in self.files:
            self.path, self.offset = file.path, 0
            report = None
            if self._progress is not None:
                report = partial(self._report, file.size, done, total)
            try:
                yield from self._lines(file.path, report)
            except (FileNotFoundError, _NotRegularError):
                pass  # retention removed it, or it became something else: neither is a fault
            except OSError:
                self.reject("unreadable")
            done += file.size
            self._report(file.size, done - file.size, total, file.size)

    def _report(self, size: int, before: int, total: int, done: int) -> None:
        if self._progress is not None:
            self._progress(before + min(done, size), total)

    def _lines(self, path: Path, report: Callable[[int], None] | None) -> Iterator[bytes]:
        with _opened(path) as raw:
            if path.suffix == ".gz":
                yield from self._unpacked(_Unpacked(_Watched(raw, report)))
                return
            file = BufferedReader(_Watched(raw, report), _BUFFER)
            yield from self._whole(file)
            if self.offset == file.seek(0, os.SEEK_END) or is_locked(path, clock=self._clock):
                return  # nothing is left over, or its writer lives and is not done with the line
            # The writer may have finished the line, and itself, between our last read and now.
            file.seek(self.offset)
            yield from self._whole(file, self.offset)
            if self.offset < file.seek(0, os.SEEK_END):
                self.reject("torn")

    def _unpacked(self, unpacked: _Unpacked) -> Iterator[bytes]:
        file = BufferedReader(unpacked, _BUFFER)
        yield from self._whole(file)
        if unpacked.fault is not None or self.offset < unpacked.size:
            self.reject(unpacked.fault or "torn")


class Follow(_Lines):
    """Lines that are added to a signal's files after this object was made.

    Rotation needs no care: files that appear are read from their beginning, one that was renamed
    goes on where it was, one that was cut short begins again. Gzipped files are left alone, because
    what they hold was followed before it was packed.
    """

    def __init__(self, reader: Reader, signal: str) -> None:
        super().__init__(reader)
        self._reader = reader
        self._signal = signal
        self._known: dict[object, _Place] = {}
        for file in self._files():
            place = self._place(file)
            if place is not None:
                place.line, place.read = _end_of_lines(file), file.size

    def look(self) -> Iterator[bytes]:
        """The whole lines that were added since the last look."""
        for file in self._files():
            place = self._place(file)
            if place is None:
                continue
            if file.size == place.read:
                self._settle(file, place)
                continue
            if file.size < place.read:
                place.line = 0
            self.path = file.path
            try:
                yield from self._added(file, place)
            except (FileNotFoundError, _NotRegularError):
                continue  # gone since it was listed, which is normal
            except OSError:
                self.reject("unreadable")

    def _added(self, file: File, place: _Place) -> Iterator[bytes]:
        with _opened(file.path) as raw, BufferedReader(raw, _BUFFER) as buffered:
            buffered.seek(place.line)
            for line in self._whole(buffered, place.line):
                place.line = place.read = self.offset + len(line)
                yield line
            place.line, place.read = self.offset, buffered.tell()

    def _files(self) -> list[File]:
        found = self._reader.files(self._signal)
        return [file for file in found if file.path.suffix != ".gz"]

    def _place(self, file: File) -> _Place | None:
        key: object = file.path
        if file.name is None:
            try:
                found = file.path.stat()
            except OSError:
                return None  # gone since it was listed
            key = (found.st_dev, found.st_ino)
        return self._known.setdefault(key, _Place())

    def _settle(self, file: File, place: _Place) -> None:
        """Count the unfinished line of a segment whose writer is gone."""
        if place.line < place.read and file.name and not is_locked(file.path, clock=self._clock):
            self.path, self.offset = file.path, place.line
            self.reject("torn")


@dataclass(slots=True)
class _Place:
    """How far a file was read, and where the line begins that was not whole then."""

    read: int = 0
    line: int = 0


class _NotRegularError(OSError):
    """What was a file is now a link, a pipe or a folder."""


def _opened(path: Path) -> FileIO:
    """A regular file, opened for reading without following a link or waiting for a pipe."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _NotRegularError from error
        raise
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise _NotRegularError
    return FileIO(fd)


class _Watched(RawIOBase):
    """A file that tells how far it was read; this way the telling costs nothing per line."""

    def __init__(self, raw: FileIO, report: Callable[[int], None] | None) -> None:
        self._raw = raw
        self._report = report

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._raw.seek(offset, whence)

    def readinto(self, buffer: Any) -> int:
        size = self._raw.readinto(buffer)
        if self._report is not None:
            self._report(self._raw.tell())
        return size


class _Unpacked(RawIOBase):
    """The content of a gzipped file, of one or more members; where it is damaged it ends."""

    def __init__(self, raw: _Watched) -> None:
        self._raw = raw
        self._member: Any = None
        self._packed = b""
        self.fault: Reason | None = None
        self.size = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        while self.fault is None:
            if not self._packed:
                self._packed = self._raw.read(_BUFFER) or b""
            if not self._packed:
                self.fault = "torn" if self._member is not None else None
                return 0
            plain = self._unpack(len(view))
            if plain:
                view[: len(plain)] = plain
                self.size += len(plain)
                return len(plain)
        return 0

    def _unpack(self, most: int) -> bytes:
        if self._member is None:
            self._member = zlib.decompressobj(_GZIP)
        try:
            plain: bytes = self._member.decompress(self._packed, most)
        except zlib.error:
            self.fault = "corrupt"
            return b""
        self._packed = self._member.unconsumed_tail
        if self._member.eof:
            # Some writers pad with NULs; anything else is the next member.
            self._packed, self._member = self._member.unused_data.lstrip(b"\0"), None
        return plain


def _rest_of_line(file: BufferedReader[Any]) -> int:
    """Read on to the newline of a line; its size from here, 0 when the file ends before."""
    size = 0
    for piece in iter(partial(file.readline, _BUFFER), b""):
        size += len(piece)
        if piece[-1] == _NEWLINE:
            return size
    return 0


def _is_text(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _end_of_lines(file: File) -> int:
    """Where the line begins that is being written at the end of a file, or would begin."""
    if file.size == 0:
        return 0
    try:
        with _opened(file.path) as raw:
            raw.seek(file.size - 1)
            if raw.read(1) == b"\n":
                return file.size
            start = max(0, file.size - LONGEST)
            raw.seek(start)
            return start + raw.read(file.size - start).rfind(b"\n") + 1
    except OSError:
        return file.size  # it vanished; if it comes back, it is looked at again
