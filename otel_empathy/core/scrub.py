"""Masks secrets in text and in nested values, before anything leaves the process.

Owns the decision what is a secret: tokens by the shape that their issuers gave them
(`secrets_table`), passwords and keys by the name that stands before them, credentials in URLs,
headers, cookies and command lines, key blocks, payment cards. A secret becomes
`[scrubbed:<pattern>]`. It knows no personal data, and a random word without name or shape is not
recognised. Ordinary text, numbers, ids and model names pass unchanged.

How it is fast: one scan finds the long runs of characters that every token needs; the table is only
asked when its literals occur in those, and the named secrets are looked for where their names are
found. No expression can backtrack over more than a bounded stretch.
"""

from __future__ import annotations

import binascii
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any, Final

from otel_empathy.core.errors import WrongValue
from otel_empathy.core.secrets_table import TOKENS

__all__ = ["Scrubber"]

_Span = tuple[int, int, str]

_SHORTEST: Final = 6
_REMEMBERED: Final = 4096  # clean texts, of at most _SHORT characters
_SHORT: Final = 128
_DEPTH: Final = 64
_LONG_RUN: Final = re.compile(r"[a-z0-9_.:~$/-]{16,}")
_ID: Final = re.compile(r"[0-9a-f-]*")
# Most literals of tokens have one of these in them: where it is missing, so are they.
_JOINTS: Final = "_-."
_MASK: Final = "[scrubbed:"

# -- what follows a name --------------------------------------------------------------------------
_TIE: Final = re.compile(r"""[\\"'`\]]{0,8}\s{0,4}(?:=>|:=|==?|:)\s{0,4}""")
_TIE_ARGUMENT: Final = re.compile(r"""(?:[\\"']{1,8},?)?\s{1,4}|[\\"']{1,8},""")
_TIE_ELEMENT: Final = re.compile(r">(?=[^<>]{1,4096}</)")
_OPTION: Final = re.compile(r"--[\w-]*$")
_QUOTE: Final = re.compile(r"""\\{0,15}["'`]""")
_INSIDE: Final = {
    quote: re.compile(rf"[^{quote}\\]*(?:\\.[^{quote}\\]*)*", re.DOTALL) for quote in "\"'`"
}
_BARE: Final = re.compile(
    r"""[^\s"'`;&<>\\{}\[\](),][^\s"'`;&<>\\{}\[\](),]*(?:[,{}\[\]()][^\s"'`;&<>\\,]+)*"""
)
_LINE: Final = re.compile(r"[^\r\n]*")
_CLOSING: Final = ".,:!?)]}"
# Values that tell what a value would be.
_HINTS: Final = frozenset(
    {
        "any", "bool", "boolean", "bytes", "empty", "false", "hidden", "int", "integer", "masked",
        "nil", "none", "null", "number", "object", "optional", "redacted", "required", "secretstr",
        "str", "string", "text", "true", "undefined", "unknown", "unset", "yes", "no",
    }
)  # fmt: skip
_PLACEHOLDER: Final = re.compile(
    r"\$\{?[A-Za-z_]\w*\}?|\$?\{\{[^{}]*\}\}|<[\w .-]+>|[*.x•]+|%\(?\w*\)?s?"
    r"|os\.(?:environ|getenv).*|process\.env.*|env\.[A-Z_]+",
    re.IGNORECASE | re.DOTALL,
)

# -- names ----------------------------------------------------------------------------------------
_KEY_BEFORE: Final = re.compile(
    r"(?:access|account|admin|api|app|auth|client|consumer|deploy|encryption|function|hmac|jwt"
    r"|license|master|private|root|secret|service|shared|signing|ssh|storage|subscription|webhook"
    r"|write)[ _.-]?$"
)
_TOKEN_BEFORE: Final = re.compile(
    r"(?:access|api|auth|bearer|bot|csrf|deploy|github|gitlab|hf|id|private|refresh|secret|security"
    r"|session|slack|user|xsrf)[ _.-]?$"
)
_PASS: Final = re.compile(r"pass(?:word|wd|phrase|code)?\d?")
_SECRET: Final = re.compile(r"secret(?:[ _.-]?(?:access[ _.-]?)?(?:key|token|value))?")
_CREDENTIAL: Final = re.compile(r"credentials?")
_BEFORE: Final = 14

