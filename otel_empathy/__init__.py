"""See what your agents do, what they cost and what they use, and never lose the record."""

from __future__ import annotations

from otel_empathy._version import __version__

__all__ = ["__version__"]
