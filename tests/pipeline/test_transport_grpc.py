from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from faulty import Certificates, FaultyBackend, Spawned, batch, deaf

from otel_empathy import __version__
from otel_empathy.core.clock import SYSTEM
from otel_empathy.pipeline.chunk import SIGNALS
from otel_empathy.pipeline.transport import Otlp, Outcome, Transport, connect
from otel_empathy.testing import ManualClock


@contextmanager
def opened(endpoint: str, **arguments: Any) -> Iterator[Transport]:
    transport = connect(Otlp(endpoint, protocol="grpc", **arguments), SYSTEM)
    try:
        yield transport
    finally:
        transport.close()


def send(transport: Transport, signal: str = "traces", n: int = 3, within: float = 10) -> Outcome:
    return transport.send(SIGNALS[signal], batch(signal, n), SYSTEM.monotonic() + within)


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_all_signals_arrive(grpc_backend: FaultyBackend, compression: str) -> None:
    with opened(grpc_backend.grpc_endpoint, compression=compression) as transport:
        assert [send(transport, signal) for signal in SIGNALS] == [Outcome("ok")] * 3
    received = grpc_backend.received(detail=True)
    assert (received["spans"], received["points"], received["logs"]) == (3, 3, 3)
    assert received["span_ids"] == {f"{i:016x}": 1 for i in (1, 2, 3)}


def test_headers_travel_as_metadata(grpc_backend: FaultyBackend) -> None:
    headers = {
        "Api-Key": "abc",
        "trace-bin": "xyz",
        "User-Agent": "x",
        "grpc-status": "5",
        "a!": "b",
    }
    with opened(grpc_backend.grpc_endpoint, headers=headers) as transport:
        assert send(transport).kind == "ok"
    sent = grpc_backend.received(detail=True)["log"][0]["headers"]
    assert sent["api-key"] == "abc"
    assert sent["trace-bin"] == str(b"xyz")
    assert sent["user-agent"].startswith(f"OTel-OTLP-Exporter-Python/otel-empathy-{__version__} ")


@pytest.mark.fault("N4")
@pytest.mark.parametrize(
    ("mode", "kind", "error"),
    [
        ("status:400", "refuse", "INVALID_ARGUMENT"),
        ("status:401", "pause", "UNAUTHENTICATED"),
        ("status:403", "pause", "PERMISSION_DENIED"),
        ("status:404", "pause", "UNIMPLEMENTED"),
        ("status:413", "split", "RESOURCE_EXHAUSTED"),
        ("status:500", "retry", "INTERNAL"),
        ("status:503", "retry", "UNAVAILABLE"),
        ("status:DATA_LOSS", "retry", "DATA_LOSS"),
        ("status:ABORTED", "retry", "ABORTED"),
    ],
)
def test_the_status_decides(grpc_backend: FaultyBackend, mode: str, kind: str, error: str) -> None:
    grpc_backend.set(mode)
    with opened(grpc_backend.grpc_endpoint) as transport:
        outcome = send(transport)
    assert (outcome.kind, outcome.error) == (kind, error)
    assert grpc_backend.received()["requests"] == 1


@pytest.mark.fault("N4")
def test_partial_rejections_are_counted(grpc_backend: FaultyBackend) -> None:
    grpc_backend.set("partial:2")
    with opened(grpc_backend.grpc_endpoint) as transport:
        assert send(transport) == Outcome("ok", rejected=2, message="told to reject some")


@pytest.mark.fault("N5")
def test_the_wait_that_was_asked_for_is_passed_on(grpc_backend: FaultyBackend) -> None:
    grpc_backend.set("retry-after:7")
    with opened(grpc_backend.grpc_endpoint) as transport:
        outcome = send(transport)
    assert (outcome.kind, outcome.retry_after) == ("retry", 7)


@pytest.mark.fault("N4")
def test_the_limit_of_a_grpc_server_splits_the_batch() -> None:
    with (
        FaultyBackend(grpc_port=0, grpc_max=1000) as backend,
        opened(backend.grpc_endpoint) as transport,
    ):
        assert send(transport, n=100).kind == "split"
        assert send(transport, n=3).kind == "ok"


def test_a_socket_of_this_machine_is_an_address(tmp_path: Path) -> None:
    def answer(body: bytes, context: grpc.ServicerContext) -> bytes:
        return b""

    place = f"unix:{tmp_path}/collector.sock"
    with _server(answer, place) as endpoint, opened(endpoint) as transport:
        assert send(transport).kind == "ok"
    with opened(place) as transport:
        assert send(transport).error == "UNAVAILABLE"


