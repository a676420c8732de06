"""What stands in for the log when there is none: bounded queues, one per backend and signal.

A record counts as acknowledged when it was taken; a process that dies takes its queues along. The
ledger says so: the durability of this mode is `memory`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from otel_empathy.pipeline.backends import Backend
from otel_empathy.pipeline.chunk import SIGNALS, Chunk
from otel_empathy.pipeline.ledger import Count

__all__ = ["Memory"]


class Memory:
    """Hands each record to every backend's own queue.

    Args:
        backends: Who gets them.
    """

    durability = "memory"
    waiting = 0
    trouble: str | None = None

    def __init__(self, backends: Sequence[Backend]) -> None:
        self.counts = {name: Count() for name in SIGNALS}
        self._backends = backends

    def append(self, signal: str, resource: bytes, scope: bytes, body: bytes, count: int) -> None:
        """Take one record."""
        counts = self.counts[signal]
        with counts.lock:
            counts.queued += count
            counts.acked += count
        chunk = Chunk(SIGNALS[signal], resource, scope, body, count)
        for backend in self._backends:
            backend.offer(chunk)

    @property
    def dropped(self) -> Counter[str]:
        """Nothing is dropped before the queues; those count for themselves."""
        return Counter()
