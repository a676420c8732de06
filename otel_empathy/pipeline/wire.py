"""One connection to a backend whose every step ends at the deadline of the request in flight.

A socket's own timeout counts from the last byte, so that a peer which drips bytes holds its caller
for ever. A `Wire` gives each operation only what is left until the deadline. How a connection comes
about (addresses, proxy, TLS) is known here; what is said over it is not.
"""

from __future__ import annotations

import http.client
import io
import socket
import ssl
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from otel_empathy.core.clock import Clock
from otel_empathy.pipeline.otlp import Otlp, basic
from otel_empathy.pipeline.outcome import HTTP, Outcome, printable

__all__ = ["CONNECT_TIMEOUT", "Stopped", "Wire", "proxy_headers", "reach"]

CONNECT_TIMEOUT: Final = 3.0
_SLICE: Final = 64 << 10


class Stopped(Exception):
    """A connection that cannot come about, with what that means for the batch."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.message)
        self.outcome = outcome


class Wire:
    """A connected socket, as far as `http.client` needs one, that keeps to a deadline."""

    def __init__(self, sock: socket.socket, clock: Clock, *, deadline: float) -> None:
        self.sock = sock
        self.received = 0
        self._clock = clock
        self._deadline = deadline
        self._answers = 0
        self._closing = False

    def begin(self, deadline: float) -> None:
        """Starts a request that ends at a moment of the monotonic clock."""
        self._deadline = deadline
        self.received = 0

    def timed(self) -> socket.socket:
        """The socket, set to wait no longer than what is left."""
        left = self._deadline - self._clock.monotonic()
        if left <= 0:
            raise TimeoutError("the deadline has passed")
        self.sock.settimeout(left)
        return self.sock

    def sendall(self, data: bytes) -> None:
        """Sends everything, or raises at the deadline."""
        rest = memoryview(data)
        while rest:
            rest = rest[self.timed().send(rest[:_SLICE]) :]

    def makefile(self, mode: str) -> io.BufferedReader:  # noqa: ARG002 - as of a socket
        """The bytes that come back, as a file."""
        self._answers += 1
        return io.BufferedReader(_Answer(self))

    def answered(self) -> None:
        """Notes that the file of an answer was closed."""
        self._answers -= 1
        if self._closing and not self._answers:
            self.sock.close()

    def close(self) -> None:
        """Closes the socket, once the answer that is being read has been closed."""
        self._closing = True
        if not self._answers:
            self.sock.close()

    def interrupt(self) -> None:
        """Ends whatever waits on the socket, from any thread."""
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:  # it was not connected any more, which is what was wanted
            return


class _Answer(io.RawIOBase):
    """What a wire receives, counted."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = self._wire.timed().recv_into(buffer)
        self._wire.received += size
        return size

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._wire.answered()


def reach(url: str, otlp: Otlp, clock: Clock, *, deadline: float) -> Wire:
    """A new connection to where an address points: dialled, tunnelled and encrypted as it asks.

    Raises:
        OSError: Nobody can be reached there in time.
        Stopped: Something stands in the way that only a human can remove.
    """
    target = urlsplit(url)
    secure = target.scheme == "https"
    hop = urlsplit(otlp.proxy) if otlp.proxy else target
    # The files are read for each connection, because certificates are replaced while we run.
    context = _context(otlp) if secure else None
    wire = Wire(_dial(hop, clock, deadline=deadline), clock, deadline=deadline)
    try:
        if context is not None:
            if otlp.proxy:
                _tunnel(wire, hop, target)
            wire.sock = context.wrap_socket(wire.timed(), server_hostname=target.hostname)
    except BaseException:
        wire.close()
        raise
    return wire


def proxy_headers(proxy: str | None) -> dict[str, str]:
    """What a proxy wants to see of us."""
    parts = urlsplit(proxy or "")
    return {"proxy-authorization": basic(parts)} if parts.username is not None else {}


def _dial(hop: SplitResult, clock: Clock, *, deadline: float) -> socket.socket:
    """A socket connected to the first address that answers; each gets its share of the time.

    Looking the name up is the system's and takes as long as the system lets it.
    """
    port = hop.port or (443 if hop.scheme == "https" else 80)
    try:
        found = socket.getaddrinfo(hop.hostname, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise socket.gaierror(str(error)) from error
    limit = min(deadline, clock.monotonic() + CONNECT_TIMEOUT)
    failure: OSError = TimeoutError("the deadline has passed")
    for left, (family, kind, protocol, _, address) in zip(
        range(len(found), 0, -1), found, strict=True
    ):
        share = (limit - clock.monotonic()) / left
        if share <= 0:
            break
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(share)
            sock.connect(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            sock.close()
            failure = error
        else:
            return sock
    raise failure


def _tunnel(wire: Wire, proxy: SplitResult, target: SplitResult) -> None:
    """Asks the proxy for a connection to the target."""
    host = f"[{target.hostname}]" if ":" in (target.hostname or "") else target.hostname
    where = f"{host}:{target.port or 443}"
    fields = {"Host": where, **proxy_headers(proxy.geturl())}
    lines = [f"CONNECT {where} HTTP/1.1", *(f"{name}: {text}" for name, text in fields.items())]
    wire.sendall("\r\n".join((*lines, "", "")).encode("ascii"))
    with http.client.HTTPResponse(wire, method="CONNECT") as response:  # type: ignore[arg-type]
        response.begin()
        status = response.status
    if status // 100 == 2:  # noqa: PLR2004 - the class of success
        return
    row = HTTP.get(str(status)) or HTTP.get(f"{status // 100}xx", "retry")
    # Whatever a proxy thinks of the address, it has not seen the records.
    raise Stopped(
        Outcome(
            "retry" if row == "retry" else "pause",
            error=f"proxy_{status}",
            message=printable(f"the proxy at {proxy.hostname} answered {status} to CONNECT"),
        )
    )


def _context(otlp: Otlp) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=otlp.certificate)
        if otlp.client_certificate is not None:
            # An encrypted key would make OpenSSL ask for its password on the terminal.
            context.load_cert_chain(otlp.client_certificate, otlp.client_key, password=b"")
    except (OSError, ValueError) as error:
        message = printable(f"the certificate files cannot be used: {error}")
        raise Stopped(Outcome("pause", error="certificate_unusable", message=message)) from error
    return context
