"""Secrets never survive; everything else does."""

from __future__ import annotations

import base64
import json
import string
import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_empathy.core.errors import WrongValue
from otel_empathy.core.scrub import Scrubber


def filler(length: int, *, alphabet: str = string.ascii_letters + string.digits) -> str:
    """Characters that look random, made here so that no secret stands in this file."""
    return "".join(alphabet[(i * 37 + i * i * 11 + 5) % len(alphabet)] for i in range(length))


HEX = "0123456789abcdef"
UPPER = string.ascii_uppercase + "234567"
LOWER = string.ascii_lowercase + string.digits

# Kind of secret -> the text that must not survive, and that text in its usual surroundings.
SECRETS: dict[str, tuple[str, str]] = {}


def secret(kind: str, *parts: str, within: str = "{}") -> None:
    """Add a kind; its parts are joined here, away from the eyes of secret scanners."""
    text = "".join(parts)
    SECRETS[kind] = (text, within.replace("{}", text))


secret("anthropic", "sk-", "ant-api03-", filler(95))
secret("openai", "sk-", filler(48))
secret("openai project", "sk-", "proj-", filler(60), "_", filler(60), "-", filler(20))
secret("openrouter", "sk-", "or-v1-", filler(64, alphabet=HEX))
secret("langfuse", "sk-", "lf-", str(uuid.UUID(int=7**40)))
secret("groq", "gsk_", filler(52))
secret("xai", "xai-", filler(80))
secret("perplexity", "pplx-", filler(48))
secret("cerebras", "csk-", filler(48, alphabet=LOWER))
secret("fireworks", "fw_", filler(24))
secret("together", "tgp_", "v1_", filler(43))
secret("nvidia", "nvapi-", filler(64))
secret("replicate", "r8_", filler(37))
secret("hugging face", "hf_", filler(34))
secret("langsmith", "lsv2_", "pt_", filler(32, alphabet=HEX), "_", filler(10, alphabet=HEX))
secret("logfire", "pylf_", "v1_us_", filler(43))
secret("pinecone", "pcsk_", filler(60))
secret("tavily", "tvly-", filler(32))
secret("e2b", "e2b_", filler(40, alphabet=HEX))
secret("aws key id", "AK", "IA", filler(16, alphabet=UPPER))
secret("aws session key id", "AS", "IA", filler(16, alphabet=UPPER))
secret("aws secret", filler(40), within="aws_secret_access_key = {}")
secret("aws session token", filler(300), within="export AWS_SESSION_TOKEN={}")
secret("google api", "AI", "za", filler(35))
secret("google oauth", "ya29", ".", filler(120))
secret("google client", "GOC", "SPX-", filler(28))
secret("google refresh", "1/", "/0", filler(40))
secret("azure client", "abc", "8Q", "~", filler(34))
secret("azure key", filler(52), "JQQ", "J99", filler(26))
secret("azure storage", filler(86), "==", within="AccountName=x;AccountKey={};EndpointSuffix=y")
secret(
    "azure sas", filler(43), "%3D", within="https://x.blob.core.windows.net/c?sv=2024&sig={}&se=1"
)
secret("azure bus", filler(43), "=", within="Endpoint=sb://x/;SharedAccessKey={};EntityPath=q")
secret("github", "gh", "p_", filler(36))
secret("github app", "gh", "s_", filler(36))
secret("github fine", "github", "_pat_", filler(22), "_", filler(59))
secret("gitlab", "gl", "pat-", filler(20))
secret("slack bot", "xo", "xb-", filler(12, alphabet=string.digits), "-", filler(24))
secret("slack app", "xa", "pp-1-A", filler(10, alphabet=UPPER), "-", filler(64, alphabet=HEX))
secret("slack hook", "T0", filler(7), "/B0", filler(7), "/", filler(24),
       within="https://hooks.slack.com/services/{}")  # fmt: skip
secret("discord hook", filler(18, alphabet="12345678"), "/", filler(68),
       within="https://discord.com/api/webhooks/{}")  # fmt: skip
