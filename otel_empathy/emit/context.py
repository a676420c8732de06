"""What code inherits from the code around it: the run, the call, the session, the user, names.

It travels in the OpenTelemetry context, so it follows tasks by itself, threads through `carry`, and
other hosts as baggage if the settings say so. Nothing here opens a span.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import re
from collections.abc import Callable, Mapping
from contextvars import Token
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast

from opentelemetry import baggage
from opentelemetry import context as context_api
from opentelemetry.context import Context, attach, detach, get_current
from opentelemetry.trace import INVALID_SPAN, set_span_in_context

from otel_empathy.core import semconv
from otel_empathy.core.call import NO_CALL, Call, tier_name
from otel_empathy.core.errors import WrongType
from otel_empathy.core.run import NO_RUN, Run
from otel_empathy.core.said import shown
from otel_empathy.emit.collector import collecting
from otel_empathy.emit.live import live
from otel_empathy.emit.safety import count, guarded

if TYPE_CHECKING:
    from otel_empathy.emit.runs import PhaseMark

__all__ = [
    "CALL_KEY",
    "SCOPE_KEY",
    "SPAN_KEY",
    "Entries",
    "Scope",
    "carry",
    "current_call",
    "current_run",
    "enter",
    "entered",
    "inherited",
    "leave",
    "restore",
    "scope_of",
    "suppressed",
    "using",
]

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

SCOPE_KEY: Final = context_api.create_key("otel_empathy.scope")
CALL_KEY: Final = context_api.create_key("otel_empathy.call")
# The API names these keys only inside itself. Asking it where it puts a value keeps us to its
# public functions, and lets one copy of the context take several values at once.
SPAN_KEY: Final = next(iter(set_span_in_context(INVALID_SPAN, Context())))
_BAGGAGE_KEY: Final = next(iter(baggage.set_baggage("key", "value", Context())))
_SUPPRESS_KEY: Final[str] = getattr(
    context_api, "_SUPPRESS_INSTRUMENTATION_KEY", "suppress_instrumentation"
)
_SUPPRESS_PLAIN: Final = "suppress_instrumentation"
_INBOUND: Final = re.compile(r"[A-Za-z0-9._:/-]{1,128}")


class Scope:
    """What is inherited, as one unchangeable value of the context."""

    __slots__ = (
        "agent", "attributes", "conversation", "phase", "run", "session", "stage", "tier",
        "user_hash", "workflow",
    )  # fmt: skip

    def __init__(
        self,
        *,
        run: Run | None = None,
        phase: PhaseMark | None = None,
        agent: str | None = None,
        workflow: str | None = None,
        stage: str | None = None,
        tier: str | None = None,
        user_hash: str | None = None,
        session: str | None = None,
        conversation: str | None = None,
    ) -> None:
        self.run = run
        self.phase = phase
        self.agent = agent
        self.workflow = workflow
        self.stage = stage
        self.tier = tier
        self.user_hash = user_hash
        self.session = session
        self.conversation = conversation
        self.attributes: dict[str, str] = {
            key: value
            for key, value in (
                (semconv.AGENT_NAME, agent),
                (semconv.RUN_ID, None if run is None else run.id),
                (semconv.WORKFLOW_NAME, workflow),
                (semconv.SESSION_ID, session),
                (semconv.USER_HASH, user_hash),
                (semconv.CONVERSATION_ID, conversation),
            )
            if value is not None
        }

    def with_(self, **changes: Any) -> Scope:
        """The same with some values changed."""
        known = {name: getattr(self, name) for name in self.__slots__ if name != "attributes"}
        known.update(changes)
        return Scope(**known)


_NOBODY: Final = Scope()
_outermost = _NOBODY


def scope_of(context: Context) -> Scope:
    """What code in this context inherits; at the outside, the user of the process if it has one."""
    global _outermost  # noqa: PLW0603 - the last one made, there is one user per process
    scope = context.get(SCOPE_KEY)
    if scope is not None:
        return cast("Scope", scope)
    outermost = _outermost
    if outermost.user_hash != live.user_hash:
        outermost = _outermost = Scope(user_hash=live.user_hash) if live.user_hash else _NOBODY
    return outermost


def inherited(context: Context | None = None) -> Mapping[str, Any]:
    """The span attributes that everything in a context carries.

    The hook at the start of every span asks for them. Baggage from outside fills what this process
    does not say itself: only known keys, and only harmless values.
    """
    where = get_current() if context is None else context
    own = scope_of(where).attributes
    carried = where.get(_BAGGAGE_KEY)
    if not carried:
        return own
    known = dict(own)
    for key in semconv.BAGGAGE:
        value = baggage.get_baggage(key, where)
        if key not in known and isinstance(value, str) and _INBOUND.fullmatch(value):
            known[key] = value
    return known


def suppressed(context: Context) -> bool:
    """Whether somebody asked for silence in this context."""
    return bool(context.get(_SUPPRESS_KEY) or context.get(_SUPPRESS_PLAIN))


def entered(context: Context, scope: Scope, **values: Any) -> Context:
    """The context of code inside a scope, with further values; baggage too where it travels."""
    inside = Context({**context, SCOPE_KEY: scope, **values})
    if live.propagate:
        for key in semconv.BAGGAGE:
            value = scope.attributes.get(key)
            if value is not None:
                inside = baggage.set_baggage(key, value, inside)
    return inside


def enter(context: Context) -> Token[Context] | None:
    """Make a context the current one; give what comes back to `leave`.

    The garbage collector may call observed code: that has to do without a context of its own.
    """
    return None if collecting() else attach(context)


def leave(token: Token[Context] | None) -> None:
    """Go back to the context that was there before `enter`."""
    if token is not None:
        detach(token)


def restore(attached: Context, previous: Context) -> None:
    """Leave a context that this code attached, if it still is the current one.

    For code that may be ended by somebody else (a task that is dropped, a generator that is closed
    elsewhere), where a token is of no use: it belongs to another flow of control.
    """
    if get_current() is attached:
        enter(previous)


class _Entry(Generic[T]):
    """One `with` block that was begun; `outer` is the one around it of the same object."""

    __slots__ = ("inside", "outer", "previous", "what")

    inside: Context | None  # None once its own flow of control has left it

    def __init__(self, what: T | None, previous: Context, outer: _Entry[T] | None) -> None:
        self.what = what
        self.previous = previous
        self.outer = outer


class Entries(Generic[T]):
    """What one object has entered by `with`, in any number of tasks and threads at once.

    Each flow of control finds its own by its context, which it takes along whatever else is
    attached on the way. An end that comes with another context (a generator that somebody else
    closes, a pair of calls in two threads) is that of the last one entered from where it comes,
    else of the last one of all. Each step on `open` is atomic, so threads may share it.
    """

    __slots__ = ("_key", "open")

    _numbers: Final = itertools.count()

    def __init__(self) -> None:
        self._key = f"otel_empathy.entry-{next(self._numbers)}"
        self.open: dict[_Entry[T], None] = {}

    def enter(self, inside: Context, previous: Context, what: T | None) -> None:
        """Make a context the current one; `what` comes back at the end."""
        entry = _Entry(what, previous, self._begun(previous))
        entry.inside = Context({**inside, self._key: entry})
        enter(entry.inside)
        self.open[entry] = None

    def leave(self, end: Callable[[T], None] | None = None) -> None:
        """Leave what the present flow of control entered last, after `end` has ended it."""
        here = get_current()
        mine = entry = self._begun(here)
        interrupting = collecting()  # the context is that of whoever was interrupted
        if entry is None or entry not in self.open or interrupting:
            others = [one for one in list(self.open) if one is not mine]
            near = [one for one in others if one.previous is here]
            found = near or others
            entry = found[-1] if found else mine
        if entry is None:
            return
        self.open.pop(entry, None)
        what, entry.what = entry.what, None
        try:
            if what is not None and end is not None:
                end(what)
        finally:
            if mine is not None and not (interrupting and entry is not mine):
                inside, mine.inside = mine.inside, None  # the context holds the entry: no circle
                if inside is not None:
                    restore(inside, mine.previous)

    def _begun(self, context: Context) -> _Entry[T] | None:
        entry = cast("_Entry[T] | None", context.get(self._key))
        while entry is not None and entry.inside is None:
            entry = entry.outer
        return entry


def current_call() -> Call:
    """The call that is under way; outside of one, a call on which nothing has an effect."""
    if not live.on:
        return NO_CALL
    call = get_current().get(CALL_KEY)
    return NO_CALL if call is None else cast("Call", call)


def current_run() -> Run:
    """The run that is under way; outside of one, a run on which nothing has an effect."""
    if not live.on:
        return NO_RUN
    scope = get_current().get(SCOPE_KEY)
    run = None if scope is None else cast("Scope", scope).run
    return NO_RUN if run is None else run


class using:  # noqa: N801 - reads as `with using(...)`
    """Say on whose behalf the code inside works; sync and async.

        with using(user="ada@example.com", session="s-1", workflow="checkout"):
            answer(question)

    Args:
        user: Who; only a keyed hash of it leaves the process.
        session: Id of the session.
        conversation: Id of the conversation, a real one.
        workflow: Name of the workflow.
        stage: Name of the stage inside the workflow.
        tier: `cheap`, `capable` or `premium`.

    Raises:
        WrongValue: There is no such tier.
    """

    __slots__ = ("_changes", "_entries", "_user")

    def __init__(
        self,
        *,
        user: str | None = None,
        session: str | None = None,
        conversation: str | None = None,
        workflow: str | None = None,
        stage: str | None = None,
        tier: str | None = None,
    ) -> None:
        given = {
            "session": session,
            "conversation": conversation,
            "workflow": workflow,
            "stage": stage,
            "tier": tier_name(tier),
            "user": user,
        }
        known = {name: shown(value) for name, value in given.items() if value is not None}
        for name, text in known.items():
            if text is None:
                count("extract", f"using.{name}")
        self._changes = {name: text for name, text in known.items() if text is not None}
        self._user = self._changes.pop("user", None)
        self._entries: Entries[None] = Entries()

    def __enter__(self) -> None:
        """Begin."""
        if live.on or self._entries.open:
            previous = get_current()
            self._entries.enter(self._inside(previous) or previous, previous, None)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """End."""
        if live.on or self._entries.open:
            self._entries.leave()

    async def __aenter__(self) -> None:
        """Begin."""
        self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """End."""
        self.__exit__(kind, error, tb)

    @guarded("wrap")
    def _inside(self, previous: Context) -> Context | None:
        if not live.on:
            return None
        changes: dict[str, Any] = dict(self._changes)
        if self._user is not None and live.hash_user is not None:
            changes["user_hash"] = live.hash_user(self._user)
        return entered(previous, scope_of(previous).with_(**changes))


def carry(fn: F) -> F:
    """Take the context of this line along into a thread, a pool or a task.

        pool.map(carry(work), items)

    Raises:
        WrongType: What is given cannot be called.
    """
    if not callable(fn):
        raise WrongType(f"carry cannot take {fn!r} along: give it a function")
    if not live.on:
        return fn
    context = get_current()

    if inspect.iscoroutinefunction(fn):

        @functools.wraps(fn)
        async def carried_coroutine(*args: Any, **kwargs: Any) -> Any:
            previous = get_current()
            token = enter(context)
            try:
                result = await fn(*args, **kwargs)
            except GeneratorExit:  # dropped by somebody, perhaps in another flow of control
                restore(context, previous)
                raise
            except BaseException:
                leave(token)
                raise
            leave(token)
            return result

        return cast("F", carried_coroutine)

    def carried(*args: Any, **kwargs: Any) -> Any:
        token = enter(context)
        try:
            return fn(*args, **kwargs)
        finally:
            leave(token)

    return cast("F", functools.update_wrapper(carried, fn))
