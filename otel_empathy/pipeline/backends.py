"""Backends: one worker each, shipping from the log through its own cursor.

There is one path for the live case, the retry case and the crash case: read a batch behind the
cursor, send it, move the cursor. A backend that is slow, down or removed affects no other. What a
dead process of the same home left is taken over under a claim.
"""

from __future__ import annotations

import logging
import random
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from opentelemetry import context as otel_context

from otel_empathy.core.clock import SYSTEM, Clock
from otel_empathy.emit import safety
from otel_empathy.pipeline import ledger, segments
from otel_empathy.pipeline.bell import Bell
from otel_empathy.pipeline.chunk import SIGNALS, Chunk
from otel_empathy.pipeline.cursor import Claim, Cursor, Position, cursor_folder, register
from otel_empathy.pipeline.delta import Delta
from otel_empathy.pipeline.inside import Inside
from otel_empathy.pipeline.log import Log
from otel_empathy.pipeline.shipping import Lane, Plan, Shipping
from otel_empathy.pipeline.source import Orphan, Own, Queue, Source

__all__ = ["Backend", "Shipment", "ship"]

_LOGGER = logging.getLogger("otel_empathy")
_SUPPRESS = "suppress_instrumentation"
_ADOPT = 5.0  # seconds between two looks for logs whose writer is gone
_ADOPTED = 8  # of them that are shipped at one time: each holds a claim, which is an open file


