"""The life of a call to a model: its span, its measurements, its events, its price.

One `CallSpan` covers the logical call with all its retries, from the start until the reply is
complete, failed, closed or dropped. What the call was about is collected in a `core.call.Call`;
how a provider's reply is read is told to it by the source.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.context import Context
from opentelemetry.trace import SpanKind

from otel_empathy.core import semconv
from otel_empathy.core.call import Call
from otel_empathy.core.outcomes import Outcome, error_type, qualified_name
from otel_empathy.core.run import Run
from otel_empathy.core.usage import Usage
from otel_empathy.emit import content, duplicates, events, instruments
from otel_empathy.emit.context import CALL_KEY, SPAN_KEY, inherited, scope_of, suppressed
from otel_empathy.emit.live import live
from otel_empathy.emit.safety import count, guarded
from otel_empathy.emit.spans import Operation, message_of, record_error

if TYPE_CHECKING:
    from otel_empathy.core.prices import Cost

__all__ = ["CallSpan", "CallSpec", "Read", "open_call"]

Read = Callable[[Call, Any, Sequence[Any] | None], None]
"""Reads a reply, or the chunks of one, into the call."""

_EXTRACT: Final = guarded("extract")
_INTERNAL: Final = frozenset({"plan", "invoke_workflow", "execute_tool"})
_OF_MODEL: Final = frozenset({*semconv.INFERENCE, semconv.EMBEDDINGS, "fetch_response"})
_OF_AGENT: Final = frozenset({"plan", "create_agent", "invoke_agent"})
_HEAD, _TAIL = 64, 64
_ALL: Final = 4_096
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
_SUBSETS: Final = (
    ("cache_read", semconv.INFERENCE_CACHE_READ),
    ("cache_write", semconv.INFERENCE_CACHE_WRITE),
    ("reasoning", semconv.INFERENCE_REASONING),
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
        prompt: Name, version and format of the prompt, as far as they are known.
        read: Reads the reply; None leaves it unread.
        thorough: Whether `read` wants all chunks of a stream, not only the first and last ones.
    """

    operation: str = "chat"
    provider: str | None = None
    model: str | None = None
    tier: str | None = None
    stage: str | None = None
    prompt: tuple[str, ...] = ()
    read: Read | None = None
    thorough: bool = False
    name: str = field(init=False)
    kind: SpanKind = field(init=False)
    attributes: Mapping[str, Any] = field(init=False)
    key: str | None = field(init=False)
    inference: bool = field(init=False)
    priced: bool = field(init=False)

    def __post_init__(self) -> None:
        prompt = (*self.prompt, None, None, None)[:3]
        known = {
            semconv.OPERATION: self.operation,
            semconv.PROVIDER: self.provider,
            semconv.REQUEST_MODEL: self.model,
            semconv.CALL_TIER: self.tier,
            semconv.CALL_STAGE: self.stage,
            semconv.PROMPT_NAME: prompt[0],
            semconv.PROMPT_VERSION: prompt[1],
            semconv.PROMPT_FORMAT: prompt[2],
        }
        inference = self.operation in semconv.INFERENCE
        for name, value in (
            ("name", _span_name(self.operation, self.model, None)),
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
        "_count", "_data", "_first", "_gaps", "_head", "_last", "_outer", "_room", "_run", "_spec",
        "_start", "_tail", "_workflow", "call",
    )  # fmt: skip

    streams = True

    def __init__(self, spec: CallSpec, parent: Context) -> None:
        super().__init__()
        self._spec = spec
        self._head: list[Any] = []
        self._count = 0
        self._outer: Any = None
        self._data: Any = None
        self._run: Run | None = None
        scope = scope_of(parent)
        self._workflow = scope.workflow
        call = self.call = Call(
            spec.operation, provider=spec.provider, model=spec.model, clock=live.clock
        )
        if content.wanted():
            call.take = content.take
        if spec.prompt:
            call.prompt_name = spec.prompt[0]
        known = dict(spec.attributes)
        known.update(inherited(parent))
        if scope.tier is not None:
            known.setdefault(semconv.CALL_TIER, scope.tier)
        if scope.stage is not None:
            known.setdefault(semconv.CALL_STAGE, scope.stage)
        self._start = known
        run = scope.run
        if run is not None:
            self.limit = run.timeouts.call
        values: dict[str, Any] = {CALL_KEY: call}
        key = spec.key
        if key is not None:
            self._outer = parent.get(key)
            if self._outer is None:
                values[key] = self._data = duplicates.place(key, capture=content.wanted())
        if self._outer is None:
            if run is not None and spec.inference:
                run.count_inference()
                self._run = run
            name = spec.name
            if spec.operation in _OF_AGENT:
                name = _span_name(spec.operation, None, scope.agent)
            values[SPAN_KEY] = self.open(name, spec.kind, known, parent)
        self.context = Context(parent, **values)

    def chunk(self, value: Any) -> None:
        """Note when a chunk came, and keep it if the reply will be read from it."""
        now = live.clock.monotonic()
        self._count += 1
        if self._count == 1:
            self._first = self._last = now
            self._gaps: list[float] = []
            self._tail: deque[Any] = deque(maxlen=_TAIL)
            self._room = 0
            if self._spec.read is not None:
                self._room = _ALL if self._spec.thorough else _HEAD
        else:
            self._gaps.append(now - self._last)
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
        if self._count and self._spec.read is not None:
            with _EXTRACT:
                self._spec.read(call, None, [*self._head, *self._tail])
        self._head = []
        for what in call.refused:
            count("extract", what)
        extra = {} if self._data is None else duplicates.enrich(call, self._data)
        call.close()
        try:
            self._write(outcome, error, elapsed, extra)
        finally:
            self.stop(elapsed)

    def _write(
        self,
        outcome: Outcome,
        error: BaseException | None,
        elapsed: float,
        extra: Mapping[str, Any],
    ) -> None:
        call, spec = self.call, self._spec
        ended = {**extra, **self._described(outcome)}
        if outcome.is_failure and error is not None:
            ended[semconv.ERROR_TYPE] = error_type(error)
        if self._outer is not None:
            duplicates.publish(self._outer, call, {**self._start, **ended})
            return
        span = self.span
        assert span is not None
        cost = self._cost(ended) if spec.priced else None
        if span.is_recording():
            for retried in call.retries:
                span.add_event(semconv.EVENT_CALL_RETRIED, *_retry_event(call, retried))
            if call.content and content.in_spans():
                span.set_attributes({**ended, **content.span_attributes(call.content)})
            else:
                span.set_attributes(ended)
            if call.model is not None and call.model != spec.model and spec.operation in _OF_MODEL:
                span.update_name(_span_name(spec.operation, call.model, None))
        known = {**self._start, **ended, semconv.WORKFLOW_NAME: self._workflow}
        self._measure(known, outcome, elapsed, cost)
        if error is not None and outcome.is_failure:
            message = message_of(error)
            record_error(span, error, message, self.time_at(elapsed))
            self._tell_exception(error, message, known)
        if live.emit_event and spec.inference:
            details = {**self._start, **ended}
            if call.content and content.in_events():
                details.update((key, kept[0]) for key, kept in call.content.items())
            events.emit(semconv.EVENT_DETAILS, events.DEBUG, details, context=self.context)

    def _described(self, outcome: Outcome) -> dict[str, Any]:
        call, spec = self.call, self._spec
        known: dict[str, Any] = dict(call.attributes)
        if call.model is not None and call.model != spec.model:
            known[semconv.REQUEST_MODEL] = call.model
        if call.provider is not None and call.provider != spec.provider:
            known[semconv.PROVIDER] = call.provider
        if call.response_model is not None:
            known[semconv.RESPONSE_MODEL] = call.response_model
        if call.response_id is not None:
            known[semconv.RESPONSE_ID] = call.response_id
        finish = self._finish_reasons(outcome)
        if finish:
            known[semconv.FINISH_REASONS] = finish
        if self._count:
            known[semconv.REQUEST_STREAM] = True
            known[semconv.CALL_CHUNKS] = self._count
            known[semconv.TIME_TO_FIRST_CHUNK] = self._first - self._started
        if spec.priced and not call.cache_hit:
            self._describe_usage(known)
        for key, value in (
            (semconv.CALL_FALLBACK_FROM, call.fallback_from),
            (semconv.PROMPT_PARSED, call.parsed_ok),
            (semconv.PROMPT_VALIDATED, call.validated_ok),
        ):
            if value is not None:
                known[key] = value
        if call.prompt_name is not None and (call.prompt_name, call.prompt_version) != (
            *spec.prompt[:2], None, None,
        )[:2]:  # fmt: skip
            _describe_prompt(call, known)
        if call.retries:
            known[semconv.CALL_RETRIES] = len(call.retries)
        if call.cache_hit:
            known[semconv.CALL_CACHE_HIT] = True
            if call.cache_type is not None:
                known[semconv.CALL_CACHE_TYPE] = call.cache_type
        known[semconv.CALL_OUTCOME] = outcome.value
        return known

    def _finish_reasons(self, outcome: Outcome) -> tuple[str, ...] | None:
        finish = self.call.finish
        if not self._spec.inference or outcome is Outcome.OK or self.call.cache_hit:
            return finish
        choices = self.call.attributes.get(semconv.CHOICE_COUNT, 1)
        finish = finish or ()
        return (*finish, *["error"] * (choices - len(finish)))

    def _describe_usage(self, known: dict[str, Any]) -> None:
        call = self.call
        tokens = call.tokens
        known[semconv.USAGE_SOURCE] = "none" if tokens is None else call.source
        if tokens is None:
            return
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

    def _counted(self) -> Usage | None:
        """The tokens that may be charged and measured."""
        return None if self.call.source == "estimated" else self.call.tokens

    def _cost(self, known: dict[str, Any]) -> Cost | None:
        call = self.call
        ours = live.cost_names != "gen_ai"
        amount = semconv.COST_AMOUNT if ours else semconv.GENAI_COST_AMOUNT
        currency = semconv.COST_CURRENCY if ours else semconv.GENAI_COST_CURRENCY
        source = semconv.COST_SOURCE if ours else semconv.GENAI_COST_SOURCE
        if call.cache_hit:
            known.update({amount: 0.0, currency: call.currency, semconv.COST_REASON: "cached"})
            return None
        if call.amount is not None:
            known.update(
                {
                    amount: float(round(call.amount, 9)),
                    currency: call.currency,
                    source: "provider",
                }
            )
            return None
        if live.prices is None:
            return None
        usage = self._counted()
        if usage is None:
            reason = "estimated" if call.source == "estimated" else "no_usage"
            known[semconv.COST_REASON] = reason
            return None
        cost = self._priced(usage)
        if cost.amount is not None:
            known[amount] = float(cost.amount)
            known[currency] = cost.currency
            known[source] = cost.source
        for key, value in (
            (semconv.COST_PRICE_VERSION, cost.price_version),
            (semconv.COST_PRICE_KEY, cost.price_key),
            (semconv.COST_REASON, cost.reason),
        ):
            if value is not None:
                known[key] = value
        return cost

    def _priced(self, usage: Usage) -> Cost:
        """The price by the model that answered, else by the one that was asked."""
        assert live.prices is not None
        call = self.call
        tier = call.service_tier
        cost = live.prices.cost(
            call.provider,
            call.response_model or call.model,
            usage,
            at_ns=self.start_ns,
            service_tier=tier,
        )
        if cost.reason == "unknown_model" and call.model and call.response_model:
            cost = live.prices.cost(
                call.provider, call.model, usage, at_ns=self.start_ns, service_tier=tier
            )
        return cost

    def _measure(
        self, known: dict[str, Any], outcome: Outcome, elapsed: float, cost: Cost | None
    ) -> None:
        call, spec, context = self.call, self._spec, self.context
        record = instruments.record
        self._measure_prompt(known, outcome)
        if call.cache_hit:
            if self._run is not None:
                self._run.count_inference(-1)
            record(semconv.CALL_CACHE_HITS, 1, known, context)
            return
        old = live.profile != "latest" or not spec.inference
        new = live.profile != "default" and spec.inference
        if old:
            record(semconv.OPERATION_DURATION, elapsed, known, context)
        if new:
            record(semconv.INFERENCE_DURATION, elapsed, known, context)
        if self._count:
            self._measure_stream(known, old=old, new=new)
        if outcome is Outcome.ABANDONED:
            record(semconv.CALL_ABANDONED, 1, known, context)
        for retried in call.retries:
            labels = {**known, semconv.ERROR_TYPE: retried.error_type}
            record(semconv.CALL_RETRIED, 1, labels, context)
        if not spec.priced:
            return
        usage = self._counted()
        if usage is not None and live.profile != "latest":
            self._measure_tokens(usage, known)
        if new:
            self._measure_inference(usage, known)
        record(semconv.CALL_USAGE, 1, known, context)
        self._measure_cost(known)

    def _measure_stream(self, known: dict[str, Any], *, old: bool, new: bool) -> None:
        record, context = instruments.record, self.context
        first = self._first - self._started
        if old:
            record(semconv.TIME_TO_FIRST, first, known, context)
            for gap in self._gaps:
                record(semconv.TIME_PER_CHUNK, gap, known, context)
        if new:
            record(semconv.INFERENCE_TIME_TO_FIRST, first, known, context)
            for gap in self._gaps:
                record(semconv.INFERENCE_TIME_PER_CHUNK, gap, known, context)

    def _measure_tokens(self, usage: Usage, known: dict[str, Any]) -> None:
        for kind, value in (("input", usage.input), ("output", usage.output)):
            if value is not None:
                labels = {**known, semconv.TOKEN_TYPE: kind}
                instruments.record(semconv.TOKEN_USAGE, value, labels, self.context)

    def _measure_inference(self, usage: Usage | None, known: dict[str, Any]) -> None:
        record, context = instruments.record, self.context
        unknown = {**known, semconv.TOKEN_MODALITY: "unknown"}
        if usage is None:
            record(semconv.INFERENCE_INPUT, 0, unknown, context)
            record(semconv.INFERENCE_OUTPUT, 0, unknown, context)
            return
        for total, audio, image, counter, histogram in (
            (
                usage.input, usage.audio_input, usage.image_input,
                semconv.INFERENCE_INPUT, semconv.INFERENCE_OPERATION_INPUT,
            ),
            (
                usage.output, usage.audio_output, usage.image_output,
                semconv.INFERENCE_OUTPUT, semconv.INFERENCE_OPERATION_OUTPUT,
            ),
        ):  # fmt: skip
            if total is None:
                continue
            record(histogram, total, known, context)
            for modality, value in _by_modality(total, audio, image):
                record(counter, value, {**known, semconv.TOKEN_MODALITY: modality}, context)
        for name, counter in _SUBSETS:
            value = getattr(usage, name)
            if value is not None:
                record(counter, value, unknown, context)

    def _measure_cost(self, known: dict[str, Any]) -> None:
        if semconv.COST_AMOUNT in known:
            row, amount = semconv.CALL_COST, known[semconv.COST_AMOUNT]
        elif semconv.GENAI_COST_AMOUNT in known:
            row, amount = semconv.GENAI_CALL_COST, known[semconv.GENAI_COST_AMOUNT]
        else:
            if semconv.COST_REASON in known:
                instruments.record(semconv.COST_UNPRICED, 1, known, self.context)
            return
        instruments.record(row, amount, known, self.context)

    def _measure_prompt(self, known: dict[str, Any], outcome: Outcome) -> None:
        call = self.call
        if call.prompt_name is None or outcome in {Outcome.CANCELLED, Outcome.ABANDONED}:
            return
        result = "ok"
        if outcome.is_failure:
            result = "error"
        elif call.parsed_ok is False:
            result = "parse_failed"
        elif call.validated_ok is False:
            result = "validation_failed"
        labels = {**known, semconv.PROMPT_OUTCOME: result}
        instruments.record(semconv.PROMPT_RESULTS, 1, labels, self.context)

    def _tell_exception(
        self, error: BaseException, message: str, known: Mapping[str, Any]
    ) -> None:
        events.emit(
            semconv.EVENT_EXCEPTION,
            events.WARN,
            {
                semconv.OPERATION: known.get(semconv.OPERATION),
                semconv.PROVIDER: known.get(semconv.PROVIDER),
                semconv.REQUEST_MODEL: known.get(semconv.REQUEST_MODEL),
                semconv.EXCEPTION_TYPE: qualified_name(type(error)),
                semconv.EXCEPTION_MESSAGE: message,
                semconv.ERROR_TYPE: known.get(semconv.ERROR_TYPE),
            },
            context=self.context,
        )
