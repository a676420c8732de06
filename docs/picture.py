"""Draw the pictures of the README, as SVG: what the demo prints, and its trace in Jaeger.

python docs/picture.py; times and ids differ between runs, so no test compares the files. Jaeger is
the one of `make tools`, which has no page of its own: what is drawn is its query API's answer, in
the order and with the bars of a trace view.
"""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from otel_empathy import open_store

ROOT = Path(__file__).resolve().parent.parent
COLUMNS = 104
WIDTH, NAMES, ROW = 1040, 400, 24  # of the timeline, in points
COLOURS = ("#11939a", "#b7885e", "#7a6bb0", "#4f8f4f", "#c79a1b")  # one for each kind of operation
RED = "#c0392b"

sys.path.insert(0, str(ROOT / "tests"))

import services  # noqa: E402 - beside the tests


def printed(*command: str, home: Path, **variables: str) -> str:
    """What a command prints on a terminal."""
    main, child = pty.openpty()
    environ = {k: v for k, v in os.environ.items() if not k.startswith("OTEL_")}
    environ |= variables | {
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


def in_jaeger(folder: Path) -> list[dict[str, Any]]:
    """The spans of the demo's largest trace, as Jaeger's query API gives them."""
    home = folder / "home"
    with services.jaeger(folder=folder / "jaeger") as jaeger:
        printed(
            "demo", home=home,
            OTEL_EXPORTER_OTLP_ENDPOINT=jaeger.http,
            OTEL_METRICS_EXPORTER="none", OTEL_LOGS_EXPORTER="none",
        )  # fmt: skip
        largest = max(open_store(home).traces(limit=100), key=lambda trace: trace.spans)
        services.until(
            lambda: len(jaeger.spans(largest.trace_id)) == largest.spans, what="the demo's trace"
        )
        return jaeger.spans(largest.trace_id)


def ordered(spans: list[dict[str, Any]]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Depth and span, parents before their children, each level by its begin."""
    known = {span["spanId"] for span in spans}
    below: dict[str, list[dict[str, Any]]] = {}
    for span in sorted(spans, key=lambda span: int(span["startTimeUnixNano"])):
        parent = span.get("parentSpanId", "")
        below.setdefault(parent if parent in known else "", []).append(span)
    waiting = [(0, span) for span in reversed(below.get("", []))]
    while waiting:
        depth, span = waiting.pop()
        yield depth, span
        waiting += [(depth + 1, one) for one in reversed(below.get(span["spanId"], []))]


def element(name: str, text: str = "", /, **attributes: object) -> str:
    """One element of a picture."""
    inside = "".join(f' {key.replace("_", "-")}="{value}"' for key, value in attributes.items())
    return f"<{name}{inside}>{text}</{name}>"


def timeline(spans: list[dict[str, Any]]) -> str:
    """A trace as rows of bars."""
    begin = min(int(span["startTimeUnixNano"]) for span in spans)
    whole = max(int(span["endTimeUnixNano"]) for span in spans) - begin
    scale = (WIDTH - NAMES - 70) / whole
    height = ROW * (len(spans) + 1) + 8
    kinds: dict[str, str] = {}
    title = f"Trace {spans[0]['traceId'][:7]}: {len(spans)} spans, {whole / 1e6:.0f} ms"
    drawn = [
        element("rect", width=WIDTH, height=height, fill="#fff"),
        element("text", title, x=12, y=17, fill="#555"),
    ]
    for part in range(5):
        x = round(NAMES + whole * scale * part / 4)
        at = f"{whole * part / 4e6:.0f} ms"
        drawn.append(element("line", x1=x, x2=x, y1=ROW, y2=height, stroke="#e6e6e6"))
        drawn.append(element("text", at, x=x + 3, y=17, fill="#888"))
    for number, (depth, span) in enumerate(ordered(spans), start=1):
        y = ROW * number + 4
        left = NAMES + (int(span["startTimeUnixNano"]) - begin) * scale
        took = int(span["endTimeUnixNano"]) - int(span["startTimeUnixNano"])
        wide = max(2.0, took * scale)
        kind = span["name"].split()[0]
        colour = kinds.setdefault(kind, COLOURS[len(kinds) % len(COLOURS)])
        failed = span.get("status", {}).get("code") in {2, "STATUS_CODE_ERROR"}
        name = escape(span["name"])
        if failed:
            colour, name = RED, element("tspan", "\u25cf\u00a0", fill=RED) + name
        x = 12 + 16 * depth
        drawn += [
            element("rect", x=x, y=y, width=3, height=16, fill=colour),
            element("text", name, x=x + 8, y=y + 13, fill="#222"),
            element("rect", x=round(left, 1), y=y + 2, width=round(wide, 1), height=12, rx=2,
                    fill=colour),
            element("text", f"{took / 1e6:.1f} ms", x=round(left + wide + 5, 1), y=y + 13,
                    fill="#666", font_size=11),
        ]  # fmt: skip
    return element(
        "svg", "\n" + "\n".join(drawn) + "\n", xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {WIDTH} {height}", font_family="ui-sans-serif, DejaVu Sans, sans-serif",
        font_size=13,
    ) + "\n"  # fmt: skip


def terminal(shown: str) -> str:
    """What was printed, as a terminal shows it."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(shown.strip("\n")))
    drawn = console.export_svg(title="make demo")
    # The page that shows the picture fetches nothing from anywhere: the reader's own font is used.
    drawn = re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL)
    return drawn.replace("Fira Code", "ui-monospace, DejaVu Sans Mono")


def main() -> None:
    """Run the demo twice, and draw what it printed and what Jaeger knows of it."""
    with tempfile.TemporaryDirectory() as folder:
        (ROOT / "docs/demo.svg").write_text(terminal(printed("demo", home=Path(folder) / "home")))
        print("wrote docs/demo.svg")
        where = Path(folder) / "traced"
        where.mkdir()
        (ROOT / "docs/jaeger.svg").write_text(timeline(in_jaeger(where)))
        print("wrote docs/jaeger.svg")


if __name__ == "__main__":
    main()
