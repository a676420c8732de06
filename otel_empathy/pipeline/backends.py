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
from otel_empathy.pipeline import ledger
from otel_empathy.pipeline.bell import Bell
from otel_empathy.pipeline.chunk import Chunk
from otel_empathy.pipeline.cursor import Position
from otel_empathy.pipeline.inside import Inside
from otel_empathy.pipeline.lanes import Lanes
from otel_empathy.pipeline.log import Log
from otel_empathy.pipeline.marks import Marks
from otel_empathy.pipeline.outcome import Outcome
from otel_empathy.pipeline.shipping import Lane, Plan, Shipping
from otel_empathy.pipeline.source import Queue

__all__ = ["Backend", "Shipment", "ship"]

_LOGGER = logging.getLogger("otel_empathy")
_SUPPRESS = "suppress_instrumentation"
_ADOPT = 5.0  # seconds between two looks for logs whose writer is gone


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
        self.buffer = buffer
        self.clock = clock
        self.shipping = Shipping(
            plan, home=home, records=records, clock=clock, jitter=jitter, measure=measure
        )
        self.fresh = Bell()
        self.lanes = Lanes(self.shipping, home=home, cap=cap, sync=sync, clock=clock)
        self.queues: dict[str, Queue] = {}
        self.dropped: Counter[str] = Counter()
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
        self.unfinished = False
        """Whether `once` ran out of time before it had sent all that it owed."""

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
        states = [lane.state for lane in self.lanes] or [self.state]
        return "retrying" in states or self.shipping.quiet_until > self.clock.monotonic()

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
        lanes = self.lanes.own
        known = {name for name, lane in lanes.items() if not self.shipping.well(lane)}
        if not lanes and self.troubled:
            return True
        while True:
            spared = known | self.shipping.refused
            left = [name for name in ends if name in self.plan.signals and name not in spared]
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

    def _fails(self, names: Sequence[str]) -> bool:
        lanes = self.lanes.own
        return any(name in lanes and not self.shipping.well(lanes[name]) for name in names)

    def _reached(self, name: str, end: Position) -> bool:
        lane = self.lanes.own.get(name)
        if lane is None:
            return False
        place = lane.position
        if (place.seq, place.offset) >= (end.seq, end.offset):
            return True
        # A segment that holds nothing yet: all before it counts.
        return self._log is not None and not end.offset and not self.lanes.more(lane)

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
        self.lanes.unclaim()

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
            self.lanes.register(self.home)
            more = True
            while more and self.clock.monotonic() < deadline and not self.troubled:
                more = self._work()
            self.lanes.release()
            self.unfinished = more
        except OSError as error:
            self.shipping.state = "retrying"
            self.shipping.error, self.shipping.message = type(error).__qualname__, str(error)
        finally:
            otel_context.detach(token)
            self._let_go()

    @property
    def inflight(self) -> Counter[str]:
        """Records in the batches that are on their way, by signal."""
        found: Counter[str] = Counter()
        for lane in self.lanes:
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
        if self.shipping.stopping is not None or self.lanes.orphans:
            return True
        for lane in self.lanes:
            if lane.parts or not lane.own:
                return True
            if self._taken(lane.signal) - self.shipping.settled_own[lane.signal] >= self.records:
                return True
        return False

    def _left(self) -> bool:
        """Whether the last batch ended before the news did, as at the end of a segment."""
        return any(
            self._taken(name) > self.shipping.settled_own[name]
            and self.shipping.well(lane)
            and self.lanes.more(lane)
            for name, lane in self.lanes.own.items()
        )

    def _ending(self) -> bool:
        if self.shipping.stopping is None:
            return False
        if self.clock.monotonic() < self.shipping.stopping and any(
            self.shipping.well(lane) and (lane.parts or self.lanes.more(lane))
            for lane in self.lanes.own.values()
        ):
            return False
        self._let_go()
        return True

    def _let_go(self) -> None:
        """Close the sender, which may be anybody's, and give the claims back whatever it does."""
        try:
            if self.shipping.sender is not None:
                with safety.guarded("export"):
                    self.shipping.sender.close()
        finally:
            self.lanes.unclaim()

    def _note(self, since_ns: int | None = None) -> None:
        """Note that what is new now came since then, or since we looked last."""
        now = self.clock.time_ns()
        since = since_ns or self._looked_ns or now
        for signal, marks in self._marks.items():
            marks.add(self._taken(signal), since, self.shipping.settled_own[signal])
        self._looked_ns = now

    def _wait(self) -> None:
        with safety.guarded("export"):
            if self._left():
                self.fresh.ring()
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
        if self._log is not None:
            return self.lanes.open_own(self._log)
        for signal in self.plan.signals:
            self.queues.setdefault(signal, Queue(signal, self.buffer // 3))
        self.lanes.open_memory(self.queues)
        return True

    # -- shipping ---------------------------------------------------------------------------------

    def _work(self) -> bool:
        """Take orphans, send one batch of each lane; True when there is more to do."""
        self._adopt()
        if self._pass():
            return True
        if not self.lanes.orphans or self.troubled:
            return False
        self.lanes.release()
        return not self.lanes.crowded

    def _adopt(self) -> None:
        """Look for orphans that are owed to this backend, and take a few that nobody ships."""
        if self.shipping.stopping is not None:
            return
        now = self.clock.monotonic()
        if now - self._adopted_at >= _ADOPT:
            self._adopted_at = now
            self.lanes.look_around()
        self.lanes.adopt()

    def _pass(self) -> bool:
        """One batch of each lane; True when anything moved."""
        moved = False
        for lane in self.lanes:
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
    unfinished: bool = False


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
                backend.unfinished,
            )
        )
    return done
