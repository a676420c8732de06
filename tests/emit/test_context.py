from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from typing import Any

import pytest
from captured import Captured, capturing
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import baggage
from opentelemetry.context import Context, attach, detach, get_current
from opentelemetry.trace import get_current_span

from otel_empathy.core.call import NO_CALL
from otel_empathy.core.errors import WrongType, WrongValue
from otel_empathy.core.run import NO_RUN
from otel_empathy.emit import safety
from otel_empathy.emit.context import (
    SPAN_KEY,
    carry,
    current_call,
    current_run,
    inherited,
    using,
)
from otel_empathy.emit.live import live
from otel_empathy.sources.agent import agent, workflow
from otel_empathy.sources.llm import llm_call


def hashed(user: str) -> str:
    return f"hash of {len(user)}"


@pytest.fixture
def hashing() -> Iterator[Captured]:
    with capturing(hash_user=hashed) as made:
        yield made


def test_the_key_of_the_span_is_the_one_of_the_api(captured: Captured) -> None:
    with llm_call():
        assert get_current()[SPAN_KEY] is get_current_span()


def test_users_are_hashed_on_entry(hashing: Captured) -> None:
    with using(user="ada@example.com", session="s", conversation="c", workflow="w"):
        assert inherited() == {
            "user.hash": "hash of 15",
            "session.id": "s",
            "gen_ai.conversation.id": "c",
            "gen_ai.workflow.name": "w",
        }
        assert "ada@" not in repr(dict(get_current()))
    assert inherited() == {}


def test_inner_values_win_and_others_stay(hashing: Captured) -> None:
    with using(user="a", session="outer", workflow="w"):
        with using(session="inner"):
            assert inherited()["session.id"] == "inner"
            assert inherited()["user.hash"] == "hash of 1"
        assert inherited()["session.id"] == "outer"


def test_the_user_of_the_process_is_the_user_of_every_call(captured: Captured) -> None:
    captured.install(hash_user=hashed, user="everybody")
    with llm_call():
        pass
    with using(user="me"), llm_call():
        pass
    found = [(span.attributes or {})["user.hash"] for span in captured.spans]
    assert found == ["hash of 9", "hash of 2"]


def test_a_hash_that_fails_leaves_the_user_out(captured: Captured) -> None:
    def broken(user: str) -> str:
        raise OSError("no secret")

    with safety.swallow() as errors:
        captured.install(hash_user=broken, user="everybody")
        with using(user="me", session="s"), llm_call():
            pass
        assert "user.hash" not in (captured.spans[0].attributes or {})
    assert errors["callback", "OSError"] == 1
    assert errors["wrap", "OSError"] == 1


def test_ids_that_are_no_text_become_text(captured: Captured) -> None:
    session = uuid.uuid4()
    with using(session=session, conversation=7):  # type: ignore[arg-type]
        assert inherited() == {"session.id": str(session), "gen_ai.conversation.id": "7"}


def test_an_unknown_tier_raises_at_once() -> None:
    with pytest.raises(WrongValue, match="cheap, capable, premium"):
        using(tier="huge")
    with pytest.raises(WrongType):
        using(tier=1)  # type: ignore[arg-type]


def test_using_serves_coroutines_and_follows_tasks(captured: Captured) -> None:
    async def read() -> Any:
        await asyncio.sleep(0)
        return inherited().get("session.id")

    async def one(session: str) -> Any:
        async with using(session=session):
            return await asyncio.ensure_future(read())

    async def all_() -> list[Any]:
        return list(await asyncio.gather(one("a"), one("b"), read()))

    assert asyncio.run(all_()) == ["a", "b", None]


def test_a_using_block_closed_elsewhere_disturbs_nobody(captured: Captured) -> None:
    def steps() -> Iterator[int]:
        with using(session="inside"):
            yield 1

    stream = steps()
    next(stream)
    leaked = get_current()
    with using(session="other"):
        here = get_current()
        stream.close()
        assert get_current() is here
    assert get_current() is leaked
    attach(Context())


def test_unconfigured_everything_is_nothing() -> None:
    assert current_call() is NO_CALL
    assert current_run() is NO_RUN
    before = get_current()
    with using(user="a", session="s"):
        assert get_current() is before
    assert carry(test_unconfigured_everything_is_nothing) is (
        test_unconfigured_everything_is_nothing
    )


def test_carry_takes_the_context_into_threads_and_pools(captured: Captured) -> None:
    def read(_: int) -> Any:
        return inherited().get("session.id")

    with using(session="s"), ThreadPoolExecutor(2) as pool:
        assert set(pool.map(read, range(4))) == {None}
        assert set(pool.map(carry(read), range(4))) == {"s"}
        carried = carry(read)
    assert carried(0) == "s"
    assert inherited() == {}
    assert carried.__name__ == "read"


def test_one_block_may_be_entered_by_many_tasks(captured: Captured) -> None:
    shared = using(session="s-1")

    async def enter(steps: int) -> tuple[str | None, bool]:
        before = get_current()
        with shared:
            for _ in range(steps):
                await asyncio.sleep(0)
            inside = inherited().get("session.id")
        return inside, get_current() is before

    async def together() -> list[Any]:
        return list(await asyncio.gather(*(enter(steps) for steps in (3, 1, 2, 1))))

    assert asyncio.run(together()) == [("s-1", True)] * 4


def test_a_using_block_entered_while_off_ends_nothing_of_another(captured: Captured) -> None:
    shared = using(session="s-1")
    with shared:
        live.on = False
        with shared:
            pass
        live.on = True
        assert inherited().get("session.id") == "s-1"
    assert inherited() == {}


