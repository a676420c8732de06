"""The life of a call to a model: one span from the start to the end of the reply.

One `CallSpan` covers the logical call with all its retries, until the reply is complete, failed,
closed or dropped. What the call was about is collected in a `core.call.Call`; how a provider's
reply is read is told to it by the source.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind

from otel_empathy.core import semconv
from otel_empathy.core.call import Call, Retried
from otel_empathy.core.outcomes import Outcome, qualified_name
from otel_empathy.core.run import Run
from otel_empathy.emit import content, duplicates, events
from otel_empathy.emit.context import CALL_KEY, SPAN_KEY, inherited, scope_of, suppressed
from otel_empathy.emit.cost import cost_attributes
from otel_empathy.emit.live import live
from otel_empathy.emit.measures import Measured, measure, measure_gaps
from otel_empathy.emit.safety import count, guarded
from otel_empathy.emit.spans import Operation, Told, kind_of, record_error, told_of
from otel_empathy.emit.values import truncations

__all__ = ["KEPT", "CallSpan", "CallSpec", "Read", "open_call"]

Read = Callable[[Call, Any, "Sequence[Any] | None"], None]
"""Reads a reply, or the chunks of a streamed one, into the call."""

_EXTRACT: Final = guarded("extract")
_INTERNAL: Final = frozenset({"plan", "invoke_workflow", semconv.EXECUTE_TOOL})
_OF_MODEL: Final = frozenset({*semconv.INFERENCE, semconv.EMBEDDINGS, "fetch_response"})
_RETRIEVAL: Final = "retrieval"
_OF_AGENT: Final = frozenset({"plan", "create_agent", "invoke_agent"})
_OPENAI: Final = frozenset({"openai", "azure.ai.openai"})
_HEAD, _TAIL = 64, 64
_ALL: Final = 65_536
KEPT: Final = _ALL + _TAIL
"""Chunks of a stream that are kept for one who wants to read them all."""
_PORTION: Final = 1_024  # times between chunks that are kept before they are recorded
_COUNTS: Final = (
    ("input", semconv.USAGE_INPUT),
    ("output", semconv.USAGE_OUTPUT),
    ("cache_read", semconv.USAGE_CACHE_READ),
    ("cache_write", semconv.USAGE_CACHE_WRITE),
    ("reasoning", semconv.USAGE_REASONING),
    ("audio_input", semconv.USAGE_AUDIO_INPUT),
    ("audio_output", semconv.USAGE_AUDIO_OUTPUT),
    ("image_input", semconv.USAGE_IMAGE_INPUT),
    ("image_output", semconv.USAGE_IMAGE_OUTPUT),
)


@dataclass(frozen=True, slots=True)
class CallSpec:
    """What a decorated function says about all of its calls; made once, at definition.

    Args:
        operation: What is asked of the provider.
        provider: Who is asked.
        model: The model that is asked for.
        tier: `cheap`, `capable` or `premium`.
        stage: Name of the stage inside a workflow.
        prompt: Name, version and format of the prompt.
        server: Address and port of the provider's server; either may be unknown.
        read: Reads the reply; None leaves it unread.
        thorough: Whether `read` wants all chunks of a stream, not only the first and last ones.
    """

    operation: str = "chat"
    provider: str | None = None
    model: str | None = None
    tier: str | None = None
    stage: str | None = None
    prompt: tuple[str | None, str | None, str | None] = (None, None, None)
    server: tuple[str | None, int | None] = (None, None)
    read: Read | None = None
    thorough: bool = False
    name: str = field(init=False)
    kind: SpanKind = field(init=False)
    attributes: Mapping[str, Any] = field(init=False)
    key: str | None = field(init=False)
    inference: bool = field(init=False)
    priced: bool = field(init=False)

    def __post_init__(self) -> None:
        known = {
            semconv.OPERATION: self.operation,
            semconv.PROVIDER: self.provider,
            semconv.REQUEST_MODEL: self.model,
            semconv.CALL_TIER: self.tier,
            semconv.CALL_STAGE: self.stage,
            semconv.PROMPT_NAME: self.prompt[0],
            semconv.PROMPT_VERSION: self.prompt[1],
            semconv.PROMPT_FORMAT: self.prompt[2],
            semconv.SERVER_ADDRESS: self.server[0],
            semconv.SERVER_PORT: self.server[1],
        }
        inference = self.operation in semconv.INFERENCE
        for name, value in (
            ("name", _span_name(self.operation, model=self.model)),
            ("kind", SpanKind.INTERNAL if self.operation in _INTERNAL else SpanKind.CLIENT),
            ("attributes", {key: value for key, value in known.items() if value is not None}),
            ("key", duplicates.key_of(self.operation)),
            ("inference", inference),
            ("priced", inference or self.operation == semconv.EMBEDDINGS),
        ):
            object.__setattr__(self, name, value)


def open_call(spec: CallSpec, parent: Context) -> CallSpan | None:
    """Begin a call; None where somebody asked for silence."""
    return None if suppressed(parent) else CallSpan(spec, parent)


class CallSpan(Operation):
    """One call under way."""

    __slots__ = (
        "_chunks", "_data", "_first", "_gaps", "_head", "_last", "_outer", "_room", "_run",
        "_spec", "_start", "_streamed", "_tail", "_workflow", "call",
    )  # fmt: skip

    streams = True

    _first: float
    _gaps: list[float]
    _head: list[Any]
    _last: float
    _room: int
    _tail: deque[Any]

    def __init__(self, spec: CallSpec, parent: Context) -> None:
        super().__init__()
        self._spec = spec
        self._chunks = 0
        self._streamed = False
        self._data: Any = None
        self._run: Run | None = None
        scope = scope_of(parent)
        self._workflow = scope.workflow
        call = self.call = Call(
            spec.operation, provider=spec.provider, model=spec.model, clock=live.clock
        )
        if content.wanted():
            call.take = content.take
        if spec.prompt[0] is not None:
            call.prompt_name, call.prompt_version, call.prompt_format = spec.prompt
        known = {**spec.attributes, **inherited(parent)}
        if scope.tier is not None:
            known.setdefault(semconv.CALL_TIER, scope.tier)
        if scope.stage is not None:
            known.setdefault(semconv.CALL_STAGE, scope.stage)
        self._start = known
        run = scope.run
        if run is not None:
            self.limit = run.timeouts.call
        key = spec.key
        values: dict[str, Any] = {CALL_KEY: call}
        self._outer: Any = None if key is None else parent.get(key)
        if self._outer is None:
            if key is not None:
                values[key] = self._data = duplicates.place(key, capture=content.wanted())
            if run is not None and spec.inference:
                run.count_inference()
                self._run = run
            name = spec.name
            if scope.agent is not None and spec.operation in _OF_AGENT:
                name = _span_name(spec.operation, agent=scope.agent)
            values[SPAN_KEY] = self.open(name, spec.kind, known, parent)
        self.context = Context(parent, **values)

    def stream(self) -> None:
        """Note that the reply is streamed, even if no chunk ever comes."""
        self._streamed = True

    def chunk(self, value: Any) -> None:
        """Note when a chunk came, and keep it if the reply will be read from it."""
        now = live.clock.monotonic()
        self._chunks += 1
        if self._chunks == 1:
            self._begin_stream(now)
        else:
            self._gaps.append(now - self._last)
            if len(self._gaps) >= _PORTION:
                self._measure_gaps()
        self._last = now
        if len(self._head) < self._room:
            self._head.append(value)
        elif self._room:
            self._tail.append(value)

    def finish(self, result: Any = None) -> None:
        """End well, and read the reply."""
        read = self._spec.read
        if read is not None and not self.ended:
            with _EXTRACT:
                read(self.call, result, None)
        self.end(Outcome.OK)

    def close(self, outcome: Outcome, error: BaseException | None, elapsed: float) -> None:
        """Write everything down while the span is still open, then end it."""
        call = self.call
        try:
            if self._chunks and self._spec.read is not None:
                with _EXTRACT:
                    self._spec.read(call, None, [*self._head, *self._tail])
                self._head.clear()
                self._tail.clear()
            extra = {} if self._data is None else duplicates.enrich(call, self._data)
            for what in call.refused:
                count("extract", what)
            call.close()
            if call.retries:
                call.retries = tuple(_named(retried) for retried in call.retries)
            self._write(outcome, error, elapsed, extra)
        finally:
            self.stop(elapsed)

    def _begin_stream(self, now: float) -> None:
        self._first = now - self._started
        self._gaps = []
        self._head = []
        self._tail = deque(maxlen=_TAIL)
        spec = self._spec
        self._room = 0 if spec.read is None else _ALL if spec.thorough else _HEAD

    @guarded("wrap")
    def _measure_gaps(self) -> None:
        """Record the times between the chunks so far, so that a long stream keeps few of them."""
        gaps, self._gaps = self._gaps, []
        call, spec = self.call, self._spec
        if self.span is None or call.cache_hit:
            return
        if self._chunks == _PORTION + 1 and spec.read is not None and not spec.thorough:
            # Who answers is a label of all of them, and stands in the first chunks already.
            with _EXTRACT:
                early = Call(spec.operation)
                spec.read(early, None, self._head)
                call.response_model = call.response_model or early.response_model
                call.service_tier = call.service_tier or early.service_tier
        labels = {**self._start, **self._names()}
        measure_gaps(gaps, labels, self.context, inference=spec.inference)

    def _write(
        self,
        outcome: Outcome,
        error: BaseException | None,
        elapsed: float,
        extra: Mapping[str, Any],
    ) -> None:
        call, spec, start, span = self.call, self._spec, self._start, self.span
        ended = {key: value for key, value in extra.items() if key not in start}
        self._describe(ended, outcome)
        failure = error if outcome.is_failure else None
        if failure is not None:
            ended[semconv.ERROR_TYPE] = kind_of(failure)
        if span is None:
            if call.shortened:
                ended[semconv.TRUNCATED] = True
                truncations["keys"] += 1
            duplicates.publish(self._outer, call, {**start, **ended})
            return
        if spec.priced:
            ended.update(cost_attributes(call, at_ns=self.start_ns))
        if span.is_recording():
            self._fill(span, ended)
        if call.cache_hit and self._run is not None:
            self._run.count_inference(-1)
        # What came in from outside may stand on a span, never on a metric.
        labels = {**start, **ended, semconv.WORKFLOW_NAME: self._workflow}
        streamed = self._chunks > 0
        measure(
            Measured(
                call=call,
                labels=labels,
                context=self.context,
                outcome=outcome,
                elapsed=elapsed,
                inference=spec.inference,
                priced=spec.priced,
                first=self._first if streamed else None,
                gaps=self._gaps if streamed else (),
            )
        )
        if failure is not None:
            told = told_of(failure)
            record_error(span, failure, told, self.time_at(elapsed))
            _tell_exception(failure, told, labels, self.context)
        if live.emit_event and spec.inference:
            self._tell_details({**start, **ended})

    def _names(self) -> dict[str, Any]:
        """What was asked, of whom, and who answers, as far as it is known and was not said yet."""
        call, spec = self.call, self._spec
        told = [
            (semconv.REQUEST_MODEL, None if call.model == spec.model else call.model),
            (semconv.PROVIDER, None if call.provider == spec.provider else call.provider),
            (semconv.RESPONSE_MODEL, call.response_model),
        ]
        if call.provider in _OPENAI:
            told += [
                (semconv.OPENAI_API_TYPE, call.api_type),
                (semconv.OPENAI_REQUEST_TIER, call.requested_tier),
                (semconv.OPENAI_RESPONSE_TIER, call.service_tier),
                (semconv.OPENAI_FINGERPRINT, call.system_fingerprint),
            ]
        known = {key: value for key, value in told if value is not None}
        return {**call.attributes, **known}

    def _describe(self, known: dict[str, Any], outcome: Outcome) -> None:
        call, spec = self.call, self._spec
        known.update(self._names())
        told = (
            (semconv.RESPONSE_ID, call.response_id),
            (semconv.FINISH_REASONS, self._finish_reasons(outcome) or None),
            (semconv.CALL_RETRIES, len(call.retries) or None),
            (semconv.CALL_FALLBACK_FROM, call.fallback_from),
            (semconv.CALL_CACHE_HIT, call.cache_hit or None),
            (semconv.CALL_CACHE_TYPE, call.cache_type),
        )
        known.update({key: value for key, value in told if value is not None})
        if self._streamed:
            known[semconv.REQUEST_STREAM] = True
            known[semconv.CALL_CHUNKS] = self._chunks
            if self._chunks:
                known[semconv.TIME_TO_FIRST_CHUNK] = self._first
        if spec.priced and not call.cache_hit:
            _describe_usage(call, known)
        if call.prompt_name is not None:
            known.update(_prompt_attributes(call))
        known[semconv.CALL_OUTCOME] = outcome.value

    def _finish_reasons(self, outcome: Outcome) -> tuple[str, ...]:
        """One reason per choice; `error` for those that a reply cut short never gave."""
        finish = self.call.finish or ()
        if outcome is Outcome.OK or not self._spec.inference:
            return finish
        choices: int = self.call.attributes.get(semconv.CHOICE_COUNT, 1)
        return finish + ("error",) * (choices - len(finish))

    def _fill(self, span: Span, ended: dict[str, Any]) -> None:
        call, spec = self.call, self._spec
        for number, retried in enumerate(call.retries, 1):
            known: dict[str, Any] = {semconv.CALL_ATTEMPT: number}
            if retried.delay is not None:
                known[semconv.CALL_DELAY] = retried.delay
            if retried.error_type is not None:
                known[semconv.ERROR_TYPE] = retried.error_type
            span.add_event(semconv.EVENT_CALL_RETRIED, known, retried.time_ns)
        if call.content and content.in_spans():
            content.put(span, ended, call.content, shortened=call.shortened)
        else:
            span.set_attributes(ended)
        # A span cannot change its kind: that a call which a local cache answered is INTERNAL and
        # not CLIENT is written by `pipeline.encode_json`, from the attribute of the cache hit.
        if call.model != spec.model and spec.operation in _OF_MODEL:
            span.update_name(_span_name(spec.operation, model=call.model))
        elif spec.operation == _RETRIEVAL and semconv.DATA_SOURCE_ID in ended:
            span.update_name(f"{_RETRIEVAL} {ended[semconv.DATA_SOURCE_ID]}")
        elif spec.operation in _OF_AGENT and semconv.AGENT_NAME in ended:
            span.update_name(_span_name(spec.operation, agent=ended[semconv.AGENT_NAME]))

    def _tell_details(self, known: dict[str, Any]) -> None:
        call, context = self.call, self.context
        if call.content and content.in_events():
            known = content.with_facts(
                {**inherited(context), **known}, call.content, shortened=call.shortened
            )
        events.emit(semconv.EVENT_DETAILS, events.DEBUG, known, context=context)


def _named(retried: Retried) -> Retried:
    kind = retried.error_type
    return retried if kind is None else replace(retried, error_type=kind_of(kind))


def _span_name(operation: str, *, model: str | None = None, agent: str | None = None) -> str:
    if model is not None and operation in _OF_MODEL:
        return f"{operation} {model}"
    if agent is not None and operation in _OF_AGENT:
        return f"{operation} {agent}"
    return operation


def _describe_usage(call: Call, known: dict[str, Any]) -> None:
    tokens = call.tokens
    if tokens is None:
        known[semconv.USAGE_SOURCE] = "none"
        return
    known[semconv.USAGE_SOURCE] = call.source
    if call.source == "estimated":
        if tokens.input is not None:
            known[semconv.USAGE_ESTIMATED_INPUT] = tokens.input
        if tokens.output is not None:
            known[semconv.USAGE_ESTIMATED_OUTPUT] = tokens.output
        return
    for name, key in _COUNTS:
        value = getattr(tokens, name)
        if value is not None:
            known[key] = value
    if live.profile == "both" and tokens.cache_write is not None:
        known[semconv.USAGE_CACHE_CREATION] = tokens.cache_write


def _prompt_attributes(call: Call) -> dict[str, Any]:
    known = {
        semconv.PROMPT_NAME: call.prompt_name,
        semconv.PROMPT_VERSION: call.prompt_version,
        semconv.PROMPT_FORMAT: call.prompt_format,
        semconv.PROMPT_PARSED: call.parsed_ok,
        semconv.PROMPT_VALIDATED: call.validated_ok,
    }
    return {key: value for key, value in known.items() if value is not None}


def _tell_exception(
    error: BaseException, told: Told, known: Mapping[str, Any], context: Context
) -> None:
    about = (semconv.OPERATION, semconv.PROVIDER, semconv.REQUEST_MODEL, semconv.ERROR_TYPE)
    details = {key: known.get(key) for key in about}
    details[semconv.EXCEPTION_TYPE] = qualified_name(type(error))
    details[semconv.EXCEPTION_MESSAGE] = told.message
    details[semconv.EXCEPTION_STACKTRACE] = told.stack
    details[semconv.TRUNCATED] = told.cut or None
    events.emit(semconv.EVENT_EXCEPTION, events.WARN, details, context=context)
