"""Backends that are down, silent, slow, rude or gone: what arrives, what is kept, how exits go.

The numbers are scaled to a small machine; `make testbed` runs the full ones.
"""

from __future__ import annotations

import contextlib
import gc
import random
import signal
import socket
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from faults.proof import Child, agrees, balance, missing, names, until
from faulty import Certificates, FaultyBackend, Spawned, deaf, spawn

from otel_empathy.core.clock import SYSTEM
from otel_empathy.core.settings import Settings
from otel_empathy.pipeline import segments
from otel_empathy.pipeline.backends import Backend, ship
from otel_empathy.pipeline.chunk import Chunk, Signal
from otel_empathy.pipeline.cursor import Position, all_cursors
from otel_empathy.pipeline.log import Log, Options
from otel_empathy.pipeline.otlp import Otlp
from otel_empathy.pipeline.outcome import Outcome
from otel_empathy.pipeline.shipping import Plan, Sender, aside
from otel_empathy.pipeline.transport import connect
from otel_empathy.testing import ManualClock
from otel_empathy.wiring import plans


def shipped_later(home: Path, endpoint: str, name: str = "b") -> None:
    """Ship what the processes of a home left, as the next one of them would."""
    made = plans([Otlp(endpoint, name=name)], Settings.load({}), SYSTEM)
    (done,) = ship(home, made, timeout=15)
    assert done.state == "healthy", done


def leaves_within(child: Child, seconds: float) -> None:
    """The end of the program comes at most so long after its last statement."""
    leaving = child.hear("leaving", 20)
    assert child.end() == 0
    assert time.monotonic() - leaving <= seconds


# -- N1 --------------------------------------------------------------------------------------------
@pytest.mark.fault("N1")
def test_an_outage_loses_nothing_and_is_made_up_for(empathy_home: Path, spawned: Spawned) -> None:
    spawned.set("down:2")
    told = {"home": empathy_home, "who": "a", "endpoints": {"b": spawned.endpoint}}
    with Child("ends", how="hear", count=300, pause=0.01, **told) as child:
        child.hear("acked")
        assert spawned.wait(spans=300, timeout=15)
        child.tell()
        assert child.end() == 0
    agrees(child.last("ledger"))
    got = spawned.received()
    assert set(got["names"]["traces"]) == {f"a-{n}" for n in range(300)}
    assert got["duplicates"] == 0
    assert balance(empathy_home).backends["b"].pending == 0


# -- N2, N3 ----------------------------------------------------------------------------------------
@contextlib.contextmanager
def half_open() -> Iterator[str]:
    """A port where a connection opens and nobody ever reads or answers."""
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        door.listen(50)
        yield f"http://127.0.0.1:{door.getsockname()[1]}"


@pytest.mark.fault("N2")
@pytest.mark.parametrize("how", ["hang", "stopped", "half open", "deaf"])
def test_an_exit_is_not_held_up_by_a_backend_that_is_silent(
    empathy_home: Path, spawned: Spawned, how: str
) -> None:
    with contextlib.ExitStack() as stack:
        endpoint = spawned.endpoint
        if how == "hang":
            spawned.set("hang")
        elif how == "half open":
            endpoint = stack.enter_context(half_open())
        elif how == "deaf":
            endpoint = stack.enter_context(deaf())
        else:
            Child.stop(spawned.pid)
            stack.callback(Child.go_on, spawned.pid)
        with Child(
            "ends", home=empathy_home, who="a", how="return", count=400, endpoints={"b": endpoint}
        ) as child:
            leaves_within(child, 5)
    assert names(empathy_home) == Counter(f"a-{n}" for n in range(400))
    assert balance(empathy_home).backends["b"].shipped == 0
    spawned.set("ok")
    before = spawned.received()["spans"]
    shipped_later(empathy_home, spawned.endpoint)
    assert spawned.received()["spans"] == 400
    assert before in {0, 400}  # a stopped backend may have taken them in when it went on
    assert balance(empathy_home).backends["b"].pending == 0


