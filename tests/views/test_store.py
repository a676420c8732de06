from __future__ import annotations

import io
import json
import threading
from datetime import datetime, timezone
from types import MappingProxyType

import pytest
from store.lines import DAY, NOW, Clock, call, line, log_line, pairs, segment, span

from otel_empathy.core.errors import SettingError, WrongType, WrongValue
from otel_empathy.core.prices import Prices
from otel_empathy.emit.live import live
from otel_empathy.views.store import Store, open_store

EVENT = MappingProxyType(
    {
        "timeUnixNano": str(NOW),
        "severityNumber": 9,
        "severityText": "INFO",
        "eventName": "empathy.run.changed",
        "body": {"stringValue": "changed"},
        "attributes": pairs({"empathy.run.id": "run_1"}),
        "traceId": "A" * 32,
        "spanId": "B" * 16,
    }
)


def test_open_store_reads_the_home_of_the_settings(tmp_path, monkeypatch):
    monkeypatch.setenv("OTEL_EMPATHY_HOME", str(tmp_path))
    segment(tmp_path, line(call()))
    assert open_store().usage(days=None).total_calls == 1


def test_open_store_takes_homes_folders_and_files(tmp_path):
    path = segment(tmp_path, line(call()))
    for place in (tmp_path, str(tmp_path), path, path.parent, [path]):
        assert open_store(place).usage(days=None).total_calls == 1


def test_events_are_typed_and_filtered(tmp_path):
    other = {"observedTimeUnixNano": str(NOW - DAY), "severityNumber": "SEVERITY_NUMBER_WARN2"}
    segment(tmp_path, log_line(dict(EVENT), other), signal="logs")
    store = Store(tmp_path, clock=Clock())
    [found] = store.events(name="empathy.run.changed")
    assert found.as_dict() == {
        "signal": "logs",
        "ts": "2026-01-01T00:00:00.000000Z",
        "name": "empathy.run.changed",
        "severity": 9,
        "severity_text": "INFO",
        "body": "changed",
        "service": "shop",
        "trace_id": "a" * 32,
        "span_id": "b" * 16,
        "attributes": {"empathy.run.id": "run_1"},
    }
    assert [one.severity for one in store.events()] == [9, 14]
    assert [one.severity for one in store.events(days=1)] == [9]
    assert [one.severity for one in store.events(until=NOW)] == [14]


def test_calls_can_be_asked_for_by_time(tmp_path):
    segment(tmp_path, line(call(), call(start=NOW - 2 * DAY)))
    store = Store(tmp_path, clock=Clock())
    assert len(list(store.calls())) == 2
    assert len(list(store.calls(1))) == 1
    assert len(list(store.calls(until=datetime(2026, 1, 1, tzinfo=timezone.utc)))) == 1


def test_traces_can_be_asked_for_by_days(tmp_path):
    old, new = "0" * 31 + "1", "0" * 31 + "2"
    segment(tmp_path, line(call(trace=old, start=NOW - 2 * DAY), call(trace=new)))
    store = Store(tmp_path, clock=Clock())
    assert [one.trace_id for one in store.traces(1)] == [new]
    assert [one.trace_id for one in store.traces()] == [new, old]
    assert store.traces(days=0) == []


def test_what_was_skipped_is_counted_and_named(tmp_path):
    path = segment(tmp_path, b"garbage\n", line(call()), b"torn")
    store = Store(tmp_path, clock=Clock())
    store.usage()
    store.cache()
    assert store.skipped == {"corrupt": 1, "torn": 1}
    assert (store.skips[0].path, store.skips[0].offset) == (path, 0)


def test_progress_is_reported_over_all_bytes(tmp_path):
    size = segment(tmp_path, line(call())).stat().st_size
    reports = []
    store = Store(tmp_path, clock=Clock(), progress=lambda *report: reports.append(report))
    store.usage()
    assert reports[-1] == (size, size)


def test_the_state_of_the_home_is_a_view_too(tmp_path):
    segment(tmp_path, line(call()))
    assert Store(tmp_path).status()["log"]["segments"] == 1


def test_a_folder_of_the_log_that_cannot_be_read_is_no_empty_log(tmp_path):
    (tmp_path / "otlp").write_text("no folder")
    with pytest.raises(NotADirectoryError):
        Store(tmp_path).status()
    assert open_store(tmp_path / "new").status()["log"]["segments"] == 0


@pytest.mark.parametrize("method", ["premium_mean", "repriced"])
def test_usage_and_savings_are_those_that_are_asked_for_apart(tmp_path, method):
    segment(tmp_path, line(call(tier="premium", user="u"), call(tier="cheap", cost=0.001)))
    store = Store(tmp_path, clock=Clock())
    used, saved = store.usage_and_savings(days=7, by="user", method=method)
    assert used == store.usage(days=7, by="user")
    assert saved == store.savings(7, method=method)


@pytest.mark.parametrize("method", ["premium_mean", "repriced"])
def test_savings_read_the_log_once(tmp_path, method):
    segment(tmp_path, line(call(tier="premium")))
    store = Store(tmp_path, clock=Clock())
    scans = []
    scan = store.reader.scan
    store.reader.scan = lambda *given, **named: scans.append(given) or scan(*given, **named)
    store.savings(method=method)
    store.usage_and_savings(method=method)
    assert len(scans) == 2


