"""Attributes and values as OTLP-JSON fragments, within limits and scrubbed.

Whatever a program puts into an attribute, what comes out is valid JSON of bounded size, and what
was cut is counted and noted. Which fields a span, a log record or a metric has is known in
`encode_json`.

The fast path joins fragments: the beginning of an attribute is kept per key, a whole attribute per
key and short text, and orjson writes strings.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Final

import orjson

from otel_empathy.core import semconv
from otel_empathy.core.scrub import beginning
from otel_empathy.core.secret_names import names_secret

__all__ = [
    "SAFE_KEYS",
    "Limits",
    "Note",
    "any_value",
    "attributes",
    "double",
    "dropped",
    "fitted",
    "integer_fits",
    "mark",
    "name",
    "one_line",
    "text",
]

SAFE_KEYS: Final = frozenset(
    {
        semconv.OPERATION,
        semconv.PROVIDER,
        semconv.REQUEST_MODEL,
        semconv.RESPONSE_MODEL,
        semconv.RESPONSE_ID,
        semconv.FINISH_REASONS,
        semconv.ENCODING_FORMATS,
        semconv.REASONING_LEVEL,
        semconv.PREVIOUS_RESPONSE_ID,
        semconv.OUTPUT_TYPE,
        semconv.CONVERSATION_ID,
        semconv.PROMPT_NAME,
        semconv.PROMPT_VERSION,
        semconv.AGENT_NAME,
        semconv.AGENT_ID,
        semconv.WORKFLOW_NAME,
        semconv.DATA_SOURCE_ID,
        semconv.TOOL_NAME,
        semconv.TOOL_TYPE,
        semconv.TOOL_CALL_ID,
        semconv.TOKEN_TYPE,
        semconv.TOKEN_MODALITY,
        semconv.EVALUATION_NAME,
        semconv.EVALUATION_LABEL,
        semconv.ERROR_TYPE,
        semconv.EXCEPTION_TYPE,
        semconv.SERVER_ADDRESS,
        semconv.SESSION_ID,
        semconv.USER_HASH,
        semconv.USAGE_SOURCE,
        semconv.COST_CURRENCY,
        semconv.COST_SOURCE,
        semconv.COST_PRICE_VERSION,
        semconv.COST_PRICE_KEY,
        semconv.COST_REASON,
        semconv.GENAI_COST_CURRENCY,
        semconv.GENAI_COST_SOURCE,
        semconv.CALL_TIER,
        semconv.CALL_STAGE,
        semconv.CALL_TASK_TYPE,
        semconv.CALL_OUTCOME,
        semconv.CALL_CACHE_TYPE,
        semconv.PROMPT_FORMAT,
        semconv.PROMPT_OUTCOME,
        semconv.RUN_ID,
        semconv.RUN_PARENT_ID,
        semconv.RUN_STATE,
        semconv.RUN_PREVIOUS_STATE,
        semconv.PHASE_NAME,
        semconv.PHASE_PREVIOUS_NAME,
        semconv.FEEDBACK_SOURCE,
        semconv.SERVICE_NAME,
        semconv.SERVICE_INSTANCE_ID,
        semconv.DISTRO_NAME,
        semconv.DISTRO_VERSION,
        semconv.ROLE,
        semconv.SEGMENT_ID,
        semconv.COMPONENT_TYPE,
        semconv.COMPONENT_NAME,
        semconv.BACKEND_NAME,
        semconv.BACKEND_STATE,
        semconv.BACKEND_PREVIOUS_STATE,
        semconv.LOG_SIGNAL,
        semconv.LOG_DURABILITY,
        semconv.LOG_REASON,
        semconv.SDK_SITE,
        semconv.SDK_LIMIT,
        semconv.SDK_INSTRUMENT,
        semconv.SDK_PATTERN,
    }
)
"""Attributes of ids and of closed or configured names: their text is never scrubbed."""

_KEY = 1024  # bytes of an attribute's key; one that is longer drops the attribute
_ELEMENT = 8  # bytes that any element of a list or map takes of its attribute's room
_SHORT = 64  # characters of a text that may be kept as a fragment
_TEXTS = 256  # fragments kept per key
_KEYS = 2048  # keys and names kept
_LEAST, _MOST = -(2**63), 2**63 - 1  # what an OTLP integer can hold
_BLOBS = (bytes, bytearray, memoryview)
_TRUNCATED = b'{"key":%b,"value":{"boolValue":true}}' % orjson.dumps(semconv.TRUNCATED)
_TOO_DEEP = b'{"stringValue":"..."}'
_LINE_BREAKS = (
    (b"\xe2\x80\xa8", b"\\u2028"),
    (b"\xe2\x80\xa9", b"\\u2029"),
    (b"\xc2\x85", b"\\u0085"),
)


@dataclass(frozen=True, slots=True)
class Limits:
    """What may leave with a record, and how much of it.

    Args:
        scrub: Masks secrets in a text; None leaves texts as they are.
        pair: Masks a value whose key names a secret, and what follows an option in a list.
        drop: Attributes that are left out, such as content that must not be captured.
        value: Bytes of a text, and of everything inside one attribute.
        keys: Attributes of a record, and entries of a map inside one.
        depth: Lists and maps inside each other.
        content: Bytes of an attribute that holds content, and of a log body.
        counters: How often each limit was hit: `value`, `content`, `keys`, `depth`, `record`.
    """

    scrub: Callable[[str], str] | None = None
    pair: Callable[[str, Any], Any] | None = None
    drop: frozenset[str] = frozenset()
    value: int = 8192
    keys: int = 128
    depth: int = 8
    content: int = 131072
    counters: Counter[str] = field(default_factory=Counter)
    fragments: dict[str, _Key] = field(default_factory=dict, init=False, repr=False, compare=False)
    names: dict[str, bytes] = field(default_factory=dict, init=False, repr=False, compare=False)


class Note:
    """Whether anything of a record was cut."""

    __slots__ = ("cut",)

    def __init__(self) -> None:
        self.cut = False


class _Key:
    """What is known of one attribute key under certain limits: its fragments and its rules."""

    __slots__ = (
        "double",
        "dropped",
        "false",
        "head",
        "limit",
        "lists",
        "nothing",
        "safe",
        "secret",
        "string",
        "texts",
        "true",
        "whole",
    )

    def __init__(self, key: str, limits: Limits) -> None:
        self.nothing = b'{"key":%b}' % _quoted(key)
        self.head = self.nothing[:-1] + b',"value":'
        self.string = self.head + b'{"stringValue":'
        self.whole = self.head + b'{"intValue":"'
        self.double = self.head + b'{"doubleValue":'
        self.true = self.head + b'{"boolValue":true}}'
        self.false = self.head + b'{"boolValue":false}}'
        self.texts: dict[str, bytes] = {}
        self.lists: dict[str, bytes] = {}
        self.dropped = key in limits.drop or (
            bool(limits.drop) and key.startswith(semconv.PROMPT_VARIABLE)
        )
        self.safe = key in SAFE_KEYS
        self.secret = limits.pair is not None and not self.safe and names_secret(key)
        self.limit = "content" if key in semconv.CONTENT else "value"


class _Room:
    """What one value may still take."""

    __slots__ = ("left", "limit", "limits", "note", "overran", "scrub")

    def __init__(self, limits: Limits, limit: str, note: Note, *, safe: bool = False) -> None:
        self.limits = limits
        self.limit = limit
        self.note = note
        self.left: int = limits.content if limit == "content" else limits.value
        self.scrub = None if safe else limits.scrub
        self.overran = False

    def overrun(self, limit: str | None = None) -> None:
        """Note that something was cut, once per value."""
        if not self.overran:
            self.limits.counters[limit or self.limit] += 1
            self.overran = self.note.cut = True


# -- attributes -----------------------------------------------------------------------------------
def attributes(  # noqa: C901, PLR0912 - the hottest loop: a call per kind costs more than the kind
    found: Mapping[str, Any] | None, limits: Limits, note: Note
) -> tuple[list[bytes], int]:
    """Attributes as fragments, and how many were dropped."""
    if not found:
        return [], 0
    fragments: list[bytes] = []
    known = limits.fragments
    keys = limits.keys
    lost = 0
    # The SDK's attributes pay a lock and two calls for each item, its copies are plain dicts.
    copy = getattr(found, "copy", None)
    for key, value in (found if copy is None else copy()).items():
        entry = known.get(key) or _entry(key, limits)
        if entry is None or len(fragments) >= keys:
            lost += 1
            continue
        if entry.dropped:
            continue
        if entry.secret:
            value = _masked(key, value, limits)  # noqa: PLW2901 - what leaves instead of it
        kind = type(value)
        if kind is str:
            fragment = entry.texts.get(value) or _string(value, entry, limits, note)
        elif kind is int and _LEAST <= value <= _MOST:
            fragment = b'%b%d"}}' % (entry.whole, value)
        elif kind is float:
            fragment = b"%b%b}}" % (entry.double, double(value))
        elif kind is bool:
            fragment = entry.true if value else entry.false
        elif kind is tuple and len(value) == 1 and type(value[0]) is str:
            fragment = entry.lists.get(value[0]) or _one_text(value[0], entry, limits, note)
        elif value is None:
            fragment = entry.nothing
        else:
            if kind in {list, tuple} and not entry.safe and len(value) <= keys:
                value = _masked(key, value, limits)  # noqa: PLW2901 - what leaves instead of it
            room = _Room(limits, entry.limit, note, safe=entry.safe)
            fragment = b"%b%b}" % (entry.head, _any(value, room, 1))
        fragments.append(fragment)
    if lost:
        limits.counters["keys"] += 1
        note.cut = True
    return fragments, lost


def _masked(key: str, value: Any, limits: Limits) -> Any:
    """The value without what its key says is secret."""
    return value if limits.pair is None else limits.pair(key, value)


def mark(fragments: list[bytes], found: Mapping[str, Any] | None) -> None:
    """Add the attribute that says that something was cut."""
    if semconv.TRUNCATED not in (found or ()):
        fragments.append(_TRUNCATED)


def dropped(count: int) -> bytes:
    """The member that tells how many attributes are missing."""
    return b',"droppedAttributesCount":%d' % count if count else b""


def _entry(key: str, limits: Limits) -> _Key | None:
    """What is known of a key; None if it is too long to be one."""
    if len(key) > _SHORT and len(_utf8(key)) > _KEY:
        return None
    entry = _Key(key, limits)
    if len(limits.fragments) < _KEYS:
        limits.fragments[key] = entry
    return entry


def _string(value: str, entry: _Key, limits: Limits, note: Note) -> bytes:
    """A text attribute, kept as a fragment if it is short and was not changed."""
    quoted, same = _unchanged(value, entry, limits, note)
    fragment = b"%b%b}}" % (entry.string, quoted)
    if same and len(entry.texts) < _TEXTS:
        entry.texts[value] = fragment
    return fragment


def _one_text(value: str, entry: _Key, limits: Limits, note: Note) -> bytes:
    """A list of one text, kept in the same way."""
    quoted, same = _unchanged(value, entry, limits, note)
    fragment = b'%b{"arrayValue":{"values":[{"stringValue":%b}]}}}' % (entry.head, quoted)
    if same and len(entry.lists) < _TEXTS:
        entry.lists[value] = fragment
    return fragment


def _unchanged(value: str, entry: _Key, limits: Limits, note: Note) -> tuple[bytes, bool]:
    """What of a text may leave, and whether that is all of it and short."""
    plain = entry.safe or limits.scrub is None
    if plain and len(value) <= _SHORT and len(value) * 4 <= limits.value:
        return _quoted(value), True
    quoted = _kept(value, _Room(limits, entry.limit, note, safe=plain))
    return quoted, len(value) <= _SHORT and quoted == _quoted(value)


# -- texts ----------------------------------------------------------------------------------------
def name(value: str, limits: Limits, note: Note) -> bytes:
    """A name that comes again and again, kept as bytes if it is short and was not changed."""
    quoted = limits.names.get(value)
    if quoted is None:
        quoted = text(value, limits, note)
        if len(value) <= _SHORT and len(limits.names) < _KEYS and quoted == _quoted(value):
            limits.names[value] = quoted
    return quoted


def text(value: str, limits: Limits, note: Note, most: int | None = None) -> bytes:
    """A text that is no attribute, in quotes, scrubbed and cut like one."""
    room = _Room(limits, "value", note)
    if most is not None:
        room.left = min(room.left, most)
    return _kept(value, room)


def _kept(value: str, room: _Room) -> bytes:
    """What of a text may leave, in quotes."""
    if len(value) > room.left:
        left = max(0, room.left)
        value = value[:left] if room.scrub is None else beginning(value, left, room.scrub)
        room.overrun()
    elif room.scrub is not None:
        value = room.scrub(value)
    size = len(value) if value.isascii() else len(_utf8(value))
    if size > room.left:
        value = _utf8(value)[: max(0, room.left)].decode("utf-8", "ignore")
        size = room.left
        room.overrun()
    room.left -= size + _ELEMENT
    return _quoted(value)


def _quoted(value: str) -> bytes:
    """A text as JSON string; lone surrogates, which UTF-8 cannot hold, are replaced."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return orjson.dumps(_utf8(value).decode())


