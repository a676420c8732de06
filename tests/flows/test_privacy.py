"""What people, models and secrets say stays where it may be: every sink of a real program."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import faulty
import flow
import pytest
from planted import SECRETS

pytestmark = pytest.mark.timeout(180)  # programs with every transport on a busy machine

PROGRAM = Path(__file__).parent / "private.py"
CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
CANARY = "the canary sings in cage seventeen"


class Listener(faulty.FaultyBackend):
    """A backend that keeps what it hears, byte by byte."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.bodies: list[tuple[str, bytes]] = []

    def answer(self, signal: str, body: bytes, headers: Mapping[str, str]) -> Any:
        self.bodies.append((signal, body))
        return super().answer(signal, body, headers)


@dataclass
class Heard:
    """Everything that left the program."""

    home: Path
    said: str
    facts: dict[str, Any] = field(default_factory=dict)
    bodies: list[tuple[str, bytes]] = field(default_factory=list)

    def files(self) -> Iterator[tuple[str, bytes]]:
        for path in sorted(self.home.rglob("*")):
            if path.is_file() and path.name != "secret":
                yield str(path.relative_to(self.home)), path.read_bytes()

    def everything(self) -> Iterator[tuple[str, str]]:
        """Each sink as text, JSON with and without its escapes."""
        yield "standard output and error", self.said
        for name, data in (*self.files(), *self.bodies):
            text = data.decode("utf-8", "replace")
            yield name, name + text
            yield name, "\n".join(texts(text))


def texts(text: str) -> Iterator[str]:
    for line in text.splitlines():
        try:
            yield from strings(json.loads(line))
        except ValueError:
            continue


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
        try:  # JSON within JSON, as spans hold it
            inner = json.loads(value)
        except ValueError:
            return
        if isinstance(inner, (dict, list)):
            yield from strings(inner)
    elif isinstance(value, dict):
        for key, held in value.items():
            yield key
            yield from strings(held)
    elif isinstance(value, list):
        for held in value:
            yield from strings(held)


def run(
    home: Path, planted: list[str], *, argv: list[str] | None = None,
    environ: Mapping[str, str] | None = None, content: bool = False, **configure: Any,
) -> Heard:  # fmt: skip
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "PYTEST"))}
    with Listener(grpc_port=0) as listener:
        ways = [
            {"endpoint": listener.endpoint, "protocol": "http/json", "name": "json"},
            {"endpoint": listener.endpoint, "protocol": "http/protobuf", "name": "proto"},
            {"endpoint": listener.grpc_endpoint, "protocol": "grpc", "name": "grpc"},
        ]
        given = {
            "texts": planted, "backends": ways, "console": True, "content": content,
            "configure": {"home": str(home), **configure},
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, str(PROGRAM), *(argv or [])], input=json.dumps(given), text=True,
            env={**clean, **(environ or {})}, capture_output=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        facts = json.loads(done.stdout.splitlines()[-1])
        assert facts["flushed"], done.stderr
        heard = Heard(home, done.stdout + done.stderr, facts, list(listener.bodies))
    assert {signal for signal, _ in heard.bodies} == {"traces", "metrics", "logs"}
    assert len(heard.bodies) >= 9
    return heard


# -- C1: secrets ----------------------------------------------------------------------------------
@pytest.mark.fault("C1")
@pytest.mark.parametrize("capture", ["NO_CONTENT", "SPAN_AND_EVENT"])
def test_no_planted_secret_of_any_kind_leaves_the_program(tmp_path: Path, capture: str) -> None:
    assert len(SECRETS) >= 40
    named = [quote(text) for _, text in list(SECRETS.values())[:12]]
    resource = ",".join(f"deployment.n{number}={text}" for number, text in enumerate(named))
    heard = run(
        tmp_path / "home", [text for _, text in SECRETS.values()],
        argv=[text for _, text in SECRETS.values() if "\0" not in text],
        environ={
            "OTEL_RESOURCE_ATTRIBUTES": resource,
            "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "process,otel",
        },
        capture=capture, settings={"stacktraces": True},
    )  # fmt: skip
    found = {
        (kind, where)
        for where, text in heard.everything()
        for kind, (hidden, _) in SECRETS.items()
        if hidden in text
    }
    assert found == set()


