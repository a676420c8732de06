"""What `doctor` looks at: one function per thing, each answers with what it found and the fix.

Looks and touches nothing. A warning is worth knowing; a finding is a defect that somebody should
mend, and makes `doctor` exit with 1.
"""

from __future__ import annotations

import platform
import socket
import sys
import threading
import warnings
from collections.abc import Iterator
from difflib import get_close_matches
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from otel_empathy.cli.check import Check
from otel_empathy.cli.home_examination import examine_home

if TYPE_CHECKING:
    from otel_empathy.core.settings import Settings
    from otel_empathy.store.reader import Progress

__all__ = ["examine", "examine_settings"]

Address = tuple[str, int]

_OLDEST_PYTHON = (3, 10)
_PACKAGES = (
    "opentelemetry-api",
    "opentelemetry-sdk",
    "opentelemetry-exporter-otlp",
    "opentelemetry-instrumentation",
    "orjson",
    "msgspec",
)
_ONE_RELEASE = _PACKAGES[:2]  # these two must be of the same release
_CONNECT = 1.0  # seconds
_PREFIX = "OTEL_EMPATHY_"


def examine(
    settings: Settings,
    complaints: list[str],
    *,
    proc_root: Path = Path("/proc"),
    progress: Progress | None = None,
) -> Iterator[Check]:
    """Every check, in the order in which a person would ask.

    Args:
        settings: What applies here.
        complaints: What is wrong with the environment.
        proc_root: Where to read the mounts from.
        progress: Called with (bytes done, bytes in all) while the log is read.
    """
    yield _python()
    yield from _packages()
    yield from examine_settings(settings, complaints)
    yield from examine_home(
        settings.home,
        secret=settings.secret_file or settings.home / "secret",
        unsafe=settings.unsafe_home,
        proc_root=proc_root,
        progress=progress,
    )
    yield from _backends(settings)
    yield _capture(settings)


def _python() -> Check:
    version = f"{platform.python_version()} ({platform.python_implementation()})"
    if sys.version_info >= _OLDEST_PYTHON:
        return Check("python", "ok", version)
    return Check("python", "finding", version, "use Python 3.10 or newer")


def _packages() -> Iterator[Check]:
    installed = {package: _version(package) for package in _PACKAGES}
    versions = {package: version for package, version in installed.items() if version}
    for package in installed.keys() - versions.keys():
        yield Check("packages", "finding", f"{package} is missing", f"pip install {package}")
    releases = {versions[package] for package in _ONE_RELEASE if package in versions}
    text = ", ".join(f"{name} {version}" for name, version in versions.items())
    if len(releases) > 1:
        yield Check(
            "packages",
            "finding",
            text,
            f"install one release of both: pip install -U {' '.join(_ONE_RELEASE)}",
        )
    else:
        yield Check("packages", "ok", text)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def examine_settings(settings: Settings, complaints: list[str]) -> Iterator[Check]:
    """What is wrong with the settings; nothing when all is well."""
    from otel_empathy.core.errors import SettingError
    from otel_empathy.core.prices import Prices

    for complaint in complaints:
        yield Check("settings", "finding", complaint, "correct or unset the variable")
    for variable, meant in _unknown_variables(settings):
        fix = f"did you mean {meant}?" if meant else "unset it; `config` lists what there is"
        yield Check("settings", "finding", f"{variable} is no setting", fix)
    try:
        Prices.bundled(settings.prices)
    except SettingError as error:
        fix = "correct the file, or unset OTEL_EMPATHY_PRICES"
        yield Check("settings", "finding", f"prices: {error}", fix)
    if settings.sdk_disabled:
        yield Check(
            "settings",
            "warning",
            "OTEL_SDK_DISABLED is true: nothing is recorded",
            "unset OTEL_SDK_DISABLED to record again",
        )
    if not settings.log:
        yield Check(
            "settings",
            "warning",
            "the log is off: what a backend does not take is lost",
            "unset OTEL_EMPATHY_LOG to keep a log",
        )


def _unknown_variables(settings: Settings) -> Iterator[tuple[str, str | None]]:
    """Variables with our prefix that no row of the table knows, and what was probably meant."""
    from otel_empathy.core.settings import TABLE

    known = [variable for row in TABLE for variable in row.env]
    for variable in sorted(settings.environ):
        if variable.startswith(_PREFIX) and variable not in known:
            close = get_close_matches(variable, known, 1, 0.8)
            yield variable, close[0] if close else None


def _backends(settings: Settings) -> Iterator[Check]:
    from otel_empathy.pipeline.environment import from_environment
    from otel_empathy.pipeline.otlp import origin

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        backends = from_environment(settings.environ)
    for warning in caught:
        yield Check("backends", "finding", str(warning.message), "correct or unset the variable")
    addresses: dict[Address, str] = {}
    for backend in backends:
        for signal in backend.signals:
            _, host, port = origin(backend.url(signal))
            addresses.setdefault((host, port), backend.name or host)
    if not addresses:
        yield Check(
            "backends", "ok", "none: records stay in the log (OTEL_EXPORTER_OTLP_ENDPOINT adds one)"
        )
        return
    for (address, name), error in zip(addresses.items(), _answers(list(addresses)), strict=True):
        where = f"{name} at {address[0]}:{address[1]}"
        if error is None:
            yield Check("backends", "ok", f"{where} answers")
        else:
            yield Check(
                "backends",
                "finding",
                f"{where} does not answer: {error}; the log keeps what it misses",
                "start it, or correct OTEL_EXPORTER_OTLP_ENDPOINT",
            )


def _answers(addresses: list[Address]) -> list[str | None]:
    """For each address why nobody answers, None where somebody does; all asked at once."""
    late = f"no connection within {_CONNECT:g} s"
    errors: dict[Address, str | None] = dict.fromkeys(addresses, late)

    def ask(address: Address) -> None:
        try:
            socket.create_connection(address, timeout=_CONNECT).close()
        except TimeoutError:
            return
        except OSError as error:
            errors[address] = (error.strerror or str(error)).lower()
        else:
            errors[address] = None

    # Daemon threads, because looking up a name can take longer than anybody wants to wait.
    threads = [threading.Thread(target=ask, args=(a,), daemon=True) for a in addresses]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(_CONNECT + 0.5)
    return [errors[address] for address in addresses]


def _capture(settings: Settings) -> Check:
    mode = settings.capture.value
    if not (settings.capture.spans or settings.capture.events):
        return Check("content", "ok", f"{mode}: prompts and replies are not recorded")
    return Check("content", "ok", f"{mode}: prompts and replies are recorded, scrubbed")
