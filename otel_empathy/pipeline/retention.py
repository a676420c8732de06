"""Keeping the log within its size and age, without losing count.

Only whole segments go, never a live one. One with records that a backend has not taken goes only
when a cap forces it. Each removal is written down first, so the ledger still adds up; when nothing
of a process is left, its counts move into the totals of the home.
"""

from __future__ import annotations

import errno
import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from otel_empathy.core.clock import SYSTEM, Clock
from otel_empathy.pipeline import ledger, segments
from otel_empathy.pipeline.chunk import SIGNALS
from otel_empathy.pipeline.cursor import Claim, Cursor, all_cursors, cursor_folder, registered

__all__ = ["Removed", "retain"]

_LOGGER = logging.getLogger("otel_empathy")
_DAY_NS = 86_400_000_000_000
_FORGOTTEN_NS = 7 * _DAY_NS  # a backend not seen for so long holds nothing back
_FULL = {errno.ENOSPC, errno.EDQUOT}
_TOGETHER = 64  # processes that are folded at one time: each holds a claim for each backend
_ASIDE = 8  # what backends refused for good may take this part of the log's size
_told: set[tuple[Path, str]] = set()  # the forgotten backends that were told of, by home


@dataclass(slots=True)
class Removed:
    """What one run did."""

    segments: int = 0
    unshipped: Counter[str] = field(default_factory=Counter)
    """Segments that a backend would still have wanted, by reason."""
    evicted: Counter[str] = field(default_factory=Counter)
    """Segments that not every backend had read, by signal."""


def retain(home: Path, *, days: float, max_bytes: int, clock: Clock = SYSTEM) -> Removed:
    """Remove what is too old or too much; does nothing while another run is at it."""
    removed = Removed()
    with ledger.ledger_lock(home, "retention.lock") as alone:
        if alone:
            _Run(home, clock, removed).apply(days, max_bytes)
    return removed


