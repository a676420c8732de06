from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from store.lines import call, line, segment

from otel_empathy.cli import main


def test_calls_are_written_as_csv(demo: Any, tmp_path: Path) -> None:
    target = tmp_path / "calls.csv"
    assert main(["export", "-f", "csv", "-o", str(target), "--home", str(demo.home)]) == 0
    with target.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) >= 5
    assert {row["model"] for row in rows} == {"demo-mini", "demo-medium", "demo-large"}
    assert target.stat().st_mode & 0o777 == 0o600


def test_calls_are_written_as_flat_lines(demo: Any, tmp_path: Path) -> None:
    target = tmp_path / "calls.jsonl"
    assert main(["export", "-f", "jsonl", "-o", str(target), "--home", str(demo.home)]) == 0
    rows = [json.loads(line) for line in target.read_text().splitlines()]
    assert {row["v"] for row in rows} == {1}


@pytest.mark.parametrize(
    ("signal", "outer"),
    [("traces", "resourceSpans"), ("logs", "resourceLogs"), ("metrics", "resourceMetrics")],
)
def test_a_signal_is_written_as_otlp(demo: Any, tmp_path: Path, signal: str, outer: str) -> None:
    target = tmp_path / "out.jsonl"
    args = ["export", "-f", "otlp", "--signal", signal, "-o", str(target)]
    assert main([*args, "--home", str(demo.home)]) == 0
    rows = [json.loads(line) for line in target.read_text().splitlines()]
    assert rows
    assert all(set(row) == {outer} for row in rows)


def test_traces_export_is_the_same_as_otlp(demo: Any, tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    assert main(["export", "-f", "otlp", "-o", str(one), "--home", str(demo.home)]) == 0
    assert main(["traces", "export", "-o", str(other), "--home", str(demo.home)]) == 0
    assert one.read_bytes() == other.read_bytes()


def test_standard_output_is_the_default(demo: Any, capfdbinary: Any) -> None:
    assert main(["export", "-f", "csv", "--home", str(demo.home)]) == 0
    output = capfdbinary.readouterr()
    assert output.out.startswith(b"ts,workflow,stage,tier,model,provider,cost,")
    assert b"calls of the whole log to stdout" in output.err


def test_a_window_is_applied(demo: Any, tmp_path: Path) -> None:
    target = tmp_path / "calls.csv"
    args = ["export", "-f", "csv", "-o", str(target), "--until", "2020-01-01"]
    assert main([*args, "--home", str(demo.home)]) == 0
    assert len(target.read_text().splitlines()) == 1


@pytest.mark.fault("H10")
@pytest.mark.parametrize("target", ["/etc/calls.csv", "/dev/full", "/proc/self/mem", "/", "."])
def test_a_forbidden_target_is_usage(
    demo: Any, target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "-f", "csv", "-o", target, "--home", str(demo.home)]) == 2
    assert "output" in capsys.readouterr().err


def test_a_missing_folder_is_unavailable(demo: Any, tmp_path: Path) -> None:
    target = str(tmp_path / "no" / "calls.csv")
    assert main(["export", "-f", "csv", "-o", target, "--home", str(demo.home)]) == 3


def test_a_signal_needs_otlp(demo: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "-f", "csv", "--signal", "logs", "--home", str(demo.home)]) == 2
    assert "needs -f otlp" in capsys.readouterr().err


@pytest.mark.fault("H10")
def test_an_export_never_replaces_a_segment(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = segment(tmp_path, line(call()))
    for args in (["export", "-f", "jsonl"], ["traces", "export"]):
        assert main([*args, "-o", str(path), "--home", str(tmp_path)]) == 2
        assert "in the log itself" in capsys.readouterr().err
    assert path.read_bytes().count(b"\n") == 1


@pytest.mark.fault("C3")
@pytest.mark.parametrize("form", ["csv", "jsonl", "otlp"])
def test_a_terminal_obeys_nothing_of_what_is_exported(
    tmp_path: Path, terminal: Callable[..., tuple[int, str]], form: str
) -> None:
    nasty = "\x1b]0;title\x07\u202ea\x9b2J\nb"
    segment(tmp_path, line(call(model=nasty)))
    code, seen = terminal("export", "-f", form, "--home", str(tmp_path), coloured=True)
    assert code == 0
    assert "gpt-4o" not in seen
    assert not set(seen) & set("\x1b\x07\x9b\u202e")
    assert main(["export", "-f", "csv", "-o", str(tmp_path / "x"), "--home", str(tmp_path)]) == 0
    assert nasty in (tmp_path / "x").read_text()
