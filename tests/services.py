"""Real services for tests: a Collector, Jaeger, Rotel or any other program on free loopback ports.

It owns starting by argument list, waiting until the service answers, its log in the test's folder,
and stopping it by its process id. It does not install anything (.ci/tools.py does) and knows
nothing of what is sent.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, TypeVar

from typing_extensions import Self

__all__ = [
    "COMPONENTS",
    "CONFIG",
    "WITHIN",
    "Collector",
    "Component",
    "Jaeger",
    "Prometheus",
    "Rotel",
    "Service",
    "ServiceError",
    "collector",
    "component",
    "excused",
    "free_ports",
    "jaeger",
    "prometheus",
    "request",
    "rotel",
    "start",
    "tool_path",
    "until",
]

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "collector-config"
POLL = 0.02
# A deadline says when to give up, not how long something takes: a busy machine takes many times
# what an idle one does.
WITHIN = 60.0
STOP_WITHIN = 5.0

Value = TypeVar("Value")
Config = Path | Mapping[str, Any]


class ServiceError(RuntimeError):
    """A service did not come up; the text ends with the last lines of its log."""


def _tools() -> ModuleType:
    name = "otel_empathy_ci_tools"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, ROOT / ".ci" / "tools.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


@functools.cache  # a test may change HOME, in which the cache of the tools is
def tool_path(name: str) -> Path | None:
    """Where the executable of a tool is, or None; starts no process.

    Raises:
        KeyError: No tool has this name.
    """
    tools = _tools()
    if name not in tools.TOOLS:
        raise KeyError(f"no tool {name!r}; tools are {', '.join(tools.TOOLS)}")
    found: Path | None = tools.tool_path(name)
    return found


def excused() -> dict[str, str]:
    """The tools that may be missing, each with its reason."""
    reasons: dict[str, str] = _tools().excused()
    return reasons


@dataclass(frozen=True)
class Component:
    """A real part that tests talk to.

    Args:
        name: What the marker `tool` or `component` calls it.
        title: What people call it.
        ci: R where every run needs it, P where it runs when present.
    """

    name: str
    title: str
    ci: str

    @property
    def version(self) -> str:
        """The version that `make tools` or constraints.txt brings."""
        tools = _tools().TOOLS
        if self.name in tools:
            version: str = tools[self.name].version
            return version
        lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        return next(line.split("==")[1] for line in lines if line.startswith(f"{self.name}=="))

    def found(self) -> str:
        """The version that is here: what a package of the system says of itself."""
        path = tool_path(self.name) if self.version == "Debian" else None
        if path is None:
            return self.version
        said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
        match = re.search(r"\d+\.\d+\S*", said.stdout + said.stderr)
        return f"{match[0]} ({self.version})" if match else self.version


COMPONENTS = (
    Component("collector", "OpenTelemetry Collector", "R"),
    Component("collector-contrib", "Collector with contrib's file receiver", "P"),
    Component("jaeger", "Jaeger", "P"),
    Component("rotel", "Rotel", "R"),
    Component("prometheus", "Prometheus", "R"),
    Component("promtool", "promtool", "R"),
    Component("gunicorn", "gunicorn", "R"),
    Component("opentelemetry-sdk", "OpenTelemetry SDK for Python", "R"),
)


def component(name: str) -> Component:
    """The component that a marker names.

    Raises:
        KeyError: None has this name.
    """
    for each in COMPONENTS:
        if each.name == name:
            return each
    raise KeyError(f"no component {name!r}; components are {', '.join(c.name for c in COMPONENTS)}")


def free_ports(count: int) -> list[int]:
    """That many loopback ports that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def until(condition: Callable[[], Value], *, within: float = WITHIN, what: str = "") -> Value:
    """The first true value of the condition, asked again and again until the deadline."""
    pause = threading.Event()
    deadline = time.monotonic() + within
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {within} s: {what or condition}; last value {value!r}")
        pause.wait(POLL)
    return value


