"""The guard around everything that telemetry does inside somebody else's program.

What goes wrong under it is counted by site and type, told to the log once a minute, and swallowed.
Under pytest it is raised again, because a test that hides our own fault is worth nothing. It never
stops a cancellation: only `Exception` is caught.
"""

from __future__ import annotations

import functools
import logging
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import RLock
from types import TracebackType
from typing import Any, Final, TypeVar, cast

from otel_empathy.core.clock import SYSTEM
from otel_empathy.core.outcomes import qualified_name

__all__ = ["count", "errors", "guarded", "reraise", "swallow", "tell"]

F = TypeVar("F", bound=Callable[..., Any])

errors: Final[Counter[tuple[str, str]]] = Counter()
"""What was swallowed, by site and type."""

_log: Final = logging.getLogger("otel_empathy")
_told: Final[dict[str, float]] = {}
_INTERVAL: Final = 60.0
# Reentrant, since a finaliser may run while its own thread is counting.
_lock: Final = RLock()
_swallowing = 0


def reraise() -> bool:
    """Whether swallowed errors are raised again: under pytest, outside `swallow()`."""
    return _swallowing == 0 and "pytest" in sys.modules


@contextmanager
def swallow() -> Iterator[Counter[tuple[str, str]]]:
    """Behave as in production, for tests of what is swallowed; gives the counter."""
    global _swallowing  # noqa: PLW0603 - a process-wide switch
    with _lock:
        _swallowing += 1
    try:
        yield errors
    finally:
        with _lock:
            _swallowing -= 1


def count(site: str, kind: str) -> None:
    """Count something that went wrong and has no exception."""
    with _lock:
        errors[site, kind] += 1


def tell(site: str, error: Exception) -> None:
    """Count an error that is being swallowed, and log it if its site was silent for a minute."""
    kind = qualified_name(type(error))
    count(site, kind)
    now = SYSTEM.monotonic()
    with _lock:
        last = _told.get(site)
        if last is not None and now - last < _INTERVAL:
            return
        _told[site] = now
    # The message of the error is left out: it may hold what people wrote.
    _log.warning("swallowed an error of its own at site=%s type=%s", site, kind)


class guarded:  # noqa: N801 - reads as a verb, as a decorator and after `with`
    """Lets no error of ours out: a context manager and a decorator, both reusable.

    Args:
        site: Which part of the work this is, the label of the counter.
    """

    __slots__ = ("site",)

    def __init__(self, site: str) -> None:
        self.site = site

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> bool:
        """Count and swallow an error."""
        return isinstance(error, Exception) and _swallowed(self.site, error)

    def __call__(self, fn: F) -> F:
        """Guard a function; it answers None when it failed."""
        site = self.site

        @functools.wraps(fn)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            try:
                return fn(*args, **kwargs)
            except Exception as error:
                if not _swallowed(site, error):
                    raise
                return None

        return cast("F", wrapper)


def _swallowed(site: str, error: Exception) -> bool:
    if sys.is_finalizing():  # modules are half gone; there is nobody left to tell
        return True
    tell(site, error)
    return not reraise()
