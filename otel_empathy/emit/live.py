"""What is switched on: the one object that `configure()` fills and every source asks first.

It holds references and decides nothing. While `on` is False no source does more than that test.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from opentelemetry.metrics import Meter, NoOpMeter
from opentelemetry.trace import NoOpTracer, Tracer

from otel_empathy.core.clock import SYSTEM, Clock
from otel_empathy.core.settings import Capture
from otel_empathy.emit import collector
from otel_empathy.emit.safety import guarded

if TYPE_CHECKING:
    from otel_empathy.core.prices import Prices

__all__ = ["Live", "live"]


def _unchanged(text: str) -> str:
    return text


class Live:
    """Where telemetry goes right now.

    Args:
        on: Whether anything is recorded at all.
        tracer: Makes the spans.
        meter: Makes the instruments.
        logger: Takes the events; None drops them.
        capture: Where the content of messages may go.
        emit_event: Whether each call also emits its details as an event.
        stacktraces: Whether what failed also tells its stack trace.
        profile: Which names the GenAI metrics have: `default`, `latest` or `both`.
        cost_names: Whose names the cost attributes have: `empathy` or `gen_ai`.
        propagate: Whether context also travels as W3C baggage.
        prices: What calls cost; None leaves costs out.
        hash_user: Makes the keyed hash of a user; None leaves users out.
        user: The user where none is named.
        scrub: Masks secrets in text.
        scrub_value: Masks secrets anywhere in nested data, by what they look like and by their key.
        clock: Where times come from.
    """

    __slots__ = (
        "capture", "clock", "cost_names", "emit_event", "hash_user", "logger", "meter", "on",
        "prices", "profile", "propagate", "scrub", "scrub_value", "stacktraces", "tracer", "user",
        "user_hash",
    )  # fmt: skip

    on: bool
    tracer: Tracer
    meter: Meter
    logger: Any  # a Logger; only emit.events imports the logs API
    capture: Capture
    emit_event: bool
    stacktraces: bool
    profile: str
    cost_names: str
    propagate: bool
    prices: Prices | None
    hash_user: Callable[[str], str] | None
    user: str | None
    user_hash: str | None
    scrub: Callable[[str], str]
    scrub_value: Callable[[Any], Any]
    clock: Clock

    def __init__(self) -> None:
        self.remove()

    def install(self, **fields: Any) -> None:
        """Set what is given, then switch on.

        Raises:
            TypeError: There is no such field.
        """
        unknown = fields.keys() - set(self.__slots__) | fields.keys() & {"on", "user_hash"}
        if unknown:
            raise TypeError(f"live has no field {', '.join(sorted(unknown))}")
        for name, value in fields.items():
            setattr(self, name, value)
        self.user_hash = None
        if self.user is not None and self.hash_user is not None:
            with guarded("callback"):  # the secret may be in a file that cannot be read
                self.user_hash = self.hash_user(self.user)
        collector.watch()
        self.on = True

    def remove(self) -> None:
        """Switch off, and keep nothing."""
        self.on = False
        self.tracer = NoOpTracer()
        self.meter = NoOpMeter("otel_empathy")
        self.logger = None
        self.capture = Capture.NO_CONTENT
        self.emit_event = False
        self.stacktraces = False
        self.profile = "default"
        self.cost_names = "empathy"
        self.propagate = False
        self.prices = None
        self.hash_user = None
        self.user = None
        self.user_hash = None
        self.scrub = _unchanged
        self.scrub_value = _unchanged
        self.clock = SYSTEM


live = Live()
