from __future__ import annotations

import array
import asyncio
import contextlib
import gc
import io
from collections.abc import AsyncIterator, Callable, Iterator
from types import SimpleNamespace as Obj
from typing import Any, ClassVar, Generic, TypeVar

import pytest
from captured import Captured

from otel_empathy.sources.llm import llm_call

T = TypeVar("T")


def anthropic_events() -> list[Any]:
    message = Obj(id="msg_1", model="claude-x", usage=Obj(input_tokens=5, output_tokens=1))
    text = Obj(type="text_delta", text="hel")
    return [
        Obj(type="message_start", message=message),
        Obj(type="content_block_delta", delta=text),
        Obj(type="content_block_delta", delta=Obj(type="text_delta", text="lo")),
        Obj(type="message_delta", delta=Obj(stop_reason="end_turn"), usage=Obj(output_tokens=9)),
    ]


class Raw:
    """The stream below: what came over the wire, decoded."""

    def __init__(self) -> None:
        self._iterator = iter(anthropic_events())
        self.response = Obj(status=200, closed=False)

    def __iter__(self) -> Iterator[Any]:
        yield from self._iterator

    def __next__(self) -> Any:
        return next(self._iterator)

    def close(self) -> None:
        self.response.closed = True


class MessageStream(Generic[T]):
    """A stream of events with its own ways to read it, as Anthropic's."""

    text_stream: Iterator[str]

    def __init__(self, raw: Raw) -> None:
        self._raw = raw
        self.text_stream = self.__stream_text__()
        self._iterator = self.__stream__()
        self.__final: Any = None

    @property
    def response(self) -> Any:
        return self._raw.response

    @property
    def texts(self) -> Iterator[str]:
        return (event.delta.text for event in self if event.type == "content_block_delta")

    def __next__(self) -> Any:
        return self._iterator.__next__()

    def __iter__(self) -> Iterator[Any]:
        yield from self._iterator

    def __enter__(self) -> MessageStream[T]:
        return self

    def __exit__(self, *args: object) -> None:
        self.close()

    def close(self) -> None:
        self._raw.close()

    def get_final_message(self) -> Any:
        self.until_done()
        assert self.__final is not None
        return self.__final

    def until_done(self) -> MessageStream[T]:
        for _ in self:
            pass
        return self

    def __stream__(self) -> Iterator[Any]:
        for event in self._raw:
            if event.type == "message_start":
                self.__final = event.message
            yield event

    def __stream_text__(self) -> Iterator[str]:
        for event in self:
            if event.type == "content_block_delta":
                yield event.delta.text


class MessageStreamManager(Generic[T]):
    def __init__(self) -> None:
        self.__stream: MessageStream[T] | None = None

    def __enter__(self) -> MessageStream[T]:
        self.__stream = MessageStream(Raw())
        return self.__stream

    def __exit__(self, *args: object) -> None:
        if self.__stream is not None:
            self.__stream.close()


class AsyncRaw(Raw):
    async def __aiter__(self) -> AsyncIterator[Any]:
        for event in self._iterator:
            await asyncio.sleep(0)
            yield event


class AsyncMessageStream(Generic[T]):
    def __init__(self, raw: AsyncRaw) -> None:
        self._raw = raw
        self.text_stream = self.__stream_text__()
        self._iterator = self.__stream__()
        self.__final: Any = None

    async def __anext__(self) -> Any:
        return await self._iterator.__anext__()

    async def __aiter__(self) -> AsyncIterator[Any]:
        async for event in self._iterator:
            yield event

    async def __aenter__(self) -> AsyncMessageStream[T]:
        return self

    async def __aexit__(self, *args: object) -> None:
        await self.close()

    async def close(self) -> None:
        self._raw.close()

    async def get_final_message(self) -> Any:
        await self.until_done()
        return self.__final

    async def until_done(self) -> None:
        async for _ in self:
            pass

    async def __stream__(self) -> AsyncIterator[Any]:
        async for event in self._raw:
            if event.type == "message_start":
                self.__final = event.message
            yield event

    async def __stream_text__(self) -> AsyncIterator[str]:
        async for event in self:
            if event.type == "content_block_delta":
                yield event.delta.text