def _utf8(value: str) -> bytes:
    try:
        return value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()


# -- values ---------------------------------------------------------------------------------------
def any_value(value: Any, limits: Limits, note: Note) -> bytes:
    """A value that is no attribute, such as a log body, with the room of content."""
    return _any(value, _Room(limits, "content", note), 1)


def _any(value: Any, room: _Room, depth: int) -> bytes:
    """Any value as an OTLP AnyValue object."""
    if isinstance(value, str):
        return b'{"stringValue":%b}' % _kept(str.__str__(value), room)
    room.left -= _ELEMENT
    if value is None:
        return b"{}"
    if isinstance(value, bool):
        return b'{"boolValue":true}' if value else b'{"boolValue":false}'
    if isinstance(value, int):
        return _integer(int(value))
    if isinstance(value, float):
        return b'{"doubleValue":%b}' % double(value)
    if isinstance(value, _BLOBS):
        return _blob(value, room)
    if isinstance(value, Mapping):
        return _map(value, room, depth)
    if isinstance(value, Sequence):
        return _list(value, room, depth)
    return b'{"stringValue":%b}' % _kept(_foreign(value), room)


def integer_fits(value: int) -> bool:
    """Whether OTLP has an integer for it."""
    return _LEAST <= value <= _MOST


def _integer(value: int) -> bytes:
    if integer_fits(value):
        return b'{"intValue":"%d"}' % value
    # No OTLP integer is wider than 64 bit; in hexadecimal any width can be written.
    return b'{"stringValue":"%#x"}' % value


