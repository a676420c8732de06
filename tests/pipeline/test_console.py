from __future__ import annotations

import io
import os
from typing import Any

import orjson
import pytest

from otel_empathy.core.clock import SYSTEM
from otel_empathy.pipeline.chunk import SIGNALS, Chunk
from otel_empathy.pipeline.console import ConsoleTransport
from otel_empathy.pipeline.otlp import Console
from otel_empathy.pipeline.outcome import Outcome
from otel_empathy.pipeline.transport import connect

SECOND = 10**9


def printed(signal: str, *records: object, **what: bool) -> list[str]:
    stream = io.StringIO()
    transport = ConsoleTransport(Console(**what), stream=stream)  # type: ignore[arg-type]
    body = b",".join(orjson.dumps(record) for record in records)
    chunk = Chunk(SIGNALS[signal], b'"resource":{"attributes":[]}', b'"scope":{}', body, 1)
    assert transport.send(SIGNALS[signal], [chunk], 0.0) == Outcome("ok")
    transport.close()
    return stream.getvalue().splitlines()


GOOD = {
    "name": "chat gpt-4o",
    "startTimeUnixNano": str(60 * SECOND),
    "endTimeUnixNano": str(61 * SECOND + 234_000_000),
}
BAD = {**GOOD, "status": {"code": 2, "message": "rate limited"}}
LOG = {
    "timeUnixNano": str(3 * SECOND),
    "severityNumber": 9,
    "severityText": "INFO",
    "eventName": "session.start",
    "body": {"stringValue": "hello"},
}
METRIC = {"name": "tokens", "sum": {"dataPoints": [{"timeUnixNano": str(3 * SECOND)}, {}]}}


def test_a_span_is_a_line_with_its_end_name_duration_and_verdict() -> None:
    assert printed("traces", GOOD, BAD) == [
        "00:01:01Z span chat gpt-4o 1.234 s ok",
        "00:01:01Z span chat gpt-4o 1.234 s ERROR rate limited",
    ]


def test_a_log_record_is_a_line() -> None:
    assert printed("logs", LOG) == ["00:00:03Z log INFO session.start hello"]


def test_a_metric_is_a_line_with_the_number_of_its_points() -> None:
    assert printed("metrics", METRIC) == ["00:00:03Z metric tokens 2 points"]


def test_what_we_tell_of_ourselves_is_left_out_unless_asked_for() -> None:
    ours = ["otel.sdk.span.live", "empathy.sdk.errors", "empathy.log.size", "empathy.backend.lag"]
    found = [{**METRIC, "name": name} for name in (*ours, "empathy.run.active")]
    assert printed("metrics", *found) == ["00:00:03Z metric empathy.run.active 2 points"]
    assert len(printed("metrics", *found, self_health=True)) == 5
    assert len(printed("traces", {**GOOD, "name": "empathy.log.x"})) == 1


def test_errors_only_leaves_out_what_went_well() -> None:
    assert printed("traces", GOOD, BAD, errors_only=True) == [
        "00:01:01Z span chat gpt-4o 1.234 s ERROR rate limited"
    ]
    severe = {**LOG, "severityNumber": 17, "severityText": "ERROR"}
    assert printed("logs", LOG, severe, errors_only=True) == [
        "00:00:03Z log ERROR session.start hello"
    ]
    assert printed("metrics", METRIC, errors_only=True) == []


@pytest.mark.fault("C3")
def test_foreign_words_cannot_steer_the_terminal() -> None:
    (line,) = printed("traces", {**GOOD, "name": "a\x1b[2J\nspan b\u2028\u202e"})
    assert line == "00:01:01Z span a [2J span b 1.234 s ok"


def test_records_of_other_programs_may_lack_everything() -> None:
    assert printed("traces", {}) == ["00:00:00Z span 0.000 s ok"]
    assert printed("logs", {}) == ["00:00:00Z log"]
    assert printed("metrics", {}) == ["00:00:00Z metric 0 points"]


@pytest.mark.parametrize(
    ("signal", "record"),
    [
        ("traces", {"endTimeUnixNano": "soon"}),
        ("traces", {"endTimeUnixNano": str(10**30)}),
        ("logs", {"body": 7}),
        ("metrics", {"gauge": {"dataPoints": [7]}}),
    ],
)
def test_a_record_that_makes_no_line_is_refused_alone(signal: str, record: dict[str, Any]) -> None:
    stream = io.StringIO()
    transport = ConsoleTransport(Console(), stream=stream)
    chunk = Chunk(SIGNALS[signal], b"", b"", orjson.dumps(record), 1)
    outcome = transport.send(SIGNALS[signal], [chunk], 0.0)
    assert (outcome.kind, outcome.error) == ("refuse", "encode_error")
    assert stream.getvalue() == ""


def test_it_prints_to_standard_error_and_never_to_standard_output(
    capsys: pytest.CaptureFixture[str],
) -> None:
    transport = connect(Console(), SYSTEM)
    chunk = Chunk(SIGNALS["traces"], b"", b"", orjson.dumps(GOOD), 1)
    assert transport.send(SIGNALS["traces"], [chunk], 0.0).kind == "ok"
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "00:01:01Z span chat gpt-4o 1.234 s ok\n"


def test_a_stream_that_is_closed_pauses_the_console() -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as stream:
        transport = ConsoleTransport(Console(), stream=stream)
        chunk = Chunk(SIGNALS["traces"], b"", b"", orjson.dumps(GOOD), 1)
        outcome = transport.send(SIGNALS["traces"], [chunk], 0.0)
        assert (outcome.kind, outcome.error) == ("pause", "console")
        with pytest.raises(BrokenPipeError):
            stream.close()
