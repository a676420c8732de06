from __future__ import annotations

import json
import socket
import subprocess
import sys
import textwrap
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from faulty import Certificates, FaultyBackend, Spawned, batch, deaf

from otel_empathy import __version__
from otel_empathy.core.clock import SYSTEM
from otel_empathy.pipeline.chunk import SIGNALS, Chunk
from otel_empathy.pipeline.transport import (
    Console,
    ConsoleTransport,
    GrpcTransport,
    HttpTransport,
    Otlp,
    Outcome,
    Transport,
    connect,
)
from otel_empathy.testing import ManualClock

PROTOCOLS = ("http/protobuf", "http/json")


@contextmanager
def opened(otlp: Otlp, **arguments: Any) -> Iterator[Transport]:
    transport = connect(otlp, SYSTEM, **arguments)
    try:
        yield transport
    finally:
        transport.close()


def send(transport: Transport, signal: str = "traces", n: int = 3, within: float = 10) -> Outcome:
    return transport.send(SIGNALS[signal], batch(signal, n), SYSTEM.monotonic() + within)


class Peer:
    """A server of raw bytes: each connection is handed to a function; counts connections."""

    def __init__(self, serve: Callable[[Peer, socket.socket], None]) -> None:
        self._serve = serve
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.requests: list[bytes] = []
        self.released = threading.Event()
        port = self._listener.getsockname()[1]
        self.endpoint = f"http://127.0.0.1:{port}"
        self.address = f"127.0.0.1:{port}"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def connections(self) -> int:
        return len(self._open)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(connection)
            thread = threading.Thread(target=self._run, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _run(self, connection: socket.socket) -> None:
        try:
            self._serve(self, connection)
        except OSError:
            return

    def head(self, connection: socket.socket) -> bytes:
        """The bytes of a request until the blank line."""
        data = b""
        while b"\r\n\r\n" not in data and (more := connection.recv(1)):
            data += more
        if data:
            self.requests.append(data)
        return data

    def request(self, connection: socket.socket) -> bytes:
        """A whole request; empty when there comes none."""
        head = self.head(connection)
        fields = dict(
            line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line
        )
        left = int(fields.get(b"content-length", b"0"))
        while left > 0:
            left -= len(connection.recv(min(left, 65536)))
        return head

    def close(self) -> None:
        self.released.set()
        # A listener that another thread waits on is woken only by shutting it down.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            with suppress(OSError):  # those that the other side has closed
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        for connection in self._open:
            connection.close()


@contextmanager
def serving(serve: Callable[[Peer, socket.socket], None]) -> Iterator[Peer]:
    peer = Peer(serve)
    try:
        yield peer
    finally:
        peer.close()


def answering(*answers: bytes) -> Callable[[Peer, socket.socket], None]:
    """Answers each request of a connection with these bytes, then closes it."""

    def serve(peer: Peer, connection: socket.socket) -> None:
        for answer in answers:
            if not peer.request(connection):
                return
            connection.sendall(answer)
        connection.close()

    return serve


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


# -- what arrives ---------------------------------------------------------------------------------
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_all_signals_arrive(backend: FaultyBackend, protocol: Any, compression: Any) -> None:
    with opened(Otlp(backend.endpoint, protocol=protocol, compression=compression)) as transport:
        assert [send(transport, signal) for signal in SIGNALS] == [Outcome("ok")] * 3
    received = backend.received(detail=True)
    assert (received["spans"], received["points"], received["logs"]) == (3, 3, 3)
    assert received["span_ids"] == {f"{i:016x}": 1 for i in (1, 2, 3)}
    for request in received["log"]:
        expected = "gzip" if compression == "gzip" else None
        assert request["headers"].get("content-encoding") == expected
        assert request["headers"][":path"] == f"/v1/{request['signal']}"


def test_headers_of_the_backend_are_sent_and_ours_stay(backend: FaultyBackend) -> None:
    headers = {"Api-Key": "abc", "Content-Type": "text/plain"}
    with opened(Otlp(backend.endpoint, headers=headers)) as transport:
        send(transport)
    sent = backend.received(detail=True)["log"][0]["headers"]
    assert sent["api-key"] == "abc"
    assert sent["content-type"] == "application/x-protobuf"
    assert sent["user-agent"] == f"OTel-OTLP-Exporter-Python/otel-empathy-{__version__}"
    assert sent["host"] == backend.endpoint.removeprefix("http://")


def test_the_address_of_one_signal_is_posted_to_as_it_stands(backend: FaultyBackend) -> None:
    otlp = Otlp(urls={"metrics": f"{backend.endpoint}/api/otlp/v1/metrics?tenant=a"})
    with opened(otlp) as transport:
        send(transport, "metrics")
    sent = backend.received(detail=True)["log"][0]["headers"]
    assert sent[":path"] == "/api/otlp/v1/metrics?tenant=a"


def test_compression_is_gzip_at_the_cheapest_level() -> None:
    bodies: list[bytes] = []

    def serve(peer: Peer, connection: socket.socket) -> None:
        head = peer.head(connection)
        size = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        body = b""
        while len(body) < size:
            body += connection.recv(65536)
        bodies.append(body)
        connection.sendall(OK)

    with serving(serve) as peer, opened(Otlp(peer.endpoint, compression="gzip")) as transport:
        assert send(transport, n=512).kind == "ok"
    plain = zlib.decompress(bodies[0], 16 + zlib.MAX_WBITS)
    assert len(bodies[0]) < len(plain) / 4
    with FaultyBackend() as backend, opened(Otlp(backend.endpoint)) as transport:
        send(transport, n=512)
        assert backend.received(detail=True)["log"][0]["size"] == len(plain)


def test_the_encoder_can_be_given(backend: FaultyBackend) -> None:
    def encode(signal: Any, chunks: Any) -> bytes:
        return json.dumps({"resourceSpans": []}).encode()

    with opened(Otlp(backend.endpoint, protocol="http/json"), encode=encode) as transport:
        assert send(transport).kind == "ok"
    assert backend.received(detail=True)["log"][0]["records"] == 0


@pytest.mark.parametrize("protocol", [*PROTOCOLS, "grpc"])
def test_a_batch_that_cannot_be_encoded_is_refused(backend: FaultyBackend, protocol: Any) -> None:
    broken = [Chunk(SIGNALS["traces"], b"", b"", b"{", 1)]

    def encode(signal: Any, chunks: Any) -> bytes:
        raise ValueError("not JSON")

    with opened(Otlp(backend.endpoint, protocol=protocol), encode=encode) as transport:
        outcome = transport.send(SIGNALS["traces"], broken, SYSTEM.monotonic() + 5)
    assert (outcome.kind, outcome.error) == ("refuse", "encode_error")
    assert backend.received()["requests"] == 0


def test_each_protocol_has_its_transport() -> None:
    with opened(Otlp("http://c")) as transport:
        assert isinstance(transport, HttpTransport)
    with opened(Otlp("http://c", protocol="grpc")) as transport:
        assert isinstance(transport, GrpcTransport)
    assert isinstance(connect(Console(), SYSTEM), ConsoleTransport)


# -- what is answered -----------------------------------------------------------------------------
@pytest.mark.fault("N4")
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (200, "ok"), (202, "ok"), (301, "pause"), (307, "pause"), (400, "refuse"), (401, "pause"),
        (403, "pause"), (404, "pause"), (408, "retry"), (413, "split"), (429, "retry"),
        (500, "retry"), (502, "retry"), (503, "retry"), (504, "retry"),
    ],
)  # fmt: skip
def test_the_status_decides(backend: FaultyBackend, status: int, kind: str) -> None:
    backend.set(f"status:{status}")
    with opened(Otlp(backend.endpoint)) as transport:
        assert send(transport).kind == kind
    assert backend.received()["requests"] == 1  # nothing was followed or tried again


