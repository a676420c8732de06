"""What a call costs: rates, and the arithmetic over them.

Owns cost, rates and the choice of the rates that hold for one call. Which models exist and what
they cost stands in the table (`price_table`). It counts no tokens and emits nothing; a model that
the table does not know has no cost, which is not the same as a cost of 0.

Rates that are missing: reasoning costs what output costs, and image tokens what text tokens cost,
since every provider counts them so unless its list names them apart. `rules` of the table name what
a provider documents (Anthropic's cache factors). Any other missing rate is `unknown_rate`, as soon
as tokens of that kind were used; so is a service tier that the entry does not list. Where cached
and audio or image tokens overlap, which providers do not tell, text counts as cached first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import date, datetime, time, timezone
from decimal import ROUND_HALF_EVEN, Context, Decimal
from pathlib import Path
from typing import Any, Final

from otel_empathy.core import price_table
from otel_empathy.core.clock import SYSTEM, Clock
from otel_empathy.core.price_table import RATES, Entry, Table
from otel_empathy.core.usage import Usage

__all__ = ["Cost", "Prices", "Rates"]

_MATH: Final = Context(prec=60, rounding=ROUND_HALF_EVEN)
_PLACES: Final = Decimal("1e-9")
_MILLIONTH: Final = Decimal("1e-6")
_ZERO: Final = Decimal(0)
_STANDARD: Final = frozenset({None, "", "auto", "default", "on_demand", "standard"})
_CACHE: Final = 4096
_DAY: Final = 86_400 * 10**9
_FOREVER: Final = 1 << 63


@dataclass(frozen=True, slots=True)
class Cost:
    """Money for one call, or the reason why nobody can say.

    Args:
        amount: Rounded to nine places; None when unknown.
        currency: ISO 4217.
        source: `local`, or `provider` when the reply stated the amount.
        price_version: The table that was asked.
        price_key: The entry that was used.
        reason: `unknown_model`, `unknown_rate`, `no_usage`, ... when there is no amount.
    """

    amount: Decimal | None = None
    currency: str | None = None
    source: str | None = None
    price_version: str | None = None
    price_key: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What a model costs per million tokens, at one time and for one size of request.

    A rate is None when nobody documents it. `request` is per request.
    """

    key: str
    currency: str
    input: Decimal | None = None
    output: Decimal | None = None
    cache_read: Decimal | None = None
    cache_write: Decimal | None = None
    cache_write_1h: Decimal | None = None
    reasoning: Decimal | None = None
    audio_input: Decimal | None = None
    audio_output: Decimal | None = None
    audio_cache_read: Decimal | None = None
    image_input: Decimal | None = None
    image_output: Decimal | None = None
    image_cache_read: Decimal | None = None
    request: Decimal | None = None

    def amount(self, usage: Usage) -> Decimal | None:
        """The unrounded money for this usage; None when a rate that it needs is missing."""
        total = self.request or _ZERO
        for count, rate in self._parts(usage):
            if count <= 0:
                continue
            if rate is None:
                return None
            total = _MATH.add(total, _MATH.multiply(_MATH.multiply(rate, _MILLIONTH), count))
        return total

    def _parts(self, usage: Usage) -> Iterator[tuple[int, Decimal | None]]:
        read = usage.cache_read or 0
        hour = usage.cache_write_1h or 0
        write = max(usage.cache_write or 0, hour)
        audio, image = usage.audio_input or 0, usage.image_input or 0
        text = max((usage.input or 0) - audio - image, 0)
        # Cached tokens are taken from text, then image, then audio: nobody reports the split.
        text_read = min(read, text)
        text_write = min(write, text - text_read)
        image_read = min(read - text_read, image)
        audio_read = min(read - text_read - image_read, audio)
        yield text - text_read - text_write, self.input
        yield text_read, self.cache_read
        yield write - hour, self.cache_write
        yield hour, self.cache_write_1h
        if image:
            yield image - image_read, self.image_input
            yield image_read, self.image_cache_read
        if audio:
            yield audio - audio_read, self.audio_input
            yield audio_read, self.audio_cache_read
        apart = (usage.reasoning or 0, usage.audio_output or 0, usage.image_output or 0)
        yield (usage.output or 0) - sum(apart), self.output
        if any(apart):
            rates = (self.reasoning, self.audio_output, self.image_output)
            yield from zip(apart, rates, strict=True)


# A rate that is missing -> the rate that stands in for it with every provider.
_SAME: Final = {
    "reasoning": "output",
    "image_input": "input",
    "image_output": "output",
    "image_cache_read": "cache_read",
}


