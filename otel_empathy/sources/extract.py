"""Reading a provider's reply: tokens, answering model, id and finish reasons.

Replies are told apart by the fields they have, as objects or as plain mappings; no library is
imported. Counts are brought into the one normal form of `core.usage` (input includes cached
tokens, output includes reasoning). What is not found stays unknown.

| reply | usage |
|---|---|
| OpenAI chat, embeddings and compatible servers | `usage.prompt_tokens`, `.completion_tokens` |
| OpenAI responses | `usage.input_tokens` with `input_tokens_details` |
| Anthropic messages | `usage.input_tokens` without the cached ones, which are added |
| Gemini | `usage_metadata` (`usageMetadata`), reasoning apart from the reply |
| Cohere | `usage.billed_units`, `meta.billed_units` |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, Final

from otel_empathy.core.call import Call
from otel_empathy.core.errors import WrongType
from otel_empathy.core.usage import Usage
from otel_empathy.emit import safety
from otel_empathy.emit.calls import KEPT

__all__ = ["Extract", "read_chunks", "read_reply", "reader"]

Extract = Callable[[Any], "Usage | Mapping[str, Any] | None"]
"""A user's own reading: of the result, or of the list of chunks of a stream."""

_DATA: Final = (str, bytes, bytearray, int, float, list, tuple, set, frozenset, type(None))
_USAGE_NAMES: Final = tuple(field.name for field in fields(Usage))
_RESPONSES: Final = {"completed": "stop", "failed": "error", "cancelled": "error"}
_CHOICES: Final = 127  # the last choice that is looked at; an index may be anything
_INCOMPLETE: Final = {"max_output_tokens": "length"}


def reader(extract: Extract | None) -> Callable[[Call, Any, Sequence[Any] | None], None]:
    """What reads replies into calls: the user's function, or what is known here."""
    if extract is None:
        return _read_any

    def read(call: Call, result: Any, chunks: Sequence[Any] | None) -> None:
        if chunks is None:
            _apply(call, extract(result))
        elif len(chunks) < KEPT:
            _apply(call, extract(chunks))
        else:  # some are missing, and no count is better than one of a part
            safety.count("extract", "stream.chunks")
            call.counted({}, source="none")

    return read


def _read_any(call: Call, result: Any, chunks: Sequence[Any] | None) -> None:
    if chunks is None:
        read_reply(call, result)
    else:
        read_chunks(call, chunks)


def read_reply(call: Call, reply: Any) -> None:
    """Read a whole reply."""
    if isinstance(reply, _DATA):
        return
    model = _text(reply, "model", "model_version", "modelVersion")
    fingerprint = _text(reply, "system_fingerprint")
    _tell(call, _usage(reply), model, _id(reply), _tier(reply), fingerprint, _finish(reply))


def read_chunks(call: Call, chunks: Sequence[Any]) -> None:
    """Read the chunks of a streamed reply; counts only grow, names are said once."""
    counts: dict[str, int] = {}
    reasons: dict[int, str] = {}
    model = id_ = tier = fingerprint = None
    for chunk in chunks:
        if isinstance(chunk, _DATA):
            continue
        # OpenAI responses and Anthropic put what concerns the whole reply one level down, the
        # events of OpenAI's own reader the chunks.
        inside = _get(chunk, "chunk")
        for part in (chunk, inside, _get(chunk, "response"), _get(chunk, "message")):
            if part is None or isinstance(part, _DATA):
                continue
            for name, count in _usage(part).items():
                counts[name] = max(count, counts.get(name, 0))
            partial = part is chunk or part is inside
            found = _partial(part) if partial else enumerate(_finish(part))
            reasons.update((index, reason) for index, reason in found if reason is not None)
            model = model or _text(part, "model", "model_version", "modelVersion")
            id_ = id_ or _id(part)
            tier = tier or _tier(part)
            fingerprint = fingerprint or _text(part, "system_fingerprint")
    _tell(call, counts, model, id_, tier, fingerprint, _aligned(reasons))


