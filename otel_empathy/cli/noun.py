"""A command that is a noun with actions, of which the common one needs no word."""

from __future__ import annotations

from typing import Any

import click

__all__ = ["Noun"]


class Noun(click.Group):
    """A group that fills in the action.

    Args:
        bare: The action meant when none is named.
        given: The action meant when the first word is none, such as an id; by default an error.
    """

    def __init__(self, *args: Any, bare: str, given: str | None = None, **attributes: Any) -> None:
        attributes["no_args_is_help"] = False
        super().__init__(*args, **attributes)
        self._bare = bare
        self._given = given

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Fill in the action, then parse as ever."""
        first = args[0] if args else ""
        if first in ctx.help_option_names or first in self.commands:
            return super().parse_args(ctx, args)
        if not first or first.startswith("-"):
            return super().parse_args(ctx, [self._bare, *args])
        return super().parse_args(ctx, args if self._given is None else [self._given, *args])