def test_prices_are_those_of_the_settings(tmp_path, monkeypatch):
    file = tmp_path / "prices.json"
    rates = {"input": 30, "output": 60, "cache_read": 3}
    file.write_text(json.dumps({"models": {"acme/own": rates}}))
    home = tmp_path / "home"
    segment(home, line(call(provider="acme", model="own", cached=1_000_000)))
    monkeypatch.setenv("OTEL_EMPATHY_PRICES", str(file))
    assert open_store(home, clock=Clock()).cache(days=7).savings == 27
    bundled = open_store(home, clock=Clock(), prices=Prices.bundled())
    assert bundled.cache(days=7).unpriced_models == ("acme/own",)
    file.write_text("nonsense")
    with pytest.raises(SettingError):
        open_store(home, clock=Clock()).cache(days=7)


@pytest.mark.parametrize("method", ["premium_mean", "repriced"])
def test_usage_and_savings_are_of_the_same_calls_while_others_are_written(tmp_path, method):
    segment(tmp_path, line(call(tier="premium")), seq=1)

    def write(done, total):
        segment(tmp_path, line(call(tier="premium")), seq=2)

    store = Store(tmp_path, clock=Clock(), progress=write)
    used, saved = store.usage_and_savings(days=7, method=method)
    assert used.total_calls == saved.total_calls
    assert saved.actual_cost == used.exact_cost
    with pytest.raises(WrongValue, match="premium_mean or repriced"):
        store.usage_and_savings(method="guessed")


@pytest.mark.parametrize(
    "damage",
    [
        ('"startTimeUnixNano":"1', '"startTimeUnixNano":"1' + "9" * 400),
        ('"endTimeUnixNano":"1', '"endTimeUnixNano":"1' + "9" * 400),
        ('"endTimeUnixNano":"1', '"endTimeUnixNano":"-1'),
        ('"intValue":"77', '"intValue":"77' + "0" * 400),
        ('"intValue":"77', '"intValue":"77' + "0" * 5_000),
        ('"intValue":"77', '"intValue":"77' + "0" * 19),
    ],
    ids=["start", "end", "negative", "tokens", "digits", "just beyond"],
)
def test_a_number_that_otlp_cannot_carry_costs_its_line_and_nothing_else(tmp_path, damage):
    bad = line(call(input=77)).decode().replace(*damage).encode()
    segment(tmp_path, bad, line(call(input=5)))
    store = Store(tmp_path, clock=Clock())
    stream = io.BytesIO()
    assert store.usage(days=None).tokens_input == 5
    assert [one.input for one in store.calls()] == [5]
    assert [one.tokens_input for one in store.traces()] == [5]
    assert [store.export(stream, form) for form in ("csv", "jsonl", "otlp")] == [1, 1, 1]
    assert store.skipped == {"corrupt": 1}


def test_the_largest_numbers_of_otlp_are_read(tmp_path):
    segment(tmp_path, line(call(input=2**63 - 1, start=2**63 - 1, seconds=0)))
    [found] = Store(tmp_path).calls()
    assert (found.input, found.start) == (2**63 - 1, 2**63 - 1)


def test_followed_records_of_all_signals_are_typed(tmp_path):
    store = Store(tmp_path)
    stop = threading.Event()
    follow = store.follow(signals=("traces", "logs", "metrics"), poll=0.01, stop=stop)
    metric = {
        "name": "m",
        "unit": "s",
        "histogram": {"dataPoints": [{"timeUnixNano": str(NOW), "count": "2", "sum": 3.5}]},
    }
    tree = {"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]}
    segment(tmp_path, line(span("work", kind="SPAN_KIND_SERVER")))
    segment(tmp_path, log_line(dict(EVENT)), signal="logs")
    segment(tmp_path, json.dumps(tree).encode() + b"\n", signal="metrics")
    found = [next(follow).as_dict() for _ in range(3)]
    stop.set()
    assert list(follow) == []
    assert [one["signal"] for one in found] == ["traces", "logs", "metrics"]
    assert found[0]["kind"] == "server"
    assert (found[2]["kind"], found[2]["count"], found[2]["sum"]) == ("histogram", 2, 3.5)


def test_following_an_unknown_signal_is_refused_at_once(tmp_path):
    with pytest.raises(WrongValue, match="traces, metrics, logs"):
        Store(tmp_path).follow(signals=("profiles",))


def test_prices_given_to_configure_are_those_of_a_store_in_the_same_process(tmp_path):
    home = tmp_path / "home"
    segment(home, line(call(provider="acme", model="own", cached=1_000_000)))
    rates = {"input": 30, "output": 60, "cache_read": 3}
    try:
        live.prices = Prices.bundled({"models": {"acme/own": rates}})
        assert open_store(home, clock=Clock()).cache(days=7).savings == 27
    finally:
        live.remove()
    assert open_store(home, clock=Clock()).cache(days=7).unpriced_models == ("acme/own",)


@pytest.mark.parametrize("paths", [3, b"home"])
def test_what_is_no_path_is_refused_with_value_and_fix(paths):
    with pytest.raises(WrongType, match="give a home, a folder or a file"):
        open_store(paths)
