"""Sending a batch to a backend: one request, one outcome, never later than its deadline.

A transport turns chunks into one OTLP request and the answer into an `Outcome`. It tries once: when
to try again, what to halve and what to set aside is decided by whoever sends. The one exception is
a kept connection that the backend had closed meanwhile, which is replaced within the same request.

OTLP over HTTP lives here, on `http.client`; gRPC and the console have files of their own. A
transport serves one batch at a time. Whoever sends has suppressed instrumentation in its context,
or a patched library would report on the reporting.
"""

from __future__ import annotations

import http.client
import os
import ssl
import threading
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from email.message import Message
from typing import Any, Final, Protocol
from urllib.parse import urlsplit, urlunsplit

from otel_empathy._version import __version__
from otel_empathy.core.clock import Clock
from otel_empathy.pipeline.chunk import Chunk, Signal
from otel_empathy.pipeline.console import ConsoleTransport
from otel_empathy.pipeline.environment import resolve
from otel_empathy.pipeline.otlp import Console, Otlp, origin
from otel_empathy.pipeline.outcome import Outcome, of_http, of_network, printable
from otel_empathy.pipeline.transport_grpc import GrpcTransport
from otel_empathy.pipeline.wire import Stopped, Wire, proxy_headers, reach

__all__ = [
    "Console",
    "ConsoleTransport",
    "GrpcTransport",
    "HttpTransport",
    "Otlp",
    "Outcome",
    "Transport",
    "connect",
]

Encode = Callable[[Signal, Sequence[Chunk]], bytes]

USER_AGENT: Final = f"OTel-OTLP-Exporter-Python/otel-empathy-{__version__}"
_ANSWER_MAX: Final = 64 << 10
_CONTENT_TYPES: Final = {"http/protobuf": "application/x-protobuf", "http/json": "application/json"}
# How a connection ends that the other side had given up: nothing of ours was answered.
_GONE: Final = (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError)


class _Answer(http.client.HTTPResponse):
    """An answer without those that only announce it: `http.client` skips the first kind alone."""

    def _read_status(self) -> tuple[str, int, str]:
        while True:
            found: tuple[str, int, str] = super()._read_status()  # type: ignore[misc]
            status = found[1]
            if status // 100 != 1 or status == http.client.SWITCHING_PROTOCOLS:
                return found
            http.client.parse_headers(self.fp)


class Transport(Protocol):
    """The way to one backend."""

    def send(self, signal: Signal, chunks: Sequence[Chunk], deadline: float) -> Outcome:
        """Sends one batch; what goes wrong is in the outcome, nothing is raised.

        Args:
            signal: What the chunks are.
            chunks: The batch.
            deadline: The moment of the monotonic clock at which this is over in any case; the
                timeout of the backend may end it earlier.
        """
        ...

    def close(self) -> None:
        """Ends what is in flight, from any thread, and gives the connections back."""
        ...


def connect(backend: Otlp | Console, clock: Clock, *, encode: Encode | None = None) -> Transport:
    """The transport of a backend; nothing is connected before the first batch.

    Args:
        backend: The backend; what it leaves open has its default.
        clock: The clock of the deadlines.
        encode: Makes the request of a batch; by default the encoder of the backend's protocol.
    """
    if isinstance(backend, Console):
        return ConsoleTransport(backend)
    otlp = resolve(backend, {})
    encode = encode or _encoder(str(otlp.protocol))
    if otlp.protocol == "grpc":
        return GrpcTransport(otlp, clock, encode=encode, user_agent=USER_AGENT)
    return HttpTransport(otlp, clock, encode=encode)


def _encoder(protocol: str) -> Encode:
    if protocol == "http/json":
        from otel_empathy.pipeline.encode_json import request  # noqa: PLC0415 - one of the two

        return request
    from otel_empathy.pipeline.encode_proto import request as proto_request  # noqa: PLC0415

    return proto_request


@dataclass(slots=True)
class _Line:
    """A connection that is kept between requests."""

    http: http.client.HTTPConnection
    wire: Wire

    def close(self) -> None:
        self.http.close()
        self.wire.close()


