from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from faulty import FaultyBackend, spawn

SPANS = {
    "resourceSpans": [
        {
            "scopeSpans": [
                {"spans": [{"spanId": "0102030405060708", "name": n} for n in ("a", "b", "c")]}
            ]
        }
    ]
}


def post(endpoint: str, body: Any = SPANS, timeout: float = 10) -> tuple[int, dict[str, Any]]:
    request = urllib.request.Request(
        f"{endpoint}/v1/traces",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=timeout) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers)


def test_it_counts_what_it_took_and_what_came_twice() -> None:
    with FaultyBackend() as backend:
        assert post(backend.endpoint) == (200, {})
        received = backend.received(detail=True)
    assert received["requests"] == 1
    assert (received["spans"], received["duplicates"]) == (1, 2)
    assert received["names"]["traces"] == {"a": 1, "b": 1, "c": 1}
    assert received["log"][0]["answer"] == "ok"


def test_modes_are_used_up_in_order_and_the_last_one_stays() -> None:
    with FaultyBackend() as backend:
        backend.set("status:503", "status:401", "ok")
        assert [post(backend.endpoint)[0] for _ in range(4)] == [503, 401, 200, 200]


def test_it_takes_nothing_that_it_refuses() -> None:
    with FaultyBackend("status:500") as backend:
        assert post(backend.endpoint)[0] == 500
        assert backend.received()["spans"] == 0
        backend.set("partial:2")
        status, answer = post(backend.endpoint)
        assert (status, answer["partialSuccess"]["rejectedSpans"]) == (200, "2")
        assert backend.received()["names"]["traces"] == {"c": 1}


def test_poison_and_size_come_before_the_mode() -> None:
    with FaultyBackend() as backend:
        backend.set(poison="b")
        assert post(backend.endpoint)[0] == 400
        backend.set(limit=10)
        assert post(backend.endpoint)[0] == 413
        backend.set(poison="d", limit=10_000)
        assert post(backend.endpoint)[0] == 200


def test_what_is_no_otlp_is_refused() -> None:
    with FaultyBackend() as backend:
        assert post(backend.endpoint, ["no", "otlp"])[0] == 400
        assert backend.received()["answers"] == {"undecodable": 1}


def test_a_wait_is_told_to_the_client() -> None:
    with FaultyBackend("retry-after:garbage") as backend:
        status, headers = post(backend.endpoint)
    assert (status, headers["Retry-After"]) == (429, "garbage")


@pytest.mark.parametrize("mode", ["hang", "reset", "close", "truncate"])
def test_a_broken_answer_is_broken(mode: str) -> None:
    with FaultyBackend(mode) as backend:
        with pytest.raises((OSError, http.client.HTTPException)):
            post(backend.endpoint, timeout=0.3)
        taken = backend.received()["spans"]
    assert taken == (1 if mode in {"reset", "truncate"} else 0)


def test_down_refuses_and_comes_back_at_the_same_port() -> None:
    with FaultyBackend() as backend:
        place = ("127.0.0.1", backend.http_port)
        backend.set("down")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(place)
        backend.set("down:0.05", "status:503", "ok")
        for _ in range(500):
            try:
                status = post(backend.endpoint)[0]
            except OSError:
                backend.wait(timeout=0.02, requests=1)
                continue
            break
        assert [status, post(backend.endpoint)[0]] == [503, 200]


def test_an_unknown_mode_is_named() -> None:
    with FaultyBackend() as backend, pytest.raises(ValueError, match="no mode 'broken'"):
        backend.set("broken")


def test_a_backend_in_a_process_of_its_own_has_the_same_methods() -> None:
    with spawn("--mode", "status:503") as backend:
        assert post(backend.endpoint)[0] == 503
        backend.set("ok", poison="nobody", limit=None)
        assert post(backend.endpoint)[0] == 200
        assert backend.wait(spans=1, requests=2)
        assert not backend.wait(spans=2, timeout=0.05)
        assert backend.received()["answers"] == {"503": 1, "ok": 1}
        assert backend.received(detail=True)["span_ids"] == {"0102030405060708": 3}


def test_the_process_ends_with_its_standard_input() -> None:
    file = Path(__file__).parents[2] / "benchmarks" / "faulty_backend.py"
    done = subprocess.run(
        [sys.executable, str(file), "--until-eof"],
        input="",
        capture_output=True,
        text=True,
        check=True,
        timeout=15,
    )
    assert set(json.loads(done.stdout)) == {"endpoint", "grpc_endpoint", "control"}
