"""What reaches the terminal: tables for people, JSON lines for programs, notes on stderr.

Nothing that came from outside is printed as it is: `clean` takes out what could move the cursor,
reverse the text or end the line, and rich never sees markup. Rich is imported when a table is
drawn. What is printed is decided by the commands.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from math import isfinite, isnan
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, TextIO

import click

from otel_empathy.cli.bar import Bar

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

    from otel_empathy.cli.check import Check

__all__ = ["Column", "Screen", "clean", "is_unicode", "json_line"]

_GAP = "  "  # between two columns
_NARROWEST = 12  # columns that remain of a growing column
_SIGNS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "finding": ("✗", "bold red")}
# ANSI sequences whole, so that nothing of them stays behind as text.
_SEQUENCES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"  # OSC, DCS, …
    r"|\x1b[ -/]*[0-~]?"  # what is left of escapes
)
_BREAKS = re.compile(r"[\t\n\v\f\r\x85\u2028\u2029]+")
# Controls, marks of direction, invisible tags, lone surrogates.
_UNSAFE = (
    "\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f\ud800-\udfff"
)
_REMOVED = re.compile(f"[{_UNSAFE}]")
_HALVES = re.compile("[\ud800-\udfff]")  # what is no UTF-8 in an argument or a file's name
_FOREIGN = re.compile(r"[^\x00-\x7f]")
_ESCAPED = re.compile(f"[{_UNSAFE}\u2028\u2029]")


def clean(text: object, *, limit: int = 0) -> str:
    """A text from outside as one harmless line, cut to `limit` characters if that is given."""
    line = _HALVES.sub("\ufffd", _BREAKS.sub(" ", _SEQUENCES.sub("", str(text))))
    line = _REMOVED.sub("", line)
    return f"{line[: limit - 1]}…" if 0 < limit < len(line) else line


def is_unicode(stream: TextIO) -> bool:
    """Whether a stream takes every character; one that does not say so does."""
    return (getattr(stream, "encoding", None) or "utf-8").lower().startswith("utf")


def json_line(row: Mapping[str, Any]) -> str:
    """One record as one line; what a terminal would obey is escaped, so nothing is lost."""
    try:
        text = _dumps(row)
    except ValueError:
        text = _dumps(_finite(row))
    return _ESCAPED.sub(_escape, text)


def _dumps(row: Mapping[str, Any]) -> str:
    return json.dumps(
        row, default=_plain, ensure_ascii=False, allow_nan=False, separators=(",", ":")
    )


def _finite(value: Any) -> Any:
    """The value with the names that OTLP-JSON has for numbers that JSON cannot write."""
    if isinstance(value, float) and not isfinite(value):
        return "NaN" if isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, (list, tuple)) else value


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code > 0xFFFF:  # noqa: PLR2004 - beyond it JSON needs a pair
        code -= 0x10000
        return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
    return f"\\u{code:04x}"


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    return str(value) if isinstance(value, PurePath) else clean(repr(value))


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Args:
        title: Its heading.
        right: Whether numbers stand right-aligned in it.
        style: How its cells look.
        grow: Whether it is cut when the terminal is narrow; the others are not.
        spare: How soon it is left out when that is not enough, the highest first; 0 stays.
    """

    title: str
    right: bool = False
    style: str = ""
    grow: bool = False
    spare: int = 0


