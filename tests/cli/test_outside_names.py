"""Names from outside, through the log and every command that prints them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from otel_empathy.cli import main

NASTY = (
    "\x1b[31mred\x1b[0m\x1b]0;title\x07 [bold]markup[/bold] :smile: "
    "\u202egnp.exe\u2066 a\nb\rc\u2028d \x9b2J \u200e"
)
WRITER = """
import json, sys
import otel_empathy as oe
from opentelemetry import trace
nasty = json.loads(sys.argv[2])
with oe.configure(service=nasty, home=sys.argv[1]):
    with trace.get_tracer("foreign").start_as_current_span(nasty) as span:
        span.set_status(trace.Status(trace.StatusCode.ERROR, nasty))
        span.set_attribute("error.type", nasty)
        with oe.llm_call(provider=nasty, model=nasty):
            oe.current_call().usage(input=1, output=1).fallback(nasty, nasty)
        oe.event(nasty, key=nasty)
"""
DANGEROUS = set("\x1b\x9b\x07\r\u2028\u202e\u2066\u200e")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("outside") / "home"
    subprocess.run(
        [sys.executable, "-c", WRITER, str(home), json.dumps(NASTY)], check=True, timeout=15
    )
    return home


@pytest.fixture
def trace_id(home: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["traces", "--home", str(home)]) == 0
    return str(json.loads(capsys.readouterr().out.splitlines()[0])["trace_id"])


COMMANDS = [
    ["traces"],
    ["traces", "show", "TRACE"],
    ["usage"],
    ["usage", "--by", "provider"],
    ["cache"],
    ["tail"],
    ["tail", "--signal", "metrics"],
    ["status"],
]


@pytest.mark.fault("C3")
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_table_obeys_nobody(
    home: Path, trace_id: str, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    args = [trace_id if word == "TRACE" else word for word in command]
    assert main([*args, "--table", "--home", str(home)]) == 0
    output = capsys.readouterr()
    assert not set(output.out + output.err) & DANGEROUS


@pytest.mark.fault("C3")
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_json_is_one_harmless_line_for_each_record(
    home: Path, trace_id: str, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    args = [trace_id if word == "TRACE" else word for word in command]
    assert main([*args, "--home", str(home)]) == 0
    output = capsys.readouterr().out
    assert not set(output) & DANGEROUS
    assert all(isinstance(json.loads(line), dict) for line in output.split("\n") if line)


@pytest.mark.fault("C3")
def test_the_markup_of_a_name_is_shown_as_it_stands(
    home: Path, trace_id: str, terminal: Callable[..., tuple[int, Any]]
) -> None:
    _, seen = terminal("traces", trace_id, "--home", str(home), width=200)
    assert "red [bold]markup[/bold] :smile:" in seen
