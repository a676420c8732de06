"""Values that user code attaches to its events and phases, in the forms that records can hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from otel_empathy.emit.live import live

__all__ = ["plain_values", "span_values"]

_SIMPLE: Final = (str, bool, int, float)


def plain_values(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The values as data: what is no data becomes the name of its type; None is left out."""
    known = {key: value for key, value in attributes.items() if value is not None}
    if all(type(value) in _SIMPLE for value in known.values()):
        return known
    from otel_empathy.core.serialize import plain  # noqa: PLC0415 - most values are simple

    return {
        key: value if type(value) in _SIMPLE else plain(value, scrub=live.scrub)[0]
        for key, value in known.items()
    }


def span_values(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The same for a span, which holds nothing nested: that becomes JSON text."""
    known = plain_values(attributes)
    if all(type(value) in _SIMPLE for value in known.values()):
        return known
    from otel_empathy.core.serialize import to_json  # noqa: PLC0415 - most values are simple

    return {
        key: value if type(value) in _SIMPLE or _is_row(value) else to_json(value)[0]
        for key, value in known.items()
    }


def _is_row(value: Any) -> bool:
    """Whether it is a list of values of one simple type, which a span can hold."""
    return (
        isinstance(value, list)
        and len({type(item) for item in value}) == 1
        and type(value[0]) in _SIMPLE
    )
