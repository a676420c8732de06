from __future__ import annotations

import json
from enum import Enum, IntEnum
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_empathy.core import semconv
from otel_empathy.pipeline import values
from otel_empathy.pipeline.values import Limits, Note


def one(value: Any, limits: Limits | None = None, key: str = "k") -> Any:
    """What one attribute becomes."""
    fragments, _ = values.attributes({key: value}, limits or Limits(), Note())
    [fragment] = fragments
    return json.loads(fragment).get("value")


class Colour(str, Enum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Rude:
    def __str__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("text", {"stringValue": "text"}),
        (Colour.RED, {"stringValue": "red"}),
        (True, {"boolValue": True}),
        (7, {"intValue": "7"}),
        (Level.HIGH, {"intValue": "3"}),
        (2**63 - 1, {"intValue": "9223372036854775807"}),
        (-(2**63), {"intValue": "-9223372036854775808"}),
        (2**63, {"stringValue": "0x8000000000000000"}),
        (0.1, {"doubleValue": 0.1}),
        (1e300, {"doubleValue": 1e300}),
        (float("nan"), {"doubleValue": "NaN"}),
        (float("inf"), {"doubleValue": "Infinity"}),
        (float("-inf"), {"doubleValue": "-Infinity"}),
        (b"hello", {"bytesValue": "aGVsbG8="}),
        (bytearray(b"hello"), {"bytesValue": "aGVsbG8="}),
        (None, None),
        ([], {"arrayValue": {"values": []}}),
        (("stop",), {"arrayValue": {"values": [{"stringValue": "stop"}]}}),
        (["a", None], {"arrayValue": {"values": [{"stringValue": "a"}, {}]}}),
        (
            {"a": 1},
            {"kvlistValue": {"values": [{"key": "a", "value": {"intValue": "1"}}]}},
        ),
        (1 + 2j, {"stringValue": "(1+2j)"}),
    ],
)  # fmt: skip
def test_a_value_becomes_its_otlp_form(value: Any, expected: Any) -> None:
    assert one(value) == expected


def test_an_integer_of_any_width_becomes_a_text() -> None:
    assert one(10**5000) == {"stringValue": f"{10**5000:#x}"}


def test_an_object_that_cannot_be_printed_is_named() -> None:
    assert one(Rude())["stringValue"].startswith("<")


@pytest.mark.parametrize("value", [1, True, 1.0, "1"])
def test_equal_values_of_different_kinds_keep_their_kinds(value: Any) -> None:
    limits = Limits()
    for other in (1, True, 1.0, "1", ("1",)):
        one(other, limits)

    [(kind, _)] = one(value, limits).items()

    expected = {int: "intValue", bool: "boolValue", float: "doubleValue", str: "stringValue"}
    assert kind == expected[type(value)]


@settings(deadline=None)
@given(
    st.text(
        st.characters(exclude_categories=()) | st.sampled_from("\x00\n\r\x1b\x85\u2028\u2029\ud800")
    )
)
def test_any_text_becomes_one_line_of_valid_json(text: str) -> None:
    for length in (1, 100):
        fragments, _ = values.attributes({"k": text * length}, Limits(value=10**6), Note())
        raw = values.fitted(b'{"attributes":[%b]}' % fragments[0], 10**6, Limits())

        assert len(raw.decode().splitlines()) == 1
        found = json.loads(raw)["attributes"][0]["value"]["stringValue"]
        assert found == (text * length).encode("utf-16-le", "surrogatepass").decode(
            "utf-16-le", "replace"
        )


def test_surrogate_halves_that_belong_together_become_their_character() -> None:
    assert one("\ud83d\ude00") == {"stringValue": "\U0001f600"}


@given(st.text(), st.integers(1, 40))
def test_a_long_text_is_cut_on_a_character_boundary(text: str, most: int) -> None:
    note, limits = Note(), Limits(value=most)
    fragments, _ = values.attributes({"k": text}, limits, note)

    found = json.loads(fragments[0])["value"]["stringValue"]

    raw = text.encode()
    assert found == raw[:most].decode("utf-8", "ignore")
    assert note.cut is (len(raw) > most)
    assert limits.counters["value"] == (len(raw) > most)


