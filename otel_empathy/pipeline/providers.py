"""The SDK's providers: the application's own where it has set them, else ours, made once.

An application's provider gets our processors and our reader added and is never replaced, changed
or shut down. Ours are made by the first `configure()` of a process and stay, because tracers that
were handed out must keep working; what changes is the sink behind them.
"""

from __future__ import annotations

import logging
import platform
import socket
import sys
import threading
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from opentelemetry import _logs, metrics, trace
from opentelemetry.context import Context
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult

from otel_empathy._version import __version__
from otel_empathy.core import semconv
from otel_empathy.pipeline.processor import (
    DROPPED,
    LogProcessor,
    LogReader,
    Sink,
    TraceProcessor,
)

__all__ = ["Providers", "base_resource"]

_LOGGER = logging.getLogger("otel_empathy")


def base_resource(service: str | None) -> Resource:
    """What is known of this process and its service before anybody adds to it."""
    attributes: dict[str, Any] = {
        semconv.DISTRO_NAME: "otel-empathy",
        semconv.DISTRO_VERSION: __version__,
        semconv.ROLE: "app",
        semconv.HOST_NAME: socket.gethostname(),
        semconv.OS_TYPE: sys.platform,
        semconv.PROCESS_EXECUTABLE_NAME: Path(sys.executable).name,
        semconv.PROCESS_RUNTIME_NAME: sys.implementation.name,
        semconv.PROCESS_RUNTIME_VERSION: platform.python_version(),
    }
    machine = _machine_id()
    if machine:
        attributes[semconv.HOST_ID] = machine
    if service:
        attributes[semconv.SERVICE_NAME] = service
    found = Resource.create(attributes)
    if service and found.attributes.get(semconv.SERVICE_NAME) != service:
        return found.merge(Resource({semconv.SERVICE_NAME: service}))
    return found


def _machine_id() -> str | None:
    """The id of this machine, where the system has one."""
    for path in (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id")):
        try:
            text = path.read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            continue
        if text:
            return text
    return None


class _Counting(Sampler):
    """The sampler that was asked for; what it drops is counted, since no processor sees it."""

    def __init__(self, asked: Sampler) -> None:
        self.asked = asked
        self.sink: Sink | None = None

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        *others: Any,
        **named: Any,
    ) -> SamplingResult:
        """Decide as the sampler does."""
        result = self.asked.should_sample(parent_context, trace_id, name, *others, **named)
        if result.decision is Decision.DROP and self.sink is not None:
            parent = trace.get_current_span(parent_context).get_span_context()
            self.sink.spans.start(parent if parent.is_valid else None, DROPPED)
        return result

    def get_description(self) -> str:
        """Describe the sampler that was asked for."""
        return self.asked.get_description()


