"""Whether the garbage collector is at work in this thread, and called what runs now.

It runs wherever memory is asked for: perhaps while this very thread holds a lock of an exporter,
or while Python is in the middle of changing a context variable. What it calls (finalisers, the end
of generators that nobody holds) must therefore wait for no lock; and it must leave the context
alone, because up to Python 3.11 a change that comes up inside another one destroys the context or
ends the process with a segmentation fault.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping
from threading import get_ident
from typing import Any

__all__ = ["collecting", "watch"]

_collector: int | None = None


def _note(phase: str, _info: Mapping[str, Any]) -> None:
    global _collector  # noqa: PLW0603 - there is one collector
    _collector = get_ident() if phase == "start" else None


def watch() -> None:
    """Learn from now on when the garbage collector runs; telemetry that is on needs it."""
    if _note not in gc.callbacks:
        gc.callbacks.append(_note)


def collecting() -> bool:
    """Whether the garbage collector runs in this thread and called what runs now."""
    return _collector is not None and _collector == get_ident()
