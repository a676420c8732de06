from __future__ import annotations

from decimal import Decimal

from store.lines import call, line, segment
from test_usage import Clock

from otel_empathy.core.prices import Prices
from otel_empathy.views.store import Store

PRICES = Prices.bundled().override(
    {"demo/model": {"input": "3", "output": "15", "cache_read": "0.30"}}
)
