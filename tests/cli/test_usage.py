from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from store.lines import SECOND, call, line, segment

from otel_empathy.cli import main
from otel_empathy.core.clock import SYSTEM


def shown(capsys: pytest.CaptureFixture[str], *args: str) -> dict[str, Any]:
    assert main(list(args)) == 0
    (line,) = capsys.readouterr().out.splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


@pytest.mark.system("1")
@pytest.mark.parametrize("by", ["model", "tier", "workflow", "provider", "user"])
def test_usage_is_grouped_as_asked(demo: Any, capsys: pytest.CaptureFixture[str], by: str) -> None:
    usage = shown(capsys, "usage", "--by", by, "--home", str(demo.home))
    assert usage["by"] == by
    assert sum(row["calls"] for row in usage["rows"]) == usage["total_calls"] > 0


@pytest.mark.system("21")
@pytest.mark.parametrize(
    "window",
    [
        ["--days", "0"],
        ["--since", "2099-01-01"],
        ["--until", "2020-01-01"],
        ["--since", "2020-01-01", "--until", "2021-01-01"],
    ],
)
def test_a_window_is_applied_and_not_merely_printed(
    demo: Any, capsys: pytest.CaptureFixture[str], window: list[str]
) -> None:
    usage = shown(capsys, "usage", *window, "--home", str(demo.home))
    assert usage["total_calls"] == 0
    assert usage["error_rate"] is usage["savings"]["savings_percent"] is None
    assert usage["days"] == (0 if "--days" in window else None)


@pytest.mark.parametrize("window", [["--last", "1h"], ["--days", "1"], ["--since", "1h"], []])
def test_a_window_around_now_holds_what_just_happened(
    demo: Any, capsys: pytest.CaptureFixture[str], window: list[str]
) -> None:
    assert shown(capsys, "usage", *window, "--home", str(demo.home))["total_calls"] >= 5


def test_savings_are_repriced_on_request(demo: Any, capsys: pytest.CaptureFixture[str]) -> None:
    usage = shown(capsys, "usage", "--method", "repriced", "--home", str(demo.home))
    savings = usage["savings"]
    assert (savings["method"], savings["reference"]) == ("repriced", "demo/demo-large")


def test_the_reference_of_repriced_savings_can_be_named(
    demo: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["usage", "--method", "repriced", "--home", str(demo.home), "--reference"]
    assert shown(capsys, *args, "demo/demo-mini")["savings"]["reference"] == "demo/demo-mini"
    assert main([*args, "nobody/nothing"]) == 2
    assert "the price table does not know it" in capsys.readouterr().err


def test_long_lists_of_names_are_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    now = SYSTEM.time_ns() - 9 * SECOND
    sent = [call(workflow=f"w{n:03d}{'x' * 99}", start=now, cost=1 + n) for n in range(50)]
    segment(tmp_path, line(*sent))
    assert main(["usage", "--table", "--home", str(tmp_path)]) == 0
    seen = capsys.readouterr().out
    assert "w049xxx" in seen
    assert "w010" not in seen
    assert " 44 more" in seen
    assert "x" * 41 not in seen


def test_the_table_has_a_row_for_each_group_and_the_savings(
    demo: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["usage", "--table", "--home", str(demo.home)]) == 0
    seen = capsys.readouterr().out
    for text in (
        "demo-mini",
        "demo-medium",
        "demo-large",
        "by tier",
        "day-trip",
        "Savings",
        "saved",
    ):
        assert text in seen


def test_no_calls_are_no_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["usage", "--table", "--home", str(tmp_path / "new")]) == 0
    output = capsys.readouterr()
    assert "no calls" in output.out
    assert "otel-empathy demo" in output.err


@pytest.mark.system("1")
def test_prompt_caches_are_shown_by_workflow(demo: Any, capsys: pytest.CaptureFixture[str]) -> None:
    view = shown(capsys, "cache", "--home", str(demo.home))
    assert view["hit_rate"] == 0.5
    assert view["by_workflow"]["day-trip"]["hits"] == view["hit_count"]
    assert view["unpriced_models"] == []
    assert main(["cache", "--table", "--home", str(demo.home)]) == 0
    assert "50.0 %" in capsys.readouterr().out


def test_no_requests_are_no_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "--table", "--home", str(tmp_path)]) == 0
    assert "no requests" in capsys.readouterr().out


def test_lines_that_cannot_be_read_are_said(
    demo: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "traces").mkdir()
    (tmp_path / "traces" / "x.jsonl").write_bytes(b"garbage\n")
    assert main(["usage", "--home", str(tmp_path)]) == 0
    note = capsys.readouterr().err
    assert "1 line could not be read" in note
    assert "x.jsonl at byte 0 (corrupt)" in note


def test_unusable_prices_are_a_usage_error(
    demo: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("OTEL_EMPATHY_PRICES", str(tmp_path / "none.json"))
    assert main(["cache", "--home", str(demo.home)]) == 2
    assert "none.json" in capsys.readouterr().err
