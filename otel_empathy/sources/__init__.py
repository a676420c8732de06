"""What observes your code: decorators and the few functions that are called inside them."""

from __future__ import annotations
