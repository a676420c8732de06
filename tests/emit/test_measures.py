from __future__ import annotations

import pytest
from captured import capturing

from otel_empathy.sources.llm import llm_call

USAGE = "gen_ai.client.inference.usage."
COUNTERS = ("input_tokens", "output_tokens", "cache_read.input_tokens", "cache_write.input_tokens",
            "reasoning.output_tokens")  # fmt: skip


@pytest.mark.parametrize("source", ["none", "estimated"])
def test_without_usage_every_counter_of_latest_records_nothing(source: str) -> None:
    with capturing(profile="latest") as captured:
        with llm_call(model="m") as call:
            call.usage(input=None if source == "none" else 7, source=source)
        for counter in COUNTERS:
            ((labels, value),) = captured.points(f"{USAGE}{counter}")
            assert value == 0
            assert labels["gen_ai.token.modality"] == "unknown"
        assert "gen_ai.client.inference.operation.input_tokens" not in captured.metrics()


def test_what_a_reply_does_not_tell_of_is_not_counted_as_nothing() -> None:
    with capturing(profile="latest") as captured:
        with llm_call(model="m") as call:
            call.usage(input=7, cache_read=3)
        found = {name for name in captured.metrics() if name.startswith(USAGE)}
        assert found == {f"{USAGE}input_tokens", f"{USAGE}cache_read.input_tokens"}
