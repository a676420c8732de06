"""The `otel-empathy` command: its list of commands, its exit codes, its quiet endings.

Each command lives in a module of its own and is parse -> one question -> print; the module is
imported when the command runs, so that `--help` needs click and nothing else. Nothing is decided
here about what a command answers.

Exit codes: 0 ok, 1 a finding or an unknown id, 2 usage, 3 unavailable, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack, suppress
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path

import click

from otel_empathy._version import __version__
from otel_empathy.cli.errors import INTERRUPTED, OK, UNAVAILABLE, USAGE
from otel_empathy.cli.options import colour
from otel_empathy.cli.screen import clean, is_unicode
from otel_empathy.core.errors import EmpathyError, Unavailable

__all__ = ["COMMANDS", "cli", "main"]

# Heading -> command -> the sentence of `--help`; a test holds it against the command's own.
COMMANDS: dict[str, dict[str, str]] = {
    "Begin": {
        "demo": "Run an example agent and look at what it left in the log.",
        "doctor": "Examine the installation and the log, and say how to mend them.",
        "config": "Show or check the settings that apply here.",
    },
    "Read the log": {
        "usage": "Calls, tokens and money, and what was saved.",
        "cache": "What prompt caching brings.",
        "traces": "List traces, draw one as a tree, or export them.",
        "tail": "Print spans and events as they are written.",
        "export": "Write calls as CSV or JSON lines, or signals as OTLP.",
    },
    "Keep it flowing": {
        "status": "The log, its backends and the loss ledger.",
        "ship": "Send what is still waiting in the log to the backends.",
    },
}


class _Group(click.Group):
    """A group whose commands are imported when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's
        return [name for part in COMMANDS.values() for name in part]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command = import_module(f"{__name__}.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, self.list_commands(ctx)))
        for heading, part in COMMANDS.items():
            with formatter.section(click.style(heading, bold=True)):
                formatter.write_dl([(name.ljust(width), text) for name, text in part.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            message = f"{error.message} `otel-empathy --help` lists the commands."
            raise click.UsageError(message, ctx) from error


@click.command(
    cls=_Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="otel-empathy")
def cli() -> None:
    """See what your agents do, what they cost and what they use.

    Every command reads the log in --home (default: the setting `home`), without a server and
    without a network. A terminal gets tables; a pipe gets JSON lines.
    """


def main(args: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    with ExitStack() as stack:
        # A stream that was closed (`2>&-`) is None; what would go there goes nowhere.
        for name in ("stdout", "stderr"):
            if getattr(sys, name) is None:
                setattr(sys, name, stack.enter_context(Path(os.devnull).open("w")))
                stack.callback(setattr, sys, name, None)
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, TextIOWrapper) and not is_unicode(stream):
                stream.reconfigure(errors="replace")  # a question mark is better than an end
        return _flushed(_run(args))


def _flushed(code: int) -> int:
    """The exit code when everything is written, as far as anybody still reads it."""
    try:
        sys.stdout.flush()
    except OSError as error:
        # What is still buffered must not raise again when the interpreter flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError) and code != UNAVAILABLE:
            _complain(f"{error.strerror or error}.")
            return UNAVAILABLE
    return code


def _run(args: list[str] | None) -> int:
    try:
        # Not through click's own `main`, which answers a broken pipe with exit code 1.
        given = sys.argv[1:] if args is None else list(args)
        with cli.make_context("otel-empathy", given, color=colour()) as context:
            cli.invoke(context)
    except click.exceptions.Exit as ending:
        return ending.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return USAGE
    except click.ClickException as error:
        _complain(error.format_message(), error)
        return error.exit_code
    except BrokenPipeError:
        return OK  # the reader (`| head`) has what it wanted
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except EmpathyError as error:
        _complain(str(error))
        return UNAVAILABLE if isinstance(error, Unavailable) else USAGE
    except OSError as error:
        if error.filename is None:
            _complain(f"{error.strerror or error}.")  # what we print could not be written
        else:
            text = f"{error.filename}: {error.strerror}. `otel-empathy doctor` examines the log."
            _complain(text)
        return UNAVAILABLE
    return OK


def _complain(message: str, error: click.ClickException | None = None) -> None:
    with suppress(OSError):  # what it means that the answer cannot be written is told at the end
        sys.stdout.flush()
    # The context that knows about NO_COLOR is gone by now.
    if isinstance(error, click.UsageError) and error.ctx is not None:
        click.echo(error.ctx.get_usage(), err=True, color=colour())
    sign = click.style("error:", fg="red", bold=True)
    click.echo(f"{sign} {clean(message)}", err=True, color=colour())
