from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from faulty import FaultyBackend

from otel_empathy.cli import main
from otel_empathy.pipeline.ledger import Record

CRASHING = """
import os, sys
import otel_empathy as oe
oe.configure(service="shop", home=sys.argv[1], backends=[oe.Otlp(sys.argv[2], start="oldest")])
for _ in range(3):
    with oe.workflow(name="left"):
        pass
os._exit(9)
"""


def status(capsys: pytest.CaptureFixture[str], home: Path) -> dict[str, Any]:
    assert main(["status", "--home", str(home)]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


def test_the_ledger_of_the_demo_is_even(demo: Any, capsys: pytest.CaptureFixture[str]) -> None:
    found = status(capsys, demo.home)
    ledger = found["ledger"]
    assert ledger["offered"] == ledger["acked"] + ledger["waiting"] + sum(
        ledger["dropped"].values()
    )
    assert ledger["acked"] > 15
    assert found["log"]["home"] == str(demo.home)


def test_a_table_shows_the_log_and_the_ledger(
    demo: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", "--table", "--home", str(demo.home)]) == 0
    seen = capsys.readouterr().out
    for text in ("segments", "traces", "offered", "acked", "dropped  0"):
        assert text in seen


def test_an_empty_home_has_a_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = status(capsys, tmp_path / "new")
    assert found["ledger"]["offered"] == found["log"]["segments"] == 0
    assert main(["status", "--table", "--home", str(tmp_path / "new")]) == 0


@pytest.fixture
def left(tmp_path: Path) -> Path:
    """A home in which a process died before anything was shipped."""
    home = tmp_path / "home"
    result = subprocess.run(
        [sys.executable, "-c", CRASHING, str(home), "http://127.0.0.1:1"],
        timeout=15,
        check=False,
        stderr=subprocess.DEVNULL,
    )
    assert result.returncode == 9
    return home


def test_ship_sends_what_a_dead_process_left(
    left: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with FaultyBackend() as backend:
        args = ["ship", "--endpoint", backend.endpoint, "--home", str(left)]
        assert main(args) == 0
    (row,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (row["state"], row["dropped"]) == ("healthy", {})
    assert row["shipped"] >= 3
    ledger = status(capsys, left)["ledger"]["backends"][row["backend"]]
    assert (ledger["shipped"], ledger["pending"]) == (row["shipped"], 0)


def test_ship_says_that_a_backend_is_not_there(
    left: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["ship", "--endpoint", "http://127.0.0.1:1", "--home", str(left)]
    assert main(args) == 3
    assert "the log keeps the rest" in capsys.readouterr().err
    assert main([*args, "--table"]) == 3
    assert main(["status", "--table", "--home", str(left)]) == 0
    assert "http-127.0.0.1-1  retrying" in capsys.readouterr().out


def test_ship_says_that_its_time_was_too_short(
    left: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["ship", "--endpoint", "http://127.0.0.1:1", "--timeout", "0", "--home", str(left)]
    assert main(args) == 3
    captured = capsys.readouterr()
    assert json.loads(captured.out)["unfinished"] is True
    assert "not all was sent in 0 s, give a longer --timeout" in captured.err


def test_ship_sends_a_new_endpoint_nothing_when_told_so(
    left: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["ship", "--endpoint", "http://127.0.0.1:2", "--start", "now", "--home", str(left)]
    assert main(args) == 0
    assert json.loads(capsys.readouterr().out)["shipped"] == 0


def test_ship_takes_the_backends_of_the_environment(
    left: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    assert main(["ship", "--home", str(left)]) == 3


def test_ship_needs_a_backend(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ship", "--home", str(tmp_path)]) == 2
    assert "--endpoint" in capsys.readouterr().err


def test_a_malformed_endpoint_is_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ship", "--endpoint", "nonsense", "--home", str(tmp_path)]) == 2
    assert "http://localhost:4318" in capsys.readouterr().err


@pytest.mark.parametrize("leased", [False, True])
def test_a_home_without_locks_is_said(
    leased: bool, empathy_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = Record(instance="a" * 8, service="shop", pid=7, leased=leased)
    assert record.open(empathy_home)
    try:
        assert main(["status", "--table", "--home", str(empathy_home)]) == 0
        assert ("without locks" in " ".join(capsys.readouterr().err.split())) == leased
        (process,) = status(capsys, empathy_home)["processes"]
        assert process["leased"] is leased
    finally:
        record.close()
