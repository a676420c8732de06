"""An OTLP backend that misbehaves as told, and remembers exactly what it took.

It speaks OTLP over HTTP (protobuf and JSON) and over gRPC on ports of its own choice. In a program:

    with FaultyBackend() as backend:
        backend.set("status:503", "status:503", "ok")      # two refusals, then well
        ...                                                # send to backend.endpoint
        assert backend.wait(spans=100)

In a process of its own, which no fork, signal or crash of the sender touches, `spawn()` gives an
object with the same methods; by hand:

    python benchmarks/faulty_backend.py --mode status:503
    curl -d '{"modes": ["ok"], "poison": "bad span"}' http://127.0.0.1:<control>/control
    curl http://127.0.0.1:<control>/received

Modes, one per request from the list that was set; the last stays:

    ok               takes everything
    status:N         answers N and takes nothing (a gRPC code by name or by its HTTP status)
    down:S           refuses connections for S seconds, then goes on with the rest of the list
    hang             reads the request and never answers
    slow:S           takes it, S seconds late
    drip:S           takes it, and answers a byte every S seconds
    reset            takes it, and resets the connection in the middle of the answer
    close            closes the connection without a byte of answer and takes nothing
    truncate         takes it, and breaks off inside a chunked answer
    partial[:n]      takes all but the first n records (1) and says so
    retry-after:V    answers 429 with `Retry-After: V` (gRPC: RetryInfo of V seconds)

Beside the mode, a batch that holds a span, log body or metric named as `poison` gets a 400, and one
of more than `limit` bytes a 413.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
import urllib.request
import zlib
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import grpc
    from typing_extensions import Self

__all__ = ["FaultyBackend", "Spawned", "spawn"]

PATHS = {"/v1/traces": "traces", "/v1/metrics": "metrics", "/v1/logs": "logs"}
SERVICES = {"traces": "trace", "metrics": "metrics", "logs": "logs"}
# For JSON: the lists on the way down, and the count that an answer calls what it rejected.
LISTS = {
    "traces": ("resourceSpans", "scopeSpans", "spans"),
    "metrics": ("resourceMetrics", "scopeMetrics", "metrics"),
    "logs": ("resourceLogs", "scopeLogs", "logRecords"),
}
REJECTED = {
    "traces": ("rejectedSpans", "rejected_spans"),
    "metrics": ("rejectedDataPoints", "rejected_data_points"),
    "logs": ("rejectedLogRecords", "rejected_log_records"),
}
GRPC_CODES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "UNIMPLEMENTED",
    408: "DEADLINE_EXCEEDED",
    413: "RESOURCE_EXHAUSTED",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
}


@dataclass(frozen=True)
class Record:
    """What is remembered of a span, a log record or a metric."""

    id: str
    name: str
    count: int = 1


@dataclass(frozen=True)
class Request:
    """One request that arrived."""

    at: float
    signal: str
    answer: str
    records: int
    size: int
    headers: Mapping[str, str] = field(repr=False)


# -- what arrived ---------------------------------------------------------------------------------
def decode(signal: str, body: bytes, *, as_json: bool) -> list[Record]:
    """The records of one OTLP request."""
    return _decode_json(signal, body) if as_json else _decode_proto(signal, body)


def _decode_json(signal: str, body: bytes) -> list[Record]:
    level: list[dict[str, Any]] = [json.loads(body)]
    for name in LISTS[signal]:
        level = [child for parent in level for child in parent.get(name, ())]
    if signal == "traces":
        return [Record(span["spanId"], span.get("name", "")) for span in level]
    if signal == "logs":
        return [Record("", log.get("body", {}).get("stringValue", "")) for log in level]
    kinds = ("gauge", "sum", "histogram", "exponentialHistogram", "summary")
    return [
        Record("", m["name"], sum(len(m.get(kind, {}).get("dataPoints", ())) for kind in kinds))
        for m in level
    ]


def _decode_proto(signal: str, body: bytes) -> list[Record]:
    if signal == "traces":
        spans = _message(signal, "Request", body).resource_spans
        return [
            Record(span.span_id.hex(), span.name)
            for resource in spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
    if signal == "logs":
        return [
            Record("", log.body.string_value)
            for resource in _message(signal, "Request", body).resource_logs
            for scope in resource.scope_logs
            for log in scope.log_records
        ]
    return [
        Record("", metric.name, len(getattr(metric, metric.WhichOneof("data")).data_points))
        for resource in _message(signal, "Request", body).resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    ]


def _message(signal: str, end: str, body: bytes = b"") -> Any:
    """An `ExportTraceServiceRequest`, `ExportLogsServiceResponse`, …"""
    from importlib import import_module

    word = SERVICES[signal]
    module = import_module(f"opentelemetry.proto.collector.{word}.v1.{word}_service_pb2")
    message = getattr(module, f"Export{word.capitalize()}Service{end}")()
    message.ParseFromString(body)
    return message


class Received:
    """What arrived and what was taken, counted under one lock."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.requests: list[Request] = []
        self.span_ids: Counter[str] = Counter()
        self.names: dict[str, Counter[str]] = {signal: Counter() for signal in LISTS}

    def asked(self, request: Request) -> None:
        with self.changed:
            self.requests.append(request)
            self.changed.notify_all()

    def took(self, signal: str, records: Sequence[Record]) -> None:
        with self.changed:
            for record in records:
                self.names[signal][record.name] += record.count
                if signal == "traces":
                    self.span_ids[record.id] += 1
            self.changed.notify_all()

    def counts(self) -> dict[str, int]:
        return {
            "requests": len(self.requests),
            "spans": len(self.span_ids),
            "duplicates": sum(self.span_ids.values()) - len(self.span_ids),
            "points": sum(self.names["metrics"].values()),
            "logs": sum(self.names["logs"].values()),
        }

    def wait(self, timeout: float, **least: int) -> bool:
        with self.changed:
            return self.changed.wait_for(
                lambda: all(self.counts()[key] >= value for key, value in least.items()), timeout
            )

    def as_json(self, *, detail: bool) -> dict[str, Any]:
        with self.changed:
            found: dict[str, Any] = dict(self.counts())
            found["answers"] = dict(Counter(request.answer for request in self.requests))
            found["names"] = {signal: dict(names) for signal, names in self.names.items()}
            if detail:
                found["span_ids"] = dict(self.span_ids)
                found["log"] = [
                    {
                        "at": request.at,
                        "signal": request.signal,
                        "answer": request.answer,
                        "records": request.records,
                        "size": request.size,
                        "headers": dict(request.headers),
                    }
                    for request in self.requests
                ]
            return found


