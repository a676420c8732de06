"""What holds for every shipped configuration, with or without a Collector at hand."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any

import pytest
import services
import yaml

Config = dict[str, Any]

JAEGER = "jaeger.yaml"
TOPOLOGIES = sorted(
    file.name for file in services.CONFIG.glob("*.yaml") if not file.name.startswith("builder")
)
OLD_NAMES = {
    "receivers": {"otlpjsonfile", "filelog"},
    "processors": {"batch", "k8sattributes"},
    "exporters": {"otlp", "otlphttp", "loadbalancing", "logging"},
    "connectors": {"spanmetrics"},
    "extensions": {"memory_ballast"},
}
# id -> the module that brings it; the manifest must hold each one that a configuration uses
MODULES = {
    ("receivers", "otlp"): "otlpreceiver",
    ("receivers", "otlp_json_file"): "otlpjsonfile",
    ("processors", "memory_limiter"): "memorylimiterprocessor",
    ("processors", "redaction"): "redactionprocessor",
    ("processors", "transform"): "transformprocessor",
    ("processors", "tail_sampling"): "tailsamplingprocessor",
    ("connectors", "span_metrics"): "spanmetricsconnector",
    ("extensions", "file_storage"): "filestorage",
    ("extensions", "health_check"): "healthcheckextension",
    ("exporters", "otlp_http"): "otlphttpexporter",
    ("exporters", "debug"): "debugexporter",
    ("exporters", "file"): "fileexporter",
    ("exporters", "prometheus"): "prometheusexporter",
}
LOOPBACK = re.compile(r"127\.0\.0\.1:\d+|\$\{env:[A-Z_]+(:-127\.0\.0\.1:\d+)?\}")
SECRET = re.compile(r"(?i)api_?key$|^token|password|secret|authorization")


def load(name: str) -> Config:
    config: Config = yaml.safe_load((services.CONFIG / name).read_text(encoding="utf-8"))
    return config


def kind(component: str) -> str:
    return component.partition("/")[0]


def values(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from values(value, (*path, str(key)))
    elif isinstance(node, list):
        for value in node:
            yield from values(value, path)
    else:
        yield path, node


def unused_and_undefined(config: Config) -> Iterator[str]:
    pipelines = config["service"]["pipelines"].values()
    connectors = set(config.get("connectors", {}))
    sources = {each for pipeline in pipelines for each in pipeline["receivers"]}
    steps = {each for pipeline in pipelines for each in pipeline.get("processors", [])}
    sinks = {each for pipeline in pipelines for each in pipeline["exporters"]}
    used = {
        "receivers": sources - connectors,
        "processors": steps,
        "exporters": sinks - connectors,
        "extensions": set(config["service"].get("extensions", [])),
    }
    for group, names in used.items():
        for name in names ^ set(config.get(group, {})):
            yield f"{name} of {group} is {'undefined' if name in names else 'unused'}"
    for name in connectors - (sources & sinks):
        yield f"connector {name} does not stand on both ends"
    for path, value in values(config):
        if path[-1] == "storage" and isinstance(value, str):
            known = used["extensions"] | set(config["extensions"].get("jaeger_storage", {}))
            if value not in known:
                yield f"storage {value} is undefined"


def wrong_limiters(config: Config) -> Iterator[str]:
    for name, pipeline in config["service"]["pipelines"].items():
        steps = [kind(step) for step in pipeline.get("processors", [])]
        sources = {kind(source) for source in pipeline["receivers"]}
        if "otlp" in sources and steps[:1] != ["memory_limiter"]:
            yield f"pipeline {name} is fed by the network: memory_limiter comes first"
        if "otlp_json_file" in sources and "memory_limiter" in steps:
            yield f"pipeline {name} is fed by files: a refused line would be lost"


def losing_queues(config: Config) -> Iterator[str]:
    for name, pipeline in config["service"]["pipelines"].items():
        if not any(kind(source) == "otlp_json_file" for source in pipeline["receivers"]):
            continue
        for sink in pipeline["exporters"]:
            queue = config["exporters"][sink]["sending_queue"]
            if "storage" not in queue or queue.get("block_on_overflow") is not True:
                yield f"exporter {sink} of pipeline {name} may refuse a line"


def old_names(config: Config) -> Iterator[str]:
    for group, old in OLD_NAMES.items():
        for name in config.get(group, {}):
            if kind(name) in old:
                yield f"{name} of {group} is an old name or retired"


def open_doors(config: Config) -> Iterator[str]:
    for path, value in values({key: config.get(key) for key in ("receivers", "extensions")}):
        if path[-1] == "endpoint" and not LOOPBACK.fullmatch(value):
            yield f"{'.'.join(path)} is {value}"
    for path, value in values(config.get("exporters", {})):
        if path[-1] == "endpoint" and not LOOPBACK.fullmatch(value):
            yield f"{'.'.join(path)} is {value}"


def mixed_signals(config: Config) -> Iterator[str]:
    signals: dict[str, set[str]] = {}
    for name, pipeline in config["service"]["pipelines"].items():
        for source in pipeline["receivers"]:
            signals.setdefault(source, set()).add(kind(name))
    for source, found in signals.items():
        if kind(source) == "otlp_json_file":
            if len(found) > 1:
                yield f"{source} serves {sorted(found)}"
            if f"/{next(iter(found))}/*.jsonl" not in config["receivers"][source]["include"][0]:
                yield f"{source} reads files of another signal"


def reading_rules(config: Config) -> Iterator[str]:
    for name, receiver in config.get("receivers", {}).items():
        if kind(name) == "otlp_json_file":
            kept = (receiver["start_at"], receiver["max_log_size"], receiver["fingerprint_size"])
            if kept != ("beginning", "4MiB", "4KiB"):
                yield f"{name} reads by other rules: {kept}"


def open_secrets(config: Config) -> Iterator[str]:
    for path, value in values(config):
        if SECRET.search(path[-1]) and not str(value).startswith("${env:"):
            yield f"{'.'.join(path)} is written out"


MIXED = {"receivers": ["otlp_json_file/traces"], "exporters": ["otlp_http"]}
RULES = [
    unused_and_undefined, wrong_limiters, losing_queues, old_names, open_doors, mixed_signals,
    reading_rules, open_secrets,
]  # fmt: skip


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("name", TOPOLOGIES)
def test_a_shipped_configuration_keeps_the_rule(name: str, rule: Any) -> None:
    assert list(rule(load(name))) == []


def spoil(name: str, path: str, value: Any) -> Config:
    config = copy.deepcopy(load(name))
    *folders, last = path.split(".")
    node = config
    for folder in folders:
        node = node[folder]
    node[last] = value
    return config


@pytest.mark.parametrize(
    ("rule", "name", "path", "value"),
    [
        (unused_and_undefined, "local.yaml", "exporters.nowhere", {}),
        (unused_and_undefined, "local.yaml", "service.extensions", []),
        (unused_and_undefined, "local.yaml", "service.pipelines.traces.exporters", ["nowhere"]),
        (unused_and_undefined, "prometheus.yaml", "service.pipelines.traces.exporters", []),
        (unused_and_undefined, "agent.yaml", "exporters.otlp_http.sending_queue.storage", "ram"),
        (wrong_limiters, "local.yaml", "service.pipelines.traces.processors", []),
        (wrong_limiters, "agent.yaml", "service.pipelines.traces.processors", ["memory_limiter"]),
        (losing_queues, "agent.yaml", "exporters.otlp_http.sending_queue.block_on_overflow", False),
        (losing_queues, "replay.yaml", "exporters.otlp_http.sending_queue", {"batch": {}}),
        (old_names, "local.yaml", "processors.batch", {}),
        (old_names, "agent.yaml", "exporters.otlphttp/x", {}),
        (open_doors, "local.yaml", "receivers.otlp.protocols.grpc.endpoint", "0.0.0.0:4317"),
        (open_doors, "gateway.yaml", "exporters.otlp_http.endpoint", "https://otlp.example"),
        (
            mixed_signals,
            "agent.yaml",
            "service.pipelines.logs.receivers",
            ["otlp_json_file/traces"],
        ),
        (reading_rules, "agent.yaml", "receivers.otlp_json_file/traces.start_at", "end"),
        (open_secrets, "gateway.yaml", "exporters.otlp_http.headers", {"api_key": "12345"}),
    ],
)
def test_a_spoilt_configuration_breaks_the_rule(
    rule: Any, name: str, path: str, value: Any
) -> None:
    assert list(rule(spoil(name, path, value)))


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_a_header_says_who_sends_who_receives_and_how_to_start(name: str) -> None:
    header = (services.CONFIG / name).read_text(encoding="utf-8").partition("\nextensions:")[0]
    assert all(line.startswith("#") for line in header.splitlines())
    assert all(word in header for word in ("sends:", "receives:", "start:", name))


@pytest.mark.parametrize("name", [name for name in TOPOLOGIES if name != JAEGER])
@pytest.mark.parametrize("manifest", ["builder.yaml", "builder-contrib.yaml"])
def test_the_manifest_builds_every_component_that_is_used(name: str, manifest: str) -> None:
    built = load(manifest)
    for group in ("receivers", "processors", "exporters", "connectors", "extensions"):
        modules = " ".join(row["gomod"] for row in built[group])
        for component in load(name).get(group, {}):
            assert MODULES[group, kind(component)] in modules


def test_core_and_contrib_of_the_manifest_share_one_version() -> None:
    rows = [row["gomod"] for group in load("builder.yaml").values() if isinstance(group, list)
            for row in group]  # fmt: skip
    assert {row.split()[1] for row in rows} == {"v0.159.0", "v1.65.0", "v0.0.0"}
    assert all((" v1.65.0" in row) == ("/confmap/provider/" in row) for row in rows)


def test_the_two_manifests_differ_only_in_the_receiver_of_files() -> None:
    ours, contrib = load("builder.yaml"), load("builder-contrib.yaml")
    own = [row for row in ours["receivers"] if row not in contrib["receivers"]]
    theirs = [row for row in contrib["receivers"] if row not in ours["receivers"]]
    assert own == [
        {"gomod": "otel-empathy/otlpjsonfile v0.0.0", "path": "./collector-config/otlpjsonfile"}
    ]
    assert [row["gomod"].rpartition("/")[2] for row in theirs] == ["otlpjsonfilereceiver v0.159.0"]
    for both in (ours, contrib):
        both.pop("receivers")
    assert ours == contrib
