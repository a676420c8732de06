from __future__ import annotations

import errno
import fcntl
import os
import resource
import threading
from pathlib import Path

import pytest

from otel_empathy.core.clock import SYSTEM
from otel_empathy.core.errors import SettingError
from otel_empathy.pipeline import segments
from otel_empathy.pipeline.segments import Name
from otel_empathy.testing import ManualClock

SPAN = b'{"traceId":"%032x"}'


@pytest.mark.parametrize(
    "text",
    [
        "shop-0badcafe-20269999T999999Z-000001.jsonl",
        "shop-0badcafe-20260230T000000Z-000001.jsonl",
        "shop-0BADCAFE-20260101T000000Z-000001.jsonl",
        "shop-0badcafe-20260101T000000Z-1.jsonl",
        "0badcafe-20260101T000000Z-000001.jsonl",
        "shop-0badcafe-20260101T000000Z-000001.jsonl.gz",
    ],
)
def test_a_name_that_no_writer_of_ours_gives_is_none_of_ours(text: str) -> None:
    assert Name.parse(text) is None


def test_a_name_is_read_back_as_it_was_written() -> None:
    name = Name("my.shop", "0badcafe", "20260101T000001Z", 7)
    assert Name.parse(str(name)) == name
    assert name.began_ns == 1_767_225_601_000_000_000


@pytest.mark.parametrize("service", ["", "a/b", "..", "ü", "x" * 200, "a-b", "\n"])
def test_any_service_gives_a_name_that_can_be_read_back(service: str) -> None:
    name = Name(segments.sanitised(service), "0badcafe", "20260101T000000Z", 1)
    assert Name.parse(str(name)) == name


