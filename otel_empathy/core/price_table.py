"""The table behind the prices: its file, the user's entries over it, and who is meant by a name.

Owns `prices.json` (dated, offline, read when first asked for), the form of an entry, the check of
what a user overrides, and the rules by which names meet entries. It computes no money.

Form of the table, of an override file and of `Prices.override` alike: entries by `provider/model`.

    {"models": {"openai/gpt-4o": {"input": "2.50", "output": "10", "cache_read": "1.25"}}}

- Rates are USD per million tokens: `input`, `output`, `cache_read`, `cache_write` (five minutes),
  `cache_write_1h`, `reasoning`, `audio_input`, `audio_output`, `audio_cache_read`, `image_input`,
  `image_output`, `image_cache_read`; and `request`, USD per request. A rate is a decimal in text or
  `[base, [tokens, rate], ...]`: a request with more input tokens than that is priced at that rate
  as a whole.
- `match`: the names that mean this model, first match in table order. `=` equal, `^` begins with,
  `$` ends with, `*` contains, `~` regular expression, `["&", ...]` all of, `["|", ...]` any of.
  Without it, the name of the entry alone.
- `later`: whole sets of rates, each with `from` (a UTC date) or `hours` (two UTC times of the day);
  the last one that holds at the time of the call is used.
- `service`: changes by service tier (`batch`, `flex`, `priority`, `fast`), each with rates of its
  own or `factor` (of all rates), and `from`; or a list of those, the first one wins per rate.
- `currency`: of this entry, when it is not USD.

An override file may also bring `date`, `providers` and `rules`, in the form of `prices.json`.
An entry of the user replaces the whole entry of that key, but keeps its `match` if it has none.

Names are tried as they are, without their path (`models/...`, an ARN, the provider itself), then
without their date (`-2024-08-06`, `-20250219`, `@20250219`), first at the provider, then at the
providers that the table names as its `fallback`: `azure.ai.openai` has entries of its own only
where the rates differ, all other models cost what `openai` (then `anthropic`, `deepseek`, ...)
lists. Without a provider the prefix of `provider/model` or the table's own name rules decide.
"""

from __future__ import annotations

import hashlib
import json
import pkgutil
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, time
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from otel_empathy.core.errors import SettingError

__all__ = ["RATES", "Entry", "Table", "bundled", "checked", "merged", "overlaid", "read"]

RATES: Final = (
    "input",
    "output",
    "cache_read",
    "cache_write",
    "cache_write_1h",
    "reasoning",
    "audio_input",
    "audio_output",
    "audio_cache_read",
    "image_input",
    "image_output",
    "image_cache_read",
    "request",
)
Entry = Mapping[str, Any]
_MOST: Final = 10**9
_DATED: Final = re.compile(r"[-@]20\d\d-?(?:0[1-9]|1[0-2])-?(?:0[1-9]|[12]\d|3[01])(?=$|[-:@])")


@dataclass(frozen=True, slots=True)
class Table:
    """Entries as read, by provider and name, in the order of the file."""

    date: str
    digest: str
    currency: str
    providers: Mapping[str, Mapping[str, Any]]
    names: Mapping[str, str]
    rules: Sequence[Mapping[str, Any]]
    models: Mapping[str, Mapping[str, Mapping[str, Any]]]

    @classmethod
    def of(cls, content: Mapping[str, Any], *, digest: str) -> Table:
        """The table of a content that is known to be sound."""
        providers: Mapping[str, Mapping[str, Any]] = content["providers"]
        names = {name: name for name in providers}
        for provider, row in providers.items():
            names.update(dict.fromkeys(row.get("names", ()), provider))
        models: dict[str, dict[str, Mapping[str, Any]]] = {}
        for key, entry in content["models"].items():
            provider, _, model = key.partition("/")
            models.setdefault(provider, {})[model] = entry
        return cls(
            date=content["date"],
            digest=digest,
            currency=content["currency"],
            providers=providers,
            names=names,
            rules=content["rules"],
            models=models,
        )

    def provider(self, name: str) -> str:
        """The spelling of a provider under which its entries stand."""
        name = name.strip().lower().replace("-", "_")
        return self.names.get(name, name)

    def candidates(self, provider: str | None, model: str) -> Iterator[tuple[str, str]]:
        """The pairs of provider and name under which a model may stand."""
        name = model.strip().lower()
        ours = None if provider is None else self.provider(provider)
        if (ours is None or ours not in self.models) and "/" in name:
            prefix, _, rest = name.partition("/")
            if self.provider(prefix) in self.models:
                ours, name = self.provider(prefix), rest
        if ours is None:
            ours = next((p for p, row in self.providers.items() if _matches(row, name)), None)
        if ours is None:
            return
        providers = (ours, *self.providers.get(ours, {}).get("fallback", ()))
        head, _, last = name.rpartition("/")
        own_path = head.startswith("arn:") or head.rpartition("/")[2] == "models"
        names = [name, last] if own_path or self.provider(head) in providers else [name]
        dated = (bare for bare, found in (_DATED.subn("", n) for n in names) if found)
        for spelled in (*names, *dated):
            for other in providers:
                yield other, spelled

    def find(self, provider: str | None, model: str) -> tuple[str, str] | None:
        """The entry that prices a model."""
        for ours, name in self.candidates(provider, model):
            for key, entry in self.models.get(ours, {}).items():
                if key == name if "match" not in entry else _any_rule(entry["match"], name):
                    return ours, key
        return None


