from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TESTBED = Path(__file__).parents[2] / "benchmarks/testbed.py"


@pytest.mark.timeout(90)
def test_the_test_bed_prints_its_rows_and_ours_are_whole() -> None:
    done = subprocess.run(
        [sys.executable, str(TESTBED), "--quick", "--only", "SIGKILL", "--only", "refused"],
        capture_output=True, text=True, timeout=80,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {line[:22].strip(): line for line in done.stdout.splitlines()}
    assert rows["SIGKILL"].count("100 %") == 2
    assert "0.0 %" in rows["SIGKILL"]
    assert rows["refused at exit"].count("100 %") == 2
