from __future__ import annotations

import fcntl
import gzip
import os
import subprocess
import sys
from pathlib import Path

import pytest
from store.lines import DAY, NOW, line, segment, span

from otel_empathy.core.errors import WrongType, WrongValue
from otel_empathy.store.calls import Decoder, Operation
from otel_empathy.store.reader import LONGEST, Reader
from otel_empathy.store.records import spans
from otel_empathy.store.wire import decoded


def names(reader: Reader) -> list[str]:
    scan = reader.scan("traces")
    return [one.name for one in spans(scan, scan)]


def one(name: str) -> bytes:
    return line(span(name))


def places(reader: Reader) -> list[tuple[int, str]]:
    return [(skip.offset, skip.reason) for skip in reader.skips.places]


def test_lines_of_a_home_come_by_instance_and_sequence(tmp_path):
    segment(tmp_path, one("b2"), instance="bbbbbbbb", seq=2, utc="20260101T000000Z")
    segment(tmp_path, one("b10"), instance="bbbbbbbb", seq=10, utc="20260101T000000Z")
    segment(tmp_path, one("a1"), instance="aaaaaaaa", seq=1, utc="20260102T000000Z")
    assert names(Reader(tmp_path)) == ["a1", "b2", "b10"]


def test_a_home_that_does_not_exist_is_empty(tmp_path):
    assert names(Reader(tmp_path / "nowhere")) == []


def test_a_single_file_and_any_folder_can_be_read(tmp_path):
    (tmp_path / "data-2026-01-01T00-00-00.000.json").write_bytes(one("older"))
    (tmp_path / "data.json").write_bytes(one("newer"))
    (tmp_path / "notes.txt").write_bytes(b"not read\n")
    assert names(Reader(tmp_path)) == ["older", "newer"]
    assert names(Reader(tmp_path / "data.json")) == ["newer"]
    assert names(Reader([tmp_path / "data.json", tmp_path])) == ["older", "newer"]


def test_gzipped_files_of_several_members_are_read(tmp_path):
    packed = gzip.compress(one("first")) + gzip.compress(one("second") + one("third"))
    (tmp_path / "data.jsonl.gz").write_bytes(packed + b"\0" * 512)
    reader = Reader(tmp_path)
    assert names(reader) == ["first", "second", "third"]
    assert not reader.skips.counts


def test_a_truncated_gzip_gives_what_it_holds_and_counts_one_torn_tail(tmp_path):
    # Numbers that do not repeat, so that the damage lies far behind the first line.
    content = b"".join(one(f"n{number}") for number in range(500))
    (tmp_path / "data.jsonl.gz").write_bytes(gzip.compress(content)[:-200])
    reader = Reader(tmp_path)
    found = names(reader)
    assert found == [f"n{number}" for number in range(len(found))]
    assert 100 < len(found) < 500
    assert reader.skips.counts == {"torn": 1}


def test_a_file_that_only_says_it_is_gzipped_is_counted_once(tmp_path):
    (tmp_path / "data.jsonl.gz").write_bytes(one("plain"))
    reader = Reader(tmp_path)
    assert names(reader) == []
    assert places(reader) == [(0, "corrupt")]


def test_a_corrupt_line_is_counted_with_its_offset_and_reading_goes_on(tmp_path):
    first, last = one("first"), one("last")
    segment(tmp_path, b"garbage\n", first, b'{"resourceSpans":[{\n', last)
    reader = Reader(tmp_path)
    assert names(reader) == ["first", "last"]
    assert places(reader) == [(0, "corrupt"), (8 + len(first), "corrupt")]


@pytest.mark.parametrize(
    "bad",
    [
        b"\xff\xfe" + one("x"),
        one("x").replace(b"shop", b"sh\xffop"),
        b'{"some":"other JSON"}\n',
        b"[1,2,3]\n",
        b"null\n",
        b'{"resourceSpans":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n",
        b"\0" * 4096 + b"\n",
    ],
    ids=["utf16-mark", "utf8", "other", "list", "null", "deep", "nul-run"],
)
@pytest.mark.fault("S4")
def test_bad_lines_cost_nothing_but_themselves(tmp_path, bad):
    segment(tmp_path, one("before"), bad, one("after"))
    reader = Reader(tmp_path)
    assert names(reader) == ["before", "after"]
    assert reader.skips.counts == {"corrupt": 1}


@pytest.mark.fault("S4")
def test_a_record_behind_a_run_of_nuls_is_recovered_and_the_run_counted(tmp_path):
    segment(tmp_path, one("before"), b"\0" * 9000 + one("after"))
    reader = Reader(tmp_path)
    assert names(reader) == ["before", "after"]
    assert reader.skips.counts == {"corrupt": 1}