@pytest.mark.fault("N4")
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("signal", ["traces", "logs"])
def test_partial_rejections_are_counted(backend: FaultyBackend, protocol: Any, signal: str) -> None:
    backend.set("partial:2")
    with opened(Otlp(backend.endpoint, protocol=protocol)) as transport:
        assert send(transport, signal) == Outcome("ok", rejected=2, message="told to reject some")


@pytest.mark.fault("N5")
@pytest.mark.parametrize(
    ("value", "seconds"), [("7", 7), ("1e9", 300), ("-1", 0), ("garbage", None)]
)
def test_the_wait_that_was_asked_for_is_passed_on(
    backend: FaultyBackend, value: str, seconds: float | None
) -> None:
    backend.set(f"retry-after:{value}")
    with opened(Otlp(backend.endpoint)) as transport:
        outcome = send(transport)
    assert (outcome.kind, outcome.error, outcome.retry_after) == ("retry", "429", seconds)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_batch_with_poison_and_one_that_is_too_large_are_told_apart(
    backend: FaultyBackend, protocol: Any
) -> None:
    with opened(Otlp(backend.endpoint, protocol=protocol)) as transport:
        backend.set(poison="chat")
        assert send(transport).kind == "refuse"
        backend.set(limit=100)
        assert send(transport).kind == "split"
        backend.set()
        assert send(transport).kind == "ok"