def test_each_task_leaves_its_own_using_block_whatever_else_is_attached(
    captured: Captured,
) -> None:
    shared = using(session="s-1")

    async def leak() -> None:
        with shared:
            attach(Context())
            await asyncio.sleep(0)

    async def keep() -> bool:
        before = get_current()
        with shared:
            for _ in range(3):
                await asyncio.sleep(0)
        return get_current() is before

    async def together() -> bool:
        return (await asyncio.gather(leak(), keep()))[1]

    assert asyncio.run(together())


def test_names_may_be_members_of_an_enum(captured: Captured) -> None:
    class Name(str, Enum):
        SHOP = "shop"

    @llm_call(provider=Name.SHOP, model=Name.SHOP, stage=Name.SHOP)
    def ask() -> None: ...

    with using(workflow=Name.SHOP, session=Name.SHOP), agent(name=Name.SHOP):
        ask()
    assert captured.names == ["chat shop", "invoke_agent shop"]
    found = dict(captured.span("chat shop").attributes or {})
    names = ("gen_ai.provider.name", "gen_ai.workflow.name", "session.id", "empathy.call.stage")
    assert {type(found[name]) for name in names} == {str}
    assert {found[name] for name in names} == {"shop"}


@pytest.mark.parametrize("on", [True, False])
def test_what_cannot_be_called_cannot_be_carried(captured: Captured, *, on: bool) -> None:
    if not on:
        live.remove()
    with pytest.raises(WrongType, match="carry cannot take 5 along"):
        carry(5)  # type: ignore[type-var]


def test_a_carried_coroutine_dropped_elsewhere_does_not_complain(
    captured: Captured, caplog: pytest.LogCaptureFixture
) -> None:
    async def wait() -> None:
        await asyncio.sleep(10)

    with using(session="s-1"):
        carried = carry(wait)()

    async def begin() -> None:
        task = asyncio.ensure_future(asyncio.sleep(0))
        carried.send(None).cancel()
        await task

    asyncio.run(begin())
    carried.close()
    assert caplog.records == []


def test_carry_keeps_coroutines_and_errors(captured: Captured) -> None:
    async def read() -> Any:
        await asyncio.sleep(0)
        return inherited().get("session.id")

    def fail() -> None:
        raise KeyError("x")

    with using(session="s"):
        carried, failing = carry(read), carry(fail)
    assert asyncio.run(carried()) == "s"
    before = get_current()
    with pytest.raises(KeyError):
        failing()
    assert get_current() is before


# -- baggage --------------------------------------------------------------------------------------


def test_baggage_stays_empty_unless_asked(hashing: Captured) -> None:
    with using(session="s", user="u"), agent(name="a"):
        assert dict(baggage.get_all()) == {}


def test_what_travels_and_what_does_not() -> None:
    with (
        capturing(propagate=True, hash_user=hashed),
        using(session="s", user="u", conversation="c", stage="x", tier="cheap"),
        workflow(name="w"),
        agent(name="a") as run,
    ):
        assert dict(baggage.get_all()) == {
            "session.id": "s",
            "gen_ai.conversation.id": "c",
            "gen_ai.workflow.name": "w",
            "gen_ai.agent.name": "a",
            "empathy.run.id": run.id,
        }


def received(**pairs: str) -> Context:
    context = Context()
    for key, value in pairs.items():
        context = baggage.set_baggage(key, value, context)
    return context


def test_known_baggage_becomes_span_attributes_and_no_metric_attribute(captured: Captured) -> None:
    context = received(
        **{
            "session.id": "from-far",
            "gen_ai.workflow.name": "theirs",
            "gen_ai.agent.name": "them",
            "empathy.run.id": "run_X",
            "user.hash": "aaaa",
            "other": "x",
        }
    )
    token = attach(context)
    try:
        with llm_call(model="m") as call:
            call.cached("exact")
        with agent(name="mine") as run:
            pass
    finally:
        detach(token)
    found = dict(captured.span("chat m").attributes or {})
    assert found["session.id"] == "from-far"
    assert found["gen_ai.workflow.name"] == "theirs"
    assert found["empathy.run.id"] == "run_X"
    assert "user.hash" not in found
    assert "other" not in found
    assert run.parent_id == "run_X"
    for points in captured.metrics().values():
        for point in points:
            assert not {"theirs", "them", "from-far", "run_X"} & set(point.attributes.values())


def test_what_this_process_says_wins_over_baggage(captured: Captured) -> None:
    token = attach(received(**{"session.id": "theirs", "gen_ai.conversation.id": "c"}))
    try:
        with using(session="ours"):
            assert inherited() == {"session.id": "ours", "gen_ai.conversation.id": "c"}
    finally:
        detach(token)


@given(value=st.text(max_size=140))
def test_only_harmless_values_come_in(value: str) -> None:
    allowed = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:/-")
    harmless = 0 < len(value) <= 128 and set(value) <= allowed
    found = inherited(received(**{"session.id": value}))
    assert found == ({"session.id": value} if harmless else {})


def test_threads_without_carry_inherit_nothing(captured: Captured) -> None:
    seen = []
    with using(session="s"):
        thread = threading.Thread(target=lambda: seen.append(dict(inherited())))
        thread.start()
        thread.join()
    assert seen == [{}]
    assert live.on


@pytest.mark.fault("P9")
@pytest.mark.parametrize("on", [True, False])
def test_what_cannot_be_shown_is_left_out_and_counted(captured: Captured, *, on: bool) -> None:
    class Mute:
        def __str__(self) -> str:
            raise RuntimeError("no")

    if not on:
        live.remove()
    mute: Any = Mute()
    with using(user=mute, session=mute, conversation=mute, workflow="w", stage=mute):
        assert inherited() == ({"gen_ai.workflow.name": "w"} if on else {})
    names = ("user", "session", "conversation", "stage")
    assert safety.errors == {("extract", f"using.{name}"): 1 for name in names}