# -- names ----------------------------------------------------------------------------------------


def _matches(provider: Mapping[str, Any], name: str) -> bool:
    return _any_rule(provider.get("models", ()), name)


def _any_rule(rules: Sequence[Any], name: str) -> bool:
    return any(_rule(rule, name) for rule in rules)


def _rule(rule: Any, name: str) -> bool:
    if not isinstance(rule, str):
        sign, *inner = rule
        return all(_rule(r, name) for r in inner) if sign == "&" else _any_rule(inner, name)
    sign, text = rule[0], rule[1:]
    if sign == "=":
        return name == text
    if sign == "^":
        return name.startswith(text)
    if sign == "*":
        return text in name
    if sign == "$":
        return name.endswith(text)
    return re.search(text, name) is not None


# -- reading --------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _content() -> tuple[dict[str, Any], str]:
    data = pkgutil.get_data(__package__ or "otel_empathy.core", "prices.json")
    assert data is not None  # the loader of a package that was imported always gives data
    return json.loads(data), hashlib.sha256(data).hexdigest()[:8]


@lru_cache(maxsize=1)
def bundled() -> Table:
    """The table of the package."""
    content, digest = _content()
    return Table.of(content, digest=digest)


def overlaid(own: Mapping[str, Any]) -> Table:
    """The bundled table with the user's content over it; the user's models are tried first."""
    content, digest = _content()
    base = bundled()
    providers = {**base.providers, **own.get("providers", {})}
    models: dict[str, Any] = {}
    for key, entry in own["models"].items():
        provider, _, name = key.partition("/")
        full = f"{base.provider(provider)}/{name.lower()}"
        kept = content["models"].get(full, {}).get("match")
        models[full] = entry if "match" in entry or kept is None else {**entry, "match": kept}
    for key, entry in content["models"].items():
        models.setdefault(key, entry)
    text = json.dumps(own, sort_keys=True, default=str)
    return Table.of(
        {
            "date": own.get("date", base.date),
            "currency": base.currency,
            "providers": providers,
            "rules": [*own.get("rules", ()), *base.rules],
            "models": models,
        },
        digest=hashlib.sha256(f"{digest} {text}".encode()).hexdigest()[:8],
    )


def merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Two overrides as one; the new entries win and are tried first."""
    kept = {key: value for key, value in old.get("models", {}).items() if key not in new["models"]}
    return {**old, **new, "models": {**new["models"], **kept}}


def read(path: Path) -> dict[str, Any]:
    """The checked content of an override file."""
    try:
        content = json.loads(path.read_bytes(), parse_float=Decimal)
    except OSError as error:
        raise SettingError(f"{path}: cannot be read ({error.strerror}); name a file") from error
    except (ValueError, RecursionError) as error:
        raise SettingError(f"{path}: is no JSON ({error}); write {{'models': {{...}}}}") from error
    return checked(content, where=str(path))


_MEMBERS: Final = ("currency", "date", "format", "models", "providers", "rules", "source")
_SIGNS: Final = "=^$*~"


def checked(content: Any, *, where: str) -> dict[str, Any]:
    """The content of an override, refused as a whole when one entry of it cannot be used."""
    if not isinstance(content, Mapping) or not isinstance(content.get("models"), Mapping):
        raise SettingError(f"{where}: needs an object 'models' with entries by 'provider/model'")
    if unknown := sorted(set(content) - set(_MEMBERS)):
        raise SettingError(f"{where}: {unknown[0]!r} is unknown; use {', '.join(_MEMBERS)}")
    for key, entry in content["models"].items():
        provider, slash, model = str(key).partition("/")
        if not (slash and provider and model):
            raise SettingError(f"{where}: entry {key!r} is not named 'provider/model'")
        _check_entry(entry, where=f"{where}: entry {key!r}")
        # A generated table lists models, too, that are not sold by the token.
        if "source" not in content and not set(entry) & {*RATES, "later"}:
            raise SettingError(f"{where}: entry {key!r} has no rate; give 'input' and 'output'")
    if content.get("currency", "USD") != "USD":
        raise SettingError(f"{where}: the table is in USD; give 'currency' in single entries")
    if "date" in content:
        _check_date(content["date"], where=f"{where}: 'date'")
    for provider, row in _mapping(content.get("providers", {}), f"{where}: 'providers'").items():
        _check_provider(row, where=f"{where}: provider {provider!r}")
    for rule in _items(content.get("rules", []), f"{where}: 'rules'"):
        _check_rule(rule, where=f"{where}: rule {rule!r}")
    return dict(content)


def _check_provider(row: Any, *, where: str) -> None:
    for member, values in _mapping(row, where).items():
        if member not in {"names", "models", "fallback"}:
            raise SettingError(f"{where}: {member!r} is unknown; use names, models, fallback")
        for value in _items(values, f"{where}: {member!r}"):
            if member != "models" and not isinstance(value, str):
                raise SettingError(f"{where}: {member!r} has {value!r}, which is no name")
        if member == "models":
            _check_match(values, where=f"{where}: {member!r}")


def _check_rule(rule: Any, *, where: str) -> None:
    if not isinstance(_mapping(rule, where).get("provider"), str):
        raise SettingError(f"{where} does not name its 'provider'")
    for name in set(rule) & set(RATES):
        pair = _items(rule[name], where)
        if len(pair) != 2 or pair[0] not in RATES:  # noqa: PLR2004 - a base and its factor
            raise SettingError(f"{where}: {name!r} is not [rate, factor]")
        _check_number(pair[1], where=f"{where}: {name!r}")


def _check_entry(entry: Any, *, where: str, inner: tuple[str, ...] = ()) -> None:
    allowed = (*RATES, *(inner or ("currency", "match", "later", "service")))
    for member, value in _mapping(entry, where).items():
        if member not in allowed:
            raise SettingError(f"{where}: {member!r} is unknown; use {', '.join(allowed)}")
        _CHECKS[member](value, where=f"{where}: {member!r}")


def _check_later(value: Any, *, where: str) -> None:
    for period in _items(value, where):
        _check_entry(period, where=where, inner=("from", "hours"))


def _check_service(value: Any, *, where: str) -> None:
    for tier, changes in _mapping(value, where).items():
        for change in [changes] if isinstance(changes, Mapping) else _items(changes, where):
            _check_entry(change, where=f"{where}: {tier!r}", inner=("from", "factor"))


def _check_rate(value: Any, *, where: str) -> None:
    base, *steps = value if isinstance(value, list | tuple) and value else [value]
    _check_number(base, where=where)
    last = 0
    for step in steps:
        pair = _items(step, where)
        if len(pair) != 2 or type(pair[0]) is not int or pair[0] <= last:  # noqa: PLR2004 - tokens and rate
            raise SettingError(f"{where}: {step!r} is not [tokens, rate] with ascending tokens")
        last = pair[0]
        _check_number(pair[1], where=where)


def _check_number(value: Any, *, where: str) -> None:
    if isinstance(value, str | int | float | Decimal) and not isinstance(value, bool):
        try:
            number = Decimal(str(value))
        except InvalidOperation:
            number = Decimal("NaN")
        if number.is_finite() and 0 <= number <= _MOST:
            return
    raise SettingError(f"{where} is {value!r}, not a decimal from 0 to {_MOST} such as '2.50'")


def _check_date(value: Any, *, where: str) -> None:
    try:
        date.fromisoformat(value)
    except (TypeError, ValueError) as error:
        raise SettingError(f"{where} is {value!r}, not a date such as '2026-01-31'") from error


def _check_hours(value: Any, *, where: str) -> None:
    try:
        first, last = (time.fromisoformat(text) for text in value)
    except (TypeError, ValueError) as error:
        raise SettingError(f"{where} is {value!r}, not two times such as '08:30'") from error
    if first.tzinfo or last.tzinfo:
        raise SettingError(f"{where} is {value!r}; give two times in UTC, without offset")


def _check_currency(value: Any, *, where: str) -> None:
    if not (isinstance(value, str) and re.fullmatch("[A-Z]{3}", value)):
        raise SettingError(f"{where} is {value!r}, not a code of ISO 4217 such as 'EUR'")


def _check_match(value: Any, *, where: str) -> None:
    for rule in _items(value, where):
        if isinstance(rule, list | tuple) and len(rule) > 1 and rule[0] in {"&", "|"}:
            _check_match(rule[1:], where=where)
            continue
        if not (isinstance(rule, str) and len(rule) > 1 and rule[0] in _SIGNS):
            raise SettingError(f"{where}: {rule!r} does not begin with one of {_SIGNS}")
        if rule[0] != "~" and rule != rule.lower():
            raise SettingError(f"{where}: {rule!r} is not in lower case, as names are compared")
        try:
            re.compile(rule[1:] if rule[0] == "~" else "")
        except re.error as error:
            raise SettingError(f"{where}: {rule!r} is no pattern ({error})") from error


_CHECKS: Final = {
    **dict.fromkeys(RATES, _check_rate),
    "currency": _check_currency,
    "match": _check_match,
    "later": _check_later,
    "service": _check_service,
    "factor": _check_number,
    "from": _check_date,
    "hours": _check_hours,
}


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise SettingError(f"{where} is {value!r}, not an object")
    return value


def _items(value: Any, where: str) -> Sequence[Any]:
    if not isinstance(value, list | tuple):
        raise SettingError(f"{where} is {value!r}, not a list")
    return value
