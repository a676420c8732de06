"""A chat client of a few lines over `http.client`, as an application might have one.

It knows HTTP and nothing of telemetry: the demo shows that any code of one's own can be observed.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Generator, Mapping, Sequence
from http.client import HTTPConnection, HTTPResponse
from typing import Any

__all__ = ["Chat", "ModelError"]

_TIMEOUT = 10.0
_FAILED = 400  # statuses from here on are errors


class ModelError(Exception):
    """The model server refused or failed.

    Args:
        status: HTTP status of the answer.
        message: What the server said.
        retry_after: Seconds that it asked to wait.
    """

    def __init__(self, status: int, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(f"{status}: {message}")
        self.status_code = status
        self.retry_after = retry_after


class Chat:
    """Chat completions of one server.

    Args:
        port: Where the server listens on 127.0.0.1.
    """

    def __init__(self, *, port: int) -> None:
        self._port = port

    def ask(self, model: str, messages: Sequence[Mapping[str, str]]) -> dict[str, Any]:
        """One whole reply."""
        connection = HTTPConnection("127.0.0.1", self._port, timeout=_TIMEOUT)
        try:
            reply = self._post(connection, {"model": model, "messages": list(messages)})
            answer = json.loads(reply.read())
            assert isinstance(answer, dict)
            return answer
        finally:
            connection.close()

    def stream(
        self, model: str, messages: Sequence[Mapping[str, str]]
    ) -> Generator[dict[str, Any], None, None]:
        """The chunks of a streamed reply, the last one with the usage."""
        connection = HTTPConnection("127.0.0.1", self._port, timeout=_TIMEOUT)
        body = {
            "model": model,
            "messages": list(messages),
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        try:
            for line in self._post(connection, body):
                data = line.removeprefix(b"data: ").strip()
                if data == b"[DONE]":
                    return
                if data:
                    yield json.loads(data)
        finally:
            connection.close()

    @staticmethod
    def wait(seconds: float | None) -> None:
        """Wait as long as a refusal asked for."""
        threading.Event().wait(seconds or 0.0)

    @staticmethod
    def _post(connection: HTTPConnection, body: Mapping[str, Any]) -> HTTPResponse:
        connection.request(
            "POST",
            "/v1/chat/completions",
            json.dumps(body),
            {"Content-Type": "application/json"},
        )
        reply = connection.getresponse()
        if reply.status < _FAILED:
            return reply
        error = json.loads(reply.read()).get("error", {})
        wait = reply.getheader("Retry-After")
        raise ModelError(
            reply.status, str(error.get("message")), retry_after=float(wait) if wait else None
        )