secret("telegram", "1234567890:", "AA", filler(33))
secret("stripe live", "sk_", "live_", filler(24))
secret("stripe restricted", "rk_", "test_", filler(24))
secret("stripe hook", "wh", "sec_", filler(32))
secret("square", "sq0", "atp-", filler(22))
secret("shopify", "shp", "at_", filler(32, alphabet=HEX))
secret("twilio", "S", "K", filler(32, alphabet=HEX))
secret("sendgrid", "SG", ".", filler(22), ".", filler(43))
secret("mailgun", "key", "-", filler(32, alphabet=HEX))
secret("mailchimp", filler(32, alphabet=HEX), "-us", "12")
secret("npm", "np", "m_", filler(36))
secret("pypi", "py", "pi-AgEIcHlwaS5vcmc", filler(80))
secret("docker", "dckr", "_pat_", filler(27))
secret("vault", "hv", "s.", filler(90))
secret("terraform", filler(14), ".atlas", "v1.", filler(67))
secret("digitalocean", "dop", "_v1_", filler(64, alphabet=HEX))
secret("databricks", "da", "pi", filler(32, alphabet=HEX))
secret("notion", "nt", "n_", filler(46))
secret("linear", "lin", "_api_", filler(40))
secret("figma", "fig", "d_", filler(40))
secret("airtable", "pa", "t", filler(14), ".", filler(64, alphabet=HEX))
secret("atlassian", "ATA", "TT3", filler(120))
secret("postman", "PM", "AK-", filler(24, alphabet=HEX), "-", filler(34, alphabet=HEX))
secret("grafana", "gl", "sa_", filler(32), "_", filler(8, alphabet=HEX))
secret("new relic", "NR", "AK-", filler(27, alphabet=UPPER))
secret("sentry", "sn", "trys_", filler(90))
secret("dynatrace", "dt0", "c01.", filler(24, alphabet=UPPER), ".", filler(64, alphabet=UPPER))
secret("age", "AGE-SECRET", "-KEY-1", filler(58, alphabet=UPPER))
secret("jwt", "ey", "J", filler(30), ".ey", "J", filler(60), ".", filler(43))
BEGIN, END = "-----BEGIN RSA PRIVATE " + "KEY-----", "-----END RSA PRIVATE " + "KEY-----"
secret("private key", filler(64), "\n", filler(64), within=f"{BEGIN}\n{{}}\n{END}")
secret("cut private key", filler(64), within=BEGIN + "\n{}")
secret("bearer header", filler(40), within="Authorization: Bearer {}")
secret("basic header", base64.b64encode(b"ada:lovelace 1815").decode(),
       within="authorization: Basic {}")  # fmt: skip
secret("lone bearer", filler(40), within="sent Bearer {} to it")
secret("lone basic", base64.b64encode(b"ada:lovelace 1815").decode(), within="sent Basic {} on")
secret("aws header", "AKI", "A/20260101/eu/s3/aws4_request, SignedHeaders=host, Signature=01",
       within="Authorization: AWS4-HMAC-SHA256 Credential={}")  # fmt: skip
