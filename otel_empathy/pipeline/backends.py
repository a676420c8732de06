"""Backends: one worker each, shipping from the log through its own cursor.

There is one path for the live case, the retry case and the crash case: read a batch behind the
cursor, send it, move the cursor. A backend that is slow, down or removed affects no other, and a
signal that it does not serve holds up none of the others. What a dead process of the same home left
is taken over under a claim.
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
from otel_empathy.pipeline.chunk import Chunk
from otel_empathy.pipeline.cursor import Claim, Cursor, Position, register
from otel_empathy.pipeline.delta import Delta
from otel_empathy.pipeline.inside import Inside
from otel_empathy.pipeline.log import Log
from otel_empathy.pipeline.marks import Marks
from otel_empathy.pipeline.orphans import Orphans, Owing, owe_all
from otel_empathy.pipeline.outcome import Outcome
from otel_empathy.pipeline.shipping import Lane, Plan, Shipping
from otel_empathy.pipeline.source import Own, Queue, Source

__all__ = ["Backend", "Shipment", "ship"]

_LOGGER = logging.getLogger("otel_empathy")
_SUPPRESS = "suppress_instrumentation"
_ADOPT = 5.0  # seconds between two looks for logs whose writer is gone
_PRIMED = 4096  # records that are read at a time to learn where differences begin
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
        self.taking = threading.Lock()  # so that no child inherits a claim that nobody knows of
        self.orphans = Orphans(home, self.name, plan.signals, clock) if home is not None else None
        self._log: Log | None = None
        self._urgent = Bell()
        self._turned = Bell()
        self._round = 0
        self._news = 0
        self._thread: threading.Thread | None = None
        self._start = threading.Lock()
        self._adopted_at = float("-inf")
        self._marks = {signal: Marks() for signal in plan.signals}
        self._looked_ns: int | None = None

    # -- the owner's side -------------------------------------------------------------------------

    def begin(self, log: Log | None) -> None:
        """Take over the log of this process and start; called when its first record comes."""
        with self._start:
            if self._thread is not None or self.shipping.stopping is not None:
                return
            self._log = log
            self._looked_ns = self.clock.time_ns()
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
    def troubled(self) -> bool:
        """Whether it asked for quiet or fails; a signal that it does not serve is no trouble."""
        if not self.lanes:
            return self.state != "healthy"
        quiet = self.shipping.quiet_until > self.clock.monotonic()
        return quiet or any(lane.state == "retrying" for lane in self.lanes)

    def oldest(self, signal: str) -> int | None:
        """When the oldest record of this process that is not settled yet was acknowledged.

        UTC nanoseconds, or None when nothing waits. It is told from marks that the worker makes
        whenever it looks up: never too young, and too old by the length of one request at the most.
        """
        settled = self.shipping.settled_own[signal]
        if signal not in self._marks or self._taken(signal) <= settled:
            return None
        since = self._marks[signal].oldest(settled)
        return self._looked_ns if since is None else since

    def _taken(self, signal: str) -> int:
        """Records of this process that were acknowledged so far."""
        if self._log is not None:
            return self._log.counts[signal].acked
        queue = self.queues.get(signal)
        return 0 if queue is None else queue.records

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
        self.shipping.unserved.clear()
        for lane in self.lanes:
            lane.retry_at = 0.0
        self.hurry()

    def settled(self, ends: Mapping[str, Position], deadline: float) -> bool:
        """Wait until everything before the ends is settled; False at the deadline or on trouble.

        What the backend is known not to take at present is not waited for.
        """
        if self._log is None:
            queues = tuple(self.queues.items())
            ends = {name: Position(1, queue.end) for name, queue in queues if queue.end}
        before = self._round
        lanes = self._own()
        known = {name for name, lane in lanes.items() if not self.shipping.well(lane)}
        if not lanes and self.state != "healthy":
            return True
        while True:
            left = [name for name in ends if name in self.plan.signals and name not in known]
            left = [name for name in left if not self._reached(name, ends[name])]
            if not left:
                return True
            if self._thread is None or self.shipping.stopping is not None:
                return False
            if self._fails(left) and self._round > before:
                return False
            rest = deadline - self.clock.monotonic()
            if rest <= 0:
                return False
            self.hurry()
            self._turned.wait(min(rest, 0.05))

    def _own(self) -> dict[str, Lane]:
        return {lane.signal: lane for lane in self.lanes if lane.own}

    def _fails(self, names: Sequence[str]) -> bool:
        lanes = self._own()
        return any(name in lanes and not self.shipping.well(lanes[name]) for name in names)

    def _reached(self, name: str, end: Position) -> bool:
        lane = self._own().get(name)
        if lane is None:
            return False
        place = lane.position
        if (place.seq, place.offset) >= (end.seq, end.offset):
            return True
        # A segment that holds nothing yet: all before it counts.
        return self._log is not None and not end.offset and not self._more(lane)

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
        self._unclaim()

    def balance(self, acked: int) -> ledger.BackendBalance:
        """What became of this process's own records."""
        row = ledger.BackendBalance(acked=acked, state=self.state)
        row.dropped.update(self.dropped)
        own = {id(lane.cursor): lane.cursor for lane in self.lanes if lane.own}
        for cursor in own.values():
            row.shipped += cursor.shipped
            row.dropped.update(dict(cursor.dropped))  # which may grow meanwhile
        return row

    def once(self, deadline: float) -> None:
        """Ship, in this thread, what is owed of processes that are gone; trouble ends it."""
        assert self.home is not None
        self.shipping.sender = self.plan.connect()
        token = otel_context.attach(otel_context.set_value(_SUPPRESS, True))
        try:
            register(self.home, self.name, self.clock.time_ns())
            if self.plan.start == "oldest":
                owe_all(self.home, self.name, self.plan.signals)
            while self.clock.monotonic() < deadline and self._work() and not self.troubled:
                pass
            self._release()
        except OSError as error:
            self.shipping.state = "retrying"
            self.shipping.error, self.shipping.message = type(error).__qualname__, str(error)
        finally:
            otel_context.detach(token)
            self.shipping.sender.close()
            self._unclaim()

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
                self._let_go()
                return
            self._note()
            self._urgent.wait(1.0)  # news alone make no second try worth while
        while True:
            # Also the first batch gathers: a process that lives shorter leaves nothing half sent.
            self._wait()
            self.fresh.silence()
            worked = True
            while worked:
                worked = False
                with safety.guarded("export"):
                    worked = self._work() and self._behind()
                self._note()
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
        if self.shipping.stopping is not None or self.orphans:
            return True
        for lane in self.lanes:
            if lane.parts or not lane.own:
                return True
            if self._taken(lane.signal) - self.shipping.settled_own[lane.signal] >= self.records:
                return True
        return False

    def _ending(self) -> bool:
        if self.shipping.stopping is None:
            return False
        if self.clock.monotonic() < self.shipping.stopping and any(
            self.shipping.well(lane) and (lane.parts or self._more(lane))
            for lane in self.lanes
            if lane.own
        ):
            return False
        self._let_go()
        return True

    def _let_go(self) -> None:
        if self.shipping.sender is not None:
            self.shipping.sender.close()
        self._unclaim()

    def _more(self, lane: Lane) -> bool:
        """Whether a lane has something behind its cursor; what cannot be read may be more."""
        try:
            return lane.source.read(lane.position, 1) is not None
        except OSError as error:
            safety.tell("export", error)
            return True

    def _note(self, since_ns: int | None = None) -> None:
        """Note that what is new now came since then, or since we looked last."""
        now = self.clock.time_ns()
        since = since_ns or self._looked_ns or now
        for signal, marks in self._marks.items():
            marks.add(self._taken(signal), since, self.shipping.settled_own[signal])
        self._looked_ns = now

    def _wait(self) -> None:
        now = self.clock.monotonic()
        times = [self._adopted_at + _ADOPT] if self.home is not None else [now + 60.0]
        times += [lane.retry_at for lane in self.lanes if lane.retry_at > now]
        self._note()
        if self.fresh.wait(max(0.0, min(times) - now)) and self.shipping.stopping is None:
            self._note(self.clock.time_ns())  # it is the first of them that woke us
            self._urgent.wait(self.delay)
            self._urgent.silence()
            self._note()

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
            if not self._claim(log.home, instance):
                return False
            register(log.home, self.name, self.clock.time_ns())
            cursor = Cursor.load(log.home, self.name, instance)
            cursor.sync = self.sync
            cursor.signals = self.plan.signals
            cursor.save(log.home)
            if self.plan.start == "oldest":
                owe_all(log.home, self.name, self.plan.signals)
        except OSError as error:
            safety.tell("export", error)
            return False
        for signal in self.plan.signals:
            self.lanes.append(self._lane(signal, Own(log, signal), cursor, own=True))
        return True

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

    # -- logs whose writer is gone ----------------------------------------------------------------

    def _adopt(self) -> None:
        """Look for orphans that are owed to this backend, and take a few that nobody ships."""
        orphans = self.orphans
        now = self.clock.monotonic()
        if orphans is None or self.shipping.stopping is not None:
            return
        if now - self._adopted_at >= _ADOPT:
            self._adopted_at = now
            try:
                register(orphans.home, self.name, self.clock.time_ns())
                self._release()
                orphans.look(self._claims.keys() | {self._instance})
                self._shed()
            except OSError as error:  # our own records go on
                safety.tell("export", error)
        if len(self._claims) <= _ADOPTED:
            for found in orphans.owing(self.shipping.refused):
                self._take_over(found)
                if len(self._claims) > _ADOPTED:
                    return

    @property
    def _instance(self) -> str:
        return self._log.instance[:8] if self._log is not None else ""

    def _take_over(self, found: Owing) -> None:
        """Take one orphan, unless somebody else has it."""
        home, instance = found.home, found.instance
        try:
            if not self._claim(home, instance):
                return
            cursor = found.cursor(self.name)  # it may have moved before the claim
            cursor.sync = self.sync
            cursor.signals = self.plan.signals
            lanes = [self._lane(k, one, cursor, own=False) for k, one in found.sources.items()]
        except OSError as error:
            safety.tell("export", error)
            self._unclaim(instance)
            found.put_off()
        else:
            self.lanes = [*self.lanes, *lanes]

    def _claim(self, home: Path, instance: str) -> bool:
        """Whether the right to ship a process is ours, from now on or already."""
        with self.taking:
            if instance in self._claims:
                return True
            claim = Claim.take(home, self.name, instance)
            if claim is not None:
                self._claims[instance] = claim
            return claim is not None

    def _unclaim(self, *instances: str) -> None:
        for instance in instances or tuple(self._claims):
            claim = self._claims.pop(instance, None)
            if claim is not None:
                claim.free()

    def _work(self) -> bool:
        """Take orphans, send one batch of each lane; True when there is more to do."""
        self._adopt()
        if self._pass():
            return True
        if not self.orphans or self.troubled:
            return False
        self._release()
        return len(self._claims) <= _ADOPTED

    def _release(self) -> None:
        """Give back the claims of orphans that are shipped, as far as the backend takes them."""
        refused = self.shipping.refused
        for instance in tuple(self._claims):
            lanes = [x for x in self.lanes if not x.own and x.cursor.instance == instance]
            served = [lane for lane in lanes if lane.signal not in refused]
            if lanes and not any(lane.parts or self._more(lane) for lane in served):
                self.lanes = [lane for lane in self.lanes if lane not in lanes]
                self._unclaim(instance)

    def _shed(self) -> None:
        """Give up the oldest segments of a backlog that is larger than its cap, and count them."""
        if self.home is None:
            return
        behind = [
            (segment.name.began_ns, segment.name.seq, unread, segment, lane)
            for lane in self.lanes
            for segment, unread in lane.source.behind(lane.position)
            if unread > 0
        ]
        total = sum(row[2] for row in behind)
        behind.sort(key=lambda row: row[:3])
        shed = False
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
            self.shipping.give_up(
                lane, count=count, after=Position(seq + 1, 0, 0), reason="backlog_cap"
            )
            total -= unread
            shed = True
        self.shipping.full = shed or (self.shipping.full and total > self.cap)

    # -- shipping ---------------------------------------------------------------------------------

    def _pass(self) -> bool:
        """One batch of each lane; True when anything moved."""
        moved = False
        for lane in tuple(self.lanes):
            if lane.own or self.shipping.stopping is None:
                moved |= self.shipping.ready(lane) and self._step(lane)
        self.shipping.judge(self.lanes)
        return moved

    def _step(self, lane: Lane) -> bool:
        """Send the next of one lane; what goes wrong with it is no other's trouble."""
        try:
            return self.shipping.step(lane)
        except Exception as error:
            safety.tell("export", error)
            self.shipping.later(lane, Outcome("retry", error=type(error).__qualname__), _ADOPT)
            if safety.reraise() and not isinstance(error, OSError):
                raise
            return False


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
