"""How each backend is served: what a user gave, or the environment names, as plans.

A value that cannot be a backend is answered here, before anything is opened. How a backend is
reached is known to the transports, what happens to it to the backends.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from otel_empathy.core.clock import Clock
from otel_empathy.core.errors import SettingError
from otel_empathy.core.settings import Settings
from otel_empathy.pipeline import environment, transport
from otel_empathy.pipeline.log import Jsonl
from otel_empathy.pipeline.otlp import Console, Otlp, backend_name
from otel_empathy.pipeline.shipping import Plan, Sender

__all__ = ["BackendValue", "checked", "environment_backends", "plans"]

BackendValue = Otlp | Console | Jsonl | Any


def environment_backends(settings: Settings) -> list[Otlp | Console]:
    """The backends that the standard variables name."""
    found: list[Otlp | Console] = list(environment.from_environment(settings.environ))
    console = environment.console_from_environment(settings.environ)
    return [*found, console] if console is not None else found


def plans(
    backends: Sequence[Otlp | Console | Any], settings: Settings, clock: Clock
) -> tuple[Plan, ...]:
    """How each backend is served.

    Raises:
        SettingError: Two backends have one name, or one has a name that no folder can have.
    """
    made: list[Plan] = []
    for one in backends:
        if isinstance(one, (Otlp, Console)):
            value = environment.resolve(one, settings.environ) if isinstance(one, Otlp) else one
            plan = Plan(
                name=value.name or "otlp",
                connect=_connector(value, clock),
                signals=tuple(value.signals),
                start=getattr(value, "start", "now"),
                delta=getattr(value, "temporality", None) in {"delta", "lowmemory"},
                timeout=getattr(value, "timeout", None) or 10.0,
                component=_component(value),
            )
        else:
            name = backend_name(getattr(one, "name", type(one).__name__.lstrip("_")))
            plan = Plan(name=name, connect=_itself(one))
        if any(other.name == plan.name for other in made):
            raise SettingError(
                f"backends: two are named {plan.name!r}; give one of them another name="
            )
        made.append(plan)
    return tuple(made)


def _component(value: Otlp | Console) -> str:
    """What the conventions call an exporter of this kind."""
    if isinstance(value, Console):
        return "console_exporter"
    return {"grpc": "otlp_grpc_exporter", "http/json": "otlp_http_json_exporter"}.get(
        value.protocol or "", "otlp_http_exporter"
    )


def _connector(value: Otlp | Console, clock: Clock) -> Any:
    def connect() -> Sender:
        return transport.connect(value, clock)

    return connect


def _itself(sender: Any) -> Any:
    def connect() -> Sender:
        made: Sender = sender
        return made

    return connect


def checked(values: Iterable[BackendValue]) -> list[BackendValue]:
    """What was given as backends, each of it a possible one.

    Raises:
        SettingError: Something that was given cannot be a backend.
    """
    if not isinstance(values, Iterable) or isinstance(values, (str, bytes)):
        raise _NoBackend(f"backends={values!r}: must be a list, such as [Otlp(…)]")
    given = list(values)
    for one in given:
        if isinstance(one, (Otlp, Console, Jsonl)):
            continue
        if callable(getattr(one, "send", None)) and callable(getattr(one, "close", None)):
            continue
        raise _NoBackend(
            f"backends: {one!r} is no backend; give Otlp(…), Console(…), Jsonl(…) or an object "
            "with send(signal, chunks, deadline) and close()"
        )
    return given


class _NoBackend(SettingError, TypeError):
    """An object was given as a backend that cannot be one."""
