"""`otel-empathy tail`: spans and events as they are written, one line each."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from otel_empathy.cli.options import Window, common, window
from otel_empathy.cli.screen import Screen, clean
from otel_empathy.cli.store import opened
from otel_empathy.cli.times import duration, local

if TYPE_CHECKING:
    from rich.text import Text

    from otel_empathy.store.records import Event, Point, Span

__all__ = ["command"]