@pytest.mark.fault("N3")
@pytest.mark.parametrize("how", ["refused", "unresolvable"])
def test_an_exit_is_quick_when_nobody_is_there(
    empathy_home: Path, backend: FaultyBackend, how: str
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    endpoint = f"http://127.0.0.1:{port}" if how == "refused" else "http://nowhere.invalid:4318"
    told = {"home": empathy_home, "who": "a", "endpoints": {"b": endpoint}}
    with Child("ends", how="return", count=400, **told) as child:
        leaves_within(child, 2)
    assert names(empathy_home) == Counter(f"a-{n}" for n in range(400))
    assert balance(empathy_home).backends["b"].state == "retrying"
    shipped_later(empathy_home, backend.endpoint)
    assert backend.received()["spans"] == 400


# -- N4, N5 ----------------------------------------------------------------------------------------
DELIVERED = ("200", "202", "408", "429", "500", "502", "503", "504")
PAUSED = ("301", "401", "403", "404")


@pytest.mark.fault("N4")
def test_each_status_has_its_consequence(empathy_home: Path) -> None:
    with contextlib.ExitStack() as stack:
        made = {
            word: stack.enter_context(FaultyBackend())
            for word in (*DELIVERED, *PAUSED, "400", "413", "partial")
        }
        for word, one in made.items():
            one.set(*([f"status:{word}", "ok"] if word in DELIVERED else [f"status:{word}"])
                    if word.isdigit() else ["partial:2", "ok"])  # fmt: skip
        made["400"].set("ok", poison="a-3")
        made["413"].set("ok", limit=1500)
        ends = {word: one.endpoint for word, one in made.items()}
        child = stack.enter_context(
            Child("ends", home=empathy_home, who="a", how="hear", count=10, endpoints=ends)
        )
        child.hear("acked")
        for word in (*DELIVERED, "413"):
            assert made[word].wait(spans=10, timeout=15), word
        for word in PAUSED:
            assert made[word].wait(requests=1)
        assert made["400"].wait(spans=9)
        assert made["partial"].wait(spans=8)
        until(lambda: balance_shipped(empathy_home) >= len(DELIVERED) * 10 + 10 + 9 + 8)
        until(lambda: states(empathy_home, *DELIVERED, "413") == {"healthy"})
        child.tell()
        assert child.end() == 0
        told = child.last("ledger")
        agrees(told)
        rows = told["backends"]
        for word in (*DELIVERED, "413"):
            assert (rows[word]["state"], rows[word]["dropped"]) == ("healthy", {}), word
            assert made[word].received()["duplicates"] == 0
        for word in PAUSED:
            assert (rows[word]["state"], rows[word]["shipped"]) == ("paused", 0), word
            assert rows[word]["pending"] >= 10
            assert {request.answer for request in made[word]._received.requests} == {word}
        assert rows["400"]["dropped"] == {"rejected": 1}
        assert rows["partial"]["dropped"] == {"rejected": 2}
        assert made["413"].received()["answers"]["413"] >= 1
        paths = {r.headers[":path"] for r in made["301"]._received.requests}
        assert not any("elsewhere" in path for path in paths)
        (kept,) = aside(empathy_home, "400")
        assert str(kept).count("'a-3'") == 1
        balance(empathy_home)


def states(home: Path, *backends: str) -> set[str]:
    return {cursor.state for (name, _), cursor in all_cursors(home).items() if name in backends}


def balance_shipped(home: Path) -> int:
    return sum(cursor.shipped for cursor in all_cursors(home).values())


@pytest.mark.fault("N5")
@pytest.mark.parametrize(
    ("said", "least", "again"),
    [("1", 1.0, True), ("-5", 0.0, True), ("soon", 0.0, True), ("1e9", 2.0, False)],
)
def test_no_request_is_sent_before_a_backend_wants_it(
    empathy_home: Path, backend: FaultyBackend, said: str, least: float, again: bool
) -> None:
    backend.set(f"retry-after:{said}", "ok")
    told = {"home": empathy_home, "who": "a", "endpoints": {"b": backend.endpoint}}
    with Child("ends", how="hear", count=10, ship_delay=1, batch_records=10, **told) as child:
        assert backend.wait(requests=1)
        assert backend.wait(spans=10, timeout=10 if again else least) == again
        requests = list(backend._received.requests)
        child.process.kill()
        child.end()
    if again:
        assert requests[1].at - requests[0].at >= least
    else:
        assert len(requests) == 1


# -- N6 --------------------------------------------------------------------------------------------
@pytest.mark.fault("N6")
@pytest.mark.parametrize("mode", ["reset", "truncate", "close"])
def test_an_answer_that_breaks_off_repeats_one_batch_at_the_most(
    empathy_home: Path, backend: FaultyBackend, mode: str
) -> None:
    backend.set(mode, "ok")
    told = {"home": empathy_home, "who": "a", "endpoints": {"b": backend.endpoint}}
    with Child("ends", how="hear", count=100, batch_records=20, **told) as child:
        child.hear("acked")
        assert backend.wait(spans=100)
        until(lambda: balance_shipped(empathy_home) >= 100)
        child.tell()
        assert child.end() == 0
        agrees(child.last("ledger"))
    got = backend.received()
    assert set(got["names"]["traces"]) == {f"a-{n}" for n in range(100)}
    largest = max(request.records for request in backend._received.requests)
    assert got["duplicates"] <= largest
    assert balance(empathy_home).backends["b"].pending == 0


@pytest.mark.fault("N6")
def test_a_certificate_that_changes_is_not_trusted_and_nothing_is_lost(
    empathy_home: Path, tmp_path: Path
) -> None:
    first = Certificates.issue(tmp_path / "first")
    other = Certificates.issue(tmp_path / "other")
    with FaultyBackend(certificate=first.server, key=first.server_key) as one:
        port = one.http_port
        with Child(
            "writes", home=empathy_home, who="a", endpoints={"b": one.endpoint}, pause=0.01,
            certificate=first.authority, ship_delay=20,
        ) as child:  # fmt: skip
            assert one.wait(spans=10)
            one.stop()
            with FaultyBackend(
                certificate=other.server, key=other.server_key, http_port=port
            ) as stranger:
                until(lambda: states(empathy_home, "b") != {"healthy"})
                assert stranger.received()["requests"] == 0
            with FaultyBackend(
                certificate=first.server, key=first.server_key, http_port=port
            ) as again:
                child.hear("acked")
                assert again.wait(spans=10, timeout=10)
                child.process.kill()
                child.end()
                made = plans(
                    [Otlp(again.endpoint, name="b", certificate=first.authority)],
                    Settings.load({}),
                    SYSTEM,
                )
                ship(empathy_home, made, timeout=10)
                arrived = Counter(one.received()["names"]["traces"])
                arrived.update(again.received()["names"]["traces"])
    acked = child.last("acked")
    assert missing(arrived, "a", acked) == []
    assert set(arrived) == set(names(empathy_home))
    assert balance(empathy_home).backends["b"].pending == 0


# -- N7, N8 ----------------------------------------------------------------------------------------
@pytest.mark.fault("N7")
def test_a_slow_backend_holds_up_no_other(empathy_home: Path) -> None:
    with FaultyBackend("slow:0.2") as slow, FaultyBackend() as quick:
        ends = {"slow": slow.endpoint, "quick": quick.endpoint}
        told = {"home": empathy_home, "who": "a", "endpoints": ends}
        with Child(
            "ends", how="hear", count=600, pause=0.001, batch_records=50, ship_delay=50, **told
        ) as child:
            assert quick.wait(spans=600, timeout=15)
            assert slow.received()["spans"] < 600
            child.hear("acked")
            assert slow.wait(spans=600, timeout=18)
            child.tell()
            assert child.end() == 0
    agrees(child.last("ledger"))
    assert quick.received()["duplicates"] == slow.received()["duplicates"] == 0
    assert balance(empathy_home).backends["slow"].pending == 0


RESOURCE = b'"resource":{"attributes":[]}'
SCOPE = b'"scope":{"name":"s"}'


@pytest.mark.fault("N7")
def test_a_backend_in_the_middle_of_a_request_holds_up_no_other_and_memory_stays_within_its_cap(
    empathy_home: Path, spawned: Spawned
) -> None:
    segments.make_home(empathy_home)
    log = Log(empathy_home, service="t", instance="a" * 16, options=Options(tail=True))
    span = b'{"traceId":"%032x","spanId":"%016x","name":"a","attributes":[{"key":"text",'
    span += b'"value":{"stringValue":"' + b"x" * 10_000 + b'"}}]}'
    written = 0

    def write(count: int) -> None:
        nonlocal written
        for _ in range(count):
            written += 1
            log.append("traces", RESOURCE, SCOPE, span % (1, written), 1)

    with contextlib.ExitStack() as stack:
        slow = spawn()
        ends = {"slow": slow, "quick": spawned}
        workers = {
            name: Backend(
                Plan(
                    name=name, signals=("traces",), timeout=3600,
                    connect=lambda end=end: connect(Otlp(end.endpoint, timeout=3600), SYSTEM),
                ),
                home=empathy_home, delay=0.01, jitter=lambda: 0.1,
            )
            for name, end in ends.items()
        }  # fmt: skip
        log.listeners = tuple(workers.values())

        def finish() -> None:
            for one in workers.values():
                one.stop(SYSTEM.monotonic() + 10)
            for one in workers.values():
                one.join()
            log.close(1)

        stack.callback(finish)
        stack.enter_context(slow)  # the first to go: nobody is left in a request to it
        stack.callback(tracemalloc.stop)
        slow.set("hang")
        for one in workers.values():
            one.begin(log)
        write(1)
        assert slow.wait(requests=1)
        tracemalloc.start()
        for _ in range(4):
            write(1000)  # more than the newest lines in memory may be
            assert log.flush(10)
            writer = log.writers["traces"]
            assert writer.name is not None
            end = Position(writer.name.seq, writer.offset)
            assert workers["quick"].settled({"traces": end}, SYSTEM.monotonic() + 10)
            assert spawned.received()["spans"] == written
            gc.collect()
            held, _ = tracemalloc.get_traced_memory()
            assert held < 20 << 20  # the newest lines twice, as they are written and as they go out
            assert slow.received()["requests"] == 1  # which it still has not answered
        assert balance(empathy_home, alive=True).backends["slow"].shipped == 0
        slow.set("ok")
        assert slow.wait(spans=1000)
        finish()
        assert slow.wait(spans=written)
        assert slow.received()["duplicates"] == spawned.received()["duplicates"] == 0


class Door:
    """The way of one client to its backend, which notes at which tick it was tried and taken."""

    def __init__(self, way: Sender, clock: ManualClock, tried: list[float], took: list[float]):
        self.way, self.clock, self.tried, self.took = way, clock, tried, took

    def send(self, signal: Signal, chunks: Sequence[Chunk], deadline: float) -> Outcome:
        outcome = self.way.send(signal, chunks, deadline)
        (self.took if outcome.kind == "ok" else self.tried).append(self.clock.monotonic())
        return outcome

    def close(self) -> None:
        self.way.close()


@pytest.mark.fault("N8")
def test_fifty_clients_do_not_come_back_at_once_after_an_outage(
    empathy_home: Path, backend: FaultyBackend
) -> None:
    # Time is moved by hand: a real outage of this length has no place in a test.
    clock = ManualClock(monotonic=0.0)
    segments.make_home(empathy_home)
    chance = random.Random(5)
    span = b'{"traceId":"%032x","spanId":"%016x","name":"a"}'
    clients: list[tuple[Log, Backend, Door]] = []
    for number in range(50):
        log = Log(
            empathy_home, service="t", instance=f"{number:08x}", options=Options(tail=True),
            clock=clock,
        )  # fmt: skip
        door = Door(connect(Otlp(backend.endpoint), clock), clock, [], [])
        one = Backend(
            Plan(name="b", connect=lambda door=door: door, signals=("traces",)),
            home=empathy_home, clock=clock, jitter=chance.random,
        )  # fmt: skip
        one._log = log
        assert one._prepare()
        one._adopted_at = float("inf")  # each ships its own
        clients.append((log, one, door))
    written = 0
    backend.set("down")
    for tick in range(1600):
        if tick == 1200:
            backend.set("ok")
        for number, (log, one, _) in enumerate(clients):
            # All have something to send when the outage begins; later each has its own moment.
            if tick == 0 or tick % 10 == number % 10:
                written += 1
                log.append("traces", RESOURCE, SCOPE, span % (1, written), 1)
            one._pass()
        clock.advance(0.1)
    for log, one, _ in clients:
        one.abandon()
        log.close(1)
        assert one.shipping.sender is not None
        one.shipping.sender.close()
    tries = Counter(int(at * 10 + 0.5) for *_, door in clients for at in door.tried)
    taken = Counter(int(at * 10 + 0.5) for *_, door in clients for at in door.took)
    waits = [b - a for *_, door in clients for a, b in pairwise(door.tried[5:])]
    steady = 5  # requests in a tick: one of each client in a second
    assert tries[0] == 50
    assert min(taken) >= 1200
    assert max(taken.values()) <= 2 * steady
    # They do not come together either while the outage lasts, but for the first second of it.
    assert max(sum(tries[at + n] for n in range(10)) for at in range(10, 1200)) <= 20 * steady
    first = Counter(int(door.took[0] - 120) for *_, door in clients)
    assert len(first) > 15  # seconds in which somebody came back
    # Full jitter: anything between at once and the longest wait, once the waits have grown.
    assert min(waits) < 1
    assert 29 < max(waits) < 30.2
    assert backend.received()["spans"] == written
    assert backend.received()["duplicates"] == 0


# -- N9, N10 ---------------------------------------------------------------------------------------
@pytest.mark.fault("N9")
def test_a_backlog_that_outlives_a_crash_is_sent_and_only_poison_is_set_aside(
    empathy_home: Path, backend: FaultyBackend
) -> None:
    backend.set("status:503")
    ends = {"b": backend.endpoint}
    with Child("writes", home=empathy_home, who="a", endpoints=ends) as child:
        until(lambda: bool(child.heard) or child.hear("acked") > 0)
        while child.hear("acked") < 1500:
            pass
        child.signal(signal.SIGKILL)
        child.end()
    acked = child.last("acked")
    backend.set("ok", poison="a-700")
    with Child("ends", home=empathy_home, who="z", how="hear", count=1, endpoints=ends) as again:
        total = names(empathy_home).total()
        assert backend.wait(spans=total - 1, timeout=15)
        until(lambda: balance_shipped(empathy_home) >= total - 1)
        again.tell()
        assert again.end() == 0
        agrees(again.last("ledger"))
    got = backend.received()["names"]["traces"]
    assert missing(got, "a", acked) == ["a-700"]
    row = balance(empathy_home).backends["b"]
    assert (row.pending, row.dropped) == (0, {"rejected": 1})
    (kept,) = aside(empathy_home, "b")
    assert "a-700" in str(kept)


@pytest.mark.fault("N10")
def test_backends_come_and_go_without_touching_each_other(empathy_home: Path) -> None:
    with FaultyBackend() as one, FaultyBackend() as two, FaultyBackend() as new:
        one.set("status:503")

        def run(who: str, **ends: FaultyBackend) -> dict[str, dict[str, int]]:
            told = {name: backend.endpoint for name, backend in ends.items()}
            with Child(
                "ends", home=empathy_home, who=who, how="flush", count=50, endpoints=told
            ) as child:
                assert child.end() == 0
            agrees(child.last("ledger"))
            balance(empathy_home)
            return dict(child.last("ledger")["backends"])

        run("first", lagging=one, well=two)
        assert two.received()["spans"] == 50
        assert run("second", well=two).keys() == {"well"}
        assert two.received()["spans"] == 100
        found = balance(empathy_home)
        assert found.backends["lagging"].pending == found.backends["lagging"].acked >= 50
        run("third", well=two, new=new)
        assert set(new.received()["names"]["traces"]) == {f"third-{n}" for n in range(50)}
        one.set("ok")
        with Child(
            "ends", home=empathy_home, who="last", how="hear", count=1,
            endpoints={"lagging": one.endpoint},
        ) as child:  # fmt: skip
            assert one.wait(spans=51)
            until(lambda: balance(empathy_home, alive=True).backends["lagging"].pending == 0)
            child.tell()
            assert child.end() == 0
        assert set(one.received()["names"]["traces"]) == {f"first-{n}" for n in range(50)} | {
            "last-0"
        }
        assert two.received()["duplicates"] == one.received()["duplicates"] == 0
        assert two.received()["spans"] == 150