def _tell(
    call: Call,
    counts: Mapping[str, int],
    model: str | None,
    id_: str | None,
    tier: str | None,
    fingerprint: str | None,
    reasons: list[str],
) -> None:
    """What the code around the call has said itself is better, and stays."""
    if counts and call.tokens is None and call.source != "none":
        call.counted(counts)
    call.response(
        model=model if call.response_model is None else None,
        id=id_ if call.response_id is None else None,
        finish=reasons if reasons and call.finish is None else None,
        service_tier=tier if call.service_tier is None else None,
        system_fingerprint=fingerprint if call.system_fingerprint is None else None,
    )


def _apply(call: Call, found: Any) -> None:
    if found is None:
        return
    if isinstance(found, Usage):
        given = {name: getattr(found, name) for name in _USAGE_NAMES}
        call.counted(given)
        return
    if not isinstance(found, Mapping) or not _ours(found):
        counts = {} if isinstance(found, _DATA) else _normal(found)
        if not counts and found != {}:
            raise WrongType(
                f"extract gave {type(found).__qualname__} without a count: give a Usage, a mapping "
                "of its fields, or None"
            )
        call.counted(counts)
        return
    counts = {name: found[name] for name in _USAGE_NAMES if found.get(name) is not None}
    call.counted(counts, source=found.get("source", "provider"))
    call.response(model=found.get("model"), id=found.get("id"), finish=found.get("finish"))
    if found.get("cost") is not None:
        call.cost(found["cost"], found.get("currency", "USD"))


def _ours(found: Mapping[str, Any]) -> bool:
    return not found.keys().isdisjoint(
        {*_USAGE_NAMES, "source", "model", "id", "finish", "cost", "currency"}
    )


def _get(thing: Any, *names: str) -> Any:
    """A field of an object or a mapping, under the first of its names that has a value."""
    mapping = isinstance(thing, Mapping)
    for name in names:
        value = thing.get(name) if mapping else getattr(thing, name, None)
        if value is not None:
            return value
    return None


def _count(thing: Any, *names: str) -> int | None:
    value = None if thing is None else _get(thing, *names)
    return value if type(value) is int and value >= 0 else None


def _text(thing: Any, *names: str) -> str | None:
    value = _get(thing, *names)
    return value if isinstance(value, str) and value else None


def _id(reply: Any) -> str | None:
    return _text(reply, "id", "response_id", "responseId")


def _tier(reply: Any) -> str | None:
    """The service tier that answered, which decides about the price: OpenAI's and Anthropic's."""
    usage = _get(reply, "usage")
    inner = None if usage is None or isinstance(usage, _DATA) else _text(usage, "service_tier")
    return inner or _text(reply, "service_tier")


def _usage(reply: Any) -> dict[str, int]:
    for name in ("usage", "usage_metadata", "usageMetadata"):
        usage = _get(reply, name)
        if usage is not None and not isinstance(usage, _DATA):
            return _normal(usage)
    meta = _get(reply, "meta")
    billed = None if meta is None or isinstance(meta, _DATA) else _get(meta, "billed_units")
    return {} if billed is None else _normal(billed)


def _normal(usage: Any) -> dict[str, int]:
    """A provider's counts in the normal form."""
    billed = _get(usage, "billed_units")  # what is charged wins over what was used
    if billed is not None and not isinstance(billed, _DATA):
        usage = billed
    for read in (_openai_chat, _gemini, _anthropic_or_responses):
        counts = read(usage)
        if counts:
            return {name: count for name, count in counts.items() if count is not None}
    return {}


def _openai_chat(usage: Any) -> dict[str, int | None]:
    prompt, completion = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    if prompt is None and completion is None:
        return {}
    into, out = _get(usage, "prompt_tokens_details"), _get(usage, "completion_tokens_details")
    return {
        "input": prompt,
        "output": completion,
        "cache_read": _count(into, "cached_tokens"),
        "cache_write": _count(into, "cache_write_tokens"),
        "reasoning": _count(out, "reasoning_tokens"),
        "audio_input": _count(into, "audio_tokens"),
        "audio_output": _count(out, "audio_tokens"),
        "image_input": _count(into, "image_tokens"),
        "image_output": _count(out, "image_tokens"),
    }


