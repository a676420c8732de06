"""Calls: the spans of inferences and embeddings, as flat typed records.

Nine in ten readers ask about calls only, so this decoder is the fast one. It gives each attribute
key a struct type of its own and lets the JSON parser do the sorting: keys that nobody asked for
become empty structs, their values are never made. Types of keys that were not met before are made
when they are met. Every line of a segment begins with the same resource, which is read once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from operator import itemgetter
from types import GenericAlias
from typing import Any, Final, Union

import msgspec
from msgspec import Struct, field

from otel_empathy.core import semconv
from otel_empathy.core.usage import Usage
from otel_empathy.store import wire
from otel_empathy.store.reader import Progress, Reader
from otel_empathy.store.window import Window, rfc3339

__all__ = [
    "FAILED", "MOST_MONEY", "OPERATIONS", "Call", "Decoder", "Seen", "amount", "calls", "whole",
]  # fmt: skip

OPERATIONS: Final = semconv.INFERENCE | {semconv.EMBEDDINGS}

FAILED: Final = frozenset({2, "2", "STATUS_CODE_ERROR"})
_MOST_KEYS: Final = 1_000
_MOST_HEADS: Final = 4
_MOST_ORDERS: Final = 4_096
MOST_MONEY: Final = 1e9  # more than this, or NaN, is no cost
_SIXTH: Final = Decimal("1e-6")
_LEAF: Final = b'"spans":'
_END: Final = b"]}]}]}\n"
_AFTER: Final = _END[1:]
_NONE: Final = wire.AnyValue()


class _Value(Struct, frozen=True, gc=False):
    """The values that attributes of calls have; lists and maps are left alone."""

    text: str | None = field(default=None, name="stringValue")
    flag: bool | None = field(default=None, name="boolValue")
    whole: wire.Whole | None = field(default=None, name="intValue")
    number: float | None = field(default=None, name="doubleValue")


class _Timed(Struct, frozen=True, gc=False):
    start: wire.Time = field(default=0, name="startTimeUnixNano")
    end: wire.Time = field(default=0, name="endTimeUnixNano")
    status: wire.Status | None = None


class _Identified(_Timed, frozen=True, gc=False):
    trace_id: str | None = field(default=None, name="traceId")
    span_id: str | None = field(default=None, name="spanId")


def _wanted(key: str) -> Any:
    return msgspec.defstruct(
        "Wanted", [("value", _Value, _Value())], tag_field="key", tag=key, frozen=True, gc=False
    )


# One type per key, by which a span's attributes are looked up.
Operation: Final = _wanted(semconv.OPERATION)
Provider: Final = _wanted(semconv.PROVIDER)
RequestModel: Final = _wanted(semconv.REQUEST_MODEL)
ResponseModel: Final = _wanted(semconv.RESPONSE_MODEL)
OldProvider: Final = _wanted(semconv.OLD_PROVIDER)
OldInput: Final = _wanted(semconv.OLD_USAGE_INPUT)
OldOutput: Final = _wanted(semconv.OLD_USAGE_OUTPUT)
Workflow: Final = _wanted(semconv.WORKFLOW_NAME)
Tier: Final = _wanted(semconv.CALL_TIER)
Stage: Final = _wanted(semconv.CALL_STAGE)
Input: Final = _wanted(semconv.USAGE_INPUT)
Output: Final = _wanted(semconv.USAGE_OUTPUT)
CacheRead: Final = _wanted(semconv.USAGE_CACHE_READ)
CacheWrite: Final = _wanted(semconv.USAGE_CACHE_WRITE)
CacheCreation: Final = _wanted(semconv.USAGE_CACHE_CREATION)
Reasoning: Final = _wanted(semconv.USAGE_REASONING)
Amount: Final = _wanted(semconv.COST_AMOUNT)
Currency: Final = _wanted(semconv.COST_CURRENCY)
GenaiAmount: Final = _wanted(semconv.GENAI_COST_AMOUNT)
GenaiCurrency: Final = _wanted(semconv.GENAI_COST_CURRENCY)
CostReason: Final = _wanted(semconv.COST_REASON)
CacheHit: Final = _wanted(semconv.CALL_CACHE_HIT)
CacheType: Final = _wanted(semconv.CALL_CACHE_TYPE)
User: Final = _wanted(semconv.USER_HASH)
Session: Final = _wanted(semconv.SESSION_ID)
Run: Final = _wanted(semconv.RUN_ID)
Agent: Final = _wanted(semconv.AGENT_NAME)
Retries: Final = _wanted(semconv.CALL_RETRIES)
Outcome: Final = _wanted(semconv.CALL_OUTCOME)
ErrorType: Final = _wanted(semconv.ERROR_TYPE)

_ABSENT: Final = _wanted("")()
_ALL: Final = (
    Operation, Provider, RequestModel, ResponseModel, Workflow, Stage, Tier, Input, Output,
    CacheRead, CacheWrite, CacheCreation, Reasoning, Amount, Currency, GenaiAmount, GenaiCurrency,
    CostReason, CacheHit, CacheType, User, Session, Run, Agent, Retries, Outcome, ErrorType,
    OldProvider, OldInput, OldOutput,
)  # fmt: skip


def _unwanted(key: str) -> Any:
    return msgspec.defstruct("Other", [], tag_field="key", tag=key, frozen=True, gc=False)


def _key(kind: Any) -> str:
    return str(kind.__struct_config__.tag)


def _list_of(kind: Any) -> Any:
    return GenericAlias(list, (kind,))


class Decoder:
    """Decodes lines into spans whose attributes carry the wanted types.

    Calling it gives (service, spans) for each resource of the line; it raises one of
    `wire.FAULTS` at a line that is no OTLP-JSON.

    Args:
        wanted: The types of the attributes that are asked for.
        ids: Whether the spans need their trace and span ids and their service.
    """

    _others: dict[str, Any] = {}  # noqa: RUF012 - types live as long as the process; so do these

    def __init__(self, wanted: Sequence[Any], *, ids: bool) -> None:
        self._wanted = {_key(kind): kind for kind in wanted}
        self._order = tuple(wanted)
        self._pickers: dict[tuple[Any, ...], Callable[[list[Any]], tuple[Any, ...]]] = {}
        self._ids = ids
        self._generic = wire.decoder(wire.TracesLine)
        self._heads: list[tuple[bytes, str | None]] = []
        self._build()

    def _build(self) -> None:
        kinds = {**self._others, **self._wanted}
        self._known = len(self._others)
        parts = tuple(kinds.values())
        attribute: Any = Union.__getitem__(parts)  # the parts are not known before
        self._span: Any = msgspec.defstruct(
            "CallSpan",
            [("attributes", _list_of(attribute), field(default_factory=list))],
            bases=(_Identified if self._ids else _Timed,),
            frozen=True,
            gc=False,
        )
        spans = _list_of(self._span)
        scope = msgspec.defstruct(
            "CallScope", [("spans", spans, field(default_factory=list))], gc=False
        )
        scopes: Any = ("scopes", _list_of(scope), field(default_factory=list, name="scopeSpans"))
        sender: list[Any] = [("resource", wire.Resource | None, None)] if self._ids else []
        resource = msgspec.defstruct("CallResource", [scopes, *sender], gc=False)
        resources = ("resources", _list_of(resource), field(name="resourceSpans"))
        self._line: Callable[[bytes], Any] = wire.decoder(
            msgspec.defstruct("CallLine", [resources], gc=False)
        )
        self._spans = wire.decoder(spans)

    def __call__(self, line: bytes) -> list[tuple[str | None, list[Any]]]:
        """The spans of a line, by resource."""
        for head, service in self._heads:
            if line.startswith(head) and line.endswith(_END):
                try:
                    return [(service, self._spans(line[len(head) : -len(_AFTER)]))]
                except wire.FAULTS:
                    break  # more than one scope, or a new key: the whole line is looked at
        try:
            found = self._line(line)
        except wire.FAULTS:
            return self._slowly(line)
        groups = [
            (
                _service(one.resource) if self._ids else None,
                [span for scope in one.scopes for span in scope.spans],
            )
            for one in found.resources
        ]
        if len(groups) == 1:
            self._remember(line, groups[0][0])
        return groups

    def row(self, attributes: list[Any]) -> tuple[Any, ...]:
        """The wanted attributes of a span in the wanted order; an absent one has an empty value.

        Spans of one kind carry the same keys in the same order, so where they stand is looked up
        by that order, at a third of what a dict of each span's attributes takes.
        """
        kinds = tuple(map(type, attributes))
        picker = self._pickers.get(kinds)
        attributes.append(_ABSENT)
        if picker is None:
            if len(self._pickers) >= _MOST_ORDERS:
                self._pickers.clear()
            absent = len(kinds)
            last = {kind: place for place, kind in enumerate(kinds)}
            picker = itemgetter(*(last.get(kind, absent) for kind in self._order))
            self._pickers[kinds] = picker
        return picker(attributes)

    def _remember(self, line: bytes, service: str | None) -> None:
        """Keep what stands before the spans, when the line is laid out as our segments are."""
        if not line.endswith(_END):
            return
        start, leaf, _ = line.partition(_LEAF)
        head = start + leaf
        if any(head == known for known, _ in self._heads):
            return
        try:
            self._line(head + b"[" + _END)
        except wire.FAULTS:
            return
        self._heads = [(head, service), *self._heads[: _MOST_HEADS - 1]]

    def _slowly(self, line: bytes) -> list[tuple[str | None, list[Any]]]:
        """Learn the keys of a line that are new, or take the line as it comes."""
        found = self._generic(line)
        if not isinstance(found.spans, list):
            return []
        spans = [s for r in found.spans for c in r.scopes or () for s in c.records or ()]
        new = {one.key for span in spans for one in span.attributes or ()} - self._others.keys()
        if len(self._others) + len(new) <= _MOST_KEYS:
            self._others.update((key, _unwanted(key)) for key in new)
        if len(self._others) > self._known:
            self._build()
            try:
                self._line(line)
            except wire.FAULTS:
                pass  # a null where these types expect none
            else:
                return self(line)
        return [
            (
                _service(one.resource),
                [self._converted(s) for c in one.scopes or () for s in c.records or ()],
            )
            for one in found.spans
        ]

    def _converted(self, span: wire.Span) -> Any:
        found: dict[str, Any] = {
            "start": span.start or 0,
            "end": span.end or 0,
            "status": span.status,
            "attributes": [
                self._wanted[one.key](one.value or _NONE)
                for one in span.attributes or ()
                if one.key in self._wanted
            ],
        }
        if self._ids:
            found |= {"trace_id": span.trace_id, "span_id": span.span_id}
        return self._span(**found)


def _service(resource: wire.Resource | None) -> str | None:
    for one in (resource.attributes if resource else None) or ():
        if one.key == semconv.SERVICE_NAME and one.value is not None:
            return one.value.text
    return None


class Call(Struct, frozen=True, gc=False, kw_only=True):
    """One call of a model, flat; what is not known is None.

    Times are UTC nanoseconds, `duration` seconds, `cost` money in `currency`. `user` is the keyed
    hash that the call was recorded with.
    """

    start: int
    duration: float | None
    operation: str
    provider: str | None
    model: str | None
    response_model: str | None
    workflow: str | None
    stage: str | None
    tier: str | None
    cost: Decimal | None
    currency: str | None
    cost_reason: str | None
    input: int | None
    output: int | None
    cache_read: int | None
    cache_write: int | None
    reasoning: int | None
    cache_hit: bool
    cache_type: str | None
    user: str | None
    session: str | None
    run: str | None
    agent: str | None
    retries: int | None
    outcome: str | None
    success: bool
    error_type: str | None
    service: str | None
    trace_id: str | None
    span_id: str | None

    @property
    def usage(self) -> Usage:
        """The tokens as prices are computed from them."""
        return Usage(
            input=self.input,
            output=self.output,
            cache_read=self.cache_read,
            cache_write=self.cache_write,
            reasoning=self.reasoning,
        )

    def flat(self) -> dict[str, Any]:
        """The flat form that exports carry, version 1."""
        cost = None if self.cost is None else float(self.cost.quantize(_SIXTH))
        form: dict[str, Any] = {
            "v": 1,
            "ts": rfc3339(self.start),
            "workflow": self.workflow,
            "stage": self.stage,
            "tier": self.tier,
            "model": self.model,
            "provider": self.provider,
            "cost": cost,
            "tokens": {"input": self.input, "output": self.output},
            "cache": {"hit": self.cache_hit},
        }
        if self.cache_hit and self.cache_type is not None:
            form["cache"]["type"] = self.cache_type
        if self.cache_read or self.cache_write:
            form["prompt_cache"] = {"hit": bool(self.cache_read)}
            if self.cache_write is not None:
                form["prompt_cache"]["creation_tokens"] = self.cache_write
            if self.cache_read is not None:
                form["prompt_cache"]["read_tokens"] = self.cache_read
        duration = self.duration
        form["duration_ms"] = None if duration is None else round(duration * 1000, 3)
        form["user"] = self.user
        form["success"] = self.success
        form["error_type"] = self.error_type
        return form


def calls(reader: Reader, window: Window, *, progress: Progress | None = None) -> Iterator[Call]:
    """The calls of a window, in the order of the files, each once."""
    scan = reader.scan("traces", after=window.after, progress=progress)
    seen = Seen() if scan.may_repeat else None
    after, until = window.bounds
    decode = Decoder(_ALL, ids=True)
    for groups in wire.decoded(scan, scan, decode):
        for service, spans in groups:
            for span in spans:
                if not after < span.start <= until:
                    continue
                row = decode.row(span.attributes)
                if row[0].value.text not in OPERATIONS:
                    continue
                if seen is not None and seen.before(span.trace_id, span.span_id):
                    continue
                yield _call(span, row, service)


class Seen:
    """Which spans were met: exact for the latest 250,000, so that memory stays bounded.

    A record that was sent again stands near its first copy.
    """

    def __init__(self, size: int = 250_000) -> None:
        self._size = size
        self._new: set[int] = set()
        self._old: set[int] = set()

    def before(self, trace_id: str | None, span_id: str | None) -> bool:
        """Whether this span was met before; spans without an id never were."""
        if not span_id:
            return False
        mark = hash((trace_id, span_id))
        if mark in self._new or mark in self._old:
            return True
        if len(self._new) >= self._size:
            self._old, self._new = self._new, set()
        self._new.add(mark)
        return False


def whole(value: Any) -> int | None:
    """A count, whichever way its sender wrote the number; None where it is none that can be."""
    number: int | None = value.whole
    if number is None and value.number is not None and value.number.is_integer():
        number = int(value.number)
    return None if number is None or number < 0 else number


def _first(value: Any, old: Any) -> int | None:
    """A count by its name, or by its older one."""
    count = whole(value)
    return whole(old) if count is None else count


def amount(value: Any) -> float | None:
    """An amount of money; None where it is no number that can be one."""
    number: float | None = value.number if value.number is not None else value.whole
    return None if number is None or not -MOST_MONEY < number < MOST_MONEY else number


def _call(span: Any, row: tuple[Any, ...], service: str | None) -> Call:
    (
        operation, provider, model, response_model, workflow, stage, tier, input_, output,
        cache_read, cache_write, cache_creation, reasoning, money, currency, genai_money,
        genai_currency, cost_reason, cache_hit, cache_type, user, session, run, agent, retries,
        outcome, error_type, old_provider, old_input, old_output,
    ) = [one.value for one in row]  # fmt: skip
    cost = amount(money)
    if cost is None:
        cost = amount(genai_money)
    hit = cache_hit.flag is True
    if hit and cost is None:
        cost = 0.0  # nothing was asked of the provider
    duration = (span.end - span.start) / 1e9
    return Call(
        start=span.start,
        duration=duration if duration >= 0 else None,
        operation=operation.text,
        provider=provider.text or old_provider.text,
        model=model.text or response_model.text,
        response_model=response_model.text,
        workflow=workflow.text,
        stage=stage.text,
        tier=tier.text,
        cost=None if cost is None else Decimal(str(cost)),
        currency=currency.text or genai_currency.text,
        cost_reason=cost_reason.text,
        input=_first(input_, old_input),
        output=_first(output, old_output),
        cache_read=whole(cache_read),
        cache_write=whole(cache_write if cache_write is not _ABSENT.value else cache_creation),
        reasoning=whole(reasoning),
        cache_hit=hit,
        cache_type=cache_type.text,
        user=user.text,
        session=session.text,
        run=run.text,
        agent=agent.text,
        retries=whole(retries),
        outcome=outcome.text,
        success=span.status is None or span.status.code not in FAILED,
        error_type=error_type.text,
        service=service,
        trace_id=span.trace_id,
        span_id=span.span_id,
    )
