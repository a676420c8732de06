"""The machinery that starts real programs for other tests."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import services

SERVER = "import http.server, sys; http.server.test(http.server.SimpleHTTPRequestHandler, port=int(sys.argv[1]), bind='127.0.0.1')"  # noqa: E501


TABLE = ["tests/collector_config/test_validate.py", "-k", "contrib_parts and agent"]


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_a_service_is_ready_when_it_answers_and_gone_after_its_block(tmp_path: Path) -> None:
    (port,) = services.free_ports(1)
    command = [sys.executable, "-c", SERVER, str(port)]
    ready = f"http://127.0.0.1:{port}/"
    with services.start("web", command, folder=tmp_path, ready=ready) as running:
        assert services.request(ready)[0] == 200
        assert alive(running.process.pid)
    assert not alive(running.process.pid)
    assert "GET /" in (tmp_path / "web.log").read_text(encoding="utf-8")


def test_a_program_that_ends_at_once_is_reported_with_what_it_said(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; print('port taken'); sys.exit(4)"]
    with pytest.raises(services.ServiceError, match=r"ended with 4\s+port taken"):
        services.start("bad", command, folder=tmp_path, ready="127.0.0.1:1")


def test_a_program_that_never_answers_is_ended_and_reported(tmp_path: Path) -> None:
    script = "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(60)"
    (port,) = services.free_ports(1)
    with pytest.raises(services.ServiceError, match="was not ready"):
        services.start(
            "slow",
            [sys.executable, "-c", script],
            folder=tmp_path,
            ready=f"127.0.0.1:{port}",
            within=0.5,
        )
    assert not alive(int((tmp_path / "pid").read_text(encoding="ascii") or os.getpid()))


def test_a_program_that_ignores_sigterm_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "STOP_WITHIN", 0.2)
    script = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SERVER
    (port,) = services.free_ports(1)
    command = [sys.executable, "-c", script, str(port)]
    running = services.start("deaf", command, folder=tmp_path, ready=f"127.0.0.1:{port}")
    assert not running.stop()
    assert not alive(running.process.pid)


def test_free_ports_are_different_and_free() -> None:
    ports = services.free_ports(20)
    assert len(set(ports)) == 20
    with socket.socket() as each:
        each.bind(("127.0.0.1", ports[0]))


def test_a_condition_that_never_holds_ends_at_the_deadline() -> None:
    with pytest.raises(TimeoutError, match="the moon"):
        services.until(lambda: 0, within=0.05, what="the moon")


@pytest.mark.timeout(120)
def test_every_marker_names_a_component_and_a_run_ends_with_their_table() -> None:
    named = set()
    for file in services.ROOT.glob("tests/**/*.py"):
        named |= set(re.findall(r'mark\.(?:tool|component)\("([^"]+)"\)', file.read_text("utf-8")))
    assert named == {each.name for each in services.COMPONENTS}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *TABLE],
        cwd=services.ROOT, capture_output=True, text=True,
    )  # fmt: skip
    _, _, table = done.stdout.partition(" components ")
    (row,) = (line for line in table.splitlines() if line.startswith("Collector with contrib"))
    version = services.component("collector-contrib").version
    words = row.removeprefix(services.component("collector-contrib").title).split()
    assert words[:2] == [version, "P"]
    excused = services.tool_path("collector-contrib") is None
    assert words[2:4] == (["skipped", "2"] if excused else ["ran", "2"])
    assert ("excused" in row) == excused
