"""Jaeger takes OTLP through every door of jaeger.yaml and gives back what it was sent."""

from __future__ import annotations

from pathlib import Path

import otlp_json
import pytest
import services

pytestmark = [pytest.mark.tool("jaeger"), pytest.mark.timeout(180)]


def test_a_trace_sent_as_json_is_read_back_with_names_parents_kinds_and_status(
    tmp_path: Path,
) -> None:
    root = otlp_json.span(1, trace=7, name="invoke_agent planner", kind=1)
    child = otlp_json.span(
        2, trace=7, parentSpanId=root["spanId"], status={"code": 2, "message": "no model"}
    )
    request = otlp_json.encoded(otlp_json.body("traces", [root, child]))
    with services.jaeger(folder=tmp_path) as running:
        assert services.request(f"{running.http}/v1/traces", request)[0] == 200
        services.until(lambda: len(running.spans(root["traceId"])) == 2, what="both spans")
        found = {span["spanId"]: span for span in running.spans(root["traceId"])}
        services.until(lambda: running.services() == ["shop"], what="the service")
        assert running.get("/api/v3/services") == {"services": ["shop"]}
    for sent in (root, child):
        back = found[sent["spanId"]]
        assert {key: back[key] for key in sent if key != "attributes"} == {
            key: value for key, value in sent.items() if key != "attributes"
        }
        assert sorted(back["attributes"], key=str) == sorted(sent["attributes"], key=str)
        assert otlp_json.attributes({"service.name": "shop"})[0] in back["resource"]["attributes"]


def test_jaeger_listens_on_loopback_only(tmp_path: Path) -> None:
    with services.jaeger(folder=tmp_path) as running:
        inodes = {
            link.readlink().name
            for link in Path(f"/proc/{running.process.pid}/fd").iterdir()
            if link.is_symlink()
        }
        listening = []
        for table in ("tcp", "tcp6"):
            rows = Path(f"/proc/{running.process.pid}/net/{table}").read_text(encoding="ascii")
            for row in rows.splitlines()[1:]:
                cells = row.split()
                if cells[3] == "0A" and f"socket:[{cells[9]}]" in inodes:
                    listening.append(cells[1].partition(":")[0])
    assert len(listening) == 5
    assert set(listening) == {"0100007F"}
