from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from otel_empathy.core.errors import SettingError
from otel_empathy.core.settings import TABLE, Capture, Settings


def no_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a container looks like whose user stands in no list of users."""
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda uid: (_ for _ in ()).throw(KeyError(uid)))


def test_an_argument_wins_over_the_environment_and_that_over_the_default() -> None:
    environ = {"OTEL_EMPATHY_RETENTION_DAYS": "7"}
    assert Settings(environ, retention_days=3).retention_days == 3
    assert Settings(environ).retention_days == 7
    assert Settings({}).retention_days == 90
    assert [
        Settings(environ, retention_days=3).source("retention_days"),
        Settings(environ).source("retention_days"),
        Settings({}).source("retention_days"),
    ] == ["argument", "environment", "default"]


@pytest.mark.parametrize(
    ("variable", "raw"),
    [
        ("OTEL_EMPATHY_RETENTION_DAYS", "soon"),
        ("OTEL_EMPATHY_RETENTION_DAYS", "-1"),
        ("OTEL_EMPATHY_RETENTION_DAYS", "nan"),
        ("OTEL_EMPATHY_RETENTION_DAYS", "1e400"),
        ("OTEL_EMPATHY_LOG_MAX_BYTES", "1e400"),
        ("OTEL_EMPATHY_LOG_MAX_BYTES", "99999999999TiB"),
        ("OTEL_EMPATHY_LOG_MAX_BYTES", "-5GiB"),
        ("OTEL_EMPATHY_LOG_MAX_BYTES", "two"),
        ("OTEL_EMPATHY_SEGMENT_BYTES", "1"),
        ("OTEL_EMPATHY_FSYNC", "soon"),
        ("OTEL_EMPATHY_LOG", "maybe"),
        ("OTEL_EMPATHY_HOME", "~nobody-has-this-name/log"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "0"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "9" * 5000),
        ("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "some"),
    ],
)
def test_a_malformed_variable_warns_and_the_default_applies(variable: str, raw: str) -> None:
    row = next(row for row in TABLE if variable in row.env)
    with pytest.warns(RuntimeWarning, match=f"{variable}=.*must be.*default"):
        settings = Settings({variable: raw})
    assert settings.source(row.name) == "default"
    assert getattr(settings, row.name) == getattr(Settings({}), row.name)


def test_a_malformed_argument_raises_and_names_value_and_rule() -> None:
    with pytest.raises(SettingError, match=r"retention_days='soon': must be a number"):
        Settings({}, retention_days="soon")
    with pytest.raises(SettingError, match="unknown setting 'retention'"):
        Settings({}, retention=3)


def test_a_malformed_secret_is_not_told() -> None:
    with pytest.raises(SettingError, match=r"token=\*\*\*: must be a non-empty text") as caught:
        Settings({}, token=123456)
    assert "123456" not in str(caught.value)


def test_an_empty_variable_is_no_variable() -> None:
    settings = Settings({"OTEL_EMPATHY_HOME": "", "EMPATHY_STORAGE_DIR": "/var/lib/agents"})
    assert settings.home == Path("/var/lib/agents")


def test_a_user_without_a_home_folder_gets_a_temporary_home_and_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    no_home_folder(monkeypatch)
    with pytest.warns(RuntimeWarning, match="no home folder.*OTEL_EMPATHY_HOME"):
        settings = Settings({})
    assert settings.home == Path(tempfile.gettempdir()) / f"otel-empathy-{os.getuid()}"


def test_a_user_without_a_home_folder_can_name_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    no_home_folder(monkeypatch)
    assert Settings({"OTEL_EMPATHY_HOME": "/data"}).home == Path("/data")


def test_values_are_shown_as_they_are_written() -> None:
    shown = Settings({}, fsync="never", capture="span_only", token="t0k3n").shown
    assert (shown("fsync"), shown("capture"), shown("token")) == ("never", "SPAN_ONLY", "***")
    assert Settings({}).shown("prices") == ""
    assert Settings({}).capture is Capture.NO_CONTENT


def test_an_argument_for_the_profile_is_checked_though_the_variable_holds_many_words() -> None:
    variable = "OTEL_SEMCONV_STABILITY_OPT_IN"
    assert Settings.load({variable: "http,database/dup"}).genai_metrics == "default"
    assert Settings.load({variable: "http, gen_ai_latest_experimental"}).genai_metrics == "latest"
    assert Settings.load({}, genai_metrics="both").genai_metrics == "both"
    with pytest.raises(SettingError, match="must be one of default, latest, both"):
        Settings.load({}, genai_metrics="lastest")


@pytest.mark.parametrize("given", [0, -1, "0", True, "soon"])
def test_an_interval_of_nothing_is_refused_with_value_and_fix(given: object) -> None:
    with pytest.raises(SettingError, match="milliseconds above 0, such as 60000") as caught:
        Settings({}, metric_interval=given)
    assert repr(given) in str(caught.value)


def test_a_variable_with_an_interval_of_nothing_warns_and_the_default_applies() -> None:
    with pytest.warns(RuntimeWarning, match="above 0.*the default is 60.0") as told:
        assert Settings({"OTEL_METRIC_EXPORT_INTERVAL": "0"}).metric_interval == 60
    assert len(told) == 1


def test_an_interval_that_would_burn_the_host_is_raised_to_a_tenth_of_a_second() -> None:
    with pytest.warns(RuntimeWarning, match="metric_interval=5: 100 milliseconds") as told:
        assert Settings({"OTEL_METRIC_EXPORT_INTERVAL": "5"}).metric_interval == 0.1
    assert len(told) == 1
    assert Settings({}, metric_interval=100).metric_interval == 0.1


def test_prices_may_be_a_mapping_in_code_and_a_path_everywhere() -> None:
    own = {"models": {"acme/own": {"input": 1, "output": 2}}}
    assert Settings({}, prices=own).prices == own
    assert Settings({}, prices="p.json").prices == Path("p.json")
    assert Settings({"OTEL_EMPATHY_PRICES": "p.json"}).prices == Path("p.json")
    with pytest.raises(SettingError, match="prices=3: must be the path of a file, or a mapping"):
        Settings({}, prices=3)
