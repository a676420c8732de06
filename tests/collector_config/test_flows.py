"""What goes in through every door of the shipped configurations comes out whole behind them."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import grpc
import otlp_json
import pytest
import services
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from otel_empathy.pipeline import segments
from otel_empathy.pipeline.log import Log, Options

pytestmark = pytest.mark.timeout(180)  # two Collectors on a busy machine

SIGNALS = ("traces", "metrics", "logs")
FILE_READERS = [
    pytest.param("collector", marks=pytest.mark.tool("collector")),
    pytest.param("collector-contrib", marks=pytest.mark.tool("collector-contrib")),
]
# Puts the file exporter where the shipped configuration has a network, to see what it would send.
TO_FILES: dict[str, Any] = {
    "exporters": {
        f"file/{signal}": {
            "path": f"${{env:OTELCOL_DATA}}/{signal}.jsonl",
            "create_directory": True,
            "flush_interval": "50ms",
        }
        for signal in SIGNALS
    },
    "service": {
        "pipelines": {signal: {"exporters": [f"file/{signal}"]} for signal in SIGNALS},
    },
}
AGENT = [services.CONFIG / "agent.yaml", TO_FILES]
NOWHERE = "http://127.0.0.1:9"


def arrived(running: services.Collector, signal: str, count: int) -> list[dict[str, Any]]:
    """The records in the file of that signal, as soon as there are that many."""

    def enough() -> list[dict[str, Any]]:
        found = list(otlp_json.leaves(signal, running.lines(signal)))
        return found if len(found) >= count else []

    return services.until(enough, what=f"{count} {signal}")


def numbers(records: list[dict[str, Any]]) -> list[int]:
    """The attribute `n` of each record or of its point."""
    found = []
    for record in records:
        holder = record["sum"]["dataPoints"][0] if "sum" in record else record
        pairs = {pair["key"]: pair["value"] for pair in holder["attributes"]}
        found.append(int(pairs["n"]["intValue"]))
    return sorted(found)


def as_protobuf(request: dict[str, Any]) -> ExportTraceServiceRequest:
    """The request as the generated classes hold it; their JSON form wants ids in base64."""
    text = json.loads(json.dumps(request))
    for span in otlp_json.leaves("traces", [text]):
        for key in ("traceId", "spanId"):
            span[key] = json_format.base64.b64encode(bytes.fromhex(span[key])).decode()
    return json_format.ParseDict(text, ExportTraceServiceRequest())


@pytest.mark.tool("collector")
@pytest.mark.parametrize("signal", SIGNALS)
def test_a_json_request_is_written_as_it_was_sent(signal: str, tmp_path: Path) -> None:
    request = otlp_json.body(signal, [otlp_json.LEAVES[signal](1), otlp_json.LEAVES[signal](2)])
    with services.collector(services.CONFIG / "local.yaml", folder=tmp_path) as running:
        url = f"{running.http}/v1/{signal}"
        status, answer = services.request(url, otlp_json.encoded(request))
        arrived(running, signal, 2)
        assert (status, json.loads(answer)) == (200, {"partialSuccess": {}})
        assert running.lines(signal) == [request]


@pytest.mark.tool("collector")
def test_a_protobuf_request_over_http_is_written_as_it_was_sent(tmp_path: Path) -> None:
    request = otlp_json.body("traces", [otlp_json.span(1)])
    with services.collector(services.CONFIG / "local.yaml", folder=tmp_path) as running:
        status, _ = services.request(
            f"{running.http}/v1/traces",
            as_protobuf(request).SerializeToString(),
            content_type="application/x-protobuf",
        )
        arrived(running, "traces", 1)
        assert status == 200
        assert running.lines("traces") == [request]


@pytest.mark.tool("collector")
def test_a_request_over_grpc_is_written_as_it_was_sent(tmp_path: Path) -> None:
    request = otlp_json.body("traces", [otlp_json.span(1)])
    with (
        services.collector(services.CONFIG / "local.yaml", folder=tmp_path) as running,
        grpc.insecure_channel(running.grpc) as channel,
    ):
        export = channel.unary_unary(
            "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            request_serializer=ExportTraceServiceRequest.SerializeToString,
            response_deserializer=ExportTraceServiceResponse.FromString,
        )
        export(as_protobuf(request), timeout=services.WITHIN)
        arrived(running, "traces", 1)
        assert running.lines("traces") == [request]


@pytest.mark.parametrize("tool", FILE_READERS)
def test_the_agent_reads_segments_of_every_signal_and_takes_the_segment_id_off(
    tool: str, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    for signal in SIGNALS:
        otlp_json.segment(home, signal, "a", [1, 2])
        otlp_json.segment(home, signal, "b", [3])
    environ = {"OTEL_EMPATHY_HOME": str(home), "GATEWAY_ENDPOINT": NOWHERE}
    with services.collector(AGENT, folder=tmp_path, environ=environ, tool=tool) as running:
        for signal in SIGNALS:
            records = arrived(running, signal, 3)
            make = otlp_json.LEAVES[signal]
            assert sorted(records, key=str) == sorted((make(1), make(2), make(3)), key=str)
            assert otlp_json.resource_keys(signal, running.lines(signal)) == {"service.name"}


@pytest.mark.tool("collector")
def test_the_agent_reads_the_log_in_the_home_folder_where_none_is_named(tmp_path: Path) -> None:
    otlp_json.segment(tmp_path / ".otel-empathy", "traces", "a", [1])
    environ = {"HOME": str(tmp_path), "GATEWAY_ENDPOINT": NOWHERE}
    with services.collector(AGENT, folder=tmp_path, environ=environ) as running:
        assert numbers(arrived(running, "traces", 1)) == [1]


@pytest.mark.parametrize("tool", FILE_READERS)
def test_the_agent_follows_a_segment_and_waits_for_the_end_of_a_line(
    tool: str, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    file = otlp_json.segment(home, "traces", "a", [1])
    environ = {"OTEL_EMPATHY_HOME": str(home), "GATEWAY_ENDPOINT": NOWHERE}
    with services.collector(AGENT, folder=tmp_path, environ=environ, tool=tool) as running:
        arrived(running, "traces", 1)
        otlp_json.segment(home, "traces", "a", [2])
        with file.open("ab") as stream:
            stream.write(b"not a line of ours\n")
        otlp_json.segment(home, "traces", "a", [3])
        assert numbers(arrived(running, "traces", 3)) == [1, 2, 3]


@pytest.mark.parametrize("tool", FILE_READERS)
def test_an_agent_that_starts_again_goes_on_where_it_stopped(tool: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    otlp_json.segment(home, "traces", "a", [1, 2])
    environ = {"OTEL_EMPATHY_HOME": str(home), "GATEWAY_ENDPOINT": NOWHERE}
    with services.collector(AGENT, folder=tmp_path, environ=environ, tool=tool) as running:
        arrived(running, "traces", 2)
        assert running.stop(services.WITHIN)  # in order, so that it notes how far it has read
    (tmp_path / "data" / "traces.jsonl").unlink()
    otlp_json.segment(home, "traces", "a", [3])
    otlp_json.segment(home, "traces", "b", [4])
    with services.collector(AGENT, folder=tmp_path, environ=environ, tool=tool) as running:
        assert numbers(arrived(running, "traces", 2)) == [3, 4]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("tool", FILE_READERS)
def test_ten_thousand_segments_of_one_process_with_like_content_are_all_read(
    tool: str, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    every = range(1, 10_001)
    # Longer than what a reader tells files apart by, and the same in all of them.
    attributes = otlp_json.attributes({"service.name": "shop", "pad": "x" * 4096})
    resource = otlp_json.encoded({"resource": {"attributes": attributes}})[1:-1]
    segments.make_home(home)
    log = Log(home, service="shop", instance="a" * 16, options=Options(segment_bytes=1024))
    for number in every:
        record = otlp_json.encoded(otlp_json.span(number))
        log.append("traces", resource, b'"scope":{"name":"s"}', record, 1)
    log.close(services.WITHIN)
    assert len(segments.listed(home, "traces")) == len(every)
    environ = {"OTEL_EMPATHY_HOME": str(home), "GATEWAY_ENDPOINT": NOWHERE}
    with services.collector(AGENT, folder=tmp_path, environ=environ, tool=tool) as running:

        def lines() -> int:
            file = running.data / "traces.jsonl"
            return file.read_bytes().count(b"\n") if file.exists() else 0

        services.until(lambda: lines() >= len(every), within=240, what="10,000 segments")
        records = list(otlp_json.leaves("traces", running.lines("traces")))
        assert numbers(records) == list(every)


@pytest.mark.parametrize("tool", FILE_READERS)
def test_two_files_with_an_equal_beginning_and_no_segment_id_are_taken_for_one(
    tool: str, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    for number in (1, 2):
        otlp_json.segment(home, "traces", f"f{number}", [number], named=False, pad=4096)
    environ = {"OTEL_EMPATHY_HOME": str(home), "GATEWAY_ENDPOINT": NOWHERE}
    with services.collector(AGENT, folder=tmp_path, environ=environ, tool=tool) as running:
        first = numbers(arrived(running, "traces", 1))
        otlp_json.segment(home, "traces", "f3", [3])
        assert numbers(arrived(running, "traces", 2)) == [*first, 3]


@pytest.mark.parametrize("tool", FILE_READERS)
def test_an_agent_killed_while_its_gateway_was_away_delivers_everything(
    tool: str, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    sent = 200
    for name in range(4):
        otlp_json.segment(home, "traces", f"s{name}", range(name * 50 + 1, name * 50 + 51))
    door = f"127.0.0.1:{services.free_ports(1)[0]}"
    environ = {"OTEL_EMPATHY_HOME": str(home), "GATEWAY_ENDPOINT": f"http://{door}"}
    agent = services.CONFIG / "agent.yaml"
    folder = tmp_path / "agent"
    # Killed with lines in the queue on disk and, maybe, lines that it has not read yet.
    with services.collector(agent, folder=folder, environ=environ, tool=tool) as running:
        services.until(lambda: "connection refused" in running.printed(), what="a try to send")
        running.kill()
    with (
        services.collector(
            services.CONFIG / "local.yaml",
            folder=tmp_path / "gateway",
            environ={"OTELCOL_OTLP_HTTP": door},
        ) as gateway,
        services.collector(agent, folder=folder, environ=environ, tool=tool),
    ):

        def all_there() -> bool:
            records = list(otlp_json.leaves("traces", gateway.lines("traces")))
            return set(numbers(records)) == set(range(1, sent + 1))

        services.until(all_there, what=f"{sent} spans")


@pytest.mark.parametrize("tool", FILE_READERS)
def test_a_replay_sends_everything_again_at_each_start(tool: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    otlp_json.segment(home, "traces", "a", [1, 2, 3])
    local = services.CONFIG / "local.yaml"
    with services.collector(local, folder=tmp_path / "back") as back:
        environ = {"OTEL_EMPATHY_HOME": str(home), "BACKEND_ENDPOINT": back.http}
        for count in (3, 6):
            replay = services.CONFIG / "replay.yaml"
            with services.collector(replay, folder=tmp_path, environ=environ, tool=tool) as one:
                assert len(arrived(back, "traces", count)) == count
                assert one.stop(services.WITHIN)  # in order, so that nothing is left in its queue


@pytest.mark.tool("collector")
def test_the_otlp_agent_hands_on_what_it_is_sent(tmp_path: Path) -> None:
    local = services.CONFIG / "local.yaml"
    with services.collector(local, folder=tmp_path / "gateway") as gateway:
        environ = {"GATEWAY_ENDPOINT": gateway.http}
        config = services.CONFIG / "agent-otlp.yaml"
        with services.collector(config, folder=tmp_path / "agent", environ=environ) as agent:
            for signal in SIGNALS:
                request = otlp_json.encoded(otlp_json.body(signal, [otlp_json.LEAVES[signal](1)]))
                assert services.request(f"{agent.http}/v1/{signal}", request)[0] == 200
            for signal in SIGNALS:
                assert numbers(arrived(gateway, signal, 1)) == [1]


GATEWAY = [
    services.CONFIG / "gateway.yaml",
    {"processors": {"tail_sampling": {"decision_wait": "1s"}}},
]


@pytest.mark.tool("collector")
def test_the_gateway_keeps_whole_runs_errors_slow_and_dear_traces(tmp_path: Path) -> None:
    run = otlp_json.attributes({"n": 0, "empathy.run.id": "run_1"})
    dear = otlp_json.attributes({"n": 0, "empathy.cost.amount": 0.75})
    cheap = otlp_json.attributes({"n": 0, "empathy.cost.amount": 0.01})
    kept = {
        1: [otlp_json.span(1, trace=1, attributes=run), otlp_json.span(2, trace=1)],
        2: [otlp_json.span(3, trace=2, status={"code": 2}), otlp_json.span(4, trace=2)],
        3: [otlp_json.span(5, trace=3, seconds=6.0), otlp_json.span(6, trace=3)],
        4: [otlp_json.span(7, trace=4, attributes=dear), otlp_json.span(8, trace=4)],
    }
    # The sampler hashes the trace id, so these need ids that look like real ones.
    ids = [hashlib.sha256(bytes([n])).hexdigest()[:32] for n in range(200)]
    rest = [otlp_json.span(100 + n, traceId=each, attributes=cheap) for n, each in enumerate(ids)]
    last = otlp_json.span(9, trace=5, status={"code": 2})
    wanted = {f"{number:016x}" for number in range(1, 9)}
    local = services.CONFIG / "local.yaml"
    with services.collector(local, folder=tmp_path / "back") as back:
        environ = {"BACKEND_ENDPOINT": back.http}

        def found() -> set[str]:
            return {span["spanId"] for span in otlp_json.leaves("traces", back.lines("traces"))}

        with services.collector(GATEWAY, folder=tmp_path / "gateway", environ=environ) as gateway:

            def send(spans: list[dict[str, Any]]) -> None:
                request = otlp_json.encoded(otlp_json.body("traces", spans))
                assert services.request(f"{gateway.http}/v1/traces", request)[0] == 200

            # Spans of one trace come in two requests, as they do from an agent. The second may well
            # come when the trace is decided: what is kept is kept with all that follows.
            for part in (0, 1):
                send([trace[part] for trace in kept.values()])
            send(rest)
            services.until(lambda: wanted <= found(), what="the traces that are kept")
            services.until(lambda: found() - wanted, what="some of the rest")
            # Decisions are made in the order of arrival: behind this one the rest is decided.
            send([last])
            services.until(lambda: last["spanId"] in found(), what="a trace sent at the end")
    some = found() - wanted - {last["spanId"]}
    assert 1 <= len(some) <= 60


@pytest.mark.tool("collector")
def test_the_gateway_masks_planted_secrets_and_leaves_token_counts(tmp_path: Path) -> None:
    planted = {
        "x.api_key": "harmless looking",
        "http.request.header.authorization": "Basic eDp5",
        "prompt": "use sk-abcdefghijklmnopqrstuvwxyz please",
        "aws": "AKIAABCDEFGHIJKLMNOP",
        "header": "Bearer abcdefghijklmnop1234567890",
    }
    kept = {"gen_ai.usage.input_tokens": 12, "empathy.run.id": "run_1", "n": 1}
    span = otlp_json.span(1, attributes=otlp_json.attributes({**planted, **kept}))
    local = services.CONFIG / "local.yaml"
    with services.collector(local, folder=tmp_path / "back") as back:
        environ = {"BACKEND_ENDPOINT": back.http}
        with services.collector(GATEWAY, folder=tmp_path / "gateway", environ=environ) as gateway:
            request = otlp_json.encoded(otlp_json.body("traces", [span]))
            assert services.request(f"{gateway.http}/v1/traces", request)[0] == 200
            record = arrived(back, "traces", 1)[0]
    pairs = {pair["key"]: pair["value"] for pair in record["attributes"]}
    text = json.dumps(pairs)
    secrets = ("harmless", "eDp5", "sk-abc", "AKIAABC", "abcdefghijklmnop1234567890")
    assert [secret for secret in secrets if secret in text] == []
    assert pairs["gen_ai.usage.input_tokens"] == {"intValue": "12"}
    assert pairs["empathy.run.id"] == {"stringValue": "run_1"}


@pytest.mark.tool("promtool")
@pytest.mark.tool("collector")
def test_the_page_for_prometheus_holds_metrics_and_span_metrics_and_passes_its_lint(
    tmp_path: Path,
) -> None:
    environ = {"SPAN_METRICS_INTERVAL": "100ms"}
    config = services.CONFIG / "prometheus.yaml"
    with services.collector(config, folder=tmp_path, environ=environ) as running:
        for signal in ("traces", "metrics"):
            request = otlp_json.encoded(otlp_json.body(signal, [otlp_json.LEAVES[signal](1)]))
            assert services.request(f"{running.http}/v1/{signal}", request)[0] == 200

        def page() -> bytes:
            text = services.request(running.prometheus)[1]
            return text if b"traces_span_metrics_calls" in text and b"calls_1" in text else b""

        text = services.until(page, what="both metrics on the page")
    assert b'gen_ai_request_model="m-1"' in text
    promtool = services.tool_path("promtool")
    assert promtool is not None
    lint = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, check=False
    )
    # The connector's counter has no help text upstream; everything else must be clean.
    assert [line for line in lint.stderr.decode().splitlines() if "span_metrics" not in line] == []


@pytest.mark.tool("prometheus")
@pytest.mark.tool("collector")
def test_prometheus_scrapes_the_page_under_the_names_of_the_programs(tmp_path: Path) -> None:
    with services.collector(services.CONFIG / "prometheus.yaml", folder=tmp_path) as running:
        request = otlp_json.encoded(otlp_json.body("metrics", [otlp_json.metric(7)]))
        assert services.request(f"{running.http}/v1/metrics", request)[0] == 200
        text = (services.CONFIG / "prometheus-scrape.yml").read_text(encoding="utf-8")
        scrape = tmp_path / "scrape.yml"
        target = running.prometheus.removeprefix("http://").removesuffix("/metrics")
        text = text.replace("127.0.0.1:8889", target).replace("15s", "1s")
        scrape.write_text(text, encoding="utf-8")
        with services.prometheus(scrape, folder=tmp_path) as server:
            found = services.until(lambda: server.query("calls_7_total"), what="a scrape")
    assert (found[0]["metric"]["job"], found[0]["value"][1]) == ("shop", "7")


@pytest.mark.tool("promtool")
def test_promtool_finds_the_scrape_configuration_valid() -> None:
    promtool = services.tool_path("promtool")
    assert promtool is not None
    config = services.CONFIG / "prometheus-scrape.yml"
    done = subprocess.run([promtool, "check", "config", config], capture_output=True, check=False)
    assert done.returncode == 0, done.stdout