@dataclass(frozen=True, slots=True)
class _Tariff:
    """The rates of one entry while they hold, by size of the request, ascending.

    There are none for a service tier that the entry does not list.
    """

    key: str
    steps: tuple[tuple[int, Rates], ...]
    since: int
    until: int

    def rates(self, input_tokens: int) -> Rates | None:
        found = None
        for start, rates in self.steps:
            if found is not None and input_tokens <= start:
                break
            found = rates
        return found


_UNASKED: Final = _Tariff(key="", steps=(), since=_FOREVER, until=-_FOREVER)


class Prices:
    """The price table in use: bundled, with the user's entries over it.

        prices = Prices.bundled().override({"demo/small": {"input": "0.15", "output": "0.60"}})
        prices.cost("demo", "small", Usage(input=1_000, output=200)).amount

    Safe to share between threads.
    """

    __slots__ = ("_cache", "_clock", "_own", "_table", "_version")

    def __init__(self, own: Mapping[str, Any] | None = None, *, clock: Clock = SYSTEM) -> None:
        self._own = own
        self._clock = clock
        self._table: Table | None = None
        self._version = ""
        self._cache: dict[tuple[str | None, str, str | None], _Tariff | None] = {}

    @classmethod
    def bundled(
        cls, override: Path | Mapping[str, Any] | None = None, *, clock: Clock = SYSTEM
    ) -> Prices:
        """The bundled table, with the entries of a file, or of what a file holds, over it.

        Raises:
            SettingError: The file cannot be read or an entry of it cannot be used.
        """
        if override is None:
            return cls(clock=clock)
        if isinstance(override, Mapping):
            # A copy, since the table is made when it is first asked.
            return cls(price_table.checked(deepcopy(dict(override)), where="prices"), clock=clock)
        return cls(price_table.read(override), clock=clock)

    def override(self, rates_by_key: Mapping[str, Any]) -> Prices:
        """A table with these entries, by `provider/model`, over the ones of this table.

        Raises:
            SettingError: An entry cannot be used.
        """
        content = price_table.checked({"models": rates_by_key}, where="the price override")
        return Prices(price_table.merged(self._own or {}, content), clock=self._clock)

    @property
    def version(self) -> str:
        """Date and content of the table; `+user` when entries of the user are in it."""
        if not self._version:
            table = self._loaded()
            user = "" if self._own is None else "+user"
            self._version = f"{table.date}+{table.digest}{user}"
        return self._version

    def cost(
        self,
        provider: str | None,
        model: str | None,
        usage: Usage,
        *,
        at_ns: int | None = None,
        service_tier: str | None = None,
    ) -> Cost:
        """The money for one call; the time of the call decides about dated rates."""
        if usage.input is None:
            return Cost(price_version=self.version, reason="no_usage")
        tariff = self._tariff(provider, model, at_ns, service_tier)
        if tariff is None:
            return Cost(price_version=self.version, reason="unknown_model")
        rates = tariff.rates(usage.input)
        if rates is not None and rates.output and usage.output is None:
            return Cost(price_version=self.version, price_key=tariff.key, reason="no_usage")
        amount = None if rates is None else rates.amount(usage)
        if rates is None or amount is None:
            return Cost(price_version=self.version, price_key=tariff.key, reason="unknown_rate")
        return Cost(
            amount=amount.quantize(_PLACES, context=_MATH),
            currency=rates.currency,
            source="local",
            price_version=self.version,
            price_key=rates.key,
        )

    def rates(
        self,
        provider: str | None,
        model: str | None,
        *,
        at_ns: int | None = None,
        service_tier: str | None = None,
        input_tokens: int = 0,
    ) -> Rates | None:
        """The rates of a model for a request of that size; None when nobody lists them."""
        tariff = self._tariff(provider, model, at_ns, service_tier)
        return None if tariff is None else tariff.rates(input_tokens)

    def _tariff(
        self, provider: str | None, model: str | None, at_ns: int | None, service_tier: str | None
    ) -> _Tariff | None:
        if not model:
            return None
        at = self._clock.time_ns() if at_ns is None else at_ns
        key = (provider, model, service_tier)
        known = self._cache.get(key, _UNASKED)
        if known is None or known.since <= at < known.until:
            return known
        found = self._resolved(provider, model, at, service_tier)
        if len(self._cache) >= _CACHE:
            self._cache.clear()  # names come from outside; a cache that only grows is a leak
        self._cache[key] = found
        return found

    def _resolved(
        self, provider: str | None, model: str, at: int, service_tier: str | None
    ) -> _Tariff | None:
        table = self._loaded()
        found = table.find(provider, model)
        if found is None:
            return None
        ours, name = found
        entry = table.models[ours][name]
        rates, marks = _current(entry, at)
        tier = service_tier.lower() if service_tier else service_tier
        if tier not in _STANDARD:
            changes = _listed(entry.get("service", {}).get(tier))
            marks += [_start(change) for change in changes if "from" in change]
            holding = [change for change in changes if _holds(change, at)]
            rates = _changed(rates, holding) if holding else {}
        for rule in table.rules:
            if rule["provider"] == ours:
                rates = _ruled(rates, rule)
        for missing, base in _SAME.items():
            if missing not in rates and base in rates:
                rates[missing] = rates[base]
        key = f"{ours}/{name}"
        currency = entry.get("currency", table.currency)
        return _Tariff(
            key=key,
            steps=_steps(rates, key=key, currency=currency) if rates else (),
            since=max((m for m in marks if m <= at), default=-_FOREVER),
            until=min((m for m in marks if m > at), default=_FOREVER),
        )

    def _loaded(self) -> Table:
        table = self._table
        if table is None:
            own = self._own
            table = price_table.bundled() if own is None else price_table.overlaid(own)
            self._table = table
        return table


