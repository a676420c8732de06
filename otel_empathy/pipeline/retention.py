"""Keeping the log within its size and age, without losing count.

Only whole segments go, never a live one. One with records that a backend has not taken goes only
when a cap forces it. Each removal is written down first, so the ledger still adds up; when nothing
of a process is left, its counts move into the totals of the home.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from otel_empathy.core.clock import SYSTEM, Clock
from otel_empathy.pipeline import ledger, segments
from otel_empathy.pipeline.chunk import SIGNALS
from otel_empathy.pipeline.cursor import Claim, Cursor, all_cursors, cursor_folder, registered

__all__ = ["Removed", "retain"]

_LOGGER = logging.getLogger("otel_empathy")
_DAY_NS = 86_400_000_000_000
_FORGOTTEN_NS = 7 * _DAY_NS  # a backend not seen for so long holds nothing back


@dataclass(slots=True)
class Removed:
    """What one run did."""

    segments: int = 0
    unshipped: Counter[str] | None = None


def retain(home: Path, *, days: float, max_bytes: int, clock: Clock = SYSTEM) -> Removed:
    """Remove what is too old or too much; does nothing while another run is at it."""
    removed = Removed(0, Counter())
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
        self.holding = {
            name
            for name, data in registered(home)
            if self.now - int(data.get("seen_ns", 0)) < _FORGOTTEN_NS
        }
        self.cursors = all_cursors(home)
        for path in ledger.ledger_folder(home).glob("????????.json"):
            record = ledger.read_record(path)
            for backend in record.backends if record is not None else ():
                # A process that died before its first request still owes what it wrote.
                self.cursors.setdefault((backend, path.stem), Cursor(backend, path.stem))

    def apply(self, days: float, max_bytes: int) -> None:
        found = [s for signal in SIGNALS for s in segments.listed(self.home, signal)]
        found.sort(key=lambda s: (s.name.utc, s.name.seq))
        oldest = self.now - int(days * _DAY_NS)
        kept: list[segments.Segment] = []
        for segment in found:
            if segment.name.began_ns < oldest and self._remove(segment, "age"):
                continue
            kept.append(segment)
        total = sum(segment.size for segment in kept)
        for forced in (False, True):
            for segment in list(kept):
                if total <= max_bytes:
                    break
                if not forced and self._unshipped(segment):
                    continue
                if self._remove(segment, "backlog_cap"):
                    kept.remove(segment)
                    total -= segment.size
        self._fold({segment.name.instance for segment in kept})

    def _unshipped(self, segment: segments.Segment) -> list[str]:
        """Backends that still want records of a segment."""
        waiting = []
        for (backend, instance), cursor in self.cursors.items():
            if backend not in self.holding or instance != segment.name.instance:
                continue
            if segment.signal not in cursor.signals:
                continue
            place = cursor.positions[segment.signal]
            if place.seq < segment.name.seq or (
                place.seq == segment.name.seq
                and place.offset < segment.size
                and place.offset < segments.whole(segment.path)
            ):
                waiting.append(backend)
        return waiting

    def _remove(self, segment: segments.Segment, reason: str) -> bool:
        if segments.is_locked(segment.path, clock=self.clock):
            return False
        waiting = self._unshipped(segment)
        count = segments.count_records(segment.path, segment.signal)
        ledger.note_evicted(
            self.home, ledger.Evicted(segment.signal, str(segment.name), count, reason)
        )
        try:
            segment.path.unlink()
        except FileNotFoundError:
            return True
        except OSError as error:
            _LOGGER.warning("segment %s cannot be removed: %s", segment.name, error)
            return False
        self.removed.segments += 1
        if waiting:
            assert self.removed.unshipped is not None
            self.removed.unshipped[reason] += 1
            _LOGGER.warning(
                "segment %s was removed (%s) before %s had read it",
                segment.name, reason, ", ".join(waiting),
            )  # fmt: skip
        return True

    # -- processes of which nothing is left -------------------------------------------------------

    def _fold(self, alive: set[str]) -> None:
        evicted = ledger.read_evicted(self.home)
        gone: dict[str, list[ledger.Evicted]] = {}
        for one in evicted.values():
            name = segments.Name.parse(one.name)
            if name is not None and name.instance not in alive:
                gone.setdefault(name.instance, []).append(one)
        done: set[str] = set()
        totals = ledger.read_retired(self.home)
        for instance, rows in gone.items():
            path = ledger.ledger_folder(self.home) / f"{instance}.json"
            if segments.is_locked(path, clock=self.clock):
                continue
            claims = self._claims(instance)
            if claims is None:
                continue
            try:
                self._add(totals, instance, rows)
            finally:
                for claim in claims:
                    claim.free()
            done.add(instance)
        if done:
            self._save(totals, evicted, done)

    def _claims(self, instance: str) -> list[Claim] | None:
        taken: list[Claim] = []
        for backend, one in self.cursors:
            if one != instance:
                continue
            claim = Claim.take(self.home, backend, instance)
            if claim is None:
                for other in taken:
                    other.free()
                return None
            taken.append(claim)
        return taken

    def _add(self, totals: dict[str, Any], instance: str, rows: list[ledger.Evicted]) -> None:
        acked = totals.setdefault("acked", {})
        for one in rows:
            acked[one.signal] = acked.get(one.signal, 0) + one.records
        record = ledger.read_record(ledger.ledger_folder(self.home) / f"{instance}.json")
        if record is not None:
            dropped = totals.setdefault("dropped", {})
            for reason, count in record.dropped.items():
                dropped[reason] = dropped.get(reason, 0) + count
        for backend, one_instance in self.cursors:
            if one_instance != instance:
                continue
            cursor = Cursor.load(self.home, backend, instance)
            row = totals.setdefault("backends", {}).setdefault(
                backend, {"acked": 0, "shipped": 0, "dropped": {}}
            )
            rows_owed = [one for one in rows if one.signal in cursor.signals]
            row["acked"] += sum(one.records for one in rows_owed)
            row["shipped"] += cursor.shipped
            lost = Counter(cursor.dropped)
            for one in rows_owed:
                name = segments.Name.parse(one.name)
                place = cursor.positions[one.signal]
                if name is not None and name.seq >= place.seq:
                    settled = place.records if name.seq == place.seq else 0
                    lost[one.reason] += max(0, one.records - settled)
            for reason, count in lost.items():
                row["dropped"][reason] = row["dropped"].get(reason, 0) + count

    def _save(
        self,
        totals: dict[str, Any],
        evicted: dict[tuple[str, str], ledger.Evicted],
        done: set[str],
    ) -> None:
        where = ledger.ledger_folder(self.home)
        _replace(where / "retired.json", orjson.dumps(totals))
        lines = []
        for one in evicted.values():
            name = segments.Name.parse(one.name)
            if name is not None and name.instance not in done:
                row = {
                    "signal": one.signal,
                    "name": one.name,
                    "records": one.records,
                    "reason": one.reason,
                }
                lines.append(orjson.dumps(row) + b"\n")
        _replace(ledger.evicted_file(self.home), b"".join(lines))
        for instance in done:
            (where / f"{instance}.json").unlink(missing_ok=True)
            for backend, _ in registered(self.home):
                folder = cursor_folder(self.home, backend)
                (folder / f"{instance}.json").unlink(missing_ok=True)
                (folder / f"{instance}.lock").unlink(missing_ok=True)


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_bytes(data)
    temporary.chmod(0o600)
    temporary.replace(path)
