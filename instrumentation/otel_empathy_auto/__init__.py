"""Instrumentation of other people's libraries, one file per library.

What stands here knows a foreign library and maps its shapes onto calls and runs of
`otel_empathy`; it opens no span of its own and nothing in `otel_empathy` imports it.
"""

from __future__ import annotations

__all__: list[str] = []
