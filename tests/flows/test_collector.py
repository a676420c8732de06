"""Our SDK -> a real Collector -> its file exporter: what arrives is what stands in our log."""

from __future__ import annotations

from pathlib import Path

import flow
import pytest
import services

pytestmark = pytest.mark.timeout(180)  # a Collector and a program on a busy machine

PROTOCOLS = ["grpc", "http/protobuf", "http/json"]
CONFIG = services.CONFIG


def assert_same(signal: str, home: Path, collector: services.Collector) -> None:
    ours = flow.flat(signal, flow.segments(home, signal))
    assert ours
    services.until(
        lambda: len(flow.flat(signal, collector.lines(signal))) >= len(ours),
        what=f"{signal} in the Collector's file",
    )
    assert flow.flat(signal, collector.lines(signal)) == ours


@pytest.mark.tool("collector")
@pytest.mark.parametrize("compression", ["none", "gzip"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_record_arrives_field_by_field(
    protocol: str, compression: str, empathy_home: Path, tmp_path: Path
) -> None:
    with services.collector(CONFIG / "local.yaml", folder=tmp_path / "collector") as collector:
        endpoint = f"http://{collector.grpc}" if protocol == "grpc" else collector.http
        facts = flow.run(
            empathy_home,
            [{"endpoint": endpoint, "protocol": protocol, "compression": compression}],
        )
        (row,) = facts["ledger"]["backends"].values()
        assert (row["pending"], row["dropped"], row["shipped"]) == (0, {}, row["acked"])
        for signal in flow.LISTS:
            assert_same(signal, empathy_home, collector)


@pytest.mark.tool("collector")
def test_our_reader_finds_the_same_in_the_collectors_file_as_in_our_log(
    empathy_home: Path, tmp_path: Path
) -> None:
    from otel_empathy import open_store

    with services.collector(CONFIG / "local.yaml", folder=tmp_path / "collector") as collector:
        flow.run(empathy_home, [{"endpoint": collector.http}])
        for signal in flow.LISTS:
            assert_same(signal, empathy_home, collector)
    ours, theirs = open_store(empathy_home), open_store(collector.data)
    assert theirs.usage(days=1).as_dict() == ours.usage(days=1).as_dict()
    assert ours.usage(days=1).total_calls == 2
    mine = [(t.trace_id, t.name, t.spans, t.duration) for t in ours.traces()]
    assert [(t.trace_id, t.name, t.spans, t.duration) for t in theirs.traces()] == mine
    assert [e.name for e in theirs.events()] == [e.name for e in ours.events()]
    assert theirs.skipped.total() == 0


@pytest.mark.tool("collector")
def test_the_collector_reads_our_segments(empathy_home: Path, tmp_path: Path) -> None:
    flow.run(empathy_home, [])
    files = (empathy_home / "otlp" / "traces").glob("*.jsonl")
    longest = max(len(line) for file in files for line in file.read_bytes().splitlines())
    assert 490_000 < longest <= 512 * 1024  # which the Collector's own limit must let through
    to_file = {
        "exporters": {
            f"file/{s}": {"path": f"${{env:OTELCOL_DATA}}/{s}.jsonl", "flush_interval": "100ms"}
            for s in flow.LISTS
        },
        "service": {"pipelines": {s: {"exporters": [f"file/{s}"]} for s in flow.LISTS}},
    }
    with services.collector(
        [CONFIG / "agent.yaml", to_file],
        folder=tmp_path / "collector",
        environ={"OTEL_EMPATHY_HOME": str(empathy_home), "GATEWAY_ENDPOINT": "http://127.0.0.1:9"},
    ) as collector:
        for signal in flow.LISTS:
            assert_same(signal, empathy_home, collector)
        for request in collector.lines("traces"):
            assert "empathy.segment.id" not in str(request)


@pytest.mark.tool("rotel")
def test_every_line_of_our_segments_is_accepted_by_a_strict_json_door(
    empathy_home: Path, tmp_path: Path
) -> None:
    flow.run(empathy_home, [])
    with services.rotel(folder=tmp_path / "rotel") as rotel:
        judged = [
            rotel.judge(signal, line)
            for signal in flow.LISTS
            for path in (empathy_home / "otlp" / signal).glob("*.jsonl")
            for line in path.read_bytes().splitlines()
        ]
    assert len(judged) >= 3
    assert set(judged) == {200}
