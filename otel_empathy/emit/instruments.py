"""Measurements by the rows of `core.semconv`: each row is an instrument of the API on first use.

A row says which attributes its points may carry; everything else is left off here, so that no id
ever becomes a label. Open label values are capped at 256 characters each and 100 per process and
attribute, series at 2,000 per instrument. Nothing here knows when a measurement is due.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

from opentelemetry.context import Context
from opentelemetry.metrics import Meter

from otel_empathy.core import semconv
from otel_empathy.core.semconv import Metric
from otel_empathy.emit.live import live
from otel_empathy.emit.safety import guarded

__all__ = ["OTHER", "forget", "overflows", "record"]

OTHER: Final = "_other"
_VALUES: Final = 100
_SERIES: Final = 2_000
_LONGEST: Final = 256
_OVERFLOW: Final[dict[str, Any]] = {semconv.METRIC_OVERFLOW: True}
# Names that people and providers choose. All other labels are closed sets.
_CAPPED: Final = frozenset(
    {
        semconv.AGENT_NAME,
        semconv.CALL_CACHE_TYPE,
        semconv.ERROR_TYPE,
        semconv.EVALUATION_NAME,
        semconv.OPENAI_RESPONSE_TIER,
        semconv.PHASE_NAME,
        semconv.PROMPT_NAME,
        semconv.PROMPT_VERSION,
        semconv.PROVIDER,
        semconv.REQUEST_MODEL,
        semconv.RESPONSE_MODEL,
        semconv.SERVER_ADDRESS,
        semconv.TOOL_NAME,
        semconv.WORKFLOW_NAME,
    }
)

overflows: Final[Counter[str]] = Counter()
"""Label values and series that were folded, by instrument."""

_seen: Final[dict[str, set[Any]]] = {}


class _Instrument:
    """An instrument of the API with the label sets that were used."""

    __slots__ = ("labels", "meter", "names", "row", "take")

    def __init__(self, row: Metric, meter: Meter) -> None:
        self.row = row
        self.meter = meter
        self.names = row.attributes
        self.labels: dict[tuple[Any, ...], dict[str, Any]] = {}
        self.take: Callable[..., None] = _create(row, meter)

    def label(self, key: tuple[Any, ...]) -> dict[str, Any]:
        """The attributes of a series that was not used under these values before."""
        folded = tuple(
            [
                value if value is None or name not in _CAPPED else self._fold(name, value)
                for name, value in zip(self.names, map(_brief, key), strict=True)
            ]
        )
        labels = self.labels.get(folded)
        if labels is not None:
            return labels
        if len(self.labels) >= _SERIES:
            overflows[self.row.name] += 1
            return _OVERFLOW
        pairs = zip(self.names, folded, strict=True)
        labels = {name: value for name, value in pairs if value is not None}
        self.labels[folded] = labels
        return labels

    def _fold(self, name: str, value: Any) -> Any:
        seen = _seen.setdefault(name, set())
        if value in seen:
            return value
        if len(seen) >= _VALUES:
            overflows[self.row.name] += 1
            return OTHER
        seen.add(value)
        return value


_instruments: Final[dict[str, _Instrument]] = {}


@guarded("wrap")
def record(
    row: Metric, value: float, attributes: Mapping[str, Any], context: Context | None = None
) -> None:
    """Take one measurement.

    Args:
        row: Which instrument.
        value: The measured value.
        attributes: All that is known; the row picks what it may carry.
        context: Where the measurement belongs, for exemplars; the current context by default.
    """
    if not live.on:
        return
    instrument = _instruments.get(row.name)
    if instrument is None or instrument.meter is not live.meter:
        instrument = _instruments[row.name] = _Instrument(row, live.meter)
    get = attributes.get
    key = tuple([get(name) for name in instrument.names])
    labels = instrument.labels.get(key)
    if labels is None:
        labels = instrument.label(key)
    instrument.take(value, labels, context)


def forget() -> None:
    """Drop instruments, seen label values and counts."""
    _instruments.clear()
    _seen.clear()
    overflows.clear()


def _brief(value: Any) -> Any:
    if not isinstance(value, str) or len(value) <= _LONGEST:
        return value
    from otel_empathy.core.scrub import beginning  # noqa: PLC0415 - names are short

    return beginning(value, _LONGEST, live.scrub)


def _create(row: Metric, meter: Meter) -> Callable[..., None]:
    if row.kind == "histogram":
        return meter.create_histogram(
            row.name,
            row.unit,
            row.description,
            explicit_bucket_boundaries_advisory=row.buckets or None,
        ).record
    if row.kind == "counter":
        return meter.create_counter(row.name, row.unit, row.description).add
    if row.kind == "updown":
        return meter.create_up_down_counter(row.name, row.unit, row.description).add
    if row.kind == "gauge":
        return meter.create_gauge(row.name, row.unit, row.description).set
    raise ValueError(f"{row.name} is observed, not recorded")
