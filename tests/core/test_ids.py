from __future__ import annotations

import os
import re
import uuid

from hypothesis import given
from hypothesis import strategies as st

from otel_empathy.core.ids import instance_id, run_id
from otel_empathy.testing import ManualClock

FORM = re.compile(r"run_[0-7][0-9A-HJKMNP-TV-Z]{25}")


def test_the_form_of_run_ids() -> None:
    assert all(FORM.fullmatch(run_id()) for _ in range(1_000))


def test_no_two_are_alike() -> None:
    assert len({run_id() for _ in range(20_000)}) == 20_000


@given(
    times=st.lists(
        st.integers(min_value=0, max_value=2**48 - 1), min_size=2, max_size=8, unique=True
    )
)
def test_later_ids_sort_after_earlier_ones(times: list[int]) -> None:
    made = [run_id(clock=ManualClock(time_ns=ms * 1_000_000)) for ms in sorted(times)]
    assert made == sorted(made)


def test_a_forked_process_makes_ids_of_its_own() -> None:
    run_id()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, run_id().encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(read, 100).decode()
    os.close(read)
    os.close(write)
    assert FORM.fullmatch(theirs)
    assert theirs != run_id()


def test_processes_have_uuids() -> None:
    assert uuid.UUID(instance_id()).version == 4
    assert instance_id() != instance_id()