secret("header pair", filler(30), within="[('authorization', 'Bearer {}')]")
secret("cookie", "sid=", filler(32), "; theme=dark", within="Cookie: {}")
secret("set cookie", "sid=", filler(32), within="set-cookie: {}; HttpOnly")
secret("url password", "hunter2!x", within="postgresql+asyncpg://app:{}@db.internal:5432/shop")
secret("url password with at", "p@ss:w0rd", within="redis://:{}@cache:6379/0")
secret("url token", filler(24), within="git clone https://{}@example.org/x.git")
secret("query key", filler(24), within="GET /v1?alt=sse&key={}")
secret("query token", filler(8), within="https://x/cb?access_token={}#top")
secret(
    "presigned url", filler(64, alphabet=HEX), within="https://b/k?X-Amz-Signature={}&X-Amz-Date=1"
)
secret("password in env", "hunter2!", within="DB_PASSWORD={}")
secret("password in yaml", "correct-horse", within="db:\n  password: {}\n  port: 1")
secret("password in json", 'a "quoted" word\\', within="")
SECRETS["password in json"] = ("quoted", json.dumps({"password": 'a "quoted" word', "n": 1}))
SECRETS["password in json in json"] = (
    "quoted",
    json.dumps({"arguments": json.dumps({"password": 'a "quoted" word', "n": 1})}),
)
secret("cut json", "battery staple", within='{"user": "ada", "password": "{}')
secret("password in xml", "hunter2!", within="<password>{}</password>")
secret("api key in code", filler(20), within='client = Client(api_key="{}")')
secret("api key in header", filler(20), within="x-api-key: {}")
secret("api key in camel", filler(20), within="{apiKey: '{}'}")
secret("client secret", filler(20), within="client_secret={}&grant_type=x")
secret("access token", filler(20), within='"access_token":"{}"')
secret("option", "hunter2!", within="mysqldump --user app --password {} shop")
secret("option with sign", filler(20), within="tool --api-key={} run")
secret("argv in json", filler(9), within='["tool", "--token", "{}"]')
secret("curl", "hunter2!", within="curl -s -u ada:{} https://x/")
secret("netrc", "hunter2!", within="machine x.org login ada password {}")
secret("sql", "hunter2!", within="CREATE USER ada IDENTIFIED BY '{}'")
secret("connection string", "hunter2!", within="Server=db;User Id=app;Password={};Encrypt=yes")
secret("card", "4111", "1111", "1111", "1111")
secret("card with spaces", "5500 ", "0000 0000 ", "0004")
secret("amex", "3782-", "822463-", "10005")

KINDS = sorted(SECRETS)
WORDS = st.text(st.characters(codec="utf-8"), max_size=40)


@pytest.mark.fault("C1")
@pytest.mark.parametrize("kind", KINDS)
def test_a_secret_of_each_kind_is_masked_and_counted(kind: str) -> None:
    hidden, text = SECRETS[kind]
    scrub = Scrubber()
    clean = scrub(text)
    assert hidden not in clean
    assert "[scrubbed:" in clean
    assert scrub.hits.total() >= 1


def test_there_are_more_than_forty_kinds() -> None:
    scrub = Scrubber()
    for _, text in SECRETS.values():
        scrub(text)
    assert len(SECRETS) > 100
    assert len(scrub.hits) > 70


@pytest.mark.parametrize("kind", KINDS)
def test_a_secret_is_masked_in_text_that_json_or_a_url_has_escaped(kind: str) -> None:
    hidden, text = SECRETS[kind]
    if "json" in kind or "\n" in hidden:
        pytest.skip("is escaped text itself")
    escaped = json.dumps({"content": f"say\n{text}\nand go on"})
    assert json.dumps(hidden)[1:-1] not in Scrubber()(escaped)


@pytest.mark.parametrize("kind", KINDS)
def test_scrubbing_twice_changes_and_counts_nothing_more(kind: str) -> None:
    scrub = Scrubber()
    once = scrub(SECRETS[kind][1])
    before = scrub.hits.total()
    assert scrub(once) == once
    assert scrub.hits.total() == before


@given(kind=st.sampled_from(KINDS), before=WORDS, after=WORDS)
@settings(max_examples=300, deadline=None)
def test_a_secret_is_masked_between_any_words(kind: str, before: str, after: str) -> None:
    hidden, text = SECRETS[kind]
    assert hidden not in Scrubber()(f"{before} {text} {after}")


NESTED = st.recursive(
    st.sampled_from([text for _, text in SECRETS.values()]) | st.integers() | st.none() | WORDS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(WORDS, inner, max_size=4)
        | st.tuples(inner, inner)
        | inner.map(lambda v: v.encode() if isinstance(v, str) else v)
    ),
    max_leaves=12,
)


def texts(value: object) -> str:
    """All texts in a structure, one after the other."""
    if isinstance(value, str):
        return value + "\n"
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace") + "\n"
    if isinstance(value, dict):
        return "".join(texts(k) + texts(v) for k, v in value.items())
    if isinstance(value, list | tuple):
        return "".join(map(texts, value))
    return ""


