"""Rules for every test: tools that must be there, nothing left behind."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples in every run: what a search finds elsewhere becomes a test of its own.
settings.register_profile("steady", derandomize=True, deadline=None)
settings.load_profile("steady")

ROOT = Path(__file__).resolve().parent.parent

# Whoever starts the tests in the background may have these ignored, and a child inherits that.
for _signal in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
    if signal.getsignal(_signal) is signal.SIG_IGN:
        own = _signal == signal.SIGINT
        signal.signal(_signal, signal.default_int_handler if own else signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    import services

    required = os.environ.get("TOOLS_REQUIRED") == "1"
    excused = services.excused()
    for item in items:
        for mark in item.iter_markers("tool"):
            name = mark.args[0]
            if services.tool_path(name) is not None:
                continue
            if required and name not in excused:
                item.add_marker(pytest.mark.usefixtures("_missing_tool"))
                continue
            reason = f"{name} is missing: run `python3 .ci/tools.py install {name}`"
            if name in excused:
                reason = f"{reason}; excused: {excused[name]}"
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture
def _missing_tool(request: pytest.FixtureRequest) -> None:
    names = [mark.args[0] for mark in request.node.iter_markers("tool")]
    pytest.fail(f"missing: {', '.join(names)}; bring it with `make tools`")


# What a terminal, a colour setting or a proxy of the person at the keyboard would change.
_PERSONAL = frozenset({
    "COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "COLORTERM", "TTY_COMPATIBLE",
    "TTY_INTERACTIVE", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY",
})  # fmt: skip


@pytest.fixture(autouse=True)
def _no_standard_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test sees no telemetry configuration but its own, and everywhere the same terminal."""
    for name in list(os.environ):
        if name.startswith(("OTEL_", "EMPATHY_")) or name.upper() in _PERSONAL:
            monkeypatch.delenv(name)
    monkeypatch.setenv("TERM", "xterm")


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    """No thread of ours and no open file outlives its test."""
    before = _open_files()
    yield
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        ours = [t.name for t in threading.enumerate() if t.name.startswith("otel-empathy")]
        files = _open_files() - before
        if not ours and not files:
            return
        threading.Event().wait(0.02)
    assert not ours, f"threads left behind: {ours}"
    assert not files, f"files left open: {files}"


def _open_files() -> set[str]:
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            target = str(entry.readlink())
        except OSError:
            continue
        if "/otlp/" in target or "/cursors/" in target or "/ledger/" in target:
            found.add(target)
    return found
