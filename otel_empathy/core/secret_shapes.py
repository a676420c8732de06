"""Secrets that are known by their shape.

Owns what issuers put into the tokens that they hand out (`TOKENS`), key blocks, headers, cookies,
credentials in URLs and command lines, payment cards. Shapes begin with a literal and have bounded
repetitions, so that no text makes them slow. What masks the findings is `scrub`.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

__all__ = ["MASK", "SHAPES", "TOKENS", "Look", "Span", "Token", "is_opaque"]

Span = tuple[int, int, str]
# Looks at a text, with the same in lower case, and adds what it finds.
Look = Callable[[str, str, list[Span]], None]

MASK: Final = "[scrubbed:"
_LONG_RUN: Final = re.compile(r"[a-z0-9_.:~$/-]{16,}")
_ID: Final = re.compile(r"[0-9a-f-]*")
# Most literals of tokens have one of these in them: where it is missing, so are they.
_JOINTS: Final = "_-."


@dataclass(frozen=True, slots=True)
class Token:
    """One kind of token. `digits` asks for a digit, where words could have the same shape."""

    name: str
    anchors: tuple[str, ...]
    shape: str
    digits: bool = False


def _row(name: str, anchors: str, shape: str, *, digits: bool = False) -> Token:
    return Token(name, tuple(anchors.split()), shape, digits)


def _begins(literal: str) -> str:
    """A literal at the begin of a word.

    A word also begins after an escape of JSON or of a URL, though letters stand there: much of what
    is scrubbed is text inside of text. The literal comes first because searching for one is fast.
    """
    return (
        rf"{literal}(?:(?<![A-Za-z0-9_-]{literal})|(?<=\\[bfnrt]{literal})"
        rf"|(?<=\\u[0-9a-fA-F]{{4}}{literal})|(?<=%[0-9a-fA-F]{{2}}{literal}))"
    )


TOKENS: Final = (
    _row("anthropic", "sk-ant-", r"sk-ant-[A-Za-z0-9_-]{10,300}"),
    _row("openrouter", "sk-or-", r"sk-or-[A-Za-z0-9_-]{16,300}"),
    _row("langfuse", "sk-lf- pk-lf-", r"[sp]k-lf-[0-9a-f-]{20,60}"),
    _row("openai", "sk-", _begins("sk-") + r"[A-Za-z0-9_-]{16,300}", digits=True),
    _row("groq", "gsk_", r"gsk_[A-Za-z0-9]{20,200}"),
    _row("xai", "xai-", _begins("xai-") + r"[A-Za-z0-9_-]{20,200}", digits=True),
    _row("perplexity", "pplx-", r"pplx-[A-Za-z0-9]{20,200}"),
    _row("cerebras", "csk-", _begins("csk-") + r"[A-Za-z0-9]{20,200}", digits=True),
    _row("fireworks", "fw_", _begins("fw_") + r"[A-Za-z0-9]{20,200}", digits=True),
    _row("together", "tgp_v1_", r"tgp_v1_[\w-]{20,200}"),
    _row("nvidia", "nvapi-", r"nvapi-[\w-]{20,200}"),
    _row("replicate", "r8_", _begins("r8_") + r"[A-Za-z0-9]{20,200}"),
    _row("huggingface", "hf_ api_org_", rf"(?:{_begins('hf_')}|api_org_)[A-Za-z0-9]{{20,200}}"),
    _row("langsmith", "lsv2_", r"lsv2_(?:pt|sk)_[0-9a-f]{16,64}(?:_[0-9a-f]{4,32})?"),
    _row("logfire", "pylf_", r"pylf_v\d_[a-z]{2,8}_[A-Za-z0-9]{20,200}"),
    _row("pinecone", "pcsk_", r"pcsk_[\w-]{20,200}"),
    _row("tavily", "tvly-", r"tvly-[\w-]{16,200}"),
    _row("e2b", "e2b_", r"e2b_[0-9a-f]{20,80}"),
    _row("jina", "jina_", _begins("jina_") + r"[A-Za-z0-9_-]{20,200}", digits=True),
    _row(
        "aws-key-id",
        "akia asia abia acca",
        r"A(?:KIA|SIA|BIA|CCA)[A-Z2-7]{16}(?![A-Za-z0-9])",
    ),
    _row("aws-bedrock", "absk bedrock-api-key-", r"(?:ABSK|bedrock-api-key-)[\w+/=-]{40,2000}"),
    _row("aws-mws", "amzn.mws.", r"amzn\.mws\.[0-9a-f-]{36}"),
    _row("google-api", "aiza", r"AIza[\w-]{35}"),
    _row("google-oauth", "ya29. gocspx-", r"(?:ya29\.|GOCSPX-)[\w.-]{20,2000}"),
    _row("google-refresh", "1//0", _begins("1//0") + r"[\w-]{20,200}"),
    _row("azure-client", "8q~", r"[\w.~-]{3}8Q~[\w.~-]{31,34}"),
    _row("azure-key", "jqqj99", r"[A-Za-z0-9]{52}JQQJ99[A-Za-z0-9]{20,40}"),
    _row("github", "ghp_ gho_ ghu_ ghs_ ghr_", r"gh[pousr]_[A-Za-z0-9]{20,255}"),
    _row("github-pat", "github_pat_", r"github_pat_\w{20,255}"),
    _row(
        "gitlab",
        "glpat- glptt- gldt- glrt- glcbt- glft- glimt- glagent- glsoat- gloas-",
        r"gl(?:pat|ptt|dt|rt|cbt|ft|imt|agent|soat|oas)-[\w.-]{16,300}",
    ),
    _row(
        "slack",
        "xoxa- xoxb- xoxc- xoxd- xoxe xoxp- xoxr- xoxs- xapp-",
        r"(?:xox[abcdeprs](?:\.xox[bp])?|xapp)-[A-Za-z0-9%-]{10,500}",
    ),
    _row("slack-hook", "hooks.slack.com/", r"(?<=hooks\.slack\.com/)[a-z]{5,12}/[\w/]{16,200}"),
    _row("discord-hook", "/api/webhooks/", r"(?<=/api/webhooks/)\d{10,25}/[\w-]{20,200}"),
    _row("telegram", ":aa", r"(?<!\d)\d{8,10}:AA[\w-]{32,33}"),
    _row(
        "stripe",
        "sk_live_ sk_test_ rk_live_ rk_test_ whsec_",
        r"(?:[sr]k_(?:live|test)|whsec)_[A-Za-z0-9+/=]{10,300}",
    ),
    _row("square", "sq0atp- sq0csp- sq0idp-", r"sq0(?:atp|csp|idp)-[\w-]{20,100}"),
    _row("braintree", "access_token$", r"access_token\$\w{4,20}\$[0-9a-z]{8,32}\$[0-9a-f]{16,64}"),
    _row("shopify", "shpat_ shpca_ shppa_ shpss_", r"shp(?:at|ca|pa|ss)_[0-9a-fA-F]{20,64}"),
    _row("twilio", "sk", r"SK[0-9a-f]{32}(?![A-Za-z0-9])"),
    _row("sendgrid", "sg.", _begins(r"SG\.") + r"[\w-]{16,64}\.[\w-]{16,100}"),
    _row("mailgun", "key-", _begins("key-") + r"[0-9a-f]{32}(?![\w-])"),
    _row("mailchimp", "-us", r"(?<![0-9a-f])[0-9a-f]{32}-us\d{1,2}(?!\w)"),
    _row("npm", "npm_", _begins("npm_") + r"[A-Za-z0-9]{30,200}"),
    _row("pypi", "pypi-ag", r"pypi-Ag[\w-]{40,500}"),
    _row("rubygems", "rubygems_", r"rubygems_[0-9a-f]{32,64}"),
    _row("docker", "dckr_pat_ dckr_oat_", r"dckr_[po]at_[\w-]{20,100}"),
    _row("vault", "hvs. hvb. hvr.", r"hv[sbr]\.[\w-]{20,300}"),
    _row("terraform", ".atlasv1.", r"\w{14}\.atlasv1\.[\w=-]{40,100}"),
    _row("digitalocean", "dop_v1_ doo_v1_ dor_v1_", r"do[por]_v1_[0-9a-f]{32,80}"),
    _row("heroku", "hrku-", r"HRKU-[\w-]{30,100}"),
    _row("fly", "fo1_ fm1 fm2_", r"f(?:o1_|m1[ra]_|m2_)[\w+/=-]{30,2000}"),
    _row("databricks", "dapi", r"dapi[0-9a-f]{32}(?:-\d)?(?!\w)"),
    _row("notion", "ntn_ secret_", r"(?:ntn_|secret_)[A-Za-z0-9]{40,60}(?!\w)"),
    _row("linear", "lin_api_ lin_oauth_", r"lin_(?:api|oauth)_[A-Za-z0-9]{30,80}"),
    _row("figma", "figd_", r"figd_[\w-]{30,80}"),
    _row("airtable", "pat", _begins("pat") + r"[A-Za-z0-9]{14}\.[0-9a-f]{64}"),
    _row("atlassian", "atatt3 atctt3", r"AT[AC]TT3[\w=-]{40,400}"),
    _row("postman", "pmak-", r"PMAK-[0-9a-f]{20,30}-[0-9a-f]{30,40}"),
    _row("grafana", "glc_ glsa_", r"gl(?:c|sa)_[\w+/=]{30,400}"),
    _row("newrelic", "nrak- nraa- nrii-", r"NR(?:AK|AA|II)-[\w-]{20,50}"),
    _row("sentry", "sntrys_ sntryu_", r"sntry[su]_[\w+/=-]{40,500}"),
    _row("dynatrace", "dt0c01.", r"dt0c01\.[A-Z0-9]{20,30}\.[A-Z0-9]{50,70}"),
    _row("1password", "ops_ey", r"ops_ey[\w=-]{40,2000}"),
    _row("age", "age-secret-key-1", r"AGE-SECRET-KEY-1[0-9A-Z]{40,70}"),
    _row("jwt", "eyj", _begins("eyJ") + r"[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*){0,3}"),
)

# -- the other shapes -----------------------------------------------------------------------------
_KEY_BLOCK: Final = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
    r"(?:.*?-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|.*)",
    re.DOTALL,
)
_URL_PASSWORD: Final = re.compile(r"""://[^\s/:@"'<>\\\[]*:([^\s/?#"'<>\\]+)@""")
_URL_TOKEN: Final = re.compile(r"""://([^\s/:@"'<>\\]{16,400})@""")
_QUERY: Final = re.compile(
    r"[?&;](?:(?:x-amz-(?:signature|credential|security-token)|x-goog-signature"
    r"|(?:access|id|refresh|auth|session)_?token|api[_-]?key|client_secret|password|secret)"
    r"""=([^&;\s"'<>#\\]{4,})|(?:sig|signature|code|key|token)=([^&;\s"'<>#\\]{16,}))""",
    re.IGNORECASE,
)
_AUTHORIZATION: Final = re.compile(
    r"""authorization[\\"']{0,8}\s{0,4}[:=,]\s{0,4}[\\"'\[(b]{0,8}"""
    r"(?:(?:bearer|basic|digest|token|api-?key|key|bot|negotiate|ntlm|hawk|oauth|sso-key"
    r"""|aws4-hmac-sha256|signature)\s{1,4}([^\r\n"'\\<>]+)|([^\s"'\\<>,;]{6,}))""",
    re.IGNORECASE,
)
_COOKIE: Final = re.compile(
    r"""cookie2?[\\"']{0,8}\s{0,4}[:,]\s{0,4}[\\"'\[(b]{0,8}([\w.%-]+=[^\r\n"'\\]*)""",
    re.IGNORECASE,
)
_BEARER: Final = re.compile(r"bearer\s{1,4}([\w.~+/=-]{8,})", re.IGNORECASE)
_BASIC: Final = re.compile(r"basic\s{1,4}([A-Za-z0-9+/_-]{6,}={0,2})", re.IGNORECASE)
_DIGEST: Final = re.compile(r"""(?:response|cnonce)=[\\"']{0,8}([0-9a-f]{16,128})""", re.IGNORECASE)
_CURL_USER: Final = re.compile(r"""(?:-u|--user)[ =]["']?[^\s:"']{1,200}:([^\s"']+)""")
_NETRC: Final = re.compile(
    r"machine\s{1,8}\S{1,200}\s{1,8}login\s{1,8}\S{1,200}\s{1,8}password\s{1,8}(\S+)"
)
_SQL: Final = re.compile(r"""(?:identified\s{1,4}by|password)\s{1,4}'([^']+)'""", re.IGNORECASE)
_CARD: Final = re.compile(
    r"[2-6](?:(?<![A-Za-z0-9.].)|(?<=\\[nrt].))(?<![0-9A-Fa-f]-.)\d{3}"
    r"(?:[ -]?\d{4}[ -]?\d{4}[ -]?\d{1,7}|[ -]?\d{6}[ -]?\d{4,5})(?!\.?[A-Za-z0-9])(?!-[0-9A-Fa-f])"
)
_ISSUER: Final = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|(?:5[1-5]|2[2-7])\d{14}|3[47]\d{13}"
    r"|6(?:011|4[4-9]\d|5\d\d)\d{12}|35\d{14}|3(?:0[0-5]|[68]\d)\d{11}|62\d{14,17}"
)