class Screen:
    """The two streams of a command.

    Args:
        as_json: True for JSON lines, False for tables, None to let the terminal decide.
        out: Where answers go.
        err: Where notes go.
        width: Columns of the terminal, when it cannot be asked.
    """

    def __init__(
        self,
        *,
        as_json: bool | None = None,
        out: TextIO | None = None,
        err: TextIO | None = None,
        width: int | None = None,
    ) -> None:
        self._out = sys.stdout if out is None else out
        self._err = sys.stderr if err is None else err
        self._width = width
        self._console: Console | None = None
        self.people = not as_json if as_json is not None else self._out.isatty()

    @property
    def console(self) -> Console:
        """The rich console on stdout; markup is off, because names come from outside."""
        if self._console is None:
            self._console = _console(self._out, self._width)
        return self._console

    @property
    def width(self) -> int:
        """Columns of the terminal."""
        return self.console.width

    def record(self, row: Mapping[str, Any]) -> None:
        """Print one JSON line."""
        line = json_line(row)
        if not is_unicode(self._out):
            line = _FOREIGN.sub(_escape, line)
        self._out.write(f"{line}\n")

    def records(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Print JSON lines."""
        for row in rows:
            self.record(row)

    def print(self, *parts: RenderableType, end: str = "\n") -> None:
        """Print for people; a text is printed as it stands."""
        self.console.print(*parts, end=end, soft_wrap=False)

    def line(self, text: Text) -> None:
        """Print one line, cut at the edge of a terminal and whole elsewhere."""
        if self._out.isatty():
            self.console.print(text, no_wrap=True, overflow="ellipsis")
        else:
            self.console.print(text, soft_wrap=True)

    @staticmethod
    def silence() -> None:
        """Keep our own log messages off the terminal: what matters is said by a note."""
        import logging

        logging.getLogger("otel_empathy").addHandler(logging.NullHandler())

    def flush(self) -> None:
        """Let everybody see what was printed."""
        self._out.flush()

    def title(self, text: str, detail: str = "") -> None:
        """Print a heading with an empty line above it."""
        from rich.text import Text

        self.print(Text.assemble("\n", (clean(text), "bold"), "  ", (clean(detail), "dim")))

    def table(
        self, columns: Sequence[Column], rows: Iterable[Sequence[str | Text]], *, indent: int = 1
    ) -> None:
        """Print a table with light lines; where it is too narrow, with fewer columns."""
        from rich import box
        from rich.cells import cell_len
        from rich.padding import Padding
        from rich.table import Table

        cells = [[clean(c) if isinstance(c, str) else c for c in row] for row in rows]
        widths = [
            max(map(cell_len, [column.title, *(str(row[place]) for row in cells)]))
            for place, column in enumerate(columns)
        ]
        kept = _kept(columns, widths, self.width - indent)
        columns, widths = [columns[place] for place in kept], [widths[place] for place in kept]
        cells = [[row[place] for place in kept] for row in cells]
        growing = [place for place, column in enumerate(columns) if column.grow]
        for place in growing:
            widths[place] = min(widths[place], self.width)
        taken = indent + sum(widths) + len(_GAP) * (len(widths) - 1)
        if growing:
            _give_way(widths, growing, taken - self.width)
        table = Table(
            box=box.SIMPLE_HEAD,
            padding=(0, 1, 0, 0),
            pad_edge=False,
            header_style="dim",
            show_edge=False,
        )
        for column, width in zip(columns, widths, strict=True):
            table.add_column(
                column.title,
                justify="right" if column.right else "left",
                style=column.style,
                no_wrap=True,
                overflow="ellipsis",
                width=width,
            )
        for row in cells:
            table.add_row(*row)
        self.print(Padding(table, (0, 0, 0, indent), expand=False))

    def facts(self, facts: Iterable[tuple[str, str | Text]]) -> None:
        """Print names and values below each other."""
        from rich.table import Table
        from rich.text import Text

        grid = Table.grid(padding=(0, 2, 0, 0))
        for name, value in facts:
            shown = Text(clean(value)) if isinstance(value, str) else value
            grid.add_row(Text(f" {clean(name)}", style="dim"), shown)
        self.print(grid)

    def checks(self, checks: Iterable[Check]) -> None:
        """Print what was looked at, how it stands, and below it how to mend it."""
        from rich.table import Table
        from rich.text import Text

        grid = Table.grid(padding=(0, 2, 0, 0))
        for check in checks:
            sign, style = _SIGNS[check.level]
            name = Text(clean(check.name), style="bold")
            detail = Text(clean(check.detail))
            if check.fix:
                detail.append(f"\n→ {clean(check.fix)}", style="cyan")
            grid.add_row(Text(f" {sign}", style=style), name, detail)
        self.print(grid)

    def note(self, text: str) -> None:
        """Say something beside the answer, behind what was printed of it so far."""
        # A pipe is buffered: where both end in one place they would mix. Whoever reads the answer
        # no more may still read this.
        with suppress(BrokenPipeError):
            self.flush()
        click.echo(clean(text), file=self._err, err=True)

    @contextmanager
    def progress(self, text: str) -> Iterator[Bar]:
        """A bar on stderr while work is long."""
        bar = Bar(text, err=self._err)
        try:
            yield bar
        finally:
            bar.stop()


def _console(out: TextIO, width: int | None) -> Console:
    from rich.console import Console

    class Plain(Console):
        """Leaves a broken pipe to `main`, where rich would end the process with a finding's 1."""

        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    return Plain(file=out, width=width, markup=False, emoji=False, highlight=False)


def _kept(columns: Sequence[Column], widths: Sequence[int], room: int) -> list[int]:
    """The places of the columns that there is room for, growing ones at their narrowest."""
    kept = list(range(len(columns)))
    least = [
        min(width, _NARROWEST) if column.grow else width
        for column, width in zip(columns, widths, strict=True)
    ]
    spare = sorted((p for p in kept if columns[p].spare), key=lambda p: columns[p].spare)
    while spare and sum(least[p] for p in kept) + len(_GAP) * (len(kept) - 1) > room:
        kept.remove(spare.pop())
    return kept


def _give_way(widths: list[int], growing: Sequence[int], missing: int) -> None:
    """Take the missing columns from the widest of the growing ones, as far as they can give."""
    for _ in range(missing):
        widest = max(growing, key=lambda place: widths[place])
        if widths[widest] <= _NARROWEST:
            return
        widths[widest] -= 1
