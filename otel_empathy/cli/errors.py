"""The exit codes, and what a command raises when its answer is a finding."""

from __future__ import annotations

import click

__all__ = ["FINDING", "INTERRUPTED", "OK", "UNAVAILABLE", "USAGE", "Finding"]

OK, FINDING, USAGE, UNAVAILABLE, INTERRUPTED = 0, 1, 2, 3, 130


class Finding(click.ClickException):
    """The question was answered, and the answer is a finding: an unknown id, a defect."""

    exit_code = FINDING
