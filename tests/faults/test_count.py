"""The number of tests that prove a row of the fault table; it may not fall."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

COUNT = 657


def test_the_count_of_fault_tests_does_not_fall(request: pytest.FixtureRequest) -> None:
    config = request.config
    chosen = config.option.keyword or config.option.markexpr or config.option.deselect
    if config.args_source is not pytest.Config.ArgsSource.TESTPATHS or chosen:
        pytest.skip("counts only where the whole of the tests is collected")
    if sys.platform != "linux" or not Path("/dev/shm").is_dir():
        pytest.skip("some tests have one case for each file system of Linux")
    found = sum(item.get_closest_marker("fault") is not None for item in request.session.items)
    assert found >= COUNT, "tests of faults were lost"
    assert found <= COUNT, f"write the new count here: {found}"
