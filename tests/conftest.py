"""Rules for every test: tools that must be there, nothing left behind."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
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
        for mark in item.iter_markers("component"):
            item.user_properties.append(("component", services.component(mark.args[0]).name))
        for mark in item.iter_markers("tool"):
            name = mark.args[0]
            item.user_properties.append(("component", services.component(name).name))
            if services.tool_path(name) is not None:
                continue
            if required and name not in excused:
                item.add_marker(pytest.mark.usefixtures("_missing_tool"))
                continue
            reason = f"{name} is missing: run `python3 .ci/tools.py install {name}`"
            if name in excused:
                reason = f"{reason}; excused: {excused[name]}"
            item.add_marker(pytest.mark.skip(reason=reason))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The real parts that the tests of this run talked to, or why they did not."""
    import services

    rows: dict[str, Counter[str]] = {}
    reasons: dict[str, str] = {}
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, []):
            for kind, name in getattr(report, "user_properties", ()):
                if kind == "component":
                    rows.setdefault(name, Counter())[outcome] += 1
                    if outcome == "skipped":
                        reasons[name] = report.longrepr[2].removeprefix("Skipped: ")
    if not rows:
        return
    lines = [("component", "version", "class", "tests", "")]
    for each in services.COMPONENTS:
        if (row := rows.get(each.name)) is not None:
            row["ran"] = row.pop("passed", 0) + row["failed"]
            words = ", ".join(f"{word} {count}" for word, count in sorted(row.items()) if count)
            lines.append((each.title, each.found(), each.ci, words, reasons.get(each.name, "")))
    wide = [max(len(line[column]) for line in lines) for column in range(4)]
    terminalreporter.section("components")
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, wide, strict=False))
        terminalreporter.write_line("  ".join([*cells, line[4]]).rstrip())


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
