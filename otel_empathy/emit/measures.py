"""The measurements of a call, under the names of the chosen version of the conventions.

They are taken while the span is open and in its context, so that exemplars lead back to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from opentelemetry.context import Context

from otel_empathy.core import semconv
from otel_empathy.core.call import Call
from otel_empathy.core.outcomes import Outcome
from otel_empathy.core.usage import Usage
from otel_empathy.emit.instruments import record
from otel_empathy.emit.live import live

__all__ = ["Measured", "measure", "measure_gaps"]

_SUBSETS: Final = (
    ("cache_read", semconv.INFERENCE_CACHE_READ),
    ("cache_write", semconv.INFERENCE_CACHE_WRITE),
    ("reasoning", semconv.INFERENCE_REASONING),
)
_TOTALS: Final = (
    ("input", semconv.INFERENCE_INPUT, semconv.INFERENCE_OPERATION_INPUT),
    ("output", semconv.INFERENCE_OUTPUT, semconv.INFERENCE_OPERATION_OUTPUT),
)
_COUNTERS: Final = (*(row[1] for row in _TOTALS), *(row[1] for row in _SUBSETS))


@dataclass(slots=True)
class Measured:
    """A call that has ended.

    Args:
        call: What is known about it.
        labels: All its attributes; each instrument picks its own.
        context: Where its span is current.
        outcome: How it ended.
        elapsed: Its duration in seconds.
        inference: Whether it is an inference.
        priced: Whether it uses tokens.
        first: Seconds to the first chunk of a stream.
        gaps: Seconds between chunks, of those that were not measured while they came.
    """

    call: Call
    labels: dict[str, Any]
    context: Context
    outcome: Outcome
    elapsed: float
    inference: bool
    priced: bool
    first: float | None
    gaps: Sequence[float]


def measure(ended: Measured) -> None:
    """Take all measurements that a call gives rise to."""
    labels, context = ended.labels, ended.context
    _prompt(ended)
    if ended.call.cache_hit:
        record(semconv.CALL_CACHE_HITS, 1, labels, context)
        return
    old, new = _profiles(inference=ended.inference)
    if old:
        record(semconv.OPERATION_DURATION, ended.elapsed, labels, context)
    if new:
        record(semconv.INFERENCE_DURATION, ended.elapsed, labels, context)
    if ended.first is not None:
        _stream(ended, ended.first, old=old, new=new)
    if ended.outcome is Outcome.ABANDONED:
        record(semconv.CALL_ABANDONED, 1, labels, context)
    for retried in ended.call.retries:
        record(
            semconv.CALL_RETRIED, 1, _with(labels, semconv.ERROR_TYPE, retried.error_type), context
        )
    if not ended.priced:
        return
    tokens = None if ended.call.source == "estimated" else ended.call.tokens
    if tokens is not None and live.profile != "latest":
        _tokens(ended, tokens)
    if new:
        _inference(ended, tokens)
    record(semconv.CALL_USAGE, 1, labels, context)
    _cost(ended)


def measure_gaps(
    gaps: Sequence[float], labels: Mapping[str, Any], context: Context, *, inference: bool
) -> None:
    """Take the times between chunks, one measurement each."""
    old, new = _profiles(inference=inference)
    rows = (semconv.TIME_PER_CHUNK,) * old + (semconv.INFERENCE_TIME_PER_CHUNK,) * new
    for row in rows:
        for gap in gaps:
            record(row, gap, labels, context)


def _profiles(*, inference: bool) -> tuple[bool, bool]:
    """Whether the old and the new names are wanted; only inference has new ones."""
    return live.profile != "latest" or not inference, live.profile != "default" and inference


def _stream(ended: Measured, first: float, *, old: bool, new: bool) -> None:
    if old:
        record(semconv.TIME_TO_FIRST, first, ended.labels, ended.context)
    if new:
        record(semconv.INFERENCE_TIME_TO_FIRST, first, ended.labels, ended.context)
    measure_gaps(ended.gaps, ended.labels, ended.context, inference=ended.inference)


def _tokens(ended: Measured, tokens: Usage) -> None:
    for kind, value in (("input", tokens.input), ("output", tokens.output)):
        if value is not None:
            labels = _with(ended.labels, semconv.TOKEN_TYPE, kind)
            record(semconv.TOKEN_USAGE, value, labels, ended.context)


def _inference(ended: Measured, tokens: Usage | None) -> None:
    context = ended.context
    unknown = _with(ended.labels, semconv.TOKEN_MODALITY, "unknown")
    if tokens is None:
        for row in _COUNTERS:
            record(row, 0, unknown, context)
        return
    for side, counter, histogram in _TOTALS:
        total = getattr(tokens, side)
        if total is None:
            continue
        record(histogram, total, ended.labels, context)
        for modality, value in _by_modality(tokens, side, total):
            record(counter, value, _with(ended.labels, semconv.TOKEN_MODALITY, modality), context)
    for name, counter in _SUBSETS:
        value = getattr(tokens, name)
        if value is not None:
            record(counter, value, unknown, context)


def _by_modality(tokens: Usage, side: str, total: int) -> list[tuple[str, int]]:
    """The parts of a count; what a provider that tells parts does not name is text."""
    audio, image = getattr(tokens, f"audio_{side}"), getattr(tokens, f"image_{side}")
    if audio is None and image is None:
        return [("unknown", total)]
    parts = [("audio", audio or 0), ("image", image or 0)]
    rest = total - sum(value for _, value in parts)
    return [(name, value) for name, value in (("text", rest), *parts) if value > 0]


def _cost(ended: Measured) -> None:
    labels, context = ended.labels, ended.context
    if semconv.COST_AMOUNT in labels:
        record(semconv.CALL_COST, labels[semconv.COST_AMOUNT], labels, context)
    elif semconv.GENAI_COST_AMOUNT in labels:
        record(semconv.GENAI_CALL_COST, labels[semconv.GENAI_COST_AMOUNT], labels, context)
    elif semconv.COST_REASON in labels:
        record(semconv.COST_UNPRICED, 1, labels, context)


def _prompt(ended: Measured) -> None:
    call, outcome = ended.call, ended.outcome
    if call.prompt_name is None or outcome is Outcome.CANCELLED or outcome is Outcome.ABANDONED:
        return
    result = "ok"
    if outcome.is_failure:
        result = "error"
    elif call.parsed_ok is False:
        result = "parse_failed"
    elif call.validated_ok is False:
        result = "validation_failed"
    labels = _with(ended.labels, semconv.PROMPT_OUTCOME, result)
    record(semconv.PROMPT_RESULTS, 1, labels, ended.context)


def _with(labels: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    return {**labels, key: value}
