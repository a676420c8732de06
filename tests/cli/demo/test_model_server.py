from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator

import pytest

from otel_empathy.cli.demo.chat import Chat, ModelError
from otel_empathy.cli.demo.model_server import ModelServer, Reply

ASK = [{"role": "user", "content": "hello"}]


@pytest.fixture
def server() -> Iterator[ModelServer]:
    script = {
        "steady": (Reply("one two", usage={"prompt_tokens": 3, "completion_tokens": 2}),),
        "limited": (Reply("slow down", 429, "rate_limit_exceeded", retry_after=0.5), Reply("ok")),
        "broken": (Reply("server error", 500, "server_error"),),
        "toolish": (Reply(tools={"weather": {"city": "Lisbon"}}),),
    }
    with ModelServer(script) as running:
        yield running


def test_a_reply_has_the_form_of_a_chat_completion(server: ModelServer) -> None:
    reply = Chat(port=server.port).ask("steady", ASK)
    assert reply["object"] == "chat.completion"
    assert reply["choices"][0]["message"] == {"role": "assistant", "content": "one two"}
    assert reply["choices"][0]["finish_reason"] == "stop"
    assert reply["usage"] == {"prompt_tokens": 3, "completion_tokens": 2}


def test_a_stream_ends_with_its_usage(server: ModelServer) -> None:
    chunks = list(Chat(port=server.port).stream("steady", ASK))
    text = "".join(c["delta"].get("content", "") for chunk in chunks for c in chunk["choices"])
    assert text == "one two"
    assert chunks[-1]["usage"] == {"prompt_tokens": 3, "completion_tokens": 2}
    assert [c["finish_reason"] for chunk in chunks for c in chunk["choices"]][-1] == "stop"


def test_the_script_is_followed_and_its_last_reply_repeats(server: ModelServer) -> None:
    chat = Chat(port=server.port)
    with pytest.raises(ModelError) as refused:
        chat.ask("limited", ASK)
    assert (refused.value.status_code, refused.value.retry_after) == (429, 0.5)
    assert [chat.ask("limited", ASK)["id"][-1] for _ in range(2)] == ["2", "3"]


def test_a_failing_model_answers_500(server: ModelServer) -> None:
    with pytest.raises(ModelError, match="500: server error"):
        Chat(port=server.port).ask("broken", ASK)


def test_a_tool_call_is_a_finish_reason(server: ModelServer) -> None:
    choice = Chat(port=server.port).ask("toolish", ASK)["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    call = choice["message"]["tool_calls"][0]["function"]
    assert (call["name"], json.loads(call["arguments"])) == ("weather", {"city": "Lisbon"})


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/chat/completions", b"{", 400),
        ("/v1/chat/completions", b"[]", 400),
        ("/v1/chat/completions", b'{"model":"none"}', 404),
        ("/elsewhere", b'{"model":"steady"}', 404),
    ],
)
def test_what_it_cannot_answer_is_a_client_error(
    server: ModelServer, path: str, body: bytes, status: int
) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    connection.request("POST", path, body)
    reply = connection.getresponse()
    assert reply.status == status
    assert "message" in json.loads(reply.read())["error"]
    connection.close()


def test_it_listens_on_loopback_only_and_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    with ModelServer({"m": (Reply("x", pace=5.0),)}) as running:
        assert running.server_address[0] == "127.0.0.1"
        stream = Chat(port=running.port).stream("m", ASK)
        next(stream)
        stream.close()
    assert set(threading.enumerate()) == before
