"""Rotel is the strict reader: it takes our form of OTLP-JSON and refuses the near misses."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import otlp_json
import pytest
import services

pytestmark = [pytest.mark.tool("rotel"), pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def rotel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[services.Rotel]:
    with services.rotel(folder=tmp_path_factory.mktemp("rotel")) as running:
        yield running


@pytest.mark.parametrize("signal", ["traces", "metrics", "logs"])
def test_a_line_of_a_segment_is_accepted(
    rotel: services.Rotel, signal: str, tmp_path: Path
) -> None:
    file = otlp_json.segment(tmp_path, signal, "a", [1, 2])
    assert [rotel.judge(signal, line) for line in file.read_bytes().splitlines()] == [200, 200]


def test_ids_in_base64_are_refused(rotel: services.Rotel) -> None:
    span = otlp_json.span(1, traceId=base64.b64encode(bytes(range(16))).decode())
    request = otlp_json.encoded(otlp_json.body("traces", [span]))
    assert rotel.judge("traces", request) == 400


@pytest.mark.parametrize("wrong", [b"{", b"[]", b'{"resourceSpans":{}}'])
def test_a_wrong_shape_is_refused(rotel: services.Rotel, wrong: bytes) -> None:
    assert rotel.judge("traces", wrong) == 400
