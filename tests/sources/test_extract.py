from __future__ import annotations

from types import SimpleNamespace as Obj
from typing import Any
from unittest.mock import MagicMock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_empathy.core.call import Call
from otel_empathy.core.usage import Usage
from otel_empathy.sources.extract import read_chunks, read_reply, reader


def objects(value: Any) -> Any:
    """The same reply as a library's objects."""
    if isinstance(value, dict):
        return Obj(**{key: objects(item) for key, item in value.items()})
    if isinstance(value, list):
        return [objects(item) for item in value]
    return value


REPLIES: list[tuple[str, dict[str, Any], Usage, tuple[Any, ...]]] = [
    (
        "openai chat",
        {
            "id": "c",
            "model": "gpt-4o",
            "choices": [{"index": 1, "finish_reason": "length"}, {"finish_reason": "stop"}],
            "usage": {
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 1},
                "completion_tokens_details": {"reasoning_tokens": 2, "audio_tokens": 3},
            },
        },
        Usage(input=10, output=5, cache_read=4, reasoning=2, audio_input=1, audio_output=3),
        ("gpt-4o", "c", ("length", "stop")),
    ),
    (
        "openai embeddings",
        {"model": "e", "usage": {"prompt_tokens": 7, "total_tokens": 7}},
        Usage(input=7),
        ("e", None, None),
    ),
    (
        "openai responses",
        {
            "id": "r",
            "model": "gpt-5",
            "status": "incomplete",
            "output": [],
            "incomplete_details": {"reason": "max_output_tokens"},
            "usage": {
                "input_tokens": 10,
                "output_tokens": 5,
                "input_tokens_details": {"cached_tokens": 4},
                "output_tokens_details": {"reasoning_tokens": 2},
            },
        },
        Usage(input=10, output=5, cache_read=4, reasoning=2),
        ("gpt-5", "r", ("length",)),
    ),
    (
        "anthropic",
        {
            "id": "m",
            "model": "claude",
            "stop_reason": "end_turn",
            "usage": {
                "input_tokens": 10,
                "output_tokens": 5,
                "cache_read_input_tokens": 90,
                "cache_creation_input_tokens": 20,
                "cache_creation": {
                    "ephemeral_5m_input_tokens": 15,
                    "ephemeral_1h_input_tokens": 5,
                },
            },
        },
        Usage(input=120, output=5, cache_read=90, cache_write=20, cache_write_1h=5),
        ("claude", "m", ("end_turn",)),
    ),
    (
        "gemini",
        {
            "response_id": "g",
            "model_version": "gemini",
            "candidates": [{"finish_reason": "STOP"}],
            "usage_metadata": {
                "prompt_token_count": 10,
                "candidates_token_count": 5,
                "thoughts_token_count": 3,
                "cached_content_token_count": 4,
                "tool_use_prompt_token_count": 2,
                "prompt_tokens_details": [
                    {"modality": "TEXT", "token_count": 6},
                    {"modality": "AUDIO", "token_count": 4},
                ],
            },
        },
        Usage(input=12, output=8, cache_read=4, reasoning=3, audio_input=4),
        ("gemini", "g", ("STOP",)),
    ),
    (
        "gemini over REST",
        {
            "responseId": "g",
            "modelVersion": "gemini",
            "candidates": [{"finishReason": "MAX_TOKENS"}],
            "usageMetadata": {"promptTokenCount": 10, "candidatesTokenCount": 5},
        },
        Usage(input=10, output=5),
        ("gemini", "g", ("MAX_TOKENS",)),
    ),
    (
        "langchain",
        {
            "usage_metadata": {
                "input_tokens": 10,
                "output_tokens": 5,
                "input_token_details": {"cache_read": 4, "cache_creation": 1},
                "output_token_details": {"reasoning": 2},
            }
        },
        Usage(input=10, output=5, cache_read=4, cache_write=1, reasoning=2),
        (None, None, None),
    ),
    (
        "cohere, billed over used",
        {
            "id": "co",
            "finish_reason": "COMPLETE",
            "usage": {
                "billed_units": {"input_tokens": 3, "output_tokens": 4},
                "tokens": {"input_tokens": 80, "output_tokens": 4},
            },
        },
        Usage(input=3, output=4),
        (None, "co", ("COMPLETE",)),
    ),
    (
        "cohere, older",
        {"meta": {"billed_units": {"input_tokens": 3, "output_tokens": 4}}},
        Usage(input=3, output=4),
        (None, None, None),
    ),
]


@pytest.mark.parametrize("form", [dict, objects], ids=["mapping", "objects"])
@pytest.mark.parametrize(
    ("reply", "usage", "names"), [row[1:] for row in REPLIES], ids=[row[0] for row in REPLIES]
)
def test_replies_are_told_apart_by_their_fields(
    form: Any, reply: dict[str, Any], usage: Usage, names: tuple[Any, ...]
) -> None:
    call = Call("chat")
    read_reply(call, form(reply))
    assert call.tokens == usage
    assert (call.response_model, call.response_id, call.finish) == names
    assert call.refused == ()


