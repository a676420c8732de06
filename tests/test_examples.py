from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from faulty import spawn

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("[0-9]*.py"))
SAYS = {
    "01_decorate.py": r"Probably\..*\n.*USD in the last day",
    "02_stream.py": r"Once upon a time there was a queue",
    "03_phases.py": r"A draft about log files\nfailed as it should",
    "04_fan_out.py": r"in the log: \d+, at the collector: 0, waiting: \d+\nthe log keeps",
    "05_read_the_log.py": r"3 calls, \d+ tokens in, 60 out",
}


def run(path: Path, home: Path, endpoint: str) -> str:
    """What an example prints; its spans are in the log."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith("OTEL_")}
    environ |= {"OTEL_EMPATHY_HOME": str(home), "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}
    done = subprocess.run(
        [sys.executable, str(path)], env=environ, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert list((home / "otlp/traces").glob("*.jsonl"))
    return done.stdout


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.name)
def test_an_example_runs_and_says_what_it_promises(path: Path, tmp_path: Path) -> None:
    # Nothing listens on the discard port, so the fan-out example shows the backend that is down.
    said = run(path, tmp_path / "home", "http://127.0.0.1:9")
    assert re.search(SAYS[path.name], said, re.DOTALL), said


def test_the_fan_out_example_sends_each_call_where_a_backend_listens(tmp_path: Path) -> None:
    with spawn() as backend:
        said = run(ROOT / "examples/04_fan_out.py", tmp_path / "home", backend.endpoint)
        got = backend.received()
    assert re.search(r"in the log: 10, .*\b10, waiting: 0\nall is shipped", said), said
    assert (got["spans"], got["duplicates"]) == (10, 0)
    assert list(got["answers"]) == ["ok"]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.name)
def test_an_example_is_short(path: Path) -> None:
    assert 20 <= len(path.read_text().splitlines()) <= 60
