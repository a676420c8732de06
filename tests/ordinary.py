"""A place and a process for a user who may not write everywhere, so that root tests that too."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

__all__ = ["open_path", "run"]

NOBODY = 65534
# What a user may not read in our environment is loaded before the rights of root are given up.
_DROP = f"""
import os
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid({NOBODY})
    os.setuid({NOBODY})
"""


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A folder that everybody reaches; pytest's own are closed to other users."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def run(imports: str, script: str, home: Path) -> str:
    """What a script prints that runs as an ordinary user, to whom the home belongs.

    Args:
        imports: What it needs, loaded beforehand.
        script: What it does; the home is `sys.argv[1]`.
        home: Its folder, which exists.
    """
    if os.geteuid() == 0:
        for path in (home, *home.rglob("*")):
            os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    done = subprocess.run(
        [sys.executable, "-c", f"{imports}\n{_DROP}\n{script}", str(home)],
        capture_output=True, text=True, timeout=15, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout
