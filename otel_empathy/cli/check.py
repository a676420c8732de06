"""One thing that `doctor` looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Check", "Level"]

Level = Literal["ok", "warning", "finding"]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Args:
        name: What it is.
        level: How it stands.
        detail: What was seen.
        fix: What to do about it, one sentence, empty when all is well.
    """

    name: str
    level: Level
    detail: str
    fix: str = ""

    def as_dict(self) -> dict[str, str]:
        """The check as a flat record."""
        return {
            "name": self.name,
            "level": self.level,
            "detail": self.detail,
            "fix": self.fix,
        }
