from __future__ import annotations

import threading
from typing import Any

from otel_empathy.pipeline import encode_json, inside
from otel_empathy.pipeline.inside import Inside, Outside
from otel_empathy.pipeline.processor import Sink


class Kept:
    """Stands in for the log: it keeps what it gets, and records something else meanwhile."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.bodies: list[bytes] = []
        self.open = False

    def append(self, signal: str, resource: bytes, scope: bytes, body: bytes, count: int) -> None:
        assert not self.open, "a record came in the middle of another"
        self.open = True
        if not body.startswith(b"late"):
            self.sink.put(signal, resource, scope, b"late " + body, count)
        self.bodies.append(body)
        self.open = False


def sink() -> tuple[Sink, Any]:
    made = Sink(encode_json.Limits(), {})
    out = Kept(made)
    made.out = out
    return made, out


def test_what_is_recorded_in_the_middle_of_a_record_comes_behind_it() -> None:
    made, out = sink()
    made.put("traces", b"", b"", b"one", 1)
    made.put("traces", b"", b"", b"two", 1)
    assert out.bodies == [b"one", b"late one", b"two", b"late two"]
    assert inside.threads == set()


def test_a_thread_of_the_pipeline_puts_aside_what_another_then_hands_on() -> None:
    made, out = sink()
    with Inside():
        made.put("traces", b"", b"", b"late and aside", 1)
        assert out.bodies == []
    made.catch_up()
    assert out.bodies == [b"late and aside"]


def test_a_thread_of_the_pipeline_may_step_outside_to_record() -> None:
    made, out = sink()
    with Inside():
        with Outside():
            made.put("traces", b"", b"", b"late but at once", 1)
        assert out.bodies == [b"late but at once"]
        assert threading.get_ident() in inside.threads
    assert threading.get_ident() not in inside.threads


def test_being_inside_twice_ends_with_the_outer_one() -> None:
    with Inside():
        with Inside():
            pass
        assert threading.get_ident() in inside.threads
    assert threading.get_ident() not in inside.threads
