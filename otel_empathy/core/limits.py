"""Limits as values: how long something may take.

Values only; `sources.limit` makes them hold.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from otel_empathy.core.errors import WrongType, WrongValue

__all__ = ["Timeouts", "seconds"]


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a run, and each call inside it, may take.

    Args:
        run: Seconds from the start of a run to its end; None = no limit.
        call: Seconds for each decorated LLM call inside the run; None = no limit.

    Raises:
        WrongType: A limit is no number.
        WrongValue: A limit is not above 0.
    """

    run: float | None = None
    call: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "run", seconds("run", self.run))
        object.__setattr__(self, "call", seconds("call", self.call))


def seconds(name: str, value: Any) -> float | None:
    """A limit in seconds, checked.

    Raises:
        WrongType: The value is no number.
        WrongValue: The value is not above 0, or no finite number.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise WrongType(f"{name}={value!r} must be a number of seconds, or None for no limit")
    if not (math.isfinite(value) and value > 0):
        raise WrongValue(f"{name}={value!r} must be above 0 seconds, or None for no limit")
    return float(value)
