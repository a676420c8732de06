from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from store.lines import call, line, segment, span

from otel_empathy.cli import main

Terminal = Callable[..., tuple[int, str]]


@pytest.fixture
def trace_id(demo: Any) -> str:
    return str(json.loads(demo.out.splitlines()[0])["trace_id"])


def lines(capsys: pytest.CaptureFixture[str], *args: str) -> list[dict[str, Any]]:
    assert main(list(args)) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("args", [["traces"], ["traces", "list"]])
def test_bare_traces_are_listed(
    demo: Any, trace_id: str, capsys: pytest.CaptureFixture[str], args: list[str]
) -> None:
    found = lines(capsys, *args, "--home", str(demo.home))
    assert trace_id in [trace["trace_id"] for trace in found]


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        (["--status", "ok"], 0),
        (["--model", "demo-mini"], 1),
        (["--agent", "guide"], 1),
        (["--agent", "other"], 0),
        (["--text", "museums"], 1),
        (["--min-duration", "3600"], 0),
        (["--min-cost", "1000"], 0),
        (["--limit", "0"], 0),
        (["--days", "0"], 0),
    ],
)
def test_a_list_has_only_what_was_asked_for(
    demo: Any, capsys: pytest.CaptureFixture[str], wanted: list[str], count: int
) -> None:
    found = lines(capsys, "traces", *wanted, "--home", str(demo.home))
    assert (len(found) >= 1) == bool(count)


@pytest.mark.parametrize("action", [[], ["show"]])
@pytest.mark.parametrize("length", [8, 32])
def test_the_beginning_of_an_id_is_enough(
    demo: Any, trace_id: str, capsys: pytest.CaptureFixture[str], action: list[str], length: int
) -> None:
    (trace,) = lines(capsys, "traces", *action, trace_id[:length], "--home", str(demo.home))
    assert trace["trace_id"] == trace_id


@pytest.mark.parametrize("wanted", ["ffffffffffffffff", "nonsense", "\x1b[31m"])
def test_an_unknown_id_is_a_finding(
    demo: Any, capsys: pytest.CaptureFixture[str], wanted: str
) -> None:
    assert main(["traces", wanted, "--home", str(demo.home)]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert "`otel-empathy traces` lists them" in output.err
    assert "\x1b" not in output.err


def test_a_tree_fits_its_terminal_and_shows_what_failed_first(
    demo: Any, trace_id: str, terminal: Terminal
) -> None:
    code, seen = terminal("traces", trace_id, "--home", str(demo.home))
    rows = seen.splitlines()
    assert code == 0
    assert max(map(len, rows)) <= 80
    failures = [place for place, row in enumerate(rows) if row.startswith(" ✗ ")]
    heading = next(place for place, row in enumerate(rows) if row.startswith(" span "))
    assert len(failures) == 2
    assert max(failures) < heading
    assert any("├─ execute_tool weather" in row for row in rows)
    assert any("└─ ✗ execute_tool museums  TimeoutError" in row for row in rows)
    assert any("↻1" in row for row in rows)
    assert any("from cache" in row for row in rows)


def test_a_wide_terminal_shows_when_each_span_ran(
    demo: Any, trace_id: str, terminal: Terminal
) -> None:
    _, seen = terminal("traces", trace_id, "--home", str(demo.home), width=120)
    assert "█" in seen
    assert max(map(len, seen.splitlines())) <= 120


def test_colour_is_for_terminals_that_want_it(demo: Any, trace_id: str, terminal: Terminal) -> None:
    args = ("traces", trace_id, "--home", str(demo.home))
    _, coloured = terminal(*args, coloured=True)
    _, plain = terminal(*args, coloured=True, NO_COLOR="1")
    assert re.search(r"\x1b\[(?:\d+;)*31m", coloured)
    assert not re.search(r"\x1b\[(?:\d+;)*3\dm", plain)


def test_a_list_fits_its_terminal(demo: Any, terminal: Terminal) -> None:
    for width in (80, 120):
        code, seen = terminal("traces", "--home", str(demo.home), width=width)
        assert code == 0
        table = [row for row in seen.splitlines() if not row.startswith("`")]
        assert max(map(len, table)) <= width
        assert "✗ 2" in seen


@pytest.mark.parametrize("width", [60, 75, 76, 109, 110, 120])
def test_a_list_cuts_names_and_nothing_else(tmp_path: Any, terminal: Terminal, width: int) -> None:
    long = call(model="m" * 200, cost=0.001234, error=True, trace="ab" * 16)
    segment(tmp_path, line(long, service="s" * 200))
    _, seen = terminal("traces", "--home", str(tmp_path), width=width)
    [row] = [row for row in seen.splitlines() if "✗ 1" in row]
    assert cell_len(row) <= width
    assert row.split()[0] == "abababab"
    assert row.rstrip().endswith("110  $0.001234  1.00 s")


def test_an_ambiguous_beginning_names_a_few_of_the_ids(
    tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    segment(tmp_path, line(*[span(trace=f"{number:02x}" * 16) for number in range(16)]))
    assert main(["traces", "0", "--home", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "beginning of several: " + ", ".join(f"{n:02x}" * 16 for n in range(5)) + ", …" in said
    assert "05" * 16 not in said


@pytest.mark.parametrize(
    "attribute",
    [
        {"empathy.cost.amount": True},
        {"gen_ai.usage.input_tokens": True},
        {"x": [float("nan"), float("inf")], "y": -float("inf")},
    ],
)
def test_values_that_make_no_sense_are_still_one_line_of_json(
    tmp_path: Any, capsys: pytest.CaptureFixture[str], attribute: dict[str, Any]
) -> None:
    text = line(call(cost=None, input=None, trace="ab" * 16, more=attribute))
    for word in (b"NaN", b"-Infinity", b"Infinity"):  # as protobuf writes them into JSON
        text = re.sub(rb'(?<=Value":)' + word, b'"' + word + b'"', text)
    segment(tmp_path, text)
    for args in (["traces"], ["traces", "ab"], ["tail", "--days", "9999"]):
        assert main([*args, "--home", str(tmp_path)]) == 0
        output = capsys.readouterr()
        [row] = output.out.splitlines()
        found = json.loads(row, parse_constant=pytest.fail)
        assert "could not be read" not in output.err
        assert found.get("cost") is None
        assert found.get("tokens_input") in {None, 0}


def test_an_empty_log_is_no_error(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["traces", "--home", str(tmp_path)]) == 0
    output = capsys.readouterr()
    assert output.out == ""
    assert "otel-empathy demo" in output.err


def test_a_length_that_is_negative_is_a_dash_in_the_list_and_in_the_tree(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    segment(tmp_path, line(span("backwards", seconds=-1)))
    assert main(["traces", "list", "--table", "--home", str(tmp_path)]) == 0
    row = next(one for one in capsys.readouterr().out.splitlines() if "backwards" in one)
    assert row.split()[-1] == "-"
    assert main(["traces", "0", "--table", "--home", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "1 span, 0 calls, -" in shown
    assert "µs" not in shown
    for args in (["list"], ["0"]):
        assert main(["traces", *args, "--json", "--home", str(tmp_path)]) == 0
        assert json.loads(capsys.readouterr().out)["duration"] is None
