"""What user code hands in, read as a text or a number whatever kind of object it is.

Such an object's own methods may fail in any way, even when it is only asked for its class: a proxy
outside of its request does. Here nothing raises: what cannot be read is None. What then happens to
it, and which values are good, is the business of who asked.
"""

from __future__ import annotations

import math
import operator
from typing import Any

__all__ = ["number_of", "shown", "text_of", "whole_of"]


def text_of(value: Any) -> str | None:
    """A text, or an enum or a proxy of one, as plain text; None for everything else."""
    if type(value) is str:
        return value
    try:
        if not isinstance(value, str):
            return None
        if not issubclass(type(value), str):  # a proxy: its text is that of what it stands for
            value = str(getattr(value, "value", value))
        return str.__str__(value)  # which is not the one of its class
    except Exception:  # noqa: BLE001 - see above
        return None


def shown(value: Any) -> str | None:
    """Anything as text, an enum by its value; None where it cannot be shown."""
    text = text_of(value)
    if text is not None:
        return text
    try:
        return str.__str__(str(getattr(value, "value", value)))
    except Exception:  # noqa: BLE001 - see above
        return None


def number_of(value: Any) -> float | None:
    """A number as a float, which may be infinite or none; None for texts and truths."""
    try:
        if isinstance(value, (bool, str, bytes, bytearray)):
            return None
        try:
            return float(value)
        except OverflowError:  # a whole number beyond every float
            return math.inf if operator.index(value) > 0 else -math.inf
    except Exception:  # noqa: BLE001 - see above
        return None


def whole_of(value: Any) -> int | None:
    """A whole number; None for everything else, truths included."""
    try:
        return None if isinstance(value, bool) else operator.index(value)
    except Exception:  # noqa: BLE001 - see above
        return None
