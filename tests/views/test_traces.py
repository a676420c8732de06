from __future__ import annotations

from decimal import Decimal

import pytest
from store.lines import DAY, NOW, SECOND, Clock, call, line, segment, span

from otel_empathy.core.errors import WrongType, WrongValue
from otel_empathy.views import traces
from otel_empathy.views.store import Store
from otel_empathy.views.traces import AmbiguousTrace

A, B = "a" * 32, "b" * 32


def store(home, *spans, **options) -> Store:
    segment(home, *[line(one, **options) for one in spans])
    return Store(home, clock=Clock())


def run_of_an_agent(trace=A):
    return [
        call(trace=trace, parent="02", id="03", start=NOW + 2 * SECOND, cost=0.02, cached=5,
             more={"gen_ai.response.model": "gpt-4o-2024"}),
        call(trace=trace, parent="02", id="04", start=NOW + SECOND, cost=None, error=True),
        span("phase thinking", trace=trace, parent="01", id="02", start=NOW, seconds=5),
        span("invoke_agent planner", trace=trace, id="01", start=NOW, seconds=6,
             attributes={"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "planner",
                         "gen_ai.usage.input_tokens": 999, "empathy.run.id": "run_1"}),
    ]  # fmt: skip


class TestList:
    def test_a_trace_is_summed_up_over_its_calls(self, tmp_path):
        [found] = store(tmp_path, *run_of_an_agent()).traces()
        assert found.as_dict() == {
            "trace_id": A,
            "name": "invoke_agent planner",
            "service": "shop",
            "start": "2026-01-01T00:00:00.000000Z",
            "duration": 6.0,
            "spans": 4,
            "errors": 1,
            "calls": 2,
            "tokens_input": 200,
            "tokens_output": 20,
            "cost": 0.02,
            "unpriced_calls": 1,
            "models": ["gpt-4o", "gpt-4o-2024"],
            "agents": ["planner"],
            "runs": ["run_1"],
            "services": ["shop"],
            "status": "error",
        }

    def test_the_newest_come_first_wherever_they_stand(self, tmp_path):
        for instance, order in (("aaaaaaaa", (5, 1, 3)), ("bbbbbbbb", (4, 0, 2))):
            spans = [span(f"s{n}", trace=f"{n:032x}", start=NOW - n) for n in order]
            segment(tmp_path, line(*spans), instance=instance)
        found = Store(tmp_path).traces(limit=4)
        assert [one.name for one in found] == ["s0", "s1", "s2", "s3"]

    @pytest.mark.parametrize(
        ("wanted", "ids"),
        [
            ({"service": "shop"}, [A, B]),
            ({"service": "other"}, []),
            ({"model": "gpt-4o-2024"}, [A]),
            ({"agent": "planner"}, [A]),
            ({"run": "run_1"}, [A]),
            ({"status": "error"}, [A]),
            ({"status": "ok"}, [B]),
            ({"text": "PLANNER"}, [A]),
            ({"text": "needle"}, [B]),
            ({"min_duration": 6}, [A]),
            ({"min_cost": 0.02}, [A]),
            ({"min_cost": 0.01}, [A, B]),
            ({"since": NOW + SECOND}, [A]),
            ({"until": NOW}, []),
            ({"service": "shop", "status": "ok", "text": "plan"}, []),
        ],
    )
    def test_filters_are_all_met(self, tmp_path, wanted, ids):
        other = call(trace=B, start=NOW, more={"app.note": "a Needle in it"})
        found = store(tmp_path, *run_of_an_agent(), other).traces(**wanted)
        assert sorted(one.trace_id for one in found) == ids

    def test_a_trace_without_its_root_is_named_for_its_first_span(self, tmp_path):
        spans = [
            span("later", trace=A, parent="ff", start=NOW + 1),
            span("first", trace=A, parent="ff"),
        ]
        [found] = store(tmp_path, *spans).traces()
        assert found.name == "first"

    def test_spans_of_other_processes_are_part_of_it(self, tmp_path):
        segment(
            tmp_path, line(span("child", trace=A, parent="01"), service="b"), instance="bbbbbbbb"
        )
        segment(tmp_path, line(span("root", trace=A, id="01"), service="a"), instance="cccccccc")
        [found] = Store(tmp_path).traces()
        assert (found.name, found.service, found.services) == ("root", "a", ("b", "a"))

    def test_old_traces_are_forgotten_while_many_are_read(self, tmp_path, monkeypatch):
        monkeypatch.setattr(traces, "_MOST_TRACES", 10)
        spans = [span(f"s{n}", trace=f"{n:032x}", start=NOW + n) for n in range(97)]
        late = span("late", trace=f"{3:032x}", start=NOW + 3)
        found = [one.name for one in store(tmp_path, *spans, late).traces()]
        assert found[:4] == ["s96", "s95", "s94", "s93"]
        assert "late" not in found

    def test_impossible_questions_are_refused(self, tmp_path):
        with pytest.raises(WrongValue, match="limit=-1"):
            store(tmp_path).traces(limit=-1)
        with pytest.raises(WrongValue, match="ok or error"):
            store(tmp_path).traces(status="bad")
        assert store(tmp_path).traces(limit=0) == []