class _Meters(MeterProvider):
    """A meter provider that tells when somebody first asks for a meter."""

    on_use: Callable[[], None] | None = None

    def get_meter(
        self,
        name: str,
        version: str | None = None,
        schema_url: str | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> metrics.Meter:
        """A meter, as the SDK makes it."""
        if self.on_use is not None:
            self.on_use()
        return super().get_meter(name, version, schema_url, attributes)


class Providers:
    """The three providers that a runtime emits through.

    Args:
        service: Name of the service for providers of ours.
        sink: Where finished records go.
        interval: Seconds between two collections of metrics.
        flush: Ships what is in the log.
        resource: Resource for providers of ours instead of the detected one.
    """

    _made: Providers | None = None

    def __init__(
        self, *, service: str | None, sink: Sink, interval: float, flush: Callable[[float], bool]
    ) -> None:
        self.sink = sink
        self._interval = interval
        self._flush = flush
        self.processor = TraceProcessor(sink, flush)
        self.log_processor = LogProcessor(sink, flush)
        self.reader = LogReader(sink, interval, flush)
        self.resource = base_resource(service)
        self.tracers, self.owns_tracers = self._trace_provider()
        self.meters, self.owns_meters = self._meter_provider()
        self.loggers, self.owns_loggers = self._logger_provider()

    def _trace_provider(self) -> tuple[Any, bool]:
        found = trace.get_tracer_provider()
        if not isinstance(found, trace.ProxyTracerProvider):
            if hasattr(found, "add_span_processor"):
                found.add_span_processor(self.processor)
                if isinstance(sampler := getattr(found, "sampler", None), _Counting):
                    sampler.sink = self.sink
                return found, found is _ours.get("traces")
            _cannot_join("tracer", found)
        made = TracerProvider(resource=self.resource, shutdown_on_exit=False)
        made.add_span_processor(self.processor)
        made.sampler = _Counting(made.sampler)
        made.sampler.sink = self.sink
        if isinstance(found, trace.ProxyTracerProvider):
            trace.set_tracer_provider(made)
            _ours["traces"] = made
        return made, True

    def _meter_provider(self) -> tuple[Any, bool]:
        found = metrics.get_meter_provider()
        if not _is_proxy(found):
            if hasattr(found, "add_metric_reader"):
                found.add_metric_reader(self.reader)
                if isinstance(found, _Meters):
                    found.on_use = self.reader.begin
                return found, found is _ours.get("metrics")
            _cannot_join("meter", found)
        made = _Meters(metric_readers=[self.reader], resource=self.resource, shutdown_on_exit=False)
        made.on_use = self.reader.begin
        if _is_proxy(found):
            metrics.set_meter_provider(made)
            _ours["metrics"] = made
        return made, True

    def _logger_provider(self) -> tuple[Any, bool]:
        found = _logs.get_logger_provider()
        if not _is_proxy(found):
            if hasattr(found, "add_log_record_processor"):
                found.add_log_record_processor(self.log_processor)
                return found, found is _ours.get("logs")
            _cannot_join("logger", found)
        made = LoggerProvider(resource=self.resource, shutdown_on_exit=False)
        made.add_log_record_processor(self.log_processor)
        if _is_proxy(found):
            _logs.set_logger_provider(made)
            _ours["logs"] = made
        return made, True

    def meter(self, name: str, version: str, schema: str) -> metrics.Meter:
        """A meter for ourselves, which does not count as use."""
        if isinstance(self.meters, _Meters):
            return MeterProvider.get_meter(self.meters, name, version, schema)
        found: metrics.Meter = self.meters.get_meter(name, version, schema)
        return found

    def renew(self) -> None:
        """Begin metrics anew in a child: a parent's sums and held locks are none of the child's.

        The SDK keeps both in the storage of each reader, so ours gets a new one.
        """
        consumer = getattr(self.meters, "_measurement_consumer", None)
        if consumer is not None and hasattr(consumer, "_lock"):
            consumer._lock = threading.Lock()  # noqa: SLF001 - the SDK does not renew it after fork
        for meter in tuple(getattr(self.meters, "_meters", {}).values()):
            if hasattr(meter, "_instrument_registration_lock"):
                meter._instrument_registration_lock = threading.Lock()  # noqa: SLF001 - likewise
        old = self.reader
        self.reader = LogReader(self.sink, self._interval, self._flush)
        self.reader.more, self.reader.collected = old.more, old.collected
        old.end()
        if hasattr(self.meters, "add_metric_reader"):
            _forget(self.meters, old)
            self.meters.add_metric_reader(self.reader)
        if isinstance(self.meters, _Meters):
            self.meters.on_use = self.reader.begin

    def leave(self) -> None:
        """Take our parts out of the providers, which stay."""
        self.reader.end()
        if isinstance(sampler := getattr(self.tracers, "sampler", None), _Counting):
            sampler.sink = None
        if isinstance(self.meters, _Meters):
            self.meters.on_use = None
        # While a callback of the application hangs, the SDK holds the lock that removing takes.
        if hasattr(self.meters, "remove_metric_reader") and not self.reader.stuck:
            _forget(self.meters, self.reader)
        active = getattr(self.tracers, "_active_span_processor", None)
        _remove(active, "_span_processors", self.processor)
        several = getattr(self.loggers, "_multi_log_record_processor", None)
        _remove(several, "_log_record_processors", self.log_processor)


# Providers of ours that became the global ones: a later configure() joins them again.
_ours: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()


def _is_proxy(provider: object) -> bool:
    """Whether nobody has set a provider yet; the API has no public type for that."""
    return type(provider).__name__ in {"_ProxyMeterProvider", "ProxyLoggerProvider"}


def _cannot_join(kind: str, provider: object) -> None:
    _LOGGER.warning(
        "the application's %s provider %s takes no processor of ours; "
        "its own telemetry is not in the log, ours is",
        kind, type(provider).__qualname__,
    )  # fmt: skip


def _forget(provider: Any, reader: LogReader) -> None:
    try:
        provider.remove_metric_reader(reader)
    except (KeyError, AttributeError) as error:
        _LOGGER.debug("reader was not registered: %s", error)


def _remove(owner: Any, attribute: str, processor: object) -> None:
    """Take a processor off a provider; the SDK can only add, and keeps them in a tuple."""
    held = getattr(owner, attribute, None)
    if isinstance(held, tuple):
        setattr(owner, attribute, tuple(one for one in held if one is not processor))
