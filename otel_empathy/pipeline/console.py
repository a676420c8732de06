"""The console as a backend: one line for people per span, log record and metric.

It writes to standard error, because standard output belongs to the program. It reads the same
chunks as every other backend and needs no encoder.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from typing import Any, Final, TextIO

from otel_empathy.core import semconv
from otel_empathy.pipeline.chunk import Chunk, Signal, records
from otel_empathy.pipeline.otlp import Console
from otel_empathy.pipeline.outcome import Outcome, printable

__all__ = ["ConsoleTransport"]

_ERROR_STATUS: Final = 2
_ERROR_SEVERITY: Final = 17
_DATA: Final = ("gauge", "sum", "histogram", "exponentialHistogram", "summary")


class ConsoleTransport:
    """Prints what it is sent.

    Args:
        console: What to leave out.
        stream: Where to print; by default what is standard error at that moment.
    """

    def __init__(self, console: Console, *, stream: TextIO | None = None) -> None:
        self._console = console
        self._stream = stream

    def send(self, signal: Signal, chunks: Sequence[Chunk], deadline: float) -> Outcome:  # noqa: ARG002
        """Prints one batch; a stream that cannot be written to is given up for it."""
        try:
            lines = [
                line
                for chunk in chunks
                for record in records(chunk)
                if self._console.self_health or not _is_self_health(signal, record)
                for line in _LINES[signal.name](record, errors_only=self._console.errors_only)
            ]
        except (ValueError, TypeError, AttributeError, OverflowError) as error:
            return Outcome("refuse", error="encode_error", message=printable(repr(error)))
        stream = self._stream or sys.stderr
        try:
            if lines and stream is not None:
                stream.write("".join(f"{line}\n" for line in lines))
                stream.flush()
        except (OSError, ValueError) as error:
            return Outcome("pause", error="console", message=printable(str(error)))
        return Outcome("ok")

    def close(self) -> None:
        """Has nothing to give back: the stream is the program's."""


def _span(span: dict[str, Any], *, errors_only: bool) -> Iterator[str]:
    status = span.get("status", {})
    failed = status.get("code") == _ERROR_STATUS
    if failed or not errors_only:
        start, end = int(span.get("startTimeUnixNano", 0)), int(span.get("endTimeUnixNano", 0))
        verdict = f"ERROR {status.get('message', '')}" if failed else "ok"
        yield _line(end, "span", span.get("name"), f"{(end - start) / 1e9:.3f} s", verdict)


def _log(record: dict[str, Any], *, errors_only: bool) -> Iterator[str]:
    severity = int(record.get("severityNumber", 0))
    if severity >= _ERROR_SEVERITY or not errors_only:
        moment = int(record.get("timeUnixNano") or record.get("observedTimeUnixNano") or 0)
        body = record.get("body", {}).get("stringValue")
        yield _line(moment, "log", record.get("severityText"), record.get("eventName"), body)


def _metric(metric: dict[str, Any], *, errors_only: bool) -> Iterator[str]:
    if not errors_only:
        points = [point for kind in _DATA for point in metric.get(kind, {}).get("dataPoints", ())]
        moment = max((int(point.get("timeUnixNano", 0)) for point in points), default=0)
        yield _line(moment, "metric", metric.get("name"), f"{len(points)} points")


def _is_self_health(signal: Signal, record: dict[str, Any]) -> bool:
    """Whether it is a metric in which we tell of ourselves."""
    name = record.get("name")
    return (
        signal.name == "metrics" and isinstance(name, str) and name.startswith(semconv.SELF_HEALTH)
    )


_LINES: Final = {"traces": _span, "logs": _log, "metrics": _metric}


def _line(moment: int, *words: str | None) -> str:
    when = datetime.fromtimestamp(moment // 10**9, tz=timezone.utc)
    # Names and messages are foreign text, which must not steer the terminal.
    return " ".join((f"{when:%H:%M:%S}Z", *(printable(word) or "" for word in words if word)))