def test_content_may_be_longer_than_other_values() -> None:
    limits = Limits(value=10, content=100)

    assert len(one("x" * 1000, limits)["stringValue"]) == 10
    assert len(one("x" * 1000, limits, semconv.INPUT_MESSAGES)["stringValue"]) == 100
    assert limits.counters == {"value": 1, "content": 1}


def test_content_that_must_not_be_captured_is_left_out_without_being_counted() -> None:
    limits = Limits(drop=semconv.CONTENT)

    fragments, dropped = values.attributes({semconv.OUTPUT_MESSAGES: "x", "a": 1}, limits, Note())

    assert len(fragments) == 1
    assert dropped == 0
    assert not limits.counters


def test_attributes_beyond_the_limit_are_dropped_and_counted() -> None:
    limits, note = Limits(), Note()

    fragments, dropped = values.attributes({f"k{i}": i for i in range(10_000)}, limits, note)

    assert len(fragments) == 128
    assert dropped == 9872
    assert note.cut
    assert limits.counters == {"keys": 1}
    assert len(limits.fragments) <= 2048


def test_a_key_that_is_too_long_drops_its_attribute() -> None:
    fragments, dropped = values.attributes({"k" * 2000: 1, "ok": 2}, Limits(), Note())

    assert len(fragments) == 1
    assert dropped == 1


def test_lists_and_maps_are_cut_where_their_room_ends() -> None:
    limits = Limits()

    assert len(one([1] * 1_000_000, limits)["arrayValue"]["values"]) == 1023
    assert len(one({str(i): i for i in range(500)}, limits)["kvlistValue"]["values"]) == 128
    assert len(one([""] * 5000, limits)["arrayValue"]["values"]) <= 1024
    assert limits.counters == {"value": 2, "keys": 1}


def test_nesting_is_cut_at_its_depth() -> None:
    limits = Limits()
    value: Any = "end"
    for _ in range(1000):
        value = [value]

    raw = json.dumps(one(value, limits))

    assert raw.count("arrayValue") == 8
    assert limits.counters == {"depth": 1}


def test_a_value_that_contains_itself_ends() -> None:
    value: list[Any] = []
    value.extend([value] * 10)

    assert len(json.dumps(one(value))) < 200_000


def test_a_secret_at_the_cut_is_masked_before_the_cut() -> None:
    limits = Limits(lambda text: text.replace("s" * 20, "*"), value=100)

    found = one("x" * 90 + "s" * 20 + "y" * 5000, limits)["stringValue"]

    assert "s" not in found


def test_text_under_safe_keys_is_not_scrubbed() -> None:
    limits = Limits(lambda _: "***")

    assert one("gpt-4o", limits, semconv.REQUEST_MODEL) == {"stringValue": "gpt-4o"}
    assert one(("stop",), limits, semconv.FINISH_REASONS)["arrayValue"]["values"] == [
        {"stringValue": "stop"}
    ]
    assert one("gpt-4o", limits, "note") == {"stringValue": "***"}
    assert one(("gpt-4o",), limits, "note")["arrayValue"]["values"] == [{"stringValue": "***"}]
    assert one({"note": "gpt-4o"}, limits, "note") == {
        "kvlistValue": {"values": [{"key": "***", "value": {"stringValue": "***"}}]}
    }


def test_a_masked_text_is_scrubbed_each_time_so_that_hits_are_counted() -> None:
    hits = []

    def scrub(text: str) -> str:
        hits.append(text)
        return text.replace("secret", "***")

    limits = Limits(scrub)
    for _ in range(3):
        one("secret", limits)
        one("plain", limits)

    assert hits.count("secret") == 3
    assert hits.count("plain") == 1


def test_kept_fragments_are_bounded() -> None:
    limits = Limits()
    for index in range(5000):
        values.attributes({"k": f"text {index}", f"key {index}": 1}, limits, Note())
        values.name(f"name {index}", limits, Note())

    assert len(limits.fragments["k"].texts) <= 256
    assert len(limits.fragments) <= 2048
    assert len(limits.names) <= 2048


def test_the_mark_stands_once() -> None:
    fragments: list[bytes] = []
    values.mark(fragments, {semconv.TRUNCATED: True})
    assert fragments == []
    values.mark(fragments, None)
    assert len(fragments) == 1


def test_content_is_never_a_safe_key() -> None:
    assert not values.SAFE_KEYS & semconv.CONTENT
