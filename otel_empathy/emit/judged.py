"""Which run an id names: its span and what it inherited, for what is said about it from elsewhere.

Running runs are known as long as they run, finished ones until 1,000 others have finished. Of a
finished one only the ids of its span and the names around it are kept, never its span. There is no
lock: each step on the tables is atomic, so threads share them and a fork cannot leave one held.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from opentelemetry import baggage
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, get_current_span, set_span_in_context

from otel_empathy.emit.context import SCOPE_KEY, scope_of

__all__ = ["closed", "context_of", "opened"]

_MOST: Final = 1_000
_running: Final[dict[str, Context]] = {}
_finished: Final[dict[str, Context]] = {}
_order: Final[deque[str]] = deque()


def opened(run_id: str | None, context: Context) -> None:
    """Know a run from now on by the context of its code."""
    if run_id is not None:
        _running[run_id] = context


def closed(run_id: str | None) -> None:
    """Remember a run that has ended, and forget the one that ended first if there are many."""
    context = None if run_id is None else _running.pop(run_id, None)
    if run_id is None or context is None:
        return
    _finished[run_id] = _remembered(context)
    _order.append(run_id)
    while len(_order) > _MOST:
        try:
            oldest = _order.popleft()
        except IndexError:  # another thread was faster
            break
        _finished.pop(oldest, None)


def context_of(run_id: str) -> Context | None:
    """Where a run is or was; None of one that is unknown here."""
    running = _running.get(run_id)
    return _finished.get(run_id) if running is None else running


def _remembered(context: Context) -> Context:
    scope = scope_of(context).with_(run=None, phase=None)
    span = NonRecordingSpan(get_current_span(context).get_span_context())
    kept = set_span_in_context(span, Context({SCOPE_KEY: scope}))
    for key, value in baggage.get_all(context).items():
        kept = baggage.set_baggage(key, value, kept)
    return kept
