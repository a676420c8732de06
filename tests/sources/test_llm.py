from __future__ import annotations

import asyncio
import sys
import threading
import types
from collections.abc import AsyncIterator, Callable, Iterator
from decimal import Decimal
from types import SimpleNamespace as Obj
from typing import Any

import pytest
from captured import Captured, capturing
from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler
from opentelemetry.trace import SpanKind, StatusCode

from otel_empathy.core.call import Call
from otel_empathy.core.errors import WrongType, WrongValue
from otel_empathy.core.limits import Timeouts
from otel_empathy.core.prices import Prices
from otel_empathy.core.usage import Usage
from otel_empathy.emit import safety
from otel_empathy.emit.calls import CallSpec, open_call
from otel_empathy.emit.context import current_call, current_run, using
from otel_empathy.emit.live import live
from otel_empathy.sources.agent import agent, tool, workflow
from otel_empathy.sources.llm import llm_call
from otel_empathy.testing import ManualClock

REPLY = {
    "id": "chatcmpl-1",
    "model": "gpt-4o-2024-08-06",
    "choices": [{"index": 0, "finish_reason": "stop"}],
    "usage": {
        "prompt_tokens": 100,
        "completion_tokens": 20,
        "prompt_tokens_details": {"cached_tokens": 40},
        "completion_tokens_details": {"reasoning_tokens": 5},
    },
}


@pytest.fixture
def priced() -> Iterator[Captured]:
    with capturing(prices=Prices.bundled()) as made:
        yield made


def attributes(captured: Captured) -> dict[str, Any]:
    (span,) = captured.spans
    return dict(span.attributes or {})


def test_a_call_is_one_span_with_everything_on_it(priced: Captured) -> None:
    @llm_call(provider="openai", model="gpt-4o", tier="capable", stage="draft")
    def ask() -> Any:
        current_call().request(temperature=0.2, max_tokens=100, choice_count=1)
        return REPLY

    assert ask() is REPLY
    span = priced.span("chat gpt-4o")
    assert span.kind is SpanKind.CLIENT
    assert span.status.status_code is StatusCode.UNSET
    found = dict(span.attributes or {})
    assert found.pop("empathy.cost.price_version").startswith("20")
    assert found.pop("empathy.cost.amount") > 0
    assert found == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
        "empathy.call.tier": "capable",
        "empathy.call.stage": "draft",
        "gen_ai.request.temperature": 0.2,
        "gen_ai.request.max_tokens": 100,
        "gen_ai.response.model": "gpt-4o-2024-08-06",
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 20,
        "gen_ai.usage.cache_read.input_tokens": 40,
        "gen_ai.usage.reasoning.output_tokens": 5,
        "empathy.usage.source": "provider",
        "empathy.call.outcome": "ok",
        "empathy.cost.currency": "USD",
        "empathy.cost.source": "local",
        "empathy.cost.price_key": "openai/gpt-4o",
    }


