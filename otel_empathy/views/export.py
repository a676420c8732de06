"""Calls as CSV or flat JSON lines, and the log itself as one OTLP-JSON file.

Writes to a stream that it is given: which file that is, and whether it may be one, is decided
elsewhere. Flat files are made on request and are never read back as a source of truth.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator
from io import TextIOWrapper
from typing import Any, BinaryIO, Final

import orjson

from otel_empathy.core import semconv
from otel_empathy.store import wire
from otel_empathy.store.calls import Call
from otel_empathy.store.reader import Progress, Reader
from otel_empathy.store.window import Window

__all__ = [
    "COLUMNS",
    "FORMATS",
    "cell",
    "without_segment",
    "write_csv",
    "write_jsonl",
    "write_otlp",
]

FORMATS: Final = ("csv", "jsonl", "otlp")
COLUMNS: Final = (
    "ts", "workflow", "stage", "tier", "model", "provider", "cost", "tokens_input",
    "tokens_output", "cache_hit", "cache_type", "duration_ms",
)  # fmt: skip

_FORMULA: Final = re.compile("'*[=+\\-@\t\r]")
_KEY: Final = semconv.SEGMENT_ID.encode()
_ATTRIBUTE: Final = rb'\{"key":"' + re.escape(_KEY) + rb'","value":\{"stringValue":"[^"\\]*"\}\}'
_SEGMENT: Final = re.compile(rb"(?<=\[)" + _ATTRIBUTE + rb",?|," + _ATTRIBUTE)
_OUTER: Final = {
    "traces": "resourceSpans", "metrics": "resourceMetrics", "logs": "resourceLogs",
}  # fmt: skip


def cell(value: object) -> object:
    """A value as a CSV cell: text that a spreadsheet would take for a formula gets a quote.

    So does text that has such a quote already, so that taking one quote away always gives back what
    was recorded.
    """
    if isinstance(value, str) and _FORMULA.match(value):
        return f"'{value}"
    return "" if value is None else value


def write_csv(calls: Iterable[Call], stream: BinaryIO) -> int:
    """Write calls as CSV with a header; how many there were."""
    text = TextIOWrapper(stream, encoding="utf-8", newline="", write_through=True)
    try:
        writer = csv.writer(text, lineterminator="\r\n")
        writer.writerow(COLUMNS)
        written = 0
        for call in calls:
            writer.writerow([cell(value) for value in _columns(call.flat())])
            written += 1
        return written
    finally:
        text.detach()  # the stream belongs to the caller


def _columns(flat: dict[str, Any]) -> list[object]:
    cost = flat["cost"]
    return [
        flat["ts"],
        flat["workflow"],
        flat["stage"],
        flat["tier"],
        flat["model"],
        flat["provider"],
        None if cost is None else f"{cost:.6f}",
        flat["tokens"]["input"],
        flat["tokens"]["output"],
        "true" if flat["cache"]["hit"] else "false",
        flat["cache"].get("type"),
        flat["duration_ms"],
    ]


def write_jsonl(calls: Iterable[Call], stream: BinaryIO) -> int:
    """Write calls as flat objects, one a line; how many there were."""
    written = 0
    for call in calls:
        stream.write(orjson.dumps(call.flat(), option=orjson.OPT_APPEND_NEWLINE))
        written += 1
    return written


def write_otlp(
    reader: Reader,
    stream: BinaryIO,
    *,
    signal: str = "traces",
    window: Window,
    progress: Progress | None = None,
) -> int:
    """Write the log's lines as they are, without our segment ids; how many lines there were.

    A line is written whole when one of its records lies in the window.
    """
    scan = reader.scan(signal, after=window.after, progress=progress)
    written = 0
    for line, times in wire.decoded(scan, scan, _dated(signal)):
        if any(time in window for time in times):
            stream.write(without_segment(line).rstrip(b"\r\n") + b"\n")
            written += 1
    return written


def without_segment(line: bytes) -> bytes:
    """A line without our segment ids, which tell files apart and nothing else."""
    if _KEY not in line:
        return line
    line = _SEGMENT.sub(b"", line)
    if _KEY not in line:
        return line
    tree = orjson.loads(line)  # laid out as we never do it
    for name in _OUTER.values():
        for sender in tree.get(name) or ():
            resource = sender.get("resource") or {}
            kept = [a for a in resource.get("attributes") or () if a.get("key") != _KEY.decode()]
            resource["attributes"] = kept
    return orjson.dumps(tree)


def _dated(signal: str) -> Callable[[bytes], tuple[bytes, list[int]]]:
    """What gives a line and the times of its records."""
    decode = wire.decoder(wire.LINES[signal])

    def dated(line: bytes) -> tuple[bytes, list[int]]:
        return line, [time or 0 for time in _times(decode(line))]

    return dated


def _times(line: wire.Line) -> Iterator[int | None]:
    for senders in (line.spans, line.logs, line.metrics):
        for sender in senders if isinstance(senders, list) else ():
            for scope in sender.scopes or ():
                for record in scope.records or ():
                    if isinstance(record, wire.Span):
                        yield record.start
                    elif isinstance(record, wire.LogRecord):
                        yield record.time or record.observed
                    else:
                        yield from (point.time for _, point in record.points())