# -- time -----------------------------------------------------------------------------------------
@pytest.mark.fault("N2")
@pytest.mark.parametrize("mode", ["hang", "drip:0.05", "slow:60"])
def test_a_backend_that_takes_its_time_is_left_at_the_deadline(
    backend: FaultyBackend, mode: str
) -> None:
    backend.set(mode)
    with opened(Otlp(backend.endpoint)) as transport:
        outcome = send(transport, within=0.3)
        assert (outcome.kind, outcome.error) == ("retry", "timeout")
        backend.set("ok")
        assert send(transport).kind == "ok"


@pytest.mark.fault("N2")
def test_the_timeout_of_the_backend_may_end_it_earlier(backend: FaultyBackend) -> None:
    backend.set("hang")
    with opened(Otlp(backend.endpoint, timeout=0.2)) as transport:
        assert send(transport, within=3600).error == "timeout"


@pytest.mark.fault("N2")
def test_header_lines_without_end_are_cut_too() -> None:
    def serve(peer: Peer, connection: socket.socket) -> None:
        peer.request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        while not peer.released.wait(0.02):
            connection.sendall(b"X")

    with serving(serve) as peer, opened(Otlp(peer.endpoint)) as transport:
        assert send(transport, within=0.3).error == "timeout"


@pytest.mark.fault("N2")
def test_a_peer_that_does_not_read_is_left_at_the_deadline() -> None:
    def serve(peer: Peer, connection: socket.socket) -> None:
        peer.released.wait()

    with serving(serve) as peer:
        huge = bytes(32 << 20)
        with opened(Otlp(peer.endpoint), encode=lambda *_: huge) as transport:
            assert send(transport, within=0.5).error == "timeout"


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, float | None]]:
    """How long each step of a connection may take, as its socket is told.

    The steps are real; only an observer stands between, since no test can wait the full times.
    """
    noted: list[tuple[str, float | None]] = []

    class Noting(socket.socket):
        ours = False

        def note(self, step: str) -> None:
            if self.ours:
                noted.append((step, self.gettimeout()))

        def connect(self, address: Any) -> None:
            self.ours = True  # those of the backend are accepted
            self.note("connect")
            super().connect(address)

        def send(self, *given: Any) -> int:
            self.note("send")
            return super().send(*given)

        def recv_into(self, *given: Any) -> int:
            self.note("receive")
            return super().recv_into(*given)

    monkeypatch.setattr(socket, "socket", Noting)
    return noted


@pytest.mark.fault("N2")
@pytest.mark.parametrize(
    ("given", "within", "connecting", "rest"),
    [
        ({}, 3600.0, 3.0, 10.0),  # what is agreed: 3 s to connect, 10 s in all
        ({}, 5.0, 3.0, 5.0),
        ({}, 2.0, 2.0, 2.0),
        ({"timeout": 60}, 3600.0, 3.0, 60.0),
        ({"timeout": 1}, 3600.0, 1.0, 1.0),
    ],
)
def test_a_connection_has_three_seconds_and_never_more_than_is_left_for_the_request(
    backend: FaultyBackend,
    limits: list[tuple[str, float | None]],
    given: dict[str, Any],
    within: float,
    connecting: float,
    rest: float,
) -> None:
    clock = ManualClock()
    transport = connect(Otlp(backend.endpoint, **given), clock)
    batches = SIGNALS["traces"], batch("traces"), clock.monotonic() + within
    assert transport.send(*batches).kind == "ok"
    transport.close()
    assert limits[0] == ("connect", connecting)
    assert set(limits[1:]) == {("send", rest), ("receive", rest)}


@pytest.mark.fault("N2")
def test_a_door_whose_queue_is_full_is_left_at_the_deadline(
    limits: list[tuple[str, float | None]],
) -> None:
    with deaf() as endpoint, opened(Otlp(endpoint)) as transport:
        assert send(transport, within=0.3).error == "timeout"
    ((step, limit),) = limits
    assert step == "connect"
    assert limit is not None
    assert 0 < limit <= 0.3


