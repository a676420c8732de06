"""`llm_call`: a function that asks a model becomes a call with a span, measurements and a price."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar, Union, overload

from otel_empathy.core import semconv
from otel_empathy.core.call import NO_CALL, Call, tier_name
from otel_empathy.core.errors import WrongType, WrongValue
from otel_empathy.emit.calls import CallSpan, CallSpec, open_call
from otel_empathy.emit.spans import Operation
from otel_empathy.sources.extract import Extract, reader
from otel_empathy.sources.wrap import Block, Guard, Open, wrap

__all__ = ["llm_call"]

F = TypeVar("F", bound=Callable[..., Any])
Prompt = Union[str, "tuple[str, str]", "tuple[str, str, str]"]
_PARTS: Final = 3


@overload
def llm_call(fn: F, /) -> F: ...


@overload
def llm_call(
    *,
    provider: str | None = None,
    model: str | None = None,
    operation: str = "chat",
    tier: str | None = None,
    stage: str | None = None,
    prompt: Prompt | None = None,
    extract: Extract | None = None,
    guard: Guard | None = None,
) -> Block[Call]: ...


def llm_call(
    fn: Any = None,
    /,
    *,
    provider: str | None = None,
    model: str | None = None,
    operation: str = "chat",
    tier: str | None = None,
    stage: str | None = None,
    prompt: Prompt | None = None,
    extract: Extract | None = None,
    guard: Guard | None = None,
) -> Any:
    """Observe a function that asks a model, each of its calls as one.

        @llm_call(provider="openai", model="gpt-4o", tier="capable")
        def ask(question: str) -> str: ...

    A generator, or a function that returns a stream, is one call until the stream ends. Retries
    belong inside. `current_call()` is the place to say what the reply does not say by itself.

    Args:
        fn: The function, where the decorator is used without arguments.
        provider: Who is asked.
        model: Which model is asked for.
        operation: What is asked, by the names of the conventions.
        tier: `cheap`, `capable` or `premium`.
        stage: Name of the stage inside a workflow.
        prompt: Name of the prompt, or its name and version, or name, version and format.
        extract: Reads tokens out of the result, or out of the list of chunks of a stream; gives a
            `Usage`, a mapping (its fields, `model`, `id`, `finish`, `cost`) or None. Without it,
            replies of the usual providers are recognised by their fields. It is not asked about a
            stream of 65,600 chunks or more, of which only a part is kept.
        guard: A decorator to put around the function, inside the span.

    Raises:
        WrongType: An argument has the wrong type.
        WrongValue: The tier or the operation is unknown.
    """
    spec = CallSpec(
        operation=_operation(operation),
        provider=_text("provider", provider),
        model=_text("model", model),
        tier=tier_name(tier),
        stage=_text("stage", stage),
        prompt=_prompt(prompt),
        read=reader(_extract(extract)),
        thorough=extract is not None,
    )

    def define(_: Callable[..., Any] | None) -> Open:
        return lambda context, *_: open_call(spec, context)

    if fn is not None:
        return wrap(fn, define, by="llm_call")
    return Block(define, _call_of, by="llm_call", guard=guard)


def _call_of(operation: Operation | None) -> Call:
    return operation.call if isinstance(operation, CallSpan) else NO_CALL


def _operation(value: Any) -> str:
    if not isinstance(value, str):
        raise WrongType(f"operation {value!r} is no text: use a name such as 'chat'")
    if value not in semconv.OPERATIONS:
        known = ", ".join(sorted(semconv.OPERATIONS))
        raise WrongValue(f"unknown operation {value!r}: use one of {known}")
    return value


def _text(name: str, value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise WrongType(f"{name}={value!r} is no text: give its name, or leave it out")
    if not value:
        raise WrongValue(f"{name} is empty: give its name, or leave it out")
    return str(getattr(value, "value", value))


def _prompt(value: Any) -> tuple[str | None, str | None, str | None]:
    parts = (value,) if value is None or isinstance(value, str) else value
    if not isinstance(parts, tuple) or not 0 < len(parts) <= _PARTS:
        raise WrongType(f"prompt={value!r} must be a name, or (name, version), or with the format")
    name, version, form = (*(_text("prompt", part) for part in parts), None, None)[:_PARTS]
    return name, version, form


def _extract(value: Any) -> Extract | None:
    if value is not None and not callable(value):
        raise WrongType(f"extract={value!r} cannot be called: give a function of the result")
    plain: Extract | None = value
    return plain