class Watching(Sampler):
    """Keeps what it is told at the start of each span."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    def should_sample(self, *args: Any, **kwargs: Any) -> Any:
        self.seen.append(dict(args[4] or {}))
        return ALWAYS_ON.should_sample(*args, **kwargs)

    def get_description(self) -> str:
        return "watching"


def test_samplers_see_what_is_known_at_the_start() -> None:
    sampler = Watching()
    with (
        capturing(sampler=sampler),
        using(session="s"),
        agent(name="bot") as run,
        llm_call(provider="p", model="m"),
    ):
        pass
    assert sampler.seen[1] == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "p",
        "gen_ai.request.model": "m",
        "gen_ai.agent.name": "bot",
        "empathy.run.id": run.id,
        "session.id": "s",
    }


def test_the_length_of_the_span_is_the_measured_duration() -> None:
    clock = ManualClock()
    with capturing(clock=clock) as captured:

        @llm_call(provider="p", model="m")
        def ask() -> None:
            clock.advance(1.5)
            clock.step(-3600)  # the wall clock is set back; the call took as long as it took

        ask()
        (span,) = captured.spans
        assert span.end_time - span.start_time == 1_500_000_000
        assert captured.points("gen_ai.client.operation.duration") == [
            (
                {
                    "gen_ai.operation.name": "chat",
                    "gen_ai.provider.name": "p",
                    "gen_ai.request.model": "m",
                },
                1.5,
            )
        ]


def test_measurements_lead_back_to_the_span(priced: Captured) -> None:
    llm_call(provider="openai", model="gpt-4o")(lambda: REPLY)()
    (span,) = priced.spans
    points = priced.metrics()
    for name in (
        "gen_ai.client.operation.duration",
        "gen_ai.client.token.usage",
        "empathy.call.cost",
        "empathy.call.usage",
    ):
        for point in points[name]:
            assert [e.span_id for e in point.exemplars] == [span.context.span_id], name


def test_buckets_are_those_of_the_conventions(captured: Captured) -> None:
    llm_call(lambda: REPLY)()
    points = captured.metrics()
    assert points["gen_ai.client.operation.duration"][0].explicit_bounds[:3] == (0.01, 0.02, 0.04)
    assert points["gen_ai.client.token.usage"][0].explicit_bounds[:3] == (1, 4, 16)


def test_failed_calls_are_measured_with_their_error(captured: Captured) -> None:
    class RateLimited(Exception):
        status_code = 429

    @llm_call(provider="p")
    def ask() -> None:
        raise RateLimited("slow down")

    with pytest.raises(RateLimited):
        ask()
    ((labels, _),) = captured.points("gen_ai.client.operation.duration")
    assert labels["error.type"] == "429"
    assert "gen_ai.client.token.usage" not in captured.metrics()
    assert captured.event("gen_ai.client.operation.exception") == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "p",
        "error.type": "429",
        "exception.type": f"{__name__}.test_failed_calls_are_measured_with_their_error"
        ".<locals>.RateLimited",
        "exception.message": "slow down",
    }
    assert captured.records[0].severity_number.value == 13
    assert captured.records[0].span_id == captured.spans[0].context.span_id


def test_a_code_that_looks_like_a_secret_is_no_name_of_an_error() -> None:
    class Refused(Exception):
        code = "sk-1"

    with capturing(scrub=lambda text: text.replace("sk-1", "***")) as captured:

        @llm_call
        def ask() -> None:
            current_call().retry("sk-1").retry(Refused())
            raise Refused

        with pytest.raises(Refused):
            ask()
        assert attributes(captured)["error.type"] == "_OTHER"
        assert "sk-1" not in repr([span.to_json() for span in captured.spans])
        assert "sk-1" not in repr(captured.events) + repr(captured.metrics())


def test_stack_traces_are_told_where_they_are_wanted() -> None:
    for wanted in (False, True):
        with capturing(
            stacktraces=wanted, scrub=lambda text: text.replace("sk-1", "***")
        ) as captured:

            @llm_call
            def ask() -> None:
                raise ValueError("key sk-1 refused")

            with pytest.raises(ValueError, match="sk-1"):
                ask()
            told = captured.event("gen_ai.client.operation.exception")
            (seen,) = captured.spans[0].events
            for found in (told, seen.attributes or {}):
                stack = str(found.get("exception.stacktrace", ""))
                assert ("in ask" in stack) == wanted
                assert stack.endswith("ValueError: key *** refused\n") == wanted
                assert "sk-1" not in stack.rsplit("\n", 2)[-2:]


def test_secrets_in_messages_of_errors_are_scrubbed() -> None:
    with capturing(scrub=lambda text: text.replace("sk-1", "***")) as captured:

        @llm_call
        def ask() -> None:
            raise ValueError("key sk-1 refused")

        with pytest.raises(ValueError, match="sk-1"):
            ask()
        (span,) = captured.spans
        assert span.status.description == "key *** refused"
        assert (span.events[0].attributes or {})["exception.message"] == "key *** refused"
        told = captured.event("gen_ai.client.operation.exception")
        assert told["exception.message"] == "key *** refused"


def test_a_stream_is_timed_chunk_by_chunk() -> None:
    clock = ManualClock()
    with capturing(clock=clock) as captured:

        @llm_call(model="m")
        def stream() -> Iterator[str]:
            clock.advance(0.5)
            yield "a"
            clock.advance(0.1)
            yield "b"
            clock.advance(0.2)
            yield "c"

        assert list(stream()) == ["a", "b", "c"]
        found = attributes(captured)
        assert found["gen_ai.request.stream"] is True
        assert found["gen_ai.response.time_to_first_chunk"] == pytest.approx(0.5)
        assert found["empathy.call.chunks"] == 3
        ((_, first),) = captured.points("gen_ai.client.operation.time_to_first_chunk")
        assert first == pytest.approx(0.5)
        (gaps,) = captured.metrics()["gen_ai.client.operation.time_per_output_chunk"]
        assert (gaps.count, gaps.sum) == (2, pytest.approx(0.3))


def long_stream(number: int, chunk: Any = None) -> Any:
    @llm_call(provider="openai", model="m")
    def stream() -> Iterator[Any]:
        yield from (chunk for _ in range(number))

    return stream()


@pytest.mark.parametrize("profile", ["default", "latest", "both"])
def test_a_long_stream_records_its_chunks_on_the_way_and_each_once(profile: str) -> None:
    chunk = {"model": "m-1", "service_tier": "flex", "choices": []}
    names = {
        "default": ["gen_ai.client.operation.time_per_output_chunk"],
        "latest": ["gen_ai.client.inference.time_per_output_chunk"],
        "both": [
            "gen_ai.client.operation.time_per_output_chunk",
            "gen_ai.client.inference.time_per_output_chunk",
        ],
    }[profile]
    with capturing(profile=profile) as captured:
        stream = long_stream(5_000, chunk)
        for _ in range(4_500):
            next(stream)
        halfway = captured.metrics()
        for name in names:
            (point,) = halfway[name]
            assert 3_000 < point.count < 4_500
        assert len(list(stream)) == 500
        (span,) = captured.spans
        measured = captured.metrics()
        for name in names:
            (point,) = measured[name]
            assert point.count == 4_999
            assert point.attributes["gen_ai.response.model"] == "m-1"
            assert point.attributes["openai.response.service_tier"] == "flex"
            assert span.context is not None
            assert {e.trace_id for e in point.exemplars} == {span.context.trace_id}


def test_an_extract_of_ones_own_is_asked_once_also_for_a_long_stream(captured: Captured) -> None:
    asked = []

    @llm_call(extract=lambda chunks: asked.append(len(chunks)))
    def stream() -> Iterator[int]:
        yield from range(3_000)

    assert len(list(stream())) == 3_000
    assert asked == [3_000]


def test_a_long_stream_inside_another_call_is_measured_by_that_one_alone(
    captured: Captured,
) -> None:
    with llm_call(model="outer"):
        list(long_stream(3_000))
    assert "gen_ai.client.operation.time_per_output_chunk" not in captured.metrics()


def test_a_long_stream_out_of_a_cache_is_no_client_call(captured: Captured) -> None:
    @llm_call(model="m")
    def stream() -> Iterator[int]:
        current_call().cached("exact")
        yield from range(3_000)

    assert len(list(stream())) == 3_000
    assert "gen_ai.client.operation.time_per_output_chunk" not in captured.metrics()


class ClientStream:
    """A stream as client libraries return them."""

    def __init__(self, chunks: list[Any]) -> None:
        self._iterator = iter(chunks)
        self.response = "raw"
        self.closed = False
        self.entered = False

    def __iter__(self) -> Iterator[Any]:
        yield from self._iterator

    def __next__(self) -> Any:
        return next(self._iterator)

    def __enter__(self) -> Any:
        self.entered = True
        return self

    def __exit__(self, *args: object) -> None:
        self.close()

    def close(self) -> str:
        self.closed = True
        return "closed"


def test_a_returned_stream_behaves_like_itself(captured: Captured) -> None:
    inner = ClientStream([1, 2, 3])
    stream = llm_call(model="m")(lambda: inner)()
    assert isinstance(stream, ClientStream)
    assert stream.response == "raw"
    stream.response = "changed"
    assert inner.response == "changed"
    assert "response" in dir(stream)
    assert not hasattr(stream, "send")
    with stream as same:
        assert same is stream
        assert inner.entered
        assert captured.spans == []
        assert list(stream) == [1, 2, 3]
        assert attributes(captured)["empathy.call.outcome"] == "ok"
    assert inner.closed
    assert stream.close() == "closed"
    assert captured.open == 0
    assert len(captured.spans) == 1


def test_a_returned_async_stream_behaves_like_itself(captured: Captured) -> None:
    class AsyncClientStream:
        def __init__(self) -> None:
            self.chunks = iter([1, 2])
            self.closed = False

        def __aiter__(self) -> AsyncClientStream:
            return self

        async def __anext__(self) -> int:
            await asyncio.sleep(0)
            try:
                return next(self.chunks)
            except StopIteration:
                raise StopAsyncIteration from None

        async def __aenter__(self) -> Any:
            return self

        async def __aexit__(self, *args: object) -> None:
            await self.close()

        async def close(self) -> None:
            await asyncio.sleep(0)
            self.closed = True

    inner = AsyncClientStream()

    @llm_call(model="m")
    async def ask() -> AsyncClientStream:
        return inner

    async def use() -> list[int]:
        stream = await ask()
        assert isinstance(stream, AsyncClientStream)
        async with stream as same:
            assert same is stream
            found = [await stream.__anext__()]
        assert inner.closed
        return found

    assert asyncio.run(use()) == [1]
    assert attributes(captured)["empathy.call.outcome"] == "abandoned"
    assert captured.open == 0


def test_a_stream_for_both_kinds_of_readers_serves_both(captured: Captured) -> None:
    class Both:
        def __init__(self) -> None:
            self.chunks = iter([1, 2])

        def __iter__(self) -> Any:
            return self

        __aiter__ = __iter__

        def __next__(self) -> int:
            return next(self.chunks)

        async def __anext__(self) -> int:
            await asyncio.sleep(0)
            for chunk in self.chunks:
                return chunk
            raise StopAsyncIteration

    @llm_call(model="m")
    async def ask() -> Both:
        return Both()

    async def use() -> list[int]:
        return [chunk async for chunk in await ask()]

    assert asyncio.run(use()) == [1, 2]
    assert list(llm_call(model="m")(lambda: Both())()) == [1, 2]  # noqa: PLW0108 - not a class
    assert [(s.attributes or {})["empathy.call.chunks"] for s in captured.spans] == [2, 2]


@pytest.mark.parametrize("fails", [True, False])
def test_a_stream_without_a_chunk_is_a_stream(captured: Captured, *, fails: bool) -> None:
    @llm_call(model="m")
    def ask() -> Iterator[int]:
        if fails:
            raise ConnectionError("no")
        yield from ()

    if fails:
        with pytest.raises(ConnectionError):
            list(ask())
    else:
        assert list(ask()) == []
    found = attributes(captured)
    assert found["gen_ai.request.stream"] is True
    assert found["empathy.call.chunks"] == 0
    assert "gen_ai.response.time_to_first_chunk" not in found


def test_results_that_are_no_streams_stay_untouched(captured: Captured) -> None:
    for result in ([1], {"a": 1}, "text", (1,), {1}, range(3), None, 0, Obj(choices=[])):
        assert llm_call(lambda result=result: result)() is result


def openai_chunks() -> list[Any]:
    return [
        Obj(id="c1", model="gpt-4o", choices=[Obj(index=0, finish_reason=None)], usage=None),
        Obj(id="c1", model="gpt-4o", choices=[Obj(index=0, finish_reason="stop")], usage=None),
        Obj(
            id="c1",
            model="gpt-4o",
            choices=[],
            usage=Obj(
                prompt_tokens=7,
                completion_tokens=3,
                prompt_tokens_details=None,
                completion_tokens_details=None,
            ),
        ),
    ]


def anthropic_chunks() -> list[Any]:
    return [
        Obj(
            type="message_start",
            message=Obj(
                id="m1",
                model="claude-sonnet-4",
                stop_reason=None,
                usage=Obj(
                    input_tokens=10,
                    output_tokens=1,
                    cache_read_input_tokens=90,
                    cache_creation_input_tokens=20,
                    cache_creation=Obj(ephemeral_1h_input_tokens=5),
                ),
            ),
        ),
        Obj(type="content_block_delta", delta=Obj(type="text_delta", text="hi")),
        Obj(
            type="message_delta",
            delta=Obj(stop_reason="end_turn"),
            usage=Obj(
                input_tokens=None,
                output_tokens=33,
                cache_read_input_tokens=None,
                cache_creation_input_tokens=None,
            ),
        ),
    ]


def responses_chunks() -> list[Any]:
    return [
        Obj(type="response.created", response=Obj(id="r1", model="gpt-5", usage=None)),
        Obj(type="response.output_text.delta", delta="hi"),
        Obj(
            type="response.completed",
            response=Obj(
                id="r1",
                model="gpt-5",
                status="completed",
                output=[],
                incomplete_details=None,
                usage=Obj(
                    input_tokens=11,
                    output_tokens=4,
                    input_tokens_details=Obj(cached_tokens=2),
                    output_tokens_details=Obj(reasoning_tokens=1),
                ),
            ),
        ),
    ]


def gemini_chunks() -> list[Any]:
    def chunk(reply: int, reason: Any = None) -> Any:
        return Obj(
            model_version="gemini-2.5-flash",
            response_id="g1",
            candidates=[Obj(index=None, finish_reason=reason)],
            usage_metadata=Obj(
                prompt_token_count=8, candidates_token_count=reply, thoughts_token_count=4
            ),
        )

    return [chunk(1), chunk(6, Obj(value="STOP"))]


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        (openai_chunks, (7, 3, None, None, None, "gpt-4o", "c1", ("stop",))),
        (anthropic_chunks, (120, 33, 90, 20, None, "claude-sonnet-4", "m1", ("end_turn",))),
        (responses_chunks, (11, 4, 2, None, 1, "gpt-5", "r1", ("stop",))),
        (gemini_chunks, (8, 10, None, None, 4, "gemini-2.5-flash", "g1", ("STOP",))),
    ],
    ids=["openai", "anthropic", "responses", "gemini"],
)
@pytest.mark.parametrize("shape", ["generator", "returned", "async"])
def test_streams_of_the_usual_providers_are_read(
    captured: Captured,
    chunks: Callable[[], list[Any]],
    expected: tuple[Any, ...],
    shape: str,
) -> None:
    if shape == "generator":

        @llm_call(provider="p")
        def stream() -> Iterator[Any]:
            yield from chunks()

        list(stream())
    elif shape == "returned":
        list(llm_call(provider="p")(lambda: ClientStream(chunks()))())
    else:

        @llm_call(provider="p")
        async def stream_async() -> AsyncIterator[Any]:
            for chunk in chunks():
                yield chunk

        async def use() -> None:
            async for _ in stream_async():
                pass

        asyncio.run(use())
    found = attributes(captured)
    names = (
        "gen_ai.usage.input_tokens",
        "gen_ai.usage.output_tokens",
        "gen_ai.usage.cache_read.input_tokens",
        "gen_ai.usage.cache_write.input_tokens",
        "gen_ai.usage.reasoning.output_tokens",
        "gen_ai.response.model",
        "gen_ai.response.id",
        "gen_ai.response.finish_reasons",
    )
    assert tuple(found.get(name) for name in names) == expected


def test_extract_reads_the_result_or_the_list_of_chunks(captured: Captured) -> None:
    @llm_call(extract=lambda text: Usage(input=len(text)))
    def ask() -> str:
        return "four"

    @llm_call(extract=lambda chunks: {"output": len(chunks), "model": "m", "finish": "stop"})
    def stream() -> Iterator[str]:
        yield from ["x"] * 4_159

    @llm_call(extract=lambda reply: reply[1])
    def pair() -> Any:
        return "text", {"prompt_tokens": 9}

    ask()
    list(stream())
    pair()
    first, second, third = [dict(span.attributes or {}) for span in captured.spans]
    assert first["gen_ai.usage.input_tokens"] == 4
    assert second["gen_ai.usage.output_tokens"] == 4_159
    assert second["gen_ai.response.finish_reasons"] == ("stop",)
    assert third["gen_ai.usage.input_tokens"] == 9


@pytest.mark.parametrize("number", [65_600, 70_000])
def test_an_extract_is_not_asked_about_a_part_of_a_stream(captured: Captured, number: int) -> None:
    asked = []

    @llm_call(extract=asked.append)
    def stream() -> Iterator[int]:
        yield from range(number)

    with safety.swallow() as errors:
        assert len(list(stream())) == number
    assert asked == []
    assert errors["extract", "stream.chunks"] == 1
    found = attributes(captured)
    assert found["empathy.usage.source"] == "none"
    assert "gen_ai.usage.output_tokens" not in found
    assert found["empathy.call.chunks"] == number


@pytest.mark.parametrize("given", [5, "x", [1], object(), {"nope": 1}])
def test_an_extract_that_gives_nothing_of_use_is_counted_and_logged(
    captured: Captured, given: Any, caplog: pytest.LogCaptureFixture
) -> None:
    ask = llm_call(extract=lambda reply: given)(lambda: "reply")
    safety._told.clear()
    with safety.swallow() as errors:
        assert [ask(), ask()] == ["reply", "reply"]
    assert errors["extract", "otel_empathy.core.errors.WrongType"] == 2
    assert len(caplog.records) == 1
    assert [(s.attributes or {})["empathy.usage.source"] for s in captured.spans] == ["none"] * 2


def test_an_extract_that_fails_is_counted_and_swallowed(captured: Captured) -> None:
    @llm_call(extract=lambda reply: reply["nothing"])
    def ask() -> Any:
        return REPLY

    with safety.swallow() as errors:
        assert ask() is REPLY
    assert errors["extract", "KeyError"] == 1
    assert attributes(captured)["empathy.usage.source"] == "none"


def test_what_the_code_says_wins_over_what_is_read(captured: Captured) -> None:
    @llm_call
    def ask() -> Any:
        current_call().usage(input=1, output=2).response(model="mine", finish="length")
        return REPLY

    ask()
    found = attributes(captured)
    assert found["gen_ai.usage.input_tokens"] == 1
    assert found["gen_ai.response.model"] == "mine"
    assert found["gen_ai.response.finish_reasons"] == ("length",)
    assert found["gen_ai.response.id"] == "chatcmpl-1"


def test_wrong_values_are_counted_and_not_raised(captured: Captured) -> None:
    nan = float("nan")
    with safety.swallow() as errors, llm_call() as call:
        call.usage(input=-1, output=True, reasoning=nan)  # type: ignore[arg-type]
        call.usage(input=1.5)  # type: ignore[arg-type]
        call.usage(input=3, source="guess")
        call.cost(nan).cost("much").cost(-1)
        call.request(temperature=nan, max_tokens="many")  # type: ignore[arg-type]
        call.response(model=3, finish=7)  # type: ignore[arg-type]
        call.retry(delay=-1.0)
    assert errors["extract", "usage.input"] == 2
    assert sum(errors.values()) == 13
    found = attributes(captured)
    assert found["empathy.usage.source"] == "none"
    assert not [key for key in found if "request" in key or "tokens" in key or "cost" in key]
    assert found["empathy.call.retries"] == 1


def test_estimates_never_mix_with_counts(priced: Captured) -> None:
    with llm_call(provider="openai", model="gpt-4o") as call:
        call.usage(input=10, output=5, source="estimated")
    found = attributes(priced)
    assert found["empathy.usage.source"] == "estimated"
    assert found["empathy.usage.estimated.input_tokens"] == 10
    assert found["empathy.usage.estimated.output_tokens"] == 5
    assert found["empathy.cost.reason"] == "estimated"
    assert not [key for key in found if key.startswith("gen_ai.usage")]
    points = priced.metrics()
    assert "gen_ai.client.token.usage" not in points
    assert "empathy.call.cost" not in points
    ((labels, value),) = priced.points("empathy.cost.unpriced")
    assert (labels["empathy.cost.reason"], value) == ("estimated", 1)


def test_the_cost_of_an_unknown_model_is_absent_and_counted(priced: Captured) -> None:
    with llm_call(provider="nobody", model="nothing") as call:
        call.usage(input=10, output=5)
    found = attributes(priced)
    assert found["empathy.cost.reason"] == "unknown_model"
    assert "empathy.cost.amount" not in found
    assert priced.points("empathy.cost.unpriced")[0][1] == 1


def test_the_providers_own_figure_wins(priced: Captured) -> None:
    with llm_call(provider="openai", model="gpt-4o") as call:
        call.usage(input=10, output=5).cost(Decimal("0.12345678949"), "eur")
    found = attributes(priced)
    assert found["empathy.cost.amount"] == 0.123456789
    assert found["empathy.cost.currency"] == "EUR"
    assert found["empathy.cost.source"] == "provider"
    assert "empathy.cost.price_key" not in found
    ((labels, value),) = priced.points("empathy.call.cost")
    assert labels["empathy.cost.source"] == "provider"
    assert value == 0.123456789


def test_cost_names_of_the_open_proposal() -> None:
    with capturing(prices=Prices.bundled(), cost_names="gen_ai") as captured:
        llm_call(provider="openai", model="gpt-4o")(lambda: REPLY)()
        found = attributes(captured)
        assert found["gen_ai.usage.cost.amount"] > 0
        assert found["gen_ai.usage.cost.currency"] == "USD"
        assert found["gen_ai.usage.cost.source"] == "local"
        assert found["empathy.cost.price_key"] == "openai/gpt-4o"
        assert "empathy.cost.amount" not in found
        ((labels, _),) = captured.points("gen_ai.client.operation.cost")
        assert labels["gen_ai.usage.cost.source"] == "local"
        assert "empathy.call.cost" not in captured.metrics()


def test_costs_stand_on_inference_and_embeddings_alone(priced: Captured) -> None:
    for operation in ("embeddings", "retrieval", "fetch_response"):
        with llm_call(provider="openai", model="text-embedding-3-small", operation=operation) as c:
            c.usage(input=1000)
    embeddings, retrieval, fetched = [dict(span.attributes or {}) for span in priced.spans]
    assert embeddings["empathy.cost.amount"] > 0
    for found in (retrieval, fetched):
        assert not [key for key in found if "cost" in key or "usage" in key]
    assert priced.names == [
        "embeddings text-embedding-3-small",
        "retrieval",
        "fetch_response text-embedding-3-small",
    ]


def test_a_call_answered_by_a_cache_costs_nothing_and_is_no_client_call(priced: Captured) -> None:
    @workflow(name="w")
    def flow() -> None:
        with agent(name="bot") as run, llm_call(provider="openai", model="gpt-4o") as call:
            call.usage(input=100, output=10).cached("semantic")
        assert run.inference_calls == 0

    flow()
    found = dict(priced.span("chat gpt-4o").attributes or {})
    assert found["empathy.call.cache_hit"] is True
    assert found["empathy.call.cache_type"] == "semantic"
    assert found["empathy.cost.amount"] == 0.0
    assert found["empathy.cost.reason"] == "cached"
    assert not [key for key in found if "tokens" in key]
    points = priced.metrics()
    assert not [name for name in points if name.startswith("gen_ai.client")]
    assert priced.points("empathy.call.cache_hits") == [
        ({"gen_ai.workflow.name": "w", "empathy.call.cache_type": "semantic"}, 1)
    ]


def test_retries_are_events_of_the_span_and_a_counter() -> None:
    clock = ManualClock()
    with capturing(clock=clock) as captured:
        with llm_call(provider="p", model="m") as call:
            clock.advance(1)
            call.retry(TimeoutError("x"), delay=0.5).retry("rate_limit").retry()
        (span,) = captured.spans
        assert (span.attributes or {})["empathy.call.retries"] == 3
        assert [dict(event.attributes or {}) for event in span.events] == [
            {
                "empathy.call.attempt": 1,
                "empathy.call.delay": 0.5,
                "error.type": "TimeoutError",
            },
            {"empathy.call.attempt": 2, "error.type": "rate_limit"},
            {"empathy.call.attempt": 3},
        ]
        assert span.events[0].timestamp == span.start_time + 1_000_000_000
        assert sum(value for _, value in captured.points("empathy.call.retries")) == 3


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({}, "ok"),
        ({"parsed": True, "validated": True}, "ok"),
        ({"parsed": False, "validated": False}, "parse_failed"),
        ({"parsed": True, "validated": False}, "validation_failed"),
    ],
)
def test_prompts_are_counted_by_outcome(
    captured: Captured, told: dict[str, bool], expected: str
) -> None:
    @llm_call(prompt=("summarise", "3", "xml"))
    def ask() -> None:
        for name, ok in told.items():
            getattr(current_call(), name)(ok)

    ask()
    found = attributes(captured)
    assert found["gen_ai.prompt.name"] == "summarise"
    assert found["gen_ai.prompt.version"] == "3"
    assert found["empathy.prompt.format"] == "xml"
    assert captured.points("empathy.prompt.results") == [
        (
            {
                "gen_ai.prompt.name": "summarise",
                "gen_ai.prompt.version": "3",
                "empathy.prompt.outcome": expected,
            },
            1,
        )
    ]


def test_a_fallback_says_who_was_asked_first(captured: Captured) -> None:
    with llm_call(provider="b", model="small") as call:
        call.fallback("a", "large")
    assert attributes(captured)["empathy.call.fallback_from"] == "a/large"


def test_a_model_that_is_known_late_names_the_span(captured: Captured) -> None:
    with llm_call(provider="p") as call:
        call.request(model="late", provider="q")
    (span,) = captured.spans
    assert span.name == "chat late"
    assert (span.attributes or {})["gen_ai.provider.name"] == "q"
    ((labels, _),) = captured.points("gen_ai.client.operation.duration")
    assert labels["gen_ai.request.model"] == "late"


def test_missing_finish_reasons_are_errors_only_when_cut_short(captured: Captured) -> None:
    @llm_call
    def ask() -> None:
        current_call().request(choice_count=3).response(finish=["stop"])
        raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        ask()
    with llm_call():
        pass
    first, second = captured.spans
    assert (first.attributes or {})["gen_ai.response.finish_reasons"] == ("stop", "error", "error")
    assert "gen_ai.response.finish_reasons" not in (second.attributes or {})


LATEST = {
    "gen_ai.client.inference.duration",
    "gen_ai.client.inference.usage.input_tokens",
    "gen_ai.client.inference.usage.output_tokens",
    "gen_ai.client.inference.usage.cache_read.input_tokens",
    "gen_ai.client.inference.usage.reasoning.output_tokens",
    "gen_ai.client.inference.operation.input_tokens",
    "gen_ai.client.inference.operation.output_tokens",
    "gen_ai.client.inference.time_to_first_chunk",
    "gen_ai.client.inference.time_per_output_chunk",
}
DEFAULT = {
    "gen_ai.client.operation.duration",
    "gen_ai.client.token.usage",
    "gen_ai.client.operation.time_to_first_chunk",
    "gen_ai.client.operation.time_per_output_chunk",
}


@pytest.mark.parametrize(
    ("profile", "expected"),
    [("default", DEFAULT), ("latest", LATEST), ("both", DEFAULT | LATEST)],
)
def test_metric_names_follow_the_profile(profile: str, expected: set[str]) -> None:
    with capturing(profile=profile) as captured:

        @llm_call(extract=lambda chunks: Usage(input=5, output=3, cache_read=2, reasoning=1))
        def stream() -> Iterator[int]:
            yield 1
            yield 2

        list(stream())
        found = {name for name in captured.metrics() if name.startswith("gen_ai.client")}
        assert found == expected


def test_latest_counts_nothing_as_nothing_and_knows_modalities() -> None:
    with capturing(profile="latest") as captured:
        with llm_call():
            pass
        with llm_call(model="m") as call:
            call.usage(input=10, output=4, audio_input=3)
        with llm_call(operation="embeddings", model="e") as call:
            call.usage(input=10)
        found = {
            (labels.get("gen_ai.request.model"), labels["gen_ai.token.modality"]): value
            for labels, value in captured.points("gen_ai.client.inference.usage.input_tokens")
        }
        assert found == {(None, "unknown"): 0, ("m", "text"): 7, ("m", "audio"): 3}
        ((labels, _),) = captured.points("gen_ai.client.operation.duration")
        assert labels["gen_ai.operation.name"] == "embeddings"


def test_the_old_cache_attribute_comes_with_both() -> None:
    for profile, expected in (("default", None), ("both", 4)):
        with capturing(profile=profile) as captured:
            with llm_call() as call:
                call.usage(input=10, cache_write=4)
            found = attributes(captured)
            assert found["gen_ai.usage.cache_write.input_tokens"] == 4
            assert found.get("gen_ai.usage.cache_creation.input_tokens") == expected


def test_using_gives_stage_and_tier_where_the_decorator_does_not(captured: Captured) -> None:
    with using(stage="draft", tier="cheap"):
        with llm_call():
            pass
        with llm_call(tier="premium", stage="review"):
            pass
    first, second = [dict(span.attributes or {}) for span in captured.spans]
    assert (first["empathy.call.tier"], first["empathy.call.stage"]) == ("cheap", "draft")
    assert (second["empathy.call.tier"], second["empathy.call.stage"]) == ("premium", "review")


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"tier": "huge"}, WrongValue),
        ({"tier": 3}, WrongType),
        ({"operation": "talk"}, WrongValue),
        ({"operation": None}, WrongType),
        ({"provider": ""}, WrongValue),
        ({"model": 4}, WrongType),
        ({"prompt": ()}, WrongType),
        ({"prompt": 3}, WrongType),
        ({"extract": 3}, WrongType),
        ({"guard": 3}, WrongType),
    ],
)
def test_misuse_is_told_at_definition(given: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        llm_call(**given)


def test_outside_a_call_nothing_has_an_effect(captured: Captured) -> None:
    call = current_call()
    assert call.usage(input=1).response(model="m").retry().cached("x").cost(1) is call
    assert call.request(temperature=1).messages(input="x").parsed(True).validated(True) is call
    assert call.fallback("a", "b").prompt("p") is call
    assert (call.tokens, call.response_model, call.amount) == (None, None, None)


def test_a_call_that_is_over_takes_no_more(captured: Captured) -> None:
    kept: list[Call] = []
    llm_call(lambda: kept.append(current_call()))()
    kept[0].usage(input=3)
    assert kept[0].tokens is None


def test_a_call_that_takes_too_long_inside_a_run(captured: Captured) -> None:
    free = threading.Event()

    @llm_call(model="m")
    def slow() -> None:
        free.wait(10)

    @llm_call(model="m")
    async def slow_async() -> None:
        await asyncio.sleep(30)

    @agent(timeouts=Timeouts(call=0.05))
    def run() -> None:
        slow()

    @agent(timeouts=Timeouts(call=0.05))
    async def run_async() -> None:
        await slow_async()

    with pytest.raises(TimeoutError, match=r"slow took longer than its limit of 0\.05 s"):
        run()
    free.set()
    with pytest.raises(TimeoutError):
        asyncio.run(run_async())
    for span in captured.spans[::2]:
        assert span.name == "chat m"
        assert (span.attributes or {})["empathy.call.outcome"] == "timeout"
    for span in captured.spans[1::2]:
        assert (span.attributes or {})["empathy.run.state"] == "timeout"


# -- one logical call, one span -------------------------------------------------------------------


def test_an_inner_call_of_the_same_kind_is_part_of_the_outer_one(priced: Captured) -> None:
    @llm_call(provider="openai", model="gpt-4o", tier="premium", stage="inner")
    def inner() -> Any:
        assert current_call().model == "gpt-4o"
        current_call().request(temperature=0.5).retry()
        return REPLY

    @llm_call(provider="mine", stage="outer")
    def outer() -> str:
        inner()
        return "text"

    assert outer() == "text"
    span = priced.span("chat gpt-4o")
    found = dict(span.attributes or {})
    assert found["gen_ai.provider.name"] == "openai"
    assert found["gen_ai.request.model"] == "gpt-4o"
    assert found["gen_ai.response.id"] == "chatcmpl-1"
    assert found["gen_ai.usage.input_tokens"] == 100
    assert found["gen_ai.request.temperature"] == 0.5
    assert found["empathy.call.tier"] == "premium"
    assert found["empathy.call.stage"] == "outer"
    assert found["empathy.usage.source"] == "provider"
    ((_, count),) = priced.points("empathy.call.usage")
    assert count == 1


def test_whom_the_inner_call_asked_decides_about_names_and_price() -> None:
    class Watching(Sampler):
        def __init__(self) -> None:
            self.seen: list[Any] = []

        def should_sample(self, *args: Any, **kwargs: Any) -> Any:
            self.seen.append(dict(kwargs.get("attributes") or args[4]))
            return ALWAYS_ON.should_sample(*args, **kwargs)

        def get_description(self) -> str:
            return "watching"

    sampler = Watching()
    with capturing(sampler=sampler, prices=Prices.bundled()) as captured:
        with llm_call(provider="langchain", model="outer"):
            llm_call(provider="openai", model="gpt-4o")(lambda: REPLY)()
        (start,) = sampler.seen
        assert (start["gen_ai.provider.name"], start["gen_ai.request.model"]) == (
            "langchain",
            "outer",
        )
        found = dict(captured.span("chat gpt-4o").attributes or {})
        assert found["gen_ai.provider.name"] == "openai"
        assert found["gen_ai.request.model"] == "gpt-4o"
        assert str(found["empathy.cost.price_key"]).startswith("openai/gpt-4o")
        assert "empathy.cost.reason" not in found
        for name in ("empathy.call.cost", "gen_ai.client.operation.duration"):
            ((labels, _),) = captured.points(name)
            assert labels["gen_ai.provider.name"] == "openai"
            assert labels["gen_ai.request.model"] == "gpt-4o"


def test_the_newest_inner_word_wins_and_the_outer_one_over_it(captured: Captured) -> None:
    with llm_call() as outer:
        outer.response(id="outer")
        for number in (1, 2):
            with llm_call() as inner:
                inner.usage(input=number, output=number).response(id="inner", model=f"m{number}")
                inner.cost(number)
    found = attributes(captured)
    assert found["gen_ai.usage.input_tokens"] == 2
    assert found["gen_ai.response.model"] == "m2"
    assert found["gen_ai.response.id"] == "outer"
    assert found["empathy.cost.amount"] == 2.0


def test_counts_of_inner_calls_fill_the_gaps_of_the_outer_one(captured: Captured) -> None:
    with llm_call() as outer:
        outer.usage(input=7, source="injected")
        with llm_call() as inner:
            inner.usage(input=9, output=3)
    found = attributes(captured)
    assert found["gen_ai.usage.input_tokens"] == 7
    assert found["gen_ai.usage.output_tokens"] == 3
    assert found["empathy.usage.source"] == "injected"


def test_other_kinds_of_calls_are_calls_of_their_own(captured: Captured) -> None:
    with llm_call(model="m"), llm_call(operation="embeddings", model="e"):
        pass
    assert captured.names == ["embeddings e", "chat m"]


def test_a_tool_or_an_agent_inside_a_call_begins_anew(captured: Captured) -> None:
    @tool
    def search() -> None:
        assert current_call().operation == "execute_tool"
        with llm_call(model="inside tool"):
            pass

    with llm_call(model="outside"):
        search()
        with agent(name="a"), llm_call(model="inside agent"):
            pass
    assert captured.names == [
        "chat inside tool",
        "execute_tool search",
        "chat inside agent",
        "invoke_agent a",
        "chat outside",
    ]


class InferenceData:
    """The official object as far as this needs it: known fields, and a place for others."""

    __dataclass_fields__ = dict.fromkeys(
        ["provider_name", "request_model", "response_model", "response_id", "usage_input_tokens",
         "usage_output_tokens", "response_finish_reasons", "request_temperature"]
    )  # fmt: skip

    def __init__(self) -> None:
        self.capture_content = False
        self.attributes: dict[str, Any] = {}
        self.metric_attributes: dict[str, Any] = {}
        for name in self.__dataclass_fields__:
            setattr(self, name, None)


KEY = "opentelemetry.genai.client.inference.context"


def test_a_call_under_an_official_one_hands_over_its_fields(captured: Captured) -> None:
    from opentelemetry.context import attach, detach, set_value

    data = InferenceData()
    token = attach(set_value(KEY, data))
    try:
        llm_call(provider="openai", model="gpt-4o", tier="cheap")(lambda: REPLY)()
    finally:
        detach(token)
    assert captured.spans == []
    assert captured.metrics() == {}
    assert data.request_model == "gpt-4o"  # type: ignore[attr-defined]
    assert data.usage_input_tokens == 100  # type: ignore[attr-defined]
    assert data.response_finish_reasons == ("stop",)  # type: ignore[attr-defined]
    assert data.attributes["empathy.call.tier"] == "cheap"
    assert "empathy.call.outcome" not in data.attributes


def test_an_official_call_under_ours_finds_its_own_class(
    captured: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    from opentelemetry.context import get_value

    module = types.ModuleType("opentelemetry.util.genai.invocation")
    module.InferenceData = InferenceData  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "opentelemetry.util.genai.invocation", module)

    @llm_call(model="m")
    def ask() -> None:
        data: Any = get_value(KEY)
        assert isinstance(data, InferenceData)
        data.usage_input_tokens = 12
        data.response_id = "theirs"
        data.request_temperature = 0.3

    ask()
    found = attributes(captured)
    assert found["gen_ai.usage.input_tokens"] == 12
    assert found["gen_ai.response.id"] == "theirs"
    assert found["gen_ai.request.temperature"] == 0.3


def test_unsampled_calls_are_measured_all_the_same() -> None:
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

    with capturing(sampler=ALWAYS_OFF) as captured:
        llm_call(lambda: REPLY)()
        assert captured.spans == []
        assert captured.points("gen_ai.client.operation.duration")


def test_calls_of_a_run_are_counted_where_they_are_made(captured: Captured) -> None:
    with agent(name="outer") as outer:
        with llm_call():
            pass
        with agent(name="inner") as inner:
            with llm_call(), llm_call():
                pass
            with pytest.raises(ValueError, match="x"), llm_call():
                raise ValueError("x")
            with llm_call(operation="embeddings"):
                pass
        assert current_run() is outer
    assert (outer.inference_calls, inner.inference_calls) == (1, 2)
    assert live.on


def test_the_service_tier_that_answered_is_read_and_told(priced: Captured) -> None:
    reply = {**REPLY, "service_tier": "flex"}
    llm_call(provider="openai", model="gpt-4o")(lambda: reply)()
    found = attributes(priced)
    assert found["openai.response.service_tier"] == "flex"
    # Nobody lists what flex costs for this model, and the standard price would be wrong.
    assert found["empathy.cost.reason"] == "unknown_rate"
    ((labels, _),) = priced.points("gen_ai.client.operation.duration")
    assert labels["openai.response.service_tier"] == "flex"


def test_the_service_tier_of_others_decides_about_the_price_alone(priced: Captured) -> None:
    reply = {"usage": {"input_tokens": 5, "output_tokens": 5, "service_tier": "priority"}}
    llm_call(provider="anthropic", model="claude-sonnet-4-5")(lambda: reply)()
    found = attributes(priced)
    assert "openai.response.service_tier" not in found
    assert "empathy.cost.amount" not in found


def test_what_only_openai_has_is_told_of_openai_alone(captured: Captured) -> None:
    for provider in ("openai", "anthropic"):
        with llm_call(provider=provider, model="m") as call:
            call.request(api_type="responses", service_tier="flex")
            call.response(service_tier="default", system_fingerprint="fp_1")
    names = ("openai.api.type", "openai.request.service_tier", "openai.response.service_tier")
    ours, theirs = (dict(span.attributes or {}) for span in captured.spans)
    assert [ours[name] for name in names] == ["responses", "flex", "default"]
    assert ours["openai.response.system_fingerprint"] == "fp_1"
    assert not [name for name in theirs if name.startswith("openai.")]
    for labels, _ in captured.points("gen_ai.client.operation.duration"):
        assert all(name in labels for name in names) == (labels["gen_ai.provider.name"] == "openai")
        assert "openai.response.system_fingerprint" not in labels


@pytest.mark.parametrize("streamed", [False, True])
def test_the_fingerprint_is_read_from_replies(captured: Captured, *, streamed: bool) -> None:
    reply = {**REPLY, "system_fingerprint": "fp_7"}
    made = llm_call(provider="openai")(lambda: ClientStream([reply]) if streamed else reply)()
    if streamed:
        list(made)
    assert attributes(captured)["openai.response.system_fingerprint"] == "fp_7"


@pytest.mark.parametrize("compacted", [True, False])
def test_a_conversation_that_was_compacted_says_so(captured: Captured, *, compacted: bool) -> None:
    with llm_call(model="m") as call:
        call.request(compacted=compacted)
    assert attributes(captured).get("gen_ai.conversation.compacted") is (compacted or None)


def test_a_remote_agent_is_named_by_what_was_asked_for(captured: Captured) -> None:
    with agent(name="local"), llm_call(operation="create_agent", provider="p") as call:
        call.request(agent="remote", agent_id="asst_1")
    found = dict(captured.span("create_agent remote").attributes or {})
    assert (found["gen_ai.agent.name"], found["gen_ai.agent.id"]) == ("remote", "asst_1")


def test_samplers_see_the_server_of_a_call() -> None:
    sampler = Watching()
    with capturing(sampler=sampler) as captured:
        operation = open_call(CallSpec(model="m", server=("api.example.com", 443)), Context())
        assert operation is not None
        operation.finish()
        (seen,) = sampler.seen
        assert (seen["server.address"], seen["server.port"]) == ("api.example.com", 443)
        ((labels, _),) = captured.points("gen_ai.client.operation.duration")
        assert (labels["server.address"], labels["server.port"]) == ("api.example.com", 443)


def test_a_retrieval_is_named_after_its_source(captured: Captured) -> None:
    with llm_call(operation="retrieval", provider="shop") as call:
        call.request(data_source="docs", top_k=3)
    assert captured.names == ["retrieval docs"]
    assert attributes(captured)["gen_ai.retrieval.top_k"] == 3