_FIELD: Final = re.compile(
    r"(?:.*[_.])?(?:"
    r"pass(?:word|wd|phrase|code)|pwd|credentials?|(?:proxy_)?authorization|(?:set_)?cookies?"
    r"|(?:\w*_)?secret(?:_(?:access_)?(?:key|token|value))?|connection_string"
    r"|(?:x_)?(?:access|account|api|auth|client|encryption|master|private|shared_access|signing"
    r"|subscription)_?key"
    r"|(?:x_)?(?:access|api|auth|bearer|bot|csrf|id|private|refresh|secret|security|session|xsrf)"
    r"_?token)"
)
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")

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


class Scrubber:
    """Masks secrets; `hits` counts what was masked, by pattern.

        scrub = Scrubber(extra=[("employee", "EMP-[0-9]{6}")])
        scrub("redis://app:hunter2@db/0")       # redis://app:[scrubbed:url-password]@db/0

    Args:
        extra: Names and regular expressions of secrets that only this application has. Where one
            has groups, the first is masked, otherwise the whole match.

    Raises:
        WrongValue: An expression of `extra` is none.
    """

    __slots__ = ("_clean", "_extra", "hits")

    def __init__(self, extra: Iterable[tuple[str, str]] = ()) -> None:
        self._extra = [(name, _compiled(name, shape)) for name, shape in extra]
        self._clean: set[str] = set()
        self.hits: Counter[str] = Counter()

    def __call__(self, text: str) -> str:
        """The text without its secrets."""
        if len(text) < _SHORTEST or (len(text) <= _SHORT and text in self._clean):
            return text
        spans = self._spans(text)
        if spans:
            return self._masked(text, spans)
        if len(text) <= _SHORT:
            if len(self._clean) >= _REMEMBERED:
                self._clean.clear()
            self._clean.add(text)
        return text

    def value(self, value: Any) -> Any:
        """The same structure of dicts, lists, tuples, texts and bytes, without its secrets."""
        return self._value(value, 0)

    def pair(self, key: str, value: Any) -> Any:
        """The value without its secrets, or no value at all under a key that names a secret."""
        return self._pair(key, value, 0)

    def _value(self, value: Any, depth: int) -> Any:
        if isinstance(value, str):
            return self(value)
        if isinstance(value, bytes | bytearray):
            text = value.decode("utf-8", "surrogateescape")
            return type(value)(self(text).encode("utf-8", "surrogateescape"))
        if isinstance(value, dict | list | tuple) and depth >= _DEPTH:
            return f"{_MASK}depth]"
        if isinstance(value, dict):
            return {
                self._value(key, depth + 1): self._pair(key, item, depth + 1)
                for key, item in value.items()
            }
        if isinstance(value, list):
            return list(self._items(value, depth + 1))
        if isinstance(value, tuple):
            return tuple(self._items(value, depth + 1))
        return value

    def _items(self, items: Iterable[Any], depth: int) -> Iterator[Any]:
        """The items; in a command line the one after `--password` is what it names."""
        option = ""
        for item in items:
            yield self._pair(option, item, depth) if option else self._value(item, depth)
            named = isinstance(item, str) and item.startswith("--") and "=" not in item
            option = item.lstrip("-") if named else ""

    def _pair(self, key: Any, value: Any, depth: int) -> Any:
        if isinstance(key, str) and _names_secret(key) and _can_be_secret(value):
            self.hits["field"] += 1
            return f"{_MASK}field]"
        return self._value(value, depth)

    def _masked(self, text: str, spans: list[_Span]) -> str:
        spans.sort(key=lambda span: span[0])
        parts: list[str] = []
        done = 0
        start, end, name = spans[0]
        for next_start, next_end, next_name in (*spans[1:], (len(text) + 1, 0, "")):
            if next_start < end:
                end = max(end, next_end)
                continue
            parts += (text[done:start], _MASK, name, "]")
            # Not exact when threads count at once: a lock that a fork leaves held would be worse.
            self.hits[name] += 1
            done = end
            start, end, name = next_start, next_end, next_name
        parts.append(text[done:])
        return "".join(parts)

    def _spans(self, text: str) -> list[_Span]:
        low = text.lower()
        if len(low) != len(text):  # the dotted capital I is the one letter that grows
            low = text.replace("\u0130", "i").lower()
        found: list[_Span] = []
        runs = [run for run in _LONG_RUN.findall(low) if not _ID.fullmatch(run)]
        if runs:
            _tokens(text, "\n".join(runs), found)
        for anchor, look in _LOOKS:
            if anchor in low:
                look(text, low, found)
        _cards(text, found)
        for name, shape in self._extra:
            for match in shape.finditer(text):
                start, end = match.span(1 if shape.groups else 0)
                if end > start:
                    found.append((start, end, name))
        return found