@given(value=NESTED)
@settings(max_examples=200, deadline=None)
def test_no_secret_survives_in_any_nesting(value: object) -> None:
    left = texts(Scrubber().value(value))
    for hidden, _ in SECRETS.values():
        # `quoted` is an ordinary word outside of its own texts.
        assert hidden == "quoted" or hidden not in left


# The words that announce a credential in a header are the ones that are not ordinary.
SCHEMES = {"basic", "bearer", "digest", "negotiate", "token", "apikey", "ssws"}


@given(
    words=st.lists(
        st.text(string.ascii_letters, min_size=1, max_size=14).filter(
            lambda word: word.lower() not in SCHEMES
        ),
        max_size=60,
    )
)
@settings(max_examples=200, deadline=None)
def test_ordinary_words_pass_unchanged(words: list[str]) -> None:
    text = " ".join(words)
    assert Scrubber()(text) == text


@given(number=st.integers(), share=st.floats(), identity=st.uuids(), bits=st.binary(min_size=16))
@settings(max_examples=300, deadline=None)
def test_numbers_and_ids_pass_unchanged(
    number: int, share: float, identity: uuid.UUID, bits: bytes
) -> None:
    text = (
        f"input_tokens={number % 10**9} score={share!r} {identity} {bits[:16].hex()} {bits.hex()}"
    )
    assert Scrubber()(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "input_tokens=5 output_tokens: 7 max_tokens=4096 token_count=3 tokens: 12",
        '{"gen_ai.usage.input_tokens": 1200, "max_completion_tokens": 64}',
        '{"token": "Hello", "logprob": -0.31}',
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "run_01JB7Q2W8N5R3T6Y9ZK4M1H0XC",
        "chatcmpl-9xQ2kL0aZpYf3mNv8RtUw4HsGdEb call_9xQ2kL0aZpYf3mNv",
        "gpt-4o-2024-08-06 claude-3-7-sonnet-20250219 us.anthropic.claude-3-5-sonnet-20241022-v2:0",
        "text-embedding-3-small ft:gpt-4o-mini-2024-07-18:org::9x accounts/fireworks/models/x",
        "2026-11-20T10:11:12.123456789Z 1763632272123456789 1763632272123456 1763632272123",
        "/usr/lib/python3.11/site-packages/opentelemetry/sdk/trace/__init__.py:187",
        "https://api.example.com:8443/v1/chat?page=2&limit=20&key=name&code=E42",
        "mail ada@example.org, see https://example.org/@ada/posts",
        "the basic understanding of bearer responsibilities, and cookies: two",
        "a password is a word; the key point: tokens pass the secret gate",
        "def login(password: str, api_key: Optional[str] = None, token: str | None = None)",
        "password=${DB_PASSWORD} api_key={{ key }} secret=<your secret> token=****",
        "api_key = os.environ['OPENAI_API_KEY']",
        '{"required": ["user", "password", "email"], "password": {"type": "string"}}',
        "PWD=/home/ada/work",
        "order 4111111111111112, 4111 1111 1111 1112 and 5500-0000-0000-0005",
        "0.4539578763621486 0.5424180511104223 4.111111111111111",
        "sk-learn-compatible-estimators risk-free-and-tax-exempt-bonds task-oriented-agents",
    ],
)
def test_what_only_resembles_a_secret_passes_unchanged(text: str) -> None:
    assert Scrubber()(text) == text


