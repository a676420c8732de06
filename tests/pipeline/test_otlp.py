from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import Any

import pytest

from otel_empathy.core.errors import EmpathyError, SettingError
from otel_empathy.pipeline.otlp import Console, Otlp, origin


def test_an_endpoint_gets_the_path_of_each_signal() -> None:
    otlp = Otlp("http://collector:4318/prefix/")
    assert otlp.url("traces") == "http://collector:4318/prefix/v1/traces"
    assert otlp.url("metrics") == "http://collector:4318/prefix/v1/metrics"
    assert otlp.url("logs") == "http://collector:4318/prefix/v1/logs"


def test_an_address_of_one_signal_is_taken_as_it_stands() -> None:
    otlp = Otlp("http://collector:4318", urls={"metrics": "http://prometheus:9090/api/otlp?x=1"})
    assert otlp.url("metrics") == "http://prometheus:9090/api/otlp?x=1"
    assert otlp.url("traces") == "http://collector:4318/v1/traces"


def test_the_query_of_an_endpoint_stays_behind_the_path() -> None:
    assert Otlp("http://c/p?key=1").url("logs") == "http://c/p/v1/logs?key=1"


def test_grpc_addresses_have_no_path() -> None:
    assert Otlp("http://c:4317/ignored", protocol="grpc").url("traces") == "http://c:4317"


def test_without_an_endpoint_the_standard_one_of_the_protocol_applies() -> None:
    assert Otlp().url("traces") == "http://localhost:4318/v1/traces"
    assert Otlp(protocol="grpc").url("traces") == "http://localhost:4317"


