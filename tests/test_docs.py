from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest

import otel_empathy

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
_spec = importlib.util.spec_from_file_location("generate", ROOT / "docs/generate.py")
generate = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(generate)


@pytest.mark.parametrize("page", generate.PAGES)
def test_a_generated_page_says_what_the_code_says(page: str) -> None:
    assert (ROOT / page).read_text() == generate.PAGES[page](), "run `make docs`"


def test_the_readme_lists_what_the_tests_talk_to_and_nothing_that_is_excused() -> None:
    (line,) = re.findall(r"(?m)^Tested with .*$", (ROOT / "README.md").read_text())
    assert "OpenTelemetry Collector 0." in line
    assert "contrib" not in line


def test_every_public_name_is_documented() -> None:
    docs = "".join(path.read_text() for path in [*(ROOT / "docs").glob("*.md"), ROOT / "README.md"])
    missing = [
        name for name in otel_empathy.__all__ if not re.search(rf"\b{re.escape(name)}\b", docs)
    ]
    assert missing == []


def test_the_readme_names_no_command_that_does_not_exist() -> None:
    from otel_empathy.cli import COMMANDS

    text = (ROOT / "README.md").read_text()
    used = set(re.findall(r"otel-empathy ([a-z]+)", text))
    assert used <= {name for part in COMMANDS.values() for name in part}, used


def test_versions_are_pinned_for_everything_that_development_needs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    pinned = {
        line.split("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    names = {re.split(r"[><=!\[ ]", one)[0].lower().replace("_", "-") for one in wanted}
    assert names <= pinned, names - pinned
