from __future__ import annotations

import subprocess
import sys

import pytest

from otel_empathy.core.settings import Capture
from otel_empathy.emit.live import Live


def test_install_switches_on_and_remove_forgets() -> None:
    made = Live()
    assert not made.on
    made.install(profile="both", capture=Capture.SPAN_ONLY)
    assert (made.on, made.profile, made.capture) == (True, "both", Capture.SPAN_ONLY)
    made.install(cost_names="gen_ai")
    assert made.profile == "both"
    made.remove()
    assert (made.on, made.profile, made.capture) == (False, "default", Capture.NO_CONTENT)


@pytest.mark.parametrize("name", ["speed", "on", "user_hash"])
def test_unknown_fields_are_refused(name: str) -> None:
    made = Live()
    with pytest.raises(TypeError, match=name):
        made.install(**{name: 1})
    assert not made.on


def test_the_sources_load_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "import otel_empathy.sources.llm, otel_empathy.sources.agent\n"
        "import otel_empathy.sources.feedback\n"
        "heavy = ['asyncio', 'opentelemetry.sdk', 'wrapt', 'psutil', 'grpc', 'requests',\n"
        "         'google.protobuf', 'decimal', 'otel_empathy.core.prices']\n"
        "print([name for name in heavy if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=15, check=True
    )
    assert done.stdout == "[]\n"