def _compiled(name: str, shape: str) -> re.Pattern[str]:
    try:
        return re.compile(shape)
    except re.error as error:
        raise WrongValue(f"{shape!r} for {name!r} is no regular expression: {error}") from error


# -- shapes ---------------------------------------------------------------------------------------


def _joint(anchor: str) -> str:
    return next((joint for joint in _JOINTS if joint in anchor), "")


_BY_JOINT: Final = {
    joint: tuple(
        (anchor, token) for token in TOKENS for anchor in token.anchors if _joint(anchor) == joint
    )
    for joint in ("", *_JOINTS)
}


def _tokens(text: str, runs: str, found: list[_Span]) -> None:
    for joint, rows in _BY_JOINT.items():
        if joint not in runs:
            continue
        for anchor, token in rows:
            if anchor in runs:
                found.extend(
                    (match.start(), match.end(), token.name)
                    for match in token.shape.finditer(text)
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
) -> _Look:
    """A look for an expression of which the last group that matched is the secret."""

    def look(text: str, low: str, found: list[_Span]) -> None:
        # Where the expression begins with a literal, finding that first is many times faster.
        for match in _starts(text, low, literal, shape) if literal else shape.finditer(text):
            start, end = match.span(match.lastindex or 0)
            if end == start or text.startswith(_MASK, start):
                continue
            if check is None or check(text[start:end]):
                found.append((start, end, name))

    return look


_Look = Callable[[str, str, list[_Span]], None]


def _has_digit(text: str) -> bool:
    return any("0" <= c <= "9" for c in text)


def _opaque(text: str) -> bool:
    """Whether this is rather a token than a word."""
    if text.startswith(_MASK):
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


def _authorization(text: str, low: str, found: list[_Span]) -> None:
    for match in _starts(text, low, "authorization", _AUTHORIZATION):
        start, end = match.span(match.lastindex or 0)
        if not text.startswith(_MASK, start) and (match.group(1) or _opaque(match.group(2))):
            found.append((start, end, "authorization"))


def _cards(text: str, found: list[_Span]) -> None:
    for match in _CARD.finditer(text):
        digits = match.group().replace(" ", "").replace("-", "")
        if _ISSUER.fullmatch(digits) and _luhn(digits):
            found.append((match.start(), match.end(), "card"))


