from __future__ import annotations

import threading

import pytest

from otel_empathy.pipeline.backends import Backend
from otel_empathy.pipeline.chunk import SIGNALS
from otel_empathy.pipeline.memory import Memory
from otel_empathy.pipeline.outcome import Outcome
from otel_empathy.pipeline.shipping import Plan

SPAN = b'{"traceId":"%032x","spanId":"%016x"}'


class Held:
    """A sender that answers when it is told to."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.bodies: list[bytes] = []

    def send(self, _: object, chunks: object, __: float) -> Outcome:
        self.go_on.wait(10)
        self.bodies += [chunk.body for chunk in chunks]  # type: ignore[attr-defined]
        return Outcome("ok")

    def close(self) -> None:
        pass


def backend(name: str, sender: Held, *, buffer: int = 1 << 20, signals: tuple[str, ...]) -> Backend:
    plan = Plan(name=name, connect=lambda: sender, signals=signals)
    return Backend(plan, home=None, delay=0.01, buffer=buffer)


def put(memory: Memory, signal: str, number: int) -> None:
    memory.append(signal, b'"resource":{"attributes":[]}', b'"scope":{}', SPAN % (number, 1), 1)


def stopped(*several: Backend) -> None:
    for one in several:
        one.stop(one.clock.monotonic() + 10)
    for one in several:
        one.join()
        one.forget()


def test_every_backend_gets_the_signals_that_it_takes() -> None:
    spans, everything = Held(), Held()
    spans.go_on.set()
    everything.go_on.set()
    one = backend("one", spans, signals=("traces",))
    two = backend("two", everything, signals=tuple(SIGNALS))
    memory = Memory([one, two])
    put(memory, "traces", 1)
    put(memory, "logs", 2)
    stopped(one, two)
    assert spans.bodies == [SPAN % (1, 1)]
    assert sorted(everything.bodies) == [SPAN % (1, 1), SPAN % (2, 1)]
    assert {name: count.acked for name, count in memory.counts.items()} == {
        "traces": 1, "metrics": 0, "logs": 1,
    }  # fmt: skip
    assert (one.balance(1).pending, two.balance(2).pending) == (0, 0)


@pytest.mark.fault("P6")
def test_what_a_queue_cannot_hold_is_that_backends_loss_and_is_counted() -> None:
    slow, quick = Held(), Held()
    quick.go_on.set()
    one = backend("one", slow, buffer=3 * 20 * len(SPAN % (1, 1)), signals=("traces",))
    two = backend("two", quick, signals=("traces",))
    memory = Memory([one, two])
    for number in range(100):
        put(memory, "traces", number)
    slow.go_on.set()
    stopped(one, two)
    row = one.balance(memory.counts["traces"].acked)
    assert (row.acked, row.pending) == (100, 0)
    assert row.shipped == len(slow.bodies) == 100 - row.dropped["queue_full"]
    assert row.dropped["queue_full"] > 0
    assert len(quick.bodies) == 100
    assert memory.dropped == {}


def test_threads_count_exactly() -> None:
    sender = Held()
    sender.go_on.set()
    one = backend("one", sender, signals=("traces",))
    memory = Memory([one])

    def work(thread: int) -> None:
        for number in range(500):
            put(memory, "traces", thread * 1000 + number)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stopped(one)
    count = memory.counts["traces"]
    assert (count.offered, count.acked, count.waiting) == (2000, 2000, 0)
    assert len(set(sender.bodies)) == 2000
    assert (memory.durability, memory.waiting, memory.trouble) == ("memory", 0, None)