class AsyncMessageStreamManager(Generic[T]):
    def __init__(self) -> None:
        self.__stream: AsyncMessageStream[T] | None = None

    async def __aenter__(self) -> AsyncMessageStream[T]:
        await asyncio.sleep(0)
        self.__stream = AsyncMessageStream(AsyncRaw())
        return self.__stream

    async def __aexit__(self, *args: object) -> None:
        if self.__stream is not None:
            await self.__stream.close()


@llm_call(provider="anthropic", model="claude")
def returned() -> Any:
    return MessageStream(Raw())


@llm_call(provider="anthropic", model="claude")
def managed() -> Any:
    return MessageStreamManager()


@llm_call(provider="anthropic", model="claude")
async def returned_async() -> Any:
    return AsyncMessageStream(AsyncRaw())


@llm_call(provider="anthropic", model="claude")
def managed_async() -> Any:
    return AsyncMessageStreamManager()


def told(captured: Captured) -> tuple[Any, ...]:
    """Outcome, chunks, tokens, finish reasons of the only call."""
    (span,) = captured.spans
    found = dict(span.attributes or {})
    return (
        found["empathy.call.outcome"],
        found.get("empathy.call.chunks"),
        found.get("gen_ai.usage.input_tokens"),
        found.get("gen_ai.usage.output_tokens"),
        found.get("gen_ai.response.finish_reasons"),
    )


WHOLE = ("ok", 4, 5, 9, ("end_turn",))
READS: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "text stream": (lambda stream: list(stream.text_stream), ["hel", "lo"]),
    "property": (lambda stream: list(stream.texts), ["hel", "lo"]),
    "final message": (lambda stream: stream.get_final_message().id, "msg_1"),
    "until done": (lambda stream: stream.until_done() is stream, True),
    "loop": (lambda stream: len(list(stream)), 4),
}


@pytest.mark.parametrize("way", READS)
@pytest.mark.parametrize("by", [returned, managed])
def test_a_stream_read_through_its_own_methods_is_followed(
    captured: Captured, by: Callable[[], Any], way: str
) -> None:
    read, expected = READS[way]
    with by() as stream:
        assert isinstance(stream, MessageStream)
        assert stream.response.status == 200
        assert read(stream) == expected
        assert told(captured) == WHOLE
    assert stream.response.closed
    assert told(captured) == WHOLE
    assert captured.open == 0


@pytest.mark.parametrize("way", ["text stream", "final message", "loop"])
@pytest.mark.parametrize("managing", [True, False])
def test_an_async_stream_read_through_its_own_methods_is_followed(
    captured: Captured, way: str, *, managing: bool
) -> None:
    async def use() -> None:
        async with managed_async() if managing else await returned_async() as stream:
            assert isinstance(stream, AsyncMessageStream)
            if way == "text stream":
                assert [text async for text in stream.text_stream] == ["hel", "lo"]
            elif way == "final message":
                assert (await stream.get_final_message()).id == "msg_1"
            else:
                assert len([event async for event in stream]) == 4
            assert told(captured) == WHOLE

    asyncio.run(use())
    assert told(captured) == WHOLE
    assert captured.open == 0


@pytest.mark.parametrize("by", [returned, managed])
def test_a_stream_read_in_part_is_abandoned(captured: Captured, by: Callable[[], Any]) -> None:
    with by() as stream:
        assert next(stream.text_stream) == "hel"
        assert stream.text_stream is stream.text_stream
        assert captured.spans == []
    assert told(captured) == ("abandoned", 2, 5, 1, ("error",))


def test_a_text_stream_goes_on_where_it_was_left(captured: Captured) -> None:
    stream = returned()
    for text in stream.text_stream:
        assert text == "hel"
        break
    assert list(stream.text_stream) == ["lo"]
    assert told(captured) == WHOLE


