"""The end of the metrics pipeline: when it is collected, and what is in the log then."""

from __future__ import annotations

import json
import threading

import pytest
from opentelemetry.sdk.metrics import MeterProvider

from otel_empathy.pipeline.encode_json import Limits
from otel_empathy.pipeline.processor import LogReader, Sink


class Taken:
    """What takes encoded records."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, bytes, int]] = []

    def append(self, signal: str, resource: bytes, scope: bytes, body: bytes, count: int) -> None:
        self.rows.append((signal, body, count))


@pytest.fixture
def sink() -> Sink:
    made = Sink(Limits(), {})
    made.out = Taken()
    return made


def names(sink: Sink) -> list[str]:
    assert isinstance(sink.out, Taken)
    return [
        metric["name"]
        for signal, body, _ in sink.out.rows
        if signal == "metrics"
        for metric in json.loads(b"[%b]" % body)
    ]


def test_a_meter_provider_that_is_shut_down_leaves_its_last_values_in_the_log(sink: Sink) -> None:
    made: list[LogReader] = []

    def flush(timeout: float) -> bool:
        return made[0].gather(timeout)

    made.append(LogReader(sink, 3600.0, flush))
    provider = MeterProvider(metric_readers=[made[0]], shutdown_on_exit=False)
    provider.get_meter("t").create_counter("calls").add(1)
    provider.shutdown()
    assert names(sink) == ["calls"]


def test_a_reader_that_has_ended_is_taken_off_its_provider_without_another_look(sink: Sink) -> None:
    asked: list[float] = []
    reader = LogReader(sink, 3600.0, lambda timeout: bool(asked.append(timeout)))
    provider = MeterProvider(metric_readers=[], shutdown_on_exit=False)
    provider.add_metric_reader(reader)
    provider.get_meter("t").create_counter("calls").add(1)
    reader.end()
    provider.remove_metric_reader(reader)
    provider.shutdown()
    assert (asked, names(sink)) == ([], [])


def test_two_who_wait_for_a_collection_do_not_wait_for_each_other(sink: Sink) -> None:
    entered, go_on = threading.Event(), threading.Event()

    def hangs(_: object) -> list[object]:
        entered.set()
        go_on.wait(10)
        return []

    reader = LogReader(sink, 3600.0, lambda _: True)
    provider = MeterProvider(metric_readers=[reader], shutdown_on_exit=False)
    provider.get_meter("t").create_observable_gauge("g", callbacks=[hangs])
    reader.begin()
    assert not reader.gather(0.01)
    assert entered.wait(10)
    assert not reader.gather(10)  # somebody waits already, in vain
    go_on.set()
    reader.end()
    assert reader._thread is not None
    reader._thread.join(10)
    provider.shutdown()
