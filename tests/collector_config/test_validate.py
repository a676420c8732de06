"""Every shipped configuration is taken by the program that it is for."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import services

pytestmark = pytest.mark.timeout(180)  # a Collector on a busy machine

TOPOLOGIES = sorted(
    file.name
    for file in services.CONFIG.glob("*.yaml")
    if not file.name.startswith("builder") and file.name != "jaeger.yaml"
)
NOWHERE = {"GATEWAY_ENDPOINT": "http://127.0.0.1:9", "BACKEND_ENDPOINT": "http://127.0.0.1:9"}
# What the Collector says of old aliases, retired components and keys that will go.
COMPLAINT = re.compile(r"(?i)deprecat|alias|will be removed|\terror\t|^panic")


def complaints(printed: str) -> list[str]:
    return [line for line in printed.splitlines() if COMPLAINT.search(line)]


def validate(tool: str, config: Path) -> subprocess.CompletedProcess[str]:
    found = services.tool_path(tool)
    assert found is not None
    return subprocess.run(
        [found, "validate", "--config", config],
        env=NOWHERE | {"HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.tool("collector")
@pytest.mark.parametrize("name", TOPOLOGIES)
def test_the_collector_finds_a_configuration_valid(name: str) -> None:
    done = validate("collector", services.CONFIG / name)
    assert (done.returncode, complaints(done.stderr)) == (0, [])


@pytest.mark.tool("collector-contrib")
@pytest.mark.parametrize("name", TOPOLOGIES)
def test_a_collector_of_contrib_parts_alone_finds_a_configuration_valid(name: str) -> None:
    done = validate("collector-contrib", services.CONFIG / name)
    assert (done.returncode, complaints(done.stderr)) == (0, [])


@pytest.mark.tool("jaeger")
def test_jaeger_finds_its_configuration_valid() -> None:
    done = validate("jaeger", services.CONFIG / "jaeger.yaml")
    assert (done.returncode, complaints(done.stderr)) == (0, [])


@pytest.mark.tool("collector")
def test_a_key_that_does_not_exist_is_found(tmp_path: Path) -> None:
    spoilt = tmp_path / "agent.yaml"
    text = (services.CONFIG / "agent.yaml").read_text(encoding="utf-8")
    spoilt.write_text(text.replace("fingerprint_size", "finger_print_size"), encoding="utf-8")
    done = validate("collector", spoilt)
    assert done.returncode != 0
    assert "finger_print_size" in done.stderr


@pytest.mark.tool("collector")
@pytest.mark.parametrize("name", TOPOLOGIES)
def test_a_configuration_starts_and_stops_without_a_complaint(name: str, tmp_path: Path) -> None:
    environ = NOWHERE | {"OTEL_EMPATHY_HOME": str(tmp_path / "home")}
    with services.collector(services.CONFIG / name, folder=tmp_path, environ=environ) as running:
        assert running.stop(services.WITHIN)
        printed = running.printed()
    assert "Everything is ready" in printed
    # The folders of the log appear with the first record; until then the readers say so.
    assert [line for line in complaints(printed) if "no files match" not in line] == []


@pytest.mark.tool("collector")
def test_an_old_alias_would_be_noticed(tmp_path: Path) -> None:
    config = {
        "extensions": {"health_check": {"endpoint": "${env:OTELCOL_HEALTH}"}},
        "receivers": {"otlp": {"protocols": {"http": {"endpoint": "${env:OTELCOL_OTLP_HTTP}"}}}},
        "exporters": {"otlphttp": {"endpoint": "http://127.0.0.1:9"}},
        "service": {
            "telemetry": {"metrics": {"level": "none"}},
            "extensions": ["health_check"],
            "pipelines": {"traces": {"receivers": ["otlp"], "exporters": ["otlphttp"]}},
        },
    }
    with services.collector(config, folder=tmp_path) as running:
        assert complaints(running.printed())


@pytest.mark.tool("jaeger")
def test_jaeger_starts_and_stops_without_a_complaint(tmp_path: Path) -> None:
    with services.jaeger(folder=tmp_path) as running:
        assert running.stop(services.WITHIN)
        assert complaints(running.printed()) == []