def test_a_text_stream_keeps_its_stream_alive(captured: Captured) -> None:
    assert list(returned().text_stream) == ["hel", "lo"]
    assert told(captured) == WHOLE


def test_a_stream_whose_text_was_read_in_part_and_dropped_is_abandoned(captured: Captured) -> None:
    def use() -> None:
        next(returned().text_stream)

    use()
    gc.collect()
    with llm_call():  # what the collector found ends with the next beginning
        pass
    first = dict(captured.spans[0].attributes or {})
    assert first["empathy.call.outcome"] == "abandoned"
    assert captured.open == 0


def test_what_a_caller_puts_in_the_place_of_a_text_stream_is_what_it_finds(
    captured: Captured,
) -> None:
    stream = returned()
    assert stream.text_stream is not None
    stream.text_stream = "mine"
    assert stream.text_stream == "mine"
    stream.close()
    assert captured.open == 0


def test_a_stream_begun_before_it_was_returned_goes_on_as_it_is(captured: Captured) -> None:
    def begun() -> MessageStream[Any]:
        stream: MessageStream[Any] = MessageStream(Raw())
        assert next(stream.text_stream) == "hel"
        return stream

    with llm_call()(begun)() as stream:
        assert list(stream.text_stream) == ["lo"]
    assert told(captured)[0] == "ok"


@pytest.mark.parametrize("how", ["close", "drop"])
def test_a_stream_read_past_us_is_not_called_abandoned(captured: Captured, how: str) -> None:
    stream: Any = llm_call()(lambda: io.StringIO("a\nb\n"))()
    assert isinstance(stream, io.StringIO)
    assert stream.read() == "a\nb\n"
    if how == "close":
        stream.close()
    else:
        del stream
    assert told(captured) == ("ok", 0, None, None, None)


def test_a_stream_that_nobody_read_is_abandoned(captured: Captured) -> None:
    with returned():
        pass
    assert told(captured) == ("abandoned", 0, None, None, ("error",))


class Particular:
    """A stream with methods that work on itself alone."""

    seen: ClassVar[set[Any]] = set()

    def __init__(self) -> None:
        self._chunks = iter([1, 2])

    def __iter__(self) -> Particular:
        return self

    def __next__(self) -> int:
        return next(self._chunks)

    def own_type(self) -> str:
        return type(self).__name__

    def own_class(self) -> str:
        return self.__class__.__name__

    def put(self) -> None:
        object.__setattr__(self, "mark", 1)

    def register(self) -> bool:
        self.seen.add(self)
        return self in self.seen

    def total(self) -> int:
        return sum(self)

    @staticmethod
    def static() -> str:
        return "static"

    @classmethod
    def of_class(cls) -> str:
        return cls.__name__


def test_methods_that_need_the_stream_itself_have_it(captured: Captured) -> None:
    inner = Particular()
    stream = llm_call()(lambda: inner)()
    assert stream.own_type() == stream.own_class() == stream.of_class() == "Particular"
    assert stream.static() == "static"
    stream.put()
    assert inner.mark == stream.mark == 1  # type: ignore[attr-defined]
    assert stream.register()
    assert inner in Particular.seen
    assert stream == inner
    assert inner == stream
    assert stream.total() == 3
    assert told(captured)[:2] == ("ok", 2)


class Below(io.StringIO):
    def everything(self) -> str:
        return super().read()


def test_methods_over_a_class_in_c_stay_with_the_stream(captured: Captured) -> None:
    stream = llm_call()(lambda: Below("text"))()
    assert stream.everything() == "text"
    stream.close()
    assert told(captured)[0] == "ok"


class BelowHeap(array.array):  # type: ignore[type-arg]
    """Over a class in C that is made like one in Python."""

    def __next__(self) -> int:
        raise StopIteration

    def everything(self) -> list[int]:
        return super().tolist()


def test_methods_over_any_class_in_c_stay_with_the_stream(captured: Captured) -> None:
    stream = llm_call()(lambda: BelowHeap("i", [1, 2]))()
    assert stream.everything() == [1, 2]
    assert list(stream) == []
    assert told(captured)[0] == "ok"


