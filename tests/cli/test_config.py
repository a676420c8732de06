from __future__ import annotations

import json
from pathlib import Path

import pytest

from otel_empathy.cli import main
from otel_empathy.core.settings import TABLE


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for row in TABLE:
        for name in row.env:
            monkeypatch.delenv(name, raising=False)


def shown(capsys: pytest.CaptureFixture[str], *args: str) -> dict[str, dict[str, object]]:
    assert main(["config", *args]) == 0
    return {row["name"]: row for row in map(json.loads, capsys.readouterr().out.splitlines())}


def test_every_setting_is_shown_with_its_origin(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")
    rows = shown(capsys, "--home", str(tmp_path))
    assert list(rows) == [row.name for row in TABLE]
    assert (rows["service"]["value"], rows["service"]["source"]) == ("shop", "environment")
    assert (rows["home"]["value"], rows["home"]["source"]) == (str(tmp_path), "argument")
    assert rows["fsync"]["source"] == "default"


def test_a_secret_is_masked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EMPATHY_TOKEN", "sesame")
    for args in ([], ["show"], ["show", "--table"]):
        assert main(["config", *args]) == 0
        output = capsys.readouterr()
        assert "sesame" not in output.out + output.err
        assert "***" in output.out


def test_a_table_names_the_variable_that_decided(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EMPATHY_STORAGE_DIR", str(tmp_path))
    assert main(["config", "--table"]) == 0
    line = next(row for row in capsys.readouterr().out.splitlines() if " home " in row)
    assert "EMPATHY_STORAGE_DIR" in line


def test_usable_settings_pass(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "validate"]) == 0
    output = capsys.readouterr()
    assert (output.out, output.err) == ("", "every setting can be used\n")


def test_a_malformed_and_a_misspelt_variable_are_findings(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EMPATHY_FSYNC", "sometimes")
    monkeypatch.setenv("OTEL_EMPATHY_RETENTION_DAY", "7")
    assert main(["config", "validate"]) == 1
    findings = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert "OTEL_EMPATHY_FSYNC='sometimes'" in findings[0]["detail"]
    assert findings[1]["detail"] == "OTEL_EMPATHY_RETENTION_DAY is no setting"
    assert findings[1]["fix"] == "did you mean OTEL_EMPATHY_RETENTION_DAYS?"
