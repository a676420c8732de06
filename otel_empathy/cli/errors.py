"""What a command raises when its answer is a finding."""

from __future__ import annotations

import click

__all__ = ["FINDING", "Finding"]

FINDING = 1


class Finding(click.ClickException):
    """The question was answered, and the answer is a finding: an unknown id, a defect."""

    exit_code = FINDING
