"""`otel-empathy demo`: an example agent, a model server for it, and a look at what it left.

The agent and the chat client are an application like any other; only this module knows both them
and the log. No key and no network are needed.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from otel_empathy.cli import tree
from otel_empathy.cli.errors import Finding
from otel_empathy.cli.numbers import count
from otel_empathy.cli.options import common, settings_of
from otel_empathy.cli.screen import Screen
from otel_empathy.cli.store import opened
from otel_empathy.cli.usage import draw as draw_usage
from otel_empathy.core.clock import SYSTEM

if TYPE_CHECKING:
    from otel_empathy.views.store import Store

__all__ = ["SERVICE", "command"]

SERVICE = "demo"
_WISH = "What should I see in Lisbon on a rainy Sunday?"
_TIMEOUT = 5.0  # seconds for a backend to take what the demo made


@click.command("demo")
@click.option(
    "--endpoint",
    metavar="URL",
    help="Send it to this OTLP endpoint too, such as http://localhost:4318 of Jaeger.",
)
@common
def command(*, endpoint: str | None, home: Path | None, as_json: bool | None) -> None:
    """Run an example agent and look at what it left in the log.

    The agent has phases, tools, a streamed reply and calls that fail; it talks to a small model
    server on this machine. Needs no key and no network.
    """
    screen = Screen(as_json=as_json)
    settings, complaints = settings_of(home)
    for complaint in complaints:
        screen.note(f"warning: {complaint}")
    if settings.sdk_disabled or not settings.log:
        raise click.UsageError(
            "OTEL_SDK_DISABLED or OTEL_EMPATHY_LOG switches the log off: unset it for the demo."
        )
    screen.silence()
    began, shipped = _run(screen, settings.home, endpoint)
    with opened(screen, home) as store:
        _show(screen, store, began)
    for backend, state in shipped.items():
        screen.note(f"backend {backend}: {state}")
    screen.note(f"the log is in {settings.home / 'otlp'}; next, try:")
    flag = "" if home is None else f" --home {home}"
    program = "otel-empathy" if shutil.which("otel-empathy") else _beside_python()
    for line in (f"traces{flag}", f"usage --by tier{flag}", f"tail{flag}", f"status{flag}"):
        screen.note(f"  {program} {line}")


def _beside_python() -> str:
    """The command where no path leads to it, as in an environment that is not activated."""
    found = Path(sys.executable).with_name("otel-empathy")
    return os.path.relpath(found) if found.exists() else f"{sys.executable} -m otel_empathy.cli"


def _run(screen: Screen, home: Path, endpoint: str | None) -> tuple[int, dict[str, str]]:
    """Run the agent; when it began, and how each backend stands."""
    import otel_empathy
    from otel_empathy.cli.demo.agent import SCRIPT, plan_a_day
    from otel_empathy.cli.demo.chat import Chat
    from otel_empathy.cli.demo.model_server import ModelServer
    from otel_empathy.cli.demo.prices import FILE
    from otel_empathy.pipeline.environment import from_environment

    backends = None
    if endpoint is not None:
        named = from_environment(settings_of(home)[0].environ)
        backends = [*named, otel_empathy.Otlp(endpoint)]
    began = SYSTEM.time_ns()
    runtime = otel_empathy.configure(
        service=SERVICE, home=home, backends=backends, settings={"prices": FILE}
    )
    with runtime, ModelServer(SCRIPT) as server:
        if runtime.degraded is not None:
            raise Finding(
                f"there can be no log: {runtime.degraded}; "
                "set OTEL_EMPATHY_HOME, or --home, to a folder of yours."
            )
        screen.note(f"an agent asks the model server on 127.0.0.1:{server.port} …")
        plan_a_day(Chat(port=server.port), _WISH)
        runtime.flush(_TIMEOUT)
        balance = runtime.ledger()
    return began, {
        name: f"{row.state}, {count(row.shipped)} of {count(row.acked)} records shipped"
        for name, row in balance.backends.items()
    }


def _show(screen: Screen, store: Store, began: int) -> None:
    found = store.traces(limit=1, service=SERVICE, since=began)
    trace = store.trace(found[0].trace_id) if found else None
    if trace is None:
        raise Finding("the demo's trace is not in the log: `otel-empathy doctor` looks for faults.")
    usage, savings = store.usage_and_savings(since=began, by="model")
    if screen.people:
        tree.draw(screen, trace)
        draw_usage(screen, usage, savings, when="of this demo")
    else:
        screen.record(trace.as_dict())
        screen.record({**usage.as_dict(), "savings": savings.as_dict()})
