"""What a fault test needs on its own side: child processes, and the proof that nothing was lost.

A child is a program of `children.py` in a process of its own. It tells through its standard output
what was acknowledged, and is told through its standard input when to go on, so that both sides
compare facts. The proof is taken from the files: every acknowledged span stands in the log, and the
equations of the ledger hold, computed here a second time from lines and cursors.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from otel_empathy.pipeline import segments
from otel_empathy.pipeline.chunk import SIGNALS, parse
from otel_empathy.pipeline.cursor import Cursor, all_cursors
from otel_empathy.pipeline.ledger import Balance, read_record, recompute

__all__ = [
    "Child",
    "agrees",
    "balance",
    "children",
    "lines",
    "missing",
    "names",
    "own_mounts",
    "port_of",
    "unshipped",
    "until",
]

_PROGRAMS = Path(__file__).with_name("children.py")


class Child:
    """A program of `children.py` in a process of its own.

    Args:
        program: Its name.
        before: Words of the command line that start it, such as `unshare -m`.
        arguments: What it is told.
    """

    def __init__(self, program: str, *, before: Iterable[str] = (), **arguments: Any) -> None:
        told = json.dumps(arguments, default=str)
        self.process = subprocess.Popen(
            [*before, sys.executable, "-X", "faulthandler", str(_PROGRAMS), program, told],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={k: v for k, v in os.environ.items() if not k.startswith("OTEL_")},
            start_new_session=True,  # so that what it forked can be ended with it
        )
        self.pid = self.process.pid
        self.heard: list[dict[str, Any]] = []
        self.errors = b""
        self._said: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._readers = [threading.Thread(target=self._listen), threading.Thread(target=self._err)]
        for reader in self._readers:
            reader.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with contextlib.suppress(ValueError):  # the last line of a killed process may be torn
                self._said.put(json.loads(line))
        self._said.put(None)

    def _err(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.errors += line

    def hear(self, key: str, timeout: float = 30.0) -> Any:
        """The next thing that it says under a key; what it says under others is kept."""
        while True:
            said = self._said.get(timeout=timeout)
            assert said is not None, f"ended without saying {key}: {self.errors[-3000:].decode()}"
            self.heard.append(said)
            if key in said:
                return said[key]

    def tell(self, word: str = "go") -> None:
        """Let it go on."""
        assert self.process.stdin is not None
        self.process.stdin.write(word.encode() + b"\n")
        self.process.stdin.flush()

    def signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    @staticmethod
    def stop(pid: int) -> None:
        """Let a process stand still."""
        os.kill(pid, signal.SIGSTOP)

    @staticmethod
    def go_on(pid: int) -> None:
        """Let it go on."""
        os.kill(pid, signal.SIGCONT)

    def end(self, timeout: float = 30.0) -> int:
        """Wait for its end, take in all that it still said, and give its exit status."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            os.kill(self.pid, signal.SIGABRT)  # the fault handler says where it hangs
            self.process.wait()
            self.close()
            raise AssertionError(self.errors[-5000:].decode()) from None
        self.close()
        while (said := self._said.get()) is not None:
            self.heard.append(said)
        return status

    def last(self, key: str) -> Any:
        """The last thing that it said under a key."""
        return next(said[key] for said in reversed(self.heard) if key in said)

    def close(self) -> None:
        """End it if it lives, and let go of the pipes."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()
        for reader in self._readers:
            reader.join()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


@contextlib.contextmanager
def children(number: int, program: str, /, **arguments: Any) -> Iterator[list[Child]]:
    """Several children of one program, each with its own `who`."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(Child(program, who=f"c{n}", **arguments)) for n in range(number)]


def lines(home: Path, signal_name: str = "traces") -> Iterator[bytes]:
    """Every whole line of the log."""
    for segment in segments.listed(home, signal_name):
        for line in segment.path.read_bytes().splitlines(keepends=True):
            if line.endswith(b"\n"):
                yield line


def names(home: Path) -> Counter[str]:
    """Names of the spans in the log, each as often as it stands there."""
    found: Counter[str] = Counter()
    for line in lines(home):
        for outer in json.loads(line)["resourceSpans"]:
            for inner in outer["scopeSpans"]:
                found.update(span["name"] for span in inner["spans"])
    return found


def missing(found: Iterable[str], who: str, acked: int) -> list[str]:
    """Which of the first `acked` spans of somebody are not among the found ones."""
    there = set(found)
    return [name for n in range(acked) if (name := f"{who}-{n}") not in there]


def unshipped(home: Path, backend: str, *, signals: Iterable[str] = tuple(SIGNALS)) -> int:
    """Records behind the cursors of a backend, counted line by line."""
    total = 0
    cursors = all_cursors(home)
    for path in (home / "ledger").glob("????????.json"):
        record = read_record(path)
        if record is not None and backend in record.backends:
            # A process may end before its backend has written where it stands.
            cursors.setdefault((backend, path.stem), Cursor(backend, path.stem))
    for signal_name in signals:
        for segment in segments.listed(home, signal_name):
            cursor = cursors.get((backend, segment.name.instance))
            if cursor is None or signal_name not in cursor.signals:
                continue
            place = cursor.positions[signal_name]
            if place.seq > segment.name.seq:
                continue
            data = segment.path.read_bytes()
            data = data[place.offset if place.seq == segment.name.seq else 0 :]
            for line in data.splitlines(keepends=True):
                if line.endswith(b"\n"):
                    total += sum(chunk.count for chunk in parse(line))
    return total


def agrees(told: Mapping[str, Any]) -> None:
    """The equations of the ledger that a living process told."""
    dropped = sum(told["dropped"].values())
    assert told["handed"] == told["offered"] == told["acked"] + dropped + told["waiting"], told
    for name, row in told["backends"].items():
        assert row["acked"] == row["shipped"] + row["pending"] + sum(row["dropped"].values()), name
        assert row["pending"] >= 0, (name, row)


def balance(home: Path, *, alive: bool = False) -> Balance:
    """The ledger of a home, after checking that its equations hold against the files."""
    found = recompute(home, all_cursors(home))
    assert found.offered == found.acked.total() + found.dropped.total() + found.waiting
    if alive:
        return found
    assert found.waiting == 0, "nobody lives, so nothing can wait"
    for name, row in found.backends.items():
        assert row.acked == row.shipped + row.pending + row.dropped.total()
        assert row.pending == unshipped(home, name), f"{name}: {row.as_dict()}"
    return found


def until(true: Callable[[], object], seconds: float = 15.0) -> None:
    """Wait until something is the case."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come about in time"
        threading.Event().wait(0.02)


@functools.cache
def own_mounts() -> tuple[str, ...]:
    """The words that start a program with mounts of its own; none where nobody gives them to us.

    Who is not root becomes it in a user namespace, which most systems allow.
    """
    mount = ("mount", "-t", "tmpfs", "-o", "size=64k", "none", "/mnt")
    for words in (("unshare", "-m"), ("unshare", "-rm")):
        with contextlib.suppress(FileNotFoundError):  # another system than Linux
            if subprocess.run([*words, *mount], check=False, capture_output=True).returncode == 0:
                return words
    return ()


def port_of(child: Child) -> int:
    """The port that gunicorn says it listens on."""
    found: list[bytes] = []

    def listening() -> bool:
        found[:] = re.findall(rb"Listening at: http://127\.0\.0\.1:(\d+)", child.errors)
        return bool(found)

    until(listening)
    return int(found[0])