def test_errors_of_a_text_stream_are_those_of_the_call(captured: Captured) -> None:
    class Broken(MessageStream[Any]):
        def __next__(self) -> Any:
            raise ConnectionError("gone")

    stream = llm_call()(lambda: Broken(Raw()))()
    with pytest.raises(ConnectionError, match="gone"):
        list(stream.text_stream)
    assert told(captured)[0] == "error"


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_manager_that_cannot_begin_fails_the_call(captured: Captured, kind: str) -> None:
    class Refusing:
        def __enter__(self) -> Any:
            raise ConnectionError("no")

        def __exit__(self, *args: object) -> None: ...

        async def __aenter__(self) -> Any:
            raise ConnectionError("no")

        async def __aexit__(self, *args: object) -> None: ...

    manager = llm_call()(lambda: Refusing())()  # noqa: PLW0108 - a class cannot be decorated

    async def use() -> None:
        async with manager:
            pass

    def use_plainly() -> None:
        with manager:
            pass

    with pytest.raises(ConnectionError, match="no"):
        asyncio.run(use()) if kind == "async" else use_plainly()
    assert told(captured)[0] == "error"


def test_a_manager_of_contextlib_is_followed_and_stays_a_decorator(captured: Captured) -> None:
    closed = []

    @llm_call(provider="anthropic")
    @contextlib.contextmanager
    def ask() -> Iterator[Any]:
        yield MessageStream(Raw())
        closed.append(True)

    with ask() as stream:
        assert list(stream.text_stream) == ["hel", "lo"]
    assert closed == [True]
    assert told(captured) == WHOLE
    assert ask()(lambda: 3)() == 3
    assert closed == [True, True]


def test_a_manager_that_gives_a_whole_reply_ends_with_it(captured: Captured) -> None:
    @llm_call()
    @contextlib.contextmanager
    def ask() -> Iterator[Any]:
        yield {"id": "r", "usage": {"prompt_tokens": 3, "completion_tokens": 4}}

    with ask() as reply:
        assert reply["id"] == "r"
        assert told(captured) == ("ok", None, 3, 4, None)


class Reply:
    """A reply that happens to be a manager too."""

    def __init__(self) -> None:
        self.usage = Obj(prompt_tokens=3, completion_tokens=4)

    def __enter__(self) -> Reply:
        return self

    def __exit__(self, *args: object) -> None: ...


def test_a_reply_that_is_a_manager_too_ends_where_it_is_looked_at(captured: Captured) -> None:
    reply = llm_call()(lambda: Reply())()  # noqa: PLW0108 - a class cannot be decorated
    assert isinstance(reply, Reply)
    assert reply.usage.prompt_tokens == 3
    assert told(captured) == ("ok", None, 3, 4, None)


class Sized(Reply):
    def __len__(self) -> int:
        return 7


def test_a_manager_that_can_do_more_is_handed_on_as_it_is(captured: Captured) -> None:
    reply = Sized()
    assert llm_call()(lambda: reply)() is reply
    assert told(captured) == ("ok", None, 3, 4, None)


def test_a_manager_that_is_never_entered_is_abandoned(captured: Captured) -> None:
    managed()
    assert told(captured)[0] == "abandoned"
    assert captured.open == 0


def test_a_stream_outlives_the_manager_it_came_from(captured: Captured) -> None:
    stream = managed().__enter__()
    gc.collect()
    assert captured.spans == []
    assert list(stream.text_stream) == ["hel", "lo"]
    assert told(captured) == WHOLE


def test_nothing_of_the_call_leaks_out_of_a_manager(captured: Captured) -> None:
    from opentelemetry.trace import get_current_span

    with managed() as stream:
        assert not get_current_span().get_span_context().is_valid
        for _ in stream.text_stream:
            assert not get_current_span().get_span_context().is_valid
    assert told(captured) == WHOLE