class TestTree:
    def test_children_stand_under_their_parents_in_order_of_their_start(self, tmp_path):
        found = store(tmp_path, *run_of_an_agent()).trace(A)
        assert [(depth, node.span.name) for depth, node in found.walk()] == [
            (0, "invoke_agent planner"),
            (1, "phase thinking"),
            (2, "chat gpt-4o"),
            (2, "chat gpt-4o"),
        ]
        calls = [node for _, node in found.walk() if node.is_call]
        assert [node.span.failed for node in calls] == [True, False]
        assert [node.cost for node in calls] == [None, Decimal("0.02")]
        assert (found.spans, found.calls, found.errors, found.unpriced_calls) == (4, 2, 1, 1)
        assert (found.tokens_input, found.tokens_output) == (200, 20)
        assert (found.cost, found.duration) == (Decimal("0.02"), 6.0)

    def test_a_span_carries_everything_that_was_recorded(self, tmp_path):
        sent = span(
            "work", trace=A, id="01", error=True,
            attributes={"list": ["a", 1, True], "zero": 0, "empty": "", "no": False},
            events=[{"name": "retried", "timeUnixNano": str(NOW), "attributes": []}],
        )  # fmt: skip
        sent["attributes"] += [
            {"key": "map", "value": {"kvlistValue": {"values": [
                {"key": "k", "value": {"doubleValue": 0.5}}]}}},
            {"key": "nothing", "value": {}},
        ]  # fmt: skip
        [node] = store(tmp_path, sent).trace(A).roots
        assert node.span.attributes == {
            "list": ["a", 1, True], "zero": 0, "empty": "", "no": False, "map": {"k": 0.5},
            "nothing": None,
        }  # fmt: skip
        assert node.span.resource["service.name"] == "shop"
        assert (node.span.kind, node.span.message, node.span.scope) == (
            "client", "it broke", "otel_empathy",
        )  # fmt: skip
        assert node.as_dict()["events"] == [
            {"ts": "2026-01-01T00:00:00.000000Z", "name": "retried", "attributes": {}}
        ]

    def test_a_span_whose_parent_is_missing_is_a_marked_root(self, tmp_path):
        spans = [
            span("root", trace=A, id="01"),
            span("lost", trace=A, id="03", parent="02", start=NOW + 1),
        ]
        found = store(tmp_path, *spans).trace(A)
        assert [(node.span.name, node.orphan) for node in found.roots] == [
            ("root", False), ("lost", True),
        ]  # fmt: skip

    def test_circles_of_parents_lose_no_span(self, tmp_path):
        spans = [
            span("egg", trace=A, id="02", parent="01", start=NOW + 1),
            span("hen", trace=A, id="01", parent="02"),
            span("self", trace=A, id="05", parent="05", start=NOW + 2),
        ]
        found = store(tmp_path, *spans).trace(A)
        assert [(depth, node.span.name) for depth, node in found.walk()] == [
            (0, "hen"), (1, "egg"), (0, "self"),
        ]  # fmt: skip
        assert all(node.orphan for node in found.roots)

    def test_a_very_deep_trace_is_no_trouble(self, tmp_path):
        spans = [
            span(f"s{n}", trace=A, id=f"{n + 1:x}", parent=f"{n:x}" if n else None)
            for n in range(5000)
        ]
        found = store(tmp_path, *spans).trace(A)
        assert max(depth for depth, _ in found.walk()) == 4999
        assert len(found.as_dict()["spans"]) == 5000

    def test_a_span_that_was_sent_twice_stands_once(self, tmp_path):
        sent = line(span("work", trace=A, id="01"))
        (tmp_path / "data.json").write_bytes(sent * 2)
        assert Store(tmp_path).trace(A).spans == 1

    def test_the_beginning_of_an_id_is_enough_in_any_case_of_letters(self, tmp_path):
        (tmp_path / "data.json").write_bytes(line(span(trace=A.upper())))
        assert Store(tmp_path).trace("AaA").trace_id == A

    def test_an_ambiguous_beginning_names_the_candidates(self, tmp_path):
        home = store(tmp_path, span(trace="ab" * 16), span(trace="ac" * 16), span(trace=B))
        with pytest.raises(AmbiguousTrace, match="acac") as caught:
            home.trace("a")
        assert caught.value.candidates == ["ab" * 16, "ac" * 16]
        assert home.trace("ab").spans == 1

    @pytest.mark.parametrize("unknown", ["c", "xyz", "f" * 33, "run_1"])
    def test_an_unknown_id_is_none(self, tmp_path, unknown):
        assert store(tmp_path, span(trace=A)).trace(unknown) is None

    def test_no_id_at_all_is_refused(self, tmp_path):
        with pytest.raises(WrongValue):
            store(tmp_path).trace("  ")
        with pytest.raises(WrongType):
            store(tmp_path).trace(None)


def test_traces_of_days_before_a_window_are_not_listed(tmp_path):
    home = store(tmp_path, span(trace=A, start=NOW - 3 * DAY), span(trace=B))
    assert [one.trace_id for one in home.traces(since=NOW - DAY)] == [B]
