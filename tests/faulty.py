"""The faulty backend of `benchmarks/`, for tests: in threads here, or in a process of its own.

A test module that wants the fixtures says `pytest_plugins = ("faulty",)`.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

_FILE = Path(__file__).parents[1] / "benchmarks" / "faulty_backend.py"

if TYPE_CHECKING:
    from benchmarks.faulty_backend import FaultyBackend, Spawned, spawn
else:
    _spec = importlib.util.spec_from_file_location("faulty_backend", _FILE)
    _module = sys.modules.setdefault("faulty_backend", importlib.util.module_from_spec(_spec))
    _spec.loader.exec_module(_module)
    FaultyBackend, Spawned, spawn = _module.FaultyBackend, _module.Spawned, _module.spawn

__all__ = ["FaultyBackend", "Spawned", "backend", "grpc_backend", "spawn", "spawned"]


@pytest.fixture
def backend() -> Iterator[FaultyBackend]:
    """A backend over HTTP in threads of this process."""
    with FaultyBackend() as found:
        yield found


@pytest.fixture
def grpc_backend() -> Iterator[FaultyBackend]:
    """A backend over HTTP and gRPC in threads of this process."""
    with FaultyBackend(grpc_port=0) as found:
        yield found


@pytest.fixture
def spawned() -> Iterator[Any]:
    """A backend in a process of its own, for tests that fork, signal or kill."""
    with spawn() as found:
        yield found
