"""Questions answered from records, without side effects: usage, savings, cache, traces, status.

`views.store` opens a store that has every view as a method; the other modules hold one view each.
"""

from __future__ import annotations
