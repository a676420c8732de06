from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Mapping
from email.message import Message

import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from otel_empathy.pipeline.outcome import (
    GRPC,
    Outcome,
    of_grpc,
    of_http,
    of_network,
    partial_success,
    printable,
    retry_after,
    retry_delay,
)

NOON = 1_790_000_000  # Mon, 21 Sep 2026 14:13:20 GMT


def answered(
    status: int, body: bytes = b"", headers: Mapping[str, str] | None = None, sent: int = 10
) -> Outcome:
    message = Message()
    for name, text in (headers or {}).items():
        message[name] = text
    return of_http(status, message, body, sent=sent, now_ns=NOON * 10**9)


# -- HTTP -----------------------------------------------------------------------------------------
@pytest.mark.fault("N4")
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (200, "ok"), (202, "ok"), (204, "ok"),
        (301, "pause"), (302, "pause"), (304, "pause"), (307, "pause"), (308, "pause"),
        (400, "refuse"), (422, "refuse"),
        (401, "pause"), (403, "pause"), (404, "pause"), (405, "pause"), (407, "pause"),
        (402, "pause"), (410, "pause"), (415, "pause"), (418, "pause"), (451, "pause"),
        (408, "retry"), (425, "retry"), (429, "retry"),
        (413, "split"),
        (500, "retry"), (501, "retry"), (502, "retry"), (503, "retry"), (504, "retry"),
        (599, "retry"), (103, "retry"), (999, "retry"),
    ],
)  # fmt: skip
def test_each_status_has_its_meaning(status: int, kind: str) -> None:
    outcome = answered(status)
    assert outcome.kind == kind
    assert outcome.error == (None if kind == "ok" else str(status))


def test_a_signal_that_is_not_served_says_nothing_about_the_others() -> None:
    assert answered(404).signal_only
    assert answered(405).signal_only
    assert not answered(401).signal_only
    assert of_grpc("UNIMPLEMENTED", "", {}).signal_only


def test_a_redirect_tells_where_it_pointed() -> None:
    outcome = answered(301, headers={"Location": "https://elsewhere/\x1b[31m"})
    assert outcome.message == "redirected to https://elsewhere/ [31m, which is not followed"


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        (b'{"code": 3, "message": "no such tenant"}', "application/json", "no such tenant"),
        (Status(code=3, message="no such tenant").SerializeToString(), "application/x-protobuf",
         "no such tenant"),
        (b"<h1>Bad Gateway</h1>", "text/html", "<h1>Bad Gateway</h1>"),
        (b"\xff\xfe\x00", "text/plain", "��"),
        (b"", "application/json", None),
        (b"[1]", "application/json", "[1]"),
        (b"x" * 100_000, "text/plain", "x" * 199 + "…"),
    ],
)  # fmt: skip
def test_what_a_refusal_says_is_passed_on(body: bytes, kind: str, message: str | None) -> None:
    assert answered(500, body, {"content-type": kind}).message == message


# -- Retry-After ----------------------------------------------------------------------------------
@pytest.mark.fault("N5")
@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7), ("0", 0), ("0.5", 0.5), (" 7 ", 7), ("300", 300), ("301", 300),
        ("-5", 0), ("1000000000", 300), ("1e9", 300), ("inf", 300), ("nan", None),
        ("", None), ("soon", None), ("7 seconds", None), ("Mon, 99 Foo", None),
        ("Mon, 21 Sep 2026 14:13:50 GMT", 30),
        ("Mon, 21 Sep 2026 14:13:50", 30),
        ("Mon, 21 Sep 2026 16:13:50 +0200", 30),
        ("Mon, 21 Sep 2026 14:00:00 GMT", 0),
        ("Mon, 21 Sep 2076 14:00:00 GMT", 300),
        ("Mon, 21 Sep 0001 00:00:00 +2359", 0),
    ],
)  # fmt: skip
def test_retry_after_is_clamped_to_five_minutes(value: str, seconds: float | None) -> None:
    assert retry_after(value, date=None, now_ns=NOON * 10**9) == seconds