def test_a_batch_whose_answer_is_too_long_to_be_read_is_not_sent_again() -> None:
    def answer(body: bytes, context: grpc.ServicerContext) -> bytes:
        return bytes(100_000)

    with _server(answer) as endpoint, opened(endpoint) as transport:
        outcome = send(transport)
    assert (outcome.kind, outcome.rejected) == ("ok", 0)


@pytest.mark.fault("N2")
@pytest.mark.parametrize("mode", ["hang", "slow:60"])
def test_a_backend_that_takes_its_time_is_left_at_the_deadline(
    grpc_backend: FaultyBackend, mode: str
) -> None:
    grpc_backend.set(mode)
    with opened(grpc_backend.grpc_endpoint) as transport:
        outcome = send(transport, within=0.3)
        assert (outcome.kind, outcome.error) == ("retry", "DEADLINE_EXCEEDED")
        assert send(transport, within=-1).error == "DEADLINE_EXCEEDED"
        grpc_backend.set("ok")
        assert send(transport).kind == "ok"


@pytest.mark.fault("N2")
def test_a_peer_that_is_silent_is_left_at_the_deadline() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        opened(f"http://127.0.0.1:{silent.getsockname()[1]}") as transport,
    ):
        assert send(transport, within=0.3).kind == "retry"


@pytest.mark.fault("N2")
def test_a_connection_has_three_seconds_though_more_is_left_for_the_request() -> None:
    # An attempt that was given up makes the backend unavailable; one that goes on for as long as
    # the request would end with the request.
    with deaf() as endpoint, opened(endpoint) as transport:
        assert send(transport, within=3600).error == "UNAVAILABLE"
    with deaf() as endpoint, opened(endpoint) as transport:
        assert send(transport, within=0.3).error == "DEADLINE_EXCEEDED"


@pytest.mark.fault("N2")
@pytest.mark.parametrize(("within", "limit"), [(3600.0, 10.0), (2.0, 2.0)])
def test_a_call_has_ten_seconds_and_a_connection_three(
    grpc_backend: FaultyBackend, monkeypatch: pytest.MonkeyPatch, within: float, limit: float
) -> None:
    clock = ManualClock()
    noted: list[float] = []
    opening: dict[str, Any] = {}
    real = grpc.insecure_channel

    class Noting:
        """A channel that notes how long a call may take, since no test can wait that long."""

        def __init__(self, target: str, options: Any, compression: Any) -> None:
            opening.update(options)
            self.channel = real(target, options, compression)

        def unary_unary(self, *given: Any) -> Any:
            export = self.channel.unary_unary(*given)

            def call(body: bytes, *, timeout: float, metadata: Any) -> Any:
                noted.append(timeout)
                return export(body, timeout=timeout, metadata=metadata)

            return call

        def close(self) -> None:
            self.channel.close()

    monkeypatch.setattr(grpc, "insecure_channel", Noting)
    transport = connect(Otlp(grpc_backend.grpc_endpoint, protocol="grpc"), clock)
    batches = SIGNALS["traces"], batch("traces"), clock.monotonic() + within
    assert transport.send(*batches).kind == "ok"
    transport.close()
    assert noted == [limit]
    assert opening["grpc.min_reconnect_backoff_ms"] == 3000  # the limit of one attempt


@pytest.mark.fault("N3")
def test_a_backend_that_comes_back_is_reached_at_once(grpc_backend: FaultyBackend) -> None:
    with opened(grpc_backend.grpc_endpoint) as transport:
        for _ in range(3):
            grpc_backend.set("down")
            outcomes = [send(transport) for _ in range(5)]
            assert {outcome.error for outcome in outcomes} == {"UNAVAILABLE"}
            grpc_backend.set("ok")
            # No back-off of the channel may stand between a living backend and the next try.
            assert send(transport, within=5).kind == "ok"


def test_closing_ends_what_is_in_flight(grpc_backend: FaultyBackend) -> None:
    grpc_backend.set("hang")
    outcomes: list[Outcome] = []
    with opened(grpc_backend.grpc_endpoint, timeout=60) as transport:
        thread = threading.Thread(target=lambda: outcomes.append(send(transport, within=60)))
        thread.start()
        assert grpc_backend.wait(requests=1)
        transport.close()
        thread.join(10)
        assert outcomes == [Outcome("retry", error="closed")]
        assert send(transport).error == "closed"


def test_tls_and_client_certificates(certificates: Certificates) -> None:
    with FaultyBackend(
        grpc_port=0,
        certificate=certificates.server,
        key=certificates.server_key,
        client_ca=certificates.authority,
    ) as backend:
        mutual = {
            "certificate": certificates.authority,
            "client_certificate": certificates.client,
            "client_key": certificates.client_key,
        }
        with opened(backend.grpc_endpoint, **mutual) as transport:
            assert send(transport).kind == "ok"
        for arguments in ({}, {"certificate": certificates.authority}):
            with opened(backend.grpc_endpoint, **arguments) as transport:
                assert send(transport, within=3).kind == "retry"
        assert backend.received()["requests"] == 1


