"""OTLP over gRPC: the same bytes as over HTTP, through a channel without generated stubs.

grpc is imported when the first batch is sent, in the thread that sends, and the channel lives from
then until `close()` or until the backend was not to be had: a new channel tries at once, where an
old one would sit out its own back-off beside that of the sender.
"""

from __future__ import annotations

import os
import re
import ssl
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from otel_empathy.core.clock import Clock
from otel_empathy.pipeline.chunk import Chunk, Signal
from otel_empathy.pipeline.otlp import Otlp, origin
from otel_empathy.pipeline.outcome import Outcome, of_grpc, partial_success, printable
from otel_empathy.pipeline.wire import CONNECT_TIMEOUT, Stopped

if TYPE_CHECKING:
    import grpc

__all__ = ["GrpcTransport"]

_METHODS: Final = {
    "traces": "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    "metrics": "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    "logs": "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
}
_ANSWER_MAX: Final = 64 << 10
# Our own word about an answer beyond that. A server that refuses sends no message at all.
_UNREAD: Final = re.compile(rf"CLIENT: Received message larger than max \(\d+ vs\. {_ANSWER_MAX}\)")
# Other names make gRPC fail each call, and those it keeps for itself confuse the answer.
_METADATA_NAME: Final = re.compile(r"(?!grpc-)[0-9a-z_.-]+")


class GrpcTransport:
    """OTLP over gRPC, one channel per host.

    Args:
        otlp: The backend, resolved.
        clock: The clock of the deadlines.
        encode: Makes the request of a batch.
        user_agent: What the backend reads about us.
    """

    def __init__(
        self,
        otlp: Otlp,
        clock: Clock,
        *,
        encode: Callable[[Signal, Sequence[Chunk]], bytes],
        user_agent: str,
    ) -> None:
        self._otlp = otlp
        self._clock = clock
        self._encode = encode
        self._user_agent = user_agent
        self._channels: dict[tuple[str, str, int], grpc.Channel] = {}
        self._sending = threading.Lock()
        self._closed = False
        self._pid = os.getpid()
        self._metadata = tuple(
            (name, text.encode() if name.endswith("-bin") else text)
            for name, text in (otlp.headers or {}).items()
            if _METADATA_NAME.fullmatch(name)
        )

    def send(self, signal: Signal, chunks: Sequence[Chunk], deadline: float) -> Outcome:
        """Calls `Export` with one batch."""
        if os.getpid() != self._pid:  # the parent may have held the lock as it forked
            self._pid, self._sending = os.getpid(), threading.Lock()
        with self._sending:
            deadline = min(deadline, self._clock.monotonic() + (self._otlp.timeout or 0))
            try:
                body = self._encode(signal, chunks)
            except Exception as error:  # noqa: BLE001 - whatever a record does to the encoder
                return Outcome("refuse", error="encode_error", message=printable(repr(error)))
            return self._call(signal, body, sum(chunk.count for chunk in chunks), deadline)

    def close(self) -> None:
        """Cancels what is in flight and closes the channels."""
        self._closed = True
        for channel in tuple(self._channels.values()):
            channel.close()

    def _call(self, signal: Signal, body: bytes, sent: int, deadline: float) -> Outcome:
        import grpc  # noqa: PLC0415 - only who sends by gRPC pays for it

        place = origin(self._otlp.url(signal.name))
        left = deadline - self._clock.monotonic()
        if left <= 0:
            return Outcome("retry", error="DEADLINE_EXCEEDED", message="the deadline has passed")
        try:
            channel = self._channels.get(place) or self._open(place)
            if self._closed:
                channel.close()
                return Outcome("retry", error="closed")
            export: Callable[..., bytes] = channel.unary_unary(_METHODS[signal.name], None, None)
            answer = export(body, timeout=left, metadata=self._metadata)
        except Stopped as stopped:
            return stopped.outcome
        except grpc.RpcError as error:
            return self._failed(error, place)
        except ValueError as error:  # a channel that was closed meanwhile
            return Outcome("retry", error="closed", message=printable(str(error)))
        rejected, message = partial_success(answer, as_json=False)
        return Outcome("ok", rejected=min(rejected, sent), message=message)

    def _failed(self, error: Any, place: tuple[str, str, int]) -> Outcome:
        if self._closed:
            return Outcome("retry", error="closed")
        if _UNREAD.search(error.details() or ""):
            return Outcome("ok", message="the backend's answer is too long to be read")
        outcome = of_grpc(error.code().name, error.details(), dict(error.trailing_metadata() or ()))
        if outcome.error == "UNAVAILABLE":
            self._channels.pop(place).close()
        return outcome

    def _open(self, place: tuple[str, str, int]) -> grpc.Channel:
        import grpc  # noqa: PLC0415 - only who sends by gRPC pays for it

        scheme, host, port = place
        target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}" if port else f"unix:{host}"
        options: list[tuple[str, Any]] = [
            ("grpc.primary_user_agent", self._user_agent),
            ("grpc.max_receive_message_length", _ANSWER_MAX),
            ("grpc.max_send_message_length", -1),
            # The limit of one connection attempt, and no waiting beside the sender's.
            ("grpc.min_reconnect_backoff_ms", int(CONNECT_TIMEOUT * 1000)),
            ("grpc.max_reconnect_backoff_ms", int(CONNECT_TIMEOUT * 1000)),
            # Shared subchannels would hand the back-off of a closed channel to the next one.
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.enable_http_proxy", int(bool(self._otlp.proxy))),
        ]
        if self._otlp.proxy:
            options.append(("grpc.http_proxy", self._otlp.proxy))
        packed = self._otlp.compression == "gzip"
        compression = grpc.Compression.Gzip if packed else grpc.Compression.NoCompression
        if scheme == "https":
            channel = grpc.secure_channel(target, self._credentials(), options, compression)
        else:
            channel = grpc.insecure_channel(target, options, compression)
        self._channels[place] = channel
        return channel

    def _credentials(self) -> grpc.ChannelCredentials:
        import grpc  # noqa: PLC0415 - only who sends by gRPC pays for it

        # Without a file gRPC would trust the list that it brings along, not the system's.
        trusted = self._otlp.certificate or ssl.get_default_verify_paths().cafile
        shown = self._otlp.client_certificate
        files = (trusted, self._otlp.client_key or shown, shown)  # one file may hold both
        try:
            return grpc.ssl_channel_credentials(
                *(Path(file).read_bytes() if file else None for file in files)
            )
        except OSError as error:
            message = printable(f"the certificate files cannot be used: {error}")
            raise Stopped(
                Outcome("pause", error="certificate_unusable", message=message)
            ) from error
