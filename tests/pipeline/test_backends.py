"""The shipper, step by step: which records were sent, where the cursor stands, what was counted.

The sender is a script here because each row needs one exact answer at one exact moment; real
senders against real sockets are in test_transport.py and in tests/flows.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from otel_empathy.emit import safety
from otel_empathy.pipeline import backends, ledger, segments
from otel_empathy.pipeline.backends import Backend, ship
from otel_empathy.pipeline.chunk import Chunk, Signal
from otel_empathy.pipeline.cursor import Cursor, Position, all_cursors, cursor_folder
from otel_empathy.pipeline.log import Log, Options
from otel_empathy.pipeline.outcome import Outcome
from otel_empathy.pipeline.shipping import Plan, aside
from otel_empathy.pipeline.source import Own
from otel_empathy.testing import ManualClock

RESOURCE = b'"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"t"}}]}'
SCOPE = b'"scope":{"name":"s"}'
OK = Outcome("ok")


class Script:
    """A sender that answers by rule and remembers what it took."""

    def __init__(self, answer: Callable[[list[int]], Outcome] = lambda _: OK) -> None:
        self.answer = answer
        self.requests: list[list[int]] = []
        self.taken: list[int] = []
        self.closed = False
        self.unserved: set[str] = set()

    def send(self, signal: Signal, chunks: Sequence[Chunk], deadline: float) -> Outcome:
        if signal.name in self.unserved:
            return Outcome("pause", error="404", signal_only=True)
        names = [
            int(found)
            for chunk in chunks
            for found in re.findall(rb'"traceId":"0*(\d+)"', chunk.body)
        ]
        self.requests.append(names)
        outcome = self.answer(names)
        if outcome.kind == "ok":
            self.taken += names
        return outcome

    def close(self) -> None:
        self.closed = True


class Bench:
    """One home, one log, one backend that is stepped by hand."""

    def __init__(self, home: Path, *, records: int = 512, segment_bytes: int = 10_000_000) -> None:
        self.home = home
        self.clock = ManualClock()
        self.records = records
        segments.make_home(home)
        self.number = 0
        self.options = Options(tail=True, segment_bytes=segment_bytes)
        self.log = Log(home, service="t", instance="a" * 16, options=self.options, clock=self.clock)
        self.made: list[Backend] = []

    def put_logs(self, count: int, log: Log | None = None) -> None:
        for _ in range(count):
            (log or self.log).append("logs", RESOURCE, SCOPE, b'{"timeUnixNano":"1"}', 1)

    def put(self, count: int, log: Log | None = None) -> None:
        for _ in range(count):
            self.number += 1
            body = b'{"traceId":"%032d","spanId":"%016x"}' % (self.number, self.number)
            (log or self.log).append("traces", RESOURCE, SCOPE, body, 1)

    def backend(
        self, sender: Script, *, name: str = "b", start: str = "now", cap: int = 512 << 20,
        log: Log | None = None,
        signals: tuple[str, ...] = ("traces",),
    ) -> Backend:  # fmt: skip
        backend = Backend(
            Plan(name=name, connect=lambda: sender, signals=signals, start=start),
            home=self.home, records=self.records, cap=cap, clock=self.clock, jitter=lambda: 1.0,
        )  # fmt: skip
        backend._log = log or self.log
        assert backend._prepare()
        self.made.append(backend)
        return backend

    def close(self) -> None:
        for backend in self.made:
            backend.abandon()
        self.log.close(1)


@pytest.fixture
def bench(empathy_home: Path):
    made = Bench(empathy_home)
    yield made
    made.close()


def run(backend: Backend, passes: int = 20) -> None:
    for _ in range(passes):
        backend._adopt()
        if not backend._pass():
            return


def settled(backend: Backend, acked: int) -> tuple[int, int, dict[str, int]]:
    row = backend.balance(acked)
    assert row.acked == row.shipped + row.pending + row.dropped.total()
    return row.shipped, row.pending, dict(row.dropped)


def test_records_are_sent_in_order_and_the_cursor_follows(bench: Bench) -> None:
    sender = Script()
    backend = bench.backend(sender)
    bench.put(3)
    run(backend)
    bench.put(2)
    run(backend)
    assert sender.taken == [1, 2, 3, 4, 5]
    cursor = Cursor.load(bench.home, "b", "aaaaaaaa")
    assert (cursor.positions["traces"].records, cursor.shipped) == (5, 5)
    assert settled(backend, 5) == (5, 0, {})


def test_a_batch_holds_no_more_records_than_asked_for(empathy_home: Path) -> None:
    bench = Bench(empathy_home, records=2)
    sender = Script()
    backend = bench.backend(sender)
    bench.put(5)
    run(backend)
    assert sender.requests == [[1, 2], [3, 4], [5]]
    bench.close()


def points(count: int) -> bytes:
    """One metric with so many data points."""
    found = ",".join(f'{{"timeUnixNano":"1","asInt":"{number}"}}' for number in range(count))
    return f'{{"name":"m","gauge":{{"dataPoints":[{found}]}}}}'.encode()


@pytest.mark.fault("N7")
def test_a_metric_of_more_points_than_a_request_is_sent_in_requests_of_the_agreed_size(
    bench: Bench,
) -> None:
    sent: list[list[int]] = []

    class Points(Script):
        def send(self, signal: Signal, chunks: Sequence[Chunk], deadline: float) -> Outcome:
            assert all(chunk.count == chunk.body.count(b"asInt") for chunk in chunks)
            sent.append([int(n) for c in chunks for n in re.findall(rb'"asInt":"(\d+)"', c.body)])
            return OK

    backend = bench.backend(Points(), signals=("metrics",))
    bench.log.append("metrics", RESOURCE, SCOPE, points(1200), 1200)
    run(backend)
    assert [len(one) for one in sent] == [512, 512, 176]
    assert [number for one in sent for number in one] == list(range(1200))
    assert settled(backend, 1200) == (1200, 0, {})


@pytest.mark.fault("N7")
def test_a_line_of_a_foreign_writer_with_more_records_than_a_request_is_sent_in_several(
    bench: Bench,
) -> None:
    orphan(bench, "b" * 16, 1)
    (segment,) = segments.listed(bench.home, "traces", "bbbbbbbb")
    spans = ",".join(f'{{"traceId":"{n:032}","spanId":"{n:016}"}}' for n in range(2, 1202))
    with segment.path.open("a", encoding="ascii") as file:
        file.write(f'{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{spans}]}}]}}]}}\n')
    sender = Script()
    backend = bench.backend(sender)
    run(backend)
    assert max(len(names) for names in sender.requests) == 512
    assert sum(len(names) < 512 for names in sender.requests) <= 2  # the first line, and the rest
    assert sender.taken == list(range(1, 1202))


def test_a_backlog_is_shipped_at_once_and_news_gather_into_a_batch(bench: Bench) -> None:
    backend = bench.backend(Script())
    bench.put(bench.records + 3)
    assert backend._behind()
    backend._pass()
    assert not backend._behind()
    bench.put(bench.records - 3)
    assert backend._behind()


def test_a_backend_that_is_behind_reads_the_segments(empathy_home: Path) -> None:
    bench = Bench(empathy_home, segment_bytes=4096)
    bench.put(200)
    assert len(segments.listed(empathy_home, "traces")) > 3
    sender = Script()
    bench.log.writers["traces"].tail.clear()
    backend = bench.backend(sender)
    run(backend)
    assert sender.taken == list(range(1, 201))
    bench.put(10)
    run(backend)
    assert sender.taken == list(range(1, 211))
    bench.close()


@pytest.mark.fault("N1")
def test_a_backend_that_is_down_gets_everything_when_it_is_back(bench: Bench) -> None:
    down = True
    sender = Script(lambda _: Outcome("retry", error="connection_refused") if down else OK)
    backend = bench.backend(sender)
    bench.put(3)
    run(backend)
    assert (backend.state, settled(backend, 3)) == ("retrying", (0, 3, {}))
    bench.put(3)
    down = False
    bench.clock.advance(31)
    run(backend)
    assert sender.taken == [1, 2, 3, 4, 5, 6]
    assert (backend.state, settled(backend, 6)) == ("healthy", (6, 0, {}))


@pytest.mark.fault("N5")
def test_no_request_is_sent_inside_the_window_that_the_backend_asked_for(bench: Bench) -> None:
    sender = Script(lambda _: Outcome("retry", error="429", retry_after=120.0))
    backend = bench.backend(sender)
    bench.put(1)
    run(backend)
    for _ in range(119):
        bench.clock.advance(1)
        run(backend)
    assert len(sender.requests) == 1
    bench.clock.advance(1.5)
    run(backend)
    assert len(sender.requests) == 2


@pytest.mark.fault("N5")
@pytest.mark.fault("N4")
@pytest.mark.parametrize(
    ("answer", "asked"),
    [
        (Outcome("retry", error="429", retry_after=120.0), 1),
        (Outcome("pause", error="401"), 1),
        (Outcome("pause", error="404", signal_only=True), 2),
    ],
    ids=["Retry-After", "401", "404"],
)
def test_an_answer_for_the_backend_holds_for_its_other_signals_too(
    bench: Bench, answer: Outcome, asked: int
) -> None:
    sender = Script(lambda _: answer)
    backend = bench.backend(sender, signals=("traces", "logs"))
    bench.put(1)
    bench.log.append("logs", RESOURCE, SCOPE, b'{"timeUnixNano":"1"}', 1)
    run(backend)
    assert len(sender.requests) == asked


@pytest.mark.fault("N8")
def test_the_wait_between_tries_grows_and_is_capped(bench: Bench) -> None:
    times: list[float] = []
    sender = Script(
        lambda _: times.append(bench.clock.monotonic()) or Outcome("retry", error="503")  # type: ignore[func-returns-value]
    )
    backend = bench.backend(sender)
    bench.put(1)
    for _ in range(200):
        run(backend)
        bench.clock.advance(1)
    gaps = [round(b - a) for a, b in pairwise(times)]
    assert gaps[:7] == [1, 2, 4, 8, 16, 30, 30]


@pytest.mark.fault("N4")
def test_413_halves_until_it_fits_and_gives_up_only_what_never_fits(bench: Bench) -> None:
    sender = Script(
        lambda names: Outcome("split", error="413") if len(names) > 2 or 7 in names else OK
    )
    backend = bench.backend(sender)
    bench.put(10)
    run(backend, 100)
    assert sender.taken == [1, 2, 3, 4, 5, 6, 8, 9, 10]
    assert settled(backend, 10) == (9, 0, {"too_large": 1})


@pytest.mark.fault("N4")
def test_400_finds_the_bad_record_and_keeps_it(bench: Bench) -> None:
    sender = Script(lambda names: Outcome("refuse", error="400") if 4 in names else OK)
    backend = bench.backend(sender)
    bench.put(9)
    run(backend, 100)
    assert sender.taken == [1, 2, 3, 5, 6, 7, 8, 9]
    assert settled(backend, 9) == (8, 0, {"rejected": 1})
    (kept,) = aside(bench.home, "b")
    assert json.dumps(kept).count('"traceId"') == 1


@pytest.mark.fault("N4")
def test_401_pauses_the_backend_and_keeps_the_backlog(bench: Bench) -> None:
    refused = True
    sender = Script(lambda _: Outcome("pause", error="401") if refused else OK)
    backend = bench.backend(sender)
    bench.put(5)
    run(backend)
    bench.clock.advance(20)
    run(backend)
    assert (len(sender.requests), backend.state) == (1, "paused")
    refused = False
    backend.reset()
    run(backend)
    assert (sender.taken, backend.state) == ([1, 2, 3, 4, 5], "healthy")


@pytest.mark.fault("N4")
def test_a_partial_success_is_counted_and_not_sent_again(bench: Bench) -> None:
    sender = Script(lambda _: Outcome("ok", rejected=2))
    backend = bench.backend(sender)
    bench.put(5)
    run(backend)
    assert len(sender.requests) == 1
    assert settled(backend, 5) == (3, 0, {"rejected": 2})


@pytest.mark.fault("N9")
@pytest.mark.parametrize("left", [False, True], ids=["own", "left by a crash"])
def test_poison_is_set_aside_after_five_tries_and_the_rest_goes_on(
    bench: Bench, left: bool
) -> None:
    sender = Script(lambda names: Outcome("retry", error="500") if 4 in names else OK)
    backend = bench.backend(sender)
    if left:
        orphan(bench, "b" * 16, 8)
    else:
        bench.put(8)
    for _ in range(60):
        run(backend)
        bench.clock.advance(30)
    whole = list(range(1, 9))
    assert sender.requests[:5] == [whole] * 5
    assert whole not in sender.requests[5:]
    assert sorted(sender.taken) == [1, 2, 3, 5, 6, 7, 8]
    found = ledger.recompute(bench.home, all_cursors(bench.home)).backends["b"]
    assert (found.shipped, found.pending, dict(found.dropped)) == (7, 0, {"poison": 1})
    (kept,) = aside(bench.home, "b")
    assert json.dumps(kept).count('"traceId"') == 1
    assert f"{4:032}" in json.dumps(kept)
    bench.put(1)
    run(backend)
    assert sender.taken[-1] == 9


@pytest.mark.fault("N9")
def test_a_backend_that_answers_500_to_everything_is_down_and_nothing_is_set_aside(
    bench: Bench,
) -> None:
    broken = True
    sender = Script(lambda _: Outcome("retry", error="500") if broken else OK)
    backend = bench.backend(sender)
    bench.put(8)
    for _ in range(60):
        run(backend)
        bench.clock.advance(30)
    broken = False
    bench.clock.advance(31)
    run(backend)
    assert sender.taken == [1, 2, 3, 4, 5, 6, 7, 8]
    assert settled(backend, 8) == (8, 0, {})


def test_a_sender_that_raises_is_tried_again(bench: Bench) -> None:
    def raises(_: list[int]) -> Outcome:
        raise RuntimeError("broken sender")

    sender = Script(raises)
    backend = bench.backend(sender)
    bench.put(1)
    with safety.swallow():
        run(backend)
    assert settled(backend, 1) == (0, 1, {})
    sender.answer = lambda _: OK
    bench.clock.advance(2)
    run(backend)
    assert sender.taken == [1]


@pytest.mark.fault("N7")
def test_one_backend_that_fails_leaves_the_other_alone(bench: Bench) -> None:
    bad, good = Script(lambda _: Outcome("retry", error="503")), Script()
    first, second = bench.backend(bad, name="bad"), bench.backend(good, name="good")
    bench.put(4)
    run(first)
    run(second)
    assert good.taken == [1, 2, 3, 4]
    assert settled(first, 4) == (0, 4, {})
    assert settled(second, 4) == (4, 0, {})


def orphan(
    bench: Bench, instance: str, count: int, backends: tuple[str, ...] = ("b",), logs: int = 0
) -> None:
    """What a process leaves that wrote its log and was killed before it shipped."""
    log = Log(bench.home, service="t", instance=instance, clock=bench.clock)
    record = ledger.Record(instance=instance, backends=backends)
    assert record.open(bench.home)
    bench.put(count, log)
    bench.put_logs(logs, log)
    log.close(1)
    record.close()


@pytest.mark.fault("S12")
def test_the_log_of_a_process_that_is_gone_is_shipped_by_another(bench: Bench) -> None:
    orphan(bench, "b" * 16, 3)
    orphan(bench, "c" * 16, 3, backends=("other",))
    sender = Script()
    backend = bench.backend(sender)
    run(backend)
    assert sender.taken == [1, 2, 3]
    bench.clock.advance(6)
    run(backend)
    assert list(backend.lanes.claims) == ["aaaaaaaa"]


@pytest.mark.fault("S12")
def test_an_orphan_has_one_adopter_and_another_when_that_one_goes(bench: Bench) -> None:
    orphan(bench, "b" * 16, 3)
    slow, fast = Script(lambda _: Outcome("retry", error="503")), Script()
    second_log = Log(bench.home, service="t", instance="d" * 16, clock=bench.clock)
    first = bench.backend(slow)
    run(first)
    second = bench.backend(fast, log=second_log)
    run(second)
    assert fast.taken == []
    first.abandon()
    bench.clock.advance(6)
    run(second)
    assert fast.taken == [1, 2, 3]
    second_log.close(1)


@pytest.mark.fault("S12")
def test_the_log_of_a_living_process_is_not_adopted(bench: Bench) -> None:
    living = ledger.Record(instance="b" * 16, backends=("b",))
    assert living.open(bench.home)
    log = Log(bench.home, service="t", instance="b" * 16, clock=bench.clock)
    bench.put(3, log)
    sender = Script()
    backend = bench.backend(sender)
    run(backend)
    assert sender.taken == []
    log.close(1)
    living.close()


@pytest.mark.fault("N10")
def test_a_new_backend_starts_now_unless_told_to_start_at_the_oldest(bench: Bench) -> None:
    orphan(bench, "b" * 16, 3, backends=())
    now, oldest = Script(), Script()
    run(bench.backend(now, name="now"))
    run(bench.backend(oldest, name="oldest", start="oldest"))
    assert now.taken == []
    assert oldest.taken == [1, 2, 3]


@pytest.mark.fault("S11")
@pytest.mark.parametrize(
    "damage",
    [b"", b"{", b"null", b'{"positions":{}}', b"\x00" * 100],
    ids=["empty", "torn", "null", "no positions", "zeros"],
)
def test_a_damaged_cursor_starts_again_and_skips_nothing(bench: Bench, damage: bytes) -> None:
    first = Script()
    backend = bench.backend(first)
    bench.put(3)
    run(backend)
    backend.abandon()
    (cursor_folder(bench.home, "b") / "aaaaaaaa.json").write_bytes(damage)
    again = Script()
    backend = bench.backend(again)
    bench.put(1)
    run(backend)
    assert again.taken == [1, 2, 3, 4]


@pytest.mark.fault("S11")
@pytest.mark.parametrize("offset", [10, 10_000_000], ids=["inside a line", "beyond the end"])
def test_an_offset_that_cannot_be_starts_the_segment_again(bench: Bench, offset: int) -> None:
    bench.put(3)
    cursor = Cursor("b", "aaaaaaaa")
    cursor.positions["traces"].seq = 1
    cursor.positions["traces"].offset = offset
    cursor.positions["traces"].records = 2
    cursor.save(bench.home)
    sender = Script()
    backend = bench.backend(sender)
    run(backend)
    assert sender.taken == [1, 2, 3]
    assert Cursor.load(bench.home, "b", "aaaaaaaa").repeats == 2


def test_a_backlog_beyond_its_cap_gives_up_the_oldest_and_counts_them(empathy_home: Path) -> None:
    bench = Bench(empathy_home, segment_bytes=4096)
    sender = Script(lambda _: Outcome("retry", error="503"))
    backend = bench.backend(sender, cap=8192)
    bench.put(200)
    run(backend)
    bench.clock.advance(6)
    run(backend)
    lost = backend.balance(200).dropped["backlog_cap"]
    assert 0 < lost < 200
    sender.answer = lambda _: OK
    bench.clock.advance(31)
    run(backend, 300)
    assert sender.taken == list(range(lost + 1, 201))
    assert settled(backend, 200) == (200 - lost, 0, {"backlog_cap": lost})
    bench.close()


def test_the_ledger_of_a_home_adds_up_from_what_is_on_disk(bench: Bench) -> None:
    orphan(bench, "b" * 16, 3)
    sender = Script(lambda names: OK if max(names) < 6 else Outcome("retry", error="503"))
    backend = bench.backend(sender)
    bench.put(2)
    run(backend)
    bench.put(4)
    run(backend)
    balance = ledger.recompute(bench.home, all_cursors(bench.home))
    row = balance.backends["b"]
    assert balance.acked == {"traces": 9}
    assert (row.acked, row.shipped, row.pending) == (9, 5, 4)


def test_a_line_of_many_records_is_sent_in_requests_of_the_agreed_size(empathy_home: Path) -> None:
    bench = Bench(empathy_home, records=4)
    bodies = [b'{"traceId":"%032d","spanId":"%016x"}' % (n, n) for n in range(1, 11)]
    bench.log.append("traces", RESOURCE, SCOPE, b",".join(bodies), 10)
    sender = Script()
    backend = bench.backend(sender)
    run(backend)
    assert sender.requests == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10]]
    assert settled(backend, 10) == (10, 0, {})
    bench.close()


def test_a_backend_that_is_back_when_the_process_ends_gets_its_records(bench: Bench) -> None:
    sender = Script(lambda _: Outcome("retry", error="503"))
    backend = Backend(
        Plan(name="b", connect=lambda: sender, signals=("traces",)),
        home=bench.home, delay=0.0, clock=bench.clock, jitter=lambda: 1.0,
    )  # fmt: skip
    backend.begin(bench.log)
    bench.put(3)
    backend.hurry()
    while backend.state != "retrying":
        backend.hurry()
        backend._turned.wait(0.05)
    sender.answer = lambda _: OK
    backend.stop(bench.clock.monotonic() + 5)
    backend._thread.join(10)
    assert sender.taken == [1, 2, 3]


# -- a signal that is not served ------------------------------------------------------------------
@pytest.mark.fault("N4")
def test_an_exit_ships_all_that_is_served_beside_a_signal_that_is_not(empathy_home: Path) -> None:
    bench = Bench(empathy_home, records=10)
    sender = Script()
    sender.unserved = {"logs"}
    backend = Backend(
        Plan(name="b", connect=lambda: sender, signals=("traces", "logs")),
        home=bench.home, records=10, delay=3600.0, clock=bench.clock, jitter=lambda: 1.0,
    )  # fmt: skip
    bench.put_logs(1)
    backend.begin(bench.log)
    backend.hurry()
    while backend.state != "paused":
        backend.hurry()
        backend._turned.wait(0.05)
    bench.put(100)
    assert not backend.troubled
    backend.stop(bench.clock.monotonic() + 5)
    backend._thread.join(10)
    assert sender.taken == list(range(1, 101))
    bench.close()


@pytest.mark.fault("N4")
def test_a_flush_waits_for_all_that_is_served_beside_a_signal_that_is_not(bench: Bench) -> None:
    sender = Script()
    sender.unserved = {"logs"}
    backend = bench.backend(sender, signals=("traces", "logs"))
    bench.put_logs(1)
    run(backend)
    assert backend.state == "paused"
    bench.put(1)
    ends = {"traces": Position(1, bench.log.writers["traces"].offset), "logs": Position(1, 9)}
    assert not backend.settled(ends, bench.clock.monotonic())
    run(backend)
    assert backend.settled(ends, bench.clock.monotonic())


@pytest.mark.fault("N4")
def test_shipping_by_hand_goes_on_beside_a_signal_that_is_not_served(bench: Bench) -> None:
    for number in range(20):
        orphan(bench, f"{number:08x}", 5, logs=1)
    sender = Script()
    sender.unserved = {"logs"}
    plan = Plan(name="b", connect=lambda: sender, signals=("traces", "logs"))
    (done,) = ship(bench.home, [plan], records=2, clock=bench.clock)
    assert sorted(sender.taken) == list(range(1, 101))
    assert (done.state, done.error, done.shipped) == ("paused", "404", 100)


@pytest.mark.fault("S12")
def test_orphans_that_owe_only_what_is_not_served_hold_no_place(bench: Bench) -> None:
    for number in range(20):
        orphan(bench, f"{number:08x}", 1, logs=1)
    sender = Script()
    sender.unserved = {"logs"}
    backend = bench.backend(sender, signals=("traces", "logs"))
    for _ in range(20):
        run(backend)
        bench.clock.advance(5)
    assert sorted(sender.taken) == list(range(1, 21))
    sender.unserved = set()
    for _ in range(40):
        run(backend)
        bench.clock.advance(5)
    balance = ledger.recompute(bench.home, all_cursors(bench.home))
    assert (balance.backends["b"].pending, balance.backends["b"].shipped) == (0, 40)
    assert backend.state == "healthy"


# -- one that fails keeps no other from going on --------------------------------------------------
@pytest.mark.fault("S12")
def test_orphans_that_cannot_be_taken_over_hold_up_nobody(bench: Bench) -> None:
    for number in range(12):
        orphan(bench, f"{number:08x}", 1)
        if number != 7:  # as if root had shipped them: their claims cannot be opened
            (cursor_folder(bench.home, "b") / f"{number:08x}.lock").mkdir(parents=True)
    sender = Script()
    backend = bench.backend(sender)
    bench.put(1)
    assert backend._work()
    assert sorted(sender.taken) == [8, 13]
    assert backend.state == "healthy"


def test_a_lane_that_cannot_be_read_holds_up_no_other(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    orphan(bench, "0" * 16, 2)
    orphan(bench, "1" * 16, 2)
    sender = Script()
    backend = bench.backend(sender)
    backend._adopt()
    broken, _ = (lane for lane in backend.lanes if not lane.own)

    def read(*_: object) -> None:  # a disk that fails, which no test can have for real
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(broken.source, "read", read)
    run(backend)
    assert sender.taken == [3, 4]
    monkeypatch.undo()
    bench.clock.advance(6)
    run(backend)
    assert sorted(sender.taken) == [1, 2, 3, 4]


@pytest.mark.fault("S2")
def test_a_home_that_cannot_be_written_at_first_is_shipped_from_later(bench: Bench) -> None:
    sender = Script()
    in_the_way = cursor_folder(bench.home, "b") / "backend.json"
    in_the_way.mkdir(parents=True)
    backend = Backend(
        Plan(name="b", connect=lambda: sender, signals=("traces",)),
        home=bench.home, clock=bench.clock, jitter=lambda: 1.0,
    )  # fmt: skip
    bench.made.append(backend)
    backend._log = bench.log
    bench.put(1)
    with safety.swallow():
        assert not backend._prepare()
    in_the_way.rmdir()
    assert backend._prepare()
    run(backend)
    assert sender.taken == [1]


# -- poison ---------------------------------------------------------------------------------------
@pytest.mark.fault("N9")
def test_a_backend_that_goes_down_while_poison_is_looked_for_loses_nothing_else(
    bench: Bench,
) -> None:
    down = False
    sender = Script(lambda names: Outcome("retry", error="500") if down or 4 in names else OK)
    backend = bench.backend(sender)
    bench.put(8)
    while not sender.taken:
        run(backend, 1)
        bench.clock.advance(30)
    down = True
    for _ in range(60):
        run(backend)
        bench.clock.advance(30)
    assert settled(backend, 8)[2] == {}
    down = False
    for _ in range(60):
        run(backend)
        bench.clock.advance(30)
    assert sorted(sender.taken) == [1, 2, 3, 5, 6, 7, 8]
    assert settled(backend, 8) == (7, 0, {"poison": 1})


@pytest.mark.fault("N9")
def test_several_poisonous_records_are_told_from_their_neighbours(bench: Bench) -> None:
    bad = {1, 4, 5, 16}
    sender = Script(lambda names: Outcome("retry", error="500") if bad & set(names) else OK)
    backend = bench.backend(sender)
    bench.put(16)
    run(backend)
    bench.put(1)
    for _ in range(100):
        run(backend)
        bench.clock.advance(30)
    assert set(sender.taken) == set(range(1, 18)) - bad
    assert settled(backend, 17) == (13, 0, {"poison": 4})


@pytest.mark.fault("N9")
def test_poison_that_stands_alone_waits_until_another_record_passes(bench: Bench) -> None:
    sender = Script(lambda names: Outcome("retry", error="500") if 1 in names else OK)
    backend = bench.backend(sender)
    bench.put(1)
    for _ in range(20):
        run(backend)
        bench.clock.advance(30)
    assert settled(backend, 1) == (0, 1, {})
    bench.put(1)
    for _ in range(5):
        bench.clock.advance(30)
        run(backend)
    assert settled(backend, 2) == (1, 0, {"poison": 1})


@pytest.mark.fault("N5")
def test_a_backend_that_asks_for_quiet_is_not_searched_for_poison(bench: Bench) -> None:
    sender = Script(lambda _: Outcome("retry", error="500", retry_after=60.0))
    backend = bench.backend(sender)
    bench.put(8)
    for _ in range(10):
        run(backend)
        bench.clock.advance(61)
    assert len(sender.requests) == 10


# -- cursors that cannot be -----------------------------------------------------------------------
@pytest.mark.fault("S11")
@pytest.mark.parametrize(("seq", "offset"), [(2, 10), (3, 0), (900, 0)])
def test_a_cursor_from_the_future_starts_again_and_skips_nothing(
    bench: Bench, seq: int, offset: int
) -> None:
    orphan(bench, "b" * 16, 3)
    cursor = Cursor("b", "bbbbbbbb", shipped=3, signals=("traces",))
    cursor.positions["traces"] = Position(seq, offset, 3)
    cursor.save(bench.home)
    sender = Script()
    run(bench.backend(sender))
    assert sender.taken == [1, 2, 3]
    row = ledger.recompute(bench.home, all_cursors(bench.home)).backends["b"]
    assert (row.acked, row.shipped, row.pending) == (3, 3, 0)


def test_a_cursor_behind_the_last_segment_is_left_where_it_is(bench: Bench) -> None:
    orphan(bench, "b" * 16, 3)
    cursor = Cursor("b", "bbbbbbbb", dropped={"backlog_cap": 3}, signals=("traces",))
    cursor.positions["traces"] = Position(2, 0, 0)
    cursor.save(bench.home)
    sender = Script()
    run(bench.backend(sender))
    assert sender.taken == []


@pytest.mark.fault("S11")
@pytest.mark.parametrize("offset", [10, 10_000_000], ids=["inside a line", "beyond the end"])
def test_the_ledger_adds_up_when_a_cursor_had_to_start_again(bench: Bench, offset: int) -> None:
    sender = Script(lambda names: Outcome("refuse", error="400") if 2 in names else OK)
    backend = bench.backend(sender)
    bench.put(3)
    run(backend)
    assert settled(backend, 3) == (2, 0, {"rejected": 1})
    place = backend.lanes.own["traces"].position
    place.offset = offset
    bench.put(1)
    run(backend)
    assert sender.taken == [1, 3, 1, 3, 4]
    assert settled(backend, 4) == (3, 0, {"rejected": 1})
    assert backend.shipping.settled_own["traces"] == 4
    assert Cursor.load(bench.home, "b", "aaaaaaaa").repeats == 3


# -- what is told ---------------------------------------------------------------------------------
def test_losses_are_told_once_a_minute_for_each_reason(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    answers = {1: Outcome("ok", rejected=2, message="two are too old")}
    sender = Script(lambda names: answers.get(names[0], Outcome("refuse", error="400")))
    backend = bench.backend(sender)
    bench.put(3)
    run(backend)
    bench.put(20)
    run(backend, 100)
    assert [record.getMessage() for record in caplog.records] == [
        "backend b lost 2 record(s), reason rejected: two are too old"
    ]
    bench.clock.advance(61)
    bench.put(1)
    run(backend)
    assert caplog.records[-1].getMessage() == "backend b lost 21 record(s), reason rejected: 400 "
    assert settled(backend, 24) == (1, 0, {"rejected": 23})


def test_a_full_backlog_is_a_state_until_there_is_room_again(
    empathy_home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(empathy_home, segment_bytes=4096)
    sender = Script(lambda _: Outcome("retry", error="503"))
    backend = bench.backend(sender, cap=8192)
    caplog.set_level(logging.WARNING)
    for _ in range(10):
        bench.put(40)
        run(backend)
        bench.clock.advance(6)
    assert backend.state == "full"
    told = [record.getMessage() for record in caplog.records]
    assert sum("reason backlog_cap" in line for line in told) == 1
    assert sum(" is full " in line for line in told) == 1
    lost = backend.balance(400).dropped["backlog_cap"]
    assert backend.shipping.exported["traces", "backlog_cap"] == lost > 0
    sender.answer = lambda _: OK
    for _ in range(10):
        bench.clock.advance(31)
        run(backend, 300)
    assert backend.state == "healthy"
    assert settled(backend, 400) == (400 - lost, 0, {"backlog_cap": lost})
    assert backend.shipping.settled_own["traces"] == 400
    bench.close()


def test_a_record_that_could_not_be_encoded_is_not_called_refused(bench: Bench) -> None:
    sender = Script(lambda names: Outcome("refuse", error="encode_error") if 2 in names else OK)
    backend = bench.backend(sender)
    bench.put(3)
    run(backend)
    assert settled(backend, 3) == (2, 0, {"encode_error": 1})


def test_a_backend_cannot_reject_more_than_it_was_sent(bench: Bench) -> None:
    backend = bench.backend(Script(lambda _: Outcome("ok", rejected=99)))
    bench.put(3)
    run(backend)
    assert settled(backend, 3) == (0, 0, {"rejected": 3})


def test_a_sender_that_answers_nonsense_is_tried_again_later(bench: Bench) -> None:
    sender = Script(lambda _: None)  # type: ignore[arg-type, return-value]
    sender.send = lambda *_: sender.requests.append([])  # type: ignore[method-assign]
    backend = bench.backend(sender)
    bench.put(1)
    run(backend)
    assert (len(sender.requests), backend.state) == (1, "retrying")


def test_what_was_set_aside_is_read_around_a_torn_line(bench: Bench) -> None:
    folder = cursor_folder(bench.home, "b") / "aside"
    folder.mkdir(parents=True)
    (folder / "traces-aaaaaaaa.jsonl").write_bytes(b'{"resourceSpans":[{"torn')
    backend = bench.backend(Script(lambda _: Outcome("refuse", error="400")))
    bench.put(1)
    run(backend)
    (kept,) = aside(bench.home, "b")
    assert json.dumps(kept).count('"traceId"') == 1


def test_a_planted_link_is_not_followed_when_a_record_is_set_aside(bench: Bench) -> None:
    folder = cursor_folder(bench.home, "b") / "aside"
    folder.mkdir(parents=True)
    victim = bench.home / "victim"
    victim.write_text("mine", encoding="ascii")
    (folder / "traces-aaaaaaaa.jsonl").symlink_to(victim)
    backend = bench.backend(Script(lambda _: Outcome("refuse", error="400")))
    bench.put(1)
    with safety.swallow():
        run(backend)
    assert victim.read_text(encoding="ascii") == "mine"
    assert settled(backend, 1) == (0, 0, {"rejected": 1})


# -- flush, and how old the oldest is -------------------------------------------------------------
def test_a_new_segment_that_is_still_empty_hides_nothing_from_a_flush(bench: Bench) -> None:
    backend = bench.backend(Script())
    bench.put(1)
    fresh = {"traces": Position(2, 0)}
    assert not backend.settled(fresh, bench.clock.monotonic())
    run(backend)
    assert backend.settled(fresh, bench.clock.monotonic())


def test_the_oldest_record_that_waits_is_told_by_marks(bench: Bench) -> None:
    down = True
    sender = Script(lambda _: Outcome("retry", error="503") if down else OK)
    backend = bench.backend(sender)
    backend._looked_ns = bench.clock.time_ns()
    assert backend.oldest("traces") is None
    bench.put(1)
    came = bench.clock.time_ns()
    backend._note(came)
    for _ in range(100):
        run(backend)
        bench.clock.advance(10)
        bench.put(1)
        backend._note(bench.clock.time_ns())
    assert backend.oldest("traces") == came
    down = False
    bench.clock.advance(31)
    backend._pass()  # one batch is what was there when it failed
    assert backend.oldest("traces") == came + 10_000_000_000
    run(backend)
    assert backend.oldest("traces") is None
    assert backend.oldest("logs") is None


def test_the_worker_knows_when_the_oldest_record_came(bench: Bench) -> None:
    sender = Script(lambda _: Outcome("retry", error="503"))
    backend = Backend(
        Plan(name="b", connect=lambda: sender, signals=("traces",)),
        home=bench.home, delay=0.0, clock=bench.clock, jitter=lambda: 1.0,
    )  # fmt: skip
    bench.put(1)
    backend.begin(bench.log)
    came = bench.clock.time_ns()
    while backend.state != "retrying":
        backend.hurry()
        backend._turned.wait(0.05)
    bench.clock.advance(3600)
    backend.hurry()
    backend._turned.wait(1)
    assert backend.oldest("traces") == came
    backend.stop(bench.clock.monotonic())
    backend._thread.join(10)


# -- differences ----------------------------------------------------------------------------------
def test_differences_go_on_where_an_earlier_shipper_stopped_after_few_looks(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    sums: list[int] = []

    class Adding(Script):
        def send(self, signal: Signal, chunks: Sequence[Chunk], deadline: float) -> Outcome:
            sums.extend(int(n) for c in chunks for n in re.findall(rb'"asInt":"(\d+)"', c.body))
            return OK

    def measure(first: int, last: int) -> None:
        for value in range(first, last + 1):
            body = (
                b'{"name":"c","sum":{"aggregationTemporality":2,"isMonotonic":true,"dataPoints":'
                b'[{"startTimeUnixNano":"1","timeUnixNano":"%d","asInt":"%d"}]}}' % (value, value)
            )
            bench.log.append("metrics", RESOURCE, SCOPE, body, 1)

    def delta() -> Backend:
        backend = Backend(
            Plan(name="b", connect=Adding, signals=("metrics",), delta=True),
            home=bench.home, clock=bench.clock, jitter=lambda: 1.0,
        )  # fmt: skip
        backend._log = bench.log
        bench.made.append(backend)
        assert backend._prepare()
        return backend

    measure(1, 1000)
    first = delta()
    run(first)
    first.abandon()
    measure(1001, 1010)
    bench.log.writers["metrics"].tail.clear()
    looks: list[int] = []
    read = Own.read
    monkeypatch.setattr(
        Own,
        "read",
        lambda self, place, records: looks.append(records) or read(self, place, records),
    )
    second = delta()
    assert len(looks) < 30
    run(second)
    assert sum(sums) == 1010


class Refusing(Script):
    """A sender that cannot be closed."""

    def close(self) -> None:
        raise RuntimeError("close boom")


def test_a_sender_that_cannot_be_closed_keeps_no_claim(bench: Bench) -> None:
    backend = bench.backend(Refusing())
    backend.stop(bench.clock.monotonic())
    with safety.swallow() as errors:
        before = errors["export", "RuntimeError"]
        backend._let_go()
        assert errors["export", "RuntimeError"] == before + 1
    assert not backend.lanes.claims


def test_a_sender_that_cannot_be_closed_ends_no_shipping_by_hand(empathy_home: Path) -> None:
    plan = Plan(name="b", connect=Refusing, signals=("traces",))
    with safety.swallow():
        (done,) = ship(empathy_home, [plan])
    assert (done.state, done.unfinished) == ("healthy", False)


def test_shipping_by_hand_says_that_its_time_was_too_short(bench: Bench) -> None:
    bench.put(1)
    bench.log.close(1)
    plan = Plan(name="late", connect=Script, signals=("traces",), start="oldest")
    (done,) = ship(bench.home, [plan], timeout=0, clock=bench.clock)
    assert (done.state, done.shipped, done.unfinished) == ("healthy", 0, True)
    (done,) = ship(bench.home, [plan], clock=bench.clock)
    assert (done.shipped, done.unfinished) == (1, False)


def test_what_a_batch_left_is_not_kept_waiting_for_news(
    empathy_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends, "_ADOPT", 3600.0)  # nothing else wakes the worker
    segments.make_home(empathy_home)
    log = Log(
        empathy_home, service="t", instance="a" * 16, options=Options(tail=True, segment_bytes=9000)
    )
    sender = Script()
    backend = Backend(
        Plan(name="b", connect=lambda: sender, signals=("traces",)),
        home=empathy_home, records=100, delay=0.01,
    )  # fmt: skip
    for number in range(1, 91):
        body = b'{"traceId":"%032d","spanId":"%016x"}' % (number, number)
        log.append("traces", RESOURCE, SCOPE, body, 1)
    log.flush(5)
    assert len(segments.listed(empathy_home, "traces")) >= 3
    backend.begin(log)
    deadline = time.monotonic() + 15
    while len(sender.taken) < 90 and time.monotonic() < deadline:
        time.sleep(0.01)
    try:
        assert sender.taken == list(range(1, 91))
    finally:
        backend.stop(time.monotonic() + 5)
        backend.join()
        log.close(1)