# -- the backend ----------------------------------------------------------------------------------
class FaultyBackend:
    """OTLP over HTTP and gRPC in threads of this process.

    Args:
        mode: The first mode.
        http_port: Port of HTTP, 0 for a free one.
        grpc_port: Port of gRPC, 0 for a free one, None for no gRPC at all.
        certificate: PEM file with certificate chain; with `key` it makes both doors TLS.
        key: PEM file with the private key.
        client_ca: PEM file with the authority whose client certificates are demanded.
        grpc_max: Largest message that gRPC itself takes, -1 for any.
    """

    def __init__(
        self,
        mode: str = "ok",
        *,
        http_port: int = 0,
        grpc_port: int | None = None,
        certificate: str | None = None,
        key: str | None = None,
        client_ca: str | None = None,
        grpc_max: int = -1,
    ) -> None:
        self._tls = (certificate, key, client_ca) if certificate and key else None
        self._grpc_max = grpc_max
        self._lock = threading.Lock()  # of the modes
        self._doors = threading.Lock()  # of opening and shutting; requests never wait for it
        self._modes: deque[str] = deque([mode])
        self._released = threading.Event()
        self._back: threading.Timer | None = None
        self._poison: str | None = None
        self._limit: int | None = None
        self._received = Received()
        self._http: _HttpServer | None = None
        self._grpc: grpc.Server | None = None
        self.http_port = http_port
        self.grpc_port = grpc_port

    def start(self) -> Self:
        self._open()
        self.set(*self._modes)
        return self

    def stop(self) -> None:
        with self._lock:
            self._released.set()
            if self._back is not None:
                self._back.cancel()
        self._shut()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def endpoint(self) -> str:
        """Where HTTP is."""
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self.http_port}"

    @property
    def grpc_endpoint(self) -> str:
        """Where gRPC is."""
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self.grpc_port}"

    def set(self, *modes: str, poison: str | None = None, limit: int | None = None) -> None:
        """Changes what the next requests meet, and releases those that hang."""
        for mode in modes:
            if mode.partition(":")[0] not in _WORDS:
                raise ValueError(f"no mode {mode!r}: use one of {', '.join(sorted(_WORDS))}")
        with self._lock:
            self._released.set()
            self._released = threading.Event()
            if self._back is not None:
                self._back.cancel()
                self._back = None
            self._poison, self._limit = poison, limit
            self._modes = deque(modes or ["ok"])
            word, _, seconds = self._modes[0].partition(":")
            if word == "down":
                self._modes.popleft()
                self._modes = self._modes or deque(["ok"])
        if word != "down":
            self._open()
            return
        self._shut()
        if seconds:
            with self._lock:
                self._back = threading.Timer(float(seconds), self._open)
                self._back.daemon = True
                self._back.start()

    def received(self, *, detail: bool = False) -> dict[str, Any]:
        """What arrived: counts, and in detail every span id and request."""
        return self._received.as_json(detail=detail)

    def wait(self, *, timeout: float = 10.0, **least: int) -> bool:
        """Waits until so many spans, logs, points or requests have arrived."""
        return self._received.wait(timeout, **least)

    def _open(self) -> None:
        with self._doors:
            if self._http is None:
                self._http = _HttpServer(self.http_port, self._tls, self.answer)
                self.http_port = self._http.server_port
            if self._grpc is None and self.grpc_port is not None:
                self._grpc, self.grpc_port = _grpc_server(
                    self.grpc_port, self._tls, self.answer, self._grpc_max
                )

    def _shut(self) -> None:
        with self._doors:
            if self._http is not None:
                self._http.end()
                self._http = None
            if self._grpc is not None:
                self._grpc.stop(grace=None).wait(5)
                self._grpc = None

    def answer(self, signal: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """What is to be done with a request; waits here where the mode says so."""
        try:
            records = decode(signal, body, as_json="json" in headers.get("content-type", ""))
        except Exception:  # noqa: BLE001 - whatever is wrong with it, it is no OTLP
            request = Request(time.monotonic(), signal, "undecodable", 0, len(body), headers)
            self._received.asked(request)
            return Answer("status", "400", 0, self._released)
        count = sum(record.count for record in records)
        with self._lock:
            released = self._released
            if self._limit is not None and len(body) > self._limit:
                mode = "status:413"
            elif any(record.name == self._poison for record in records):
                mode = "status:400"
            elif len(self._modes) > 1:
                mode = self._modes.popleft()
            else:
                mode = self._modes[0]
        word, _, value = mode.partition(":")
        said = value if word == "status" else word
        request = Request(time.monotonic(), signal, said, count, len(body), headers)
        self._received.asked(request)
        if word == "hang":
            released.wait()
        if word == "slow":
            released.wait(float(value))
        takes = word in _TAKING or (word == "status" and value.startswith("2"))
        rejected = 0
        if word == "partial":
            rejected = min(int(value or 1), len(records))
        if takes:
            self._received.took(signal, records[rejected:])
        return Answer(word, value, sum(record.count for record in records[:rejected]), released)


@dataclass(frozen=True)
class Answer:
    """A mode, ready to be carried out by one of the two doors."""

    word: str
    value: str
    rejected: int
    released: threading.Event

    @property
    def status(self) -> int:
        """The HTTP status of the mode."""
        if self.word == "retry-after":
            return 429
        return int(self.value) if self.word == "status" and self.value.isdigit() else 200


_TAKING = frozenset({"ok", "slow", "drip", "reset", "truncate", "partial"})
_WORDS = _TAKING | {"status", "down", "hang", "close", "retry-after"}


# -- HTTP -----------------------------------------------------------------------------------------
class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, port: int, tls: Any, take: Any) -> None:
        super().__init__(("127.0.0.1", port), partial(_Door, take=take))
        self._open: set[socket.socket] = set()
        self._context: ssl.SSLContext | None = None
        if tls is not None:
            certificate, key, client_ca = tls
            self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=client_ca)
            self._context.load_cert_chain(certificate, key)
            if client_ca:
                self._context.verify_mode = ssl.CERT_REQUIRED
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        if self._context is not None:
            try:
                request.settimeout(10)
                request = self._context.wrap_socket(request, server_side=True)
                request.settimeout(None)
            except OSError:  # a client that does not trust us; nothing arrived
                request.close()
                return
        self._open.add(request)
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._open.discard(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing: clients that go away are the business of this server."""

    def end(self) -> None:
        self.shutdown()
        self._thread.join(5)
        for request in tuple(self._open):
            with contextlib.suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)
        self.server_close()


class _Door(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 60

    def __init__(self, *args: Any, take: Any) -> None:
        self.take = take
        super().__init__(*args)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Content-Encoding") == "gzip":
            body = zlib.decompress(body, 16 + zlib.MAX_WBITS)
        path = urlsplit(self.path).path
        signal = next((name for end, name in PATHS.items() if path.endswith(end)), None)
        if signal is None:
            self._say(404, b"{}")
            return
        headers = {name.lower(): text for name, text in self.headers.items()}
        answer: Answer = self.take(signal, body, {**headers, ":path": self.path})
        if answer.word in {"hang", "close"}:
            self.close_connection = True
            return
        as_json = "json" in headers.get("content-type", "")
        good = answer.status // 100 == 2
        content = (_success if good else _refusal)(signal, answer, as_json=as_json)
        kind = "application/json" if as_json else "application/x-protobuf"
        if answer.word == "reset":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-")
            # Closing with nothing to linger for sends a reset instead of an end.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            socket.close(self.connection.detach())
            self.close_connection = True
        elif answer.word == "truncate":
            head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n"
            self.wfile.write(f"{head}10\r\nfive ".encode())
            self.close_connection = True
        elif answer.word == "drip":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            while not answer.released.wait(float(answer.value)):
                self.wfile.write(b".")
            self.close_connection = True
        else:
            extra = {"Retry-After": answer.value} if answer.word == "retry-after" else {}
            if answer.status // 100 == 3:
                extra = {"Location": "/elsewhere/v1/traces"}
            self._say(answer.status, content, {"Content-Type": kind, **extra})

    def _say(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, text in (headers or {}).items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Says nothing on the terminal; `/received` tells what came."""


def _success(signal: str, answer: Answer, *, as_json: bool) -> bytes:
    if as_json:
        said = {REJECTED[signal][0]: str(answer.rejected), "errorMessage": "told to reject some"}
        return json.dumps({"partialSuccess": said} if answer.rejected else {}).encode()
    message = _message(signal, "Response")
    if answer.rejected:
        message.partial_success.error_message = "told to reject some"
        setattr(message.partial_success, REJECTED[signal][1], answer.rejected)
    content: bytes = message.SerializeToString()
    return content


def _refusal(signal: str, answer: Answer, *, as_json: bool) -> bytes:  # noqa: ARG001
    text = f"told to answer {answer.status}"
    if as_json:
        return json.dumps({"code": 3, "message": text}).encode()
    return b"\x08\x03\x12" + bytes((len(text),)) + text.encode()


# -- gRPC -----------------------------------------------------------------------------------------
def _grpc_server(port: int, tls: Any, take: Any, largest: int) -> tuple[grpc.Server, int]:
    import grpc

    server = grpc.server(
        ThreadPoolExecutor(32),
        options=[("grpc.max_receive_message_length", largest), ("grpc.so_reuseport", 0)],
    )
    for signal, word in SERVICES.items():
        method = grpc.unary_unary_rpc_method_handler(partial(_export, take, signal))
        service = f"opentelemetry.proto.collector.{word}.v1.{word.capitalize()}Service"
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(service, {"Export": method}),)
        )
    address = f"127.0.0.1:{port}"
    if tls is None:
        port = server.add_insecure_port(address)
    else:
        certificate, key = (Path(file).read_bytes() for file in tls[:2])
        client_ca = Path(tls[2]).read_bytes() if tls[2] else None
        credentials = grpc.ssl_server_credentials(
            [(key, certificate)], client_ca, require_client_auth=client_ca is not None
        )
        port = server.add_secure_port(address, credentials)
    server.start()
    return server, port


