from __future__ import annotations

import threading
from typing import Any

import pytest
from captured import Captured, capturing
from planted import SECRETS

from otel_empathy.core import semconv
from otel_empathy.core.scrub import Scrubber
from otel_empathy.core.semconv import METRICS, Metric
from otel_empathy.emit import instruments, safety
from otel_empathy.emit.live import live

NAMES = ["gen_ai.agent.name", "gen_ai.request.model", "error.type"]


def test_a_row_carries_what_it_names_and_nothing_else(captured: Captured) -> None:
    instruments.record(
        semconv.AGENT_DURATION,
        1.5,
        {
            "gen_ai.agent.name": "a",
            "gen_ai.request.model": None,
            "empathy.run.id": "run_1",
            "session.id": "s",
        },
    )
    assert captured.points("gen_ai.invoke_agent.duration") == [({"gen_ai.agent.name": "a"}, 1.5)]


def test_no_row_can_carry_an_id() -> None:
    forbidden = {
        "empathy.run.id",
        "empathy.run.parent_id",
        "session.id",
        "user.hash",
        "gen_ai.conversation.id",
        "gen_ai.response.id",
        "gen_ai.agent.id",
        "gen_ai.tool.call.id",
    }
    for row in METRICS:
        assert not forbidden & set(row.attributes), row.name


def test_every_row_that_is_recorded_makes_its_instrument(captured: Captured) -> None:
    recorded = [row for row in METRICS if not row.kind.startswith("observable")]
    for row in recorded:
        instruments.record(row, 1, {})
    found = captured._reader.get_metrics_data()
    assert found is not None
    metrics = {
        metric.name: metric
        for scope in found.resource_metrics[0].scope_metrics
        for metric in scope.metrics
    }
    assert metrics.keys() == {row.name for row in recorded}
    for row in recorded:
        metric = metrics[row.name]
        assert (metric.unit, metric.description) == (row.unit, row.description)
        if row.kind == "histogram":
            assert metric.data.data_points[0].explicit_bounds == row.buckets, row.name


def test_observed_rows_are_refused(captured: Captured) -> None:
    with pytest.raises(ValueError, match="observed, not recorded"):
        instruments.record(semconv.LOG_SIZE, 1, {})


@pytest.mark.parametrize("name", NAMES)
def test_the_hundred_and_first_value_is_other(captured: Captured, name: str) -> None:
    for number in range(150):
        instruments.record(semconv.AGENT_DURATION, 1, {name: f"value {number}"})
    found = {
        labels[name]: value for labels, value in captured.points("gen_ai.invoke_agent.duration")
    }
    assert len(found) == 101
    assert found["_other"] == 50
    assert instruments.overflows == {"gen_ai.invoke_agent.duration": 50}


def test_values_are_counted_per_process_not_per_instrument(captured: Captured) -> None:
    for number in range(100):
        instruments.record(semconv.AGENT_DURATION, 1, {"gen_ai.agent.name": str(number)})
    instruments.record(semconv.RUN_FINISHED, 1, {"gen_ai.agent.name": "new"})
    instruments.record(semconv.RUN_FINISHED, 1, {"gen_ai.agent.name": "7"})
    found = [labels["gen_ai.agent.name"] for labels, _ in captured.points("empathy.run.finished")]
    assert sorted(found) == ["7", "_other"]


def test_beyond_two_thousand_series_there_is_one_for_the_rest(captured: Captured) -> None:
    row = Metric("empathy.test.series", "counter", "{thing}", "For this test.", ("http.status",))
    for number in range(2_100):
        instruments.record(row, 1, {"http.status": number})
    found = captured.points("empathy.test.series")
    assert len(found) == 2_001
    assert ({"otel.metric.overflow": True}, 100) in found
    assert instruments.overflows["empathy.test.series"] == 100


def test_another_meter_gets_instruments_of_its_own() -> None:
    with capturing() as first:
        instruments.record(semconv.RUN_ACTIVE, 1, {})
        with capturing() as second:
            instruments.record(semconv.RUN_ACTIVE, 1, {})
            assert second.points("empathy.run.active") == [({}, 1)]
        assert first.points("empathy.run.active") == [({}, 1)]


def test_off_nothing_is_recorded(captured: Captured) -> None:
    live.remove()
    instruments.record(semconv.RUN_ACTIVE, 1, {})
    assert captured.metrics() == {}


def test_a_label_that_cannot_be_one_is_our_fault_and_counted(captured: Captured) -> None:
    with safety.swallow() as errors:
        instruments.record(semconv.AGENT_DURATION, 1, {"gen_ai.agent.name": ["a"]})
    assert errors["wrap", "TypeError"] == 1


def test_threads_share_series_without_losing_counts(captured: Captured) -> None:
    begin = threading.Barrier(4)

    def work() -> None:
        begin.wait(5)
        for number in range(250):
            labels: dict[str, Any] = {"gen_ai.agent.name": str(number % 5)}
            instruments.record(semconv.RUN_FINISHED, 1, labels)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = captured.points("empathy.run.finished")
    assert len(found) == 5
    assert sum(value for _, value in found) == 1_000


@pytest.mark.parametrize("name", ["gen_ai.request.model", "openai.request.service_tier"])
def test_long_values_are_cut_without_leaving_half_a_secret(name: str) -> None:
    scrub = Scrubber()
    hidden = SECRETS["github"][0]
    row = Metric("empathy.test.long", "counter", "{thing}", "For this test.", (name,))
    with capturing(scrub=scrub) as captured:
        instruments.record(row, 1, {name: "m" * 50_000})
        instruments.record(row, 1, {name: "m" * 256})
        instruments.record(row, 1, {name: "n" * 240 + f" {hidden}" + " and more" * 5_000})
        found = {labels[name]: value for labels, value in captured.points("empathy.test.long")}
    assert found.pop("m" * 256) == 2
    (other,) = found
    assert len(other) <= 256
    assert hidden[:4] not in other
