"""Where batches come from: memory or file, and what happens at the edges between the two."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from otel_empathy.pipeline import ledger, segments
from otel_empathy.pipeline.cursor import Position
from otel_empathy.pipeline.log import Log, Options
from otel_empathy.pipeline.source import Disk, Own, Queue
from otel_empathy.testing import ManualClock

RESOURCE = b'"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"t"}}]}'
SCOPE = b'"scope":{"name":"s"}'


@pytest.fixture
def log(empathy_home: Path):
    segments.make_home(empathy_home)
    options = Options(tail=True, segment_bytes=2048)
    made = Log(
        empathy_home, service="t", instance="a" * 16, options=options, clock=ManualClock()
    )  # fmt: skip
    yield made
    made.close(1)


def put(log: Log, first: int, last: int) -> None:
    for number in range(first, last + 1):
        body = b'{"traceId":"%032d","spanId":"%016x"}' % (number, number)
        log.append("traces", RESOURCE, SCOPE, body, 1)


def drained(source: Disk, records: int = 7) -> list[int]:
    """Every record from the beginning on, in the order in which it is read."""
    found: list[int] = []
    place = Position()
    while (batch := source.read(place, records)) is not None:
        assert batch.count <= records
        found += [int(chunk.body[12:44]) for chunk in batch.chunks]
        place = batch.after
    return found


@pytest.mark.parametrize("memory", [True, False])
def test_every_record_is_read_once_across_segments(log: Log, memory: bool) -> None:
    put(log, 1, 60)
    assert len(segments.listed(log.home, "traces")) > 4
    if not memory:
        log.writers["traces"].tail.clear()
    assert drained(Own(log, "traces")) == list(range(1, 61))
    assert drained(Disk(log.home, "traces", "aaaaaaaa")) == list(range(1, 61))


def test_a_reader_that_follows_a_writer_reads_every_record_once(log: Log) -> None:
    source = Own(log, "traces")
    writer = threading.Thread(target=put, args=(log, 1, 500))
    writer.start()
    found: list[int] = []
    place = Position()
    while len(found) < 500:
        batch = source.read(place, 16)
        if batch is not None:
            assert batch.repeated == 0
            found += [int(found) for c in batch.chunks for found in _ids(c.body)]
            place = batch.after
    writer.join()
    assert found == list(range(1, 501))


def _ids(body: bytes) -> list[bytes]:
    return [part[:32] for part in body.split(b'{"traceId":"')[1:]]


@pytest.mark.fault("S6")
def test_a_segment_that_ends_while_it_is_being_read_is_not_read_again(log: Log) -> None:
    put(log, 1, 20)
    log.writers["traces"].tail.clear()
    source = Own(log, "traces")
    batch = source.read(Position(), 20)
    assert batch is not None
    first, second, *_ = segments.listed(log.home, "traces")

    class Rotating:
        """The writer, at the one moment that matters: between its name and its offset it rotates.

        No thread can be stopped there, which is why a stand-in is used.
        """

        tail = log.writers["traces"].tail
        name = first.name

        @property
        def offset(self) -> int:
            before, Rotating.name = Rotating.name, second.name
            return 0 if before == first.name else second.size

    source._writer = Rotating()  # type: ignore[assignment]
    following = source.read(batch.after, 1)
    assert following is not None
    assert _ids(following.chunks[0].body) == [b"%032d" % (batch.count + 1)]


@pytest.mark.fault("S11")
def test_only_a_place_behind_everything_that_was_written_is_ahead(log: Log) -> None:
    put(log, 1, 60)
    last = segments.listed(log.home, "traces")[-1]
    source = Disk(log.home, "traces", "aaaaaaaa")
    assert not source.is_ahead(Position())
    assert not source.is_ahead(Position(last.name.seq, last.size, 1))
    assert not source.is_ahead(Position(last.name.seq + 1, 0, 0))
    assert source.is_ahead(Position(last.name.seq + 1, 1, 0))
    assert source.is_ahead(Position(last.name.seq + 2, 0, 0))


def test_notes_of_removals_are_read_only_when_there_is_a_new_one(
    empathy_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segments.make_home(empathy_home)
    segments.make_folder(ledger.ledger_folder(empathy_home))
    read, times = ledger.read_evicted, []
    # Counted here, because reading them again would show in nothing but the time that it takes.
    monkeypatch.setattr(ledger, "read_evicted", lambda home: times.append(home) or read(home))
    source = Disk(empathy_home, "traces", "a" * 8)
    for _ in range(5):
        assert source.read(Position(0, 0, 0), 10) is None
    assert len(times) == 1
    name = f"t-{'a' * 8}-20260101T000000Z-000001.jsonl"
    ledger.note_evicted(empathy_home, ledger.Evicted("traces", name, 7, "age"))
    batch = source.read(Position(0, 0, 0), 10)
    assert batch is not None
    assert (batch.lost, batch.after.seq) == ({"age": 7}, 2)
    for _ in range(5):
        assert source.read(batch.after, 10) is None
    assert len(times) == 3


def test_memory_is_bounded_and_what_is_settled_leaves_it() -> None:
    from otel_empathy.pipeline.chunk import SIGNALS, Chunk

    queue = Queue("traces", 100)
    chunk = Chunk(SIGNALS["traces"], b"", b"", b"x" * 40, 1)
    assert [queue.put(chunk) for _ in range(3)] == [True, True, False]
    batch = queue.read(Position(), 10)
    assert batch is not None
    assert (batch.count, queue.end) == (2, 2)
    assert queue.read(batch.after, 10) is None
    assert queue.put(chunk)
    assert (queue.end, queue.records) == (3, 3)