def double(value: float) -> bytes:
    """A double; what JSON has no number for is a word, as protobuf's JSON mapping wants it."""
    if isfinite(value):
        return orjson.dumps(float(value))
    return b'"Infinity"' if value > 0 else b'"-Infinity"' if value < 0 else b'"NaN"'


def _blob(value: bytes | bytearray | memoryview, room: _Room) -> bytes:
    raw = bytes(value)
    if len(raw) > room.left:
        raw = raw[: max(0, room.left)]
        room.overrun()
    room.left -= len(raw)
    return b'{"bytesValue":"%b"}' % base64.b64encode(raw)


def _list(values: Sequence[Any], room: _Room, depth: int) -> bytes:
    if depth > room.limits.depth:
        room.overrun("depth")
        return _TOO_DEEP
    items: list[bytes] = []
    for value in values:
        if room.left <= 0:
            room.overrun()
            break
        items.append(_any(value, room, depth + 1))
    return b'{"arrayValue":{"values":[%b]}}' % b",".join(items)


def _map(values: Mapping[Any, Any], room: _Room, depth: int) -> bytes:
    if depth > room.limits.depth:
        room.overrun("depth")
        return _TOO_DEEP
    items: list[bytes] = []
    for key, value in values.items():
        if room.left <= 0:
            room.overrun()
            break
        if len(items) >= room.limits.keys:
            room.overrun("keys")
            break
        name = str.__str__(key) if isinstance(key, str) else _foreign(key)
        if room.scrub is not None and names_secret(name):
            value = _masked(name, value, room.limits)  # noqa: PLW2901 - what leaves instead of it
        items.append(b'{"key":%b,"value":%b}' % (_kept(name, room), _any(value, room, depth + 1)))
    return b'{"kvlistValue":{"values":[%b]}}' % b",".join(items)


