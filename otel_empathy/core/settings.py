"""Every setting, one row each: argument, environment variable, default, meaning.

The table is the only place that knows a variable's name or reads the environment. An argument wins
over the environment, the environment over the default. A malformed variable is the environment's
fault and not the program's: it warns once and the default applies. A malformed argument raises.
`docs/settings.md` is generated from the table and compared with it by a test.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Literal

from otel_empathy.core.errors import SettingError

__all__ = ["TABLE", "Capture", "Setting", "Settings"]

Source = Literal["argument", "environment", "default"]


class Capture(Enum):
    """Where the content of messages may go."""

    NO_CONTENT = "NO_CONTENT"
    SPAN_ONLY = "SPAN_ONLY"
    EVENT_ONLY = "EVENT_ONLY"
    SPAN_AND_EVENT = "SPAN_AND_EVENT"

    @property
    def spans(self) -> bool:
        """Whether spans may carry content."""
        return self in {Capture.SPAN_ONLY, Capture.SPAN_AND_EVENT}

    @property
    def events(self) -> bool:
        """Whether events may carry content."""
        return self in {Capture.EVENT_ONLY, Capture.SPAN_AND_EVENT}


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table.

    Args:
        name: The argument of `configure()` or the key of its `settings`.
        env: The variable that sets it; further spellings follow, the first that is set wins.
        parse: Makes the value from text or from the argument, or raises ValueError with the rule.
        default: The value when nobody says otherwise.
        doc: What it does, in one sentence.
        secret: Whether the value must be masked wherever it is shown.
        argument: Checks an argument, where the variable may hold words for others as well.
    """

    name: str
    env: tuple[str, ...]
    parse: Callable[[Any], Any]
    default: Any
    doc: str
    secret: bool = False
    argument: Callable[[Any], Any] | None = None


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be a non-empty text")
    return value.strip()


def _path(value: Any) -> Path:
    path = value if isinstance(value, Path) else Path(_text(value))
    if "\0" in str(path):
        raise ValueError("must be a path without NUL")
    try:
        return path.expanduser()
    except RuntimeError:
        raise ValueError("must be a path whose ~ stands for a folder that is known") from None


def _prices(value: Any) -> Path | Mapping[str, Any]:
    """A file, or what such a file holds; whether its entries can be used is for `prices`."""
    if isinstance(value, Mapping):
        return value
    if not isinstance(value, (str, Path)):
        raise ValueError("must be the path of a file, or a mapping such as {'models': {…}}")  # noqa: TRY004 - settings say every rule so
    return _path(value)


_TRUE, _FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off"}


def _flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError("must be true or false")


def _standard_flag(value: Any) -> bool:
    """A boolean by the rule of the OpenTelemetry specification: only `true` is true."""
    return value if isinstance(value, bool) else str(value).strip().lower() == "true"


def _whole(low: int) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        number = int(str(value).strip())
        if isinstance(value, bool) or number < low:
            raise ValueError(f"must be a whole number of at least {low}")
        return number

    return parse


def _number(low: float) -> Callable[[Any], float]:
    def parse(value: Any) -> float:
        number = float(str(value).strip())
        if isinstance(value, bool) or not low <= number < float("inf"):
            raise ValueError(f"must be a number of at least {low:g}")
        return number

    return parse


_UNITS = {
    "": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40,
    "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40,
}  # fmt: skip
_LARGEST = 1 << 63  # bytes; no file system counts further


def _bytes(value: Any) -> int:
    text = str(value).strip().lower().replace(" ", "")
    digits = text.rstrip("abcdefghijklmnopqrstuvwxyz")
    unit = _UNITS.get(text[len(digits) :])
    if isinstance(value, bool) or unit is None:
        raise ValueError("must be a size such as 512MiB, 2GiB or a number of bytes")
    size = float(digits) * unit
    if not 4096 <= size < _LARGEST:  # noqa: PLR2004 - smaller than one page holds no log
        raise ValueError("must be at least 4096 bytes and less than 8 EiB")
    return int(size)


def _one_of(*choices: str) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        text = str(value).strip().lower()
        if text not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return text

    return parse


def _capture(value: Any) -> Capture:
    if isinstance(value, Capture):
        return value
    if isinstance(value, bool):
        return Capture.SPAN_ONLY if value else Capture.NO_CONTENT
    text = str(value).strip().upper()
    aliases = {"TRUE": Capture.SPAN_ONLY, "FALSE": Capture.NO_CONTENT}
    if text in aliases:
        return aliases[text]
    if text in Capture.__members__:
        return Capture[text]
    raise ValueError(f"must be one of {', '.join(Capture.__members__)}, true, false")