# -- rates ----------------------------------------------------------------------------------------

_Raw = dict[str, list[Any]]  # rate -> [base, [tokens, rate], ...], all decimals


def _raw(entry: Entry) -> _Raw:
    found: _Raw = {}
    for name in RATES:
        value = entry.get(name)
        if value is not None:
            base, *steps = value if isinstance(value, list | tuple) else [value]
            found[name] = [Decimal(str(base)), *([at, Decimal(str(rate))] for at, rate in steps)]
    return found


def _times(value: Sequence[Any], factor: Decimal) -> list[Any]:
    base, *steps = value
    return [_MATH.multiply(base, factor), *([at, _MATH.multiply(r, factor)] for at, r in steps)]


def _changed(rates: _Raw, changes: Sequence[Entry]) -> _Raw:
    """The rates of a service tier: the first change that names a rate decides about it."""
    found = dict(rates)
    for change in reversed(changes):
        if "factor" in change:
            factor = Decimal(str(change["factor"]))
            found.update({name: _times(value, factor) for name, value in rates.items()})
        found.update(_raw(change))
    return found


def _ruled(rates: _Raw, rule: Mapping[str, Any]) -> _Raw:
    found = dict(rates)
    for name in RATES:
        if name in rule and name not in found:
            base, factor = rule[name]
            if base in found:
                found[name] = _times(found[base], Decimal(factor))
    return found


def _steps(rates: _Raw, *, key: str, currency: str) -> tuple[tuple[int, Rates], ...]:
    starts = sorted({step[0] for value in rates.values() for step in value[1:]})
    found = []
    for start in (0, *starts):
        at = {
            name: next((r for s, r in reversed(value[1:]) if start >= s), value[0])
            for name, value in rates.items()
        }
        found.append((start, Rates(key=key, currency=currency, **at)))
    return tuple(found)


# -- time -----------------------------------------------------------------------------------------


def _listed(value: Any) -> Sequence[Entry]:
    if value is None:
        return ()
    return (value,) if isinstance(value, Mapping) else tuple(value)


def _start(period: Entry) -> int:
    day = date.fromisoformat(period["from"])
    return int(datetime.combine(day, time(), tzinfo=timezone.utc).timestamp()) * 10**9


def _hours(period: Entry) -> tuple[int, int]:
    first, last = (time.fromisoformat(text) for text in period["hours"])
    minute = 60 * 10**9
    return (first.hour * 60 + first.minute) * minute, (last.hour * 60 + last.minute) * minute


def _holds(period: Entry, at: int) -> bool:
    if "from" in period and at < _start(period):
        return False
    if "hours" in period:
        first, last = _hours(period)
        now = at % _DAY
        return first <= now < last if first <= last else now >= first or now < last
    return True


def _current(entry: Entry, at: int) -> tuple[_Raw, list[int]]:
    """The rates that hold at a time, and the times around it at which that may change."""
    marks: list[int] = []
    chosen = entry
    for period in entry.get("later", ()):
        if "from" in period:
            marks.append(_start(period))
        if "hours" in period:
            midnight = at - at % _DAY
            marks += [midnight, *(midnight + t for t in _hours(period)), midnight + _DAY]
        if _holds(period, at):
            chosen = period
    return _raw(chosen), marks