@pytest.mark.fault("N5")
@pytest.mark.parametrize("skew", [-7200, 0, 7200])
def test_a_date_is_counted_from_the_clock_of_whoever_wrote_it(skew: int) -> None:
    now_ns = (NOON + skew) * 10**9
    date, until = "Mon, 21 Sep 2026 14:13:20 GMT", "Mon, 21 Sep 2026 14:13:50 GMT"
    assert retry_after(until, date=date, now_ns=now_ns) == 30
    assert retry_after(until, date="garbage", now_ns=NOON * 10**9) == 30


def test_only_an_answer_that_allows_another_try_can_delay_it() -> None:
    assert answered(429, headers={"Retry-After": "7"}).retry_after == 7
    assert answered(503, headers={"Retry-After": "7"}).retry_after == 7
    assert answered(401, headers={"Retry-After": "7"}).retry_after is None


# -- partial success ------------------------------------------------------------------------------
def test_rejected_records_are_read_from_protobuf_of_every_signal() -> None:
    for response, field in (
        (ExportTraceServiceResponse(), "rejected_spans"),
        (ExportMetricsServiceResponse(), "rejected_data_points"),
        (ExportLogsServiceResponse(), "rejected_log_records"),
    ):
        setattr(response.partial_success, field, 300)
        response.partial_success.error_message = "too old"
        found = partial_success(response.SerializeToString(), as_json=False)
        assert found == (300, "too old")


@pytest.mark.parametrize("name", ["rejectedSpans", "rejectedDataPoints", "rejectedLogRecords"])
@pytest.mark.parametrize("count", ["3", 3])
def test_rejected_records_are_read_from_json_of_every_signal(name: str, count: str | int) -> None:
    body = json.dumps({"partialSuccess": {name: count, "errorMessage": "too old"}}).encode()
    assert partial_success(body, as_json=True) == (3, "too old")


def test_a_warning_without_a_rejection_is_kept() -> None:
    response = ExportTraceServiceResponse()
    response.partial_success.error_message = "use newer names"
    assert answered(200, response.SerializeToString()) == Outcome("ok", message="use newer names")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'{"partialSuccess":{}}',
        b'{"partialSuccess":{"rejectedSpans":"x"}}',
        b"null",
        b"[]",
        b"[" * 100_000,
        b"\xff",
    ],
)
def test_an_answer_that_rejects_nothing_or_cannot_be_read_is_a_success(body: bytes) -> None:
    for kind in ("application/json", "application/x-protobuf"):
        assert answered(200, body, {"Content-Type": kind}).kind == "ok"
        assert answered(200, body, {"Content-Type": kind}).rejected == 0


def test_a_backend_cannot_reject_more_than_it_was_sent_or_less_than_nothing() -> None:
    response = ExportTraceServiceResponse()
    response.partial_success.rejected_spans = 10**12
    assert answered(200, response.SerializeToString(), sent=10).rejected == 10
    response.partial_success.rejected_spans = -1
    assert answered(200, response.SerializeToString(), sent=10).rejected == 0


def test_cut_or_mangled_protobuf_never_raises() -> None:
    response = ExportTraceServiceResponse()
    response.partial_success.rejected_spans = 3
    response.partial_success.error_message = "x" * 300
    whole = response.SerializeToString()
    for size in range(len(whole)):
        partial_success(whole[:size], as_json=False)
    for byte in range(256):
        partial_success(bytes((byte,)) * 12, as_json=False)
        partial_success(bytes((10, 2, byte, byte)), as_json=False)


# -- gRPC -----------------------------------------------------------------------------------------
@pytest.mark.fault("N4")
@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("CANCELLED", "retry"), ("DEADLINE_EXCEEDED", "retry"), ("ABORTED", "retry"),
        ("OUT_OF_RANGE", "retry"), ("UNAVAILABLE", "retry"), ("DATA_LOSS", "retry"),
        ("RESOURCE_EXHAUSTED", "retry"), ("UNKNOWN", "retry"), ("INTERNAL", "retry"),
        ("INVALID_ARGUMENT", "refuse"),
        ("UNAUTHENTICATED", "pause"), ("PERMISSION_DENIED", "pause"), ("UNIMPLEMENTED", "pause"),
        ("NOT_FOUND", "pause"), ("ALREADY_EXISTS", "pause"), ("FAILED_PRECONDITION", "pause"),
        ("A_CODE_OF_TOMORROW", "retry"),
    ],
)  # fmt: skip
def test_each_code_has_its_meaning(code: str, kind: str) -> None:
    outcome = of_grpc(code, "words", {})
    assert (outcome.kind, outcome.error, outcome.message) == (kind, code, "words")


