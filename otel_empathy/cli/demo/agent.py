"""The demo's agent: it plans a rainy Sunday in Lisbon, with everything that can happen on the way.

One call is refused and tried again, one model fails and another takes over, one tool gives up, one
reply streams, one comes out of a cache. The decorators are all there is of telemetry in here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import otel_empathy as oe
from otel_empathy.cli.demo.chat import Chat, ModelError
from otel_empathy.cli.demo.model_server import Reply

__all__ = ["SCRIPT", "plan_a_day"]

PROVIDER = "demo"
MINI, MEDIUM, LARGE = "demo-mini", "demo-medium", "demo-large"

SCRIPT = {
    MINI: (
        Reply("slow down", 429, "rate_limit_exceeded", wait=0.03, retry_after=0.05),
        Reply(
            tools={"weather": {"city": "Lisbon"}, "museums": {"city": "Lisbon"}},
            usage={"prompt_tokens": 412, "completion_tokens": 38},
            wait=0.09,
        ),
    ),
    LARGE: (
        Reply("the server had an error", 500, "server_error", wait=0.14),
        Reply(
            "Good: every place has a roof, and the trams run on Sundays.",
            usage={
                "prompt_tokens": 2210,
                "completion_tokens": 61,
                "prompt_tokens_details": {"cached_tokens": 1840},
                "completion_tokens_details": {"reasoning_tokens": 24},
            },
            wait=0.22,
        ),
    ),
    MEDIUM: (
        Reply(
            "Begin in the tile museum while it rains, take tram 28 down to the river at noon, and"
            " spend the afternoon under the roof of the old market hall.",
            usage={
                "prompt_tokens": 1840,
                "completion_tokens": 36,
                "prompt_tokens_details": {"cached_tokens": 1536},
            },
            wait=0.08,
            pace=0.008,
        ),
    ),
}


@oe.workflow(name="day-trip")
def plan_a_day(chat: Chat, wish: str) -> str:
    """Plan a day and rate the plan."""
    with oe.using(user="ada@example.com", session="demo-session"):
        plan = guide(chat, wish)
        oe.feedback(score=0.9, name="helpfulness")
    return plan


@oe.agent(name="guide")
def guide(chat: Chat, wish: str) -> str:
    """The agent: ask which tools to use, use them, draft, review."""
    with oe.phase("thinking"):
        greeting = remembered_greeting()
    with oe.phase("llm_interaction"):
        wanted = choose_tools(chat, wish)
    with oe.phase("tool_execution"):
        facts = [use(name, city) for name, city in wanted.items()]
        oe.current_run().beat(progress=0.5, task="facts gathered")
    with oe.phase("llm_interaction"):
        try:
            draft = "".join(write(chat, wish, facts))
        except ModelError:
            draft = "".join(write_elsewhere(chat, wish, facts))
    with oe.phase("result_processing"):
        review(chat, draft)
    with oe.phase("completing"):
        oe.event("plan.ready", places=3)
    return f"{greeting} {draft}"


@oe.llm_call(provider=PROVIDER, model=MINI, tier="cheap", stage="greet")
def remembered_greeting() -> str:
    """A reply that the application's own cache knows."""
    oe.current_call().cached("exact")
    return "Hello Ada!"


@oe.llm_call(provider=PROVIDER, model=MINI, tier="cheap", stage="plan")
def choose_tools(chat: Chat, wish: str) -> dict[str, str]:
    """Ask which tools to use; one refusal is waited out."""
    messages = [{"role": "user", "content": wish}]
    try:
        reply = chat.ask(MINI, messages)
    except ModelError as error:
        oe.current_call().retry(error, delay=error.retry_after)
        chat.wait(error.retry_after)
        reply = chat.ask(MINI, messages)
    note(reply)
    calls = reply["choices"][0]["message"]["tool_calls"]
    return {call["function"]["name"]: "Lisbon" for call in calls}


@oe.llm_call(provider=PROVIDER, model=LARGE, tier="premium", stage="draft")
def write(chat: Chat, wish: str, facts: list[str]) -> Iterator[str]:
    """Stream a draft from the best model."""
    yield from deltas(chat.stream(LARGE, brief(wish, facts)))


@oe.llm_call(provider=PROVIDER, model=MEDIUM, tier="capable", stage="draft")
def write_elsewhere(chat: Chat, wish: str, facts: list[str]) -> Iterator[str]:
    """Stream a draft from the model that takes over."""
    oe.current_call().fallback(PROVIDER, LARGE)
    yield from deltas(chat.stream(MEDIUM, brief(wish, facts)))


@oe.llm_call(provider=PROVIDER, model=LARGE, tier="premium", stage="review")
def review(chat: Chat, draft: str) -> str:
    """Let the best model look at the draft."""
    reply = chat.ask(LARGE, [{"role": "user", "content": f"Is this plan good? {draft}"}])
    note(reply)
    oe.current_call().validated(True)
    return str(reply["choices"][0]["message"]["content"])


def use(name: str, city: str) -> str:
    """Use a tool; a plan can do without one."""
    try:
        return {"weather": weather, "museums": museums}[name](city)
    except TimeoutError:
        return f"{name}: unknown"


@oe.tool
def weather(city: str) -> str:
    """The forecast."""
    return f"{city}: rain until noon, 17 degrees"


@oe.tool
def museums(city: str) -> str:
    """Opening hours, from a service that does not answer today."""
    raise TimeoutError(f"opening hours of {city}: no answer")


def brief(wish: str, facts: list[str]) -> list[Mapping[str, str]]:
    """The messages of a draft."""
    return [
        {"role": "system", "content": "You plan days in cities. " + " ".join(facts)},
        {"role": "user", "content": wish},
    ]


def deltas(chunks: Iterator[dict[str, Any]]) -> Iterator[str]:
    """The text of a stream; its last chunk says what it used."""
    for chunk in chunks:
        if chunk.get("usage"):
            note(chunk)
        for choice in chunk["choices"]:
            if text := choice["delta"].get("content"):
                yield text


def note(reply: Mapping[str, Any]) -> None:
    """Tell the current call what the provider reported."""
    usage = reply["usage"]
    oe.current_call().usage(
        input=usage["prompt_tokens"],
        output=usage["completion_tokens"],
        cache_read=usage.get("prompt_tokens_details", {}).get("cached_tokens"),
        reasoning=usage.get("completion_tokens_details", {}).get("reasoning_tokens"),
    )
    finish = [choice["finish_reason"] for choice in reply["choices"]] or ["stop"]
    oe.current_call().response(model=reply["model"], id=reply["id"], finish=finish)
