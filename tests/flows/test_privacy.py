"""What people, models and secrets say stays where it may be: every sink of a real program."""

from __future__ import annotations

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
import pytest
from planted import SECRETS

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
            env={**clean, **(environ or {})}, capture_output=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        said = done.stdout + done.stderr
        assert json.loads(done.stdout.splitlines()[-1])["flushed"], said
        heard = Heard(home, said, list(listener.bodies))
    assert {signal for signal, _ in heard.bodies} == {"traces", "metrics", "logs"}
    assert len(heard.bodies) >= 9
    return heard


# -- C1: secrets ----------------------------------------------------------------------------------
@pytest.mark.fault("C1")
@pytest.mark.timeout(90)
@pytest.mark.parametrize("capture", ["NO_CONTENT", "SPAN_AND_EVENT"])
def test_no_planted_secret_of_any_kind_leaves_the_program(tmp_path: Path, capture: str) -> None:
    assert len(SECRETS) >= 40
    named = [f"{quote(text)}" for _, text in list(SECRETS.values())[:12]]
    heard = run(
        tmp_path / "home", [text for _, text in SECRETS.values()],
        argv=[text for _, text in SECRETS.values() if "\0" not in text],
        environ={
            "OTEL_RESOURCE_ATTRIBUTES": ",".join(f"deployment.n{i}={t}" for i, t in enumerate(named)),
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


# -- C1: the gate for content -----------------------------------------------------------------------
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
