"""Who a user is to the telemetry: a keyed hash that only this installation can make.

Owns the secret of the installation and the hash made with it. The secret never leaves its file and
this process; the user's name leaves it only as 16 hex digits of HMAC-SHA256. Hosts that are to
agree on users share the file (`OTEL_EMPATHY_SECRET_FILE`). To rotate, delete the file and restart:
from then on the same user has another hash, and nothing links the two.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import stat
from pathlib import Path

from otel_empathy.core.errors import WrongType

__all__ = ["UserHash"]

_BYTES = 32
_FLAGS = os.O_NOFOLLOW | os.O_CLOEXEC


class UserHash:
    """Hashes user names with the secret in a file, which the first use creates.

        hash_user = UserHash(Path("~/.otel-empathy/secret").expanduser())
        hash_user("ada@example.org")    # the same 16 hex digits in every process of this home

    A file that cannot be created, read or trusted never stops the caller: the process then uses a
    secret of its own, and `degraded` says why its hashes match no other process.
    """

    __slots__ = ("_found", "_secret_file", "degraded")

    def __init__(self, secret_file: Path) -> None:
        self._secret_file = secret_file
        self._found: list[bytes] = []
        self.degraded: str | None = None

    def __call__(self, user: str) -> str:
        """The hash of a user.

        Raises:
            WrongType: The user is no text.
        """
        try:
            text = user.encode("utf-8", "surrogatepass")
        except AttributeError:
            kind = type(user).__name__
            raise WrongType(f"user is of type {kind}, not str; give the user's name") from None
        secret = self._found[0] if self._found else self._loaded()
        return hmac.digest(secret, text, "sha256").hex()[:16]

    def _loaded(self) -> bytes:
        try:
            secret = _read_or_create(self._secret_file)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            self.degraded = f"{self._secret_file}: {reason}"
            secret = os.urandom(_BYTES)
        # No lock, because a fork could leave one held: of two threads that come here at once, the
        # first to append decides for both.
        self._found.append(secret)
        return self._found[0]


def _read_or_create(path: Path) -> bytes:
    try:
        return _read(path)
    except FileNotFoundError:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _create(path)
        return _read(path)


def _create(path: Path) -> None:
    """Put a new secret in place, unless another process was first."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    _write(temporary)
    try:
        # A link appears complete or not at all and never replaces: one process wins the race.
        os.link(temporary, path)
    except FileExistsError:
        return  # the other process's secret is as good as ours
    except OSError:
        # No hard links here (FAT, some network mounts): exclusive creation has one winner too.
        with contextlib.suppress(FileExistsError):
            _write(path)
    finally:
        temporary.unlink()


def _write(path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(os.urandom(_BYTES).hex().encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        path.unlink()  # half a secret would be refused for ever
        raise


def _read(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | _FLAGS)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("is no regular file")
        if status.st_uid not in {os.geteuid(), 0}:
            raise ValueError("belongs to another user")
        if stat.S_IMODE(status.st_mode) & 0o077:
            raise ValueError("is readable by others; set its mode to 0600")
        text = file.read(2 * _BYTES + 2)
    secret = bytes.fromhex(text.decode("ascii"))
    if len(secret) != _BYTES:
        raise ValueError(f"holds {len(secret)} bytes, not {_BYTES} in hex; delete it for a new one")
    return secret