class _Run:
    def __init__(self, home: Path, clock: Clock, removed: Removed) -> None:
        self.home = home
        self.now = clock.time_ns()
        self.clock = clock
        self.removed = removed
        self.deprived: dict[str, set[str]] = {}  # by reason, the backends that had not read it all
        self.refused: list[OSError] = []
        self.backends = {name for name, _ in registered(home)}
        self.forgotten = {name for name, data in registered(home) if self._forgotten(data)}
        self.cursors: dict[str, list[Cursor]] = {}
        known = all_cursors(home)
        for path in ledger.ledger_folder(home).glob("????????.json"):
            record = ledger.read_record(path)
            for backend in record.backends if record is not None else ():
                # A process that died before its first request still owes what it wrote.
                known.setdefault((backend, path.stem), Cursor(backend, path.stem))
        for cursor in known.values():
            self.cursors.setdefault(cursor.instance, []).append(cursor)

    def _forgotten(self, data: dict[str, object]) -> bool:
        try:
            return self.now - int(str(data["seen_ns"])) >= _FORGOTTEN_NS
        except (KeyError, ValueError):
            return False  # nobody knows, so it is served

    def apply(self, days: float, max_bytes: int) -> None:
        found = [s for signal in SIGNALS for s in segments.listed(self.home, signal)]
        found.sort(key=lambda s: (s.name.utc, s.name.seq))
        oldest = self.now - int(days * _DAY_NS)
        kept = [s for s in found if s.name.began_ns >= oldest or not self._remove(s, "age")]
        total = sum(segment.size for segment in kept)
        for forced in (False, True):
            still = []
            for segment in kept:
                over = total > max_bytes and (forced or not self._waiting(segment))
                if over and self._remove(segment, "backlog_cap"):
                    total -= segment.size
                else:
                    still.append(segment)
            kept = still
        self._clear_aside(oldest, max_bytes // _ASIDE)
        self._say()
        self._fold({segment.name.instance for segment in kept})

    def _clear_aside(self, oldest: int, max_bytes: int) -> None:
        """Remove what was set aside long ago or is too much; it was counted when it was dropped."""
        total = 0
        for age, size, path in sorted(_set_aside(self.home), reverse=True):
            total += size
            if age < oldest or total > max_bytes:
                path.unlink(missing_ok=True)

    def _waiting(self, segment: segments.Segment) -> list[str]:
        """Backends that still want records of a segment."""
        return [name for name in self._unshipped(segment) if name not in self.forgotten]

    def _unshipped(self, segment: segments.Segment) -> list[str]:
        """Backends that have not read a segment to its end."""
        found = []
        for cursor in self.cursors.get(segment.name.instance, ()):
            if segment.signal not in cursor.signals or cursor.backend not in self.backends:
                continue
            place = cursor.positions[segment.signal]
            if place.seq < segment.name.seq or (
                place.seq == segment.name.seq
                and place.offset < segment.size
                and place.offset < segments.whole(segment.path)
            ):
                found.append(cursor.backend)
        return found

    def _remove(self, segment: segments.Segment, reason: str) -> bool:
        if segments.is_locked(segment.path, clock=self.clock):
            return False
        unshipped = self._unshipped(segment)
        try:
            count = segments.count_records(segment.path, segment.signal)
            note = ledger.Evicted(segment.signal, str(segment.name), count, reason)
            try:
                ledger.note_evicted(self.home, note)
                segment.path.unlink()
            except OSError as error:
                if error.errno not in _FULL:
                    raise
                segment.path.unlink()  # which makes the room for its own note
                ledger.note_evicted(self.home, note)
        except FileNotFoundError:
            return True
        except OSError as error:
            self.refused.append(error)
            return False
        self.removed.segments += 1
        if unshipped:
            self.removed.evicted[segment.signal] += 1
            self.deprived.setdefault(reason, set()).update(unshipped)
        if not self.forgotten.issuperset(unshipped):
            self.removed.unshipped[reason] += 1
        return True

    def _say(self) -> None:
        """Tell once of what was taken from whom."""
        for reason, count in self.removed.unshipped.items():
            _LOGGER.warning(
                "%d segment(s) were removed (%s) before %s had read them",
                count, reason, ", ".join(sorted(self.deprived[reason] - self.forgotten)),
            )  # fmt: skip
        if self.refused:
            _LOGGER.warning(
                "%d segment(s) cannot be removed: %s", len(self.refused), self.refused[0]
            )
        for backend in sorted(self.forgotten & set[str]().union(*self.deprived.values())):
            if (self.home, backend) not in _told:
                _told.add((self.home, backend))
                _LOGGER.warning(
                    "backend %s was not seen for a week, so segments that it has not read are "
                    "no longer kept for it", backend,
                )  # fmt: skip

    # -- processes of which nothing is left -------------------------------------------------------

    def _fold(self, alive: set[str]) -> None:
        """Move the counts of processes that are gone into the totals; safe to stop at any point.

        The totals name the processes that are in them until the last file of those is gone. Who
        reads meanwhile passes such files over, and the next run ends what this one began.
        """
        retired = ledger.read_retired(self.home)
        evicted = list(ledger.read_evicted(self.home).values())
        gone: dict[str, list[ledger.Evicted]] = {name: [] for name in ledger.recorded(self.home)}
        for one in evicted:
            if one.instance:
                gone.setdefault(one.instance, []).append(one)
        names = sorted(retired.folded | (gone.keys() - alive))
        ended: set[str] = set()
        for start in range(0, len(names), _TOGETHER):
            group = {name: gone.get(name, []) for name in names[start : start + _TOGETHER]}
            ended.update(self._fold_group(group, retired))
        if ended:
            kept = [one.line() for one in evicted if one.instance not in ended]
            ledger.replace(ledger.evicted_file(self.home), b"".join(kept))
            retired.folded -= ended
            retired.save(self.home)

    def _fold_group(
        self, group: dict[str, list[ledger.Evicted]], retired: ledger.Retired
    ) -> list[str]:
        """Fold those of a few processes that nobody has in hand, and say which these were."""
        claims: list[Claim] = []
        done = []
        try:
            for instance, rows in group.items():
                path = ledger.ledger_folder(self.home) / f"{instance}.json"
                lives = segments.is_locked(path, clock=self.clock)
                if lives or not self._claimed(instance, claims):
                    continue
                if instance not in retired.folded:
                    self._add(retired, instance, rows)
                done.append(instance)
            if done:
                retired.folded.update(done)
                retired.save(self.home)
            for instance in done:
                self._forget(instance)
        finally:
            for claim in claims:
                claim.free()
        return done

    def _claimed(self, instance: str, claims: list[Claim]) -> bool:
        """Take the right to ship a process to anybody; False while somebody has it."""
        for cursor in self.cursors.get(instance, ()):
            claim = Claim.take(self.home, cursor.backend, instance)
            if claim is None:
                return False
            claims.append(claim)
        return True

    def _add(self, retired: ledger.Retired, instance: str, rows: list[ledger.Evicted]) -> None:
        for one in rows:
            retired.acked[one.signal] += one.records
        record = ledger.read_record(ledger.ledger_folder(self.home) / f"{instance}.json")
        if record is not None:
            retired.dropped.update(record.dropped)
        for known in self.cursors.get(instance, ()):
            cursor = Cursor.load(self.home, known.backend, instance)
            row = retired.backends.setdefault(known.backend, ledger.BackendBalance())
            owed = [one for one in rows if one.signal in cursor.signals]
            row.acked += sum(one.records for one in owed)
            row.shipped += cursor.shipped
            row.dropped.update(cursor.dropped)
            for reason, count in _lost(owed, cursor):
                row.dropped[reason] += count

    def _forget(self, instance: str) -> None:
        """Remove the files of a process that is in the totals."""
        (ledger.ledger_folder(self.home) / f"{instance}.json").unlink(missing_ok=True)
        known = {cursor.backend for cursor in self.cursors.get(instance, ())}
        for backend in known | self.backends:
            folder = cursor_folder(self.home, backend)
            (folder / f"{instance}.json").unlink(missing_ok=True)
            (folder / f"{instance}.lock").unlink(missing_ok=True)


def _set_aside(home: Path) -> Iterator[tuple[int, int, Path]]:
    """When each file of what backends refused was last added to, its size, its place."""
    for path in (home / "cursors").glob("*/aside/*.jsonl"):
        with suppress(FileNotFoundError):
            found = path.lstat()
            yield found.st_mtime_ns, found.st_size, path


def _lost(rows: Iterable[ledger.Evicted], cursor: Cursor) -> Iterator[tuple[str, int]]:
    """What was removed behind a cursor, by reason."""
    for one in rows:
        name = segments.Name.parse(one.name)
        place = cursor.positions[one.signal]
        if name is not None and name.seq >= place.seq:
            settled = place.records if name.seq == place.seq else 0
            yield one.reason, max(0, one.records - settled)
