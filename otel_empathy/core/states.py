"""The closed sets of a run: its states and the named phases.

Members are strings, so that a record compares equal to what JSON and a shell say. What may follow
what is not decided here.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Any, Final

from otel_empathy.core.errors import WrongType, WrongValue

__all__ = ["Phase", "RunState", "phase_name"]


class RunState(str, Enum):
    """Where a run is in its life; the last five are terminal."""

    PENDING = "pending"
    STARTING = "starting"
    RUNNING = "running"
    COMPLETING = "completing"
    COMPLETED = "completed"
    FAILED = "failed"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    DEAD = "dead"

    __str__ = str.__str__

    @property
    def is_terminal(self) -> bool:
        """Whether nothing follows this state."""
        return self in _TERMINAL_STATES

    @classmethod
    def of(cls, value: Any) -> RunState:
        """The state that a value names, by the member itself or its exact text.

        Raises:
            WrongType: The value is neither a state nor text.
            WrongValue: No state has that name.
        """
        if not isinstance(value, str):
            raise WrongType(f"run state {value!r} is no state: use one of {_names(cls)}")
        try:
            return cls(value)
        except ValueError:
            raise WrongValue(f"unknown run state {value!r}: use one of {_names(cls)}") from None


_TERMINAL_STATES: Final = frozenset(
    {
        RunState.COMPLETED,
        RunState.FAILED,
        RunState.TIMEOUT,
        RunState.CANCELLED,
        RunState.DEAD,
    }
)


class Phase(str, Enum):
    """The named phases of a run; others may be used, in the form that `phase_name` checks."""

    CREATED = "created"
    WEBSOCKET_SETUP = "websocket_setup"
    CONTEXT_VALIDATION = "context_validation"
    STARTING = "starting"
    THINKING = "thinking"
    TOOL_PREPARATION = "tool_preparation"
    LLM_INTERACTION = "llm_interaction"
    TOOL_EXECUTION = "tool_execution"
    RESULT_PROCESSING = "result_processing"
    COMPLETING = "completing"
    COMPLETED = "completed"
    TIMEOUT = "timeout"
    FAILED = "failed"
    CIRCUIT_BREAKER_OPEN = "circuit_breaker_open"

    __str__ = str.__str__

    @property
    def is_terminal(self) -> bool:
        """Whether nothing follows this phase."""
        return self in _TERMINAL_PHASES


_TERMINAL_PHASES: Final = frozenset({Phase.COMPLETED, Phase.TIMEOUT, Phase.FAILED})
_PHASE_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")


def phase_name(value: Any) -> str:
    """The plain name of a phase, given as a member or as text.

    Raises:
        WrongType: The value is no text.
        WrongValue: The text is no name of a phase.
    """
    if not isinstance(value, str):
        raise WrongType(f"phase {value!r} is no name: use text or a member of Phase")
    name = str(value.value) if isinstance(value, Phase) else value
    if _PHASE_NAME.fullmatch(name) is None:
        raise WrongValue(
            f"phase name {name!r} must match [a-z][a-z0-9_]{{0,63}}: use lower case, digits and _"
        )
    return name


def _names(members: type[Enum]) -> str:
    return ", ".join(str(member.value) for member in members)
