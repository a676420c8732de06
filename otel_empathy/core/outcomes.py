"""How an operation ended, told from the exception that left it.

Knows no library: classes are judged by what they are and what they are called, so that nothing has
to be imported to recognise a timeout or a cancellation.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final

__all__ = ["OTHER", "Outcome", "error_type", "outcome_of", "qualified_name"]

OTHER: Final = "_OTHER"
_CODE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.\-]{0,63}")
_TIMEOUT_NAMES: Final = ("Timeout", "TimeoutError", "TimeoutException")
_STATUS: Final = range(100, 600)


class Outcome(str, Enum):
    """The end of a call or tool."""

    OK = "ok"
    ERROR = "error"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    ABANDONED = "abandoned"

    __str__ = str.__str__

    @property
    def is_failure(self) -> bool:
        """Whether the status is ERROR; who cancels or leaves has not met a failure."""
        return self is Outcome.ERROR or self is Outcome.TIMEOUT


def outcome_of(error: BaseException | None) -> Outcome:
    """What an exception means for the operation that it left."""
    if error is None:
        return Outcome.OK
    if isinstance(error, GeneratorExit):
        return Outcome.ABANDONED
    if not isinstance(error, Exception):  # CancelledError, KeyboardInterrupt, SystemExit
        return Outcome.CANCELLED
    if isinstance(error, TimeoutError):
        return Outcome.TIMEOUT
    if type(error).__name__ == "CancelledError":  # that of concurrent.futures is an Exception
        return Outcome.CANCELLED
    if any(cls.__name__.endswith(_TIMEOUT_NAMES) for cls in type(error).__mro__):
        return Outcome.TIMEOUT
    return Outcome.ERROR


def qualified_name(cls: type) -> str:
    """The name of a class with its module, builtins without."""
    module = cls.__module__
    return cls.__qualname__ if module in {"builtins", None} else f"{module}.{cls.__qualname__}"


def error_type(error: BaseException | str) -> str:
    """The low-cardinality name of an error: the provider's code if it has one, else its class."""
    if isinstance(error, str):
        return error if _CODE.fullmatch(error) else OTHER
    cls = type(error)
    if cls.__module__ != "builtins":
        for name in ("code", "status_code"):
            code = _code(error, name)
            if code is not None:
                return code
    return qualified_name(cls)


def _code(error: BaseException, name: str) -> str | None:
    try:
        code = getattr(error, name, None)
        code = getattr(code, "value", code)  # HTTPStatus and other enums
    except Exception:  # noqa: BLE001 - a foreign property; the class still names the error
        return None
    if type(code) is int and code in _STATUS:
        return str(code)
    if type(code) is str and _CODE.fullmatch(code):
        return code
    return None