def _luhn(digits: str) -> bool:
    doubled = (int(d) * 2 for d in digits[-2::-2])
    return (sum(d // 10 + d % 10 for d in doubled) + sum(map(int, digits[-1::-2]))) % 10 == 0


# -- secrets with a name --------------------------------------------------------------------------


def _named(root: str, pattern: str, name_end: Callable[[str, int], tuple[int, bool]]) -> _Look:
    """A look for values after a name.

    Args:
        root: What every spelling of the name has in it.
        pattern: What a match is called.
        name_end: From a place where the root stands to the end of the name (0 if it is none) and
            whether the name alone makes a secret of any value.
    """

    def look(text: str, low: str, found: list[_Span]) -> None:
        at = low.find(root)
        while at >= 0:
            end, certain = name_end(low, at)
            after = at + 1
            before = low[max(at - _BEFORE * 2, 0) : at]
            option = _OPTION.search(before) is not None
            if end and (tie := _tie(text, end, option=option, element="<" in before)):
                start, stop = _extent(text, tie)
                if _is_secret(text[start:stop], certain=certain or option, quoted=start > tie):
                    found.append((start, stop, pattern))
                    after = stop
            at = low.find(root, max(after, end))

    return look


def _tie(text: str, end: int, *, option: bool, element: bool) -> int:
    """Where the value of a name begins that ends there; 0 if it has none."""
    match = _TIE.match(text, end)
    if match is None and option:
        match = _TIE_ARGUMENT.match(text, end)
        if match is not None and text[match.end() : match.end() + 1] == "-":
            return 0  # the next option
    if match is None and element:
        match = _TIE_ELEMENT.match(text, end)
    return 0 if match is None else match.end()


def _extent(text: str, at: int) -> tuple[int, int]:
    """Where a value begins and ends: within its quotes, else up to a space or bracket."""
    opening = _QUOTE.match(text, at)
    if opening is None:
        bare = _BARE.match(text, at)
        if bare is None:
            return at, at
        return at, at + len(bare.group().rstrip(_CLOSING))
    quote, start = opening.group(), opening.end()
    if len(quote) == 1:
        inside = _INSIDE[quote].match(text, start)
        end = start if inside is None else inside.end()
        if text[end : end + 1] == quote:
            return start, end
    else:
        end = text.find(quote, start)
        while end > start and text[end - 1] == "\\":  # a quote inside, escaped once more
            end = text.find(quote, end + 1)
        if end >= 0:
            return start, end
    line = _LINE.match(text, start)  # cut off before its closing quote
    return start, start if line is None else line.end()


def _is_secret(value: str, *, certain: bool, quoted: bool) -> bool:
    if not value or value.startswith(_MASK) or value.lower().partition("[")[0] in _HINTS:
        return False
    if _PLACEHOLDER.fullmatch(value) is not None:
        return False
    if certain:
        return True
    return len(value) >= 16 and " " not in value and (quoted or _opaque(value))  # noqa: PLR2004 - shorter ones are words


def _pass_end(low: str, at: int) -> tuple[int, bool]:
    match = _PASS.match(low, at)
    if match is None or (match.group() == "pass" and low[at - 1 : at] not in {"_", "-"}):
        return 0, False
    return match.end(), True


def _pwd_end(low: str, at: int) -> tuple[int, bool]:
    # The working directory has the same name in every environment.
    path = low[at + 3 : at + 12].lstrip("\\\"' =:")
    return (0, False) if path.startswith(("/", "c:")) else (at + 3, True)


def _secret_end(low: str, at: int) -> tuple[int, bool]:
    match = _SECRET.match(low, at)
    if match is None:
        return 0, False
    alone = match.group() == "secret" and low[at - 1 : at] not in {"_", "-", "."}
    return match.end(), not alone or low[match.end() : match.end() + 2] != ": "


def _token_end(low: str, at: int) -> tuple[int, bool]:
    return at + 5, _TOKEN_BEFORE.search(low[max(at - _BEFORE, 0) : at]) is not None


def _key_end(low: str, at: int) -> tuple[int, bool]:
    known = _KEY_BEFORE.search(low[max(at - _BEFORE, 0) : at])
    return (0, False) if known is None else (at + 3, True)


def _credential_end(low: str, at: int) -> tuple[int, bool]:
    match = _CREDENTIAL.match(low, at)
    return (0, False) if match is None else (match.end(), False)


@lru_cache(maxsize=4096)
def _names_secret(key: str) -> bool:
    name = _CAMEL.sub("_", key).lower().replace("-", "_").replace(" ", "_")
    return _FIELD.fullmatch(name) is not None


def _can_be_secret(value: Any) -> bool:
    if isinstance(value, str | bytes):
        return bool(value) and not (isinstance(value, str) and value.startswith((_MASK, "/")))
    return isinstance(value, list | tuple | dict) and bool(value)


# What must be in the lower-case text -> who looks then.
_LOOKS: Final[tuple[tuple[str, _Look], ...]] = (
    ("-----begin", _shape("private-key", _KEY_BLOCK, literal="-----begin")),
    ("authorization", _authorization),
    ("bearer", _shape("bearer", _BEARER, _opaque, literal="bearer")),
    ("basic", _shape("basic", _BASIC, _is_basic, literal="basic")),
    ("digest", _shape("digest", _DIGEST)),
    ("cookie", _shape("cookie", _COOKIE, literal="cookie")),
    ("@", _shape("url-password", _URL_PASSWORD)),
    ("@", _shape("url-token", _URL_TOKEN, _has_digit)),
    ("=", _shape("query", _QUERY)),
    ("pass", _named("pass", "password", _pass_end)),
    ("pwd", _named("pwd", "password", _pwd_end)),
    ("secret", _named("secret", "secret", _secret_end)),
    ("token", _named("token", "token", _token_end)),
    ("key", _named("key", "key", _key_end)),
    ("credential", _named("credential", "credential", _credential_end)),
    ("curl", _shape("curl-user", _CURL_USER)),
    ("machine", _shape("netrc", _NETRC, literal="machine")),
    ("identified", _shape("sql", _SQL, literal="identified")),
    ("password '", _shape("sql", _SQL, literal="password '")),
)
