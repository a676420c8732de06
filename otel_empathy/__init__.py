"""See what your agents do, what they cost and what they use, and never lose the record.

    import otel_empathy

    otel_empathy.configure(service="shop")


    @otel_empathy.agent
    def answer(question): ...

Names are loaded when they are first used, so that importing the package costs what importing the
OpenTelemetry API costs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_empathy._version import __version__

if TYPE_CHECKING:
    from otel_empathy.core.call import Call as Call
    from otel_empathy.core.errors import EmpathyError as EmpathyError
    from otel_empathy.core.limits import Timeouts as Timeouts
    from otel_empathy.core.run import Run as Run
    from otel_empathy.core.settings import Capture as Capture
    from otel_empathy.core.states import Phase as Phase
    from otel_empathy.core.states import RunState as RunState
    from otel_empathy.core.usage import Usage as Usage
    from otel_empathy.emit.context import carry as carry
    from otel_empathy.emit.context import current_call as current_call
    from otel_empathy.emit.context import current_run as current_run
    from otel_empathy.emit.context import using as using
    from otel_empathy.pipeline.log import Jsonl as Jsonl
    from otel_empathy.pipeline.otlp import Console as Console
    from otel_empathy.pipeline.otlp import Otlp as Otlp
    from otel_empathy.sources.agent import agent as agent
    from otel_empathy.sources.agent import phase as phase
    from otel_empathy.sources.agent import tool as tool
    from otel_empathy.sources.agent import workflow as workflow
    from otel_empathy.sources.feedback import event as event
    from otel_empathy.sources.feedback import feedback as feedback
    from otel_empathy.sources.llm import llm_call as llm_call
    from otel_empathy.views.store import open_store as open_store
    from otel_empathy.wiring import Runtime as Runtime
    from otel_empathy.wiring import configure as configure
    from otel_empathy.wiring import flush as flush
    from otel_empathy.wiring import runtime as runtime
    from otel_empathy.wiring import shutdown as shutdown

# Where each public name lives.
_HOMES = {
    "Call": "core.call",
    "Capture": "core.settings",
    "Console": "pipeline.otlp",
    "EmpathyError": "core.errors",
    "Jsonl": "pipeline.log",
    "Otlp": "pipeline.otlp",
    "Phase": "core.states",
    "Run": "core.run",
    "RunState": "core.states",
    "Runtime": "wiring",
    "Timeouts": "core.limits",
    "Usage": "core.usage",
    "agent": "sources.agent",
    "carry": "emit.context",
    "configure": "wiring",
    "current_call": "emit.context",
    "current_run": "emit.context",
    "event": "sources.feedback",
    "feedback": "sources.feedback",
    "flush": "wiring",
    "llm_call": "sources.llm",
    "open_store": "views.store",
    "phase": "sources.agent",
    "runtime": "wiring",
    "shutdown": "wiring",
    "tool": "sources.agent",
    "using": "emit.context",
    "workflow": "sources.agent",
}

__all__ = [
    "Call",
    "Capture",
    "Console",
    "EmpathyError",
    "Jsonl",
    "Otlp",
    "Phase",
    "Run",
    "RunState",
    "Runtime",
    "Timeouts",
    "Usage",
    "__version__",
    "agent",
    "carry",
    "configure",
    "current_call",
    "current_run",
    "event",
    "feedback",
    "flush",
    "llm_call",
    "open_store",
    "phase",
    "runtime",
    "shutdown",
    "tool",
    "using",
    "workflow",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - only paid by who asks for a name

    value: object = getattr(import_module(f"otel_empathy.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