def test_one_file_may_hold_certificate_and_key(certificates: Certificates, tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(
        Path(certificates.client).read_bytes() + Path(certificates.client_key).read_bytes()
    )
    with FaultyBackend(
        grpc_port=0,
        certificate=certificates.server,
        key=certificates.server_key,
        client_ca=certificates.authority,
    ) as backend:
        arguments = {"certificate": certificates.authority, "client_certificate": both}
        for endpoint, protocol in (
            (backend.grpc_endpoint, "grpc"),
            (backend.endpoint, "http/protobuf"),
        ):
            transport = connect(Otlp(endpoint, protocol=protocol, **arguments), SYSTEM)  # type: ignore[arg-type]
            assert send(transport).kind == "ok"
            transport.close()


def test_a_proxy_is_gone_through(grpc_backend: FaultyBackend) -> None:
    asked: list[str] = []
    threads: list[threading.Thread] = []

    def carry(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            return

    def serve() -> None:
        connection, _ = listener.accept()
        with connection, socket.create_connection(("127.0.0.1", port)) as beyond:
            head = b""
            while b"\r\n\r\n" not in head:
                head += connection.recv(1)
            asked.append(head.decode())
            connection.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
            back = threading.Thread(target=carry, args=(beyond, connection), daemon=True)
            back.start()
            carry(connection, beyond)
            back.join(5)

    port = int(str(grpc_backend.grpc_port))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threads.append(threading.Thread(target=serve, daemon=True))
        threads[0].start()
        way = f"http://user:pass@127.0.0.1:{listener.getsockname()[1]}"
        with opened("http://collector.example:4317", proxy=way) as transport:
            assert send(transport).kind == "ok"
        threads[0].join(5)
    assert asked[0].startswith("CONNECT collector.example:4317 HTTP/1.")
    assert "authorization: basic dxnlcjpwyxnz" in asked[0].lower()


def test_proxies_of_the_environment_are_ours_to_decide(spawned: Spawned) -> None:
    script = f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).parents[1])!r})
        from faulty import batch
        from otel_empathy.core.clock import SYSTEM
        from otel_empathy.pipeline.chunk import SIGNALS
        from otel_empathy.pipeline.transport import Otlp, connect
        transport = connect(Otlp({spawned.grpc_endpoint!r}, protocol="grpc"), SYSTEM)
        outcome = transport.send(SIGNALS["traces"], batch("traces"), SYSTEM.monotonic() + 10)
        transport.close()
        assert outcome.kind == "ok", outcome
    """
    environ = {**os.environ, "http_proxy": "http://127.0.0.1:9", "grpc_proxy": "http://127.0.0.1:9"}
    environ.pop("no_proxy", None)
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], check=True, timeout=15, env=environ
    )


@pytest.mark.fault("P3")
def test_a_forked_child_sends_too(spawned: Spawned) -> None:
    script = f"""
        import os, sys
        sys.path.insert(0, {str(Path(__file__).parents[1])!r})
        from faulty import batch
        from otel_empathy.core.clock import SYSTEM
        from otel_empathy.pipeline.chunk import SIGNALS
        from otel_empathy.pipeline.transport import Otlp, connect

        inherited = connect(Otlp({spawned.grpc_endpoint!r}, protocol="grpc"), SYSTEM)

        def send(transport):
            batches = batch("traces"), SYSTEM.monotonic() + 10
            return transport.send(SIGNALS["traces"], *batches).kind

        assert send(inherited) == "ok"
        inherited._sending.acquire()   # as a worker would hold it while somebody forks
        child = os.fork()
        if child == 0:
            own = connect(Otlp({spawned.grpc_endpoint!r}, protocol="grpc"), SYSTEM)
            done = send(own) == "ok" and send(inherited) == "ok"
            os._exit(0 if done else 1)
        inherited._sending.release()
        assert os.waitpid(child, 0)[1] == 0
        assert send(inherited) == "ok"
        inherited.close()
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, timeout=15)
    assert spawned.received()["requests"] == 4


@contextmanager
def _server(answer: Any, place: str = "127.0.0.1:0") -> Iterator[str]:
    from concurrent.futures import ThreadPoolExecutor

    server = grpc.server(ThreadPoolExecutor(1))
    service = "opentelemetry.proto.collector.trace.v1.TraceService"
    method = grpc.unary_unary_rpc_method_handler(answer)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(service, {"Export": method}),)
    )
    port = server.add_insecure_port(place)
    server.start()
    try:
        yield place if place.startswith("unix:") else f"http://127.0.0.1:{port}"
    finally:
        server.stop(None).wait()