@pytest.mark.fault("N2")
def test_a_handshake_that_is_never_answered_is_left_at_the_deadline() -> None:
    def serve(peer: Peer, connection: socket.socket) -> None:
        peer.released.wait()

    with serving(serve) as peer, opened(Otlp(f"https://{peer.address}")) as transport:
        assert send(transport, within=0.3).error == "timeout"


def test_a_deadline_in_the_past_sends_nothing(backend: FaultyBackend) -> None:
    with opened(Otlp(backend.endpoint)) as transport:
        assert send(transport, within=-1).error == "timeout"
    assert backend.received()["requests"] == 0


@pytest.mark.fault("N2")
def test_closing_ends_what_is_in_flight(backend: FaultyBackend) -> None:
    backend.set("hang")
    transport = connect(Otlp(backend.endpoint, timeout=60), SYSTEM)
    outcomes: list[Outcome] = []
    thread = threading.Thread(target=lambda: outcomes.append(send(transport, within=60)))
    thread.start()
    assert backend.wait(requests=1)
    transport.close()
    thread.join(10)
    assert outcomes == [Outcome("retry", error="closed")]
    assert send(transport) == Outcome("retry", error="closed")


# -- no answer ------------------------------------------------------------------------------------
@pytest.mark.fault("N3")
def test_a_refused_connection_is_tried_again_later(backend: FaultyBackend) -> None:
    with opened(Otlp(backend.endpoint)) as transport:
        backend.set("down")
        assert send(transport).error == "connection_refused"
        backend.set("ok")
        assert send(transport).kind == "ok"


@pytest.mark.fault("N3")
def test_a_name_that_cannot_be_resolved_is_tried_again_later() -> None:
    # A label of more than 63 letters fails without asking any name server.
    with opened(Otlp(f"http://{'a' * 64}.invalid:4318")) as transport:
        outcome = send(transport)
    assert (outcome.kind, outcome.error) == ("retry", "name_not_resolved")


@pytest.mark.fault("N6")
@pytest.mark.parametrize(
    ("mode", "error"),
    [("reset", "connection_reset"), ("close", "connection_reset"), ("truncate", "truncated")],
)
def test_an_answer_that_breaks_off_is_no_success(
    backend: FaultyBackend, mode: str, error: str
) -> None:
    backend.set(mode, "ok")
    with opened(Otlp(backend.endpoint)) as transport:
        assert send(transport).error == error
        assert send(transport).kind == "ok"
    received = backend.received()
    assert received["spans"] == 3
    assert received["duplicates"] <= 3  # one batch, once more


