"""Shipping: what happens to a batch on its way to a backend, for each answer that it may get.

A lane reads behind its cursor; a batch that is taken moves the cursor, one that is not is tried
again, halved, or set aside, and each record is counted once. Nothing is set aside on suspicion: a
record counts as poison when it fails, another passes, and it fails again. Which lanes there are,
and whose thread this runs in, is the backend's business.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import orjson

from otel_empathy.core import semconv
from otel_empathy.core.clock import Clock
from otel_empathy.core.errors import WrongType
from otel_empathy.emit import events, safety
from otel_empathy.pipeline import encode_json, segments
from otel_empathy.pipeline.chunk import SIGNALS, Chunk, Signal, split
from otel_empathy.pipeline.cursor import Cursor, Position, cursor_folder
from otel_empathy.pipeline.delta import Delta
from otel_empathy.pipeline.inside import Outside
from otel_empathy.pipeline.outcome import Outcome, printable
from otel_empathy.pipeline.source import Queue, Source

__all__ = ["Lane", "Plan", "Sender", "Shipping", "aside"]

_LOGGER = logging.getLogger("otel_empathy")
_PROBE = 60.0  # seconds after which a paused lane is tried again
_BASE, _CAP = 1.0, 30.0  # full jitter between tries
_POISON = 5  # tries after which a batch is suspected
# A server's own error may be the fault of what it was sent; others say that it is not to be had.
_BLAMING = frozenset({"500", "INTERNAL", "UNKNOWN", "DATA_LOSS"})
_WORST_FIRST = ("full", "paused", "retrying")
_TELL = 60.0  # seconds between two words about losses of one kind


class Sender(Protocol):
    """What a backend sends through."""

    def send(self, signal: Signal, chunks: Sequence[Chunk], deadline: float) -> Outcome:
        """Send one batch, by the deadline on the monotonic clock."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a backend is served.

    Args:
        name: Its name, by which it is addressed, counted and remembered.
        connect: Makes the sender, in the worker's thread.
        signals: What it takes.
        start: `now`, or `oldest` to be sent what the home already holds.
        delta: Whether it wants metrics as differences.
        timeout: Seconds for one request.
        component: What the conventions call an exporter of its kind.
    """

    name: str
    connect: Callable[[], Sender]
    signals: tuple[str, ...] = ("traces", "metrics", "logs")
    start: str = "now"
    delta: bool = False
    timeout: float = 10.0
    component: str = "custom_exporter"


@dataclass(slots=True, eq=False)
class Lane:
    """One signal of one process on its way to one backend."""

    signal: str
    source: Source
    cursor: Cursor
    own: bool
    parts: list[list[Chunk]] = field(default_factory=list)
    after: Position | None = None
    shipped: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    repeated: int = 0
    attempts: int = 0
    retry_at: float = 0.0
    state: str = "healthy"
    bisect: bool = False
    blamed: int = -1  # what the backend had taken of the signal when the first part last failed
    began: float = 0.0
    trouble: str | None = None  # what went wrong with the batch in flight, if anything did
    delta: Delta | None = None

    @property
    def position(self) -> Position:
        """Where the cursor stands."""
        return self.cursor.positions[self.signal]


class Shipping:
    """How one backend is getting on: what it took, what it refused, when it may be asked again.

    Args:
        plan: What it is.
        home: The home whose log is shipped; None when there is no log.
        records: Records per request.
        clock: Time.
        jitter: A random share between 0 and 1.
        measure: Told how long each export took, and what was wrong with it.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        home: Path | None,
        records: int,
        clock: Clock,
        jitter: Callable[[], float],
        measure: Callable[[Plan, float, str | None], None] | None,
    ) -> None:
        self.plan = plan
        self.home = home
        self.records = records
        self.clock = clock
        self.jitter = jitter
        self.sender: Sender | None = None
        self.stopping: float | None = None  # the deadline, once the end has been asked for
        self.quiet_until = 0.0
        self.unserved: dict[str, float] = {}  # signals that it does not take, until when
        self.full = False  # whether records were given up because too many waited
        self.state = "healthy"
        self.error: str | None = None
        self.message: str | None = None
        self.retries: Counter[str] = Counter()
        self.exported: Counter[tuple[str, str]] = Counter()  # (signal, reason or "")
        self.settled_own: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()  # lines that could not be read, by reason
        self._passed: Counter[str] = Counter()  # requests that were taken, by signal
        self._lost: Counter[str] = Counter()  # records given up and not told yet, by reason
        self._told: dict[str, float] = {}
        self._measure = measure

    def ready(self, lane: Lane) -> bool:
        """Whether a lane may be tried now."""
        now = self.clock.monotonic()
        return max(lane.retry_at, self.quiet_until, self.unserved.get(lane.signal, 0.0)) <= now

    @property
    def refused(self) -> set[str]:
        """Signals that the backend does not serve, as far as is known at present."""
        now = self.clock.monotonic()
        return {signal for signal, until in self.unserved.items() if until > now}

    def well(self, lane: Lane) -> bool:
        """Whether a lane may be tried now and nothing speaks against its success."""
        return lane.state == "healthy" and self.ready(lane)

    def step(self, lane: Lane) -> bool:
        """Send the next part of a lane; True when anything moved."""
        if not lane.parts and not self._load(lane):
            return False
        if not lane.parts:
            self._commit(lane)
            return True
        part = lane.parts[0]
        outcome = self._send(lane, part)
        lane.trouble = None if outcome.kind == "ok" else outcome.error
        if outcome.kind == "ok":
            self._delivered(lane, 0, outcome)
        elif outcome.kind == "retry" and not self._suspect(lane, part, outcome):
            return False
        elif outcome.kind == "pause":
            self.later(lane, outcome, 0.0)
            return False
        elif outcome.kind in {"split", "refuse"}:
            self._narrow(lane, part, outcome)
        if not lane.parts:
            self._commit(lane)
        return True

    def _load(self, lane: Lane) -> bool:
        batch = lane.source.read(lane.position, self.records)
        if batch is None:
            return False
        chunks = batch.chunks
        if lane.delta is not None and chunks:
            chunks = lane.delta.convert(chunks)
        lane.parts = list(self._portions(chunks))
        lane.after = batch.after
        lane.began, lane.trouble = self.clock.monotonic(), None
        lane.dropped.update(batch.lost)
        lane.skipped = batch.skipped
        lane.repeated = batch.repeated
        if lane.delta is not None:
            # Points that a difference cannot be made of are settled with their batch.
            lane.shipped += batch.count - sum(chunk.count for chunk in chunks)
        return True

    def _portions(self, chunks: list[Chunk]) -> Iterator[list[Chunk]]:
        """A batch in requests of the agreed size: one line of the log may hold more."""
        while sum(chunk.count for chunk in chunks) > self.records:
            portion, chunks = split(chunks, self.records)
            yield portion
        if chunks:
            yield chunks

    def _send(self, lane: Lane, part: list[Chunk]) -> Outcome:
        deadline = self.clock.monotonic() + self.plan.timeout
        if self.stopping is not None:
            deadline = min(deadline, self.stopping)
        assert self.sender is not None
        try:
            outcome = self.sender.send(SIGNALS[lane.signal], part, deadline)
            _check(outcome)
        except Exception as error:  # noqa: BLE001 - a sender of somebody else's may raise anything
            safety.tell("export", error)
            return Outcome("retry", error=type(error).__qualname__, message=printable(str(error)))
        return outcome

    def _delivered(self, lane: Lane, at: int, outcome: Outcome) -> None:
        count = _count(lane.parts.pop(at))
        rejected = min(max(0, outcome.rejected), count)
        lane.shipped += count - rejected
        if rejected:
            lane.dropped["rejected"] += rejected
            self.tell_lost("rejected", rejected, outcome.message)
        self._passed[lane.signal] += 1
        self.unserved.pop(lane.signal, None)
        if at == 0:
            lane.attempts = 0
            lane.retry_at = 0.0
            lane.state = "healthy"

    def _suspect(self, lane: Lane, part: list[Chunk], outcome: Outcome) -> bool:
        """Wait before the next try, unless the batch itself turns out to be the trouble.

        A batch that failed five times on a server's own error is suspected, and looked into unless
        the backend wants to be left alone.
        """
        lane.attempts += 1
        self.retries[outcome.error or "_OTHER"] += 1
        suspected = lane.bisect or lane.attempts >= _POISON
        if suspected and outcome.error in _BLAMING and outcome.retry_after is None:
            answer = self._blame(lane, part, outcome)
            if answer is None:
                return True
            if _asks_for_quiet(answer):
                outcome = answer
        delay = self.jitter() * min(_CAP, _BASE * 2.0 ** min(lane.attempts - 1, 10))
        self.later(lane, outcome, delay)
        return False

    def _blame(self, lane: Lane, part: list[Chunk], outcome: Outcome) -> Outcome | None:
        """Find out whether the batch or the backend is at fault; None when the batch was narrowed.

        A half that passes leaves the other under suspicion. A single record is set aside when the
        backend took something else since it last failed, alone or with others; when nothing else
        passes, the backend is down and the answer says how to wait.
        """
        before, lane.blamed = lane.blamed, self._passed[lane.signal]
        if _count(part) > 1:
            lane.parts[0:1] = list(split(part, _count(part) // 2))
            answer = None if lane.bisect else self._any_passes(lane, range(2))
            if answer is None:
                lane.bisect = True
            else:
                lane.parts[0:2] = [part]
            return answer
        if 0 <= before < lane.blamed:
            self._narrow(lane, part, outcome)
            return None
        return self._any_passes(lane, range(1, len(lane.parts)))

    def _any_passes(self, lane: Lane, places: range) -> Outcome | None:
        """Send parts until one is taken, which is settled then; else say how to wait.

        Where none is, one record behind the batch in hand shows whether the backend takes any.
        """
        for at in places:
            answer = self._send(lane, lane.parts[at])
            if answer.kind == "ok":
                self._delivered(lane, at, answer)
                return None
            if _asks_for_quiet(answer):
                return answer
        answer = Outcome("retry")
        if lane.after is not None and lane.delta is None and not isinstance(lane.source, Queue):
            batch = lane.source.read(lane.after, 1)
            if batch is not None and batch.chunks:
                answer = self._send(lane, batch.chunks)
        if answer.kind != "ok":
            return answer
        self._passed[lane.signal] += 1
        return None

    def _narrow(self, lane: Lane, part: list[Chunk], outcome: Outcome) -> None:
        """Halve a batch that was not taken; a single record that was not taken is set aside."""
        lane.retry_at = 0.0
        count = _count(part)
        if count > 1:
            lane.parts[0:1] = list(split(part, count // 2))
            return
        lane.blamed = -1
        reason = {"split": "too_large", "refuse": "rejected"}.get(outcome.kind, "poison")
        if outcome.error == "encode_error":
            reason = outcome.error
        self._set_aside(lane, part)
        lane.parts.pop(0)
        lane.dropped[reason] += count
        lane.attempts = 0
        self.tell_lost(reason, count, f"{outcome.error} {outcome.message or ''}")

    def _set_aside(self, lane: Lane, part: list[Chunk]) -> None:
        """Keep what a backend will not take, where a person can look at it."""
        if self.home is None:
            return
        where = cursor_folder(self.home, self.plan.name) / "aside"
        with safety.guarded("export"):
            segments.make_folder(where)
            path = where / f"{lane.signal}-{lane.cursor.instance}.jsonl"
            line = encode_json.request(SIGNALS[lane.signal], part)
            flags = os.O_CREAT | os.O_APPEND | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
            fd = os.open(path, flags, 0o600)
            try:
                size = os.fstat(fd).st_size
                torn = size and os.pread(fd, 1, size - 1) != b"\n"
                os.write(fd, b"%b%b\n" % (b"\n" if torn else b"", line))
            finally:
                os.close(fd)

    def give_up(self, lane: Lane, *, count: int, after: Position, reason: str) -> None:
        """Pass over records in the log that will not be sent, and count those not settled yet."""
        lost = count - lane.shipped - lane.dropped.total()
        lane.dropped[reason] += lost
        lane.parts, lane.attempts = [], 0
        lane.began = 0.0  # no export has ended
        lane.after = after
        self._commit(lane)
        self.tell_lost(reason, lost, "more waited than may")

    def tell_lost(self, reason: str, count: int, why: str | None) -> None:
        """Say in our own log what was lost, at most once a minute for each reason."""
        self._lost[reason] += count
        now = self.clock.monotonic()
        if now - self._told.get(reason, float("-inf")) < _TELL:
            return
        self._told[reason] = now
        _LOGGER.warning(
            "backend %s lost %d record(s), reason %s: %s",
            self.plan.name, self._lost.pop(reason), reason, why or "",
        )  # fmt: skip

    def _commit(self, lane: Lane) -> None:
        """Move the cursor behind a batch that is settled."""
        if self._measure is not None and lane.began:
            with safety.guarded("export"):
                self._measure(self.plan, self.clock.monotonic() - lane.began, lane.trouble)
        cursor = lane.cursor
        if lane.after is not None:
            cursor.positions[lane.signal] = lane.after
        if lane.repeated:
            cursor.take_back(lane.repeated)
        cursor.shipped += lane.shipped
        cursor.dropped.update(lane.dropped)
        self.exported[lane.signal, ""] += lane.shipped
        for reason, count in lane.dropped.items():
            self.exported[lane.signal, reason] += count
        if lane.own:
            settled = lane.shipped + lane.dropped.total() - lane.repeated
            self.settled_own[lane.signal] += settled
        self.skipped.update(lane.skipped)
        lane.skipped = Counter()
        lane.shipped, lane.repeated, lane.after = 0, 0, None
        lane.bisect, lane.blamed = False, -1
        lane.dropped = Counter()
        cursor.state = self.state
        if self.home is not None:
            try:
                cursor.save(self.home)
            except OSError as error:  # the worst that follows is that the batch is sent again
                safety.tell("export", error)

    # -- state ------------------------------------------------------------------------------------

    def later(self, lane: Lane, outcome: Outcome, delay: float) -> None:
        """Leave a lane alone for a while, and the others too where the answer asks for that."""
        lane.state = "paused" if outcome.kind == "pause" else "retrying"
        if outcome.kind == "pause":
            delay = _PROBE * (0.5 + self.jitter() / 2)
        elif outcome.retry_after is not None:
            delay = max(delay, outcome.retry_after)
        lane.retry_at = self.clock.monotonic() + delay
        if outcome.kind == "pause" and outcome.signal_only:
            self.unserved[lane.signal] = lane.retry_at
        elif outcome.kind == "pause" or outcome.retry_after is not None:
            self.quiet_until = lane.retry_at  # the answer holds for the whole backend
        self.error, self.message = outcome.error, outcome.message

    def judge(self, lanes: Iterable[Lane]) -> None:
        """Say what state the backend is in, by the worst of its lanes."""
        lanes = list(lanes)
        states = {lane.state for lane in lanes}
        if self.full:
            states.add("full")
        if self.unserved:
            states.add("paused")  # also when the lane that was told so has been given back
        state = next((one for one in _WORST_FIRST if one in states), "healthy")
        if state == "healthy":
            self.error = self.message = None
        if state != self.state:
            self.say(state, self.error, self.message)
            if self.home is not None:
                for cursor in {id(x.cursor): x.cursor for x in lanes}.values():
                    cursor.state = state
                    with safety.guarded("export"):
                        cursor.save(self.home)

    def say(self, state: str, reason: str | None, message: str | None) -> None:
        """Tell once that the state changed: in our own log, and as an event."""
        before, self.state = self.state, state
        if before == state:
            return
        worse = state != "healthy"
        level = logging.WARNING if worse else logging.INFO
        _LOGGER.log(
            level, "backend %s is %s (was %s): %s %s",
            self.plan.name, state, before, reason or "", message or "",
        )  # fmt: skip
        attributes: dict[str, Any] = {
            semconv.BACKEND_NAME: self.plan.name,
            semconv.BACKEND_STATE: state,
            semconv.BACKEND_PREVIOUS_STATE: before,
        }
        if worse and reason:
            attributes[semconv.BACKEND_REASON] = reason
        severity = {"healthy": 9, "retrying": 13}.get(state, 17)
        with Outside():
            events.emit(semconv.EVENT_BACKEND_CHANGED, severity, attributes)


def _count(part: list[Chunk]) -> int:
    return sum(chunk.count for chunk in part)


def _check(answer: object) -> None:
    if not isinstance(answer, Outcome):
        raise WrongType(f"send() returned {answer!r}: must be an Outcome")


def _asks_for_quiet(answer: Outcome) -> bool:
    return answer.kind == "pause" or answer.retry_after is not None


def aside(home: Path, backend: str) -> list[dict[str, Any]]:
    """What a backend refused for good, as it was set aside."""
    found = []
    for path in sorted((cursor_folder(home, backend) / "aside").glob("*.jsonl")):
        for line in path.read_bytes().splitlines():
            with contextlib.suppress(ValueError):  # torn by the end of the process or of the room
                found.append(orjson.loads(line))
    return found
