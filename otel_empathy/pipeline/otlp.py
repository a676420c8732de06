"""A backend as its user states it: the values `Otlp` and `Console`.

A value is checked when it is made, so that a mistake is answered where it stands. What is left open
here, `pipeline.environment` fills in; nothing here opens a connection or knows the environment.
"""

from __future__ import annotations

import math
import os
import re
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Final, Literal
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from otel_empathy.core.errors import SettingError
from otel_empathy.pipeline.chunk import SIGNALS

__all__ = [
    "COMPRESSIONS",
    "DEFAULT_ENDPOINT",
    "PROTOCOLS",
    "SIGNAL_NAMES",
    "TEMPORALITIES",
    "Console",
    "Otlp",
    "Protocol",
    "backend_name",
    "basic",
    "masked",
    "origin",
    "proxy_address",
]

Protocol = Literal["http/protobuf", "http/json", "grpc"]
Compression = Literal["none", "gzip"]
Temporality = Literal["cumulative", "delta", "lowmemory"]

SIGNAL_NAMES: Final = tuple(SIGNALS)
PROTOCOLS: Final = ("http/protobuf", "http/json", "grpc")
COMPRESSIONS: Final = ("none", "gzip")
TEMPORALITIES: Final = ("cumulative", "delta", "lowmemory")
DEFAULT_ENDPOINT: Final[Mapping[Protocol, str]] = {
    "http/protobuf": "http://localhost:4318",
    "http/json": "http://localhost:4318",
    "grpc": "http://localhost:4317",
}

