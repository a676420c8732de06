from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from otel_empathy.cli import main

Terminal = Callable[..., tuple[int, str]]


@pytest.fixture
def trace(demo: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(demo.out.splitlines()[0])
    return found


def spans(trace: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [span for span in trace["spans"] if span["name"] == name]


def test_the_demo_prints_its_trace_and_its_usage_as_json(demo: Any, trace: dict[str, Any]) -> None:
    usage = json.loads(demo.out.splitlines()[1])
    assert len(demo.out.splitlines()) == 2
    assert trace["trace_id"]
    assert (usage["total_calls"], usage["errors"], usage["cache_hits"]) == (5, 1, 1)
    assert (usage["tokens_input"], usage["tokens_output"], usage["tokens_cached"]) == (
        4462,
        135,
        3376,
    )
    assert {row["name"] for row in usage["rows"]} == {"demo-mini", "demo-medium", "demo-large"}
    assert usage["savings"]["method"] == "premium_mean"


def test_the_trace_is_one_tree_of_every_kind_of_span(trace: dict[str, Any]) -> None:
    names = Counter(span["name"].split(" ")[0] for span in trace["spans"])
    assert names == {
        "invoke_workflow": 1, "invoke_agent": 1, "phase": 6, "chat": 5, "execute_tool": 2,
    }  # fmt: skip
    assert [span["name"] for span in trace["spans"] if span["parent_id"] is None] == [
        "invoke_workflow day-trip"
    ]
    assert not any(span["orphan"] for span in trace["spans"])


def test_what_fails_is_marked_and_nothing_else(trace: dict[str, Any]) -> None:
    failed = {
        span["name"]: span["attributes"]["error.type"] for span in trace["spans"] if span["failed"]
    }
    assert failed == {"chat demo-large": "500", "execute_tool museums": "TimeoutError"}


def test_a_refused_request_is_a_retry_inside_its_call(trace: dict[str, Any]) -> None:
    call = next(span for span in spans(trace, "chat demo-mini") if span["tokens_input"])
    assert call["attributes"]["empathy.call.retries"] == 1
    assert [event["name"] for event in call["events"]] == ["empathy.call.retried"]
    assert not call["failed"]


def test_the_streamed_reply_is_one_span_with_its_chunks(trace: dict[str, Any]) -> None:
    (call,) = spans(trace, "chat demo-medium")
    found = call["attributes"]
    assert found["gen_ai.request.stream"] is True
    assert found["empathy.call.chunks"] > 10
    assert found["gen_ai.response.time_to_first_chunk"] < call["duration"]
    assert found["empathy.call.fallback_from"] == "demo/demo-large"


def test_every_answered_call_has_its_cost(trace: dict[str, Any]) -> None:
    costs = {
        (span["name"], span["cost"]) for span in trace["spans"] if span["name"].startswith("chat")
    }
    assert costs == {
        ("chat demo-mini", 0.0),  # from the cache
        ("chat demo-mini", 0.000085),
        ("chat demo-large", None),  # failed
        ("chat demo-medium", 0.000602),
        ("chat demo-large", 0.00399),
    }


def test_it_says_where_the_log_is_and_what_to_try(demo: Any) -> None:
    assert f"the log is in {demo.home}/otlp" in demo.err
    for command in ("traces", "usage --by tier", "tail", "status"):
        assert f"otel-empathy {command} --home {demo.home}" in demo.err


def test_nothing_of_the_conversation_or_the_user_is_in_the_log(demo: Any) -> None:
    kept = b"".join(path.read_bytes() for path in (demo.home / "otlp").rglob("*.jsonl"))
    assert kept
    for secret in (b"rainy", b"tile museum", b"ada@example.com"):
        assert secret not in kept


def test_the_demo_is_a_tree_and_a_table_on_a_terminal(demo: Any, terminal: Terminal) -> None:
    code, seen = terminal("demo", "--home", str(demo.home))
    assert code == 0
    assert "└─ invoke_agent guide" in seen
    assert "✗ chat demo-large  500: the server had an error" in seen
    assert "Savings" in seen
    drawn = seen.partition("an agent asks")[2].partition("the log is in")[0]
    assert max(map(len, drawn.splitlines())) <= 80


def test_a_backend_that_is_not_there_is_said_and_loses_nothing(tmp_path: Any) -> None:
    result = subprocess.run(
        [
            sys.executable, "-m", "otel_empathy.cli", "demo",
            "--home", str(tmp_path / "home"), "--endpoint", "http://127.0.0.1:1",
        ],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "backend http-127.0.0.1-1: " in result.stderr
    assert ", 0 of " in result.stderr
    assert json.loads(result.stdout.splitlines()[0])["calls"] == 5


def test_a_log_that_is_switched_off_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Any
) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert main(["demo", "--home", str(tmp_path)]) == 2
    assert "unset it for the demo" in capsys.readouterr().err


def test_a_home_that_cannot_be_written_is_said_in_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    assert main(["demo", "--home", str(tmp_path / "file" / "home")]) == 1
    seen = capsys.readouterr()
    assert seen.out == ""
    (line,) = seen.err.splitlines()
    assert line.startswith("error: there can be no log: ")
    assert str(tmp_path / "file") in line
    assert "OTEL_EMPATHY_HOME" in line
