from __future__ import annotations

from pathlib import Path

import pytest

from otel_empathy.pipeline.environment import console_from_environment, from_environment, resolve
from otel_empathy.pipeline.otlp import Otlp, origin

BASE = "OTEL_EXPORTER_OTLP_ENDPOINT"


def one(environ: dict[str, str]) -> Otlp:
    backends = from_environment(environ)
    assert len(backends) == 1
    return backends[0]


# -- whether there is a backend -------------------------------------------------------------------
@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_HEADERS": "a=b"},
        {BASE: "  "},
        {BASE: "http://c", **{f"OTEL_{s}_EXPORTER": "none" for s in ("TRACES", "METRICS", "LOGS")}},
        {"OTEL_TRACES_EXPORTER": "empathy_jsonl"},
    ],
)
def test_nobody_is_sent_anything_unless_asked_for(environ: dict[str, str]) -> None:
    assert from_environment(environ) == []
    assert console_from_environment(environ) is None


def test_a_general_endpoint_takes_all_signals_in_one_backend() -> None:
    backend = one({BASE: "http://collector:4318"})
    assert backend.signals == ("traces", "metrics", "logs")
    assert backend.name == "http-collector-4318"
    assert backend.protocol == "http/protobuf"
    assert backend.timeout == 10
    assert backend.compression == "none"
    assert backend.temporality == "cumulative"
    assert backend.start == "now"
    assert backend.url("traces") == "http://collector:4318/v1/traces"


def test_an_explicit_exporter_goes_to_the_standard_place() -> None:
    backend = one({"OTEL_TRACES_EXPORTER": "otlp"})
    assert backend.signals == ("traces",)
    assert backend.url("traces") == "http://localhost:4318/v1/traces"
    backend = one({"OTEL_LOGS_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"})
    assert backend.url("logs") == "http://localhost:4317"


def test_the_older_name_of_the_endpoint_counts_where_the_standard_one_is_unset() -> None:
    assert one({"EMPATHY_OTEL_ENDPOINT": "http://old"}).endpoint == "http://old"
    both = {"EMPATHY_OTEL_ENDPOINT": "http://old", BASE: "http://new"}
    assert one(both).endpoint == "http://new"


def test_none_takes_a_signal_away_from_an_endpoint() -> None:
    environ = {BASE: "http://c", "OTEL_METRICS_EXPORTER": "none"}
    assert one(environ).signals == ("traces", "logs")


def test_lists_of_exporters_are_understood() -> None:
    environ = {"OTEL_TRACES_EXPORTER": " console , otlp,otlp", "OTEL_LOGS_EXPORTER": "console"}
    assert one(environ).signals == ("traces",)
    console = console_from_environment(environ)
    assert console is not None
    assert console.signals == ("traces", "logs")


def test_an_exporter_of_somebody_else_is_named_in_a_warning() -> None:
    with pytest.warns(RuntimeWarning, match="OTEL_TRACES_EXPORTER: 'zipkin'"):
        backend = one({BASE: "http://c", "OTEL_TRACES_EXPORTER": "zipkin,otlp"})
    assert "traces" in backend.signals


def test_the_official_exporter_names_imply_their_protocol() -> None:
    environ = {"OTEL_TRACES_EXPORTER": "otlp_proto_grpc", "OTEL_LOGS_EXPORTER": "otlp_proto_http"}
    grpc, http = from_environment(environ)
    assert (grpc.protocol, grpc.signals) == ("grpc", ("traces",))
    assert (http.protocol, http.signals) == ("http/protobuf", ("logs",))


