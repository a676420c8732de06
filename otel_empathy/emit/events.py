"""Events: log records with a name, bound to the trace they belong to.

The only place that knows the logs API, which is still underscored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from opentelemetry._logs import SeverityNumber
from opentelemetry.context import Context, get_current

from otel_empathy.emit.context import inherited
from otel_empathy.emit.live import live
from otel_empathy.emit.safety import guarded

__all__ = ["CRITICAL", "DEBUG", "ERROR", "INFO", "WARN", "emit"]

DEBUG: Final = 5
INFO: Final = 9
WARN: Final = 13
ERROR: Final = 17
CRITICAL: Final = 18

_SEVERITY: Final = {member.value: member for member in SeverityNumber}
_TEXT: Final = {DEBUG: "DEBUG", INFO: "INFO", WARN: "WARN", ERROR: "ERROR", CRITICAL: "CRITICAL"}


@guarded("wrap")
def emit(
    name: str,
    severity: int,
    attributes: Mapping[str, Any],
    *,
    body: Any = None,
    context: Context | None = None,
) -> None:
    """Tell that something happened.

    Args:
        name: What happened.
        severity: One of the numbers above.
        attributes: What is known about it; run, session, user and the like are added here.
        body: What does not fit into attributes.
        context: Which span it belongs to; the current one by default.
    """
    logger = live.logger
    if not live.on or logger is None:
        return
    where = get_current() if context is None else context
    known = {**inherited(where), **{k: v for k, v in attributes.items() if v is not None}}
    now = live.clock.time_ns()
    logger.emit(
        timestamp=now,
        observed_timestamp=now,
        context=where,
        severity_number=_SEVERITY[severity],
        severity_text=_TEXT[severity],
        body=body,
        attributes=known,
        event_name=name,
    )
