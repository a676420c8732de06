"""The options that commands share: where the log is, how to print, which stretch of time.

What a window selects is the business of the views.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import click

from otel_empathy.cli import times
from otel_empathy.core.clock import SYSTEM

if TYPE_CHECKING:
    from otel_empathy.core.settings import Settings

__all__ = ["Number", "Question", "Window", "colour", "common", "settings_of", "window"]

Command = Callable[..., Any]

_LONGEST = 100_000 * times.DAY  # seconds; longer than there are computers


class Question(TypedDict):
    """The arguments by which a view is asked about a window."""

    days: float | None
    since: int | None
    until: int | None


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of time in UTC nanoseconds, the beginning included, the end not.

    Args:
        since: Where it begins; None is the beginning of the log.
        until: Where it ends; None is now.
        text: The window in words.
        days: Its length in days when it is a length that ends now.
    """

    since: int | None
    until: int | None
    text: str
    days: float | None = None

    @property
    def question(self) -> Question:
        """The window as the views take it."""
        if self.days is not None:
            return {"days": self.days, "since": None, "until": None}
        return {"days": None, "since": self.since, "until": self.until}

    def holds(self, at_ns: int) -> bool:
        """Whether a moment lies in it."""
        return (self.since is None or self.since <= at_ns) and (
            self.until is None or at_ns < self.until
        )


class Number(click.FloatRange):
    """A number from 0 on that is neither infinite nor `nan`."""

    name = "number"

    def __init__(self) -> None:
        super().__init__(min=0)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number, or the usage error."""
        number = super().convert(value, param, ctx)
        if not number < float("inf"):
            self.fail(f"{value} is no number that can be counted to.", param, ctx)
        return number


def _length(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """Seconds of `15m`."""
    try:
        return None if value is None else times.parse_length(value)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from error


def _folder(ctx: click.Context, param: click.Parameter, value: str | None) -> Path | None:
    """A folder; the empty text of an unset variable must not mean the one that we are in."""
    if value is not None and not value.strip():
        raise click.BadParameter("it is empty: name a folder, or leave it out.", ctx, param)
    return None if value is None else Path(value)


def _moment(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """UTC nanoseconds of `2026-08-31T12:00Z` or `2h`."""
    try:
        return None if value is None else times.parse_moment(value, now_ns=SYSTEM.time_ns())
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from error


def common(command: Command) -> Command:
    """Add `--home`, `--json` and `--table`, which every command has."""

    @wraps(command)
    def chosen(*args: Any, json_: bool, table: bool, **others: Any) -> Any:
        if json_ and table:
            raise click.UsageError("--json and --table exclude each other: give one of them.")
        return command(*args, as_json=json_ if json_ or table else None, **others)

    as_table = click.option(
        "--table", is_flag=True, help="Tables, which a terminal gets by default."
    )
    as_json = click.option(
        "--json", "json_", is_flag=True, help="JSON lines, which a pipe gets by default."
    )
    home = click.option(
        "--home",
        type=click.Path(file_okay=False, readable=False),
        callback=_folder,
        help="Folder of the log; by default the setting `home`.",
    )
    return as_json(as_table(home(chosen)))


def window(*, days: float | None) -> Callable[[Command], Command]:
    """Add the window options; the command gets one `window` (None days: the whole log)."""

    def add(command: Command) -> Command:
        @wraps(command)
        def chosen(
            *args: Any,
            days_: float | None,
            last: float | None,
            since: int | None,
            until: int | None,
            **others: Any,
        ) -> Any:
            selected = select(days=days_, last=last, since=since, until=until, default=days)
            return command(*args, window=selected, **others)

        shown = "the whole log" if days is None else f"{days:g}"
        for option in (
            click.option(
                "--until",
                metavar="TIME",
                callback=_moment,
                help="End, written as --since; default now.",
            ),
            click.option(
                "--since",
                metavar="TIME",
                callback=_moment,
                help="Beginning: 2026-08-31, 2026-08-31T12:00Z, or 2h for two hours ago.",
            ),
            click.option(
                "--last",
                metavar="LENGTH",
                callback=_length,
                help="The last 90s, 15m, 2h, 7d or 1w.",
            ),
            click.option(
                "--days",
                "days_",
                type=Number(),
                help=f"The last so many times 24 hours; default {shown}.",
            ),
        ):
            option(chosen)
        return chosen

    return add


def select(
    *,
    days: float | None,
    last: float | None,
    since: int | None,
    until: int | None,
    default: float | None,
) -> Window:
    """The window that the options describe.

    Raises:
        click.UsageError: Two options name a beginning, or the end is not after the beginning.
    """
    given = {"--days": days, "--last": last, "--since": since}
    named = [name for name, value in given.items() if value is not None]
    if len(named) > 1:
        raise click.UsageError(f"{' and '.join(named)} name a beginning each: give one of them.")
    if since is not None and until is not None and until <= since:
        raise click.UsageError("--until is not after --since: exchange them.")
    ending = "" if until is None else f" until {times.local(until)}"
    if since is not None:
        return Window(since, until, f"since {times.local(since)}{ending}")
    if not named and (until is not None or default is None):
        return Window(None, until, f"the whole log{ending}")
    if last is None:
        last = times.DAY * (days if days is not None else default or 0)
    if last > _LONGEST:
        raise click.UsageError(
            f"the last {times.length(last)} are more than any log holds: give a shorter length."
        )
    # A window that ends now holds what is there now, and nothing from clocks that are ahead.
    end = SYSTEM.time_ns() + 1 if until is None else until
    text = f"the last {times.length(last)}{ending}"
    return Window(end - round(last * 1e9), end, text, last / times.DAY if until is None else None)


def settings_of(home: Path | None, **arguments: Any) -> tuple[Settings, list[str]]:
    """The settings that apply with this `--home`, and what is wrong with the environment."""
    from otel_empathy.core.settings import Settings

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        settings = Settings.load(home=home, **arguments)
    return settings, [str(warning.message) for warning in caught]


def colour() -> bool | None:
    """What click should do about colour: none when NO_COLOR asks for it, else as it decides."""
    settings, _ = settings_of(None)
    return False if settings.environ.get("NO_COLOR") else None