def _export(take: Any, signal: str, body: bytes, context: Any) -> bytes:
    import grpc

    headers = {name: str(text) for name, text in context.invocation_metadata()}
    answer: Answer = take(signal, body, {**headers, "content-type": "application/grpc"})
    if answer.word in {"hang", "close", "reset"}:
        context.abort(grpc.StatusCode.UNAVAILABLE, f"told to {answer.word}")
    if answer.word == "drip":
        answer.released.wait()
    if answer.word == "truncate":
        context.abort(grpc.StatusCode.INTERNAL, "told to break off")
    if answer.word == "retry-after":
        context.set_trailing_metadata((("grpc-status-details-bin", _retry_info(answer.value)),))
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "told to be busy")
    if answer.word == "status" and not answer.value.startswith("2"):
        status = int(answer.value) if answer.value.isdigit() else 0
        name = GRPC_CODES.get(status, "UNAVAILABLE") if status else answer.value
        text = "grpc: received message larger than max" if status == 413 else "told to refuse"
        context.abort(grpc.StatusCode[name], text)
    return _success(signal, answer, as_json=False)


def _retry_info(seconds: str) -> bytes:
    from google.protobuf.duration_pb2 import Duration
    from google.rpc.error_details_pb2 import RetryInfo
    from google.rpc.status_pb2 import Status

    delay = Duration()
    delay.FromMilliseconds(int(float(seconds) * 1000))
    status = Status(code=8, message="told to be busy")
    status.details.add().Pack(RetryInfo(retry_delay=delay))
    content: bytes = status.SerializeToString()
    return content


