"""Backends as the standard variables describe them: OTLP's own, the exporters', the proxies'.

An argument wins over a variable, a variable over the default. A variable that cannot be understood
is the environment's fault and not the program's: it warns and counts as unset. The environment is
an argument here, a mapping that `core.settings` holds.

Which values may be used is known to `Otlp`; this module asks it. Times are seconds, as in the
Python SDK and against the specification's milliseconds; a thousand or more can only be the latter.
"""

from __future__ import annotations

import ipaddress
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, cast
from urllib.parse import unquote, urlsplit

from otel_empathy.core.errors import SettingError
from otel_empathy.pipeline.otlp import (
    COMPRESSIONS,
    DEFAULT_ENDPOINT,
    PROTOCOLS,
    SIGNAL_NAMES,
    TEMPORALITIES,
    Console,
    Otlp,
    Protocol,
    origin,
    proxy_address,
)

__all__ = ["console_from_environment", "from_environment", "resolve"]

_TIMEOUT: Final = 10.0
_MILLISECONDS_FROM: Final = 1000.0
# The names by which `OTEL_*_EXPORTER` asks for OTLP, and the protocol that they imply.
_OTLP: Final[Mapping[str, Protocol | None]] = {
    "otlp": None,
    "otlp_proto_grpc": "grpc",
    "otlp_proto_http": "http/protobuf",
}
_OTHERS: Final = ("console", "empathy_jsonl", "none")  # the log is no backend, it is always there


def from_environment(environ: Mapping[str, str]) -> list[Otlp]:
    """The OTLP backends that the standard variables ask for, none when they ask for none.

    A signal goes to OTLP when `OTEL_<SIGNAL>_EXPORTER` says `otlp`, or says nothing while an
    endpoint is set. Signals that go to one place in one way share a backend.
    """
    variables = _Variables(environ)
    groups: dict[Otlp, Otlp] = {}
    for signal in SIGNAL_NAMES:
        for exporter in variables.exporters(signal):
            if exporter not in _OTLP:
                continue
            said = variables.settings((signal,))
            if "urls" in said:
                said.pop("endpoint", None)
            said["protocol"] = _OTLP[exporter] or said.get("protocol")
            try:
                one = _resolved(Otlp(signals=(signal,), **said), variables)
            except SettingError as error:  # each may be right, and not beside the other
                variables.warn(f"OTEL_{signal.upper()}_EXPORTER", f"{error}; it is left out")
                continue
            likeness = replace(one, endpoint=_root(one), signals=(), urls=None)
            groups[likeness] = _together(groups[likeness], one) if likeness in groups else one
    backends: list[Otlp] = []
    taken: set[str | None] = set()
    for backend in groups.values():
        longer = "-".join((str(backend.name), *backend.signals))
        backends.append(replace(backend, name=longer) if backend.name in taken else backend)
        taken.add(backend.name)
    return backends


def console_from_environment(environ: Mapping[str, str]) -> Console | None:
    """The console that `OTEL_<SIGNAL>_EXPORTER=console` asks for."""
    signals = [s for s in SIGNAL_NAMES if "console" in _listed(environ, s)]
    return Console(signals=signals) if signals else None


def resolve(otlp: Otlp, environ: Mapping[str, str]) -> Otlp:
    """The same backend with everything said: from the environment, and then by default.

    The variables describe the backend that they name. Where that is another one, only the proxy
    variables apply, because nobody's credentials may go to somebody else.
    """
    return _resolved(otlp, _Variables(environ))


def _resolved(otlp: Otlp, variables: _Variables) -> Otlp:
    named = [url for url in map(variables.endpoint, (None, *SIGNAL_NAMES)) if url]
    foreign = named and otlp.endpoint and origin(otlp.endpoint) not in map(origin, named)
    said = {} if foreign else variables.settings(otlp.signals)
    if otlp.endpoint or otlp.urls:
        said.pop("urls", None)
    if otlp.urls and set(otlp.signals) <= set(otlp.urls):
        said.pop("endpoint", None)
    if otlp.client_certificate:
        said.pop("client_key", None)
    filled = {key: value for key, value in said.items() if getattr(otlp, key) is None}
    full = replace(otlp, **filled)
    full = replace(
        full,
        protocol=full.protocol or "http/protobuf",
        timeout=full.timeout or _TIMEOUT,
        compression=full.compression or "none",
        temporality=full.temporality or "cumulative",
    )
    address = full.url(full.signals[0])
    if full.endpoint is None:
        complete = full.urls and set(full.signals) <= set(full.urls)
        full = replace(
            full,
            endpoint=_root(full) if complete else DEFAULT_ENDPOINT[full.protocol or "grpc"],
            signals=full.signals,
        )
    return replace(
        full,
        name=full.name or _name(address),
        proxy=_proxy_for(address, variables) if full.proxy is None else full.proxy,
    )