def request(
    url: str,
    body: bytes | None = None,
    *,
    content_type: str = "application/json",
    headers: Mapping[str, str] | None = None,
) -> tuple[int, bytes]:
    """Status and body of a GET, or of a POST where a body is given; 4xx and 5xx are answers too."""
    fields = {**({"Content-Type": content_type} if body is not None else {}), **(headers or {})}
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(urllib.request.Request(url, body, fields), timeout=WITHIN) as reply:
            return reply.status, reply.read()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read()


@dataclass
class Service:
    """A running program; leave its `with` block, or call `stop`, to end it."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    environ: Mapping[str, str] = field(repr=False)

    def printed(self) -> str:
        """What it wrote to its standard output and error so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def stop(self, within: float | None = None) -> bool:
        """SIGTERM, then SIGKILL after 5 s or as many as are given; True if the first was enough."""
        self.process.terminate()
        try:
            self.process.wait(STOP_WITHIN if within is None else within)
        except subprocess.TimeoutExpired:
            self.kill()
            return False
        return True

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def _answers(ready: str) -> bool:
    """Whether a URL answers 200, or an address host:port accepts a connection."""
    if "://" in ready:
        try:
            return request(ready)[0] == 200
        except OSError:
            return False
    host, port = ready.rsplit(":", 1)
    try:
        with socket.create_connection((host, int(port)), timeout=1):
            return True
    except OSError:
        return False


