"""Which threads are inside the pipeline right now, so that none of them meets its own locks.

A signal handler, and a finaliser that the garbage collector runs, come up in the middle of
whatever their thread is doing, perhaps while it holds a lock of ours. What they record must not
wait for that lock: it would wait for ever. Here stands who is inside; who records then puts it
aside.
"""

from __future__ import annotations

from threading import get_ident
from types import TracebackType

__all__ = ["Inside", "Outside", "threads"]

threads: set[int] = set()


class Inside:
    """Mark the present thread while it does work of the pipeline: `with Inside():`."""

    __slots__ = ("_before",)
    _inside = True

    def __enter__(self) -> None:
        """Begin."""
        me = get_ident()
        self._before = me in threads
        _mark(me, inside=self._inside)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """Be again what it was before."""
        _mark(get_ident(), inside=self._before)


class Outside(Inside):
    """Mark the present thread as one that may record, at a point where it holds no lock of ours."""

    __slots__ = ()
    _inside = False


def _mark(thread: int, *, inside: bool) -> None:
    if inside:
        threads.add(thread)
    else:
        threads.discard(thread)
