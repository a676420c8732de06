"""Shipping: what happens to a batch on its way to a backend, for each answer that it may get.

A lane reads behind its cursor; a batch that is taken moves the cursor, one that is not is tried
again, halved, or set aside, and each record is counted once. Which lanes there are, and whose
thread this runs in, is the backend's business.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import orjson

from otel_empathy.core import semconv
from otel_empathy.core.clock import Clock
from otel_empathy.emit import events, safety
from otel_empathy.pipeline import encode_json, segments
from otel_empathy.pipeline.chunk import SIGNALS, Chunk, Signal, split
from otel_empathy.pipeline.cursor import Cursor, Position, cursor_folder
from otel_empathy.pipeline.delta import Delta
from otel_empathy.pipeline.inside import Outside
from otel_empathy.pipeline.outcome import Outcome
from otel_empathy.pipeline.source import Queue, Source

__all__ = ["Lane", "Plan", "Sender", "Shipping", "aside"]

_LOGGER = logging.getLogger("otel_empathy")
_PROBE = 60.0  # seconds after which a paused lane is tried again
_BASE, _CAP = 1.0, 30.0  # full jitter between tries
_POISON = 5  # tries after which a batch is suspected


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
    attempts: int = 0
    retry_at: float = 0.0
    state: str = "healthy"
    bisect: bool = False
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
        self.state = "healthy"
        self.error: str | None = None
        self.message: str | None = None
        self.retries: Counter[str] = Counter()
        self.exported: Counter[tuple[str, str]] = Counter()  # (signal, reason or "")
        self.settled_own: Counter[str] = Counter()
        self._measure = measure

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
        count = sum(chunk.count for chunk in part)
        if outcome.kind == "ok":
            self._delivered(lane, count, outcome)
        elif outcome.kind == "retry" and not self._suspect(lane, part, outcome):
            return False
        elif outcome.kind == "pause":
            self._later(lane, outcome, "paused", _PROBE * (0.5 + self.jitter() / 2))
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
            return self.sender.send(SIGNALS[lane.signal], part, deadline)
        except Exception as error:  # noqa: BLE001 - a sender of somebody else's may raise anything
            safety.tell("export", error)
            return Outcome("retry", error=type(error).__qualname__, message=str(error)[:200])

    def _delivered(self, lane: Lane, count: int, outcome: Outcome) -> None:
        lane.parts.pop(0)
        lane.shipped += count - outcome.rejected
        if outcome.rejected:
            lane.dropped["rejected"] += outcome.rejected
            self.say(self.state, "rejected", outcome.message)
        lane.attempts = 0
        lane.retry_at = 0.0
        lane.state = "healthy"

    def _suspect(self, lane: Lane, part: list[Chunk], outcome: Outcome) -> bool:
        """Wait before the next try, unless the batch itself turns out to be the trouble.

        A batch that failed five times on a server's own error is suspected. One other record is
        tried: when that passes, the backend works and the batch holds poison, which halving finds.
        """
        lane.attempts += 1
        self.retries[outcome.error or "_OTHER"] += 1
        blames = outcome.error in {"500", "INTERNAL", "UNKNOWN", "DATA_LOSS"}
        if blames and lane.bisect:
            self._narrow(lane, part, outcome)
            return True
        if blames and lane.attempts >= _POISON and self._others_pass(lane, part):
            lane.bisect = True
            self._narrow(lane, part, outcome)
            return True
        delay = self.jitter() * min(_CAP, _BASE * 2.0 ** min(lane.attempts - 1, 10))
        if outcome.retry_after is not None:
            delay = max(delay, outcome.retry_after)
        self._later(lane, outcome, "retrying", delay)
        return False

    def _others_pass(self, lane: Lane, part: list[Chunk]) -> bool:
        """Whether the backend takes a record other than the suspected ones."""
        if sum(chunk.count for chunk in part) > 1:
            count = sum(chunk.count for chunk in part)
            probes = list(split(part, count // 2))
        elif lane.after is not None and not isinstance(lane.source, Queue):
            batch = lane.source.read(lane.after, 1)
            if batch is None or not batch.chunks:
                return False
            probes = [batch.chunks]
        else:
            return False
        return any(self._send(lane, probe).kind == "ok" for probe in probes)

    def _narrow(self, lane: Lane, part: list[Chunk], outcome: Outcome) -> None:
        """Halve a batch that was not taken; a single record that was not taken is set aside."""
        lane.retry_at = 0.0
        count = sum(chunk.count for chunk in part)
        if count > 1:
            lane.parts[0:1] = list(split(part, count // 2))
            return
        reason = {"split": "too_large", "refuse": "rejected"}.get(outcome.kind, "poison")
        self._set_aside(lane, part, outcome)
        lane.parts.pop(0)
        lane.dropped[reason] += count
        lane.attempts = 0

    def _set_aside(self, lane: Lane, part: list[Chunk], outcome: Outcome) -> None:
        """Keep what a backend will not take, where a person can look at it."""
        _LOGGER.warning(
            "backend %s refused %d record(s) for good: %s %s",
            self.plan.name, sum(c.count for c in part), outcome.error, outcome.message or "",
        )  # fmt: skip
        if self.home is None:
            return
        where = cursor_folder(self.home, self.plan.name) / "aside"
        with safety.guarded("export"):
            segments.make_folder(where)
            path = where / f"{lane.signal}-{lane.cursor.instance}.jsonl"
            line = encode_json.request(SIGNALS[lane.signal], part)
            with path.open("ab") as file:
                path.chmod(0o600)
                file.write(line + b"\n")

    def _commit(self, lane: Lane) -> None:
        """Move the cursor behind a batch that is settled."""
        if self._measure is not None and lane.began:
            with safety.guarded("export"):
                self._measure(self.plan, self.clock.monotonic() - lane.began, lane.trouble)
        cursor = lane.cursor
        if lane.after is not None:
            cursor.positions[lane.signal] = lane.after
        cursor.shipped += lane.shipped
        cursor.dropped.update(lane.dropped)
        self.exported[lane.signal, ""] += lane.shipped
        for reason, count in lane.dropped.items():
            self.exported[lane.signal, reason] += count
        if lane.own:
            self.settled_own[lane.signal] += lane.shipped + lane.dropped.total()
        cursor.repeats += lane.source.repeats
        lane.source.repeats = 0
        lane.shipped, lane.after, lane.bisect = 0, None, False
        lane.dropped = Counter()
        cursor.state = self.state
        if self.home is not None:
            try:
                cursor.save(self.home)
            except OSError as error:  # the worst that follows is that the batch is sent again
                safety.tell("export", error)

    # -- state ------------------------------------------------------------------------------------

    def _later(self, lane: Lane, outcome: Outcome, state: str, delay: float) -> None:
        lane.state = state
        lane.retry_at = self.clock.monotonic() + delay
        if outcome.retry_after is not None or (state == "paused" and not outcome.signal_only):
            self.quiet_until = lane.retry_at  # the answer holds for the whole backend
        self.error, self.message = outcome.error, outcome.message

    def judge(self, lanes: Iterable[Lane]) -> None:
        """Say what state the backend is in, by the worst of its lanes."""
        lanes = list(lanes)
        states = {lane.state for lane in lanes}
        state = (
            "paused" if "paused" in states else "retrying" if "retrying" in states else "healthy"
        )
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


def aside(home: Path, backend: str) -> list[dict[str, Any]]:
    """What a backend refused for good, as it was set aside."""
    found = []
    for path in sorted((cursor_folder(home, backend) / "aside").glob("*.jsonl")):
        found += [orjson.loads(line) for line in path.read_bytes().splitlines()]
    return found
