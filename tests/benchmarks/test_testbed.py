from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

TESTBED = Path(__file__).parents[2] / "benchmarks/testbed.py"
# The faults that everybody meets, in the order in which the table has them.
NAMED = ["normal exit", "SIGTERM", "SIGKILL", "fork", "burst", "backend 500", "outage", "hang",
         "refused"]  # fmt: skip


@pytest.mark.timeout(180)
def test_the_test_bed_prints_its_rows_and_ours_are_whole() -> None:
    chosen = [word for name in ("SIGKILL", "refused", "S7") for word in ("--only", name)]
    done = subprocess.run(
        [sys.executable, str(TESTBED), "--quick", *chosen],
        capture_output=True, text=True, timeout=170,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {line[:28].strip(): line for line in done.stdout.splitlines()}
    assert rows["SIGKILL"].count("100 %") == 2
    assert "0.0 %" in rows["SIGKILL"]
    assert rows["refused (nobody there)"].count("100 %") == 2
    assert any("S7 500 segments" in name and "100 %" in line for name, line in rows.items())
    assert "what the backend has in the end" in done.stdout


@pytest.fixture
def testbed(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "path", list(sys.path))
    spec = importlib.util.spec_from_file_location("testbed", TESTBED)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "testbed", module)  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


def test_its_table_begins_with_the_faults_that_everybody_meets(testbed: ModuleType) -> None:
    rows = testbed.rows(1.0)
    assert [row.name.partition(" (")[0] for row in rows[: len(NAMED)]] == NAMED
    assert len({row.name for row in rows}) == len(rows)
    assert {row.name for row in rows if row.long} == {"outage (10 min at 100/s)"}


def test_the_table_in_the_docs_has_its_rows_and_ours_are_whole(testbed: ModuleType) -> None:
    text = (TESTBED.parents[1] / "docs/testbed.md").read_text(encoding="utf-8")
    table = text.split("```")[1].splitlines()
    places = []
    for row in testbed.rows(1.0):
        (place,) = (n for n, line in enumerate(table) if line.startswith(f"{row.name:28}"))
        places.append(place)
        assert table[place].count("100 %") >= 2
    for proof in testbed.proofs(1.0):
        if not proof.long:  # takes an hour
            (place,) = (n for n, line in enumerate(table) if line.startswith(f"{proof.name:44}"))
            places.append(place)
            assert table[place].count("100 %") == 1
    assert places == sorted(places)


def test_a_scaled_table_says_its_own_numbers(testbed: ModuleType) -> None:
    names = {row.name for row in testbed.rows(0.05)}
    assert {"outage (1.5 s at 100/s)", "outage (0.5 min at 100/s)", "1,000/s, 1 s down",
            "100/s, 1.5 s of 503"} <= names  # fmt: skip


def test_what_this_machine_cannot_run_says_so_and_is_no_part_of_the_verdict(
    testbed: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # A machine that gives nobody mounts of one's own: no `unshare` stands in its path.
    from faults import proof

    proof.own_mounts.cache_clear()
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "argv", ["testbed.py", "--quick", "--only", "S2 full disk"])
    try:
        status = testbed.main()
    finally:
        proof.own_mounts.cache_clear()
    said = capsys.readouterr().out
    (row,) = (line for line in said.splitlines() if line.startswith("S2 full disk"))
    assert "not run  neither `unshare -m` nor" in row
    assert "100 %" not in row
    assert status == 0
    assert said.splitlines()[-1] == "nothing was run"


@pytest.mark.parametrize(("stuck", "twice"), [(1, 0), (0, 1)])
def test_a_deadlock_or_a_record_that_is_there_twice_is_no_good_row(
    testbed: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stuck: int, twice: int
) -> None:
    # A stand-in for the program, since ours has neither.
    from faults import proof

    class Forked:
        def __init__(self, *_: object, **__: object) -> None:
            self.heard = [{"stuck": stuck, "ended": [1]}]

        def __enter__(self) -> Forked:
            return self

        def __exit__(self, *_: object) -> None:
            """End like a program."""

        def hear(self, *_: object) -> None:
            """Hear nothing more."""

        end = hear

    there = Counter({"p0-0": 1 + twice, "f0-0": 1, "f0-1": 1, "f0-2": 1})
    monkeypatch.setattr(proof, "Child", Forked)
    monkeypatch.setattr(proof, "names", lambda _: there)
    monkeypatch.setattr(proof, "balance", lambda _: None)
    with pytest.raises(AssertionError, match=f"{stuck} deadlocks, {twice} twice"):
        testbed.forks(tmp_path, 1)
