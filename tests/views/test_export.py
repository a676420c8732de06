from __future__ import annotations

import csv
import io
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from store.lines import DAY, NOW, Clock, call, line, log_line, segment, span

from otel_empathy.core.errors import WrongValue
from otel_empathy.views.export import COLUMNS, cell, without_segment
from otel_empathy.views.store import Store


def export(home, kind, **options) -> tuple[int, bytes]:
    stream = io.BytesIO()
    count = Store(home, clock=Clock()).export(stream, kind, **options)
    assert not stream.closed
    return count, stream.getvalue()


class TestCsv:
    def test_columns_are_the_promised_ones_and_unknown_cells_are_empty(self, tmp_path):
        more = {"empathy.call.cache_type": "exact"}
        sent = [
            call(tier="cheap", workflow="w", seconds=1.5),
            call(
                hit=True, cost=None, provider=None, model=None, input=None, output=None, more=more
            ),
        ]
        segment(tmp_path, line(*sent))
        count, text = export(tmp_path, "csv")
        rows = list(csv.DictReader(io.StringIO(text.decode(), newline="")))
        assert count == 2
        assert tuple(rows[0]) == COLUMNS
        assert rows[0] == {
            "ts": "2026-01-01T00:00:00.000000Z", "workflow": "w", "stage": "", "tier": "cheap",
            "model": "gpt-4o", "provider": "openai", "cost": "0.010000", "tokens_input": "100",
            "tokens_output": "10", "cache_hit": "false", "cache_type": "", "duration_ms": "1500.0",
        }  # fmt: skip
        assert (rows[1]["cost"], rows[1]["cache_hit"], rows[1]["cache_type"]) == (
            "0.000000", "true", "exact",
        )  # fmt: skip
        assert rows[1]["tokens_input"] == rows[1]["model"] == ""

    @pytest.mark.fault("H11")
    @pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
    def test_cells_that_a_spreadsheet_would_run_are_quoted(self, tmp_path, start):
        evil = f"{start}cmd|' /C calc'!A0"
        segment(tmp_path, line(call(model=evil, workflow=f'a"{start},\n')))
        _, text = export(tmp_path, "csv")
        [row] = csv.DictReader(io.StringIO(text.decode(), newline=""))
        assert row["model"] == f"'{evil}"
        assert row["workflow"] == f'a"{start},\n'

    @pytest.mark.fault("H11")
    @given(st.text(st.sampled_from("'=+-@\t\rax,\"\n "), max_size=6))
    def test_one_quote_taken_away_gives_back_what_was_recorded(self, text):
        shown = cell(text)
        quoted = re.match("'+[=+\\-@\t\r]", shown) is not None
        assert (shown[1:] if quoted else shown) == text
        assert not shown.startswith(("=", "+", "-", "@", "\t", "\r"))

    def test_no_calls_give_a_header(self, tmp_path):
        assert export(tmp_path, "csv") == (0, ",".join(COLUMNS).encode() + b"\r\n")


def test_jsonl_is_one_flat_object_a_call(tmp_path):
    segment(tmp_path, line(call(model="a"), span("no call"), call(model="ü\n")))
    count, text = export(tmp_path, "jsonl")
    found = [json.loads(one) for one in text.splitlines()]
    assert count == len(found) == 2
    assert [(one["v"], one["model"]) for one in found] == [(1, "a"), (1, "ü\n")]


class TestOtlp:
    def test_lines_come_as_they_are_without_our_segment_ids(self, tmp_path):
        first, second = line(call()), line(span("other"), segment="s2")
        segment(tmp_path, first, seq=1)
        segment(tmp_path, b"garbage\n", second.replace(b"\n", b"\r\n"), second[:-9], seq=2)
        count, text = export(tmp_path, "otlp")
        gone = b'{"key":"empathy.segment.id","value":{"stringValue":"s%d"}},'
        assert count == 2
        assert text == first.replace(gone % 1, b"") + second.replace(gone % 2, b"")

    @pytest.mark.parametrize(
        ("attributes", "left"),
        [
            ("[S]", "[]"),
            ("[S,X]", "[X]"),
            ("[X,S]", "[X]"),
            ("[X,S,X]", "[X,X]"),
            ("[X, S , X]", "[X,X]"),
            ("[X]", "[X]"),
        ],
    )
    def test_the_segment_id_goes_wherever_it_stands(self, attributes, left):
        ours = '{"key":"empathy.segment.id","value":{"stringValue":"s"}}'
        theirs = '{"key":"x","value":{"stringValue":"empathy"}}'

        def text(of):
            of = of.replace("S", ours).replace("X", theirs)
            return f'{{"resourceSpans":[{{"resource":{{"attributes":{of}}}}}]}}'

        found = without_segment(text(attributes).encode())
        assert json.loads(found) == json.loads(text(left))

    def test_an_id_that_is_written_in_an_unusual_way_goes_too(self):
        theirs = {"value": {"stringValue": "s"}, "key": "empathy.segment.id"}
        tree = {"resourceSpans": [{"resource": {"attributes": [theirs]}}, {"resource": None}]}
        text = json.dumps(tree).encode()
        assert b"segment" not in without_segment(text)

    def test_a_line_is_whole_in_the_window_or_not_there(self, tmp_path):
        mixed = line(span(start=NOW), span(start=NOW - 9 * DAY))
        segment(tmp_path, mixed, line(span(start=NOW - 9 * DAY)))
        count, text = export(tmp_path, "otlp", days=7)
        assert count == 1
        assert len(json.loads(text)["resourceSpans"][0]["scopeSpans"][0]["spans"]) == 2

    def test_other_signals_are_exported_too(self, tmp_path):
        segment(tmp_path, log_line({"timeUnixNano": str(NOW)}), signal="logs")
        points = {"name": "m", "sum": {"dataPoints": [{"timeUnixNano": str(NOW), "asInt": "3"}]}}
        tree = {"resourceMetrics": [{"scopeMetrics": [{"metrics": [points]}]}]}
        segment(tmp_path, json.dumps(tree).encode() + b"\n", signal="metrics")
        assert export(tmp_path, "otlp", signal="logs", days=1)[0] == 1
        assert json.loads(export(tmp_path, "otlp", signal="metrics", days=1)[1]) == tree
        assert export(tmp_path, "otlp", signal="traces")[0] == 0


def test_an_unknown_format_is_refused(tmp_path):
    with pytest.raises(WrongValue, match="csv, jsonl, otlp"):
        export(tmp_path, "xlsx")
