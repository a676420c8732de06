"""Draw the pictures of the README: what the commands print, as SVG, from a real run.

python docs/picture.py; times and ids differ between runs, so no test compares the file.
"""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
COLUMNS = 104


def printed(*command: str, home: Path) -> str:
    """What a command prints on a terminal."""
    main, child = pty.openpty()
    environ = {k: v for k, v in os.environ.items() if not k.startswith("OTEL_")}
    environ |= {
        "OTEL_EMPATHY_HOME": str(home),
        "COLUMNS": str(COLUMNS),
        "LINES": "60",
        "TERM": "xterm-256color",
    }
    process = subprocess.Popen(  # noqa: S603 - our own command
        [sys.executable, "-m", "otel_empathy.cli", *command],
        stdout=child, stderr=subprocess.DEVNULL, env=environ, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(child)
    shown = b""
    while True:
        try:
            block = os.read(main, 65536)
        except OSError:  # the other end of a terminal that was closed
            break
        if not block:
            break
        shown += block
    process.wait(timeout=60)
    os.close(main)
    return shown.decode().replace("\r\n", "\n")


def main() -> None:
    """Run the demo and draw what it printed."""
    with tempfile.TemporaryDirectory() as folder:
        shown = printed("demo", home=Path(folder) / "home")
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(shown.strip("\n")))
    drawn = console.export_svg(title="make demo")
    # The page that shows the picture fetches nothing from anywhere: the reader's own font is used.
    drawn = re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL)
    drawn = drawn.replace("Fira Code", "ui-monospace, DejaVu Sans Mono")
    (ROOT / "docs/demo.svg").write_text(drawn)
    print("wrote docs/demo.svg")


if __name__ == "__main__":
    main()
