from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from store.lines import call, line, segment

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
        ["usage", "--days", "nan"],
        ["usage", "--days", "inf"],
        ["usage", "--days", "1e300"],
        ["tail", "--days", "nan"],
        ["usage", "--last", "999999999w"],
        ["usage", "--home", ""],
        ["usage", "--reference", "openai/gpt-4o"],
        ["traces", "--min-cost", "nan"],
        ["ship", "--timeout", "inf"],
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


def gone(args: str) -> subprocess.CompletedProcess[str]:
    """A command whose reader has gone before it prints anything."""
    line = f"{{ read -t 0.5; {sys.executable} -m otel_empathy.cli {args}; }} | true"
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


@pytest.mark.parametrize("command", ["usage", "traces", "cache", "status", "config"])
def test_a_table_that_nobody_reads_to_its_end_is_no_finding(demo: Any, command: str) -> None:
    result = gone(f"{command} --table --home {demo.home}")
    assert (result.returncode, result.stderr) == (0, "")


def test_a_finding_stays_one_when_nobody_reads_the_answer(demo: Any) -> None:
    result = gone(f"traces 0000 --home {demo.home}")
    assert result.returncode == 1
    assert result.stderr.startswith("error: there is no trace '0000'")


def test_notes_are_read_when_the_answer_is_not(tmp_path: Path) -> None:
    result = gone(f"usage --home {tmp_path / 'new'}")
    assert result.returncode == 0
    assert result.stderr.startswith("there is no ")


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


def test_nobody_who_asks_for_no_colour_gets_any(terminal: Callable[..., tuple[int, str]]) -> None:
    code, seen = terminal("nonsense", coloured=True)
    assert (code, "\x1b[31m" in seen) == (2, True)
    code, seen = terminal("nonsense", coloured=True, NO_COLOR="1")
    assert (code, "\x1b" in seen) == (2, False)


@pytest.mark.parametrize(("closed", "left"), [(">&-", ""), ("2>&-", "usage"), (">&- 2>&-", "")])
def test_a_closed_stream_is_no_error(tmp_path: Path, closed: str, left: str) -> None:
    line = f"{sys.executable} -m otel_empathy.cli usage --table --home {tmp_path / 'new'} {closed}"
    result = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, timeout=20, check=False
    )
    assert result.returncode == 0
    assert left in result.stdout.lower()
    assert "Traceback" not in result.stderr


def test_an_answer_that_cannot_be_written_is_unavailable(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [sys.executable, "-m", "otel_empathy.cli", "config", "--home", str(tmp_path)],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=20,
            check=False,
        )
    assert (result.returncode, result.stderr) == (3, "error: No space left on device.\n")


def test_a_home_that_is_not_there_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["usage", "--home", str(tmp_path / "typo")]) == 0
    assert f"there is no {tmp_path / 'typo'} yet" in capsys.readouterr().err


def test_a_home_that_is_a_pipe_is_unavailable(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert main(["usage", "--home", str(tmp_path / "pipe")]) == 3
    assert "neither a folder nor a file" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["usage", "cache", "traces", "tail", "status", "export -f csv"])
def test_a_folder_of_the_log_that_cannot_be_read_is_no_empty_log(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    command: str,
) -> None:
    closed = segment(tmp_path, line(call())).parent
    real = os.scandir

    def refusing(path: Any) -> Any:  # root may open everything, so the refusal is made
        if Path(path) == closed:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert main([*command.split(), "--home", str(tmp_path)]) == 3
    shown = capsys.readouterr()
    assert str(closed) in shown.err
    assert '"total' not in shown.out


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_stream_that_is_not_unicode_gets_what_it_can_show(tmp_path: Path, encoding: str) -> None:
    segment(tmp_path, line(call(model="日本 é 👩", error=True)))

    def printed(*args: str) -> str:
        result = subprocess.run(
            [sys.executable, "-m", "otel_empathy.cli", *args, "--home", str(tmp_path)],
            capture_output=True,
            timeout=20,
            check=True,
            env={**os.environ, "PYTHONIOENCODING": encoding},
        )
        return result.stdout.decode(encoding)

    assert json.loads(printed("traces"))["models"] == ["日本 é 👩"]
    assert "chat ?? " in printed("traces", "--table")


@pytest.mark.parametrize("order", [("--json", "--table"), ("--table", "--json")])
def test_two_ways_to_print_at_once_are_usage(
    order: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", *order, "--home", str(tmp_path)]) == 2
    assert "give one of them" in capsys.readouterr().err