# -- shapes ---------------------------------------------------------------------------------------


def _joint(anchor: str) -> str:
    return next((joint for joint in _JOINTS if joint in anchor), "")


_BY_JOINT: Final = {
    joint: tuple(
        (anchor, token) for token in TOKENS for anchor in token.anchors if _joint(anchor) == joint
    )
    for joint in ("", *_JOINTS)
}


def _tokens(text: str, low: str, found: list[Span]) -> None:
    runs = "\n".join(run for run in _LONG_RUN.findall(low) if not _ID.fullmatch(run))
    if not runs:
        return
    for joint, rows in _BY_JOINT.items():
        if joint not in runs:
            continue
        for anchor, token in rows:
            if anchor in runs:
                # Compiled (and remembered by `re`) when a text needs it: most processes need few.
                found.extend(
                    (match.start(), match.end(), token.name)
                    for match in re.finditer(token.shape, text)
                    if not token.digits or _has_digit(match.group())
                )


def _starts(text: str, low: str, literal: str, shape: re.Pattern[str]) -> Iterator[re.Match[str]]:
    at = low.find(literal)
    while at >= 0:
        match = shape.match(text, at)
        if match is not None:
            yield match
        at = low.find(literal, at + 1 if match is None else match.end())


def _shape(
    name: str,
    shape: re.Pattern[str],
    check: Callable[[str], bool] | None = None,
    *,
    literal: str = "",
) -> Look:
    """A look for an expression of which the last group that matched is the secret."""

    def look(text: str, low: str, found: list[Span]) -> None:
        # Where the expression begins with a literal, finding that first is many times faster.
        for match in _starts(text, low, literal, shape) if literal else shape.finditer(text):
            start, end = match.span(match.lastindex or 0)
            if end == start or text.startswith(MASK, start):
                continue
            if check is None or check(text[start:end]):
                found.append((start, end, name))

    return look


