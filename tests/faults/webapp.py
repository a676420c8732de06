"""The application that the fault tests' web server serves; it configures when it is loaded."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from opentelemetry import trace

from otel_empathy import wiring

wiring.configure(service="web", home=os.environ["FAULT_HOME"], backends=[])
_TRACER = trace.get_tracer("fault")


def application(environ: dict[str, str], start: Callable[..., object]) -> Iterable[bytes]:
    """One span a request, named as the request asks."""
    _TRACER.start_span(environ["QUERY_STRING"]).end()
    start("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
