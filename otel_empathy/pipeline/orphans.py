"""Orphans: logs of a home whose writer is gone, as far as they are owed to one backend.

What is looked at here belongs to processes of any time and any user, so each look may fail; one
that does is put off and keeps no other from being found. Who takes an orphan, and how it is
shipped, is the backend's business.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from otel_empathy.core.clock import Clock
from otel_empathy.emit import safety
from otel_empathy.pipeline import ledger, segments
from otel_empathy.pipeline.chunk import SIGNALS
from otel_empathy.pipeline.cursor import Cursor, cursor_folder
from otel_empathy.pipeline.source import Orphan

__all__ = ["Orphans", "Owing", "owe_all"]

_AGAIN = 60.0  # seconds after which an orphan that was put off is looked at again


@dataclass(frozen=True, slots=True)
class Owing:
    """An orphan that owes a backend something, and what of it can be read."""

    orphans: Orphans
    instance: str
    sources: dict[str, Orphan]

    @property
    def home(self) -> Path:
        """The home that it lies in."""
        return self.orphans.home

    def put_off(self) -> None:
        """Leave it alone for a while."""
        self.orphans.put_off(self.instance)

    def cursor(self, backend: str) -> Cursor:
        """How far the backend has read it, or the beginning where that cannot be."""
        cursor = Cursor.load(self.home, backend, self.instance)
        places = cursor.positions
        if any(source.is_ahead(places[name]) for name, source in self.sources.items()):
            return cursor.anew()
        return cursor


class Orphans:
    """The orphans of a home that one backend has not looked into yet.

    Args:
        home: The home.
        backend: The backend's name.
        signals: The signals that it takes.
        clock: Time.
    """

    def __init__(self, home: Path, backend: str, signals: tuple[str, ...], clock: Clock) -> None:
        self.home = home
        self.backend = backend
        self.signals = signals
        self.clock = clock
        self._waiting: list[str] = []
        self._done: set[str] = set()  # processes that are gone and owe this backend nothing
        self._put_off: dict[str, float] = {}
        self._left: dict[tuple[str, str], list[segments.Segment]] = {}

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def look(self, ours: Collection[str]) -> None:
        """List the orphans of the home; what each of them owes is seen when there is room for it.

        Who is gone is asked before the segments are listed, so that the list is complete.
        """
        now = self.clock.monotonic()
        self._put_off = {one: until for one, until in self._put_off.items() if until > now}
        known = self._done.union(ours, self._put_off)
        recorded = set(ledger.recorded(self.home))
        gone = {instance for instance in recorded - known if not self._lives(instance)}
        left: dict[tuple[str, str], list[segments.Segment]] = {}
        for signal in SIGNALS:
            for segment in segments.listed(self.home, signal):
                left.setdefault((segment.name.instance, signal), []).append(segment)
        self._left = left
        written = {instance for instance, _ in left}
        gone |= {one for one in written - recorded - known if not self._writes(one)}
        self._done &= written | recorded
        self._waiting = sorted(gone, reverse=True)

    def owing(self, unserved: Collection[str]) -> Iterator[Owing]:
        """Each orphan that owes something of a signal that the backend serves at present."""
        while self._waiting:
            instance = self._waiting.pop()
            try:
                found = self._examined(instance, unserved)
            except OSError as error:  # of somebody else, or on a disk that fails
                safety.tell("export", error)
                self.put_off(instance)
                continue
            if found is not None:
                yield found

    def put_off(self, instance: str) -> None:
        """Leave an orphan alone for a while."""
        self._put_off[instance] = self.clock.monotonic() + _AGAIN

    def _examined(self, instance: str, unserved: Collection[str]) -> Owing | None:
        owed = self._owed(instance)
        if not owed:
            if owed is not None:
                self._done.add(instance)
            return None
        found = Owing(
            self,
            instance,
            {
                signal: Orphan(self.home, signal, instance, self._left.get((instance, signal), []))
                for signal in self.signals
            },
        )
        places = found.cursor(self.backend).positions
        owing = {k for k, one in found.sources.items() if one.read(places[k], 1) is not None}
        if not owing:
            self._done.add(instance)
        elif owing <= set(unserved):
            self.put_off(instance)
        return found if owing - set(unserved) else None

    def _owed(self, instance: str) -> bool | None:
        """Whether a process's log is owed to this backend; None when it has not said so yet."""
        if (cursor_folder(self.home, self.backend) / f"{instance}.json").exists():
            return True
        path = ledger.ledger_folder(self.home) / f"{instance}.json"
        record = ledger.read_record(path)
        if record is None:
            return None if path.exists() else False
        return self.backend in record.backends

    def _lives(self, instance: str) -> bool:
        path = ledger.ledger_folder(self.home) / f"{instance}.json"
        return segments.is_locked(path, clock=self.clock)

    def _writes(self, instance: str) -> bool:
        """Whether a process without a file in the ledger has a segment open."""
        path = ledger.ledger_folder(self.home) / f"{instance}.json"
        if path.exists():  # it came while we looked
            return True
        return any(
            segments.is_locked(segment.path, clock=self.clock)
            for signal in SIGNALS
            for segment in self._left.get((instance, signal), [])[-1:]
        )


def owe_all(home: Path, backend: str, signals: tuple[str, ...]) -> None:
    """Owe a backend everything that a home holds."""
    for instance in ledger.instances(home):
        if not (cursor_folder(home, backend) / f"{instance}.json").exists():
            Cursor(backend, instance, signals=signals).save(home)
