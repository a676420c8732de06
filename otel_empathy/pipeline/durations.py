"""A histogram that costs less than the write it measures; whoever notes holds the writer's lock."""

from __future__ import annotations

from bisect import bisect_left

from otel_empathy.core.semconv import LOCAL_SECONDS

__all__ = ["Durations"]


class Durations:
    """How long something took, so far.

    `counts` has one place for each bound of `LOCAL_SECONDS`, and one for what is beyond the last.

    Args:
        since: When the counting begins, in nanoseconds UTC.
    """

    __slots__ = ("counts", "longest", "shortest", "since", "total")

    def __init__(self, since: int) -> None:
        self.since = since
        self.counts = [0] * (len(LOCAL_SECONDS) + 1)
        self.total = 0.0
        self.shortest = float("inf")
        self.longest = 0.0

    def note(self, seconds: float) -> None:
        """Note one more."""
        self.counts[bisect_left(LOCAL_SECONDS, seconds)] += 1
        self.total += seconds
        self.shortest = min(self.shortest, seconds)
        self.longest = max(self.longest, seconds)

    def plus(self, other: Durations) -> Durations:
        """Both together."""
        both = Durations(min(self.since, other.since))
        both.counts = [a + b for a, b in zip(self.counts, other.counts, strict=True)]
        both.total = self.total + other.total
        both.shortest = min(self.shortest, other.shortest)
        both.longest = max(self.longest, other.longest)
        return both