@pytest.mark.fault("S4")
def test_byte_order_marks_windows_line_ends_empty_lines_and_double_keys_are_no_faults(tmp_path):
    twice = one("kept").replace(b'"name":"kept"', b'"name":"dropped","name":"kept"')
    plain = one("plain").replace(b"\n", b"\r\n")
    segment(tmp_path, b"\xef\xbb\xbf", plain, b"\r\n", b"\n", b"  \n", twice, one("ünï"))
    reader = Reader(tmp_path)
    assert names(reader) == ["plain", "kept", "ünï"]
    assert not reader.skips.counts


@pytest.mark.fault("S4")
def test_a_torn_tail_of_an_orphan_is_counted_once_however_often_it_is_read(tmp_path):
    whole = one("whole")
    segment(tmp_path, whole, one("torn")[:-1])
    reader = Reader(tmp_path)
    assert names(reader) == ["whole"]
    assert names(reader) == ["whole"]
    assert places(reader) == [(len(whole), "torn")]
    assert reader.skips.counts == {"torn": 1}


@pytest.mark.fault("S1")
def test_an_unfinished_line_of_a_live_segment_is_not_yet_there(tmp_path):
    path = segment(tmp_path, one("whole"), one("half")[:50])
    with path.open("rb") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        reader = Reader(tmp_path)
        assert names(reader) == ["whole"]
        assert not reader.skips.counts


@pytest.mark.fault("S4")
def test_a_line_up_to_16_mib_is_read_and_a_longer_one_is_skipped(tmp_path):
    room = LONGEST - len(one(""))
    longest, longer = one("x" * room), one("y" * (room + 1))
    assert len(longest) == LONGEST
    segment(tmp_path, longest, longer, one("last"))
    reader = Reader(tmp_path)
    assert [len(name) for name in names(reader)] == [room, 4]
    assert places(reader) == [(LONGEST, "too_long")]