@pytest.mark.parametrize(
    "key",
    [
        "authorization", "Authorization", "proxy-authorization", "api_key", "apiKey", "x-api-key",
        "password", "DB_PASSWORD", "secret", "client_secret", "set-cookie", "Cookie",
        "http.request.header.authorization", "aws_secret_access_key", "refreshToken",
        "GITHUB_ACCESS_TOKEN", "credentials", "private-key",
    ],
)  # fmt: skip
def test_a_key_that_names_a_secret_masks_its_value(key: str) -> None:
    scrub = Scrubber()
    assert scrub.pair(key, "x1") == "[scrubbed:field]"
    assert scrub.pair(key, ["x1", "x2"]) == "[scrubbed:field]"
    assert scrub.value({"a": [{key: "x1"}]}) == {"a": [{key: "[scrubbed:field]"}]}
    assert scrub.hits["field"] == 3


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("gen_ai.usage.input_tokens", 5),
        ("gen_ai.token.type", "input"),
        ("token", "Hello"),
        ("max_tokens", "100"),
        ("empathy.cost.price_key", "openai/gpt-4o"),
        ("prompt_cache_key", "greeting"),
        ("session.id", "4bf92f3577b34da6"),
        ("password", None),
        ("password", ""),
        ("secret", False),
        ("pwd", "/home/ada"),
        ("key", "name"),
    ],
)
def test_a_key_that_names_no_secret_keeps_its_value(key: str, value: object) -> None:
    assert Scrubber().pair(key, value) == value


def test_an_option_masks_the_argument_after_it() -> None:
    scrub = Scrubber()
    argv = ["psql", "--host", "db", "--password", "x1", "--token-limit", "5", "--verbose"]
    assert scrub.value(argv) == [*argv[:4], "[scrubbed:field]", *argv[5:]]


def test_bytes_that_are_no_text_pass_unchanged() -> None:
    data = bytes(range(256)) * 3
    assert Scrubber().value(data) == data
    assert Scrubber().value({"n": 1, "f": 1.5, "t": (True, None)}) == {
        "n": 1,
        "f": 1.5,
        "t": (True, None),
    }


def test_a_structure_that_contains_itself_ends() -> None:
    loop: list[object] = []
    loop.append(loop)
    assert "depth" in str(Scrubber().value(loop))


def test_a_letter_that_grows_in_lower_case_hides_nothing() -> None:
    hidden, text = SECRETS["password in env"]
    assert hidden not in Scrubber()("\u0130" * 9 + " " + text)


def test_patterns_of_the_application_are_masked_too() -> None:
    scrub = Scrubber(extra=[("employee", r"EMP-\d{4}"), ("pin", r"pin is (\d+)")])
    assert scrub("EMP-1234, pin is 99") == "[scrubbed:employee], pin is [scrubbed:pin]"
    assert scrub.hits == {"employee": 1, "pin": 1}


def test_a_bad_pattern_of_the_application_is_refused_at_once() -> None:
    with pytest.raises(WrongValue, match="employee"):
        Scrubber(extra=[("employee", "(")])


def test_remembered_texts_are_bounded() -> None:
    scrub = Scrubber()
    for number in range(10_000):
        scrub(f"ordinary text {number}")
    assert len(scrub._clean) <= 4096


HOSTILE = [
    "a", "-", "=", "\\", '"', "'", ":", "/", "@", "f", "4", "4111 ", " ", "<", "\u0130", "sk-",
    "eyJ", "eyJaaaaaaaa.", "://", "://a:", "password=", "password='", 'password="\\',
    'password:\\"a ',
    'token=\\\\\\"', "bearer ", "basic ", "authorization: bearer ", "cookie: ", "cookie: a",
    "-----BEGIN ", "-----BEGIN " + "PRIVATE KEY-----", "?key=", "&;", "--password ", "curl -u a",
    "machine a ", "identified by '", "SG." + "a" * 16, "xoxe.xoxp-", "AK" + "IA", "abc8Q~",
    "aJQQJ99", "key-f", "secret", "api_key", "<password>", '{"password":{', "%41sk-", "glpat-",
]  # fmt: skip


@pytest.mark.fault("C1")
@pytest.mark.parametrize("piece", HOSTILE)
def test_no_text_makes_the_expressions_backtrack(piece: str) -> None:
    # Linear work is done in milliseconds; quadratic work on this size would meet the time limit.
    text = (piece * 131_072)[:131_072]
    assert Scrubber()(text + "!").endswith(("!", "]"))
