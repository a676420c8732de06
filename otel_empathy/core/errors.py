"""The exceptions that misuse of the public API raises.

EmpathyError
├── SettingError (ValueError)     a setting or argument of configure() has an unusable value
├── WrongType (TypeError)         an argument has the wrong type
├── WrongValue (ValueError)       an argument has the right type and an impossible value
└── Unavailable (RuntimeError)    a file, store or server that was asked for cannot be used

Each message names the value, the rule and the fix. Telemetry paths raise none of these: what goes
wrong there is counted (`emit.safety`).
"""

from __future__ import annotations

__all__ = ["EmpathyError", "SettingError", "Unavailable", "WrongType", "WrongValue"]


class EmpathyError(Exception):
    """Root of everything that otel-empathy raises."""


class SettingError(EmpathyError, ValueError):
    """A setting has a value that cannot be used."""


class WrongType(EmpathyError, TypeError):
    """An argument has the wrong type."""


class WrongValue(EmpathyError, ValueError):
    """An argument has the right type and an impossible value."""


class Unavailable(EmpathyError, RuntimeError):
    """A file, store or server that was asked for cannot be used."""