def start(
    name: str,
    command: Sequence[str | Path],
    *,
    folder: Path,
    ready: str,
    environ: Mapping[str, str] | None = None,
    within: float = WITHIN,
) -> Service:
    """Starts a program and waits until it is ready.

    Args:
        name: Its log is `<folder>/<name>.log`; a second start appends.
        command: The argument list.
        folder: The test's folder; also its working directory.
        ready: A URL that will answer 200, or an address `host:port` that will accept a connection.
        environ: Variables beside those of the test run.
        within: Seconds until it must be ready.

    Raises:
        ServiceError: It ended, or was not ready in time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"{name}.log"
    given = dict(environ or {})
    with log.open("ab") as file:
        process = subprocess.Popen(
            [str(word) for word in command],
            cwd=folder,
            env={**os.environ, **given},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    service = Service(name, process, log, given)
    try:
        until(lambda: process.poll() is not None or _answers(ready), within=within, what=ready)
    except TimeoutError as late:
        service.stop()
        raise ServiceError(f"{name} was not ready: {late}\n{service.printed()[-4000:]}") from late
    except BaseException:
        service.stop()
        raise
    if process.poll() is not None:
        raise ServiceError(f"{name} ended with {process.returncode}\n{service.printed()[-4000:]}")
    return service


def _on_free_ports(
    count: int, attempt: Callable[[list[int]], Service], *, tries: int = 3
) -> Service:
    """Starts a service; again on other ports where another process took one meanwhile."""
    try:
        return attempt(free_ports(count))
    except ServiceError as error:
        if tries == 1 or "address already in use" not in str(error).lower():
            raise
        return _on_free_ports(count, attempt, tries=tries - 1)


def _tool(name: str) -> Path:
    found = tool_path(name)
    if found is None:
        raise ServiceError(f"missing: {name}; run `make tools`")
    return found


def _file(config: Config, folder: Path, number: int) -> Path:
    """The config as a file; a mapping is written as JSON, which is YAML too."""
    if isinstance(config, Path):
        return config
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"overlay{number}.json"
    file.write_text(json.dumps(config), encoding="utf-8")
    return file


@dataclass
class Collector(Service):
    """A running Collector whose config takes its addresses from the environment."""

    grpc: str = field(init=False)
    http: str = field(init=False)
    health: str = field(init=False)
    prometheus: str = field(init=False)
    data: Path = field(init=False)

    def __post_init__(self) -> None:
        self.grpc = self.environ["OTELCOL_OTLP_GRPC"]
        self.http = f"http://{self.environ['OTELCOL_OTLP_HTTP']}"
        self.health = f"http://{self.environ['OTELCOL_HEALTH']}"
        self.prometheus = f"http://{self.environ['OTELCOL_PROMETHEUS']}/metrics"
        self.data = Path(self.environ["OTELCOL_DATA"])

    def lines(self, signal: str) -> list[dict[str, Any]]:
        """What the file exporter of that signal has written whole, one request a line."""
        return _lines(self.data / f"{signal}.jsonl")


def _lines(file: Path) -> list[dict[str, Any]]:
    if not file.exists():
        return []
    whole = file.read_bytes().rpartition(b"\n")[0]
    return [json.loads(line) for line in whole.splitlines()]


def collector(
    config: Config | Sequence[Config],
    *,
    folder: Path,
    environ: Mapping[str, str] | None = None,
    tool: str = "collector",
    within: float = WITHIN,
) -> Collector:
    """A running Collector.

    Args:
        config: A file (`CONFIG / "local.yaml"`), a mapping, or several that are merged in this
            order. It has a `health_check` extension at `${env:OTELCOL_HEALTH}`;
            `OTELCOL_OTLP_GRPC`, `OTELCOL_OTLP_HTTP` and `OTELCOL_PROMETHEUS` are free addresses,
            `OTELCOL_DATA` is `<folder>/data`.
        folder: The test's folder; overlays, log and data go there. A second start in it goes on
            with its data.
        environ: More variables, or other values for these.
        tool: Which Collector.
        within: Seconds until it must be ready.
    """
    configs = [config] if isinstance(config, Path | Mapping) else list(config)
    files = [_file(each, folder, number) for number, each in enumerate(configs)]
    command: list[str | Path] = [_tool(tool)]
    for file in files:
        command += ["--config", file]

    def attempt(ports: list[int]) -> Service:
        grpc, http, health, metrics = (f"127.0.0.1:{port}" for port in ports)
        variables = {
            "OTELCOL_OTLP_GRPC": grpc,
            "OTELCOL_OTLP_HTTP": http,
            "OTELCOL_HEALTH": health,
            "OTELCOL_PROMETHEUS": metrics,
            "OTELCOL_DATA": str(folder / "data"),
            **(environ or {}),
        }
        ready = f"http://{variables['OTELCOL_HEALTH']}/"
        return start(
            "collector", command, folder=folder, ready=ready, environ=variables, within=within
        )

    service = _on_free_ports(4, attempt)
    return Collector(service.name, service.process, service.log, service.environ)


@dataclass
class Jaeger(Service):
    """A running Jaeger with the addresses of its doors."""

    grpc: str = field(init=False)
    http: str = field(init=False)
    query: str = field(init=False)

    def __post_init__(self) -> None:
        self.grpc = self.environ["JAEGER_OTLP_GRPC"]
        self.http = f"http://{self.environ['JAEGER_OTLP_HTTP']}"
        self.query = f"http://{self.environ['JAEGER_QUERY_HTTP']}"

    def get(self, path: str) -> Any:
        """The parsed answer of its query API, or None where it is not 200."""
        status, body = request(f"{self.query}{path}")
        return json.loads(body) if status == 200 else None

    def services(self) -> list[str]:
        """The names of the services that sent something."""
        return self.get("/api/services")["data"] or []

    def spans(self, trace_id: str) -> list[dict[str, Any]]:
        """The spans of one trace in OTLP-JSON, each with its `resource` and `scope`."""
        found = self.get(f"/api/v3/traces/{trace_id}")
        return [] if found is None else list(_spans(found["result"]))


def _spans(request_body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for outer in request_body["resourceSpans"]:
        for inner in outer["scopeSpans"]:
            for span in inner["spans"]:
                yield {**span, "resource": outer["resource"], "scope": inner.get("scope", {})}


def jaeger(
    *,
    folder: Path,
    config: Config | Sequence[Config] = CONFIG / "jaeger.yaml",
    environ: Mapping[str, str] | None = None,
    within: float = WITHIN,
) -> Jaeger:
    """A running Jaeger; its config takes the addresses from the environment as jaeger.yaml does."""
    configs = [config] if isinstance(config, Path | Mapping) else list(config)
    command: list[str | Path] = [_tool("jaeger")]
    for number, each in enumerate(configs):
        command += ["--config", _file(each, folder, number)]

    def attempt(ports: list[int]) -> Service:
        names = ("OTLP_GRPC", "OTLP_HTTP", "QUERY_HTTP", "QUERY_GRPC", "HEALTH")
        variables = {
            f"JAEGER_{name}": f"127.0.0.1:{port}" for name, port in zip(names, ports, strict=True)
        }
        variables |= environ or {}
        ready = f"http://{variables['JAEGER_HEALTH']}/status"
        return start(
            "jaeger", command, folder=folder, ready=ready, environ=variables, within=within
        )

    service = _on_free_ports(5, attempt)
    return Jaeger(service.name, service.process, service.log, service.environ)


@dataclass
class Rotel(Service):
    """A running Rotel, the strict reader of OTLP/JSON."""

    grpc: str = field(init=False)
    http: str = field(init=False)

    def __post_init__(self) -> None:
        self.grpc = self.environ["ROTEL_OTLP_GRPC_ENDPOINT"]
        self.http = f"http://{self.environ['ROTEL_OTLP_HTTP_ENDPOINT']}"

    def judge(self, signal: str, line: bytes) -> int:
        """The status that Rotel gives to one OTLP-JSON line of `traces`, `metrics` or `logs`."""
        return request(f"{self.http}/v1/{signal}", line)[0]


def rotel(*, folder: Path, within: float = WITHIN) -> Rotel:
    """A running Rotel that throws away what it accepts."""
    command: list[str | Path] = [
        _tool("rotel"), "start", "--pid-file", folder / "rotel.pid",
        "--exporter", "blackhole", "--debug-log", "traces", "--debug-log-verbosity", "detailed",
    ]  # fmt: skip

    def attempt(ports: list[int]) -> Service:
        variables = {
            "ROTEL_OTLP_GRPC_ENDPOINT": f"127.0.0.1:{ports[0]}",
            "ROTEL_OTLP_HTTP_ENDPOINT": f"127.0.0.1:{ports[1]}",
        }
        ready = variables["ROTEL_OTLP_HTTP_ENDPOINT"]
        return start("rotel", command, folder=folder, ready=ready, environ=variables, within=within)

    service = _on_free_ports(2, attempt)
    return Rotel(service.name, service.process, service.log, service.environ)


@dataclass
class Prometheus(Service):
    """A running Prometheus."""

    url: str = field(init=False)

    def __post_init__(self) -> None:
        self.url = f"http://{self.environ['PROMETHEUS']}"

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The result vector of an instant query."""
        status, body = request(f"{self.url}/api/v1/query?query={urllib.parse.quote(expression)}")
        assert status == 200, body
        result: list[dict[str, Any]] = json.loads(body)["data"]["result"]
        return result


def prometheus(config: Path, *, folder: Path, within: float = WITHIN) -> Prometheus:
    """A running Prometheus with that configuration file."""

    def attempt(ports: list[int]) -> Service:
        address = f"127.0.0.1:{ports[0]}"
        command: list[str | Path] = [
            _tool("prometheus"), f"--config.file={config}", f"--web.listen-address={address}",
            f"--storage.tsdb.path={folder / 'tsdb'}",
        ]  # fmt: skip
        environ = {"PROMETHEUS": address}
        ready = f"http://{address}/-/ready"
        return start(
            "prometheus", command, folder=folder, ready=ready, environ=environ, within=within
        )

    service = _on_free_ports(1, attempt)
    return Prometheus(service.name, service.process, service.log, service.environ)
