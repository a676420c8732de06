"""Regenerates otel_empathy/core/prices.json and prices.LICENSE from the package genai-prices.

    python .ci/refresh_prices.py [--version 0.2.3] [--date 2026-11-20]

The package (MIT) goes into a throw-away virtual environment; this script then runs itself in there,
translates the table, and compares each model's price for one request with what the package itself
answers. The date of the table stays when nothing but the date would change.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import shutil
import subprocess
import sys
import tempfile
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "otel_empathy" / "core" / "prices.json"
LICENSE = TABLE.with_name("prices.LICENSE")

# Provider of the source -> our spelling (`gen_ai.provider.name`) and the other spellings in use.
PROVIDERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "aws": ("aws.bedrock", ("aws", "aws_bedrock", "bedrock", "bedrock_converse", "amazon_bedrock")),
    "azure": (
        "azure.ai.openai",
        ("azure", "azure_ai", "azure_openai", "azure.ai.inference", "az.ai.openai"),
    ),
    "google": (
        "gcp.gemini",
        (
            "gcp.vertex_ai",
            "gcp.gen_ai",
            "google",
            "google_genai",
            "gemini",
            "vertex_ai",
            "vertexai",
        ),
    ),
    "mistral": ("mistral_ai", ("mistral", "mistralai")),
    "moonshotai": ("moonshot_ai", ("moonshot", "moonshotai")),
    "together": ("together_ai", ("together", "togetherai")),
    "x-ai": ("x_ai", ("xai",)),
    "cohere": ("cohere", ("cohere_chat",)),
    "fireworks": ("fireworks", ("fireworks_ai",)),
    "voyageai": ("voyageai", ("voyage", "voyage_ai")),
}

# Rate of the source (USD per million tokens) -> our rate.
RATES = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cache_read",
    "cache_write_mtok": "cache_write",
    "cache_write_1h_mtok": "cache_write_1h",
    "output_reasoning_mtok": "reasoning",
    "input_audio_mtok": "audio_input",
    "output_audio_mtok": "audio_output",
    "cache_audio_read_mtok": "audio_cache_read",
    "input_image_mtok": "image_input",
    "output_image_mtok": "image_output",
    "cache_image_read_mtok": "image_cache_read",
}

# Documented rules of providers, for rates that the source does not list: rate -> [base, factor].
RULES = [
    {
        "name": "Anthropic prompt caching: read 0.1, 5 minute write 1.25, 1 hour write 2 x input",
        "url": "https://platform.claude.com/docs/en/build-with-claude/prompt-caching#pricing",
        "provider": "anthropic",
        "cache_read": ["input", "0.1"],
        "cache_write": ["input", "1.25"],
        "cache_write_1h": ["input", "2"],
    },
    {
        "name": "Gemini audio costs what text costs unless the price list names it apart",
        "url": "https://ai.google.dev/gemini-api/docs/pricing",
        "provider": "gcp.gemini",
        "audio_input": ["input", "1"],
        "audio_output": ["output", "1"],
        "audio_cache_read": ["cache_read", "1"],
    },
]

OPERATORS = {
    "ClauseEquals": ("=", "equals"),
    "ClauseStartsWith": ("^", "starts_with"),
    "ClauseEndsWith": ("$", "ends_with"),
    "ClauseContains": ("*", "contains"),
    "ClauseRegex": ("~", "regex"),
}


def provider_name(source_id: str) -> str:
    """Our spelling of a provider of the source."""
    return PROVIDERS.get(source_id, (source_id.replace("-", "_"), ()))[0]


def decimal_text(value: Decimal) -> str:
    """A decimal in plain digits without trailing zeros."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def match_rules(clause: Any) -> list[Any]:
    """A matching clause of the source as our list of alternatives."""
    kind = type(clause).__name__
    if kind == "ClauseOr":
        return [rule for inner in clause.or_ for rule in match_rules(inner)]
    if kind == "ClauseAnd":
        return [["&", *(one_rule(inner) for inner in clause.and_)]]
    return [one_rule(clause)]


