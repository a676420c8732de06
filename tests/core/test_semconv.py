from __future__ import annotations

import ast
from pathlib import Path

import pytest

from otel_empathy.core import semconv

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [
    path
    for folder in ("otel_empathy", "instrumentation")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if path.name != "semconv.py"
]


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_names_are_spelled_in_one_module(path: Path) -> None:
    tree = ast.parse(path.read_text())
    documentation = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in documentation:
            value = node.value
            if isinstance(value, bytes):
                value = value.decode("utf-8", "replace")
            if isinstance(value, str):
                assert not value.startswith(("gen_ai.", "empathy.")), f"{path}:{node.lineno}"


def test_a_name_stands_once() -> None:
    values: dict[str, str] = {}
    for name, value in vars(semconv).items():
        if name.isupper() and isinstance(value, str) and "." in value and "//" not in value:
            assert value not in values, f"{name} and {values.get(value)} are both {value}"
            values[value] = name


def test_standard_names_are_those_of_the_conventions_while_these_know_them() -> None:
    from opentelemetry.semconv._incubating.attributes import gen_ai_attributes as official

    known = {v for k, v in vars(official).items() if k.isupper() and isinstance(v, str)}
    ours = {
        v
        for k, v in vars(semconv).items()
        if k.isupper() and isinstance(v, str) and v.startswith("gen_ai.") and v != "gen_ai."
    }
    # Newer than the installed package, or metric and event names, or of the open cost proposal.
    newer = {name for name in ours - known if not name.startswith("gen_ai.usage.cost.")}
    assert "gen_ai.provider.name" in known & ours
    assert newer <= {
        "gen_ai.agent.version", "gen_ai.client.inference.operation.details",
        "gen_ai.client.operation.exception", "gen_ai.evaluation.result",
        "gen_ai.conversation.compacted",
        "gen_ai.output.messages", "gen_ai.prompt.variable.", "gen_ai.prompt.version",
        "gen_ai.request.previous_response.id", "gen_ai.request.reasoning.level",
        "gen_ai.request.stream", "gen_ai.response.time_to_first_chunk",
        "gen_ai.retrieval.top_k", "gen_ai.token.modality",
        "gen_ai.usage.audio.input_tokens", "gen_ai.usage.audio.output_tokens",
        "gen_ai.usage.cache_write.input_tokens", "gen_ai.usage.image.input_tokens",
        "gen_ai.usage.image.output_tokens", "gen_ai.usage.reasoning.output_tokens",
        "gen_ai.usage.text.input_tokens", "gen_ai.usage.text.output_tokens",
        "gen_ai.workflow.name",
    }, newer  # fmt: skip


@pytest.mark.parametrize("row", semconv.METRICS, ids=lambda row: row.name)
def test_an_instrument_has_a_description_a_unit_and_no_id(row: semconv.Metric) -> None:
    assert row.description.endswith(".")
    assert row.unit
    assert not row.name.endswith("_total")
    assert bool(row.buckets) == (row.kind == "histogram")
    assert list(row.buckets) == sorted(row.buckets)
    identities = {semconv.RUN_ID, semconv.SESSION_ID, semconv.USER_HASH, semconv.CONVERSATION_ID}
    assert not identities & set(row.attributes)


def test_no_name_is_the_namespace_of_a_metric_or_event_of_another_kind() -> None:
    metrics = {row.name for row in semconv.METRICS}
    events = {v for k, v in vars(semconv).items() if k.startswith("EVENT_")}
    assert metrics & events == set()
