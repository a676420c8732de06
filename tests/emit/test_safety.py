from __future__ import annotations

import asyncio
import logging
import subprocess
import sys

import pytest

from otel_empathy.emit import safety


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    safety.errors.clear()
    monkeypatch.setattr(safety, "_told", {})


def test_under_pytest_our_faults_are_raised() -> None:
    with pytest.raises(KeyError), safety.guarded("wrap"):
        raise KeyError("x")
    assert safety.errors == {("wrap", "KeyError"): 1}


def test_elsewhere_they_are_counted_and_swallowed() -> None:
    @safety.guarded("sample")
    def broken(x: int) -> int:
        raise ValueError(x)

    with safety.swallow() as errors:
        with safety.guarded("wrap"):
            raise KeyError("x")
        assert broken(3) is None
    assert errors == {("wrap", "KeyError"): 1, ("sample", "ValueError"): 1}


def test_a_guarded_function_that_works_answers() -> None:
    assert safety.guarded("wrap")(lambda x: 2 * x)(3) == 6


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
def test_cancellation_passes_through(error: type[BaseException]) -> None:
    @safety.guarded("wrap")
    def stop() -> None:
        raise error

    with safety.swallow():
        with pytest.raises(error), safety.guarded("wrap"):
            raise error
        with pytest.raises(error):
            stop()
    assert not safety.errors


def test_the_log_hears_once_a_minute_and_nothing_of_the_message(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with safety.swallow(), caplog.at_level(logging.WARNING):
        for _ in range(5):
            with safety.guarded("wrap"):
                raise ValueError("secret")
        with safety.guarded("export"):
            raise ValueError("secret")
    assert [record.getMessage() for record in caplog.records] == [
        "swallowed an error of its own at site=wrap type=ValueError",
        "swallowed an error of its own at site=export type=ValueError",
    ]


def test_without_pytest_nothing_is_raised() -> None:
    code = (
        "from otel_empathy.emit import safety\n"
        "with safety.guarded('wrap'):\n"
        "    raise KeyError('x')\n"
        "print(dict(safety.errors))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=15, check=True
    )
    assert done.stdout == "{('wrap', 'KeyError'): 1}\n"
    assert "Traceback" not in done.stderr