def _has_digit(text: str) -> bool:
    return any("0" <= c <= "9" for c in text)


def is_opaque(text: str) -> bool:
    """Whether this is rather a token than a word."""
    if text.startswith(MASK):
        return False
    return _has_digit(text) or len(text) > 40 or not (text.islower() or text[1:].islower())  # noqa: PLR2004 - longer than any word


def _is_basic(text: str) -> bool:
    """Whether this is user and password in base64."""
    try:
        data = binascii.a2b_base64(text + "=" * (-len(text) % 4))
    except ValueError:
        return False
    user, colon, _ = data.partition(b":")
    return bool(colon) and all(c > 32 for c in user)  # noqa: PLR2004 - no control character


def _authorization(text: str, low: str, found: list[Span]) -> None:
    for match in _starts(text, low, "authorization", _AUTHORIZATION):
        start, end = match.span(match.lastindex or 0)
        if not text.startswith(MASK, start) and (match.group(1) or is_opaque(match.group(2))):
            found.append((start, end, "authorization"))


def _cards(text: str, low: str, found: list[Span]) -> None:  # noqa: ARG001 - one form for all
    for match in _CARD.finditer(text):
        digits = match.group().replace(" ", "").replace("-", "")
        if _ISSUER.fullmatch(digits) and _luhn(digits):
            found.append((match.start(), match.end(), "card"))


