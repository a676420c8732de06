"""The one gate for what people and models said: prompts, replies, arguments and results of tools.

Nothing passes while capture is off. What passes is brought into the form of the conventions
(messages with roles and parts), cut to the byte budget and scrubbed, before anything else sees it.
Beside the facts about a call it takes the room that is left, so that it never displaces one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from opentelemetry.trace import Span

from otel_empathy.core import semconv
from otel_empathy.core.settings import Capture
from otel_empathy.emit.live import live
from otel_empathy.emit.safety import guarded
from otel_empathy.emit.values import MOST, truncations

__all__ = ["Kept", "in_events", "in_spans", "put", "take", "wanted", "with_facts"]

Kept = tuple[Any, bool]
"""A value as JSON-able data, and whether something was cut off."""

_ROLES: Final = {semconv.INPUT_MESSAGES: "user", semconv.OUTPUT_MESSAGES: "assistant"}
_PARTS: Final = frozenset(
    {"tool_call", "tool_call_response", "reasoning", "blob", "file", "uri", "generic"}
)
_TEXTS: Final = frozenset({"text", "input_text", "output_text", "refusal"})


def wanted() -> bool:
    """Whether any sink takes content; asked first, so that nothing is prepared for nobody."""
    return live.capture is not Capture.NO_CONTENT


def in_spans() -> bool:
    """Whether spans take content."""
    return wanted() and live.capture.spans


def in_events() -> bool:
    """Whether events take content."""
    return wanted() and live.capture.events


@guarded("serialize")
def take(key: str, value: Any) -> Kept | None:
    """Content in the form in which it may be kept; None while capture is off.

    Args:
        key: The attribute that it is for; messages are brought into their standard form.
        value: Whatever the caller has.
    """
    if not wanted():
        return None
    from otel_empathy.core.serialize import plain  # noqa: PLC0415 - only where capture is on

    data, cut = plain(value, scrub=live.scrub)
    if key in _ROLES:
        data = _messages(data, _ROLES[key])
    elif key == semconv.SYSTEM_INSTRUCTIONS:
        data = [part for message in _messages(data, "system") for part in message["parts"]]
    return live.scrub_value(data), cut


def put(
    span: Span, facts: Mapping[str, Any], content: Mapping[str, Kept], *, shortened: bool = False
) -> None:
    """Set facts and content, as JSON text, on a span.

    A full span drops its oldest attributes, and how many it takes is up to the application: so what
    it has already is set again, behind the content.

    Args:
        span: The span.
        facts: What else is known.
        content: What was kept.
        shortened: Whether some was left out before.
    """
    from otel_empathy.core.serialize import to_json  # noqa: PLC0415 - only where capture is on

    texts: dict[str, Kept] = {}
    for key, (value, cut) in content.items():
        text, more = (value, False) if isinstance(value, str) else to_json(value)
        texts[key] = text, cut or more
    there = getattr(span, "attributes", None) or {}
    known = {**{key: value for key, value in there.items() if key not in content}, **facts}
    span.set_attributes(with_facts(known, texts, shortened=shortened))


def with_facts(
    facts: Mapping[str, Any], content: Mapping[str, Kept], *, shortened: bool = False
) -> dict[str, Any]:
    """Content and facts as the attributes of one record, with a mark where something is missing."""
    room = max(MOST - 1 - len(facts), 0)  # one for the mark
    fitting = content
    if len(content) > room:
        # Messages say more than variables.
        order = sorted(content, key=lambda key: key.startswith(semconv.PROMPT_VARIABLE))
        fitting = {key: content[key] for key in order[:room]}
        shortened = True
    known = {key: value for key, (value, _) in fitting.items()}
    known.update(facts)
    cut = any(cut for _, cut in fitting.values())
    if shortened:
        truncations["keys"] += 1
    if cut:
        truncations["content"] += 1
    if shortened or cut:
        known[semconv.TRUNCATED] = True
    return known


def _messages(data: Any, role: str) -> list[dict[str, Any]]:
    items = data if isinstance(data, list) else [data]
    if items and all(isinstance(item, dict) and _is_part(item) for item in items):
        return [{"role": role, "parts": [_part(item) for item in items]}]
    return [_message(item, role) for item in items]


def _is_part(item: dict[str, Any]) -> bool:
    return "type" in item and "role" not in item and "message" not in item


def _message(item: Any, role: str) -> dict[str, Any]:
    if not isinstance(item, dict):
        return {"role": role, "parts": [_part(item)]}
    inner = item.get("message")
    if isinstance(inner, dict):  # a choice of an OpenAI reply
        return _message(inner, role)
    who = item.get("role")
    role = who if isinstance(who, str) else role
    body = item.get("parts", item.get("content"))
    answered = item.get("tool_call_id")
    if answered is not None:
        return {"role": role, "parts": [_response(answered, body)]}
    parts = [] if body is None else [_part(p) for p in (body if isinstance(body, list) else [body])]
    calls = item.get("tool_calls")
    if isinstance(calls, list):
        parts += [_part(call) for call in calls]
    if not parts:
        parts = [{"type": "generic", "content": item}]
    return {"role": role, "parts": parts}


def _part(part: Any) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "content": part}
    if not isinstance(part, dict):
        return {"type": "generic", "content": part}
    kind = part.get("type")
    if kind in _PARTS or (kind == "text" and "content" in part):
        return part
    if kind in _TEXTS or (kind is None and isinstance(part.get("text"), str)):
        return {"type": "text", "content": part.get("text", part.get("refusal"))}
    if kind == "tool_result":
        return _response(part.get("tool_use_id"), part.get("content"))
    if kind == "thinking":
        return {"type": "reasoning", "content": part.get("thinking")}
    if "mime" in part and "sha256" in part:
        return {"type": "blob", "content": part}
    return _call(part) or {"type": "generic", "content": part}


def _call(part: dict[str, Any]) -> dict[str, Any] | None:
    """The call of a tool, as OpenAI, Gemini and Anthropic write it."""
    openai, gemini = part.get("function"), part.get("function_call")
    if isinstance(openai, dict):
        found = {"id": part.get("id"), "name": openai.get("name")}
        found["arguments"] = openai.get("arguments")
    elif isinstance(gemini, dict):
        found = {"id": gemini.get("id"), "name": gemini.get("name")}
        found["arguments"] = gemini.get("args")
    elif part.get("type") == "tool_use":
        found = {"id": part.get("id"), "name": part.get("name"), "arguments": part.get("input")}
    else:
        return None
    return {"type": "tool_call", **{k: v for k, v in found.items() if v is not None}}


def _response(id_: Any, response: Any) -> dict[str, Any]:
    return {"type": "tool_call_response", "id": id_, "response": response}
