"""The life of a tool's execution: its span, its duration, and its content where that is wanted.

Inside it the current call is that of the tool, never that of the model which asked for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry.context import Context
from opentelemetry.trace import SpanKind

from otel_empathy.core import semconv
from otel_empathy.core.call import Call
from otel_empathy.core.outcomes import Outcome
from otel_empathy.emit import content
from otel_empathy.emit.context import CALL_KEY, SPAN_KEY, inherited, scope_of, suppressed
from otel_empathy.emit.duplicates import CLEARED
from otel_empathy.emit.instruments import record
from otel_empathy.emit.live import live
from otel_empathy.emit.safety import count
from otel_empathy.emit.spans import Operation, record_error, told_of

__all__ = ["ToolSpan", "open_tool"]


def open_tool(
    name: str,
    parent: Context,
    *,
    description: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    call_id: str | None = None,
    kind: str = "function",
) -> ToolSpan | None:
    """Begin the execution of a tool; None where somebody asked for silence.

    Args:
        name: What the tool is called.
        parent: Where it is executed.
        description: What it does.
        arguments: With what, kept only where content capture is on.
        call_id: The id under which a model asked for it.
        kind: `function`, `extension` or `datastore`.
    """
    if suppressed(parent):
        return None
    known = {
        semconv.TOOL_NAME: name,
        semconv.TOOL_TYPE: kind,
        semconv.TOOL_DESCRIPTION: description,
        semconv.TOOL_CALL_ID: call_id,
    }
    known = {key: value for key, value in known.items() if value is not None}
    return ToolSpan(name, parent, known, arguments)


class ToolSpan(Operation):
    """One execution of a tool under way."""

    __slots__ = ("_content", "_labels", "call")

    def __init__(
        self,
        name: str,
        parent: Context,
        about: Mapping[str, Any],
        arguments: Mapping[str, Any] | None,
    ) -> None:
        super().__init__()
        scope = scope_of(parent)
        self._content: dict[str, content.Kept] = {}
        if arguments is not None:
            self._keep(semconv.TOOL_ARGUMENTS, arguments)
        known = {semconv.OPERATION: semconv.EXECUTE_TOOL, **about, **inherited(parent)}
        span = self.open(f"{semconv.EXECUTE_TOOL} {name}", SpanKind.INTERNAL, known, parent)
        call = self.call = Call(semconv.EXECUTE_TOOL, clock=live.clock)
        self.context = Context(parent, **CLEARED, **{CALL_KEY: call, SPAN_KEY: span})
        # The agent of this process, never one that came in with the baggage.
        self._labels: dict[str, Any] = {**about, semconv.AGENT_NAME: scope.agent}
        if scope.run is not None:
            scope.run.count_tool()

    def finish(self, result: Any = None) -> None:
        """End well, with what came out."""
        if content.in_spans() and not self.ended:
            self._keep(semconv.TOOL_RESULT, result)
        super().finish(result)

    def close(self, outcome: Outcome, error: BaseException | None, elapsed: float) -> None:
        """Write down how it went, and measure it."""
        span = self.span
        assert span is not None
        try:
            call = self.call
            call.close()
            for what in call.refused:
                count("extract", what)
            known: dict[str, Any] = {semconv.CALL_OUTCOME: outcome.value}
            if semconv.TOOL_CALL_ID in call.attributes:
                known[semconv.TOOL_CALL_ID] = call.attributes[semconv.TOOL_CALL_ID]
            if error is not None and outcome.is_failure:
                known[semconv.ERROR_TYPE] = record_error(
                    span, error, told_of(error), self.time_at(elapsed)
                )
            if self._content:
                content.put(span, known, self._content)
            else:
                span.set_attributes(known)
            record(semconv.TOOL_DURATION, elapsed, {**self._labels, **known}, self.context)
        finally:
            self.stop(elapsed)

    def _keep(self, key: str, value: Any) -> None:
        kept = content.take(key, value)
        if kept is not None:
            self._content[key] = kept