class Backend:
    """One destination and the thread that serves it.

    Args:
        plan: What it is and how it is reached.
        home: The home whose log is shipped; None when there is no log.
        records: Records per request.
        delay: Longest wait before new records are shipped.
        cap: Unshipped bytes beyond which the oldest are given up.
        sync: Whether cursors are brought to the disk itself.
        clock: Time.
        jitter: A random share between 0 and 1.
        measure: Told how long each export took, and what was wrong with it.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        home: Path | None,
        records: int = 512,
        delay: float = 1.0,
        cap: int = 512 << 20,
        buffer: int = 64 << 20,
        sync: bool = False,
        clock: Clock = SYSTEM,
        jitter: Callable[[], float] = random.random,
        measure: Callable[[Plan, float, str | None], None] | None = None,
    ) -> None:
        self.plan = plan
        self.name = plan.name
        self.home = home
        self.records = records
        self.delay = delay
        self.cap = cap
        self.buffer = buffer
        self.sync = sync
        self.clock = clock
        self.shipping = Shipping(
            plan, home=home, records=records, clock=clock, jitter=jitter, measure=measure
        )
        self.fresh = Bell()
        self.lanes: list[Lane] = []
        self.queues: dict[str, Queue] = {}
        self.dropped: Counter[str] = Counter()
        self._claims: dict[str, Claim] = {}
        self._cursors: dict[str, Cursor] = {}
        self._done: set[str] = set()  # processes that are gone and owe this backend nothing
        self._left: dict[tuple[str, str], list[segments.Segment]] = {}
        self._orphans: list[str] = []  # seen, and not yet looked into
        self._log: Log | None = None
        self._urgent = Bell()
        self._turned = Bell()
        self._round = 0
        self._news = 0
        self._thread: threading.Thread | None = None
        self._start = threading.Lock()
        self._adopted_at = float("-inf")

    # -- the owner's side -------------------------------------------------------------------------

    def begin(self, log: Log | None) -> None:
        """Take over the log of this process and start; called when its first record comes."""
        with self._start:
            if self._thread is not None or self.shipping.stopping is not None:
                return
            self._log = log
            self._thread = threading.Thread(
                target=self._run, name=f"otel-empathy-{self.name}", daemon=True
            )
            try:
                self._thread.start()
            except RuntimeError:  # too late in the life of the interpreter; the log keeps it all
                self._thread = None

    def offer(self, chunk: Chunk) -> None:
        """Take a chunk straight into memory, when there is no log."""
        if chunk.signal.name not in self.plan.signals:
            return
        queue = self.queues.get(chunk.signal.name)
        if queue is None:
            queue = self.queues.setdefault(
                chunk.signal.name, Queue(chunk.signal.name, self.buffer // 3)
            )
        if not queue.put(chunk):
            with self._start:
                self.dropped["queue_full"] += chunk.count
        if self._thread is None:
            self.begin(None)
        self.wrote(chunk.count)

    @property
    def state(self) -> str:
        """`healthy`, `retrying`, `paused` (a person must act) or `full`."""
        return self.shipping.state

    @property
    def begun(self) -> bool:
        """Whether the worker runs."""
        return self._thread is not None

    def wrote(self, count: int) -> None:
        """Learn that records came; a full batch is shipped without waiting for more."""
        self._news += count
        if self._news >= self.records:
            self._news = 0
            self._urgent.ring()
        self.fresh.ring()

    def hurry(self) -> None:
        """Ship at once what is there."""
        self._urgent.ring()
        self.fresh.ring()

    def reset(self) -> None:
        """Try again now, whatever was said before."""
        self.shipping.quiet_until = 0.0
        for lane in self.lanes:
            lane.retry_at = 0.0
        self.hurry()

    def settled(self, ends: Mapping[str, Position], deadline: float) -> bool:
        """Wait until everything before the ends is settled; False at the deadline or on trouble."""
        before = self._round
        while True:
            if self._reached(ends):
                return True
            if self._thread is None or self.shipping.stopping is not None:
                return False
            if self.state != "healthy" and self._round > before:
                return False
            left = deadline - self.clock.monotonic()
            if left <= 0:
                return False
            self.hurry()
            self._turned.wait(min(left, 0.05))

    def _reached(self, ends: Mapping[str, Position]) -> bool:
        own = {lane.signal: lane for lane in self.lanes if lane.own}
        if self._log is None:
            return all(
                name in own and queue.end <= own[name].position.offset
                for name, queue in list(self.queues.items())
                if name in self.plan.signals
            )
        for signal, end in ends.items():
            if signal not in self.plan.signals or not end.offset:
                continue
            lane = own.get(signal)
            if lane is None:
                return False
            place = lane.position
            if (place.seq, place.offset) < (end.seq, end.offset):
                return False
        return True

    def stop(self, deadline: float) -> None:
        """Send what can be sent by the deadline, then end; the rest stays in the log."""
        self.shipping.stopping = deadline
        self.hurry()

    def join(self) -> None:
        """Wait for the end of the worker, until the deadline that `stop()` was given."""
        thread = self._thread
        if thread is not None and self.shipping.stopping is not None:
            thread.join(max(0.0, self.shipping.stopping - self.clock.monotonic()))

    def forget(self) -> None:
        """Count what is left in memory alone, now that nobody will send it."""
        if self._log is None:
            taken = sum(queue.records for queue in list(self.queues.values()))
            settled = sum(self.shipping.settled_own.values())
            self.dropped["shutdown"] += max(0, taken - settled)

    def abandon(self) -> None:
        """Close inherited claims after a fork."""
        for claim in self._claims.values():
            claim.free()

    def balance(self, acked: int) -> ledger.BackendBalance:
        """What became of this process's own records."""
        row = ledger.BackendBalance(acked=acked, state=self.state)
        row.dropped.update(self.dropped)
        own = {id(lane.cursor): lane.cursor for lane in self.lanes if lane.own}
        for cursor in own.values():
            row.shipped += cursor.shipped
            row.dropped.update(cursor.dropped)
        return row

    def once(self, deadline: float) -> None:
        """Ship, in this thread, what is owed of processes that are gone; trouble ends it."""
        assert self.home is not None
        self.shipping.sender = self.plan.connect()
        token = otel_context.attach(otel_context.set_value(_SUPPRESS, True))
        try:
            register(self.home, self.name, self.clock.time_ns())
            if self.plan.start == "oldest":
                self._owe_all(self.home)
            while self.clock.monotonic() < deadline and self._work():
                if self.state != "healthy":
                    break
            self._release()
        except OSError as error:
            self.shipping.state = "retrying"
            self.shipping.error, self.shipping.message = type(error).__qualname__, str(error)
        finally:
            otel_context.detach(token)
            self.shipping.sender.close()
            for claim in self._claims.values():
                claim.free()

    @property
    def inflight(self) -> Counter[str]:
        """Records in the batches that are on their way, by signal."""
        found: Counter[str] = Counter()
        for lane in list(self.lanes):
            found[lane.signal] += sum(chunk.count for part in list(lane.parts) for chunk in part)
        return found

    # -- the worker -------------------------------------------------------------------------------

    def _run(self) -> None:
        otel_context.attach(otel_context.set_value(_SUPPRESS, True))
        with Inside():
            self._serve()

    def _serve(self) -> None:
        tried_last = False
        while not self._prepare():
            if self.shipping.stopping is not None:
                return
            self.fresh.wait(1.0)
        while True:
            # Also the first batch gathers: a process that lives shorter leaves nothing half sent.
            self._wait()
            self.fresh.silence()
            worked = True
            while worked:
                worked = False
                with safety.guarded("export"):
                    worked = self._work() and self._behind()
                self._round += 1
                self._turned.ring()
                if self.shipping.stopping is not None and not tried_last:
                    tried_last = worked = True
                    self._try_last()
                elif self._ending():
                    return

    def _try_last(self) -> None:
        """Ask once more at the end: a backend that was down may be back."""
        for lane in self.lanes:
            if lane.own and lane.state == "retrying":
                lane.retry_at = 0.0

    def _behind(self) -> bool:
        """Whether more than news waits; news gather into a batch before they are shipped."""
        if self.shipping.stopping is not None or self._orphans:
            return True
        for lane in self.lanes:
            if lane.parts or not lane.own:
                return True
            taken = (
                self._log.counts[lane.signal].acked
                if self._log is not None
                else self.queues[lane.signal].records
            )
            if taken - self.shipping.settled_own[lane.signal] >= self.records:
                return True
        return False

    def _ending(self) -> bool:
        if self.shipping.stopping is None:
            return False
        over = self.clock.monotonic() >= self.shipping.stopping
        own = [lane for lane in self.lanes if lane.own]
        trouble = any(lane.state != "healthy" for lane in own)
        busy = any(lane.parts or self._more(lane) for lane in own)
        if over or trouble or not busy:
            if self.shipping.sender is not None:
                self.shipping.sender.close()
            for claim in self._claims.values():
                claim.free()
            return True
        return False

    def _more(self, lane: Lane) -> bool:
        return lane.source.read(lane.position, 1) is not None

    def _wait(self) -> None:
        now = self.clock.monotonic()
        times = [self._adopted_at + _ADOPT] if self.home is not None else [now + 60.0]
        times += [lane.retry_at for lane in self.lanes if lane.retry_at > now]
        if self.fresh.wait(max(0.0, min(times) - now)) and self.shipping.stopping is None:
            self._urgent.wait(self.delay)
            self._urgent.silence()

    def _prepare(self) -> bool:
        """Take our own claim and cursors; False while the disk refuses."""
        if self.shipping.sender is None:
            try:
                self.shipping.sender = self.plan.connect()
            except Exception as error:  # noqa: BLE001 - a backend's fault is its own affair
                safety.tell("export", error)
                self.shipping.say("retrying", type(error).__qualname__, str(error))
                return False
        log = self._log
        if log is None:
            cursor = Cursor(self.name, "memory")
            for signal in self.plan.signals:
                queue = self.queues.setdefault(signal, Queue(signal, self.buffer // 3))
                self.lanes.append(self._lane(signal, queue, cursor, own=True))
            return True
        instance = log.instance[:8]
        try:
            claim = Claim.take(log.home, self.name, instance)
            if claim is None:
                return False
            self._claims[instance] = claim
            register(log.home, self.name, self.clock.time_ns())
            cursor = Cursor.load(log.home, self.name, instance)
            cursor.sync = self.sync
            cursor.signals = self.plan.signals
            cursor.save(log.home)
            if self.plan.start == "oldest":
                self._owe_all(log.home)
        except OSError as error:
            safety.tell("export", error)
            return False
        self._cursors[instance] = cursor
        for signal in self.plan.signals:
            self.lanes.append(self._lane(signal, Own(log, signal), cursor, own=True))
        return True

    def _owe_all(self, home: Path) -> None:
        for instance in ledger.instances(home):
            path = cursor_folder(home, self.name) / f"{instance}.json"
            if not path.exists():
                Cursor(self.name, instance, signals=self.plan.signals).save(home)

    def _lane(self, signal: str, source: Source, cursor: Cursor, *, own: bool) -> Lane:
        lane = Lane(signal, source, cursor, own)
        if self.plan.delta and signal == "metrics":
            lane.delta = Delta()
            self._prime(lane)
        return lane

    def _prime(self, lane: Lane) -> None:
        """Let differences begin where an earlier shipper of this log stopped."""
        end = lane.position
        place = Position()
        while (place.seq, place.offset) < (end.seq, end.offset) and lane.delta is not None:
            batch = lane.source.read(place, 1)
            if batch is None or (batch.after.seq, batch.after.offset) > (end.seq, end.offset):
                return
            lane.delta.prime(batch.chunks)
            place = batch.after

    # -- logs whose writer is gone ----------------------------------------------------------------

    def _adopt(self) -> None:
        """Look for orphans that are owed to this backend, and take a few that nobody ships."""
        home = self.home
        now = self.clock.monotonic()
        if home is None or self.shipping.stopping is not None:
            return
        if now - self._adopted_at >= _ADOPT:
            self._adopted_at = now
            register(home, self.name, self.clock.time_ns())
            self._release()
            self._look_around(home)
            self._shed()
        while self._orphans and len(self._claims) <= _ADOPTED:
            instance = self._orphans.pop()
            if not self._lives(home, instance):
                self._take_over(home, instance)

    def _look_around(self, home: Path) -> None:
        """List the logs of the home once; which of them are orphans is seen when there is room."""
        self._left = {}
        for signal in SIGNALS:
            for segment in segments.listed(home, signal):
                self._left.setdefault((segment.name.instance, signal), []).append(segment)
        there = {instance for instance, _ in self._left} | set(ledger.recorded(home))
        self._done &= there
        mine = self._log.instance[:8] if self._log is not None else ""
        known = self._done | self._claims.keys() | {mine}
        self._orphans = sorted(there - known, reverse=True)

    def _take_over(self, home: Path, instance: str) -> None:
        """Take one orphan; one that owes this backend nothing is never looked at again."""
        owed = self._owed(home, instance)
        if not owed:
            if owed is not None:
                self._done.add(instance)
            return
        cursor = Cursor.load(home, self.name, instance)
        sources = {
            signal: Orphan(home, signal, instance, self._left.get((instance, signal), []))
            for signal in self.plan.signals
        }
        if all(s.read(cursor.positions[k], 1) is None for k, s in sources.items()):
            self._done.add(instance)
            return
        claim = Claim.take(home, self.name, instance)
        if claim is None:
            return
        self._claims[instance] = claim
        cursor = Cursor.load(home, self.name, instance)  # it may have moved before the claim
        cursor.sync = self.sync
        cursor.signals = self.plan.signals
        for signal, source in sources.items():
            self.lanes.append(self._lane(signal, source, cursor, own=False))

    def _work(self) -> bool:
        """Take orphans, send one batch of each lane; True when there is more to do."""
        self._adopt()
        if self._pass():
            return True
        if not self._orphans or self.state != "healthy":
            return False
        self._release()
        return len(self._claims) <= _ADOPTED

    def _release(self) -> None:
        """Give back the claims of orphans that are shipped."""
        for instance in list(self._claims):
            lanes = [x for x in self.lanes if not x.own and x.cursor.instance == instance]
            if lanes and not any(lane.parts or self._more(lane) for lane in lanes):
                self.lanes = [lane for lane in self.lanes if lane not in lanes]
                self._claims.pop(instance).free()

    def _owed(self, home: Path, instance: str) -> bool | None:
        """Whether a process's log is owed to this backend; None when it has not said so yet."""
        if (cursor_folder(home, self.name) / f"{instance}.json").exists():
            return True
        path = ledger.ledger_folder(home) / f"{instance}.json"
        record = ledger.read_record(path)
        if record is None:
            return None if path.exists() else False
        return self.name in record.backends

    def _lives(self, home: Path, instance: str) -> bool:
        path = ledger.ledger_folder(home) / f"{instance}.json"
        if path.exists():
            return segments.is_locked(path, clock=self.clock)
        return any(
            segments.is_locked(segment.path, clock=self.clock)
            for signal in SIGNALS
            for segment in self._left.get((instance, signal), [])[-1:]
        )

    def _shed(self) -> None:
        """Give up the oldest segments of a backlog that is larger than its cap, and count them."""
        if self.home is None:
            return
        behind = [
            (segment.name.began_ns, segment.name.seq, unread, segment, lane)
            for lane in self.lanes
            for segment, unread in lane.source.behind(lane.position)
        ]
        total = sum(row[2] for row in behind)
        behind.sort(key=lambda row: row[:3])
        for _, seq, unread, segment, lane in behind:
            if total <= self.cap:
                return
            if lane.own and segments.is_locked(segment.path, clock=self.clock):
                continue  # more is being written to it, which nobody would count
            place = lane.position
            offset = place.offset if place.seq == seq else 0
            count = segments.count_records(segment.path, lane.signal, offset)
            # A part of the batch in hand may be settled already.
            count -= lane.shipped + lane.dropped.total()
            lane.cursor.shipped += lane.shipped
            lane.cursor.dropped.update(lane.dropped)
            lane.parts, lane.after, lane.attempts, lane.bisect = [], None, 0, False
            lane.shipped, lane.dropped = 0, Counter()
            lane.cursor.dropped["backlog_cap"] += count
            lane.cursor.positions[lane.signal] = Position(seq + 1, 0, 0)
            lane.cursor.save(self.home)
            self.shipping.say(
                "full", "backlog_cap", f"{count} records of {segment.name} were given up"
            )
            total -= unread

    # -- shipping ---------------------------------------------------------------------------------

    def _pass(self) -> bool:
        """One batch of each lane; True when anything moved."""
        now = self.clock.monotonic()
        moved = False
        for lane in list(self.lanes):
            if (self.shipping.stopping is not None and not lane.own) or lane.retry_at > now:
                continue
            if self.shipping.quiet_until > now:
                break
            moved |= self.shipping.step(lane)
        self.shipping.judge(self.lanes)
        return moved


@dataclass(slots=True)
class Shipment:
    """What shipping by hand did for one backend."""

    backend: str
    state: str
    shipped: int
    dropped: Counter[str]
    error: str | None = None
    message: str | None = None


def ship(
    home: Path,
    plans: Sequence[Plan],
    *,
    timeout: float = 60.0,
    records: int = 512,
    clock: Clock = SYSTEM,
) -> list[Shipment]:
    """Send what processes that are gone left for these backends, until done or out of time.

    Args:
        home: The home whose log is shipped.
        plans: The backends.
        timeout: Seconds for all of them.
        records: Records per request.
        clock: Time.
    """
    deadline = clock.monotonic() + timeout
    done = []
    for plan in plans:
        backend = Backend(plan, home=home, records=records, clock=clock)
        backend.once(deadline)
        shipped = sum(n for (_, reason), n in backend.shipping.exported.items() if not reason)
        dropped: Counter[str] = Counter()
        for (_, reason), count in backend.shipping.exported.items():
            if reason:
                dropped[reason] += count
        done.append(
            Shipment(
                plan.name,
                backend.state,
                shipped,
                +dropped,
                backend.shipping.error,
                backend.shipping.message,
            )
        )
    return done
