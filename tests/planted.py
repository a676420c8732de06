"""Secrets of every kind, as text: what tests plant and look for. None of them opens anything."""

from __future__ import annotations

import base64
import json
import string
import uuid

__all__ = ["SECRETS"]


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
SECRETS["password in a key error"] = (
    "quoted",
    str(KeyError(json.dumps({"password": 'a "quoted" word', "n": 1}))),
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
