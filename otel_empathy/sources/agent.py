"""Agents and what they are made of: `agent`, `tool`, `workflow` and `phase`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar, overload

from opentelemetry.context import Context

from otel_empathy.core.call import NO_CALL, Call
from otel_empathy.core.errors import WrongType, WrongValue
from otel_empathy.core.limits import Timeouts
from otel_empathy.core.run import NO_RUN, Policy, Run, policy_name
from otel_empathy.core.states import phase_name
from otel_empathy.emit import content
from otel_empathy.emit.runs import RunSpan, open_phase, open_run, open_workflow
from otel_empathy.emit.spans import Operation
from otel_empathy.emit.tools import ToolSpan, open_tool
from otel_empathy.sources.shape import description_of, name_of
from otel_empathy.sources.wrap import Block, Guard, Open, wrap

__all__ = ["agent", "phase", "tool", "workflow"]

F = TypeVar("F", bound=Callable[..., Any])
_NO_LIMITS: Final = Timeouts()
_NAME: Final = 256


@overload
def agent(fn: F, /) -> F: ...


@overload
def agent(
    *,
    name: str | None = None,
    timeouts: Timeouts | None = None,
    guard: Guard | None = None,
    phases: Policy = "strict",
) -> Block[Run]: ...


def agent(
    fn: Any = None,
    /,
    *,
    name: str | None = None,
    timeouts: Timeouts | None = None,
    guard: Guard | None = None,
    phases: Policy = "strict",
) -> Any:
    """Observe an agent: each call of the function is a run.

        @agent(name="planner", timeouts=Timeouts(run=60))
        def plan(wish: str) -> str: ...

    The run is running from the function's first statement to its end; `current_run()` is it. The
    first paragraph of the function's docstring describes the agent.

    Args:
        fn: The function, where the decorator is used without arguments.
        name: What the agent is called; the function's name by default.
        timeouts: What a run, and each decorated LLM call inside it, may take. A run over its limit
            raises TimeoutError; a coroutine is cancelled, a function goes on in a thread of its
            own and its result is dropped.
        guard: A decorator to put around the function, inside the span.
        phases: What happens when a phase does not follow the table: `strict` or `warn`.

    Raises:
        WrongType: An argument has the wrong type.
        WrongValue: The name is empty, or there is no such policy.
    """
    given = _name("agent", name)
    policy = policy_name(phases)
    if timeouts is not None and not isinstance(timeouts, Timeouts):
        raise WrongType(f"timeouts={timeouts!r} must be Timeouts(run=..., call=...)")
    limits = timeouts or _NO_LIMITS

    def define(plain: Callable[..., Any] | None) -> Open:
        title = given if plain is None else given or name_of(plain)
        about = None if plain is None else description_of(plain)

        def begin(context: Context, *_: Any) -> RunSpan | None:
            return open_run(title, context, timeouts=limits, policy=policy, description=about)

        return begin

    if fn is not None:
        return wrap(fn, define, by="agent")
    return Block(define, _run_of, by="agent", guard=guard, seconds=limits.run)


@overload
def workflow(fn: F, /) -> F: ...


@overload
def workflow(*, name: str | None = None) -> Block[None]: ...


def workflow(fn: Any = None, /, *, name: str | None = None) -> Any:
    """Observe a workflow; the calls inside it carry its name.

        @workflow(name="checkout")
        def check_out(cart: Cart) -> Receipt: ...

    Args:
        fn: The function, where the decorator is used without arguments.
        name: What the workflow is called; the function's name by default.

    Raises:
        WrongType: The name is no text, or what is decorated is no function.
        WrongValue: The name is empty.
    """
    given = _name("workflow", name)

    def define(plain: Callable[..., Any] | None) -> Open:
        title = given or ("workflow" if plain is None else name_of(plain))
        return lambda context, *_: open_workflow(title, context)

    if fn is not None:
        return wrap(fn, define, by="workflow")
    return Block(define, _nothing, by="workflow")


@overload
def tool(fn: F, /) -> F: ...


@overload
def tool(*, name: str | None = None) -> Block[Call]: ...


def tool(fn: Any = None, /, *, name: str | None = None) -> Any:
    """Observe a tool of an agent.

        @tool
        def weather(city: str) -> str: ...

    The first paragraph of its docstring describes it. Its arguments and its result are recorded
    only where content capture is on. Inside it `current_call()` is the execution of the tool:
    `current_call().request(tool_call_id=...)` says under which id a model asked for it.

    Args:
        fn: The function, where the decorator is used without arguments.
        name: What the tool is called; the function's name by default.

    Raises:
        WrongType: The name is no text, or what is decorated is no function.
        WrongValue: The name is empty.
    """
    given = _name("tool", name)

    def define(plain: Callable[..., Any] | None) -> Open:
        title = given or ("tool" if plain is None else name_of(plain))
        about = None if plain is None else description_of(plain)

        def begin(
            context: Context, args: tuple[Any, ...], kwargs: dict[str, Any]
        ) -> ToolSpan | None:
            if plain is None or not content.in_spans():
                return open_tool(title, context, description=about)
            arguments = _bound(plain, args, kwargs)
            return open_tool(title, context, description=about, arguments=arguments)

        return begin

    if fn is not None:
        return wrap(fn, define, by="tool")
    return Block(define, _tool_of, by="tool")


def phase(name: str, /, **attributes: Any) -> Block[None]:
    """Be in a phase of the run: for a block of code, or for each call of a function.

        with phase("thinking"):
            plan = think(question)

    Leaving a nested phase goes back to the one around it; after the outermost one the run stays in
    that phase until the next. Outside a run it is a plain span.

    Args:
        name: One of the named phases, or one of your own: lower case, digits and `_`.
        attributes: What else the span is to carry.

    Raises:
        WrongType: The name is no text.
        WrongValue: The name has another form.
    """
    title = phase_name(name)

    def define(_: Callable[..., Any] | None) -> Open:
        return lambda context, *_: open_phase(title, context, attributes)

    return Block(define, _nothing, by="phase")


def _run_of(operation: Operation | None) -> Run:
    return operation.run if isinstance(operation, RunSpan) else NO_RUN


def _tool_of(operation: Operation | None) -> Call:
    return operation.call if isinstance(operation, ToolSpan) else NO_CALL


def _nothing(_: Operation | None) -> None:
    """A block that there is nothing to say to."""


def _name(what: str, value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise WrongType(f"{what} name {value!r} is no text: give its name, or leave it out")
    if not value or len(value) > _NAME or not value.isprintable():
        raise WrongValue(f"{what} name {value!r} must be 1 to {_NAME} printable characters")
    return str(getattr(value, "value", value))


def _bound(
    fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Mapping[str, Any]:
    """Arguments by the names of the function's parameters, less the object of a method."""
    try:
        known = dict(inspect.signature(fn).bind(*args, **kwargs).arguments)
    except (TypeError, ValueError):  # they do not fit, which the call itself will tell
        return {"args": args, "kwargs": kwargs}
    if args and next(iter(known), None) in {"self", "cls"}:
        del known[next(iter(known))]
    return known
