"""Fixtures of the fault tests: backends, and no child that outlives its test."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from faulty import backend, certificates, spawned

__all__ = ["backend", "certificates", "spawned"]


@pytest.fixture(autouse=True)
def _no_child_left() -> Iterator[None]:
    """Every process that a test started has ended with it."""
    yield
    path = f"/proc/self/task/{os.getpid()}/children"
    if os.path.exists(path):  # noqa: PTH110 - a kernel without that file has nothing to check
        with open(path, encoding="ascii") as file:  # noqa: PTH123
            left = file.read().split()
        assert not left, f"children left behind: {left}"
