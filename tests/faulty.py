"""The faulty backend of `benchmarks/`, for tests: in threads here, or in a process of its own.

The `conftest.py` of a folder whose tests want the fixtures imports them from here.
"""

from __future__ import annotations

import contextlib
import importlib.util
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from otel_empathy.pipeline.chunk import SIGNALS, Chunk

_FILE = Path(__file__).parents[1] / "benchmarks" / "faulty_backend.py"

if TYPE_CHECKING:
    from benchmarks.faulty_backend import FaultyBackend, Spawned, spawn
else:
    _spec = importlib.util.spec_from_file_location("faulty_backend", _FILE)
    _module = sys.modules.setdefault("faulty_backend", importlib.util.module_from_spec(_spec))
    _spec.loader.exec_module(_module)
    FaultyBackend, Spawned, spawn = _module.FaultyBackend, _module.Spawned, _module.spawn

__all__ = [
    "Certificates",
    "FaultyBackend",
    "Spawned",
    "backend",
    "batch",
    "certificates",
    "deaf",
    "grpc_backend",
    "spawn",
    "spawned",
]


@dataclass(frozen=True)
class Certificates:
    """An authority, a server certificate for this machine, and a client certificate, as files."""

    authority: str
    server: str
    server_key: str
    client: str
    client_key: str

    @classmethod
    def issue(cls, folder: Path, *hosts: str) -> Certificates:
        """Makes all of them anew; the server is `hosts`, by default this machine."""
        folder.mkdir(exist_ok=True)
        authority = trustme.CA()
        authority.cert_pem.write_to_path(folder / "authority.pem")
        for name, leaf in (
            ("server", authority.issue_cert(*(hosts or ("127.0.0.1",)))),
            ("client", authority.issue_cert("client@example.com")),
        ):
            leaf.cert_chain_pems[0].write_to_path(folder / f"{name}.pem")
            leaf.private_key_pem.write_to_path(folder / f"{name}.key")
        names = ("authority.pem", "server.pem", "server.key", "client.pem", "client.key")
        return cls(*(str(folder / name) for name in names))


@pytest.fixture
def backend() -> Iterator[FaultyBackend]:
    """A backend over HTTP in threads of this process."""
    with FaultyBackend() as found:
        yield found


@pytest.fixture
def grpc_backend() -> Iterator[FaultyBackend]:
    """A backend over HTTP and gRPC in threads of this process."""
    with FaultyBackend(grpc_port=0) as found:
        yield found


@pytest.fixture
def spawned() -> Iterator[Any]:
    """A backend in a process of its own, for tests that fork, signal or kill."""
    with spawn() as found:
        yield found


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    """Certificates of an authority that nobody else trusts."""
    return Certificates.issue(tmp_path / "certificates")


@contextlib.contextmanager
def deaf() -> Iterator[str]:
    """A port whose queue is full, so that packets which would open a connection are dropped."""
    with contextlib.ExitStack() as stack:
        door = stack.enter_context(socket.socket())
        door.bind(("127.0.0.1", 0))
        door.listen(0)
        for _ in range(3):
            one = stack.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(door.getsockname())
        yield f"http://127.0.0.1:{door.getsockname()[1]}"


def batch(signal: str, n: int = 3, *, name: str = "chat") -> list[Chunk]:
    """One chunk of `n` spans with ids 1..n, `n` log records, or a metric of `n` points."""
    if signal == "traces":
        bodies = [
            f'{{"traceId":"{7:032x}","spanId":"{i + 1:016x}","name":"{name}","kind":1,'
            '"startTimeUnixNano":"1","endTimeUnixNano":"2"}'
            for i in range(n)
        ]
    elif signal == "logs":
        bodies = [f'{{"timeUnixNano":"1","body":{{"stringValue":"{name}"}}}}'] * n
    else:
        points = ",".join(f'{{"timeUnixNano":"1","asInt":"{i}"}}' for i in range(n))
        bodies = [f'{{"name":"{name}","gauge":{{"dataPoints":[{points}]}}}}']
    resource, scope = b'"resource":{"attributes":[]}', b'"scope":{"name":"test"}'
    return [Chunk(SIGNALS[signal], resource, scope, ",".join(bodies).encode(), n)]