_STARTS: Final = ("now", "oldest")
_PORTS: Final = {"http": 80, "https": 443}
_SOCKET: Final = "unix"  # gRPC alone also takes the path of a socket: unix:/run/collector.sock
_FRAMING: Final = frozenset({"content-length", "transfer-encoding"})
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_HEADER_VALUE: Final = re.compile(r"[\t\x20-\x7e]*")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, slots=True)
class Otlp:
    """An OTLP backend.

    What is left None is filled from the standard variables, and then with the defaults of the
    official exporters (`http/protobuf` to `http://localhost:4318`, 10 s, no compression).

        configure(backends=[Otlp("http://collector:4318"), Otlp("https://otlp.example.com",
                            headers={"api-key": key}, compression="gzip")])

    Args:
        endpoint: Address of the backend; HTTP adds `/v1/traces`, `/v1/metrics`, `/v1/logs` to it.
            For gRPC it may be a socket of this machine, such as `unix:/run/collector.sock`.
        protocol: `http/protobuf`, `http/json` or `grpc`.
        headers: Sent with every request; shown nowhere.
        name: Names the backend and its cursor; by default scheme-host-port.
        timeout: Seconds for one request from the first byte to the last.
        compression: `gzip` or `none`.
        certificate: File with the certificates to trust instead of the system's.
        client_key: File with the private key of `client_certificate`.
        client_certificate: File with the certificate to show to the backend.
        start: Where a backend that is new to this home begins: `now`, or `oldest` for all there is.
        temporality: What the backend wants of metrics: `cumulative`, `delta` or `lowmemory`.
        signals: The signals that it takes; by default all, or those of `urls` where these are all
            that is said.
        urls: Complete addresses by signal, where they are not the endpoint and the usual path.
        proxy: The HTTP proxy to go through; an empty text goes through none, whatever the
            environment says.

    Raises:
        SettingError: A value that cannot work, said with its rule and what to write instead.
    """

    endpoint: str | None = None
    _: KW_ONLY
    protocol: Protocol | None = None
    headers: Mapping[str, str] | None = field(default=None, hash=False)
    name: str | None = None
    timeout: float | None = None
    compression: Compression | None = None
    certificate: str | os.PathLike[str] | None = None
    client_key: str | os.PathLike[str] | None = None
    client_certificate: str | os.PathLike[str] | None = None
    start: Literal["now", "oldest"] = "now"
    temporality: Temporality | None = None
    signals: Sequence[str] = ()
    urls: Mapping[str, str] | None = field(default=None, hash=False)
    proxy: str | None = None

    def __post_init__(self) -> None:
        _choice("protocol", self.protocol, PROTOCOLS)
        _choice("compression", self.compression, COMPRESSIONS)
        _choice("temporality", self.temporality, TEMPORALITIES)
        _choice("start", self.start, _STARTS)
        if self.urls is not None and not isinstance(self.urls, Mapping):
            raise SettingError(
                f"urls=<{type(self.urls).__name__}>: must be a mapping of signals to addresses, "
                "such as {'traces': 'http://localhost:4318/v1/traces'}"
            )
        alone = tuple(self.urls or ()) if self.endpoint is None else ()
        self._set("signals", _signals(self.signals or alone or SIGNAL_NAMES))
        self._set("timeout", _timeout(self.timeout))
        for files in ("certificate", "client_key", "client_certificate"):
            self._set(files, _file(files, getattr(self, files)))
        if self.client_key is not None and self.client_certificate is None:
            raise SettingError("client_key without client_certificate: give both")
        if self.name is not None:
            backend_name(self.name)
        headers = _headers(self.headers)
        urls: dict[str, str] = {}
        for signal, url in (self.urls or {}).items():
            _choice("urls", signal, self.signals)
            urls[signal] = _without_user(_url(f"urls[{signal!r}]", url), headers)
        if self.endpoint is not None:
            self._set("endpoint", _without_user(_url("endpoint", self.endpoint), headers))
        if self.proxy:
            self._set("proxy", proxy_address("proxy", self.proxy))
        sockets = [
            one for one in (self.endpoint, *urls.values()) if one and origin(one)[0] == _SOCKET
        ]
        if sockets and self.protocol not in {None, "grpc"}:
            raise SettingError(
                f"endpoint={sockets[0]!r}: a socket takes protocol='grpc', not {self.protocol!r}"
            )
        if sockets:
            self._set("protocol", "grpc")
        self._set("headers", headers or None)
        self._set("urls", urls or None)

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        shown = {
            "endpoint": masked(self.endpoint),
            "protocol": self.protocol,
            "headers": dict.fromkeys(self.headers, "***") if self.headers else None,
            "name": self.name,
            "timeout": self.timeout,
            "compression": self.compression,
            "certificate": self.certificate,
            "client_key": self.client_key,
            "client_certificate": self.client_certificate,
            "start": self.start if self.start != "now" else None,
            "temporality": self.temporality,
            "signals": self.signals if self.signals != SIGNAL_NAMES else None,
            "urls": {k: masked(v) for k, v in self.urls.items()} if self.urls else None,
            "proxy": masked(self.proxy),
        }
        said = (f"{key}={value!r}" for key, value in shown.items() if value is not None)
        return f"Otlp({', '.join(said)})"

    def url(self, signal: str) -> str:
        """The address to which a signal goes; for gRPC only scheme, host and port of it count."""
        if self.urls and signal in self.urls:
            return self.urls[signal]
        base = urlsplit(self.endpoint or DEFAULT_ENDPOINT[self.protocol or "http/protobuf"])
        if base.scheme == _SOCKET:
            return base.geturl()
        path = "" if self.protocol == "grpc" else f"{base.path.rstrip('/')}/v1/{signal}"
        return urlunsplit((base.scheme, base.netloc, path, base.query, ""))


