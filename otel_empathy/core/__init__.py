"""Pure logic on the standard library alone: names, settings, prices, clocks, values."""

from __future__ import annotations
