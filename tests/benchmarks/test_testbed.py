"""The test bed runs and says 100 % for us, scaled down to two of its rows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

TESTBED = Path(__file__).resolve().parents[2] / "benchmarks" / "testbed.py"


@pytest.mark.timeout(60)
def test_the_test_bed_prints_and_writes_what_arrives_for_both_sides(tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    asked = ["--quick", "--only", "SIGKILL", "--only", "refused at exit", "--json", str(out)]
    done = subprocess.run(
        [sys.executable, str(TESTBED), *asked], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(out.read_text(encoding="utf-8"))
    assert found["python"] in done.stdout
    assert found["machine"] in done.stdout
    assert [row["name"] for row in found["rows"]] == ["SIGKILL", "refused at exit"]
    for row in found["rows"]:
        assert row["good"]
        assert row["stock"]["backend"] < row["ours"]["backend"] == row["ours"]["spans"]
        assert row["name"] in done.stdout