def _fsync(value: Any) -> float | None:
    """Seconds between two syncs; 0 syncs every write, None never."""
    text = str(value).strip().lower()
    if value is None or text == "never":
        return None
    if text == "always":
        return 0.0
    if text == "interval":
        return 0.5
    try:
        return _number(0)(value)
    except ValueError:
        raise ValueError("must be seconds, always, interval or never") from None


def _profile(value: Any) -> str:
    text = str(value).strip()
    if text in {"default", "latest", "both"}:
        return text
    if "gen_ai_latest_experimental" in {part.strip() for part in text.split(",")}:
        return "latest"
    return "default"


def _milliseconds(value: Any) -> float:
    return _number(0)(value) / 1000


_LEAST_INTERVAL = 100  # milliseconds; a shorter one spends the host on collecting


def _interval(value: Any) -> float:
    rule = "must be milliseconds above 0, such as 60000 for a minute"
    try:
        number = float(str(value).strip())
    except ValueError:
        raise ValueError(rule) from None
    if isinstance(value, bool) or not 0 < number < float("inf"):
        raise ValueError(rule)
    if number < _LEAST_INTERVAL:
        warnings.warn(
            f"metric_interval={number:g}: {_LEAST_INTERVAL} milliseconds are the least and are "
            "used; 60000 is a minute",
            RuntimeWarning,
            stacklevel=6,
        )
    return max(number, _LEAST_INTERVAL) / 1000


_HOME = Path("~/.otel-empathy")


def _expanded(default: Path) -> Path:
    """The default home; a user without a home folder, as in many containers, gets a temporary one.

    Who may write to it is looked at where it is opened, as with any other home.
    """
    try:
        return default.expanduser()
    except RuntimeError:
        import tempfile  # noqa: PLC0415 - it takes long to import, and nearly nobody needs it

        home = Path(tempfile.gettempdir()) / f"otel-empathy-{os.getuid()}"
        warnings.warn(
            f"this user has no home folder: {home} is used, set {_BY_NAME['home'].env[0]}",
            RuntimeWarning,
            stacklevel=5,
        )
        return home


TABLE: tuple[Setting, ...] = (
    Setting("sdk_disabled", ("OTEL_SDK_DISABLED",), _standard_flag, False,
            "Switches everything off: nothing is patched, emitted, written or started."),
    Setting("service", ("OTEL_SERVICE_NAME",), _text, None,
            "Name of the service, `service.name` of the resource; unset, the resource decides."),
    Setting("home", ("OTEL_EMPATHY_HOME", "EMPATHY_STORAGE_DIR"), _path, _HOME,
            "Folder that holds the log, the cursors and the secret."),
    Setting("log", ("OTEL_EMPATHY_LOG",), _flag, True,
            "Whether there is a log. `off` leaves bounded memory queues only."),
    Setting("segment_bytes", ("OTEL_EMPATHY_SEGMENT_BYTES",), _bytes, 10_000_000,
            "Size at which a segment is closed and the next one begun."),
    Setting("log_max_bytes", ("OTEL_EMPATHY_LOG_MAX_BYTES",), _bytes, 2 << 30,
            "Size of the whole log beyond which the oldest segments are removed."),
    Setting("backlog_max_bytes", ("OTEL_EMPATHY_BACKLOG_MAX_BYTES",), _bytes, 512 << 20,
            "Unshipped bytes per backend beyond which the oldest are given up and counted."),
    Setting("retention_days", ("OTEL_EMPATHY_RETENTION_DAYS",), _number(0), 90.0,
            "Age, by the date in a segment's name, at which it is removed."),
    Setting("fsync", ("OTEL_EMPATHY_FSYNC",), _fsync, 0.5,
            "Seconds between two syncs to the disk, or `always`, or `never`."),
    Setting("buffer_bytes", ("OTEL_EMPATHY_BUFFER_BYTES",), _bytes, 64 << 20,
            "Memory for records that wait while the disk cannot take them."),
    Setting("unsafe_home", ("OTEL_EMPATHY_UNSAFE_HOME",), _flag, False,
            "Accepts a home that other users of the machine may write to."),
    Setting("capture", ("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT",), _capture,
            Capture.NO_CONTENT,
            "Where message content may go: NO_CONTENT, SPAN_ONLY, EVENT_ONLY, SPAN_AND_EVENT."),
    Setting("emit_event", ("OTEL_INSTRUMENTATION_GENAI_EMIT_EVENT",), _flag, None,
            "Whether each call also emits its details as an event; unset follows `capture`."),
    Setting("stacktraces", ("OTEL_EMPATHY_STACKTRACES",), _flag, False,
            "Whether what failed also tells its stack trace: files, lines, source and message."),
    Setting("genai_metrics", ("OTEL_SEMCONV_STABILITY_OPT_IN",), _profile, "default",
            "Metric names: `default` (v1.41), `latest` (by `gen_ai_latest_experimental`), `both`.",
            argument=_one_of("default", "latest", "both")),
    Setting("cost_names", ("OTEL_EMPATHY_COST_NAMES",), _one_of("empathy", "gen_ai"), "empathy",
            "Names of the cost attributes: ours, or those of the open proposal."),
    Setting("propagate", ("OTEL_EMPATHY_PROPAGATE",), _flag, False,
            "Whether run, session, workflow, conversation and agent also travel as W3C baggage."),
    Setting("prices", ("OTEL_EMPATHY_PRICES",), _path, None,
            "File with prices that override or extend the bundled table, or as an argument what "
            'such a file holds: `{"models": {…}}`.',
            argument=_prices),
    Setting("user", ("OTEL_EMPATHY_USER", "EMPATHY_USER_ID"), _text, None,
            "User of every call that names none; only its keyed hash leaves the process."),
    Setting("secret_file", ("OTEL_EMPATHY_SECRET_FILE",), _path, None,
            "File with the secret that keys user hashes; unset, `<home>/secret`."),
    Setting("host", ("OTEL_EMPATHY_HOST",), _flag, False,
            "Reserved for gauges of the machine; this version has none and warns."),
    Setting("ship_delay", ("OTEL_BSP_SCHEDULE_DELAY",), _milliseconds, 1.0,
            "Longest wait before records are shipped; given in milliseconds, shown as seconds."),
    Setting("batch_records", ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE",), _whole(1), 512,
            "Records per request to a backend."),
    Setting("metric_interval", ("OTEL_METRIC_EXPORT_INTERVAL",), _interval, 60.0,
            "Time between two collections of metrics; given in milliseconds, of which 100 are the "
            "least, shown as seconds."),
    Setting("token", ("OTEL_EMPATHY_TOKEN",), _text, None,
            "Token of the server.", secret=True),
)  # fmt: skip

