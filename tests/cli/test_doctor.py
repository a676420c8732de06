from __future__ import annotations

import json
import os
import shutil
import socket
from pathlib import Path
from typing import Any

import ordinary
import pytest
from ordinary import open_path

from otel_empathy.cli import main
from otel_empathy.cli.check import Check
from otel_empathy.cli.examination import examine
from otel_empathy.core.settings import TABLE, Settings
from otel_empathy.pipeline import segments

__all__ = ["open_path"]


def checks(home: Path, environ: dict[str, str] | None = None, **roots: Path) -> list[Check]:
    return list(examine(Settings.load(environ or {}, home=home), [], **roots))


def named(found: list[Check], name: str) -> list[Check]:
    return [check for check in found if check.name == name]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    segments.make_home(home)
    return home


@pytest.fixture
def closed(home: Path) -> Path:
    path = home / "otlp" / "traces" / "shop-0a1b2c3d-20261120T110000Z-000000.jsonl"
    path.write_bytes(b'{"resourceSpans":[]}\n')
    path.chmod(0o600)
    return path


def test_a_fresh_home_is_well(home: Path) -> None:
    found = checks(home)
    assert {check.level for check in found} == {"ok"}
    assert {check.name for check in found} >= {
        "python", "packages", "home", "segments", "cursors", "backends", "content",
    }  # fmt: skip


def test_a_home_that_is_not_there_yet_is_no_finding(tmp_path: Path) -> None:
    found = named(checks(tmp_path / "new"), "home")
    assert [check.level for check in found] == ["ok"]
    assert "otel-empathy demo" in found[0].detail


@pytest.mark.fault("S10")
@pytest.mark.parametrize("mode", [0o777, 0o707, 0o755, 0o750])
def test_a_home_open_to_others_is_a_finding_with_its_fix(home: Path, mode: int) -> None:
    home.chmod(mode)
    found = named(checks(home), "home")
    assert [check.level for check in found] == ["finding"]
    assert found[0].fix == f"chmod 700 {home}"
    assert ("refused" in found[0].detail) == bool(mode & 0o002)


