"""Secrets never survive; everything else does."""

from __future__ import annotations

import json
import string
import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import SECRETS

from otel_empathy.core.errors import WrongValue
from otel_empathy.core.scrub import Scrubber, beginning, ending

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


# The others are escaped text themselves.
UNESCAPED = [kind for kind in KINDS if "json" not in kind and "\n" not in SECRETS[kind][0]]


@pytest.mark.parametrize("kind", UNESCAPED)
def test_a_secret_is_masked_in_text_that_json_or_a_url_has_escaped(kind: str) -> None:
    hidden, text = SECRETS[kind]
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


@pytest.mark.fault("C1")
def test_no_half_of_a_secret_stays_before_a_cut() -> None:
    scrub = Scrubber()
    hidden = SECRETS["github"][0]
    for before in range(60, 101):
        assert hidden[:4] not in beginning(" " * before + hidden + " " * 9000, 100, scrub)
    # What is masked before it moves nothing up that was cut.
    for before in range(41):
        assert hidden[:4] not in beginning(" " * before + f" {hidden}" * 500, 8192, scrub)
        assert hidden[-4:] not in ending(f"{hidden} " * 500 + " " * before, 8192, scrub)
    assert beginning("short", 100, scrub) == ending("short", 100, scrub) == "short"
    assert ending("x" * 9000 + "y", 3, scrub) == "xxy"
    assert beginning("x" * 9000, 100, scrub) == "x" * 100
    assert len(beginning("ab " * 9000, 8192, scrub)) == 8192