def one_rule(clause: Any) -> Any:
    """A clause as a single rule; alternatives inside a conjunction become a list of their own."""
    operator = OPERATORS.get(type(clause).__name__)
    if operator is None:
        rules = match_rules(clause)
        return rules[0] if len(rules) == 1 else ["|", *rules]
    sign, field = operator
    text = getattr(clause, field)
    return sign + (text if sign == "~" else text.lower())


def rates(price: Any) -> dict[str, Any]:
    """The token rates of one price of the source; its fees for tools and media are left out."""
    found: dict[str, Any] = {}
    for theirs, ours in RATES.items():
        value = getattr(price, theirs)
        if value is None:
            continue
        if isinstance(value, Decimal):
            found[ours] = decimal_text(value)
        else:
            steps = [[tier.start, decimal_text(tier.price)] for tier in value.tiers]
            found[ours] = [decimal_text(value.base), *steps]
    if price.requests_kcount is not None:
        found["request"] = decimal_text(price.requests_kcount / 1000)
    return found


def condition(constraint: Any) -> dict[str, Any]:
    """When a price holds: from a date on, or between two times of the day (UTC)."""
    if constraint is None:
        return {}
    if type(constraint).__name__ == "StartDateConstraint":
        return {"from": constraint.start_date.isoformat()}
    if constraint.start_time.utcoffset() or constraint.end_time.utcoffset():
        raise SystemExit(f"a time of day is not in UTC: {constraint}")
    return {"hours": [f"{t:%H:%M}" for t in (constraint.start_time, constraint.end_time)]}


def service_tier(when: dict[str, str]) -> str | None:
    """The service tier that a variant stands for; None for variants of another kind."""
    if when == {"processing": "batch"}:
        return "batch"
    if when == {"speed": "fast"}:
        return "fast"
    tier = when.get("service_tier")
    return tier if len(when) == 1 and tier != "default" else None


def entry(model: Any) -> dict[str, Any]:
    """One model of the source as an entry of our table."""
    found: dict[str, Any] = {}
    match = match_rules(model.match)
    if all(isinstance(rule, str) for rule in match):
        match = list(dict.fromkeys(match))
    if match != ["=" + model.id.lower()]:
        found["match"] = match
    if isinstance(model.prices, list):
        found.update(rates(model.prices[0].prices))
        found["later"] = [{**condition(p.constraint), **rates(p.prices)} for p in model.prices[1:]]
    else:
        found.update(rates(model.prices))
    services: dict[str, list[Any]] = {}
    for variant in model.price_variants or ():
        tier = service_tier(variant.when)
        if tier is not None and (changed := rates(variant.prices)):
            services.setdefault(tier, []).append({**condition(variant.constraint), **changed})
    if services:
        found["service"] = services
    return found


def table() -> dict[str, Any]:
    """The whole table of the installed package in our form, without its date."""
    source = importlib.import_module("genai_prices.data").providers
    providers: dict[str, Any] = {}
    models: dict[str, Any] = {}
    for provider in source:
        name = provider_name(provider.id)
        row: dict[str, Any] = {}
        names = {provider.id.replace("-", "_"), *PROVIDERS.get(provider.id, ("", ()))[1]} - {name}
        if names:
            row["names"] = sorted(names)
        if provider.model_match is not None:
            row["models"] = match_rules(provider.model_match)
        if provider.fallback_model_providers:
            row["fallback"] = [provider_name(other) for other in provider.fallback_model_providers]
        providers[name] = row
        for model in provider.models:
            key = f"{name}/{model.id.lower()}"
            if key in models:
                raise SystemExit(f"two models share the key {key}")
            models[key] = entry(model)
    version = importlib.metadata.version("genai-prices")
    return {
        "format": 1,
        "source": f"genai-prices {version} (MIT, see prices.LICENSE)",
        "currency": "USD",
        "rules": RULES,
        "providers": providers,
        "models": models,
    }