# -- as a process ---------------------------------------------------------------------------------
class _Control(BaseHTTPRequestHandler):
    """`GET /received[?detail=1]`, `GET /wait?timeout=…&spans=…`, `POST /control`."""

    def __init__(self, *args: Any, backend: FaultyBackend) -> None:
        self.backend = backend
        super().__init__(*args)

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = dict(parse_qsl(url.query))
        if url.path == "/wait":
            timeout = float(query.pop("timeout", "10"))
            least = {key: int(value) for key, value in query.items()}
            self._say({"done": self.backend.wait(timeout=timeout, **least)})
        else:
            self._say(self.backend.received(detail="detail" in query))

    def do_POST(self) -> None:
        told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.backend.set(*told.pop("modes"), **told)
        self._say({})

    def _say(self, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Says nothing on the terminal."""


class Spawned:
    """A backend in a process of its own, with the methods of `FaultyBackend`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        assert process.stdout is not None
        places = json.loads(process.stdout.readline())
        self.endpoint: str = places["endpoint"]
        self.grpc_endpoint: str = places["grpc_endpoint"]
        self._control: str = places["control"]
        self.pid = process.pid

    def set(self, *modes: str, poison: str | None = None, limit: int | None = None) -> None:
        told = {"modes": modes, "poison": poison, "limit": limit}
        self._ask("/control", json.dumps(told).encode())

    def received(self, *, detail: bool = False) -> dict[str, Any]:
        return self._ask("/received?detail=1" if detail else "/received")

    def wait(self, *, timeout: float = 10.0, **least: int) -> bool:
        query = "&".join(f"{key}={value}" for key, value in least.items())
        return bool(self._ask(f"/wait?timeout={timeout}&{query}", timeout=timeout + 10)["done"])

    def stop(self) -> None:
        """Ends the process, which ends by itself when its standard input does."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _ask(self, path: str, body: bytes | None = None, timeout: float = 30) -> dict[str, Any]:
        # Without proxies: the environment's may be part of what is tested.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{self._control}{path}", body, timeout) as answer:
            found: dict[str, Any] = json.load(answer)
            return found


def spawn(*options: str) -> Spawned:
    """Starts a backend in a process of its own, with the options of the command line."""
    return Spawned(
        subprocess.Popen(
            [sys.executable, __file__, "--until-eof", *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mode", default="ok")
    parser.add_argument("--http-port", type=int, default=0)
    parser.add_argument("--grpc-port", type=int, default=0)
    parser.add_argument("--grpc-max", type=int, default=-1)
    parser.add_argument("--control-port", type=int, default=0)
    parser.add_argument("--certificate")
    parser.add_argument("--key")
    parser.add_argument("--client-ca")
    parser.add_argument("--until-eof", action="store_true", help="end with the standard input")
    told = vars(parser.parse_args())
    until_eof, control_port = told.pop("until_eof"), told.pop("control_port")
    with FaultyBackend(told.pop("mode"), **told) as backend:
        handler = partial(_Control, backend=backend)
        control = ThreadingHTTPServer(("127.0.0.1", control_port), handler)
        control.daemon_threads = True
        places = {
            "endpoint": backend.endpoint,
            "grpc_endpoint": backend.grpc_endpoint,
            "control": f"http://127.0.0.1:{control.server_port}",
        }
        print(json.dumps(places), flush=True)
        threading.Thread(target=control.serve_forever, args=(0.05,), daemon=True).start()
        with contextlib.suppress(KeyboardInterrupt):
            if until_eof:
                sys.stdin.read()
            else:
                threading.Event().wait()
        control.shutdown()
        control.server_close()


if __name__ == "__main__":
    main()
