from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("[0-9]*.py"))
SAYS = {
    "01_decorate.py": r"Probably\..*\n.*USD in the last day",
    "02_stream.py": r"Once upon a time there was a queue",
    "03_phases.py": r"A draft about log files\nfailed as it should",
    "04_fan_out.py": r"in the log: \d+, at the collector: 0, waiting: \d+\nthe log keeps",
    "05_read_the_log.py": r"3 calls, \d+ tokens in, 60 out",
}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.name)
def test_an_example_runs_and_says_what_it_promises(path: Path, tmp_path: Path) -> None:
    environ = {k: v for k, v in os.environ.items() if not k.startswith("OTEL_")}
    # Nothing listens on the discard port, so the fan-out example shows the backend that is down.
    environ |= {
        "OTEL_EMPATHY_HOME": str(tmp_path / "home"),
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
    }
    done = subprocess.run(
        [sys.executable, str(path)], env=environ, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert re.search(SAYS[path.name], done.stdout, re.DOTALL), done.stdout
    assert "Traceback" not in done.stderr
    assert list((tmp_path / "home/otlp/traces").glob("*.jsonl"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.name)
def test_an_example_is_short(path: Path) -> None:
    assert 20 <= len(path.read_text().splitlines()) <= 60
