"""What the demo's models cost: entries of the form that any override file has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from otel_empathy.core.prices import Prices

__all__ = ["FILE", "with_demo"]

FILE = Path(__file__).with_name("prices.json")


def with_demo(override: Path | None) -> Prices:
    """The table in use, with the demo's models in it."""
    from otel_empathy.core.prices import Prices

    return Prices.bundled(override).override(json.loads(FILE.read_bytes())["models"])
