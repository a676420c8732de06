from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from store.lines import SECOND, call, line, segment, span

from otel_empathy.cli import main
from otel_empathy.core.clock import SYSTEM

WRITER = """
import sys
import otel_empathy as oe
with oe.configure(service="shop", home=sys.argv[1]):
    for name in sys.argv[2:]:
        with oe.workflow(name=name):
            pass
"""


def lines(capsys: pytest.CaptureFixture[str], *args: str) -> list[dict[str, Any]]:
    assert main(["tail", *args]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_the_newest_records_come_last(demo: Any, capsys: pytest.CaptureFixture[str]) -> None:
    found = lines(capsys, "-n", "200", "--signal", "traces", "--home", str(demo.home))
    assert found[-1]["name"] == "invoke_workflow day-trip"
    newest = lines(capsys, "-n", "3", "--signal", "traces", "--home", str(demo.home))
    assert newest == found[-3:]


def test_spans_and_events_are_mixed_by_time(demo: Any, capsys: pytest.CaptureFixture[str]) -> None:
    found = lines(capsys, "-n", "100", "--home", str(demo.home))
    assert {record["signal"] for record in found} == {"traces", "logs"}


def test_only_errors_on_request(demo: Any, capsys: pytest.CaptureFixture[str]) -> None:
    found = lines(capsys, "-n", "100", "--errors", "--signal", "traces", "--home", str(demo.home))
    assert {record["name"] for record in found} == {"chat demo-large", "execute_tool museums"}


def test_metrics_on_request(demo: Any, capsys: pytest.CaptureFixture[str]) -> None:
    found = lines(capsys, "-n", "500", "--signal", "metrics", "--home", str(demo.home))
    assert "gen_ai.client.operation.duration" in {point["metric"] for point in found}


def test_a_line_for_people_says_what_matters(demo: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tail", "-n", "500", "--table", "--home", str(demo.home)]) == 0
    seen = capsys.readouterr().out
    line = next(row for row in seen.splitlines() if "✗ chat demo-large" in row)
    assert "500: the server had an error" in line
    assert "state=completed" in seen
    assert "places=3" in seen


@pytest.fixture
def following(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [
            sys.executable, "-u", "-m", "otel_empathy.cli", "tail", "-f", "-n", "1",
            "--signal", "traces", "--home", str(tmp_path),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    yield process
    process.kill()
    process.wait()
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    process.stderr.close()


def write(home: Path, *names: str) -> None:
    subprocess.run([sys.executable, "-c", WRITER, str(home), *names], check=True, timeout=15)


def test_following_prints_what_is_written_and_ctrl_c_ends_it_quietly(
    tmp_path: Path, following: subprocess.Popen[str]
) -> None:
    assert following.stdout is not None
    assert following.stderr is not None
    write(tmp_path, "first", "second")
    seen = [json.loads(following.stdout.readline())["name"]]
    while seen[-1] != "invoke_workflow second":
        seen.append(json.loads(following.stdout.readline())["name"])
    write(tmp_path, "third")
    # Both may have been written after following began; then each is given.
    name = json.loads(following.stdout.readline())["name"]
    if name == "invoke_workflow first":
        name = json.loads(following.stdout.readline())["name"]
    assert name == "invoke_workflow third"
    following.send_signal(signal.SIGINT)
    assert following.wait(10) == 130
    assert following.stderr.read() == ""


def test_following_ends_quietly_when_nobody_reads(tmp_path: Path) -> None:
    line = f"{sys.executable} -m otel_empathy.cli tail -f --home {tmp_path} | head -n 1"
    with subprocess.Popen(
        ["bash", "-o", "pipefail", "-c", line],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        while process.poll() is None:
            write(tmp_path, "more")
        out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    assert len(out.splitlines()) == 1


def test_following_ends_when_nobody_reads_and_nothing_is_written(tmp_path: Path) -> None:
    write(tmp_path, "only")
    line = f"{sys.executable} -m otel_empathy.cli tail -f --home {tmp_path} | head -n 1"
    result = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        capture_output=True,
        text=True,
        timeout=15,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads(result.stdout)["name"] == "invoke_workflow only"


def test_what_is_written_while_the_command_begins_is_not_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    later = SYSTEM.time_ns() + 3600 * SECOND
    segment(tmp_path, line(span("later", start=later)))
    assert [one["name"] for one in lines(capsys, "--home", str(tmp_path))] == ["later"]
    assert lines(capsys, "--home", str(tmp_path), "--until", "1s") == []


def test_an_empty_answer_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tail", "--home", str(tmp_path)]) == 0
    assert "nothing in the last 1 day" in capsys.readouterr().err


def test_columns_stand_below_each_other_whatever_the_characters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("plain", "日本語のワークフロー名前がとても長い場合", "e\u0301" * 5, "x" * 99)
    now = SYSTEM.time_ns() - 9 * SECOND
    content = [line(span(name, start=now), service=name) for name in names]
    segment(tmp_path, *content, utc="20260101T000000Z")
    assert main(["tail", "--table", "--home", str(tmp_path)]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert len(rows) == len(names)
    assert len({cell_len(row[: row.index("1.00 s")]) for row in rows}) == 1


def test_money_that_is_none_is_not_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    now = SYSTEM.time_ns() - 9 * SECOND
    odd = [call(start=now, cost=cost) for cost in (True, 1e300, "free")]
    nasty = call(start=now, cost=2.0, more={"empathy.cost.currency": "\x1b]0;x\x07EUROEUROEURO"})
    segment(tmp_path, line(*odd, nasty))
    assert main(["tail", "--table", "--home", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "$" not in shown
    assert "2.00 EUROEUR…" in shown
    assert "\x1b" not in shown