def text_of(content: dict[str, Any], *, date: str) -> str:
    """The file: one line per model, so that a refresh reads well as a diff."""
    head = {"date": date, **content}
    models = head.pop("models")
    lines = [f"{json.dumps(k)}:{json.dumps(v, separators=(',', ':'))}" for k, v in models.items()]
    members = [f"{json.dumps(k)}:{json.dumps(v, separators=(',', ':'))}" for k, v in head.items()]
    return "{" + ",\n".join(members) + ',\n"models":{\n' + ",\n".join(lines) + "\n}}\n"


def check() -> int:
    """Compare one request to each model with the package's own answer; return the differences."""
    sys.path.insert(0, str(ROOT))
    prices = importlib.import_module("otel_empathy.core.prices").Prices.bundled()
    usage_type = importlib.import_module("otel_empathy.core.usage").Usage
    theirs = importlib.import_module("genai_prices.types")
    differences = 0
    at = datetime.now(tz=timezone.utc)
    for provider in importlib.import_module("genai_prices.data").providers:
        for model in provider.models:
            price = model.get_prices(at)
            if price.input_mtok is None or price.output_mtok is None:
                continue
            for size in (1_000, 1_000_000):
                counts = {"input_tokens": size, "output_tokens": 500}
                usage = {"input": size, "output": 500}
                if price.cache_read_mtok is not None:
                    counts["cache_read_tokens"] = usage["cache_read"] = 100
                kept = {k: v for k, v in vars(price).items() if k in RATES and v is not None}
                if price.requests_kcount is not None:
                    kept["requests_kcount"] = price.requests_kcount
                expected = theirs.ModelPrice(**kept).calc_price(theirs.Usage(**counts))
                name = first_exact(provider, model)
                if name is None:
                    continue
                ours = prices.cost(
                    provider_name(provider.id),
                    name,
                    usage_type(**usage),
                    at_ns=int(at.timestamp() * 1e9),
                )
                amount = round(expected["total_price"], 9)
                if ours.amount != amount:
                    differences += 1
                    print(f"differs: {provider.id}/{name}: {ours} is not {amount}")
    return differences


def first_exact(provider: Any, model: Any) -> str | None:
    """A name that the source itself resolves to this model."""
    literals = [rule[1:] for rule in match_rules(model.match) if isinstance(rule, str)]
    return next((n for n in (model.id, *literals) if provider.find_model(n) is model), None)


def inside(date: str | None) -> None:
    """The part that runs where the package is installed."""
    content = table()
    old = json.loads(TABLE.read_text()) if TABLE.exists() else {}
    kept = old.pop("date", None)
    today = date or datetime.now(tz=timezone.utc).date().isoformat()
    same = date is None and kept is not None and old == json.loads(json.dumps(content))
    TABLE.write_text(text_of(content, date=kept if same else today))
    files = importlib.metadata.files("genai-prices") or []
    notice = next(f for f in files if f.name == "LICENSE").read_text()
    LICENSE.write_text(
        "prices.json is derived from the price table of genai-prices\n"
        "(https://github.com/pydantic/genai-prices), under this licence:\n\n" + notice
    )
    print(f"{len(content['models'])} models, {TABLE.stat().st_size} bytes")
    if differences := check():
        raise SystemExit(f"{differences} prices differ from the source")


def main() -> None:
    """Make the environment, then run `inside` in it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--version", help="of genai-prices; the newest by default")
    parser.add_argument("--date", help="of the table; today by default")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        inside(arguments.date)
        return
    package = "genai-prices" + (f"=={arguments.version}" if arguments.version else "")
    with tempfile.TemporaryDirectory() as folder:
        python = str(Path(folder) / "bin" / "python")
        if uv := shutil.which("uv"):
            subprocess.run([uv, "venv", "--quiet", "--allow-existing", folder], check=True)
            subprocess.run(
                [uv, "pip", "install", "--quiet", "--python", python, package], check=True
            )
        else:
            subprocess.run([sys.executable, "-m", "venv", folder], check=True)
            subprocess.run([python, "-m", "pip", "install", "--quiet", package], check=True)
        date = ["--date", arguments.date] if arguments.date else []
        subprocess.run([python, str(Path(__file__)), "--inside", *date], check=True)


if __name__ == "__main__":
    main()
