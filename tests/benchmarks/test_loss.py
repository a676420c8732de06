from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

FILE = Path(__file__).parents[2] / "benchmarks" / "loss.py"

if TYPE_CHECKING:
    from benchmarks import loss
else:
    spec = importlib.util.spec_from_file_location("loss", FILE)
    loss = sys.modules["loss"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loss)


@pytest.mark.timeout(60)
def test_two_rows_run_and_ours_keep_what_they_promise(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    done = subprocess.run(
        [
            sys.executable, str(FILE), "--quick", "--json", str(figures),
            "--only", "normal exit", "poison record",
        ],
        capture_output=True,
        text=True,
        timeout=50,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ours kept them all" in done.stdout
    normal, poison = json.loads(figures.read_text())["rows"]
    assert normal["stock"]["arrived"] == normal["ours"]["arrived"] == 1500
    assert poison["ours"]["log"] == poison["ours"]["acked"] == 1500
    assert poison["ours"]["arrived"] == 1499
    assert poison["ours"]["notes"] == ["1 set aside and counted"]


@pytest.mark.parametrize(
    ("part", "whole", "said"),
    [(3, 3, "100 %"), (99_999, 100_000, "99.9 %"), (0, 5, "0.0 %"), (1, 3, "33.3 %")],
)
def test_a_hundred_percent_is_said_of_the_whole_alone(part: int, whole: int, said: str) -> None:
    assert loss.share(part, whole) == said


@pytest.fixture
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table clears what would reach its programs; not for the tests that follow."""
    monkeypatch.setattr(os, "environ", dict(os.environ))


@pytest.mark.usefixtures("_own_environment")
def test_a_row_that_loses_a_span_is_printed_as_it_is_and_the_status_is_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stock = loss.Outcome("stock", ended=1000, arrived=500)
    ours = loss.Outcome("ours", ended=1000, arrived=1000, log=999, broken=["1 span is gone"])
    monkeypatch.setattr(loss, "run", lambda *_: loss.Outcome("bare"))
    monkeypatch.setattr(loss, "table", lambda *_, **__: [loss.Row("a row", stock, ours)])
    monkeypatch.setattr(sys, "argv", ["loss.py"])
    assert loss.main() == 1
    said = capsys.readouterr().out
    assert "99.9 %" in said
    assert "NOT KEPT: 1 span is gone" in said
    assert said.endswith("NOT KEPT in 1: a row\n")


@pytest.mark.usefixtures("_own_environment")
def test_a_row_that_cannot_run_here_says_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(loss, "run", lambda *_: loss.Outcome("bare"))
    monkeypatch.setattr(loss, "no_disk", lambda: "takes root")
    monkeypatch.setattr(sys, "argv", ["loss.py", "--only", "disk full"])
    assert loss.main() == 0
    assert "skipped: takes root" in capsys.readouterr().out


def test_a_name_that_no_row_has_is_refused_with_the_rows() -> None:
    with pytest.raises(SystemExit, match="no row is named so; there are:\n  normal exit"):
        loss.chosen(["no such row"], quick=True)


def test_rows_have_names_of_their_own_in_both_sizes() -> None:
    for quick in (False, True):
        names = [row.name for row in loss.chosen([], quick=quick)]
        assert len(set(names)) == len(names) > 25