_BY_NAME = {row.name: row for row in TABLE}


class Settings:
    """The value of every row, and where it came from.

    Args:
        environ: The environment; the process's own by default.
        arguments: Values by row name; None means "not given".

    Raises:
        SettingError: An argument has an unknown name or an unusable value.
    """

    __slots__ = ("_sources", "_values", "environ")

    def __init__(self, environ: Mapping[str, str] | None = None, **arguments: Any) -> None:
        self.environ = os.environ if environ is None else environ
        self._values: dict[str, Any] = {}
        self._sources: dict[str, Source] = {}
        for name in arguments:
            if name not in _BY_NAME:
                known = ", ".join(sorted(_BY_NAME))
                raise SettingError(f"unknown setting {name!r}: use one of {known}")
        for row in TABLE:
            self._values[row.name], self._sources[row.name] = self._decide(
                row, arguments.get(row.name)
            )

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None, **arguments: Any) -> Settings:
        """The settings of this process, arguments first."""
        return cls(environ, **arguments)

    def _decide(self, row: Setting, argument: Any) -> tuple[Any, Source]:
        if argument is not None:
            try:
                return (row.argument or row.parse)(argument), "argument"
            except (ValueError, TypeError) as error:
                shown = "***" if row.secret else repr(argument)
                raise SettingError(f"{row.name}={shown}: {_rule(error)}") from None
        for variable in row.env:
            raw = self.environ.get(variable)
            if raw is None or not raw.strip():
                continue
            try:
                return row.parse(raw), "environment"
            except (ValueError, TypeError) as error:
                shown = "***" if row.secret else repr(raw)
                warnings.warn(
                    f"{variable}={shown}: {_rule(error)}; ignored, the default is {row.default!r}",
                    RuntimeWarning,
                    stacklevel=4,
                )
        default = _expanded(row.default) if isinstance(row.default, Path) else row.default
        return default, "default"

    def __getattr__(self, name: str) -> Any:
        try:
            return self._values[name]
        except KeyError:
            raise AttributeError(name) from None

    def source(self, name: str) -> Source:
        """Where the value of a row came from."""
        return self._sources[name]

    def shown(self, name: str) -> str:
        """The value as text for people, secrets masked."""
        value = self._values[name]
        if value is None:
            return "never" if name == "fsync" else ""
        if _BY_NAME[name].secret:
            return "***"
        return str(value.value) if isinstance(value, Enum) else str(value)


def _rule(error: Exception) -> str:
    text = str(error)
    return text if text.startswith("must") else "must be a number"