def _luhn(digits: str) -> bool:
    doubled = (int(d) * 2 for d in digits[-2::-2])
    return (sum(d // 10 + d % 10 for d in doubled) + sum(map(int, digits[-1::-2]))) % 10 == 0


# What must be in the lower-case text -> who looks then.
SHAPES: Final[tuple[tuple[str, Look], ...]] = (
    ("", _tokens),
    ("", _cards),
    ("-----begin", _shape("private-key", _KEY_BLOCK, literal="-----begin")),
    ("authorization", _authorization),
    ("bearer", _shape("bearer", _BEARER, is_opaque, literal="bearer")),
    ("basic", _shape("basic", _BASIC, _is_basic, literal="basic")),
    ("digest", _shape("digest", _DIGEST)),
    ("cookie", _shape("cookie", _COOKIE, literal="cookie")),
    ("@", _shape("url-password", _URL_PASSWORD)),
    ("@", _shape("url-token", _URL_TOKEN, _has_digit)),
    ("=", _shape("query", _QUERY)),
    ("curl", _shape("curl-user", _CURL_USER)),
    ("machine", _shape("netrc", _NETRC, literal="machine")),
    ("identified", _shape("sql", _SQL, literal="identified")),
    ("password '", _shape("sql", _SQL, literal="password '")),
)
