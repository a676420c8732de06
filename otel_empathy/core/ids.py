"""Identifiers that are made here: of runs and of processes.

The random bits come from the operating system for each id, so that a forked process can never
repeat what its parent made.
"""

from __future__ import annotations

import os
import uuid
from typing import Final

from otel_empathy.core.clock import SYSTEM, Clock

__all__ = ["instance_id", "run_id"]

_CROCKFORD: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS: Final = tuple(high + low for high in _CROCKFORD for low in _CROCKFORD)
_SHIFTS: Final = tuple(range(120, -1, -10))


def run_id(*, clock: Clock = SYSTEM) -> str:
    """A new id of a run: `run_` and 26 characters, later ones sort after earlier ones."""
    milliseconds = clock.time_ns() // 1_000_000 & 0xFFFF_FFFF_FFFF
    number = milliseconds << 80 | int.from_bytes(os.urandom(10), "big")
    return "run_" + "".join([_PAIRS[number >> shift & 1023] for shift in _SHIFTS])


def instance_id() -> str:
    """A new id of a process."""
    return str(uuid.uuid4())