# -- C1: the gate for content ----------------------------------------------------------------------
@pytest.mark.fault("C1")
@pytest.mark.parametrize(
    ("mode", "spans", "events"),
    [
        (None, False, False),
        ("NO_CONTENT", False, False),
        ("SPAN_ONLY", True, False),
        ("EVENT_ONLY", False, True),
        ("SPAN_AND_EVENT", True, True),
        ("true", True, False),
        ("anything else", False, False),
    ],
)
def test_one_gate_decides_for_every_sink(
    tmp_path: Path, mode: str | None, *, spans: bool, events: bool
) -> None:
    environ = {} if mode is None else {CAPTURE: mode}
    heard = run(tmp_path / "home", [CANARY], content=True, environ=environ)
    sinks = {
        where.split("/")[1] if where.startswith("otlp/") else where
        for where, text in heard.everything()
        if CANARY in text
    }
    assert sinks == {name for name, open_ in (("traces", spans), ("logs", events)) if open_}


# -- C2: users ------------------------------------------------------------------------------------
USER = "ada@example.com"
RACER = """
import sys
import otel_empathy
with otel_empathy.configure(service="racer", home=sys.argv[1], backends=[]):
    print("ready", flush=True)
    sys.stdin.readline()
    with otel_empathy.using(user=sys.argv[2]):
        otel_empathy.event("raced")
"""


@pytest.mark.fault("C2")
def test_eight_programs_that_race_give_a_user_one_hash_and_no_guess_finds_it(
    tmp_path: Path,
) -> None:
    home = tmp_path / "home"
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "PYTEST"))}
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(home), USER], env=clean, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for _ in range(8)
    ]  # fmt: skip
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("\n")
        racer.stdin.flush()
    said = "".join("".join(racer.communicate(timeout=120)) for racer in racers)
    assert said == ""
    found = [
        one["record"]["attributes"]["user.hash"]["stringValue"]
        for one in flow.flat("logs", flow.segments(home, "logs"))
    ]
    assert len(found) == 8
    assert len(set(found)) == 1

    secret = home / "secret"
    assert secret.stat().st_mode & 0o777 == 0o600
    everything = "".join(text for _, text in Heard(home, said).everything())
    assert found[0] in everything
    assert USER not in everything
    assert secret.read_text().strip() not in everything
    for spelling in (USER, USER.upper(), f" {USER}", f"{USER}\n"):
        for name in sorted(hashlib.algorithms_guaranteed - {"shake_128", "shake_256"}):
            digest = hashlib.new(name, spelling.encode(), usedforsecurity=False)
            assert digest.hexdigest()[:12] not in everything, name
            assert base64.b64encode(digest.digest()).decode()[:12] not in everything, name


# -- C3: lines ------------------------------------------------------------------------------------
HOSTILE = "a\nb\rc\x1b[31md\u2028e\u2029f\x85g\u202eh\u2066i\x0bj\x0ck\x1cl\x00m\x9b31mn\ud800o"


@pytest.mark.fault("C3")
def test_one_record_is_one_line_whatever_its_names_hold(tmp_path: Path) -> None:
    home = tmp_path / "home"
    heard = run(home, [HOSTILE, HOSTILE * 2], capture="SPAN_AND_EVENT")
    acked = heard.facts["acked"]
    for signal, (outer, inner, leaf) in flow.LISTS.items():
        records = 0
        for path in sorted((home / "otlp" / signal).glob("*.jsonl")):
            data = path.read_bytes()
            lines = data.split(b"\n")
            assert lines.pop() == b""
            assert len(lines) == len(data.decode().splitlines())
            for line in lines:
                record = json.loads(line)
                records += sum(
                    points(one) if signal == "metrics" else 1
                    for two in record[outer] for three in two[inner] for one in three[leaf]
                )  # fmt: skip
        assert records == acked[signal], signal
    console = [line for line in heard.said.split("\n") if "Z span" in line or "Z log" in line]
    assert len(console) == acked["traces"] + acked["logs"]
    assert not set(heard.said) & set("\x1b\u2028\u2029\x85\u202e\u2066\x0b\x0c\x9b\x00")


def points(metric: Mapping[str, Any]) -> int:
    return sum(len(metric[k]["dataPoints"]) for k in ("sum", "gauge", "histogram") if k in metric)
