"""One secret per installation, made once, kept private; and what happens without it."""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import ordinary
import pytest
from ordinary import open_path

from otel_empathy.core.errors import WrongType
from otel_empathy.core.identity import UserHash

__all__ = ["open_path"]

CHILD = """
import sys
from pathlib import Path
from otel_empathy.core.identity import UserHash
hash_user = UserHash(Path(sys.argv[1]))
sys.stdout.write("ready\\n")
sys.stdout.flush()
sys.stdin.readline()
sys.stdout.write(hash_user("ada") + " " + str(hash_user.degraded))
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "secret"


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_hash_is_hmac_sha256_with_the_secret_of_the_file(path: Path) -> None:
    hash_user = UserHash(path)
    hashed = hash_user("ada@example.org")
    secret = bytes.fromhex(path.read_text())
    assert hashed == hmac.new(secret, b"ada@example.org", hashlib.sha256).hexdigest()[:16]
    assert hash_user("ada@example.org") == hashed == UserHash(path)("ada@example.org")
    assert hash_user("bob@example.org") != hashed
    assert hash_user.degraded is None


def test_nothing_is_created_before_a_user_is_hashed(path: Path) -> None:
    UserHash(path)
    assert not path.parent.exists()


def test_the_secret_is_private_and_nothing_else_is_left(path: Path) -> None:
    before = os.umask(0)
    try:
        UserHash(path)("ada")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [entry.name for entry in path.parent.iterdir()] == ["secret"]


@pytest.mark.fault("C2")
def test_eight_processes_that_race_agree_on_one_secret(path: Path) -> None:
    children = [
        subprocess.Popen(
            [sys.executable, "-c", CHILD, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(8)
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()
    answers = {child.communicate()[0] for child in children}
    assert answers == {f"{UserHash(path)('ada')} None"}
    assert [entry.name for entry in path.parent.iterdir()] == ["secret"]


def test_threads_that_race_agree_on_one_secret(path: Path) -> None:
    hash_user = UserHash(path)
    start = threading.Barrier(8)
    hashes: list[str] = []

    def work() -> None:
        start.wait()
        hashes.append(hash_user("ada"))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(hashes)) == 1
    assert len(hashes) == 8


def test_where_links_are_impossible_one_secret_is_created_all_the_same(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No file system without hard links can be mounted in a test.
    def link(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    hash_user = UserHash(path)
    assert hash_user("ada") == UserHash(path)("ada")
    assert hash_user.degraded is None
    assert [entry.name for entry in path.parent.iterdir()] == ["secret"]


@pytest.mark.parametrize(
    ("content", "mode", "reason"),
    [
        ("", 0o600, "holds 0 bytes"),
        ("abcd", 0o600, "holds 2 bytes"),
        ("not hex at all", 0o600, "non-hexadecimal"),
        ("00" * 40, 0o600, "holds 33 bytes"),
        ("00" * 32, 0o644, "readable by others"),
        ("00" * 32, 0o660, "readable by others"),
    ],
)
def test_a_file_that_cannot_be_trusted_is_left_alone_and_told(
    path: Path, content: str, mode: int, reason: str
) -> None:
    write(path, content, mode)
    hash_user = UserHash(path)
    assert len(hash_user("ada")) == 16
    assert hash_user("ada") == hash_user("ada")
    assert hash_user.degraded is not None
    assert reason in hash_user.degraded
    assert str(path) in hash_user.degraded
    assert path.read_text() == content
    assert hash_user("ada") != UserHash(path)("ada")


def test_a_link_is_not_followed(path: Path) -> None:
    target = write(path.with_name("elsewhere"), "00" * 32)
    path.symlink_to(target)
    hash_user = UserHash(path)
    hash_user("ada")
    assert "symbolic links" in str(hash_user.degraded)


def test_a_pipe_or_folder_in_its_place_does_not_block(path: Path) -> None:
    path.parent.mkdir(parents=True)
    os.mkfifo(path, 0o600)
    hash_user = UserHash(path)
    hash_user("ada")
    assert "regular file" in str(hash_user.degraded)
    folder = UserHash(path.parent)
    folder("ada")
    assert folder.degraded is not None


def test_a_home_that_cannot_be_written_degrades_to_the_process(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    hash_user = UserHash(tmp_path / "file" / "home" / "secret")
    assert len(hash_user("ada")) == 16
    assert "Not a directory" in str(hash_user.degraded)


def test_a_read_only_home_degrades_to_the_process(open_path: Path) -> None:
    home = open_path / "home"
    home.mkdir(mode=0o500)
    said = ordinary.run(
        "import sys\nfrom pathlib import Path\nfrom otel_empathy.core.identity import UserHash",
        "hash_user = UserHash(Path(sys.argv[1]) / 'secret')\n"
        "print(len(hash_user('ada')), hash_user('ada') == hash_user('ada'), hash_user.degraded)",
        home,
    )
    assert said.startswith("16 True ")
    assert "Permission denied" in said
    assert not (home / "secret").exists()


def test_any_text_is_a_user(path: Path) -> None:
    hash_user = UserHash(path)
    hashes = {hash_user(user) for user in ("", " ", "é", "\ud800", "\x00", "0")}
    assert len(hashes) == 6


@pytest.mark.parametrize("user", [None, 7, b"ada", ["ada"]])
def test_what_is_no_text_is_refused(path: Path, user: object) -> None:
    with pytest.raises(WrongType, match=type(user).__name__):
        UserHash(path)(user)  # type: ignore[arg-type]
