"""Write the reference pages from the tables in the code; `make docs` runs it, a test compares."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from enum import Enum
from pathlib import Path

import click

from otel_empathy.cli import cli
from otel_empathy.core import semconv
from otel_empathy.core.settings import TABLE

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "tests"))


def settings() -> str:
    """The settings page."""
    lines = [
        "# Settings",
        "",
        "Every setting, one row each. An argument wins over the environment, the environment",
        "over the default. A malformed variable warns once and its default applies; a malformed",
        "argument raises. `otel-empathy config` shows the values in force and their sources.",
        "",
        "`service`, `home`, `log`, `capture` and `host` are arguments of `configure()`; every row",
        'can also be given as `configure(settings={"name": value})`.',
        "",
        "| setting | variable | default | what it does |",
        "|---|---|---|---|",
    ]
    for row in TABLE:
        default = row.default.value if isinstance(row.default, Enum) else row.default
        shown = "" if default is None else f"`{default}`"
        variables = " or ".join(f"`{name}`" for name in row.env)
        note = " Secret." if row.secret else ""
        lines.append(f"| `{row.name}` | {variables} | {shown} | {row.doc}{note} |")
    lines += [
        "",
        "Backends and the SDK's own limits, samplers, propagators and resource are set by the",
        "standard `OTEL_*` variables: `OTEL_EXPORTER_OTLP_*`, `OTEL_TRACES_EXPORTER`,",
        "`OTEL_METRICS_EXPORTER`, `OTEL_LOGS_EXPORTER`, `OTEL_TRACES_SAMPLER`, `OTEL_PROPAGATORS`,",
        "`OTEL_RESOURCE_ATTRIBUTES`, and the `OTEL_SPAN_*` and `OTEL_ATTRIBUTE_*` limits.",
        "",
    ]
    return "\n".join(lines)


def signals() -> str:
    """The page of everything that is emitted."""
    source = (ROOT / "otel_empathy/core/semconv.py").read_text()
    lines = [
        "# Signals",
        "",
        "Every metric, attribute and event that otel-empathy emits, made from",
        "`otel_empathy/core/semconv.py`.",
        "",
        "## Metrics",
        "",
        "| metric | instrument | unit | description | attributes |",
        "|---|---|---|---|---|",
    ]
    for row in sorted(semconv.METRICS, key=lambda row: row.name):
        attributes = ", ".join(f"`{name}`" for name in row.attributes)
        lines.append(
            f"| `{row.name}` | {row.kind.replace('_', ' ')} | `{row.unit}` | {row.description} "
            f"| {attributes} |"
        )
    for title, prefix in (("Events", "EVENT_"), ("Attributes", "")):
        lines += ["", f"## {title}", ""]
        names = set()
        for node in ast.parse(source).body:
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                name, value = node.target.id, getattr(semconv, node.target.id)
                if not isinstance(value, str) or value.startswith(("http", "otel_empathy")):
                    continue
                if name.startswith("OLD_"):
                    continue  # read, never emitted
                if name.startswith("EVENT_") == bool(prefix) and "." in value:
                    names.add(value)
        lines += [f"- `{name}`" for name in sorted(names)]
    return "\n".join([*lines, ""])


def commands() -> str:
    """The page of the command line: what every `--help` says, always at the same width."""
    lines = [
        "# Commands",
        "",
        "What `otel-empathy` and each of its commands say to `--help`, made from the commands",
        "themselves.",
        "",
        "A terminal gets tables, a pipe gets JSON lines, one object a line; `--json` and",
        "`--table` decide otherwise. Unknown values are `null`, never 0. Numbers that JSON cannot",
        'write stand as OTLP-JSON spells them: `"NaN"`, `"Infinity"`, `"-Infinity"`. Notes,',
        "warnings and progress go to stderr. `NO_COLOR` is honoured.",
        "",
        "| exit code | means |",
        "|---|---|",
        "| 0 | ok; an empty answer is an answer |",
        "| 1 | a finding, such as a defect that `doctor` sees, or an unknown id |",
        "| 2 | usage: an option, a setting or a path that cannot be used |",
        "| 3 | unavailable: a log that cannot be read, a backend that does not take it |",
        "| 130 | interrupted by Ctrl-C |",
        "",
    ]
    top = click.Context(cli, info_name="otel-empathy", terminal_width=88, **cli.context_settings)
    for context in _contexts(top):
        lines += [
            f"{'#' * (2 + context.command_path.count(' '))} {context.command_path}",
            "",
            "```",
            click.unstyle(context.get_help()),
            "```",
            "",
        ]
    return "\n".join(lines)


def _contexts(context: click.Context) -> Iterator[click.Context]:
    """The context of a command and of everything below it."""
    yield context
    if isinstance(context.command, click.Group):
        for name in context.command.list_commands(context):
            command = context.command.get_command(context, name)
            assert command is not None  # it was listed
            yield from _contexts(click.Context(command, parent=context, info_name=name))


def readme() -> str:
    """The README with its list of what the tests talk to, by the table of components."""
    from services import COMPONENTS, excused  # noqa: PLC0415 - lies with the tests

    named = []
    for each in COMPONENTS:
        _, _, release = each.version.partition("(")  # the name that people know
        shown = release.rstrip(")") or each.version.replace("Debian", "(Debian)")
        if each.name not in excused():
            named.append(f"{each.title} {shown}")
    line = f"Tested with {', '.join(named)}."
    return re.sub(r"(?m)^Tested with .*$", line, (ROOT / "README.md").read_text(), count=1)


PAGES = {
    "README.md": readme,
    "docs/cli.md": commands,
    "docs/settings.md": settings,
    "docs/signals.md": signals,
}


def main() -> None:
    """Write every page."""
    for path, make in PAGES.items():
        (ROOT / path).write_text(make())
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
