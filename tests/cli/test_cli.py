from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest

from otel_empathy import __version__
from otel_empathy.cli import COMMANDS, cli, main

NAMES = [name for part in COMMANDS.values() for name in part]


def run(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "otel_empathy.cli", *args],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    for part in COMMANDS.values():
        for name, text in part.items():
            assert name in shown
            assert text[:40] in shown


@pytest.mark.parametrize("name", NAMES)
def test_the_list_says_what_the_command_says(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert command.name == name
    sentence = next(text[name] for text in COMMANDS.values() if name in text)
    assert (command.help or "").split("\n\n")[0].replace("\n", " ") == sentence


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    assert "Usage: otel-empathy" in capsys.readouterr().out


def test_help_loads_nothing_heavy() -> None:
    code = """
import sys
from otel_empathy.cli import main
main(["--help"])
heavy = ("rich", "opentelemetry.sdk", "opentelemetry.trace", "msgspec", "orjson", "asyncio",
         "http", "sqlite3", "hashlib", "socket")
print([name for name in heavy if name in sys.modules], file=sys.stderr)
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=True
    )
    assert result.stderr.strip() == "[]"


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert __version__ in capsys.readouterr().out


@pytest.mark.parametrize(
    "args",
    [
        ["nonsense"],
        ["config", "--nonsense"],
        ["config", "nonsense"],
        ["usage", "--last", "3 years"],
        ["usage", "--since", "yesterday"],
        ["usage", "--days", "-1"],
        ["usage", "--days", "7", "--last", "15m"],
        ["usage", "--since", "2h", "--until", "3h"],
        [],
    ],
)
def test_a_wrong_line_is_usage(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(args) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "Usage:" in shown.err


def test_an_unknown_command_names_the_next_one(capsys: pytest.CaptureFixture[str]) -> None:
    main(["usages"])
    assert "`otel-empathy --help` lists the commands" in capsys.readouterr().err


def test_colour_is_left_out_when_nobody_wants_it() -> None:
    assert "\x1b" not in run("--help").stdout


def test_a_reader_that_stops_early_is_no_error(tmp_path: Path) -> None:
    line = f"{sys.executable} -m otel_empathy.cli config --home {tmp_path} | head -n 1"
    result = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads(result.stdout)["name"]


def test_a_reader_that_is_gone_is_no_error(tmp_path: Path) -> None:
    line = f"{{ read -t 1; {sys.executable} -m otel_empathy.cli config --home {tmp_path}; }} | true"
    result = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