def _gemini(usage: Any) -> dict[str, int | None]:
    prompt = _count(usage, "prompt_token_count", "promptTokenCount")
    reply = _count(usage, "candidates_token_count", "candidatesTokenCount")
    thoughts = _count(usage, "thoughts_token_count", "thoughtsTokenCount")
    tools = _count(usage, "tool_use_prompt_token_count", "toolUsePromptTokenCount")
    if prompt is None and reply is None:
        return {}
    into = _modalities(usage, "prompt_tokens_details", "promptTokensDetails")
    out = _modalities(usage, "candidates_tokens_details", "candidatesTokensDetails")
    return {
        "input": _sum(prompt, tools),
        "output": _sum(reply, thoughts),
        "cache_read": _count(usage, "cached_content_token_count", "cachedContentTokenCount"),
        "reasoning": thoughts,
        "audio_input": into.get("AUDIO"),
        "audio_output": out.get("AUDIO"),
        "image_input": into.get("IMAGE"),
        "image_output": out.get("IMAGE"),
    }


def _modalities(usage: Any, *names: str) -> dict[str, int]:
    rows = _get(usage, *names)
    found: dict[str, int] = {}
    for row in rows if isinstance(rows, (list, tuple)) else ():
        modality = _get(row, "modality")
        count = _count(row, "token_count", "tokenCount")
        if count is not None:
            name = str(getattr(modality, "value", modality)).upper()
            found[name] = found.get(name, 0) + count
    return found


def _anthropic_or_responses(usage: Any) -> dict[str, int | None]:
    given, reply = _count(usage, "input_tokens"), _count(usage, "output_tokens")
    if given is None and reply is None:
        return {}
    into = _get(usage, "input_tokens_details", "input_token_details")
    out = _get(usage, "output_tokens_details", "output_token_details")
    if into is not None or out is not None:  # OpenAI responses, LangChain: cached ones included
        return {
            "input": given,
            "output": reply,
            "cache_read": _count(into, "cached_tokens", "cache_read"),
            "cache_write": _count(into, "cache_write_tokens", "cache_creation"),
            "reasoning": _count(out, "reasoning_tokens", "reasoning"),
            "audio_input": _count(into, "audio_tokens", "audio"),
            "audio_output": _count(out, "audio_tokens", "audio"),
        }
    read = _count(usage, "cache_read_input_tokens")
    written = _count(usage, "cache_creation_input_tokens")
    return {
        "input": None if given is None else _sum(given, read, written),
        "output": reply,
        "cache_read": read,
        "cache_write": written,
        "cache_write_1h": _count(_get(usage, "cache_creation"), "ephemeral_1h_input_tokens"),
    }


def _sum(*counts: int | None) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _reason(value: Any) -> str | None:
    name = getattr(value, "value", value)
    return name if isinstance(name, str) and name else None


def _finish(reply: Any) -> list[str]:
    reasons = dict(enumerate(reason for _, reason in _partial(reply)))
    if any(reasons.values()):
        return _aligned(reasons)
    status = _get(reply, "status")
    if isinstance(status, str) and _get(reply, "output") is not None:  # OpenAI responses
        detail = _get(reply, "incomplete_details")
        why = None if detail is None else _reason(_get(detail, "reason"))
        return [_INCOMPLETE.get(why, why) if why else _RESPONSES.get(status, status)]
    return []


def _aligned(reasons: Mapping[int, str | None]) -> list[str]:
    """Reasons by choice as a list; a choice that gave none keeps its place."""
    most = min(max(reasons, default=-1), _CHOICES)
    return [reasons.get(index) or "error" for index in range(most + 1)]


def _partial(reply: Any) -> list[tuple[int, str | None]]:
    """The finish reasons that a reply or chunk holds, each with the number of its choice."""
    choices = _get(reply, "choices", "candidates")
    if isinstance(choices, (list, tuple)):
        found = []
        for position, choice in enumerate(choices):
            reason = _reason(_get(choice, "finish_reason", "finishReason"))
            index = _count(choice, "index")
            found.append((position if index is None else index, reason))
        return found
    delta = _get(reply, "delta")
    for holder in (reply, delta):
        if holder is not None and not isinstance(holder, _DATA):
            reason = _reason(_get(holder, "stop_reason", "finish_reason", "finishReason"))
            if reason is not None:
                return [(0, reason)]
    return []