@pytest.mark.fault("S4")
def test_a_line_of_200_mb_is_skipped_without_being_loaded(tmp_path):
    path = segment(tmp_path, one("before"))
    with path.open("r+b") as file:
        file.seek(200_000_000, os.SEEK_END)  # a hole of NULs, which takes no room on disk
        file.write(b"\n" + one("after"))
    program = (
        "import sys\n"
        "from otel_empathy.store.reader import Reader\n"
        "from otel_empathy.store.records import spans\n"
        "reader = Reader(sys.argv[1]); scan = reader.scan('traces')\n"
        "names = [one.name for one in spans(scan, scan)]\n"
        "status = open('/proc/self/status').read()\n"
        "peak = int(status.partition('VmHWM:')[2].split()[0])\n"
        "print(names, dict(reader.skips.counts), peak < 100_000 or peak)\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert told.stdout == "['before', 'after'] {'too_long': 1} True\n"


@pytest.mark.fault("S7")
def test_a_segment_that_vanishes_while_others_are_read_is_no_fault(tmp_path):
    segment(tmp_path, one("first"), seq=1)
    gone = segment(tmp_path, one("second"), seq=2)
    segment(tmp_path, one("third"), seq=3)
    reader = Reader(tmp_path)
    scan = reader.scan("traces")
    found = []
    for record in spans(scan, scan):
        gone.unlink(missing_ok=True)
        found.append(record.name)
    assert found == ["first", "third"]
    assert not reader.skips.counts


def test_links_pipes_and_folders_that_look_like_files_are_left_alone(tmp_path):
    path = segment(tmp_path / "home", one("real"))
    secret = tmp_path / "secret.jsonl"
    secret.write_bytes(one("linked"))
    path.with_name("link.jsonl").symlink_to(secret)
    os.mkfifo(path.with_name("pipe.jsonl"))
    path.with_name("folder.jsonl").mkdir()
    assert names(Reader(tmp_path / "home")) == ["real"]


def test_a_file_that_cannot_be_opened_is_counted(tmp_path, monkeypatch):
    path = segment(tmp_path, one("hidden"), seq=1)
    segment(tmp_path, one("seen"), seq=2)
    real = os.open

    def refusing(name, *args, **kwargs):  # root may open everything, so the refusal is made
        if Path(name) == path:
            raise PermissionError(13, "no", str(name))
        return real(name, *args, **kwargs)

    monkeypatch.setattr(os, "open", refusing)
    reader = Reader(tmp_path)
    assert names(reader) == ["seen"]
    assert places(reader) == [(0, "unreadable")]


def test_lines_of_another_signal_are_no_faults(tmp_path):
    (tmp_path / "mixed.json").write_bytes(b'{"resourceMetrics":[]}\n{"resourceLogs":[]}\n')
    reader = Reader(tmp_path)
    assert names(reader) == []
    assert not reader.skips.counts


def test_progress_ends_at_all_bytes_even_when_a_file_vanished(tmp_path):
    size = sum(segment(tmp_path, one("x") * 3000, seq=seq).stat().st_size for seq in (1, 2))
    reports = []
    scan = Reader(tmp_path).scan(
        "traces", progress=lambda done, total: reports.append((done, total))
    )
    segment(tmp_path, seq=2).unlink()
    assert sum(1 for _ in scan) == 3000
    assert reports == sorted(reports)
    assert len(reports) > 3
    assert reports[-1] == (size, size)


def test_segments_of_days_long_before_a_window_are_not_opened(tmp_path):
    old = segment(tmp_path, one("old"), seq=1, utc="20251201T000000Z")
    touched = segment(tmp_path, one("touched"), seq=2, utc="20251201T000000Z")
    segment(tmp_path, one("new"), seq=3, utc="20260101T000000Z")
    os.utime(old, ns=(NOW - 30 * DAY, NOW - 30 * DAY))
    os.utime(touched, ns=(NOW, NOW))
    files = Reader(tmp_path).files("traces", after=NOW - DAY)
    assert [file.name.seq for file in files] == [2, 3]


def test_a_file_whose_name_has_a_date_that_is_none_is_read(tmp_path):
    path = segment(tmp_path, one("odd"), utc="20269999T999999Z")
    os.utime(path, ns=(NOW - 30 * DAY, NOW - 30 * DAY))
    assert [file.path for file in Reader(tmp_path).files("traces", after=NOW - DAY)] == [path]


def test_a_folder_that_cannot_be_opened_is_counted(tmp_path, monkeypatch):
    closed = segment(tmp_path, one("hidden")).parent
    real = os.scandir

    def refusing(path):  # root may open everything, so the refusal is made
        if Path(path) == closed:
            raise PermissionError(13, "no", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", refusing)
    reader = Reader(tmp_path)
    assert names(reader) == []
    assert [(skip.path, skip.reason) for skip in reader.skips.places] == [(closed, "unreadable")]


@pytest.mark.parametrize("bad", [3, None, [b"x", 4]])
def test_a_path_that_is_none_is_refused(bad):
    with pytest.raises((WrongType, TypeError)):
        Reader(bad)


@pytest.mark.parametrize("bad", ["a\0b", "clickhouse://host", []])
def test_a_path_that_cannot_be_one_is_refused(bad):
    with pytest.raises(WrongValue):
        Reader(bad)


def test_an_unknown_signal_is_refused(tmp_path):
    with pytest.raises(WrongValue, match="traces, metrics, logs"):
        Reader(tmp_path).files("spans")


class TestFollowing:
    def look(self, follow) -> list[str]:
        return [one.name for one in spans(follow, follow.look())]

    def append(self, path: Path, content: bytes) -> None:
        with path.open("ab") as file:
            file.write(content)

    def test_what_was_there_before_is_not_given_and_what_is_added_is_once(self, tmp_path):
        path = segment(tmp_path, one("old"))
        follow = Reader(tmp_path).follow("traces")
        assert self.look(follow) == []
        self.append(path, one("new") + one("newer"))
        assert self.look(follow) == ["new", "newer"]
        assert self.look(follow) == []

    def test_a_line_is_given_when_it_is_whole(self, tmp_path):
        text = one("slow")
        path = segment(tmp_path, one("old"), text[:40])
        follow = Reader(tmp_path).follow("traces")
        self.append(path, text[40:90])
        assert self.look(follow) == []
        self.append(path, text[90:])
        assert self.look(follow) == ["slow"]

    def test_rotation_goes_on_in_the_new_segment(self, tmp_path):
        path = segment(tmp_path, one("old"), seq=1)
        follow = Reader(tmp_path).follow("traces")
        self.append(path, one("last"))
        segment(tmp_path, one("first"), seq=2)
        assert self.look(follow) == ["last", "first"]

    @pytest.mark.fault("S6")
    def test_a_file_that_is_renamed_by_others_goes_on_where_it_was(self, tmp_path):
        path = tmp_path / "data.json"
        path.write_bytes(one("old"))
        follow = Reader(tmp_path).follow("traces")
        self.append(path, one("last"))
        path.rename(tmp_path / "data-2026.json")
        path.write_bytes(one("fresh"))
        assert sorted(self.look(follow)) == ["fresh", "last"]

    @pytest.mark.fault("S6")
    def test_a_file_that_is_cut_short_begins_again(self, tmp_path):
        path = tmp_path / "data.json"
        path.write_bytes(one("old") * 3)
        follow = Reader(tmp_path).follow("traces")
        path.write_bytes(one("again"))
        assert self.look(follow) == ["again"]

    def test_the_torn_tail_of_a_writer_that_died_is_counted_once(self, tmp_path):
        path = segment(tmp_path, one("old"))
        reader = Reader(tmp_path)
        follow = reader.follow("traces")
        size = path.stat().st_size
        with path.open("ab", buffering=0) as writer:
            fcntl.flock(writer, fcntl.LOCK_EX)
            writer.write(one("torn")[:30])
            assert self.look(follow) == []
            assert self.look(follow) == []
            assert not reader.skips.counts
        assert self.look(follow) == []
        assert self.look(follow) == []
        assert places(reader) == [(size, "torn")]

    def test_a_segment_that_vanishes_is_forgotten(self, tmp_path):
        path = segment(tmp_path, one("old"), seq=1)
        follow = Reader(tmp_path).follow("traces")
        path.unlink()
        segment(tmp_path, one("new"), seq=2)
        assert self.look(follow) == ["new"]

    def test_garbage_is_counted_where_it_stands(self, tmp_path):
        path = segment(tmp_path, one("old"))
        reader = Reader(tmp_path)
        follow = reader.follow("traces")
        offset = path.stat().st_size
        self.append(path, b"garbage\n" + one("new"))
        assert self.look(follow) == ["new"]
        assert places(reader) == [(offset, "corrupt")]


def test_memory_does_not_grow_with_the_number_of_places_that_are_kept(tmp_path):
    segment(tmp_path, b"x\n" * 3000)
    reader = Reader(tmp_path)
    assert names(reader) == []
    assert reader.skips.counts == {"corrupt": 3000}
    assert len(reader.skips.places) == 1000


@pytest.mark.fault("S1")
def test_readers_see_every_whole_line_of_writers_that_were_killed(tmp_path):
    program = (
        "import os, sys\n"
        "fd = os.open(sys.argv[1], os.O_CREAT | os.O_APPEND | os.O_WRONLY)\n"
        "from store.lines import line, span\n"
        "import fcntl; fcntl.flock(fd, fcntl.LOCK_EX)\n"
        "n = 0\n"
        "while True:\n"
        "    os.write(fd, line(span(f'n{n}', message='x' * (n % 5000))))\n"
        "    n += 1; print(n, flush=True)\n"
    )
    folder = segment(tmp_path).parent
    tests = Path(__file__).parents[1]
    acked = {}
    for seq in range(2, 6):
        path = folder / f"shop-0badcafe-20260101T000000Z-{seq:06d}.jsonl"
        child = subprocess.Popen(
            [sys.executable, "-c", program, str(path)],
            stdout=subprocess.PIPE, text=True, cwd=tests,
            env={**os.environ, "PYTHONPATH": f"{tests}:{tests.parent}"},
        )  # fmt: skip
        with child:
            for _ in range(50 * seq):
                acked[seq] = int(child.stdout.readline())
            child.kill()
    reader = Reader(tmp_path)
    scan = reader.scan("traces")
    found: dict[int, int] = {}
    for _ in spans(scan, scan):
        seq = int(scan.path.stem[-6:])
        found[seq] = found.get(seq, 0) + 1
    assert all(found[seq] >= count for seq, count in acked.items())
    assert reader.skips.counts.total() <= len(acked)


def test_open_files_are_closed_when_a_scan_is_left_early(tmp_path):
    segment(tmp_path, one("first"), one("second"))
    before = len(list(Path("/proc/self/fd").iterdir()))
    scan = iter(Reader(tmp_path).scan("traces"))
    next(scan)
    scan.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_half_a_surrogate_pair_costs_one_character_and_not_the_line(tmp_path):
    texts = {
        rb"cut \ud83d": "cut \ufffd",
        rb"\uDE00 tail": "\ufffd tail",
        rb"\ud83d\ud83d\ude00": "\ufffd\U0001f600",
        rb"no escape: \\ud800 \ud800": "no escape: \\ud800 \ufffd",
    }
    lines = [one("NAME").replace(b"NAME", text) for text in texts]
    segment(tmp_path, *lines, b'{"resourceSpans": "\\ud800\n')
    reader = Reader(tmp_path)
    assert names(reader) == list(texts.values())
    assert reader.skips.counts == {"corrupt": 1}
    scan = reader.scan("traces")
    assert len(list(decoded(scan, scan, Decoder((Operation,) * 2, ids=True)))) == 4
