"""What the garbage collector calls leaves the context alone; in a child, since it may crash."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from otel_empathy.emit.collector import collecting, watch

PROGRAM = """
import gc, sys
sys.path.insert(0, sys.argv[1])
from captured import capturing
from opentelemetry.context import Context, attach, detach, get_current
from otel_empathy import current_call, llm_call, phase, using
import contextvars

others = [contextvars.ContextVar(f"other{i}") for i in range(3)]
calls = 0

@llm_call
def ask():
    global calls
    calls += 1

@llm_call
def stream():
    try:
        yield 1
    finally:
        ask()

def caller():
    ask()

def inside_using():
    with using(session="s"):
        yield 1

def inside_phase():
    with phase("thinking"):
        yield 1

class Cycle:
    def __init__(self, end):
        self.me = self
        self.end = end

    def __del__(self):
        self.end()

def hold(make):
    def held():
        generator = make()
        next(generator)
        return generator.close
    return held

KINDS = {
    "function": lambda: caller,
    "stream": hold(stream),
    "using": hold(inside_using),
    "phase": hold(inside_phase),
}

def trial(kind, step, filled):
    for var in others[:filled]:
        var.set(1)
    before = calls
    attached = get_current()
    gc.disable()
    gc.collect()
    gc.set_threshold(1000, 100, 100)
    Cycle(KINDS[kind]())
    keep = []
    while gc.get_count()[0] < 1000 - step:
        keep.append([])
    mine = Context({"mine": step})
    gc.enable()
    token = attach(mine)
    gc.disable()
    def peek():
        return get_current() is mine
    seen = contextvars.copy_context().run(peek)
    detach(token)
    gc.collect()
    if kind in ("function", "stream"):
        assert calls == before + 1, (kind, step, calls, before)
    return seen

with capturing() as captured:
    for kind in KINDS:
        for filled in range(4):
            for step in range(12):
                assert contextvars.copy_context().run(trial, kind, step, filled), (kind, step)
    ask()
    assert captured.open == 0, captured.names
    print(len(captured.spans))
"""


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="the collector no longer comes there")
def test_a_collection_in_the_middle_of_a_change_of_the_context_harms_nothing() -> None:
    tests = Path(__file__).resolve().parent.parent
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tests)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
    # 48 functions, 48 streams that ask once more at their end, 48 phases, and the last call.
    assert done.stdout.split() == ["193"]


def test_only_what_the_collector_calls_is_inside_a_collection() -> None:
    import gc

    seen = []

    class Cycle:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            seen.append(collecting())

    watch()
    Cycle()
    assert not collecting()
    gc.collect()
    assert seen == [True]
    assert not collecting()
