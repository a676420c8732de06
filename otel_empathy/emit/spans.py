"""Opening and closing of our spans: one start, one end, one true duration.

Every operation that we observe is an `Operation`. What differs between a call, a run, a phase, a
workflow and a tool stands in the modules named after them; when a function begins and ends is the
business of `sources.wrap`.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from otel_empathy.core import semconv
from otel_empathy.core.outcomes import OTHER, Outcome, error_type, outcome_of, qualified_name
from otel_empathy.emit.collector import collecting
from otel_empathy.emit.live import live
from otel_empathy.emit.safety import count, guarded
from otel_empathy.emit.values import truncations

__all__ = [
    "Held",
    "Operation",
    "Told",
    "kind_of",
    "reap",
    "record_error",
    "told_of",
]

_EXCEPTION: Final = "exception"
_MESSAGE: Final = 8_192
_GUARD: Final = guarded("wrap")

# A stream that nobody holds any more may be found by the garbage collector. Ending a span there
# could wait for a lock that this very thread holds. So the end is only noted, and done at the next
# beginning of an operation or by `reap()`.
_orphans: Final[deque[tuple[Operation, Outcome, float]]] = deque()


def reap() -> int:
    """End the spans of streams that the garbage collector found; gives their number."""
    number = 0
    while _orphans and not collecting():
        try:
            operation, outcome, elapsed = _orphans.popleft()
        except IndexError:  # another thread was faster
            break
        with _GUARD:
            operation.close(outcome, None, elapsed)
        number += 1
    return number


class Operation(ABC):
    """Something that begins, goes on for a while, and ends once."""

    __slots__ = ("_started", "context", "ended", "limit", "span", "start_ns")

    streams = False
    """Whether the chunks of a stream are of interest."""

    context: Context
    """Where the code of the operation runs."""

    span: Span | None
    """The span, where there is one."""

    def __init__(self) -> None:
        if _orphans:
            reap()
        self.span = None
        self.ended = False
        self.limit: float | None = None
        clock = live.clock
        self.start_ns = clock.time_ns()
        self._started = clock.monotonic()

    def open(
        self, name: str, kind: SpanKind, attributes: Mapping[str, Any], parent: Context
    ) -> Span:
        """Start the span, at the moment when the operation began."""
        self.span = span = live.tracer.start_span(
            name,
            context=parent,
            kind=kind,
            attributes=attributes,
            start_time=self.start_ns,
            record_exception=False,
            set_status_on_exception=False,
        )
        return span

    def stream(self) -> None:  # noqa: B027 - most operations have no chunks
        """Learn that the result comes in chunks."""

    def chunk(self, value: Any) -> None:  # noqa: B027 - most operations have no chunks
        """Take note of a chunk of a stream."""

    def finish(self, result: Any = None) -> None:  # noqa: ARG002 - for those who read results
        """End well."""
        self.end(Outcome.OK)

    def fail(self, error: BaseException) -> None:
        """End with what was raised."""
        self.end(outcome_of(error), error)

    def exhaust(self) -> None:
        """End a stream that has delivered everything."""
        self.end(Outcome.OK)

    def abandon(self) -> None:
        """End a stream that its reader closed or dropped."""
        self.end(Outcome.ABANDONED)

    def end(self, outcome: Outcome, error: BaseException | None = None) -> None:
        """End once; what comes second is too late."""
        if self.ended:
            return
        self.ended = True
        elapsed = live.clock.monotonic() - self._started
        if collecting():
            _orphans.append((self, outcome, elapsed))
            return
        with _GUARD:
            self.close(outcome, error, elapsed)

    @abstractmethod
    def close(self, outcome: Outcome, error: BaseException | None, elapsed: float) -> None:
        """Write down how it went, then `stop`; `end` takes care that this happens once."""

    def stop(self, elapsed: float) -> None:
        """End the span: its length is the measured duration, whatever the wall clock did."""
        if self.span is not None:
            self.span.end(self.start_ns + round(elapsed * 1e9))

    def time_at(self, elapsed: float) -> int:
        """The wall clock time, a duration after the start."""
        return self.start_ns + round(elapsed * 1e9)


class Held:
    """Ends a stream's operation when the last reference to the stream is gone.

    It lives in the stream and only points at the operation, never back: what the finaliser keeps
    for a moment is our record, not the object that somebody has thrown away.
    """

    __slots__ = ("operation",)

    def __init__(self, operation: Operation) -> None:
        self.operation = operation

    def __del__(self) -> None:
        operation = self.operation
        if not operation.ended and not sys.is_finalizing():
            operation.abandon()


def kind_of(error: BaseException | str) -> str:
    """The name of an error for records; a code that looks like a secret is no name."""
    kind = error_type(error)
    return kind if live.scrub(kind) == kind else OTHER


@dataclass(frozen=True, slots=True)
class Told:
    """What an exception says, without secrets and not longer than a value may be.

    Args:
        message: Its text, the beginning if it is long.
        stack: Where it came from, the end if it is long; None unless wanted.
        cut: Whether something is missing.
    """

    message: str
    stack: str | None
    cut: bool


def told_of(error: BaseException) -> Told:
    """What an exception says."""
    from otel_empathy.core.scrub import beginning, ending  # noqa: PLC0415 - only after failures

    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - the text of a foreign exception; its type still tells
        count("serialize", "exception_text")
        text = ""
    # One more than may stay tells whether something has to go.
    message = beginning(text, _MESSAGE + 1, live.scrub)
    cut = len(message) > _MESSAGE or len(text) > 2 * _MESSAGE
    stack: str | None = None
    if live.stacktraces:
        import traceback  # noqa: PLC0415 - only where it is wanted

        lines = "".join(traceback.format_exception(error))
        stack = ending(lines, _MESSAGE + 1, live.scrub)
        cut = cut or len(stack) > _MESSAGE or len(lines) > 2 * _MESSAGE
        stack = stack[-_MESSAGE:]
    if cut:
        truncations["value"] += 1
    return Told(message[:_MESSAGE], stack, cut)


def record_error(span: Span, error: BaseException, told: Told, time_ns: int) -> str:
    """Put an exception on a span: status, event; gives the value of `error.type`."""
    known = {
        semconv.EXCEPTION_TYPE: qualified_name(type(error)),
        semconv.EXCEPTION_MESSAGE: told.message,
    }
    if told.stack is not None:
        known[semconv.EXCEPTION_STACKTRACE] = told.stack
    span.add_event(_EXCEPTION, known, time_ns)
    span.set_status(Status(StatusCode.ERROR, told.message))
    if told.cut:
        span.set_attribute(semconv.TRUNCATED, True)
    return kind_of(error)
