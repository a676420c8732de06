"""Lanes: which logs one backend ships, and the claims under which it does.

There is one lane for each signal of this process, and for each of the few orphans that are shipped
at one time. Lanes are opened, closed and cut short here; what travels on them is `shipping`'s.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from otel_empathy.core.clock import Clock
from otel_empathy.emit import safety
from otel_empathy.pipeline import segments
from otel_empathy.pipeline.cursor import Claim, Cursor, Position, register
from otel_empathy.pipeline.delta import Delta
from otel_empathy.pipeline.log import Log
from otel_empathy.pipeline.orphans import Orphans, Owing, owe_all
from otel_empathy.pipeline.shipping import Lane, Plan, Shipping
from otel_empathy.pipeline.source import Own, Queue, Source

__all__ = ["Lanes"]

_ADOPTED = 8  # orphans that are shipped at one time: each holds a claim, which is an open file
_PRIMED = 4096  # records that are read at a time to learn where differences begin


class Lanes:
    """The lanes of one backend.

    Args:
        shipping: How the backend is getting on.
        home: The home whose log is shipped; None when there is no log.
        cap: Unshipped bytes beyond which the oldest are given up.
        sync: Whether cursors are brought to the disk itself.
        clock: Time.
    """

    def __init__(
        self, shipping: Shipping, *, home: Path | None, cap: int, sync: bool, clock: Clock
    ) -> None:
        self.shipping = shipping
        self.home = home
        self.cap = cap
        self.sync = sync
        self.clock = clock
        self.claims: dict[str, Claim] = {}
        self.taking = threading.Lock()  # so that no child inherits a claim that nobody knows of
        self.orphans = (
            Orphans(home, self.plan.name, self.plan.signals, clock) if home is not None else None
        )
        self._all: tuple[Lane, ...] = ()
        self._instance = ""

    def __iter__(self) -> Iterator[Lane]:
        return iter(self._all)

    @property
    def plan(self) -> Plan:
        """What the backend is."""
        return self.shipping.plan

    @property
    def own(self) -> dict[str, Lane]:
        """The lanes of this process, by signal."""
        return {lane.signal: lane for lane in self._all if lane.own}

    def more(self, lane: Lane) -> bool:
        """Whether a lane has something behind its cursor; what cannot be read may be more."""
        try:
            return lane.source.read(lane.position, 1) is not None
        except OSError as error:
            safety.tell("export", error)
            return True

    # -- of this process --------------------------------------------------------------------------

    def open_memory(self, queues: Mapping[str, Queue]) -> None:
        """Open the lanes of a process that keeps no log."""
        cursor = Cursor(self.plan.name, "memory")
        self._open(((signal, queues[signal]) for signal in self.plan.signals), cursor, own=True)

    def open_own(self, log: Log) -> bool:
        """Open the lanes of this process; False while the disk refuses or somebody has them."""
        self._instance = instance = log.instance[:8]
        try:
            if not self._claim(log.home, instance):
                return False
            self.register(log.home)
            cursor = Cursor.load(log.home, self.plan.name, instance)
            cursor.sync, cursor.signals = self.sync, self.plan.signals
            cursor.save(log.home)
        except OSError as error:
            safety.tell("export", error)
            return False
        self._open(((signal, Own(log, signal)) for signal in self.plan.signals), cursor, own=True)
        return True

    def register(self, home: Path) -> None:
        """Make the backend known to the home, which may owe it all that it holds."""
        register(home, self.plan.name, self.clock.time_ns())
        if self.plan.start == "oldest":
            owe_all(home, self.plan.name, self.plan.signals)

    def _open(self, sources: Iterator[tuple[str, Source]], cursor: Cursor, *, own: bool) -> None:
        lanes = [Lane(signal, source, cursor, own) for signal, source in sources]
        for lane in lanes:
            if self.plan.delta and lane.signal == "metrics":
                lane.delta = Delta()
                self._prime(lane)
        self._all = (*self._all, *lanes)

    def _prime(self, lane: Lane) -> None:
        """Let differences begin where an earlier shipper of this log stopped."""
        end = lane.position
        place = Position()
        most = _PRIMED
        while (place.seq, place.offset) < (end.seq, end.offset) and lane.delta is not None:
            batch = lane.source.read(place, most)
            if batch is None:
                return
            if (batch.after.seq, batch.after.offset) > (end.seq, end.offset):
                if most == 1:
                    return
                most = max(1, most // 8)  # the end is near
                continue
            lane.delta.prime(batch.chunks)
            place = batch.after

    # -- of processes that are gone ---------------------------------------------------------------

    def look_around(self) -> None:
        """See which processes of the home are gone, and how much waits; trouble is put off."""
        if self.orphans is None:
            return
        try:
            register(self.orphans.home, self.plan.name, self.clock.time_ns())
            self.release()
            self.orphans.look(self.claims.keys() | {self._instance})
            self.shed()
        except OSError as error:  # our own records go on
            safety.tell("export", error)

    def adopt(self) -> None:
        """Take a few orphans that owe the backend something and that nobody ships."""
        if self.orphans is None:
            return
        owing = self.orphans.owing(self.shipping.refused)
        while not self.crowded and (found := next(owing, None)) is not None:
            self._take_over(found)

    @property
    def crowded(self) -> bool:
        """Whether there is no room for one more orphan."""
        return len(self.claims) > _ADOPTED

    def _take_over(self, found: Owing) -> None:
        try:
            if not self._claim(found.home, found.instance):
                return
            cursor = found.cursor(self.plan.name)  # it may have moved before the claim
            cursor.sync, cursor.signals = self.sync, self.plan.signals
            self._open(iter(found.sources.items()), cursor, own=False)
        except OSError as error:
            safety.tell("export", error)
            self.unclaim(found.instance)
            found.put_off()

    def release(self) -> None:
        """Give back the claims of orphans that are shipped, as far as the backend takes them."""
        refused = self.shipping.refused
        for instance in tuple(self.claims):
            lanes = [lane for lane in self if not lane.own and lane.cursor.instance == instance]
            served = [lane for lane in lanes if lane.signal not in refused]
            if lanes and not any(lane.parts or self.more(lane) for lane in served):
                self._all = tuple(lane for lane in self._all if lane not in lanes)
                self.unclaim(instance)

    def shed(self) -> None:
        """Give up the oldest segments of a backlog that is larger than its cap, and count them."""
        behind = [
            (segment.name.began_ns, segment.name.seq, unread, segment, lane)
            for lane in self
            for segment, unread in lane.source.behind(lane.position)
            if unread > 0
        ]
        total = sum(row[2] for row in behind)
        behind.sort(key=lambda row: row[:3])
        given_up = False
        for _, seq, unread, segment, lane in behind:
            if total <= self.cap:
                break
            if lane.own and segments.is_locked(segment.path, clock=self.clock):
                continue  # more is being written to it, which nobody would count
            if lane.after is not None and lane.after.seq > seq:
                continue  # nothing whole is left in it: the batch in hand comes from a later one
            place = lane.position
            offset = place.offset if place.seq == seq and not lane.repeated else 0
            count = segments.count_records(segment.path, lane.signal, offset)
            after = Position(seq + 1, 0, 0)
            self.shipping.give_up(lane, count=count, after=after, reason="backlog_cap")
            total -= unread
            given_up = True
        self.shipping.full = given_up or (self.shipping.full and total > self.cap)

    # -- claims -----------------------------------------------------------------------------------

    def _claim(self, home: Path, instance: str) -> bool:
        """Whether the right to ship a process is ours, from now on or already."""
        with self.taking:
            if instance in self.claims:
                return True
            claim = Claim.take(home, self.plan.name, instance)
            if claim is not None:
                self.claims[instance] = claim
            return claim is not None

    def unclaim(self, *instances: str) -> None:
        """Give claims back, all of them when none is named."""
        for instance in instances or tuple(self.claims):
            claim = self.claims.pop(instance, None)
            if claim is not None:
                claim.free()
