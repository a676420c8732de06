"""A model server for the demo and for tests: chat completions on loopback, by a script.

It speaks the chat-completions form over plain HTTP, whole replies and streams of server-sent
events, and fails where its script says so. It knows no model: what it answers is written down
beforehand, a list of replies for each model, given one after the other; the last one repeats.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

from otel_empathy.core.clock import SYSTEM, Clock

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["ModelServer", "Reply"]

_MAX_BODY = 1 << 20
_REFUSED = 400  # statuses from here on are errors


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer of the script.

    Args:
        text: What the model says, or the message of the error.
        status: HTTP status; from 400 on the answer is an error.
        error: The provider's code of the error.
        tools: The tools that the model asks for, with their arguments.
        usage: Token counts as the provider reports them.
        wait: Seconds before the answer begins.
        pace: Seconds between two chunks of a stream.
        retry_after: Seconds that a refused client should wait.
    """

    text: str = ""
    status: int = 200
    error: str = ""
    tools: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    usage: Mapping[str, Any] = field(default_factory=dict)
    wait: float = 0.0
    pace: float = 0.0
    retry_after: float | None = None


class ModelServer(ThreadingHTTPServer):
    """The server, answering while it is entered.

    Args:
        script: The replies of each model.
        port: Where to listen on 127.0.0.1; 0 takes a free port.
        clock: Stamps the replies.
    """

    daemon_threads = False  # leaving waits for exchanges that are under way: no thread stays behind

    def __init__(
        self, script: Mapping[str, Sequence[Reply]], *, port: int = 0, clock: Clock = SYSTEM
    ) -> None:
        self.closing = threading.Event()
        self.clock = clock
        self._script = {model: tuple(replies) for model, replies in script.items()}
        self._turns: Counter[str] = Counter()
        self._lock = threading.Lock()
        super().__init__(("127.0.0.1", port), _Exchange)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self.server_address[1])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.closing.set()
        self.shutdown()
        self.server_close()
        self._thread.join(5)

    def turn(self, model: str) -> tuple[int, Reply] | None:
        """Number and reply of this request to a model, None for an unknown model."""
        replies = self._script.get(model)
        if not replies:
            return None
        with self._lock:
            self._turns[model] += 1
            turn = self._turns[model]
        return turn, replies[min(turn, len(replies)) - 1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away in the middle is its own affair: nothing is printed."""


class _Exchange(BaseHTTPRequestHandler):
    """One request and its answer."""

    protocol_version = "HTTP/1.1"
    timeout = 10

    def do_POST(self) -> None:
        """Answer a chat completion."""
        server = cast("ModelServer", self.server)
        try:
            length = int(self.headers.get("Content-Length", "0"))
            request = json.loads(self.rfile.read(min(length, _MAX_BODY)))
            model, stream = str(request["model"]), request.get("stream") is True
            asks_usage = (request.get("stream_options") or {}).get("include_usage") is True
        except (ValueError, TypeError, KeyError, AttributeError):
            self._refuse(Reply("the body is no chat request", 400, "invalid_request_error"))
            return
        if self.path != "/v1/chat/completions":
            self._refuse(Reply(f"there is no {self.path}", 404, "not_found"))
            return
        found = server.turn(model)
        if found is None:
            self._refuse(Reply(f"there is no model {model}", 404, "model_not_found"))
            return
        turn, reply = found
        server.closing.wait(reply.wait)
        if reply.status >= _REFUSED:
            self._refuse(reply)
            return
        frame = {
            "id": f"chatcmpl-{model}-{turn}",
            "created": server.clock.time_ns() // 1_000_000_000,
            "model": model,
        }
        if stream:
            self._stream(frame, reply, with_usage=asks_usage)
        else:
            message: dict[str, Any] = {"role": "assistant", "content": reply.text or None}
            if reply.tools:
                message["tool_calls"] = _tool_calls(reply)
            choice = {"index": 0, "message": message, "finish_reason": _finish(reply)}
            self._send(
                200,
                {
                    **frame,
                    "object": "chat.completion",
                    "choices": [choice],
                    "usage": dict(reply.usage),
                },
            )

    def _stream(self, frame: Mapping[str, Any], reply: Reply, *, with_usage: bool) -> None:
        server = cast("ModelServer", self.server)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("Connection", "close")
        self.end_headers()
        for event in _events(frame, reply, with_usage=with_usage):
            data = f"data: {event}\n\n".encode()
            self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
            self.wfile.flush()
            server.closing.wait(reply.pace)
        self.wfile.write(b"0\r\n\r\n")

    def _refuse(self, reply: Reply) -> None:
        headers = {}
        if reply.retry_after is not None:
            headers["Retry-After"] = f"{reply.retry_after:g}"
        self._send(
            reply.status, {"error": {"message": reply.text, "code": reply.error}}, headers=headers
        )

    def _send(
        self, status: int, body: Mapping[str, Any], *, headers: Mapping[str, str] | None = None
    ) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Connection", "close")
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is inherited
        """Stay silent: the demo's terminal belongs to the demo."""


def _events(frame: Mapping[str, Any], reply: Reply, *, with_usage: bool) -> Iterator[str]:
    """The data of each server-sent event of a streamed reply."""

    def chunk(delta: Mapping[str, Any], finish: str | None = None) -> str:
        choice = {"index": 0, "delta": dict(delta), "finish_reason": finish}
        return json.dumps({**frame, "object": "chat.completion.chunk", "choices": [choice]})

    yield chunk({"role": "assistant", "content": ""})
    words = reply.text.split(" ") if reply.text else []
    for place, word in enumerate(words):
        yield chunk({"content": word if place == 0 else f" {word}"})
    if reply.tools:
        yield chunk({"tool_calls": _tool_calls(reply)})
    yield chunk({}, _finish(reply))
    if with_usage:
        yield json.dumps(
            {**frame, "object": "chat.completion.chunk", "choices": [], "usage": dict(reply.usage)}
        )
    yield "[DONE]"


def _finish(reply: Reply) -> str:
    return "tool_calls" if reply.tools else "stop"


def _tool_calls(reply: Reply) -> list[dict[str, Any]]:
    return [
        {
            "index": place,
            "id": f"call_{place + 1}",
            "type": "function",
            "function": {"name": name, "arguments": json.dumps(dict(arguments))},
        }
        for place, (name, arguments) in enumerate(reply.tools.items())
    ]
