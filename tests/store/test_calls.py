from __future__ import annotations

import json
from decimal import Decimal

import pytest
from store.lines import DAY, NOW, SECOND, call, line, segment, span

from otel_empathy.core.usage import Usage
from otel_empathy.store.calls import Seen, calls
from otel_empathy.store.cells import add_up
from otel_empathy.store.reader import Reader
from otel_empathy.store.window import ALWAYS, Window
from otel_empathy.views.traces import newest


def read(home, window=ALWAYS):
    return list(calls(Reader(home), window))


def test_a_call_carries_what_its_span_says(tmp_path):
    more = {
        "gen_ai.response.model": "gpt-4o-2024",
        "empathy.call.stage": "draft",
        "gen_ai.usage.cache_write.input_tokens": 7,
        "gen_ai.usage.reasoning.output_tokens": 3,
        "empathy.cost.currency": "USD",
        "session.id": "s-1",
        "empathy.run.id": "run_1",
        "gen_ai.agent.name": "planner",
        "empathy.call.retries": 2,
        "empathy.call.outcome": "error",
        "error.type": "TimeoutError",
        "gen_ai.response.finish_reasons": ["stop"],
        "somebody.elses": "thing",
    }
    sent = call(
        cached=40, tier="cheap", workflow="triage", user="ab" * 8, error=True, seconds=2.5,
        id="00000000000000aa", more=more,
    )  # fmt: skip
    segment(tmp_path, line(sent))
    [found] = read(tmp_path)
    assert (found.start, found.duration, found.operation) == (NOW, 2.5, "chat")
    assert (found.provider, found.model, found.response_model) == (
        "openai",
        "gpt-4o",
        "gpt-4o-2024",
    )
    assert (found.workflow, found.stage, found.tier) == ("triage", "draft", "cheap")
    assert (found.cost, found.currency) == (Decimal("0.01"), "USD")
    assert found.usage == Usage(input=100, output=10, cache_read=40, cache_write=7, reasoning=3)
    assert (found.user, found.session, found.run) == ("ab" * 8, "s-1", "run_1")
    assert (found.agent, found.retries, found.outcome) == ("planner", 2, "error")
    assert (found.success, found.error_type) == (False, "TimeoutError")
    assert (found.service, found.span_id) == ("shop", "00000000000000aa")


def test_what_is_not_known_is_none_and_not_zero(tmp_path):
    bare = call(provider=None, model=None, cost=None, input=None, output=None)
    segment(tmp_path, line(bare))
    [found] = read(tmp_path)
    assert found.provider is found.model is found.tier is found.cost is None
    assert found.usage == Usage()
    assert found.success is True
    assert found.cache_hit is False


def test_only_inferences_and_embeddings_are_calls(tmp_path):
    spans = [
        call(operation=name)
        for name in ("chat", "generate_content", "text_completion", "embeddings",
                     "invoke_agent", "execute_tool", "retrieval", "fetch_response")
    ]  # fmt: skip
    segment(tmp_path, line(span("plain"), *spans))
    assert [one.operation for one in read(tmp_path)] == [
        "chat", "generate_content", "text_completion", "embeddings",
    ]  # fmt: skip


def test_both_spellings_of_the_cost_are_read(tmp_path):
    other = {"gen_ai.usage.cost.amount": 0.5, "gen_ai.usage.cost.currency": "EUR"}
    segment(tmp_path, line(call(cost=None, more=other)))
    [found] = read(tmp_path)
    assert (found.cost, found.currency) == (Decimal("0.5"), "EUR")


def test_a_call_that_the_local_cache_answered_costs_nothing(tmp_path):
    segment(tmp_path, line(call(hit=True, cost=None, more={"empathy.call.cache_type": "exact"})))
    [found] = read(tmp_path)
    assert (found.cost, found.cache_hit, found.cache_type) == (Decimal("0.0"), True, "exact")


def test_numbers_are_read_in_every_way_that_other_programs_write_them(tmp_path):
    sent = call(cost=None, input=None, output=None)
    sent["attributes"] += [
        {"key": "gen_ai.usage.input_tokens", "value": {"intValue": 12}},
        {"key": "gen_ai.usage.output_tokens", "value": {"doubleValue": 3.0}},
        {"key": "empathy.cost.amount", "value": {"intValue": "2"}},
    ]
    sent["startTimeUnixNano"] = NOW
    sent["status"] = {"code": "STATUS_CODE_ERROR"}
    segment(tmp_path, line(sent))
    [found] = read(tmp_path)
    assert (found.input, found.output, found.cost) == (12, 3, Decimal(2))
    assert found.success is False