@pytest.mark.parametrize(
    "reply",
    [
        None, "text", b"x", 3, 2.5, True, [1], (1,), {}, {"usage": None}, {"usage": "many"},
        {"usage": {"prompt_tokens": "7"}}, {"usage": {"prompt_tokens": -1}},
        {"usage": {"prompt_tokens": True}}, {"model": 3, "id": 4, "choices": "x"}, MagicMock(),
        object(),
    ],
)  # fmt: skip
def test_what_is_no_reply_says_nothing(reply: Any) -> None:
    # A mock has every field: whatever is no number and no text must not count as one.
    call = Call("chat")
    read_reply(call, reply)
    read_chunks(call, [reply, reply])
    assert (call.tokens, call.response_model, call.response_id, call.finish) == (None,) * 4
    assert call.refused == ()


JSON: Any = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(
                ["usage", "prompt_tokens", "input_tokens", "output_tokens", "choices", "id",
                 "model", "finish_reason", "meta", "billed_units", "response", "message", "delta",
                 "prompt_tokens_details", "usage_metadata", "prompt_token_count", "status",
                 "output", "incomplete_details", "candidates", "cache_creation", "index",
                 "input_tokens_details", "prompt_tokens_details", "cached_tokens"]
            ),
            inner, max_size=5,
        ),
    ),
    max_leaves=20,
)  # fmt: skip


@given(reply=JSON)
def test_whatever_a_reply_looks_like_reading_it_never_fails(reply: Any) -> None:
    for form in (reply, objects(reply)):
        call = Call("chat")
        read_reply(call, form)
        read_chunks(call, [form, form])
        assert call.refused == ()


@pytest.mark.parametrize(
    ("found", "usage"),
    [
        (Usage(input=3, reasoning=1), Usage(input=3, reasoning=1)),
        ({"input": 3, "output": 4}, Usage(input=3, output=4)),
        ({"prompt_tokens": 3}, Usage(input=3)),
        (Obj(input_tokens=3, output_tokens=4), Usage(input=3, output=4)),
        ({"model": "m"}, None),
        ({}, None),
        (None, None),
    ],
)
def test_what_an_extract_may_give(found: Any, usage: Usage | None) -> None:
    call = Call("chat")
    reader(lambda reply: found)(call, "reply", None)
    assert call.tokens == usage
    assert call.refused == ()


def test_an_extract_may_give_everything_else_too() -> None:
    call = Call("chat")
    found = {"model": "m", "id": "i", "finish": ["stop"], "cost": "0.5", "source": "injected"}
    reader(lambda reply: {**found, "input": 1})(call, "reply", None)
    assert (call.response_model, call.response_id, call.finish) == ("m", "i", ("stop",))
    assert (str(call.amount), call.source) == ("0.5", "injected")


def test_chunks_inside_of_events_are_read() -> None:
    usage = Obj(prompt_tokens=7, completion_tokens=3)
    inside = [
        Obj(id="c1", model="m", choices=[Obj(index=1, finish_reason="stop")], usage=None),
        Obj(id="c1", model="m", choices=[], usage=usage),
    ]
    call = Call("chat")
    read_chunks(call, [Obj(type="chunk", chunk=chunk) for chunk in inside])
    assert call.tokens == Usage(input=7, output=3)
    assert (call.response_id, call.response_model) == ("c1", "m")
    assert call.finish == ("error", "stop")


def test_choices_without_a_reason_keep_their_place() -> None:
    whole, streamed = Call("chat"), Call("chat")
    read_reply(whole, {"choices": [{"finish_reason": None}, {"finish_reason": "stop"}]})
    chunks = [{"choices": [{"index": index, "finish_reason": "stop"}]} for index in (3, 1)]
    read_chunks(streamed, chunks)
    assert whole.finish == ("error", "stop")
    assert streamed.finish == ("error", "stop", "error", "stop")
    endless = Call("chat")
    read_chunks(endless, [{"choices": [{"index": 10**12, "finish_reason": "stop"}]}])
    assert len(endless.finish or ()) <= 128


def test_the_service_tier_is_read_where_it_stands() -> None:
    for reply in (
        {"service_tier": "flex"},
        {"usage": {"service_tier": "flex", "output_tokens": 1}},
    ):
        call, streamed = Call("chat"), Call("chat")
        read_reply(call, reply)
        read_chunks(streamed, [{}, reply])
        assert call.service_tier == streamed.service_tier == "flex"
    said = Call("chat").response(service_tier="priority")
    read_reply(said, {"service_tier": "flex"})
    assert said.service_tier == "priority"