def test_addresses_alone_say_which_signals_are_taken() -> None:
    assert Otlp(urls={"metrics": "http://prometheus:9090/otlp"}).signals == ("metrics",)
    assert Otlp("http://c", signals=["logs", "traces"]).signals == ("traces", "logs")
    assert Otlp().signals == ("traces", "metrics", "logs")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"endpoint": "collector:4318"}, ["collector:4318", "scheme", "http://localhost:4318"]),
        ({"endpoint": "http://"}, ["host"]),
        ({"endpoint": "ftp://collector"}, ["http or https"]),
        ({"endpoint": "http://collector:99999"}, ["port"]),
        ({"endpoint": "http://col lector"}, ["http://col lector"]),
        ({"endpoint": "http://collector\n"[:-1] + "\r\nX: y"}, ["host"]),
        ({"endpoint": 4318}, ["4318", "text"]),
        ({"urls": {"traces": "nowhere"}}, ["urls['traces']", "scheme"]),
        ({"urls": {"spans": "http://c"}}, ["'spans'", "traces, metrics, logs"]),
        ({"protocol": "http"}, ["'http'", "http/protobuf, http/json, grpc"]),
        ({"compression": "zstd"}, ["'zstd'", "none, gzip"]),
        ({"temporality": "both"}, ["'both'", "cumulative, delta, lowmemory"]),
        ({"start": "yesterday"}, ["'yesterday'", "now, oldest"]),
        ({"signals": ["spans"]}, ["'spans'", "traces, metrics, logs"]),
        ({"timeout": -1}, ["-1", "above 0"]),
        ({"timeout": 0}, ["above 0"]),
        ({"timeout": float("inf")}, ["above 0"]),
        ({"timeout": "10"}, ["'10'", "number of seconds"]),
        ({"timeout": True}, ["number of seconds"]),
        ({"certificate": "/no/such/ca.pem"}, ["certificate", "/no/such/ca.pem", "no such file"]),
        ({"client_certificate": "/no/such.pem"}, ["client_certificate", "no such file"]),
        ({"headers": {"a b": "c"}}, ["'a b'", "name of a header"]),
        ({"headers": {"key": "line\r\nnext: line"}}, ["key", "printable ASCII"]),
        ({"headers": 3}, ["headers=<int>", "mapping", "api-key"]),
        ({"urls": 3}, ["urls=<int>", "mapping"]),
        ({"signals": 3}, ["signals=3", "list"]),
        ({"headers": {"key": 7}}, ["key", "printable ASCII"]),
        ({"headers": {"Content-Length": "5"}}, ["'Content-Length'", "leave it out"]),
        ({"headers": {"transfer-encoding": "chunked"}}, ["leave it out"]),
        ({"name": "a/b"}, ["'a/b'", "collector-1"]),
        ({"name": ""}, ["collector-1"]),
        ({"endpoint": "unix:"}, ["'unix:'", "must have a scheme"]),
        ({"endpoint": "unix:/s", "protocol": "http/json"}, ["'unix:/s'", "grpc", "http/json"]),
        ({"proxy": "socks5://proxy"}, ["socks5://proxy", "http://proxy:3128"]),
    ],
)
def test_a_value_that_cannot_work_is_named_with_its_rule(
    arguments: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(SettingError) as caught:
        Otlp(**arguments)
    assert isinstance(caught.value, EmpathyError)
    assert isinstance(caught.value, ValueError)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("name", ["a/b", "", "..", ".hidden", 7])
def test_a_console_is_named_by_the_same_rule(name: Any) -> None:
    with pytest.raises(SettingError, match="collector-1"):
        Console(name=name)


@pytest.mark.parametrize("flag", ["errors_only", "self_health"])
def test_a_flag_of_the_console_is_true_or_false(flag: str) -> None:
    with pytest.raises(SettingError, match=f"{flag}='x': must be True or False"):
        Console(**{flag: "x"})  # type: ignore[arg-type]


def test_a_client_key_needs_its_certificate(tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    key.touch()
    with pytest.raises(SettingError, match="give both"):
        Otlp(client_key=key)


def test_the_value_of_a_header_is_never_shown() -> None:
    otlp = Otlp("http://c", headers={"Api-Key": "s3cret"})
    assert "s3cret" not in repr(otlp)
    assert "api-key" in repr(otlp)
    with pytest.raises(SettingError) as caught:
        Otlp(headers={"key": "s3cret\n"})
    assert "s3cret" not in str(caught.value)


def test_no_secret_in_an_address_is_shown() -> None:
    otlp = Otlp("http://user:s3cret@c/p?key=s3cret", proxy="http://me:s3cret@proxy:1")
    assert "s3cret" not in repr(otlp)
    with pytest.raises(SettingError) as caught:
        Otlp("ftp://user:s3cret@c/p?key=s3cret")
    assert "s3cret" not in str(caught.value)
    with pytest.raises(SettingError) as caught:
        Otlp(proxy="https://user:s3cret@proxy")
    assert "s3cret" not in str(caught.value)


def test_the_user_part_of_an_address_becomes_its_header() -> None:
    otlp = Otlp("http://user:p%40ss@collector:4318")
    assert otlp.endpoint == "http://collector:4318"
    assert otlp.headers == {"authorization": "Basic dXNlcjpwQHNz"}


def test_the_paths_of_key_files_are_shown(tmp_path: Path) -> None:
    file = tmp_path / "client.pem"
    file.touch()
    assert str(file) in repr(Otlp(client_certificate=file, client_key=file))


def test_header_names_are_kept_in_lower_case_as_grpc_wants_them() -> None:
    assert Otlp(headers={"X-Key": " v "}).headers == {"x-key": "v"}


def test_it_is_a_frozen_value() -> None:
    otlp = Otlp("http://c", headers={"a": "b"})
    with pytest.raises(FrozenInstanceError):
        otlp.endpoint = "http://d"  # type: ignore[misc]
    assert otlp == Otlp("http://c", headers={"a": "b"})
    assert otlp != Otlp("http://c", headers={"a": "c"})
    assert hash(otlp) == hash(Otlp("http://c", headers={"a": "b"}))
    assert pickle.loads(pickle.dumps(otlp)) == otlp


def test_later_arguments_are_given_by_name() -> None:
    assert all(field.kw_only for field in fields(Otlp) if field.name != "endpoint")


def test_the_origin_of_an_address_completes_the_port() -> None:
    assert origin("https://Host/x") == ("https", "host", 443)
    assert origin("http://[::1]:4318/x") == ("http", "::1", 4318)


def test_a_console_shows_every_signal_unless_told() -> None:
    assert Console().signals == ("traces", "metrics", "logs")
    assert Console(errors_only=True, signals=["logs"]).signals == ("logs",)
    with pytest.raises(SettingError, match="'spans'"):
        Console(signals=["spans"])
