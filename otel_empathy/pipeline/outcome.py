"""What the answer of a backend means for the batch that was sent.

Two tables say it, one for OTLP over HTTP and one for gRPC; beside them stand the few things that an
answer may carry: how long to stay away, how many records were rejected, one sentence for people.
What is then done with the batch (wait, halve, set aside) is the shipper's business.
"""

from __future__ import annotations

import http.client
import json
import math
import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from email.message import Message
from email.utils import parsedate_to_datetime
from typing import Any, Final, Literal, get_args

from otel_empathy.core.errors import WrongValue

__all__ = [
    "GRPC",
    "HTTP",
    "RETRY_AFTER_MAX",
    "Kind",
    "Outcome",
    "of_grpc",
    "of_http",
    "of_network",
    "partial_success",
    "printable",
    "retry_after",
    "retry_delay",
]

Kind = Literal["ok", "retry", "split", "pause", "refuse"]
_KINDS: Final = get_args(Kind)

RETRY_AFTER_MAX: Final = 300.0
_MESSAGE_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one batch.

    Args:
        kind: `ok` it is delivered; `retry` the same batch may go through later; `split` it is too
            large; `pause` a human must act and nothing is thrown away meanwhile; `refuse` the
            backend will not take these records, however often they come.
        rejected: Records of a delivered batch that the backend did not take.
        retry_after: Seconds, 0 to 300, for which the backend asked to be left alone.
        error: What went wrong, as a value of `error.type`: a status, a code, or one of few words.
        message: One sentence for people, printable and short; it may quote the backend.
        signal_only: The backend does not serve this signal; what is said holds for no other.
    """

    kind: Kind
    rejected: int = 0
    retry_after: float | None = None
    error: str | None = None
    message: str | None = None
    signal_only: bool = False

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise WrongValue(f"kind={self.kind!r}: must be one of {', '.join(_KINDS)}")


# A status without a row of its own takes the row of its hundred.
HTTP: Final[Mapping[str, Kind]] = {
    "2xx": "ok",
    "3xx": "pause",  # following it would carry data and credentials to where nobody sent them
    "4xx": "pause",  # says nothing against the records, so none may be lost over it
    "400": "refuse",
    "401": "pause",
    "403": "pause",
    "404": "pause",
    "405": "pause",
    "407": "pause",
    "408": "retry",
    "413": "split",
    "422": "refuse",
    "425": "retry",
    "429": "retry",
    "5xx": "retry",
}
_HTTP_UNSERVED: Final = frozenset({404, 405})

GRPC: Final[Mapping[str, Kind]] = {
    "OK": "ok",
    "CANCELLED": "retry",
    "UNKNOWN": "retry",
    "INVALID_ARGUMENT": "refuse",
    "DEADLINE_EXCEEDED": "retry",
    "NOT_FOUND": "pause",
    "ALREADY_EXISTS": "pause",
    "PERMISSION_DENIED": "pause",
    "RESOURCE_EXHAUSTED": "retry",  # "split" when the reason is the size of the message
    "FAILED_PRECONDITION": "pause",
    "ABORTED": "retry",
    "OUT_OF_RANGE": "retry",  # "split", likewise: tonic answers so
    "UNIMPLEMENTED": "pause",
    "INTERNAL": "retry",
    "UNAVAILABLE": "retry",
    "DATA_LOSS": "retry",
    "UNAUTHENTICATED": "pause",
}
_GRPC_UNSERVED: Final = "UNIMPLEMENTED"
# The words of the C core, Go, Java and Rust servers. Our own limit on answers says "CLIENT:".
_TOO_LARGE: Final = re.compile(
    r"^(?!.*CLIENT: ).*(larger than max|exceeds maximum size|length too large)", re.DOTALL
)

_NETWORK: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (TimeoutError, "timeout"),
    (ConnectionRefusedError, "connection_refused"),
    (socket.gaierror, "name_not_resolved"),
    (ssl.SSLCertVerificationError, "certificate_invalid"),
    (ssl.SSLError, "tls"),
    (ConnectionError, "connection_reset"),
    (http.client.IncompleteRead, "truncated"),
    (http.client.HTTPException, "protocol"),
    (OSError, "network"),
)


def of_network(error: Exception) -> Outcome:
    """The outcome of a request that got no usable answer: try again."""
    word = next((word for kind, word in _NETWORK if isinstance(error, kind)), "other")
    return Outcome("retry", error=word, message=printable(f"{type(error).__name__}: {error}"))


def of_http(status: int, headers: Message, body: bytes, *, sent: int, now_ns: int) -> Outcome:
    """The outcome of an answered HTTP request.

    Args:
        status: The status code.
        headers: The header fields, found without regard to case.
        body: The beginning of the body, as far as it was read.
        sent: Records in the request; a backend cannot reject more.
        now_ns: The wall clock, for a `Retry-After` that is a date.
    """
    kind = HTTP.get(str(status)) or HTTP.get(f"{status // 100}xx", "retry")
    content_type = (headers.get("Content-Type") or "").lower()
    if kind == "ok":
        rejected, message = partial_success(body, as_json="json" in content_type)
        return Outcome("ok", rejected=min(rejected, sent), message=message)
    message = _status_message(body, content_type)
    if status // 100 == 3:  # noqa: PLR2004 - the class of redirects
        message = printable(f"redirected to {headers.get('Location')}, which is not followed")
    return Outcome(
        kind,
        retry_after=retry_after(headers.get("Retry-After"), date=headers.get("Date"), now_ns=now_ns)
        if kind == "retry"
        else None,
        error=str(status),
        message=message,
        signal_only=status in _HTTP_UNSERVED,
    )


def of_grpc(code: str, details: str | None, trailers: Mapping[str, str | bytes]) -> Outcome:
    """The outcome of a gRPC call that ended with a status other than OK.

    Args:
        code: The name of the status code.
        details: The words that came with it.
        trailers: The trailing metadata.
    """
    kind = GRPC.get(code, "retry")
    if code in {"RESOURCE_EXHAUSTED", "OUT_OF_RANGE"} and _TOO_LARGE.search(details or ""):
        kind = "split"
    return Outcome(
        kind,
        retry_after=retry_delay(trailers) if kind == "retry" else None,
        error=code,
        message=printable(details),
        signal_only=code == _GRPC_UNSERVED,
    )


def retry_after(value: str | None, *, date: str | None, now_ns: int) -> float | None:
    """The seconds in a `Retry-After`, clamped to 0..300, or None when it says nothing usable.

    A date is counted from the answer's own `Date` where there is one, so that a backend whose clock
    is wrong still means the same span of time.
    """
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        until = _http_date(value)
        if until is None:
            return None
        since = _http_date(date) if date else None
        seconds = until - (now_ns / 1e9 if since is None else since)
    return min(max(seconds, 0.0), RETRY_AFTER_MAX) if not math.isnan(seconds) else None


def _http_date(value: str) -> float | None:
    try:
        moment = parsedate_to_datetime(value)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=timezone.utc)
        return (moment - datetime(1970, 1, 1, tzinfo=timezone.utc)).total_seconds()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


# -- bodies ---------------------------------------------------------------------------------------
def partial_success(body: bytes, *, as_json: bool) -> tuple[int, str | None]:
    """How many records a delivered batch lost, and why, from an `Export…ServiceResponse`.

    The three signals share one shape; an answer that cannot be read rejected nothing.
    """
    try:
        if as_json:
            partial = json.loads(body)["partialSuccess"]
            counts = [int(partial[key]) for key in partial if key.startswith("rejected")]
            return max([0, *counts]), printable(partial.get("errorMessage"))
        partial = dict(_fields(_bytes(dict(_fields(body)).get(1, b""))))
        count = partial.get(1, 0)
        rejected = count if isinstance(count, int) and count < 1 << 63 else 0
        return rejected, printable(_bytes(partial.get(2, b"")).decode("utf-8", "replace"))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return 0, None


def _status_message(body: bytes, content_type: str) -> str | None:
    """The sentence in a `google.rpc.Status`, or the beginning of whatever was said instead."""
    try:
        if "json" in content_type:
            return printable(json.loads(body)["message"])
        if "protobuf" in content_type:
            return printable(_bytes(dict(_fields(body)).get(2, b"")).decode("utf-8"))
    except (ValueError, TypeError, KeyError, RecursionError):  # then it is shown as it stands
        pass
    return printable(body[: 4 * _MESSAGE_MAX].decode("utf-8", "replace"))


def retry_delay(trailers: Mapping[str, str | bytes]) -> float | None:
    """The seconds of a `google.rpc.RetryInfo` in trailing metadata, clamped to 0..300.

    It stands among the details of a `google.rpc.Status`, as the specification says, or in a trailer
    of its own.
    """
    try:
        info = trailers.get("google.rpc.retryinfo-bin")
        if info is None:
            details = (
                dict(_fields(_bytes(value)))
                for number, value in _fields(_bytes(trailers.get("grpc-status-details-bin", b"")))
                if number == 3  # noqa: PLR2004 - Status.details
            )
            info = next(
                (
                    _bytes(detail.get(2, b""))
                    for detail in details
                    if _bytes(detail.get(1, b"")).endswith(b"/google.rpc.RetryInfo")
                ),
                None,
            )
        if info is None:
            return None
        delay = dict(_fields(_bytes(dict(_fields(_bytes(info))).get(1, b""))))
        seconds, nanos = (_signed(delay.get(number, 0)) for number in (1, 2))
    except (ValueError, TypeError):
        return None
    return min(max(seconds + nanos / 1e9, 0.0), RETRY_AFTER_MAX)


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a protobuf message: numbers as they are on the wire, the rest as bytes.

    Raises:
        ValueError: The bytes are no protobuf message.
    """
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == 0:
            value: int | bytes
            value, at = _varint(data, at)
        else:
            if kind == 2:  # noqa: PLR2004 - length-delimited
                size, at = _varint(data, at)
            elif kind in {1, 5}:
                size = 8 if kind == 1 else 4
            else:
                raise ValueError(f"no wire type {kind}")
            if at + size > len(data):
                raise ValueError("cut off inside a field")
            value = data[at : at + size]
            at += size
        yield tag >> 3, value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ValueError("cut off inside a number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004 - the last byte of a number has no top bit
            return value, at
    raise ValueError("a number of more than ten bytes")


def _bytes(value: int | str | bytes) -> bytes:
    if isinstance(value, bytes):
        return value
    raise TypeError("a number or a text where a message belongs")


def _signed(value: int | bytes) -> int:
    if isinstance(value, bytes):
        raise TypeError("a message where a number belongs")
    return value - (1 << 64) if value >= 1 << 63 else value


def printable(text: Any) -> str | None:
    """Foreign words made fit for a log line or a terminal: no controls, at most 200 characters."""
    if not isinstance(text, str) or not text.strip():
        return None
    shown = "".join(c if c.isprintable() else " " for c in text[: 4 * _MESSAGE_MAX])
    words = " ".join(shown.split())
    return words if len(words) <= _MESSAGE_MAX else words[: _MESSAGE_MAX - 1] + "…"
