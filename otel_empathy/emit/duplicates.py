"""One logical call, one span: how nested operations of the same type find each other.

The official GenAI packages put an object into the context under keys of their own; an operation
that finds one there stays silent and hands over what it knows. We do the same under the same keys,
with an object of their class where their package is imported, so that theirs and ours agree.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, Final

from otel_empathy.core import semconv
from otel_empathy.core.call import Call
from otel_empathy.core.usage import Usage

__all__ = ["CLEARED", "Merged", "enrich", "key_of", "place", "publish"]

_MODULE: Final = "opentelemetry.util.genai.invocation"
_KEY: Final = "opentelemetry.genai.client.{}.context"
_TYPES: Final = {
    "inference": "InferenceData",
    "embedding": "EmbeddingData",
    "retrieval": "RetrievalData",
    "fetch_response": "FetchResponseData",
}
_KEYS: Final = {kind: _KEY.format(kind) for kind in _TYPES}
CLEARED: Final[dict[str, None]] = dict.fromkeys(_KEYS.values())
"""Context values for code that begins something new: a run or a tool is no part of a call."""

_USAGE: Final = {
    "input": semconv.USAGE_INPUT,
    "output": semconv.USAGE_OUTPUT,
    "cache_read": semconv.USAGE_CACHE_READ,
    "cache_write": semconv.USAGE_CACHE_WRITE,
    "reasoning": semconv.USAGE_REASONING,
    "audio_input": semconv.USAGE_AUDIO_INPUT,
    "audio_output": semconv.USAGE_AUDIO_OUTPUT,
    "image_input": semconv.USAGE_IMAGE_INPUT,
    "image_output": semconv.USAGE_IMAGE_OUTPUT,
}
_PLAIN: Final = (
    semconv.PROVIDER, semconv.REQUEST_MODEL, semconv.RESPONSE_MODEL, semconv.RESPONSE_ID,
    semconv.FINISH_REASONS, semconv.TEMPERATURE, semconv.TOP_P, semconv.TOP_K,
    semconv.FREQUENCY_PENALTY, semconv.PRESENCE_PENALTY, semconv.MAX_TOKENS, semconv.SEED,
    semconv.CHOICE_COUNT, semconv.STOP_SEQUENCES, semconv.ENCODING_FORMATS,
    semconv.REASONING_LEVEL, semconv.PREVIOUS_RESPONSE_ID, semconv.OUTPUT_TYPE,
    semconv.SERVER_ADDRESS, semconv.SERVER_PORT, semconv.CONVERSATION_ID, semconv.REQUEST_STREAM,
    semconv.TIME_TO_FIRST_CHUNK, semconv.PROMPT_NAME, semconv.PROMPT_VERSION,
)  # fmt: skip
_MESSAGES: Final = (
    semconv.INPUT_MESSAGES, semconv.OUTPUT_MESSAGES, semconv.SYSTEM_INSTRUCTIONS,
    semconv.TOOL_DEFINITIONS,
)  # fmt: skip
# What each operation says about itself alone.
_OWN: Final = frozenset(
    {
        semconv.OPERATION,
        semconv.CALL_OUTCOME,
        semconv.ERROR_TYPE,
        semconv.USAGE_SOURCE,
        *_USAGE.values(),
        *_MESSAGES,
    }
)


class Merged:
    """What inner operations of ours hand over where the official package is not imported."""

    __slots__ = ("attributes", "capture_content", "content", "source", "tokens")

    def __init__(self) -> None:
        self.capture_content = False
        self.attributes: dict[str, Any] = {}
        self.content: dict[str, Any] = {}
        self.tokens: Usage | None = None
        self.source: str | None = None


def key_of(operation: str) -> str | None:
    """The context key of an operation; None for operations that never repeat each other."""
    if operation in semconv.INFERENCE:
        return _KEYS["inference"]
    if operation == semconv.EMBEDDINGS:
        return _KEYS["embedding"]
    return _KEYS.get(operation)


def place(key: str, *, capture: bool) -> Any:
    """The object that goes into the context, for inner operations to fill."""
    module = sys.modules.get(_MODULE)
    data: Any = None
    if module is not None:
        name = next(_TYPES[kind] for kind, known in _KEYS.items() if known == key)
        official = getattr(module, name, None)
        data = None if official is None else official()
    if data is None:
        data = Merged()
    data.capture_content = capture
    return data


def publish(data: Any, call: Call, attributes: Mapping[str, Any]) -> None:
    """Hand over what an inner call knows; the newest word wins."""
    tokens = _counts(call.tokens)
    if call.amount is not None:
        attributes = {
            **attributes,
            semconv.COST_AMOUNT: float(call.amount),
            semconv.COST_CURRENCY: call.currency,
            semconv.COST_SOURCE: "provider",
        }
    if isinstance(data, Merged):
        data.attributes.update((k, v) for k, v in attributes.items() if k not in _OWN)
        data.content.update(call.content)
        if tokens:
            data.tokens = replace(data.tokens or Usage(), **tokens)
            data.source = call.source
        return
    fields_of = getattr(data, "__dataclass_fields__", {})
    for key, value in attributes.items():
        name = _field(key)
        if name in fields_of and key not in _MESSAGES:
            setattr(data, name, value)
        elif key not in _OWN:
            data.attributes[key] = value


def enrich(call: Call, data: Any) -> dict[str, Any]:
    """Take what inner operations handed over, where the call does not know better.

    Whom they really asked is always better known by them: it decides about the price. The result
    holds the attributes for which a call has no field.
    """
    known, tokens, source, content = _handed(call, data)
    provider, model = known.pop(semconv.PROVIDER, None), known.pop(semconv.REQUEST_MODEL, None)
    call.provider, call.model = provider or call.provider, model or call.model
    answered, id_ = known.pop(semconv.RESPONSE_MODEL, None), known.pop(semconv.RESPONSE_ID, None)
    call.response_model, call.response_id = call.response_model or answered, call.response_id or id_
    name, version = known.pop(semconv.PROMPT_NAME, None), known.pop(semconv.PROMPT_VERSION, None)
    if call.prompt_name is None and name is not None:
        call.prompt_name, call.prompt_version = name, version
    reasons = known.pop(semconv.FINISH_REASONS, None)
    if call.finish is None and reasons:
        call.finish = tuple(reasons)
    amount, currency = known.pop(semconv.COST_AMOUNT, None), known.pop(semconv.COST_CURRENCY, "USD")
    if call.amount is None and known.pop(semconv.COST_SOURCE, None) == "provider":
        call.cost(amount, currency)
    own = _counts(call.tokens)
    said = (call.source if own else source) or "provider"
    call.counted({name: n for name, n in tokens.items() if name not in own}, source=said)
    if content:
        call.content = {**content, **call.content}
    return known


def _handed(
    call: Call, data: Any
) -> tuple[dict[str, Any], dict[str, int], str | None, dict[str, Any]]:
    """Attributes, token counts, their source and content, from our object or the official one."""
    known = dict(data.attributes)
    if isinstance(data, Merged):
        return known, _counts(data.tokens), data.source, data.content
    known.update(_present(data, {key: key for key in _PLAIN}))
    content = {}
    if call.take is not None:
        said = _present(data, {key: key for key in _MESSAGES})
        content = {key: call.take(key, value) for key, value in said.items() if value}
    return known, _present(data, _USAGE), None, content


def _present(data: Any, names: Mapping[str, str]) -> dict[str, Any]:
    given = ((name, getattr(data, _field(key), None)) for name, key in names.items())
    return {name: value for name, value in given if value is not None}


def _counts(usage: Usage | None) -> dict[str, int]:
    if usage is None:
        return {}
    given = ((field.name, getattr(usage, field.name)) for field in fields(Usage))
    return {name: value for name, value in given if value is not None}


def _field(key: str) -> str:
    return key.removeprefix(semconv.GENAI_PREFIX).replace(".", "_")