def _root(one: Otlp) -> str:
    parts = urlsplit(one.url(one.signals[0]))
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else parts.geturl()


def _together(one: Otlp, other: Otlp) -> Otlp:
    """Two backends at one place as one; the endpoint is that of the one which relies on it."""
    return replace(
        one,
        endpoint=one.endpoint if other.urls else other.endpoint,
        signals=(*one.signals, *other.signals),
        urls={**(one.urls or {}), **(other.urls or {})} or None,
    )


def _name(url: str) -> str:
    """Scheme-host-port, in the letters that a file may be called by."""
    scheme, host, port = origin(url)
    words = (scheme, re.sub(r"[^A-Za-z0-9._]+", "-", host).strip("-") or "any", str(port or ""))
    return "-".join(word for word in words if word)[:100]


def _listed(environ: Mapping[str, str], signal: str) -> list[str]:
    text = environ.get(f"OTEL_{signal.upper()}_EXPORTER", "")
    return list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


class _Variables:
    """The variables of the OTLP exporter; one that is set for a signal wins over the general."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self._said: set[str] = set()

    def warn(self, variable: str, fault: str) -> None:
        """Says once what is wrong with a variable."""
        text = f"{variable}: {fault}"
        if text not in self._said:
            self._said.add(text)
            warnings.warn(text, RuntimeWarning, stacklevel=2)

    def exporters(self, signal: str) -> Iterator[str]:
        """The exporters asked for, each once; `otlp` also when there is only an endpoint."""
        listed = _listed(self.environ, signal)
        if not listed and (self.endpoint(signal) or self.endpoint(None)):
            yield "otlp"
        for name in listed:
            if name in _OTLP or name in _OTHERS:
                yield name
            else:
                known = ", ".join((*_OTLP, *_OTHERS))
                self.warn(
                    f"OTEL_{signal.upper()}_EXPORTER",
                    f"{name!r} is none of {known}, and is left out",
                )

    def endpoint(self, signal: str | None) -> str | None:
        """The address that is set for a signal, or the one that is set for all."""
        prefix = f"{signal.upper()}_" if signal else ""
        variables = [f"OTEL_EXPORTER_OTLP_{prefix}ENDPOINT"]
        if signal is None:
            variables.append("EMPATHY_OTEL_ENDPOINT")
        for variable in variables:
            if text := self.environ.get(variable, "").strip():
                # gRPC also takes host:port, and then the variable INSECURE decides.
                bare = "://" not in text and not text.startswith("unix:")
                if bare and self._protocol(signal) == "grpc":
                    _, insecure = self._read("INSECURE", signal)
                    text = f"{'http' if insecure.lower() == 'true' else 'https'}://{text}"
                said = {"endpoint": text, "protocol": self._protocol(signal)}
                return text if self._tried(variable, **said) else None
        return None

    def settings(self, signals: Sequence[str]) -> dict[str, Any]:
        """What is said, as arguments of `Otlp`; variables of one signal speak for it alone."""
        only = signals[0] if len(signals) == 1 else None
        said: dict[str, Any] = {
            "endpoint": self.endpoint(None),
            "urls": {signal: url for signal in signals if (url := self.endpoint(signal))} or None,
            "protocol": self._protocol(only),
            "compression": self._choice("COMPRESSION", only, COMPRESSIONS),
            "temporality": self._choice("METRICS_TEMPORALITY_PREFERENCE", None, TEMPORALITIES),
            "timeout": self._timeout(only),
            "headers": self._headers(only),
        }
        for name in ("certificate", "client_certificate", "client_key"):
            variable, path = self._read(name.upper(), only)
            if not path:
                continue
            if name == "client_key" and "client_certificate" not in said:
                self.warn(variable, "a key without its certificate is of no use, and is left out")
            elif self._tried(variable, certificate=path):
                said[name] = path
        for name in ("HTTP", "GRPC"):
            variable = f"OTEL_PYTHON_EXPORTER_OTLP_{name}_CREDENTIAL_PROVIDER"
            if self.environ.get(variable):
                self.warn(variable, "is not supported; use headers or certificates")
        return {key: value for key, value in said.items() if value is not None}

    def _read(self, name: str, signal: str | None) -> tuple[str, str]:
        """The variable that decides and its text, which is empty when nobody said anything."""
        general = f"OTEL_EXPORTER_OTLP_{name}"
        special = f"OTEL_EXPORTER_OTLP_{signal.upper()}_{name}" if signal else general
        for variable in (special, general):
            if text := self.environ.get(variable, "").strip():
                return variable, text
        return general, ""

    def _tried(self, variable: str, **argument: Any) -> bool:
        """Whether `Otlp` takes a value; if not, that was said."""
        try:
            Otlp(**argument)
        except SettingError as error:
            self.warn(variable, f"{error}; it counts as unset")
            return False
        return True

    def _protocol(self, signal: str | None) -> Protocol | None:
        return cast("Protocol | None", self._choice("PROTOCOL", signal, PROTOCOLS))

    def _choice(self, name: str, signal: str | None, choices: Sequence[str]) -> str | None:
        variable, text = self._read(name, signal)
        if not text or text.lower() in choices:
            return text.lower() or None
        self.warn(variable, f"{text!r} is none of {', '.join(choices)}; the default applies")
        return None

    def _timeout(self, signal: str | None) -> float | None:
        variable, text = self._read("TIMEOUT", signal)
        if not text:
            return None
        try:
            seconds = float(text)
        except ValueError:
            seconds = 0.0
        if seconds >= _MILLISECONDS_FROM:
            seconds /= 1000
        return seconds if self._tried(variable, timeout=seconds) else None

    def _headers(self, signal: str | None) -> dict[str, str] | None:
        """`name=value` between commas, URL-encoded; a value with blanks is taken as it stands."""
        variable, text = self._read("HEADERS", signal)
        headers: dict[str, str] = {}
        for number, pair in enumerate(text.split(","), 1):
            name, equals, value = (part.strip() for part in pair.partition("="))
            if not pair.strip():
                continue
            value = value if " " in value else unquote(value)
            try:
                one = Otlp(headers={unquote(name) if equals else "": value})
            except SettingError:
                # The text may hold a secret, so the warning names only its place.
                self.warn(variable, f"pair {number} is not name=value in ASCII, and is left out")
            else:
                headers.update(one.headers or {})
        return headers or None


# -- proxies --------------------------------------------------------------------------------------
def _proxy_for(url: str, variables: _Variables) -> str:
    """The proxy that the environment wants on the way to an address, or an empty text.

    What stays on this machine goes through none, since no proxy can reach it.
    """
    scheme, host, port = origin(url)
    _, exceptions = _proxy_variable(variables.environ, "no_proxy")
    if not port or _is_local(host) or _is_excepted(host, port, exceptions):
        return ""
    for name in (f"{scheme}_proxy", "all_proxy"):
        variable, text = _proxy_variable(variables.environ, name)
        if text:
            try:
                return proxy_address(variable, text)
            except SettingError as error:
                variables.warn(variable, f"{error}; it counts as unset")
    return ""


def _proxy_variable(environ: Mapping[str, str], name: str) -> tuple[str, str]:
    for variable in (name, name.upper()):
        # Under CGI the upper-case variable holds a header that the sender of a request chose.
        if variable == "HTTP_PROXY" and "REQUEST_METHOD" in environ:
            continue
        if text := environ.get(variable, "").strip():
            return variable, text
    return name, ""


def _is_local(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_excepted(host: str, port: int, exceptions: str) -> bool:
    """Whether `NO_PROXY` names a host: itself, a domain above it, its network, or everything."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    for entry in exceptions.lower().replace(",", " ").split():
        name = entry.removesuffix(f":{port}")
        if name == "*":
            return True
        if address is not None:
            try:
                if address in ipaddress.ip_network(name.strip("[]"), strict=False):
                    return True
            except ValueError:  # a name, which no address can be in
                continue
        domain = name.removeprefix("*").removeprefix(".")
        if domain and (host == domain or host.endswith(f".{domain}")):
            return True
    return False