@pytest.mark.parametrize("amount", ["NaN", "Infinity", "-Infinity", 1e300])
def test_an_amount_that_cannot_be_one_is_no_cost(tmp_path, amount):
    sent = call(cost=None)
    sent["attributes"].append({"key": "empathy.cost.amount", "value": {"doubleValue": amount}})
    segment(tmp_path, line(sent))
    [found] = read(tmp_path)
    assert found.cost is None


def test_negative_tokens_and_durations_are_unknown(tmp_path):
    segment(tmp_path, line(call(input=-1, seconds=-5)))
    [found] = read(tmp_path)
    assert found.input is None
    assert found.duration is None


def test_nulls_of_other_programs_mean_absent(tmp_path):
    nulls = {"status": None, "events": None, "links": None, "parentSpanId": None}
    sent = call(more={"x": "y"}, **nulls)
    sent["attributes"].append({"key": "gen_ai.workflow.name", "value": None})
    empty = span("none", attributes=None)
    segment(tmp_path, line(empty, sent), b'{"resourceSpans":null}\n',
            b'{"resourceSpans":[{"resource":null,"scopeSpans":null}]}\n')  # fmt: skip
    [found] = read(tmp_path)
    assert found.workflow is None
    assert found.cost == Decimal("0.01")


def test_a_line_of_several_resources_and_scopes_gives_all_its_calls(tmp_path):
    tree = json.loads(line(call(model="a"), service="first"))
    other = json.loads(line(call(model="c"), service="second"))
    tree["resourceSpans"][0]["scopeSpans"].append({"spans": [call(model="b")]})
    tree["resourceSpans"] += other["resourceSpans"]
    text = json.dumps(tree, separators=(",", ":")).encode() + b"\n"
    # The lines around it have the prefix that the reader remembers.
    segment(tmp_path, line(call(model="1")), text, line(call(model="2")))
    assert [(one.model, one.service) for one in read(tmp_path)] == [
        ("1", "shop"), ("a", "first"), ("b", "first"), ("c", "second"), ("2", "shop"),
    ]  # fmt: skip


def test_the_service_follows_the_resource_when_it_changes(tmp_path):
    content = [line(call(), service=name) for name in ("a", "a", "b", "a", "c", "d", "e", "f", "a")]
    segment(tmp_path, *content)
    assert [one.service for one in read(tmp_path)] == list("aabacdefa")


def test_text_that_looks_like_the_layout_of_a_line_confuses_nobody(tmp_path):
    trap = '"spans":[{"traceId":"x"}]}]}]}\n{"resourceSpans":['
    sent = [line(call(model=trap), service=trap), line(call(model="plain"), service=trap)]
    segment(tmp_path, *sent)
    assert [(one.model, one.service) for one in read(tmp_path)] == [(trap, trap), ("plain", trap)]


def test_more_keys_than_are_learned_are_read_all_the_same(tmp_path):
    content = [
        line(call(model=f"m{n}", more={f"app.key.{n}.{k}": "v" for k in range(100)}))
        for n in range(30)
    ]
    segment(tmp_path, *content)
    assert [one.model for one in read(tmp_path)] == [f"m{n}" for n in range(30)]


def test_layouts_of_other_writers_are_read(tmp_path):
    tree = json.loads(line(call(model="pretty")))
    scope = tree["resourceSpans"][0]["scopeSpans"][0]
    scope["schemaUrl"] = "https://example.com"
    for one in scope["spans"][0]["attributes"]:
        one["value"] = one.pop("value")
        key = one.pop("key")
        one["key"] = key  # the value comes first
    text = json.dumps(tree, separators=(" , ", " : ")).encode() + b"\n"
    escaped = line(call(model="escaped")).replace(b"gen_ai.request", b"gen_ai.\\u0072equest")
    (tmp_path / "data.json").write_bytes(text + escaped)
    assert [one.model for one in read(tmp_path)] == ["pretty", "escaped"]