@pytest.mark.fault("N6")
@pytest.mark.parametrize(
    ("answer", "kind", "error"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfive.", "retry", "truncated"),
        (b"HTTP/1.1 503 No\r\nContent-Length: 10\r\n\r\nfive.", "retry", "503"),
        (b"HTTP/1.1 400 No\r\nContent-Length: 10\r\n\r\nfive.", "refuse", "400"),
        (b"HTTP/1.1 413 No\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "split", "413"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "ok", None),
        (b"HTTP/1.1 200 OK\r\n\r\n", "ok", None),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", "ok", None),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, "ok", None),
        (b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + OK, "ok", None),
        (b"HTTP/1.1 102 Processing\r\n\r\n" * 3 + OK, "ok", None),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "retry", "101"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "retry", "protocol"),
        (b"HTTP/1.1 99999 Odd\r\n\r\n", "retry", "protocol"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n", "retry", "protocol"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000 + b"\r\n\r\n", "retry", "protocol"),
    ],
)
def test_odd_and_broken_answers_are_understood(answer: bytes, kind: str, error: str | None) -> None:
    with serving(answering(answer)) as peer, opened(Otlp(peer.endpoint)) as transport:
        outcome = send(transport)
    assert (outcome.kind, outcome.error) == (kind, error)


def test_of_an_endless_answer_only_the_beginning_is_read() -> None:
    def serve(peer: Peer, connection: socket.socket) -> None:
        while peer.request(connection):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
            while not peer.released.is_set():
                connection.sendall(bytes(65536))

    with serving(serve) as peer, opened(Otlp(peer.endpoint)) as transport:
        assert send(transport).kind == "ok"
        assert send(transport).kind == "ok"
        assert peer.connections == 2  # the rest of the answer lies in the first


def test_a_refusal_before_the_body_was_read_is_heard() -> None:
    def serve(peer: Peer, connection: socket.socket) -> None:
        peer.head(connection)
        connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        connection.close()  # with the body unread, which makes it a reset

    huge = bytes(32 << 20)
    with (
        serving(serve) as peer,
        opened(Otlp(peer.endpoint), encode=lambda *_: huge) as transport,
    ):
        assert send(transport).kind == "split"


def test_a_success_before_the_body_was_read_is_not_believed() -> None:
    def serve(peer: Peer, connection: socket.socket) -> None:
        peer.head(connection)
        connection.sendall(OK)
        connection.close()

    huge = bytes(32 << 20)
    with (
        serving(serve) as peer,
        opened(Otlp(peer.endpoint), encode=lambda *_: huge) as transport,
    ):
        outcome = send(transport)
    assert (outcome.kind, outcome.error) == ("retry", "connection_reset")


# -- kept connections -----------------------------------------------------------------------------
def test_a_connection_serves_many_batches() -> None:
    with (
        serving(answering(OK, OK, OK)) as peer,
        opened(Otlp(peer.endpoint)) as transport,
    ):
        assert [send(transport, signal).kind for signal in SIGNALS] == ["ok"] * 3
        assert peer.connections == 1


def test_what_announces_an_answer_is_not_taken_for_that_of_the_next_batch() -> None:
    hint = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    no = b"HTTP/1.1 400 No\r\nContent-Length: 0\r\n\r\n"
    with (
        serving(answering(hint + OK, hint + no, OK)) as peer,
        opened(Otlp(peer.endpoint)) as transport,
    ):
        assert [send(transport).kind for _ in range(3)] == ["ok", "refuse", "ok"]
        assert peer.connections == 1


def test_a_kept_connection_that_was_closed_meanwhile_is_replaced() -> None:
    with serving(answering(OK)) as peer, opened(Otlp(peer.endpoint)) as transport:
        assert send(transport).kind == "ok"
        assert send(transport).kind == "ok"
        assert peer.connections == 2
        assert len(peer.requests) == 2


def test_a_new_connection_that_closes_without_an_answer_is_not_replaced() -> None:
    def serve(peer: Peer, connection: socket.socket) -> None:
        peer.request(connection)
        connection.close()

    with serving(serve) as peer, opened(Otlp(peer.endpoint)) as transport:
        assert send(transport).error == "connection_reset"
        assert peer.connections == 1


def test_a_kept_connection_that_began_to_answer_is_not_replaced() -> None:
    with (
        serving(answering(OK, b"HTTP/1.1 2")) as peer,
        opened(Otlp(peer.endpoint)) as transport,
    ):
        assert send(transport).kind == "ok"
        assert send(transport).kind == "retry"
        assert peer.connections == 1


def test_a_kept_connection_that_is_reset_inside_an_answer_is_not_replaced() -> None:
    class Reset:
        """A socket with one byte of answer before its reset, which no real one can be told."""

        def __init__(self, sock: socket.socket) -> None:
            self._sock = sock
            self._said = False

        def __getattr__(self, name: str) -> Any:
            return getattr(self._sock, name)

        def recv_into(self, buffer: Any) -> int:
            if self._said:
                raise ConnectionResetError
            self._said = True
            buffer[:1] = b"H"
            return 1

    with serving(answering(OK, OK)) as peer, opened(Otlp(peer.endpoint)) as transport:
        assert send(transport).kind == "ok"
        assert isinstance(transport, HttpTransport)
        (line,) = transport._kept.values()
        line.wire.sock = Reset(line.wire.sock)  # type: ignore[assignment]
        assert send(transport).error == "connection_reset"
        assert peer.connections == 1


def test_a_connection_that_the_backend_closes_is_not_kept() -> None:
    closing = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"
    with serving(answering(closing)) as peer, opened(Otlp(peer.endpoint)) as transport:
        assert send(transport).kind == "ok"
        assert send(transport).kind == "ok"
        assert (peer.connections, len(peer.requests)) == (2, 2)


@pytest.mark.fault("P3")
def test_a_forked_child_opens_a_connection_of_its_own(spawned: Spawned, tmp_path: Path) -> None:
    script = f"""
        import os, sys
        sys.path.insert(0, {str(Path(__file__).parents[1])!r})
        from faulty import batch
        from otel_empathy.core.clock import SYSTEM
        from otel_empathy.pipeline.chunk import SIGNALS
        from otel_empathy.pipeline.transport import Otlp, connect

        transport = connect(Otlp({spawned.endpoint!r}), SYSTEM)

        def send():
            batches = batch("traces"), SYSTEM.monotonic() + 10
            return transport.send(SIGNALS["traces"], *batches).kind

        assert send() == "ok"
        sockets = [line.wire for line in transport._kept.values()]
        transport._sending.acquire()   # as a worker would hold it while somebody forks
        child = os.fork()
        if child == 0:
            done = send() == "ok" and [line.wire for line in transport._kept.values()] != sockets
            os._exit(0 if done else 1)
        transport._sending.release()
        assert os.waitpid(child, 0)[1] == 0
        assert send() == "ok"
        assert [line.wire for line in transport._kept.values()] == sockets
        transport.close()
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, timeout=15)
    assert spawned.received()["requests"] == 3


# -- TLS ------------------------------------------------------------------------------------------
def test_a_given_authority_is_trusted(certificates: Certificates) -> None:
    with FaultyBackend(certificate=certificates.server, key=certificates.server_key) as backend:
        with opened(Otlp(backend.endpoint, certificate=certificates.authority)) as transport:
            assert [send(transport).kind, send(transport).kind] == ["ok", "ok"]
        with opened(Otlp(backend.endpoint)) as transport:
            outcome = send(transport)
        assert (outcome.kind, outcome.error) == ("retry", "certificate_invalid")


def test_a_certificate_for_another_host_is_not_accepted(tmp_path: Path) -> None:
    files = Certificates.issue(tmp_path / "other", "other.example")
    with (
        FaultyBackend(certificate=files.server, key=files.server_key) as backend,
        opened(Otlp(backend.endpoint, certificate=files.authority)) as transport,
    ):
        assert send(transport).error == "certificate_invalid"
        assert backend.received()["requests"] == 0


def test_a_backend_that_demands_a_certificate_gets_ours(certificates: Certificates) -> None:
    with FaultyBackend(
        certificate=certificates.server,
        key=certificates.server_key,
        client_ca=certificates.authority,
    ) as backend:
        mutual = Otlp(
            backend.endpoint,
            certificate=certificates.authority,
            client_certificate=certificates.client,
            client_key=certificates.client_key,
        )
        with opened(mutual) as transport:
            assert send(transport).kind == "ok"
        with opened(Otlp(backend.endpoint, certificate=certificates.authority)) as transport:
            assert send(transport).kind == "retry"
        assert backend.received()["requests"] == 1


@pytest.mark.fault("N6")
def test_a_changed_certificate_is_followed_without_a_restart(tmp_path: Path) -> None:
    old = Certificates.issue(tmp_path / "used")
    backend = FaultyBackend(certificate=old.server, key=old.server_key)
    with opened(Otlp(backend.start().endpoint, certificate=old.authority)) as transport:
        assert send(transport).kind == "ok"
        new = Certificates.issue(tmp_path / "new")
        for name in ("server.pem", "server.key"):
            (tmp_path / "used" / name).write_bytes((tmp_path / "new" / name).read_bytes())
        backend.set("down")
        backend.set("ok")
        assert send(transport).error == "certificate_invalid"
        Path(old.authority).write_bytes(Path(new.authority).read_bytes())
        assert send(transport).kind == "ok"
    assert backend.received()["requests"] == 2
    backend.stop()


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_certificate_files_that_are_gone_need_a_human(
    certificates: Certificates, protocol: Any
) -> None:
    otlp = Otlp("https://127.0.0.1:9", protocol=protocol, certificate=certificates.authority)
    with opened(otlp) as transport:
        Path(certificates.authority).unlink()
        outcome = send(transport)
    assert (outcome.kind, outcome.error) == ("pause", "certificate_unusable")


def test_certificate_files_without_a_certificate_need_a_human(certificates: Certificates) -> None:
    Path(certificates.client).write_text("nothing\n")
    otlp = Otlp(
        "https://127.0.0.1:9",
        client_certificate=certificates.client,
        client_key=certificates.client_key,
    )
    with opened(otlp) as transport:
        assert send(transport).error == "certificate_unusable"


def test_tls_against_a_plain_backend_is_tried_again(backend: FaultyBackend) -> None:
    with opened(Otlp(backend.endpoint.replace("http:", "https:"))) as transport:
        outcome = send(transport)
    assert outcome.kind == "retry"
    assert outcome.error in {"tls", "connection_reset"}


# -- proxies --------------------------------------------------------------------------------------
def proxy(
    answer: bytes = b"HTTP/1.1 200 Connected\r\n\r\n",
) -> Callable[[Peer, socket.socket], None]:
    """Answers CONNECT as told and then carries bytes both ways."""

    def carry(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            return

    def serve(peer: Peer, connection: socket.socket) -> None:
        method, target = peer.head(connection).decode().split()[:2]
        assert method == "CONNECT"
        connection.sendall(answer)
        if b" 200 " not in answer:
            connection.close()
            return
        host, _, port = target.rpartition(":")
        with socket.create_connection((host, int(port))) as beyond:
            back = threading.Thread(target=carry, args=(beyond, connection), daemon=True)
            back.start()
            carry(connection, beyond)
            back.join(5)

    return serve


def test_tls_goes_through_a_tunnel(certificates: Certificates) -> None:
    with (
        FaultyBackend(certificate=certificates.server, key=certificates.server_key) as backend,
        serving(proxy()) as peer,
    ):
        way = f"http://user:pass@{peer.address}"
        otlp = Otlp(backend.endpoint, certificate=certificates.authority, proxy=way)
        with opened(otlp) as transport:
            assert [send(transport).kind, send(transport).kind] == ["ok", "ok"]
        assert backend.received()["requests"] == 2
        seen = backend.received(detail=True)["log"][0]["headers"]
        assert "proxy-authorization" not in seen
        assert seen[":path"] == "/v1/traces"
        asked = peer.requests[0].decode()
        assert asked.startswith(f"CONNECT 127.0.0.1:{backend.http_port} HTTP/1.1\r\n")
        assert "proxy-authorization: Basic dXNlcjpwYXNz\r\n" in asked


def test_plain_http_is_asked_of_the_proxy_by_its_full_address() -> None:
    with serving(answering(OK)) as peer:
        otlp = Otlp("http://collector:4318/p", proxy=f"http://user:pass@{peer.address}")
        with opened(otlp) as transport:
            assert send(transport).kind == "ok"
        asked = peer.requests[0].decode()
        assert asked.startswith("POST http://collector:4318/p/v1/traces HTTP/1.1\r\n")
        assert "host: collector:4318\r\n" in asked
        assert "proxy-authorization: Basic dXNlcjpwYXNz\r\n" in asked


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (407, "pause"),
        (403, "pause"),
        (400, "pause"),
        (413, "pause"),
        (502, "retry"),
        (429, "retry"),
    ],
)
def test_a_proxy_never_decides_about_records(status: int, kind: str) -> None:
    answer = f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n".encode()
    with serving(proxy(answer)) as peer:
        otlp = Otlp("https://collector", proxy=f"http://user:s3cret@{peer.address}")
        with opened(otlp) as transport:
            outcome = send(transport)
    assert (outcome.kind, outcome.error) == (kind, f"proxy_{status}")
    assert "s3cret" not in str(outcome.message)


@pytest.mark.fault("N2")
def test_a_proxy_that_never_answers_is_left_at_the_deadline() -> None:
    def serve(peer: Peer, connection: socket.socket) -> None:
        peer.released.wait()

    with (
        serving(serve) as peer,
        opened(Otlp("https://collector", proxy=f"http://{peer.address}")) as transport,
    ):
        assert send(transport, within=0.3).error == "timeout"


# -- what it costs --------------------------------------------------------------------------------
def test_http_needs_neither_grpc_nor_requests_nor_protobuf() -> None:
    script = """
        import sys
        from otel_empathy.core.clock import SYSTEM
        from otel_empathy.pipeline.transport import Otlp, connect
        connect(Otlp("http://127.0.0.1:9"), SYSTEM).close()
        connect(Otlp("http://127.0.0.1:9", protocol="http/json"), SYSTEM).close()
        connect(Otlp("http://127.0.0.1:9", protocol="grpc"), SYSTEM).close()
        heavy = {"grpc", "requests", "urllib3", "google.protobuf", "asyncio"} & set(sys.modules)
        assert not heavy, heavy
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, timeout=15)
