"""`otel-empathy tail`: spans and events as they are written, one line each."""

from __future__ import annotations

import heapq
import select
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, TypeAlias

import click

from otel_empathy.cli.options import Window, common, window
from otel_empathy.cli.record_line import as_text, moment
from otel_empathy.cli.screen import Screen
from otel_empathy.cli.store import opened

if TYPE_CHECKING:
    from otel_empathy.store.reader import Follow
    from otel_empathy.store.records import Event, Point, Span
    from otel_empathy.views.store import Store

    Record: TypeAlias = Span | Event | Point

__all__ = ["command"]

_POLL = 0.2  # seconds between two looks at the log


@click.command("tail")
@click.option("-f", "--follow", is_flag=True, help="Go on with what is written from now on.")
@click.option(
    "-n", "--number", type=click.IntRange(min=0), default=20, show_default=True, help="How many."
)
@click.option(
    "--signal",
    "signals",
    type=click.Choice(["traces", "logs", "metrics"]),
    multiple=True,
    default=("traces", "logs"),
    show_default=True,
    help="Spans, events, data points; may be repeated.",
)
@click.option("--errors", is_flag=True, help="Only what failed.")
@window(days=1)
@common
def command(
    *,
    follow: bool,
    number: int,
    signals: Sequence[str],
    errors: bool,
    window: Window,
    home: Path | None,
    as_json: bool | None,
) -> None:
    """Print spans and events as they are written.

    Begins with the newest ones; with -f it goes on until Ctrl-C (exit code 130).
    """
    if window.days is not None:
        # It ends now, and now goes on: what is written while we begin must not fall out of it.
        window = replace(window, until=None)
    screen = Screen(as_json=as_json)
    with opened(screen, home) as store:
        # Following begins before the past is read, so that nothing falls between the two.
        following = [(signal, store.reader.follow(signal)) for signal in signals] if follow else []
        past = _newest(store, signals, number, window, errors=errors)
    for record in past:
        _print(screen, record)
    if not past and not follow:
        screen.note(f"nothing in {window.text}; --days looks further back")
    known = {_identity(record) for record in past}
    for record in _added(following):
        if (not errors or _failed(record)) and _identity(record) not in known:
            _print(screen, record)


def _newest(
    store: Store, signals: Sequence[str], number: int, window: Window, *, errors: bool
) -> list[Record]:
    """The newest records of a window, oldest first."""
    from otel_empathy.store.records import DECODERS

    def records() -> Iterator[Record]:
        for signal in signals:
            scan = store.reader.scan(signal, after=window.since, progress=store.progress)
            for record in DECODERS[signal](scan, scan):
                if window.holds(moment(record)) and (not errors or _failed(record)):
                    yield record

    return sorted(heapq.nlargest(number, records(), key=moment), key=moment)


def _added(following: Sequence[tuple[str, Follow]]) -> Iterator[Record]:
    """What is written from now on, as long as somebody reads it; nothing when nobody follows."""
    from otel_empathy.store.records import DECODERS

    never = threading.Event()
    while following:
        found = [r for signal, lines in following for r in DECODERS[signal](lines, lines.look())]
        yield from sorted(found, key=moment)
        if not _is_read(sys.stdout):
            return
        never.wait(_POLL)


def _is_read(stream: TextIO) -> bool:
    """Whether the other end of a pipe (`| head -1`) is still there; True for all else."""
    try:
        poll = select.poll()
        poll.register(stream.fileno(), 0)
        return not any(event & select.POLLERR for _, event in poll.poll(0))
    except (AttributeError, OSError, ValueError):
        return True  # no descriptor, or a system without poll: the next write will tell


def _failed(record: Record) -> bool:
    from otel_empathy.store.records import Event, Span

    if isinstance(record, Span):
        return record.failed
    return isinstance(record, Event) and record.severity >= _ERROR


_ERROR = 17  # severity numbers from here on are errors


def _identity(record: Record) -> object:
    return (type(record), moment(record), repr(record.as_dict()))


def _print(screen: Screen, record: Record) -> None:
    if screen.people:
        screen.line(as_text(record))
    else:
        screen.record(record.as_dict())
    screen.flush()