def test_a_window_has_its_beginning_outside_and_its_end_inside(tmp_path):
    times = (NOW - DAY, NOW - DAY + 1, NOW, NOW + 1)
    segment(tmp_path, line(*[call(start=time, model=str(time - NOW)) for time in times]))
    found = read(tmp_path, Window.last(1, NOW))
    assert [one.start for one in found] == [NOW - DAY + 1, NOW]
    assert read(tmp_path, Window.last(0, NOW)) == []


def test_a_call_that_was_exported_twice_counts_once_in_files_of_others(tmp_path):
    sent = line(call())
    (tmp_path / "data.json").write_bytes(sent * 2 + line(call()))
    assert len(read(tmp_path)) == 2


def test_a_copy_of_a_home_beside_it_adds_nothing(tmp_path):
    segment(tmp_path / "a", line(call()))
    content = next((tmp_path / "a").rglob("*.jsonl"))
    segment(tmp_path / "b", content.read_bytes())
    assert len(list(calls(Reader([tmp_path / "a", tmp_path / "b"]), ALWAYS))) == 1


def test_what_was_seen_is_remembered_for_a_bounded_number_of_spans():
    seen = Seen(size=10)
    assert not any(seen.before("t", str(n)) for n in range(1, 16))
    assert all(seen.before("t", str(n)) for n in range(1, 16))
    assert not any(seen.before("t", str(n)) for n in range(100, 130))
    assert not seen.before("t", "1")
    assert not seen.before("t", None)
    assert not seen.before("t", None)


def test_the_flat_form_has_the_promised_fields(tmp_path):
    more = {"gen_ai.usage.cache_write.input_tokens": 5, "empathy.call.stage": "draft"}
    sent = call(cost=0.0123456789, cached=40, tier="cheap", workflow="w", user="u" * 16,
                seconds=1.5, start=NOW + 250_000_000, more=more)  # fmt: skip
    segment(tmp_path, line(sent))
    [found] = read(tmp_path)
    assert found.flat() == {
        "v": 1,
        "ts": "2026-01-01T00:00:00.250000Z",
        "workflow": "w",
        "stage": "draft",
        "tier": "cheap",
        "model": "gpt-4o",
        "provider": "openai",
        "cost": 0.012346,
        "tokens": {"input": 100, "output": 10},
        "cache": {"hit": False},
        "prompt_cache": {"hit": True, "creation_tokens": 5, "read_tokens": 40},
        "duration_ms": 1500.0,
        "user": "u" * 16,
        "success": True,
        "error_type": None,
    }


def test_the_flat_form_names_the_kind_of_a_cache_hit_and_has_no_prompt_cache_without_one(tmp_path):
    sent = call(hit=True, cost=None, more={"empathy.call.cache_type": "semantic"})
    segment(tmp_path, line(sent))
    [found] = read(tmp_path)
    flat = found.flat()
    assert flat["cache"] == {"hit": True, "type": "semantic"}
    assert "prompt_cache" not in flat


def test_a_time_that_is_not_known_is_shown_as_none(tmp_path):
    segment(tmp_path, line(call(start=0)))
    assert [one.flat()["ts"] for one in read(tmp_path)] == [None]
    assert SECOND * 10 < NOW


def test_cache_tokens_that_are_not_known_are_not_in_the_flat_form(tmp_path):
    segment(tmp_path, line(call(cached=40)))
    [found] = read(tmp_path)
    assert found.flat()["prompt_cache"] == {"hit": True, "read_tokens": 40}


def test_older_names_of_provider_and_tokens_are_read_where_the_new_ones_are_missing(tmp_path):
    old = {
        "gen_ai.operation.name": "chat",
        "gen_ai.system": "acme",
        "gen_ai.request.model": "own",
        "gen_ai.usage.prompt_tokens": 7,
        "gen_ai.usage.completion_tokens": 3,
    }
    new = {
        "gen_ai.provider.name": "newer",
        "gen_ai.usage.input_tokens": 0,
        "gen_ai.usage.output_tokens": 5,
    }
    segment(tmp_path, line(span(attributes=old), span(attributes={**old, **new})))
    found = [(one.provider, one.input, one.output) for one in read(tmp_path)]
    assert found == [("acme", 7, 3), ("newer", 0, 5)]
    cells = add_up(Reader(tmp_path), ALWAYS).cells
    assert sorted((one.provider, one.input, one.output) for one in cells) == sorted(found)
    [listed] = newest(Reader(tmp_path), ALWAYS, limit=5)
    assert (listed.tokens_input, listed.tokens_output) == (7, 8)