class HttpTransport:
    """OTLP over HTTP/1.1, protobuf or JSON, one kept connection per host.

    Args:
        otlp: The backend, resolved.
        clock: The clock of the deadlines.
        encode: Makes the request of a batch.
    """

    def __init__(self, otlp: Otlp, clock: Clock, *, encode: Encode) -> None:
        self._otlp = otlp
        self._clock = clock
        self._encode = encode
        self._kept: dict[tuple[str, str, int], _Line] = {}
        self._busy: Wire | None = None
        self._sending = threading.Lock()
        self._closed = False
        self._pid = os.getpid()

    def send(self, signal: Signal, chunks: Sequence[Chunk], deadline: float) -> Outcome:
        """Posts one batch."""
        if os.getpid() != self._pid:
            self._forked()
        with self._sending:
            if self._closed:
                return Outcome("retry", error="closed")
            deadline = min(deadline, self._clock.monotonic() + (self._otlp.timeout or 0))
            try:
                body = self._encode(signal, chunks)
            except Exception as error:  # noqa: BLE001 - whatever a record does to the encoder
                return Outcome("refuse", error="encode_error", message=printable(repr(error)))
            if self._otlp.compression == "gzip":
                packer = zlib.compressobj(1, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
                body = packer.compress(body) + packer.flush()
            try:
                status, fields, answer = self._exchange(self._otlp.url(signal.name), body, deadline)
            except Stopped as stopped:
                return stopped.outcome
            except (OSError, http.client.HTTPException) as error:
                return Outcome("retry", error="closed") if self._closed else of_network(error)
            return of_http(
                status,
                fields,
                answer,
                sent=sum(chunk.count for chunk in chunks),
                now_ns=self._clock.time_ns(),
            )

    def close(self) -> None:
        """Ends what is in flight and closes the connections."""
        self._closed = True
        busy = self._busy
        if busy is not None:
            busy.interrupt()
        # A request that was being connected ends at its own limit, and cleans up by itself.
        if self._sending.acquire(timeout=0.2):
            try:
                for line in self._kept.values():
                    line.close()
                self._kept.clear()
            finally:
                self._sending.release()

    def _forked(self) -> None:
        """Lets go of what belongs to the parent: its connections and a lock that it may hold."""
        self._pid = os.getpid()
        self._sending = threading.Lock()
        self._busy = None
        for line in self._kept.values():
            line.close()
        self._kept.clear()

    def _exchange(self, url: str, body: bytes, deadline: float) -> tuple[int, Message, bytes]:
        place = origin(url)
        line = self._kept.pop(place, None)
        if line is not None:
            try:
                return self._ask(line, url, body, deadline)
            except _GONE:
                # A backend may close an idle connection at any time. If it sent nothing back, the
                # request is given a second, fresh one; with a byte back it counts as failed.
                if line.wire.received or self._closed:
                    raise
        wire = reach(url, self._otlp, self._clock, deadline=deadline)
        connection = http.client.HTTPConnection(place[1], place[2])
        connection.sock = wire
        connection.response_class = _Answer
        connection.auto_open = 0  # left to itself it would connect again, in plain text
        return self._ask(_Line(connection, wire), url, body, deadline)

    def _ask(
        self, line: _Line, url: str, body: bytes, deadline: float
    ) -> tuple[int, Message, bytes]:
        """One request and its answer; the connection is kept if both were complete."""
        parts = urlsplit(url)
        direct = not self._otlp.proxy or parts.scheme == "https"
        target = urlunsplit(("", "", parts.path or "/", parts.query, "")) if direct else url
        line.wire.begin(deadline)
        self._busy = line.wire
        complete = False
        try:
            if self._closed:
                raise ConnectionAbortedError("closed")
            cut: OSError | None = None
            try:
                line.http.request("POST", target, body, self._fields(parts.netloc, direct=direct))
            except _GONE as error:
                # A backend that reads no further, as with 413, may have said why beforehand.
                cut = error
            with line.http.getresponse() as response:
                if cut is not None and response.status < 400:  # noqa: PLR2004 - no refusal
                    raise cut
                answer = _body(response)
                complete = cut is None and response.isclosed() and line.http.sock is not None
                return response.status, response.headers, answer
        finally:
            self._busy = None
            if complete and not self._closed:
                self._kept[origin(url)] = line
            else:
                line.close()

    def _fields(self, host: str, *, direct: bool) -> dict[str, str]:
        fields = {"host": host, "user-agent": USER_AGENT, **(self._otlp.headers or {})}
        fields["content-type"] = _CONTENT_TYPES[str(self._otlp.protocol)]
        if self._otlp.compression == "gzip":
            fields["content-encoding"] = "gzip"
        return fields if direct else {**fields, **proxy_headers(self._otlp.proxy)}


def _body(response: http.client.HTTPResponse) -> bytes:
    """The first 64 KiB of an answer's body.

    A refusal counts without its body. A success that breaks off does not: the backend may have
    meant to say that it rejected some.
    """
    success = response.status // 100 == 2  # noqa: PLR2004 - the class of success
    try:
        body = response.read(_ANSWER_MAX)
    except (OSError, http.client.HTTPException):
        if success:
            raise
        return b""
    missing: Any = response.length
    if success and missing and len(body) < _ANSWER_MAX:
        raise http.client.IncompleteRead(body, missing)
    return body