@pytest.mark.parametrize("size", [1, 7, 4 << 20, (4 << 20) - 5, (4 << 20) + 3])
def test_records_are_counted_wherever_blocks_end(tmp_path: Path, size: int) -> None:
    path = tmp_path / "segment"
    filler = b" " * (size % 5000)
    lines = [filler + SPAN % n + b"," + SPAN % n + b"\n" for n in range(max(3, size // 5000))]
    path.write_bytes(b"".join(lines) + SPAN % 1)  # the last line is torn
    assert segments.count_records(path, "traces") == 2 * len(lines)
    assert segments.count_records(path, "traces", len(lines[0])) == 2 * (len(lines) - 1)


@pytest.mark.fault("S4")
@pytest.mark.parametrize("signal", ["traces", "metrics"])
def test_a_line_of_200_mb_is_counted_in_bounded_memory(tmp_path: Path, signal: str) -> None:
    path = tmp_path / "segment"
    with path.open("wb") as file:
        file.seek(200_000_000)
        file.write(b"\n" + SPAN % 1 + b"\n")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    count = segments.count_records(path, signal)
    assert count == (1 if signal == "traces" else 0)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60_000  # KiB


def test_a_segment_that_is_gone_holds_nothing(tmp_path: Path) -> None:
    assert segments.count_records(tmp_path / "gone", "traces") == 0


# -- the folders ---------------------------------------------------------------------------------
@pytest.mark.fault("S10")
@pytest.mark.parametrize("planted", ["otlp", "otlp/traces", "otlp/logs"])
def test_a_link_in_the_place_of_a_folder_is_refused_and_not_followed(
    tmp_path: Path, planted: str
) -> None:
    home, victim = tmp_path / "home", tmp_path / "victim"
    victim.mkdir()
    (home / planted).parent.mkdir(parents=True)
    (home / planted).symlink_to(victim)
    for unsafe in (False, True):
        with pytest.raises(SettingError, match="is a symbolic link, which the log does not follow"):
            segments.make_home(home, unsafe=unsafe)
    signal = planted.removeprefix("otlp/") if "/" in planted else "traces"
    with pytest.raises(OSError, match=planted.rpartition("/")[2]):
        segments.open_new(home, signal, "t", "0badcafe", 1, SYSTEM)
    (victim / "t-0badcafe-20260101T000000Z-000001.jsonl").write_text("mine")
    assert segments.listed(home, signal) == []
    assert [path.name for path in victim.iterdir()] == ["t-0badcafe-20260101T000000Z-000001.jsonl"]


@pytest.mark.fault("S10")
@pytest.mark.parametrize("name", ["ledger", "cursors/b", "repaired"])
def test_a_link_in_the_place_of_any_other_folder_is_not_followed(tmp_path: Path, name: str) -> None:
    (tmp_path / "victim").mkdir()
    (tmp_path / "home" / name).parent.mkdir(parents=True)
    (tmp_path / "home" / name).symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="symbolic link"):
        segments.make_folder(tmp_path / "home" / name)


def test_a_home_that_is_a_link_is_its_owners_own_affair(tmp_path: Path) -> None:
    (tmp_path / "large").mkdir(mode=0o700)
    (tmp_path / "home").symlink_to(tmp_path / "large")
    segments.make_home(tmp_path / "home")
    fd, name = segments.open_new(tmp_path / "home", "traces", "t", "0badcafe", 1, SYSTEM)
    os.close(fd)
    assert (tmp_path / "large" / "otlp" / "traces" / str(name)).exists()


@pytest.mark.fault("S10")
def test_a_folder_of_the_home_that_everybody_may_write_to_is_refused_unless_told(
    empathy_home: Path,
) -> None:
    segments.make_home(empathy_home)
    segments.folder(empathy_home, "traces").chmod(0o777)
    with pytest.raises(SettingError, match=r"may write to .*traces"):
        segments.make_home(empathy_home)
    segments.make_home(empathy_home, unsafe=True)


def test_a_file_system_that_knows_no_modes_can_hold_the_log(
    empathy_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: object) -> None:
        # What some network file systems answer, which no test can mount.
        raise PermissionError(errno.EPERM, "not here")

    segments.make_home(empathy_home)
    monkeypatch.setattr(os, "fchmod", refuses)
    fd, name = segments.open_new(empathy_home, "traces", "t", "0badcafe", 1, SYSTEM)
    assert segments.is_locked(segments.folder(empathy_home, "traces") / str(name))
    os.close(fd)


# -- who lives -----------------------------------------------------------------------------------
def test_who_looks_at_a_segment_just_when_it_is_made_does_not_keep_it_from_its_lock(
    empathy_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segments.make_home(empathy_home)
    real = os.fchmod
    lookers: list[threading.Thread] = []

    def looked_at(fd: int, mode: int) -> None:
        real(fd, mode)
        (path,) = segments.folder(empathy_home, "traces").iterdir()
        looks = path.open("rb")
        fcntl.flock(looks, fcntl.LOCK_SH)
        lookers.append(threading.Thread(target=looks.close))
        lookers[0].start()

    monkeypatch.setattr(os, "fchmod", looked_at)
    fd, name = segments.open_new(empathy_home, "traces", "t", "0badcafe", 1, SYSTEM)
    lookers[0].join()
    assert segments.is_locked(segments.folder(empathy_home, "traces") / str(name))
    os.close(fd)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.EACCES, errno.EIO])
def test_what_cannot_be_looked_at_may_live(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuses(*_: object, **__: object) -> int:
        # Root may open everything, and running out of descriptors would hit the test itself.
        raise OSError(number, os.strerror(number))

    (tmp_path / "there").touch()
    monkeypatch.setattr(os, "open", refuses)
    assert segments.is_locked(tmp_path / "there")


def test_what_is_gone_or_a_link_has_no_writer(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "there")
    (tmp_path / "there").touch()
    assert not segments.is_locked(tmp_path / "gone")
    assert not segments.is_locked(tmp_path / "there" / "below")
    assert not segments.is_locked(tmp_path / "link")
    assert not segments.is_locked(tmp_path / "there")


def test_without_locks_a_date_of_the_last_thirty_seconds_is_the_sign_of_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: object) -> None:
        # What some file systems answer that are shared over a network.
        raise OSError(errno.ENOLCK, "no locks available")

    path = tmp_path / "file"
    path.touch()
    clock = ManualClock(time_ns=path.stat().st_mtime_ns)
    monkeypatch.setattr(fcntl, "flock", unknown)
    with path.open("rb") as file:
        assert segments.lock(file.fileno())
        assert segments.lockless(file.fileno())
    assert segments.is_locked(path, clock=clock)
    clock.advance(29)
    assert segments.is_locked(path, clock=clock)
    clock.advance(2)
    assert not segments.is_locked(path, clock=clock)


@pytest.mark.fault("S4")
def test_the_copy_that_is_kept_of_a_torn_segment_follows_no_link(empathy_home: Path) -> None:
    segments.make_home(empathy_home)
    name = "t-0badcafe-20260101T000000Z-000001.jsonl"
    path = segments.folder(empathy_home, "traces") / name
    path.write_bytes(SPAN % 1 + b"\n" + SPAN % 2)
    victim = empathy_home / "victim"
    victim.write_text("mine")
    (empathy_home / "repaired").mkdir()
    (empathy_home / "repaired" / name).symlink_to(victim)
    (done,) = segments.repair(empathy_home)
    assert victim.read_text() == "mine"
    assert done.copy.read_bytes() == SPAN % 1 + b"\n" + SPAN % 2
    assert path.read_bytes() == SPAN % 1 + b"\n"


def test_a_system_without_fdatasync_syncs_all_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = []
    monkeypatch.delattr(os, "fdatasync")
    monkeypatch.setattr(os, "fsync", synced.append)  # no such system is at hand
    with (tmp_path / "file").open("wb") as file:
        segments.to_disk(file.fileno())
        assert synced == [file.fileno()]
