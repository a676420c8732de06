"""Counts that are exact without a lock, so a signal handler or a finaliser may raise them too."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

__all__ = ["Tally"]

K = TypeVar("K", bound=Hashable)


class Tally(Generic[K]):
    """How often each key came up."""

    __slots__ = ("_cells",)

    def __init__(self) -> None:
        self._cells: dict[K, itertools.count[int]] = {}

    def up(self, key: K) -> None:
        """Count a key once more; one step of the interpreter, so nothing can come between."""
        cell = self._cells.get(key)
        if cell is None:
            cell = self._cells.setdefault(key, itertools.count())
        next(cell)

    def __getitem__(self, key: K) -> int:
        cell = self._cells.get(key)
        # Asking a count for its number is one more count; only its text tells without asking.
        return 0 if cell is None else int(repr(cell)[6:-1])

    def __iter__(self) -> Iterator[K]:
        return iter(list(self._cells))
