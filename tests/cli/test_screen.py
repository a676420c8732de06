from __future__ import annotations

import io
import json
import os
from decimal import Decimal
from pathlib import Path

import pytest

from otel_empathy.cli.screen import Column, Screen, clean, json_line

NASTY = [
    "line\nbreak",
    "car\rriage",
    "esc \x1b[31mred\x1b[0m",
    "osc \x1b]0;title\x07 end",
    "osc8 \x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\",
    "c1 \x9b31m csi",
    "sep\u2028\u2029arated",
    "bidi \u202egnp.exe\u2066",
    "mark \u200e\u200f\u061c",
    "bell\x07 null\x00",
    "tag \U000e0041",
    "half \ud800",
    "bom \ufeff",
]


@pytest.mark.fault("C3")
@pytest.mark.parametrize("name", NASTY)
def test_a_name_from_outside_is_one_harmless_line(name: str) -> None:
    shown = clean(name)
    assert shown.isprintable() or shown.replace(" ", "").isprintable()
    assert not set(shown) & set(
        "\x1b\x9b\x07\x00\n\r\u2028\u2029\u202e\u2066\u200e\u200f\u061c\ufeff"
    )
    shown.encode()


def test_an_escape_sequence_goes_as_a_whole() -> None:
    assert clean("a \x1b[31mred\x1b[0m b \x1b]0;title\x07c") == "a red b c"


def test_ordinary_text_of_any_language_stays() -> None:
    assert clean("Café 東京 👩‍💻 שלום") == "Café 東京 👩‍💻 שלום"


def test_a_long_name_is_cut_with_an_ellipsis() -> None:
    assert clean("abcdef", limit=4) == "abc…"
    assert clean("abcd", limit=4) == "abcd"


@pytest.mark.fault("C3")
@pytest.mark.parametrize("name", NASTY)
def test_a_json_line_is_harmless_and_loses_nothing(name: str) -> None:
    line = json_line({"name": name})
    assert line.isprintable()
    line.encode()
    assert json.loads(line) == {"name": name}


def test_a_json_line_holds_numbers_and_absent_values() -> None:
    assert json_line({"cost": Decimal("0.25"), "tokens": None}) == '{"cost":0.25,"tokens":null}'


def test_a_json_line_is_json_whatever_the_numbers_are() -> None:
    row = {"a": [float("nan"), 1.5], "b": {"c": float("-inf"), "d": (float("inf"), "x")}}
    found = json.loads(json_line(row), parse_constant=pytest.fail)
    assert found == {"a": ["NaN", 1.5], "b": {"c": "-Infinity", "d": ["Infinity", "x"]}}


@pytest.mark.fault("C3")
def test_markup_in_a_cell_is_text() -> None:
    out = io.StringIO()
    Screen(as_json=False, out=out, width=80).table(
        (Column("name"), Column("n", right=True)), [("[red]x[/red] :smile: [/]", "1")]
    )
    assert "[red]x[/red] :smile: [/]" in out.getvalue()


def test_a_table_fits_its_terminal() -> None:
    out = io.StringIO()
    Screen(as_json=False, out=out, width=40).table(
        (Column("name", grow=True), Column("n", right=True)), [("x" * 100, "12,345")]
    )
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 40
    assert any("…" in line and "12,345" in line for line in lines)


def test_several_growing_columns_share_what_is_missing() -> None:
    out = io.StringIO()
    Screen(as_json=False, out=out, width=60).table(
        (Column("id"), Column("a", grow=True), Column("b", grow=True), Column("n", right=True)),
        [("deadbeef", "x" * 100_000, "y" * 20, "12,345")],
    )
    line = out.getvalue().splitlines()[-1]
    assert len(line) <= 60
    assert line.split()[0] == "deadbeef"
    assert line.split()[-1] == "12,345"
    assert "y" * 17 in line


@pytest.mark.parametrize(
    ("width", "titles"),
    [
        (60, ["name", "calls", "tokens", "cost"]),
        (43, ["name", "calls", "tokens", "cost"]),
        (42, ["name", "calls", "cost"]),
        (31, ["name", "calls", "cost"]),
        (30, ["name", "cost"]),
        (24, ["name", "cost"]),
    ],
)
def test_a_narrow_terminal_gets_fewer_columns_and_no_half_of_a_number(
    width: int, titles: list[str]
) -> None:
    out = io.StringIO()
    columns = (
        Column("name", grow=True),
        Column("calls", right=True, spare=1),
        Column("tokens", right=True, spare=2),
        Column("cost", right=True),
    )
    known = {"calls": "1,234", "tokens": "98,765,432", "cost": "$0.004676"}
    row = ("x" * 30, *known.values())
    Screen(as_json=False, out=out, width=width).table(columns, [row])
    head, _, line = out.getvalue().splitlines()
    assert head.split() == titles
    assert line.split()[1:] == [known[title] for title in titles[1:]]
    assert len(line) <= width


def test_what_is_no_unicode_in_a_name_is_marked() -> None:
    assert clean(os.fsdecode(b"/tmp/\xff.csv")) == "/tmp/\ufffd.csv"


def test_a_stream_that_is_no_terminal_gets_json() -> None:
    assert not Screen(out=io.StringIO()).people
    assert Screen(as_json=False, out=io.StringIO()).people


def test_a_note_stands_behind_the_answer_where_both_go_to_one_place(tmp_path: Path) -> None:
    with (
        (tmp_path / "both").open("a", encoding="utf-8") as out,
        (tmp_path / "both").open("a", encoding="utf-8") as err,
    ):
        screen = Screen(out=out, err=err)
        screen.record({"text": "x" * 9_000})  # more than a buffer holds
        screen.record({"text": "y"})
        screen.note("the note")
    lines = (tmp_path / "both").read_text().splitlines()
    assert [line[:10] for line in lines] == ['{"text":"x', '{"text":"y', "the note"]


def test_notes_go_to_the_other_stream_in_one_line() -> None:
    out, err = io.StringIO(), io.StringIO()
    Screen(out=out, err=err).note("first\nsecond \x1b[31m")
    assert out.getvalue() == ""
    assert err.getvalue() == "first second \n"
