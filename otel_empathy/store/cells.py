"""Cells: what the calls of a window add up to, by provider, model, tier and workflow.

Usage, savings and comparisons are answered from cells, because they stay few however many calls
there are. Sums of money are exact to the ninth place; durations are kept in classes that differ by
less than 0.1 %. What the sums mean is for the views.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from math import ceil
from typing import Any, Final

from otel_empathy.store import calls, wire
from otel_empathy.store.calls import (
    FAILED,
    MOST_MONEY,
    OPERATIONS,
    Amount,
    CacheHit,
    CacheRead,
    Call,
    Currency,
    Decoder,
    GenaiAmount,
    GenaiCurrency,
    Input,
    OldInput,
    OldOutput,
    OldProvider,
    Operation,
    Output,
    Provider,
    RequestModel,
    ResponseModel,
    Tier,
    User,
    Workflow,
    amount,
    whole,
)  # fmt: skip
from otel_empathy.store.reader import Progress, Reader
from otel_empathy.store.window import Window

__all__ = ["OTHER", "Cell", "Cells", "Durations", "add_up", "summed"]

OTHER: Final = "_other"

_MOST: Final = 20_000
_NANO: Final = Decimal("1e-9")
_EXACT: Final = 50_000
_BITS: Final = 10  # leading bits of a duration that are kept
_KINDS: Final = (
    Operation, Provider, RequestModel, ResponseModel, Tier, Workflow, Currency, GenaiCurrency,
    Amount, GenaiAmount, CacheHit, Input, Output, CacheRead,
    OldProvider, OldInput, OldOutput,
)  # fmt: skip

# Places in the list that a cell is while it is added up: attributes would cost a fifth more.
_CALLS, _ERRORS, _HITS, _PRICED, _MONEY, _INPUT, _OUTPUT, _CACHED = range(8)

_Key = tuple[str | None, ...]
_REST: Final[_Key] = (OTHER, OTHER, OTHER, OTHER, None, OTHER)


@dataclass(frozen=True, slots=True)
class Cell:
    """The sums of calls that share provider, model, tier, workflow, currency and perhaps user.

    Args:
        priced: Calls whose cost is known, those that a local cache answered included.
        hits: Calls that a local response cache answered.
        cached: Input tokens that came from the provider's cache.
    """

    provider: str | None
    model: str | None
    tier: str | None
    workflow: str | None
    currency: str | None
    user: str | None
    calls: int
    errors: int
    hits: int
    priced: int
    cost: Decimal
    input: int
    output: int
    cached: int


class Durations:
    """How long calls took: exact for the first 50,000, then in classes 0.2 % wide.

    So that their memory does not grow with the calls.
    """

    __slots__ = ("_classes", "recent")

    def __init__(self) -> None:
        self.recent: list[int] = []
        self._classes: dict[int, int] = {}

    def classify(self) -> None:
        """Move the exact values into their classes."""
        classes = self._classes
        for took in self.recent:
            shift = max(took.bit_length() - _BITS, 0)
            # The middle of the class stands for it.
            middle = (took >> shift << shift) + (1 << shift >> 1)
            classes[middle] = classes.get(middle, 0) + 1
        self.recent.clear()

    def quantile(self, share: float) -> float | None:
        """The duration in seconds that this share of the calls did not exceed."""
        if not self._classes:
            exact = sorted(self.recent)
            return exact[max(ceil(share * len(exact)) - 1, 0)] / 1e9 if exact else None
        self.classify()
        rank = ceil(share * sum(self._classes.values()))
        for middle in sorted(self._classes):
            rank -= self._classes[middle]
            if rank <= 0:
                return middle / 1e9
        return None


@dataclass(frozen=True, slots=True)
class Cells:
    """All cells of a window, and how long its calls took.

    Beyond 20,000 combinations the rest is one cell whose names are `_other`.
    """

    cells: list[Cell]
    durations: Durations


def add_up(
    reader: Reader, window: Window, *, by_user: bool = False, progress: Progress | None = None
) -> Cells:
    """Read the calls of a window and add them up."""
    scan = reader.scan("traces", after=window.after, progress=progress)
    seen = calls.Seen() if scan.may_repeat else None
    # The last one is the user, or a second look at the operation where nobody asks for users.
    decode = Decoder((*_KINDS, User if by_user else Operation), ids=seen is not None)
    sums: dict[_Key, list[int]] = {}
    durations = Durations()
    for groups in wire.decoded(scan, scan, decode):
        for _, spans in groups:
            _add(spans, decode.row, window.bounds, sums, durations, seen)
        if len(durations.recent) >= _EXACT:
            durations.classify()
    return Cells([_cell(key, cell) for key, cell in sums.items()], durations)


def summed(found: Iterable[Call], *, by_user: bool = False) -> Cells:
    """Add up calls that are needed whole anyway; slower than `add_up`, and the same sums."""
    sums: dict[_Key, list[int]] = {}
    durations = Durations()
    for call in found:
        user = call.user if by_user else None
        key = (call.provider, call.model, call.tier, call.workflow, call.currency, user)
        cell = sums.get(key)
        if cell is None:
            cell = sums.setdefault(key if len(sums) < _MOST else _REST, [0] * 8)
        cell[_CALLS] += 1
        cell[_ERRORS] += not call.success
        cell[_HITS] += call.cache_hit
        if call.cost is not None:
            cell[_PRICED] += 1
            cell[_MONEY] += round(call.cost / _NANO)
        cell[_INPUT] += call.input or 0
        cell[_OUTPUT] += call.output or 0
        cell[_CACHED] += call.cache_read or 0
        if call.duration is not None:
            durations.recent.append(round(call.duration * 1e9))
            if len(durations.recent) >= _EXACT:
                durations.classify()
    return Cells([_cell(key, cell) for key, cell in sums.items()], durations)


def _add(  # noqa: C901, PLR0912 - see below
    spans: Iterable[Any],
    row: Callable[[list[Any]], tuple[Any, ...]],
    bounds: tuple[int, int],
    sums: dict[_Key, list[int]],
    durations: Durations,
    seen: calls.Seen | None,
) -> None:
    """Add spans to the sums.

    A report over a million calls spends its time in this loop: hence one function that calls
    almost none and makes no record of a span.
    """
    after, until = bounds
    for span in spans:
        start = span.start
        if not after < start <= until:
            continue
        (
            operation, provider, model, response_model, tier, workflow, currency, genai_currency,
            money, genai_money, cache_hit, input_, output, cache_read, old_provider, old_input,
            old_output, user,
        ) = row(span.attributes)  # fmt: skip
        if operation.value.text not in OPERATIONS:
            continue
        if seen is not None and seen.before(span.trace_id, span.span_id):
            continue
        key = (
            provider.value.text or old_provider.value.text,
            model.value.text or response_model.value.text,
            tier.value.text,
            workflow.value.text,
            currency.value.text or genai_currency.value.text,
            None if user is operation else user.value.text,
        )
        cell = sums.get(key)
        if cell is None:
            cell = sums.setdefault(key if len(sums) < _MOST else _REST, [0] * 8)
        cell[_CALLS] += 1
        if (status := span.status) is not None and status.code in FAILED:
            cell[_ERRORS] += 1
        cost = money.value.number
        if cost is None or not -MOST_MONEY < cost < MOST_MONEY:
            cost = amount(money.value)
            if cost is None:
                cost = amount(genai_money.value)
        if cost is not None:
            cell[_PRICED] += 1
            cell[_MONEY] += round(cost * 1e9)
        elif cache_hit.value.flag is True:
            cell[_PRICED] += 1  # nothing was asked of the provider
        if cache_hit.value.flag is True:
            cell[_HITS] += 1
        number = input_.value.whole
        if not number or number < 0:
            number = whole(input_.value)
            number = whole(old_input.value) if number is None else number
        cell[_INPUT] += number or 0
        number = output.value.whole
        if not number or number < 0:
            number = whole(output.value)
            number = whole(old_output.value) if number is None else number
        cell[_OUTPUT] += number or 0
        number = cache_read.value.whole
        cell[_CACHED] += number if number and number > 0 else whole(cache_read.value) or 0
        took = span.end - start
        if took >= 0:
            durations.recent.append(took)


def _cell(key: _Key, sums: list[int]) -> Cell:
    provider, model, tier, workflow, currency, user = key
    return Cell(
        provider=provider,
        model=model,
        tier=tier,
        workflow=workflow,
        currency=currency,
        user=user,
        calls=sums[_CALLS],
        errors=sums[_ERRORS],
        hits=sums[_HITS],
        priced=sums[_PRICED],
        cost=sums[_MONEY] * _NANO,
        input=sums[_INPUT],
        output=sums[_OUTPUT],
        cached=sums[_CACHED],
    )