def test_a_file_in_place_of_the_home_is_a_finding(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    assert [check.level for check in named(checks(path), "home")] == ["finding"]


def test_a_home_that_cannot_be_written_is_a_finding(open_path: Path) -> None:
    home = open_path / "home"
    segments.make_home(home)
    home.chmod(0o500)
    said = ordinary.run(
        "import sys\n"
        "from otel_empathy.cli.examination import examine\n"
        "from otel_empathy.core.settings import Settings\n"
        "list(examine(Settings.load({}, home=sys.argv[1]), []))",
        "for check in examine(Settings.load({}, home=sys.argv[1]), []):\n"
        "    if check.name == 'home':\n"
        "        print(check.level, check.detail)",
        home,
    )
    assert said.startswith("finding ")
    assert "cannot be written" in said


@pytest.mark.fault("S10")
def test_open_files_and_links_in_the_log_are_findings(home: Path, closed: Path) -> None:
    assert named(checks(home), "files") == []
    closed.chmod(0o644)
    closed.with_name("planted.jsonl").symlink_to("/etc/passwd")
    found = named(checks(home), "files")
    assert [check.level for check in found] == ["finding", "finding"]
    assert str(closed) in found[1].detail


@pytest.mark.fault("S5")
def test_a_remote_file_system_is_a_warning(home: Path, tmp_path: Path) -> None:
    proc = tmp_path / "proc"
    (proc / "self").mkdir(parents=True)
    (proc / "self" / "mountinfo").write_text(
        "22 1 0:21 / / rw - ext4 /dev/sda1 rw\n"
        f"23 22 0:22 / {tmp_path} rw shared:1 - nfs4 server:/x rw\n"
        "garbage\n"
    )
    found = named(checks(home, proc_root=proc), "home")
    assert [check.level for check in found] == ["warning"]
    assert "nfs4" in found[0].detail


def test_segments_are_counted_live_closed_and_torn(home: Path, closed: Path) -> None:
    torn = closed.with_name("shop-ffffffff-20261120T110000Z-000000.jsonl")
    torn.write_bytes(b'{"resourceSpans":[]}\n{"resou')
    live = closed.with_name("shop-eeeeeeee-20261120T110000Z-000000.jsonl")
    with live.open("wb") as file:
        file.write(b'{"res')
        file.flush()
        assert segments.lock(file.fileno())
        found = named(checks(home), "segments")[0]
    assert found.detail.startswith("3 (")
    assert "1 live, 2 closed, 1 torn" in found.detail
    assert (found.level, found.fix) == ("finding", "otel-empathy doctor --repair")


@pytest.mark.fault("S4")
def test_repair_cuts_torn_tails_of_the_dead_only_and_keeps_a_copy(
    home: Path, closed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    closed.write_bytes(b'{"resourceSpans":[]}\n{"resou')
    live = closed.with_name("shop-eeeeeeee-20261120T110000Z-000000.jsonl")
    with live.open("wb") as file:
        file.write(b'{"res')
        file.flush()
        segments.lock(file.fileno())
        live.chmod(0o600)
        code = main(["doctor", "--repair", "--home", str(home)])
        assert live.read_bytes() == b'{"res'
    assert code == 0
    assert closed.read_bytes() == b'{"resourceSpans":[]}\n'
    note = capsys.readouterr().err
    assert f"cut 7 bytes off {closed.name} at 21" in note
    copy = Path(note.splitlines()[0].rpartition("copy: ")[2])
    assert copy.read_bytes() == b'{"resourceSpans":[]}\n{"resou'


@pytest.mark.fault("S4")
@pytest.mark.parametrize(
    "damage",
    [
        b"garbage\n",
        b"\0" * 99 + b'{"resourceSpans":[]}\n',
        b'{"resourceSpans":\xff}\n',
        b"[" * 99_999 + b"\n",
        b"x" * (17 << 20) + b"\n",
    ],
    ids=["garbage", "NULs", "no UTF-8", "deep", "long"],
)
def test_lines_that_cannot_be_read_are_a_warning(home: Path, closed: Path, damage: bytes) -> None:
    whole = closed.read_bytes()
    assert named(checks(home), "lines") == [Check("lines", "ok", "1, each can be read")]
    closed.write_bytes(whole + damage + whole)
    [found] = named(checks(home), "lines")
    assert (found.level, found.detail.startswith("1 line cannot be read")) == ("warning", True)
    assert f"{closed} at byte {len(whole)}" in found.detail


def test_files_that_cannot_be_read_are_a_finding(
    home: Path, closed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def refusing(name: Any, *args: Any, **kwargs: Any) -> int:  # root may open everything
        if Path(name) == closed:
            raise PermissionError(13, "no", str(name))
        return real(name, *args, **kwargs)

    monkeypatch.setattr(os, "open", refusing)
    [found] = named(checks(home), "lines")
    assert (found.level, str(closed) in found.detail) == ("finding", True)


@pytest.mark.parametrize("name", ["otlp", "otlp/traces"])
def test_a_file_in_place_of_a_folder_of_the_log_is_a_finding(home: Path, name: str) -> None:
    shutil.rmtree(home / name)
    (home / name).touch(mode=0o600)
    [found] = named(checks(home), "home")[1:]
    assert (found.level, "no folder" in found.detail) == ("finding", True)


@pytest.mark.fault("S10")
def test_a_log_that_is_a_link_is_a_finding(home: Path, tmp_path: Path) -> None:
    (home / "otlp").rename(tmp_path / "elsewhere")
    (home / "otlp").symlink_to(tmp_path / "elsewhere")
    assert [check.level for check in named(checks(home), "files")] == ["finding"]


def test_prices_that_cannot_be_used_are_a_finding(home: Path, tmp_path: Path) -> None:
    environ = {"OTEL_EMPATHY_PRICES": str(tmp_path / "none.json")}
    [found] = named(checks(home, environ), "settings")
    assert (found.level, "none.json" in found.detail) == ("finding", True)


def test_a_secret_that_others_may_read_is_a_finding_wherever_it_is(
    home: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.touch(mode=0o644)
    secret.chmod(0o644)
    [found] = named(checks(home, {"OTEL_EMPATHY_SECRET_FILE": str(secret)}), "files")
    assert (found.level, str(secret) in found.detail) == ("finding", True)


def test_an_unreadable_cursor_is_a_warning(home: Path) -> None:
    folder = home / "cursors" / "collector"
    folder.mkdir(parents=True)
    (folder / "0a1b2c3d.json").write_text("{")
    found = named(checks(home), "cursors")[0]
    assert (found.level, "1 unreadable" in found.detail) == ("warning", True)


def test_a_backend_that_answers_is_well_and_one_that_does_not_is_a_finding(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}"}
        assert [check.level for check in named(checks(home, environ), "backends")] == ["ok"]
    found = named(checks(home, environ), "backends")
    assert [check.level for check in found] == ["finding"]
    assert "connection refused" in found[0].detail


def test_two_backends_are_asked_each(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        environ = {
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"http://127.0.0.1:{port}/v1/traces",
            "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://127.0.0.1:1/v1/logs",
        }
        found = named(checks(home, environ), "backends")
    assert sorted(check.level for check in found) == ["finding", "ok"]


def test_switches_that_stop_recording_are_warnings(home: Path) -> None:
    environ = {"OTEL_SDK_DISABLED": "true", "OTEL_EMPATHY_LOG": "off"}
    assert [c.level for c in named(checks(home, environ), "settings")] == ["warning", "warning"]


def test_recorded_content_is_said(home: Path) -> None:
    environ = {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "SPAN_ONLY"}
    assert "are recorded" in named(checks(home, environ), "content")[0].detail


def test_the_exit_code_tells_whether_something_was_found(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for row in TABLE:
        for name in row.env:
            monkeypatch.delenv(name, raising=False)
    assert main(["doctor", "--home", str(home)]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert all(row["level"] == "ok" for row in rows)
    home.chmod(0o777)
    assert main(["doctor", "--home", str(home)]) == 1
    home.chmod(0o700)


def test_the_table_shows_the_fix_below_the_finding(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home.chmod(0o750)
    main(["doctor", "--table", "--home", str(home)])
    assert "→ chmod 700" in capsys.readouterr().out
