"""Traces: the newest ones as a list, and one of them as a tree with times, tokens and money.

Totals of a trace are sums over its calls, so that an agent's span adds nothing twice. How a tree is
drawn is the business of who shows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, Literal

from otel_empathy.core import semconv
from otel_empathy.core.errors import WrongType, WrongValue
from otel_empathy.store import records, wire
from otel_empathy.store.calls import FAILED, OPERATIONS, Seen
from otel_empathy.store.reader import Progress, Reader
from otel_empathy.store.records import Span
from otel_empathy.store.window import Window, rfc3339

__all__ = ["AmbiguousTrace", "Filter", "Node", "Trace", "TraceSummary", "find", "newest"]

_MOST_TRACES: Final = 50_000
_MOST_NAMES: Final = 20
_SHOWN: Final = 5
_ID: Final = 32
_HEX: Final = frozenset("0123456789abcdef")
_ZERO: Final = Decimal(0)
_SIXTH: Final = Decimal("1e-6")
_KEYS: Final = frozenset(
    {
        semconv.OPERATION, semconv.REQUEST_MODEL, semconv.RESPONSE_MODEL, semconv.AGENT_NAME,
        semconv.RUN_ID, semconv.USAGE_INPUT, semconv.USAGE_OUTPUT, semconv.COST_AMOUNT,
        semconv.OLD_USAGE_INPUT, semconv.OLD_USAGE_OUTPUT,
        semconv.GENAI_COST_AMOUNT, semconv.CALL_CACHE_HIT,
    }
)  # fmt: skip


class AmbiguousTrace(WrongValue):
    """The beginning of an id fits more than one trace; `candidates` are some of them."""

    def __init__(self, prefix: str, candidates: list[str]) -> None:
        named = ", ".join(candidates[:_SHOWN])
        more = ", …" if len(candidates) > _SHOWN else ""
        super().__init__(
            f"trace {prefix!r} is the beginning of several: {named}{more}; give more of it"
        )
        self.candidates = candidates


@dataclass(frozen=True, slots=True)
class Filter:
    """What a trace must have to be listed; None asks for nothing.

    Args:
        service: One of its spans was sent by this service.
        model: One of its calls asked for, or was answered by, this model.
        agent: One of its spans names this agent.
        run: One of its spans belongs to this run.
        status: `error` when one of its spans failed, else `ok`.
        text: Stands in a name or a text attribute of a span, in any case of letters.
        min_duration: Seconds from its first to its last moment.
        min_cost: Money.
    """

    service: str | None = None
    model: str | None = None
    agent: str | None = None
    run: str | None = None
    status: Literal["ok", "error"] | None = None
    text: str | None = None
    min_duration: float | None = None
    min_cost: float | None = None


@dataclass(frozen=True, slots=True)
class TraceSummary:
    """One trace in a list.

    Args:
        name: The name of its root, or of its first span when the root is not there.
        duration: Seconds from its first to its last moment; None when no span has a length.
        status: `error` when one of its spans failed.
        cost: Sum over the calls whose cost is known; None when there is none.
    """

    trace_id: str
    name: str
    service: str | None
    start: int
    duration: float | None
    spans: int
    errors: int
    calls: int
    tokens_input: int
    tokens_output: int
    cost: Decimal | None
    unpriced_calls: int
    models: tuple[str, ...]
    agents: tuple[str, ...]
    runs: tuple[str, ...]
    services: tuple[str, ...]
    status: Literal["ok", "error"]

    def as_dict(self) -> dict[str, Any]:
        """The summary as JSON, money with six places."""
        return {
            "trace_id": self.trace_id,
            "name": self.name,
            "service": self.service,
            "start": rfc3339(self.start),
            "duration": self.duration,
            "spans": self.spans,
            "errors": self.errors,
            "calls": self.calls,
            "tokens_input": self.tokens_input,
            "tokens_output": self.tokens_output,
            "cost": _money(self.cost),
            "unpriced_calls": self.unpriced_calls,
            "models": list(self.models),
            "agents": list(self.agents),
            "runs": list(self.runs),
            "services": list(self.services),
            "status": self.status,
        }


def newest(
    reader: Reader,
    window: Window,
    *,
    limit: int = 50,
    wanted: Filter | None = None,
    progress: Progress | None = None,
) -> list[TraceSummary]:
    """The newest traces that pass a filter, newest first.

    A trace belongs to the window by its spans. The 50,000 newest traces are looked at; older ones
    are forgotten while reading, so that memory stays bounded.

    Raises:
        WrongValue: `limit` is negative, or the status is none.
    """
    wanted = wanted or Filter()
    if limit < 0:
        raise WrongValue(f"limit={limit}: give a number of traces from 0 on")
    if wanted.status not in {None, "ok", "error"}:
        raise WrongValue(f"status={wanted.status!r}: choose ok or error, or None")
    text = None if wanted.text is None else wanted.text.casefold()
    scan = reader.scan("traces", after=window.after, progress=progress)
    seen = Seen() if scan.may_repeat else None
    found: dict[str, _Sums] = {}
    forgotten = -1
    for line in wire.decoded(scan, scan, wire.decoder(wire.TracesLine)):
        for span, service in _spans(line):
            start, trace_id = span.start or 0, span.trace_id
            if not trace_id or start not in window:
                continue
            if seen is not None and seen.before(trace_id, span.span_id):
                continue
            sums = found.get(trace_id)
            if sums is None:
                if start <= forgotten:
                    continue
                sums = found[trace_id] = _Sums(start)
            sums.add(span, service, text)
        if len(found) > _MOST_TRACES:
            forgotten = _forget(found)
    listed = [(trace_id, sums) for trace_id, sums in found.items() if sums.passes(wanted)]
    listed.sort(key=lambda one: (-one[1].start, one[0]))
    return [sums.summary(trace_id) for trace_id, sums in listed[:limit]]


def _spans(line: wire.TracesLine) -> Iterator[tuple[wire.Span, str | None]]:
    for sender in line.spans if isinstance(line.spans, list) else ():
        service = None
        for one in (sender.resource.attributes if sender.resource else None) or ():
            if one.key == semconv.SERVICE_NAME and one.value is not None:
                service = one.value.text
        for scope in sender.scopes or ():
            for span in scope.records or ():
                yield span, service


def _forget(found: dict[str, _Sums]) -> int:
    """Forget the older half of the traces; the start of the newest forgotten one."""
    starts = sorted(sums.start for sums in found.values())
    middle = starts[len(starts) // 2]
    for trace_id in [key for key, sums in found.items() if sums.start <= middle]:
        del found[trace_id]
    return middle


class _Sums:
    """What the spans of one trace add up to while they are read."""

    __slots__ = (
        "agents", "calls", "cost", "end", "errors", "input", "matches", "models", "name", "output",
        "priced", "root", "runs", "service", "services", "spans", "start",
    )  # fmt: skip

    def __init__(self, start: int) -> None:
        self.start, self.end = start, -1  # no end is known
        self.root: tuple[bool, int] | None = None
        self.name = ""
        self.service: str | None = None
        self.spans = self.errors = self.calls = self.priced = self.input = self.output = 0
        self.cost = _ZERO
        self.matches = False
        # Ordered, and bounded like everything that a trace may hold thousands of.
        self.models: dict[str, None] = {}
        self.agents: dict[str, None] = {}
        self.runs: dict[str, None] = {}
        self.services: dict[str, None] = {}

    def add(self, span: wire.Span, service: str | None, text: str | None) -> None:
        start = span.start or 0
        self.spans += 1
        self.start = min(self.start, start)
        if (end := span.end or 0) >= start:
            self.end = max(self.end, end)
        self.errors += span.status is not None and span.status.code in FAILED
        rank = (bool(span.parent_id), start)
        if self.root is None or rank < self.root:
            self.root, self.name, self.service = rank, span.name or "", service
        _note(self.services, service)
        values = {
            one.key: one.value
            for one in span.attributes or ()
            if one.key in _KEYS and one.value is not None
        }
        _note(self.agents, _text(values, semconv.AGENT_NAME))
        _note(self.runs, _text(values, semconv.RUN_ID))
        if _text(values, semconv.OPERATION) in OPERATIONS:
            self._add_call({key: wire.python(value) for key, value in values.items()})
        if text is not None and not self.matches:
            self.matches = _stands_in(text, span)

    def _add_call(self, values: dict[str, Any]) -> None:
        numbers = _Numbers.of(values)
        self.calls += 1
        self.input += numbers.input or 0
        self.output += numbers.output or 0
        if numbers.cost is not None:
            self.priced += 1
            self.cost += numbers.cost
        for key in (semconv.REQUEST_MODEL, semconv.RESPONSE_MODEL):
            name = values.get(key)
            _note(self.models, name if isinstance(name, str) else None)

    def passes(self, wanted: Filter) -> bool:
        return (
            (wanted.service is None or wanted.service in self.services)
            and (wanted.model is None or wanted.model in self.models)
            and (wanted.agent is None or wanted.agent in self.agents)
            and (wanted.run is None or wanted.run in self.runs)
            and (wanted.status is None or wanted.status == self.status)
            and (wanted.text is None or self.matches)
            and (wanted.min_duration is None or self.end - self.start >= wanted.min_duration * 1e9)
            and (wanted.min_cost is None or float(self.cost) >= wanted.min_cost)
        )

    @property
    def status(self) -> Literal["ok", "error"]:
        return "error" if self.errors else "ok"

    def summary(self, trace_id: str) -> TraceSummary:
        return TraceSummary(
            trace_id=trace_id.lower(),
            name=self.name,
            service=self.service,
            start=self.start,
            duration=(self.end - self.start) / 1e9 if self.end >= self.start else None,
            spans=self.spans,
            errors=self.errors,
            calls=self.calls,
            tokens_input=self.input,
            tokens_output=self.output,
            cost=self.cost if self.priced else None,
            unpriced_calls=self.calls - self.priced,
            models=tuple(self.models),
            agents=tuple(self.agents),
            runs=tuple(self.runs),
            services=tuple(self.services),
            status=self.status,
        )


@dataclass(frozen=True, slots=True)
class _Numbers:
    """Tokens and money of a call, from its attributes; None where unknown."""

    input: int | None = None
    output: int | None = None
    cost: Decimal | None = None

    @classmethod
    def of(cls, attributes: dict[str, Any]) -> _Numbers:
        used = records.used(attributes)
        return cls(input=used[0], output=used[1], cost=records.cost(attributes))


@dataclass(slots=True)
class Node:
    """One span in the tree of its trace; `cost` and tokens are those of a call.

    Args:
        orphan: It names a parent that is not in the log, and so stands among the roots.
    """

    span: Span
    orphan: bool = False
    is_call: bool = False
    tokens_input: int | None = None
    tokens_output: int | None = None
    cost: Decimal | None = None
    children: list[Node] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """The span as JSON, without its children."""
        return {
            **self.span.as_dict(),
            "orphan": self.orphan,
            "tokens_input": self.tokens_input,
            "tokens_output": self.tokens_output,
            "cost": _money(self.cost),
        }


@dataclass(frozen=True, slots=True)
class Trace:
    """One trace as a tree: spans without a parent in the log are its roots.

    Args:
        roots: In order of their start, and so are the children of every node.
        cost: Sum over the calls whose cost is known; None when there is none.
    """

    trace_id: str
    roots: tuple[Node, ...]
    spans: int
    start: int
    duration: float | None
    errors: int
    calls: int
    tokens_input: int
    tokens_output: int
    cost: Decimal | None
    unpriced_calls: int

    def walk(self) -> Iterator[tuple[int, Node]]:
        """Every node with its depth, parents before their children."""
        waiting = [(0, node) for node in reversed(self.roots)]
        while waiting:
            depth, node = waiting.pop()
            yield depth, node
            waiting.extend((depth + 1, child) for child in reversed(node.children))

    def as_dict(self) -> dict[str, Any]:
        """The trace as JSON; its spans as a list with depths, parents before their children."""
        return {
            "trace_id": self.trace_id,
            "start": rfc3339(self.start),
            "duration": self.duration,
            "errors": self.errors,
            "calls": self.calls,
            "tokens_input": self.tokens_input,
            "tokens_output": self.tokens_output,
            "cost": _money(self.cost),
            "unpriced_calls": self.unpriced_calls,
            "spans": [{"depth": depth, **node.as_dict()} for depth, node in self.walk()],
        }


def find(reader: Reader, id_prefix: str, *, progress: Progress | None = None) -> Trace | None:
    """The trace whose id begins so; None when there is none.

    Raises:
        WrongType: The beginning is no text.
        WrongValue: It is empty.
        AmbiguousTrace: It fits several traces.
    """
    if not isinstance(id_prefix, str):
        raise WrongType(f"trace {id_prefix!r}: give an id, or the beginning of one, as text")
    prefix = id_prefix.strip().lower()
    if not prefix:
        raise WrongValue("trace '': give an id, or the beginning of one")
    if len(prefix) > _ID or not set(prefix) <= _HEX:
        return None
    scan = reader.scan("traces", progress=progress)
    either = (prefix.encode(), prefix.upper().encode())
    lines = (line for line in scan if either[0] in line or either[1] in line)
    spans: list[Span] = []
    ids: dict[str, None] = {}
    for span in records.spans(scan, lines):
        if not span.trace_id.startswith(prefix):
            continue
        if len(ids) < _MOST_NAMES:
            ids[span.trace_id] = None
        if len(ids) == 1:
            spans.append(span)
    if len(ids) > 1:
        raise AmbiguousTrace(prefix, sorted(ids))
    return tree(spans) if spans else None


def tree(spans: Iterable[Span]) -> Trace:
    """The tree of the spans of one trace, of which there is at least one."""
    nodes: dict[str, Node] = {}
    for span in spans:
        # A span that was sent twice stands once; one without an id stands for itself.
        nodes.setdefault(span.span_id or f"#{len(nodes)}", _node(span))
    ordered = sorted(nodes.values(), key=lambda node: node.span.start)
    roots = []
    for node in ordered:
        parent = nodes.get(node.span.parent_id) if node.span.parent_id else None
        if parent is None:
            node.orphan = node.span.parent_id is not None
            roots.append(node)
        else:
            parent.children.append(node)
    _cut_circles(ordered, roots)
    start = ordered[0].span.start
    ends = [
        node.span.start + round(node.span.duration * 1e9)
        for node in ordered
        if node.span.duration is not None
    ]
    priced = [node.cost for node in ordered if node.cost is not None]
    calls = sum(node.is_call for node in ordered)
    return Trace(
        trace_id=ordered[0].span.trace_id,
        roots=tuple(sorted(roots, key=lambda node: node.span.start)),
        spans=len(ordered),
        start=start,
        duration=(max(ends) - start) / 1e9 if ends else None,
        errors=sum(node.span.failed for node in ordered),
        calls=calls,
        tokens_input=sum(node.tokens_input or 0 for node in ordered),
        tokens_output=sum(node.tokens_output or 0 for node in ordered),
        cost=sum(priced, _ZERO) if priced else None,
        unpriced_calls=calls - len(priced),
    )


def _cut_circles(ordered: list[Node], roots: list[Node]) -> None:
    """Make a root of the first span of each circle, so that no span is missing from the tree."""
    reached: set[int] = set()
    _reach(roots, reached)
    for node in ordered:
        if id(node) not in reached:
            for other in ordered:
                if node in other.children:
                    other.children.remove(node)
            node.orphan = True
            roots.append(node)
            _reach([node], reached)


def _reach(roots: list[Node], reached: set[int]) -> None:
    waiting = list(roots)
    while waiting:
        node = waiting.pop()
        reached.add(id(node))
        waiting.extend(node.children)


def _node(span: Span) -> Node:
    if span.attributes.get(semconv.OPERATION) not in OPERATIONS:
        return Node(span)
    numbers = _Numbers.of(span.attributes)
    return Node(
        span,
        is_call=True,
        tokens_input=numbers.input,
        tokens_output=numbers.output,
        cost=numbers.cost,
    )


def _note(names: dict[str, None], name: str | None) -> None:
    if name is not None and len(names) < _MOST_NAMES:
        names[name] = None


def _text(values: dict[str, wire.AnyValue], key: str) -> str | None:
    value = values.get(key)
    return None if value is None else value.text


def _stands_in(text: str, span: wire.Span) -> bool:
    if text in (span.name or "").casefold():
        return True
    return any(
        one.value is not None and one.value.text is not None and text in one.value.text.casefold()
        for one in span.attributes or ()
    )


def _money(cost: Decimal | None) -> float | None:
    return None if cost is None else float(cost.quantize(_SIXTH))
