"""The file that an export writes: a path that was checked, and all of the file or nothing.

Refuses NUL bytes, directories, the system's own folders and the log itself, after links are
resolved. The content goes to a temporary file beside the target, readable by its owner alone, and
is renamed when it is complete; a failed export leaves an older file as it was. A terminal gets
the content without what it would obey.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import RawIOBase
from pathlib import Path
from typing import Any, BinaryIO, cast

from otel_empathy.cli.screen import clean
from otel_empathy.core.errors import Unavailable, WrongValue

__all__ = ["STDOUT", "checked", "opened"]

STDOUT = "-"
_REFUSED = tuple(Path(folder) for folder in ("/etc", "/sys", "/proc", "/dev", "/boot"))


def checked(path: str, *, log: Path | None = None) -> Path:
    """The resolved target of an output path.

    Args:
        path: Where to write.
        log: The folder of segments, in which only their writers may.

    Raises:
        WrongValue: The path has a NUL byte, is a directory, or lies in a folder of the system or
            in the log.
    """
    if not path or "\0" in path:
        raise WrongValue(f"output {path!r} is no path: give a file name without NUL, or - .")
    written = Path(path).expanduser()
    target = Path(os.path.realpath(written))
    if path.endswith(os.sep) or target.is_dir():
        raise WrongValue(f"output {path!r} is a directory: name a file in it.")
    # Both spellings are looked at: `/dev/stdout` resolves to a pipe elsewhere, and on some systems
    # `/etc` itself is a link.
    for spelling in (target, Path(os.path.normpath(written.absolute()))):
        for folder in _REFUSED:
            if spelling == folder or folder in spelling.parents:
                raise WrongValue(
                    f"output {path!r} lies in {folder}, which belongs to the system:"
                    " choose another folder, or - for standard output."
                )
    if log is not None and log.resolve() in target.parents:
        raise WrongValue(f"output {path!r} lies in the log itself: choose another folder, or - .")
    if target.exists() and not target.is_file():
        raise WrongValue(f"output {path!r} is not a regular file: choose another name, or - .")
    return target


@contextmanager
def opened(path: str, *, log: Path | None = None) -> Iterator[BinaryIO]:
    """A binary file that becomes `path` when the block ends well; `-` is standard output.

    Args:
        path: Where to write.
        log: The folder of segments, in which only their writers may.

    Raises:
        WrongValue: The path must not be written.
        Unavailable: The folder is missing or cannot be written.
    """
    if path == STDOUT:
        shown = sys.stdout.isatty()
        yield cast("BinaryIO", _Shown()) if shown else sys.stdout.buffer
        sys.stdout.flush()
        return
    target = checked(path, log=log)
    try:
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    except OSError as error:
        raise Unavailable(
            f"output {path!r}: {error.strerror} in {target.parent}: create the folder or choose"
            " another one."
        ) from error
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


class _Shown(RawIOBase):
    """A terminal to write bytes to; each line is cleaned, so it must come in one piece."""

    def writable(self) -> bool:
        return True

    def write(self, line: Any) -> int:
        rows = bytes(line).decode(errors="replace").rstrip("\r\n").split("\n")
        sys.stdout.write("".join(f"{clean(row)}\n" for row in rows))
        return len(line)