@dataclass(frozen=True, slots=True)
class Console:
    """Lines for people on standard error, one per span, log record and metric.

    Args:
        errors_only: Leaves out everything that did not fail.
        name: Names the backend and its cursor.
        signals: The signals that it shows.
        self_health: Also shows the metrics in which we tell of ourselves.

    Raises:
        SettingError: A value that cannot work, said with its rule and what to write instead.
    """

    errors_only: bool = False
    _: KW_ONLY
    name: str = "console"
    signals: Sequence[str] = ()
    self_health: bool = False

    def __post_init__(self) -> None:
        backend_name(self.name)
        for flag in ("errors_only", "self_health"):
            if not isinstance(getattr(self, flag), bool):
                raise SettingError(f"{flag}={getattr(self, flag)!r}: must be True or False")
        object.__setattr__(self, "signals", _signals(self.signals or SIGNAL_NAMES))


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port of an address, the port also where it is left out.

    Of a socket it is the path that stands for the host.
    """
    parts = urlsplit(url)
    if parts.scheme == _SOCKET:
        return parts.scheme, parts.path, 0
    return parts.scheme, parts.hostname or "", parts.port or _PORTS[parts.scheme]


def backend_name(value: object) -> str:
    """The name of a backend, or SettingError."""
    if isinstance(value, str) and _NAME.fullmatch(value):
        return value
    raise SettingError(
        f"name={value!r}: must be letters, digits, dots, dashes and underscores, "
        "since the cursor's folder is called so; write for example 'collector-1'"
    )


# -- rules of single values -----------------------------------------------------------------------
def _choice(name: str, value: object, choices: Sequence[str]) -> None:
    if value is not None and value not in choices:
        raise SettingError(f"{name}={value!r}: must be one of {', '.join(choices)}")


def _signals(value: Iterable[str]) -> tuple[str, ...]:
    if not isinstance(value, Iterable):
        raise SettingError(f"signals={value!r}: must be a list, such as ['traces', 'logs']")
    names = (value,) if isinstance(value, str) else tuple(value)
    for name in names:
        _choice("signals", name, SIGNAL_NAMES)
    return tuple(name for name in SIGNAL_NAMES if name in names)


def _timeout(value: float | None) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise SettingError(f"timeout={value!r}: must be a number of seconds, such as 10")
    if not (value > 0 and math.isfinite(value)):
        raise SettingError(f"timeout={value!r}: must be seconds above 0, such as 10")
    return float(value)


def _file(name: str, value: str | os.PathLike[str] | None) -> str | None:
    if value is None:
        return None
    path = os.path.expanduser(os.fspath(value))  # noqa: PTH111 - kept as text, as ssl wants it
    if not os.path.isfile(path):  # noqa: PTH113
        raise SettingError(f"{name}={path!r}: there is no such file; give the path of a PEM file")
    return path


def _headers(value: Mapping[str, str] | None) -> dict[str, str]:
    headers: dict[str, str] = {}
    if value is not None and not isinstance(value, Mapping):
        raise SettingError(  # the value may be a secret
            f"headers=<{type(value).__name__}>: must be a mapping, such as {{'api-key': key}}"
        )
    for name, text in (value or {}).items():
        if isinstance(name, str) and name.lower() in _FRAMING:
            raise SettingError(f"headers: {name!r} is said by the transport; leave it out")
        if not (isinstance(name, str) and _HEADER_NAME.fullmatch(name)):
            raise SettingError(f"headers: {name!r} cannot be the name of a header")
        if not (isinstance(text, str) and _HEADER_VALUE.fullmatch(text)):
            raise SettingError(
                f"headers[{name!r}]: the value must be a text of printable ASCII characters"
            )
        headers[name.lower()] = text.strip()
    return headers


def _url(name: str, value: str) -> str:
    fix = "write for example http://localhost:4318"
    if not isinstance(value, str):
        raise SettingError(f"{name}={value!r}: must be a text; {fix}")
    text = value.strip()
    try:
        parts = urlsplit(text)
        if parts.scheme == _SOCKET:
            valid = not parts.netloc and bool(parts.path.strip("/"))
        else:
            valid = parts.scheme in _PORTS and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid or not text.isascii() or not text.isprintable() or " " in text:
        raise SettingError(
            f"{name}={masked(text)!r}: must have a scheme (http or https), a host and a "
            f"possible port; {fix}"
        )
    return text


def _without_user(url: str, headers: dict[str, str]) -> str:
    """The address without its user part, which becomes the header that it stands for."""
    parts = urlsplit(url)
    if parts.username is None:
        return url
    headers.setdefault("authorization", basic(parts))
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def basic(parts: SplitResult) -> str:
    """The `Authorization` that the user part of an address stands for."""
    user = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    return "Basic " + b64encode(user.encode()).decode()


def masked(url: str | None) -> str | None:
    """An address without what may be secret in it: the user part and the query."""
    if not url:
        return url
    head, question, _ = url.partition("?")
    scheme, mark, rest = head.rpartition("://")
    user, at, rest = rest.rpartition("@")
    return f"{scheme}{mark}{'***' if user else ''}{at}{rest}{'?***' if question else ''}"


def proxy_address(name: str, value: str) -> str:
    """The address of an HTTP proxy, completed with its scheme, or SettingError."""
    parts = urlsplit(value if "://" in value else f"http://{value}")
    try:
        valid = parts.scheme == "http" and parts.hostname and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise SettingError(
            f"{name}={masked(value)!r}: must be an HTTP proxy; write for example http://proxy:3128"
        )
    return urlunsplit(parts)
