"""Secrets that are known by the name before them, and the names of fields that hold one.

Owns passwords, keys and tokens in `name=value` text: environments, YAML, JSON (also within JSON),
XML, code, connection strings and options of commands. Names are found first and only what follows
them is looked at. What masks the findings is `scrub`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from otel_empathy.core.secret_shapes import MASK, Look, Span, is_opaque

__all__ = ["NAMES", "names_secret"]

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
    r"\$[A-Z_][A-Z0-9_]*|\$\{\w+\}?|\$?\{\{[^{}]*\}\}|<[\w .-]+>|[*.xX•]+|%\(\w+\)s"
    r"|(?:os\.(?:environ|getenv)|process\.env|env\.[A-Z_]).*",
    re.DOTALL,
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


def _named(root: str, pattern: str, name_end: Callable[[str, int], tuple[int, bool]]) -> Look:
    """A look for values after a name.

    Args:
        root: What every spelling of the name has in it.
        pattern: What a match is called.
        name_end: From a place where the root stands to the end of the name (0 if it is none) and
            whether the name alone makes a secret of any value.
    """

    def look(text: str, low: str, found: list[Span]) -> None:
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
        # A backslash before the quote is itself escaped where a text was quoted twice, as in the
        # message of a KeyError: the value may go on.
        while text[end : end + 1] == quote and text[end - 1] == "\\" and end > start:
            further = _INSIDE[quote].match(text, end + 1)
            end = end + 1 if further is None else further.end()
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
    if not value or value.startswith(MASK) or value.lower().partition("[")[0] in _HINTS:
        return False
    if _PLACEHOLDER.fullmatch(value) is not None:
        return False
    if certain:
        return True
    return len(value) >= 16 and " " not in value and (quoted or is_opaque(value))  # noqa: PLR2004 - shorter ones are words


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
def names_secret(key: str) -> bool:
    """Whether the value under this key is a secret, whatever it looks like."""
    name = _CAMEL.sub("_", key).lower().replace("-", "_").replace(" ", "_")
    return _FIELD.fullmatch(name) is not None


# What must be in the lower-case text -> who looks then.
NAMES: Final[tuple[tuple[str, Look], ...]] = (
    ("pass", _named("pass", "password", _pass_end)),
    ("pwd", _named("pwd", "password", _pwd_end)),
    ("secret", _named("secret", "secret", _secret_end)),
    ("token", _named("token", "token", _token_end)),
    ("key", _named("key", "key", _key_end)),
    ("credential", _named("credential", "credential", _credential_end)),
)