# -- addresses ------------------------------------------------------------------------------------
def test_an_endpoint_of_one_signal_is_used_as_it_stands() -> None:
    backend = one({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://jaeger:4318/custom"})
    assert backend.signals == ("traces",)
    assert backend.url("traces") == "http://jaeger:4318/custom"
    assert backend.name == "http-jaeger-4318"
    assert backend.endpoint == "http://jaeger:4318"


def test_signals_that_go_to_several_places_become_several_backends() -> None:
    rest, metrics = from_environment(
        {
            BASE: "http://collector:4318/p",
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://prometheus:9090/api/v1/otlp/v1/metrics",
        }
    )
    assert (rest.name, rest.signals) == ("http-collector-4318", ("traces", "logs"))
    assert (metrics.name, metrics.signals) == ("http-prometheus-9090", ("metrics",))
    assert metrics.endpoint == "http://prometheus:9090"
    assert metrics.url("metrics") == "http://prometheus:9090/api/v1/otlp/v1/metrics"


def test_two_addresses_at_one_place_share_a_backend() -> None:
    backend = one(
        {
            BASE: "http://collector:4318/p",
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/spans",
        }
    )
    assert backend.url("traces") == "http://collector:4318/spans"
    assert backend.url("logs") == "http://collector:4318/p/v1/logs"


def test_other_headers_at_the_same_place_make_another_backend_with_a_longer_name() -> None:
    first, second = from_environment(
        {
            BASE: "http://collector:4318",
            "OTEL_EXPORTER_OTLP_HEADERS": "key=a",
            "OTEL_EXPORTER_OTLP_LOGS_HEADERS": "key=b",
        }
    )
    assert (first.name, first.headers) == ("http-collector-4318", {"key": "a"})
    assert (second.name, second.headers) == ("http-collector-4318-logs", {"key": "b"})


@pytest.mark.parametrize(
    ("endpoint", "name"),
    [
        ("https://otlp.example.com", "https-otlp.example.com-443"),
        ("http://[2001:db8::1]:4318", "http-2001-db8-1-4318"),
        ("http://[::]:4318", "http-any-4318"),
    ],
)
def test_the_default_name_can_be_that_of_a_folder(endpoint: str, name: str) -> None:
    assert one({BASE: endpoint}).name == name


@pytest.mark.parametrize(
    ("insecure", "endpoint"),
    [({}, "https://c:4317"), ({"OTEL_EXPORTER_OTLP_INSECURE": "true"}, "http://c:4317")],
)
def test_grpc_takes_an_address_without_a_scheme(insecure: dict[str, str], endpoint: str) -> None:
    environ = {BASE: "c:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", **insecure}
    assert one(environ).endpoint == endpoint


@pytest.mark.parametrize("text", ["unix:/run/c.sock", "unix:///run/c.sock"])
def test_grpc_takes_a_socket_which_no_proxy_reaches(text: str) -> None:
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": text, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    (found,) = from_environment({**environ, "ALL_PROXY": "http://proxy:1"})
    assert (origin(found.url("traces")), found.protocol) == (("unix", "/run/c.sock", 0), "grpc")
    assert (found.name, found.proxy) == ("unix-run-c.sock", "")


ONLY_TRACES = {"OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}


@pytest.mark.parametrize(
    "environ",
    [
        {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"},
        {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json", **ONLY_TRACES},
        {"OTEL_TRACES_EXPORTER": "otlp_proto_http", **ONLY_TRACES},
    ],
)
def test_a_socket_beside_another_protocol_is_left_out_with_a_warning(
    environ: dict[str, str],
) -> None:
    with pytest.warns(RuntimeWarning, match="a socket takes protocol='grpc'"):
        assert (
            from_environment({"OTEL_EXPORTER_OTLP_ENDPOINT": "unix:/run/c.sock", **environ}) == []
        )


def test_a_scheme_wins_over_insecure() -> None:
    environ = {BASE: "https://c", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    assert one({**environ, "OTEL_EXPORTER_OTLP_INSECURE": "true"}).endpoint == "https://c"


def test_an_endpoint_that_cannot_be_one_counts_as_unset() -> None:
    with pytest.warns(RuntimeWarning, match=rf"{BASE}: .*collector:4318.*counts as unset"):
        assert from_environment({BASE: "collector:4318"}) == []


# -- the other variables --------------------------------------------------------------------------
def test_a_variable_of_one_signal_wins_over_the_general_one() -> None:
    traces, rest = from_environment(
        {
            BASE: "http://c",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
            "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION": "none",
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json",
            "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT": "3",
        }
    )
    assert (traces.compression, traces.protocol, traces.timeout) == ("none", "http/json", 3)
    assert (rest.compression, rest.protocol, rest.timeout) == ("gzip", "http/protobuf", 10)
    assert rest.signals == ("metrics", "logs")


@pytest.mark.parametrize(
    ("text", "headers"),
    [
        ("api-key=abc", {"api-key": "abc"}),
        ("API-Key=abc,b=c", {"api-key": "abc", "b": "c"}),
        (" a = b%20c%2Cd , ", {"a": "b c,d"}),
        ("authorization=Bearer abc%3D", {"authorization": "Bearer abc%3D"}),
        ("authorization=Bearer%20abc==", {"authorization": "Bearer abc=="}),
        ("a=", {"a": ""}),
    ],
)
def test_headers_are_pairs_in_url_encoding(text: str, headers: dict[str, str]) -> None:
    assert one({BASE: "http://c", "OTEL_EXPORTER_OTLP_HEADERS": text}).headers == headers


@pytest.mark.parametrize(
    "text", ["s3cret", "=s3cret", "a b=s3cret", "a=s3cret%0D%0Ab", "a=s3cret%C3%A4"]
)
def test_a_broken_header_is_left_out_and_not_shown(text: str) -> None:
    with pytest.warns(RuntimeWarning, match="OTEL_EXPORTER_OTLP_HEADERS: pair 2") as warned:
        backend = one({BASE: "http://c", "OTEL_EXPORTER_OTLP_HEADERS": f"k=v,{text}"})
    assert backend.headers == {"k": "v"}
    assert not any("s3cret" in str(warning.message) for warning in warned)


@pytest.mark.parametrize(
    ("text", "seconds"), [("3", 3), ("0.5", 0.5), ("999", 999), ("1000", 1), ("10000", 10)]
)
def test_a_timeout_is_seconds_unless_it_can_only_be_milliseconds(text: str, seconds: float) -> None:
    assert one({BASE: "http://c", "OTEL_EXPORTER_OTLP_TIMEOUT": text}).timeout == seconds


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "-1"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "0"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "nan"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "deflate"),
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "both"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/no/such/file"),
        ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/no/such/file"),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/no/such/file"),
        ("HTTP_PROXY", "socks5://proxy"),
        ("OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER", "gcp"),
    ],
)
def test_a_variable_that_cannot_be_understood_warns_once_and_is_unset(
    variable: str, text: str
) -> None:
    with pytest.warns(RuntimeWarning) as warned:
        backend = one({BASE: "http://c", variable: text})
    assert [variable in str(warning.message) for warning in warned] == [True]
    assert backend == one({BASE: "http://c"})


def test_values_are_understood_in_any_case() -> None:
    environ = {
        BASE: "http://c",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "GZIP",
        "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "LowMemory",
    }
    backend = one(environ)
    assert (backend.compression, backend.temporality) == ("gzip", "lowmemory")


def test_certificate_files_are_taken_over(tmp_path: Path) -> None:
    names = ("CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY")
    environ = {BASE: "https://c"}
    for name in names:
        (tmp_path / name).touch()
        environ[f"OTEL_EXPORTER_OTLP_{name}"] = str(tmp_path / name)
    backend = one(environ)
    for name in names:
        assert getattr(backend, name.lower()) == str(tmp_path / name)


# -- what arguments leave open --------------------------------------------------------------------
def test_the_environment_fills_in_what_an_argument_leaves_open() -> None:
    environ = {BASE: "http://c:4318", "OTEL_EXPORTER_OTLP_HEADERS": "k=v"}
    backend = resolve(Otlp(timeout=3), environ)
    assert (backend.endpoint, backend.headers, backend.timeout) == ("http://c:4318", {"k": "v"}, 3)
    assert backend.name == "http-c-4318"


def test_an_argument_wins_over_the_environment() -> None:
    environ = {BASE: "http://c:4318", "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip"}
    backend = resolve(Otlp("http://c:4318/x", compression="none", name="mine"), environ)
    assert (backend.endpoint, backend.compression) == ("http://c:4318/x", "none")
    assert backend.name == "mine"


def test_an_address_given_as_argument_is_that_of_every_signal() -> None:
    environ = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/spans"}
    backend = resolve(Otlp("http://c:4318"), environ)
    assert backend.url("traces") == "http://c:4318/v1/traces"


def test_credentials_for_one_place_never_go_to_another() -> None:
    environ = {BASE: "https://vendor", "OTEL_EXPORTER_OTLP_HEADERS": "api-key=s3cret"}
    assert resolve(Otlp("http://localhost:4318"), environ).headers is None
    per_signal = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://vendor/v1/traces"}
    environ = {**per_signal, "OTEL_EXPORTER_OTLP_HEADERS": "api-key=s3cret"}
    assert resolve(Otlp("http://localhost:4318"), environ).headers is None


def test_credentials_without_a_place_go_where_the_argument_says() -> None:
    environ = {"OTEL_EXPORTER_OTLP_HEADERS": "api-key=s3cret"}
    assert resolve(Otlp("https://vendor"), environ).headers == {"api-key": "s3cret"}


def test_an_argument_without_an_address_goes_where_the_environment_says() -> None:
    environ = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://jaeger:4318/spans"}
    backend = resolve(Otlp(), environ)
    assert backend.url("traces") == "http://jaeger:4318/spans"
    assert backend.url("logs") == "http://localhost:4318/v1/logs"


def test_resolving_twice_changes_nothing() -> None:
    backend = resolve(Otlp("http://c", headers={"a": "b"}), {"HTTP_PROXY": "http://p"})
    assert resolve(backend, {}) == backend


# -- proxies --------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("endpoint", "environ", "proxy"),
    [
        ("https://c", {"HTTPS_PROXY": "http://p:3128"}, "http://p:3128"),
        ("https://c", {"https_proxy": "http://a", "HTTPS_PROXY": "http://b"}, "http://a"),
        ("https://c", {"HTTPS_PROXY": "p:3128"}, "http://p:3128"),
        ("https://c", {"HTTP_PROXY": "http://p"}, ""),
        ("http://c", {"HTTP_PROXY": "http://p"}, "http://p"),
        ("http://c", {"HTTP_PROXY": "http://p", "REQUEST_METHOD": "GET"}, ""),
        ("http://c", {"ALL_PROXY": "http://p"}, "http://p"),
        ("http://localhost:4318", {"HTTP_PROXY": "http://p"}, ""),
        ("http://127.0.0.2:4318", {"HTTP_PROXY": "http://p"}, ""),
        ("http://[::1]:4318", {"HTTP_PROXY": "http://p"}, ""),
        ("http://c", {"HTTP_PROXY": "http://p", "NO_PROXY": "*"}, ""),
        ("http://c", {"HTTP_PROXY": "http://p", "no_proxy": "x, c"}, ""),
        ("http://a.b.c", {"HTTP_PROXY": "http://p", "NO_PROXY": ".b.c"}, ""),
        ("http://a.b.c", {"HTTP_PROXY": "http://p", "NO_PROXY": "*.B.C"}, ""),
        ("http://ab.c", {"HTTP_PROXY": "http://p", "NO_PROXY": "b.c"}, "http://p"),
        ("http://c:4318", {"HTTP_PROXY": "http://p", "NO_PROXY": "c:4318"}, ""),
        ("http://c:4318", {"HTTP_PROXY": "http://p", "NO_PROXY": "c:4319"}, "http://p"),
        ("http://10.1.2.3", {"HTTP_PROXY": "http://p", "NO_PROXY": "10.0.0.0/8"}, ""),
        ("http://11.1.2.3", {"HTTP_PROXY": "http://p", "NO_PROXY": "10.0.0.0/8"}, "http://p"),
        ("http://10.1.2.3", {"HTTP_PROXY": "http://p", "NO_PROXY": "10.1.2.3"}, ""),
    ],
)
def test_proxies_are_taken_from_the_environment(
    endpoint: str, environ: dict[str, str], proxy: str
) -> None:
    assert resolve(Otlp(endpoint), environ).proxy == proxy


def test_an_empty_proxy_argument_means_none() -> None:
    assert resolve(Otlp("http://c", proxy=""), {"HTTP_PROXY": "http://p"}).proxy == ""


def test_a_backend_of_the_environment_goes_through_its_proxy_too() -> None:
    assert one({BASE: "https://c", "HTTPS_PROXY": "http://p:1"}).proxy == "http://p:1"
