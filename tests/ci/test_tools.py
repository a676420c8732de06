"""The program behind `make tools`: what it builds, where it looks, what it says on failure."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import services

PROGRAM = services.ROOT / ".ci" / "tools.py"


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program with an empty cache and an empty checkout folder for its links."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    services.tool_path("collector")
    module = sys.modules["otel_empathy_ci_tools"]
    monkeypatch.setattr(module, "LINKS", tmp_path / "links")
    return module


def good(folder: Path) -> None:
    (folder / "program").write_text("#!/bin/sh\n", encoding="ascii")


def add(tools: ModuleType, monkeypatch: pytest.MonkeyPatch, build: Callable[[Path], None]) -> None:
    row = tools.Tool("thing", "1.0", "program", lambda: "1.0", build)
    monkeypatch.setattr(tools, "ROWS", (row,))
    monkeypatch.setattr(tools, "TOOLS", {"thing": row})


def test_a_built_tool_is_executable_linked_and_not_built_again(
    tools: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    built: list[Path] = []
    add(tools, monkeypatch, lambda folder: (built.append(folder), good(folder))[1])
    assert tools.main(["install"]) == 0
    assert tools.main(["install", "thing"]) == 0
    found = tmp_path / "cache" / "otel-empathy" / "tools" / "thing-1.0" / "program"
    assert tools.tool_path("thing") == found
    assert (tmp_path / "links" / "thing").resolve() == found
    assert found.stat().st_mode & 0o111
    assert len(built) == 1


def test_a_build_that_was_interrupted_is_not_taken_for_finished(
    tools: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(folder: Path) -> None:
        good(folder)
        raise KeyboardInterrupt

    add(tools, monkeypatch, interrupted)
    with pytest.raises(KeyboardInterrupt):
        tools.main(["install"])
    assert tools.tool_path("thing") is None
    add(tools, monkeypatch, good)
    assert tools.main(["install"]) == 0
    assert [folder.name for folder in tools.cache().glob("thing-*")] == ["thing-1.0"]


def test_a_tool_that_no_longer_starts_is_built_again(
    tools: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(tools, monkeypatch, good)
    assert tools.main(["install"]) == 0
    tools.tool_path("thing").write_text("#!/bin/sh\nexit 127\n", encoding="ascii")
    assert tools.main(["install"]) == 0
    assert tools.tool_path("thing").read_text(encoding="ascii") == "#!/bin/sh\n"


def test_a_build_that_does_not_start_is_no_tool(
    tools: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = "#!/bin/sh\necho no such library\nexit 127\n"
    add(tools, monkeypatch, lambda folder: (folder / "program").write_text(script, "ascii"))
    assert tools.main(["install"]) == 1
    assert tools.tool_path("thing") is None
    printed = capsys.readouterr().err
    assert "does not start: exit 127 from: program --version" in printed
    assert "no such library" in printed


def test_a_failed_step_names_the_command_and_shows_its_last_lines(
    tools: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = "import sys; print(*range(90), sep=chr(10)); print('no such module'); sys.exit(3)"
    add(tools, monkeypatch, lambda folder: tools.run([sys.executable, "-c", script], cwd=folder))
    assert tools.main(["install"]) == 1
    printed = capsys.readouterr()
    assert "thing: FAILED: exit 3 from: python" in printed.err
    assert "no such module" in printed.err
    assert "\n    89\n" in printed.err
    assert "\n    1\n" not in printed.err
    assert "missing" in printed.out


def test_who_is_not_root_is_told_the_command_for_a_package_and_gets_the_other_tools(
    tools: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    package = tools.DebianTool("no-such-program", "its-package")
    thing = tools.Tool("thing", "1.0", "program", lambda: "1.0", good)
    monkeypatch.setattr(tools, "ROWS", (package, thing))
    monkeypatch.setattr(tools, "TOOLS", {"no-such-program": package, "thing": thing})
    monkeypatch.setattr(tools.os, "geteuid", lambda: 1000)  # root would install it
    assert tools.main(["install"]) == 1
    (line,) = (one for one in capsys.readouterr().err.splitlines() if "FAILED" in one)
    assert line.startswith("no-such-program: FAILED: no-such-program is not on PATH; as root")
    assert line.endswith(" its-package")
    assert tools.tool_path("thing") is not None


@pytest.mark.parametrize(("known", "seen"), [(True, "true"), (False, "unset")])
def test_a_wheel_is_fetched_with_the_trust_of_this_machine_where_it_has_any(
    tools: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, known: bool, seen: str
) -> None:
    uv = tmp_path / "uv"
    uv.write_text('#!/bin/sh\necho "${UV_SYSTEM_CERTS-unset}" > "$SEEN"\n', encoding="ascii")
    uv.chmod(0o755)
    monkeypatch.delenv("UV_SYSTEM_CERTS", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("SEEN", str(tmp_path / "seen"))
    monkeypatch.setattr(tools, "AUTHORITIES", uv if known else tmp_path / "nothing")
    tools.unpack_wheel(tmp_path / "folder", "thing==1.0", python="3.11")
    assert (tmp_path / "seen").read_text(encoding="ascii").strip() == seen


def test_a_missing_tool_fails_the_check_unless_it_is_excused(
    tools: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    add(tools, monkeypatch, good)
    excused = tmp_path / "excused.txt"
    excused.write_text("# a note\n", encoding="utf-8")
    monkeypatch.setattr(tools, "EXCUSED", excused)
    assert tools.main(["check"]) == 1
    assert "missing: thing; run `make tools`" in capsys.readouterr().out
    excused.write_text("thing  the registry says no\n", encoding="utf-8")
    assert tools.main(["check"]) == 0
    assert tools.main(["install"]) == 0
    assert tools.tool_path("thing") is None
    assert "the registry says no" in capsys.readouterr().out
    assert tools.main(["install", "thing"]) == 0
    assert tools.tool_path("thing") is not None


def test_the_path_of_a_missing_tool_is_the_command_that_brings_it(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, PROGRAM, "path", "rotel"],
        env={"XDG_CACHE_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "python3 .ci/tools.py install rotel" in done.stdout


def test_every_excused_tool_exists_and_has_a_reason() -> None:
    for name, reason in services.excused().items():
        services.tool_path(name)
        assert reason


def test_another_manifest_or_another_go_is_another_collector(
    tools: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {tools.manifest_key("builder.yaml"), tools.manifest_key("builder-contrib.yaml")}
    monkeypatch.setattr(tools, "go_version", lambda: "1.99.0")
    keys.add(tools.manifest_key("builder.yaml"))
    assert len(keys) == 3


def test_an_unknown_tool_is_refused_with_the_names_that_exist() -> None:
    with pytest.raises(KeyError, match="tools are collector, "):
        services.tool_path("colector")