def _foreign(value: object) -> str:
    """The text of an object that OTLP has no form for."""
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - a stranger's __str__ may raise anything
        return object.__repr__(value)


# -- the whole record -----------------------------------------------------------------------------
def one_line(raw: bytes) -> bytes:
    """The same JSON without the characters beyond ASCII that some readers take for line breaks."""
    if raw.isascii():
        return raw
    for found, escape in _LINE_BREAKS:
        raw = raw.replace(found, escape)
    return raw


def fitted(raw: bytes, largest: int, limits: Limits, *, marked: bool = True) -> bytes:
    """A record on one line and within its size, reduced by what is largest in it if need be."""
    raw = one_line(raw)
    if len(raw) <= largest:
        return raw
    limits.counters["record"] += 1
    tree: dict[str, Any] = orjson.loads(raw)
    excess = len(raw) - largest + 256  # room for the mark and the counts
    excess = _without_attributes(tree, excess)
    for field_name, count in (("events", "droppedEventsCount"), ("links", "droppedLinksCount")):
        while excess > 0 and tree.get(field_name):
            excess -= len(orjson.dumps(tree[field_name].pop())) + 1
            tree[count] = tree.get(count, 0) + 1
    if excess > 0 and "body" in tree:
        body = tree["body"]
        words = body.get("stringValue") or orjson.dumps(body).decode()
        tree["body"] = {"stringValue": words[: limits.value]}
    if marked and all(item["key"] != semconv.TRUNCATED for item in tree["attributes"]):
        tree["attributes"].append(orjson.loads(_TRUNCATED))
    return one_line(orjson.dumps(tree))


def _without_attributes(tree: dict[str, Any], excess: int) -> int:
    """Drop the largest attributes of a record, its events and links; what is still too much."""
    owners = (tree, *tree.get("events", ()), *tree.get("links", ()))
    parts = [
        (len(orjson.dumps(item)) + 1, owner, item)
        for owner in owners
        for item in owner.get("attributes", ())
    ]
    parts.sort(key=lambda part: -part[0])
    gone = set()
    for size, owner, item in parts:
        if excess <= 0:
            break
        gone.add(id(item))
        owner["droppedAttributesCount"] = owner.get("droppedAttributesCount", 0) + 1
        excess -= size
    for owner in owners:
        if "attributes" in owner:
            owner["attributes"] = [item for item in owner["attributes"] if id(item) not in gone]
    return excess