def test_the_table_has_every_code_of_grpc() -> None:
    import grpc

    assert set(GRPC) == {code.name for code in grpc.StatusCode}


@pytest.mark.parametrize(
    ("code", "details"),
    [
        ("RESOURCE_EXHAUSTED", "SERVER: Received message larger than max (5000 vs. 4194)"),
        ("RESOURCE_EXHAUSTED", "Received message larger than max (5000 vs. 4194)"),
        ("RESOURCE_EXHAUSTED", "grpc: received message larger than max (5000 vs. 4194)"),
        ("RESOURCE_EXHAUSTED", "gRPC message exceeds maximum size 4194304: 5000000"),
        ("OUT_OF_RANGE", "Error, decoded message length too large: found 5 bytes, limit is 4"),
    ],
)
def test_a_message_that_is_too_large_is_split(code: str, details: str) -> None:
    assert of_grpc(code, details, {}).kind == "split"


def test_an_answer_that_is_too_large_does_not_split_the_request() -> None:
    details = "Stream removed (CLIENT: Received message larger than max (5000 vs. 4194))"
    assert of_grpc("RESOURCE_EXHAUSTED", details, {}).kind == "retry"


@pytest.mark.fault("N5")
@pytest.mark.parametrize(
    ("seconds", "nanos", "delay"),
    [(7, 0, 7), (0, 500_000_000, 0.5), (-7, 0, 0), (10**9, 0, 300), (0, 0, 0)],
)
def test_the_delay_that_grpc_asks_for_is_read_and_clamped(
    seconds: int, nanos: int, delay: float
) -> None:
    info = RetryInfo(retry_delay=Duration(seconds=seconds, nanos=nanos))
    status = Status(code=8, message="busy")
    status.details.add().Pack(Duration(seconds=99))
    status.details.add().Pack(info)
    standard = {"grpc-status-details-bin": status.SerializeToString()}
    assert of_grpc("RESOURCE_EXHAUSTED", "busy", standard).retry_after == delay
    assert retry_delay({"google.rpc.retryinfo-bin": info.SerializeToString()}) == delay
    assert of_grpc("UNAUTHENTICATED", "no", standard).retry_after is None


@pytest.mark.parametrize(
    "trailers",
    [
        {},
        {"grpc-status-details-bin": b""},
        {"grpc-status-details-bin": b"\xff\xff"},
        {"grpc-status-details-bin": Status(code=8).SerializeToString()},
        {"grpc-status-details-bin": "text"},
        {"google.rpc.retryinfo-bin": b"\x08\x01"},
    ],
)
def test_trailers_without_a_readable_delay_ask_for_none(trailers: dict[str, str | bytes]) -> None:
    assert retry_delay(trailers) is None


# -- no answer ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("error", "word"),
    [
        (TimeoutError("timed out"), "timeout"),
        (ConnectionRefusedError(), "connection_refused"),
        (socket.gaierror(-2, "Name or service not known"), "name_not_resolved"),
        (ssl.SSLCertVerificationError("expired"), "certificate_invalid"),
        (ssl.SSLError("wrong version number"), "tls"),
        (ConnectionResetError(), "connection_reset"),
        (BrokenPipeError(), "connection_reset"),
        (http.client.RemoteDisconnected(), "connection_reset"),
        (http.client.IncompleteRead(b""), "truncated"),
        (http.client.BadStatusLine("x"), "protocol"),
        (OSError(101, "Network is unreachable"), "network"),
    ],
)
def test_a_failed_connection_is_tried_again_and_named_in_few_words(
    error: Exception, word: str
) -> None:
    outcome = of_network(error)
    assert (outcome.kind, outcome.error) == ("retry", word)


def test_foreign_words_are_fit_for_a_terminal() -> None:
    assert printable("a\x1b[31m\r\n b\u2028c\u202ed") == "a [31m b c d"
    assert printable("") is None
    assert printable(7) is None
