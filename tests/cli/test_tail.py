from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from otel_empathy.cli import main

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
    assert json.loads(following.stdout.readline())["name"] == "invoke_workflow third"
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
