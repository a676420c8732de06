from __future__ import annotations

import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from dataclasses import dataclass
from fcntl import ioctl
from pathlib import Path

import pytest

SGR = re.compile(r"\x1b\[[0-9;]*m")
PROGRAM = (sys.executable, "-m", "otel_empathy.cli")


@dataclass
class Demo:
    """A home in which the demo ran once, and what it printed."""

    home: Path
    out: str
    err: str


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    home = tmp_path_factory.mktemp("demo") / "home"
    result = subprocess.run(
        [*PROGRAM, "demo", "--home", str(home)],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
        env={k: v for k, v in os.environ.items() if not k.startswith("OTEL_")},
    )
    assert result.returncode == 0, result.stderr
    return Demo(home, result.stdout, result.stderr)


@pytest.fixture
def terminal() -> Callable[..., tuple[int, str]]:
    """Runs a command in a terminal of a given width; its exit code and what the terminal saw."""

    def run(*args: str, width: int = 80, coloured: bool = False, **environ: str) -> tuple[int, str]:
        ours, theirs = pty.openpty()
        ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
        process = subprocess.Popen(
            [*PROGRAM, *args],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**os.environ, "TERM": "xterm-256color", **environ},
            start_new_session=True,
        )
        os.close(theirs)
        seen = b""
        try:
            while select.select([ours], [], [], 15)[0]:
                try:
                    block = os.read(ours, 65536)
                except OSError:  # the other end is closed
                    break
                if not block:
                    break
                seen += block
        finally:
            code = process.wait(15)
            os.close(ours)
        text = seen.decode()
        return code, text if coloured else SGR.sub("", text)

    return run
