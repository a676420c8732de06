from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_empathy.cli import outfile
from otel_empathy.core.errors import Unavailable, WrongValue

SYSTEM = ["/etc", "/sys", "/proc", "/dev", "/boot"]


@pytest.mark.fault("H10")
@pytest.mark.parametrize(
    "path",
    [
        "",
        "a\0b",
        "/etc/passwd",
        "/etc/../etc/x",
        "/proc/self/fd/1",
        "/dev/null",
        "/boot/x",
        "/sys/x",
        "/",
        ".",
    ],
)
def test_a_path_that_must_not_be_written_is_refused(path: str) -> None:
    with pytest.raises(WrongValue, match="output"):
        outfile.checked(path)


@pytest.mark.fault("H10")
@given(
    folder=st.sampled_from(SYSTEM),
    steps=st.lists(st.sampled_from(["..", ".", "x", "tmp/..", "//"]), max_size=6),
    name=st.text(
        st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=8
    ),
)
def test_no_spelling_leads_into_a_system_folder(folder: str, steps: list[str], name: str) -> None:
    path = "/".join([folder, *steps, name])
    try:
        target = outfile.checked(path)
    except WrongValue:
        return
    real = os.path.realpath(target)
    assert not any(real == f or real.startswith(f"{f}/") for f in SYSTEM)


@pytest.mark.fault("H10")
def test_a_link_into_a_system_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "door").symlink_to("/etc")
    (tmp_path / "file").symlink_to("/etc/hostname")
    for path in (tmp_path / "door" / "x", tmp_path / "file"):
        with pytest.raises(WrongValue, match="belongs to the system"):
            outfile.checked(str(path))


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WrongValue, match="is a directory"):
        outfile.checked(str(tmp_path))


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(WrongValue, match="regular file"):
        outfile.checked(str(tmp_path / "pipe"))


def test_a_file_appears_when_it_is_complete_and_belongs_to_its_owner(tmp_path: Path) -> None:
    target = tmp_path / "calls.csv"
    with outfile.opened(str(target)) as file:
        file.write(b"half")
        assert not target.exists()
    assert target.read_bytes() == b"half"
    assert target.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [target]


def test_a_failed_export_leaves_the_older_file(tmp_path: Path) -> None:
    target = tmp_path / "calls.csv"
    target.write_bytes(b"old")

    def fail() -> None:
        with outfile.opened(str(target)) as file:
            file.write(b"new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_missing_folder_is_unavailable(tmp_path: Path) -> None:
    path = str(tmp_path / "no" / "calls.csv")
    with pytest.raises(Unavailable, match="create the folder"), outfile.opened(path):
        pass


@pytest.mark.fault("H10")
def test_the_log_itself_is_refused(tmp_path: Path) -> None:
    log = tmp_path / "home" / "otlp"
    log.mkdir(parents=True)
    (tmp_path / "door").symlink_to(log)
    for path in (log / "traces" / "x.jsonl", log / "x", tmp_path / "door" / "x"):
        with pytest.raises(WrongValue, match="in the log itself"):
            outfile.checked(str(path), log=log)
    assert outfile.checked(str(tmp_path / "home" / "calls.csv"), log=log)
