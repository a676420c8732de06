from __future__ import annotations

import resource
from pathlib import Path

import pytest

from otel_empathy.pipeline import segments
from otel_empathy.pipeline.segments import Name

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
