from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys

import otel_empathy

FORBIDDEN = [
    "grpc", "requests", "urllib3", "google.protobuf", "psutil", "pynvml", "wrapt", "asyncio",
    "opentelemetry.sdk", "fastapi", "pydantic", "sqlite3", "msgspec", "click", "rich", "orjson",
]  # fmt: skip


def loaded_after(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
    )
    return set(done.stdout.split())


def test_the_public_names_are_sorted_and_each_exists() -> None:
    assert list(otel_empathy.__all__) == sorted(otel_empathy.__all__)
    for name in otel_empathy.__all__:
        assert getattr(otel_empathy, name) is not None
    assert dir(otel_empathy) == sorted(otel_empathy.__all__)


def test_no_public_name_is_the_name_of_a_package() -> None:
    packages = {module.name for module in pkgutil.iter_modules(otel_empathy.__path__)}
    assert packages & set(otel_empathy.__all__) == set()


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert loaded_after("import otel_empathy") & set(FORBIDDEN) == set()


def test_decorating_and_calling_a_function_unconfigured_loads_nothing_heavy() -> None:
    statement = (
        "import otel_empathy\n"
        "@otel_empathy.agent\n"
        "def work(): return ask()\n"
        "@otel_empathy.llm_call(provider='x', model='y')\n"
        "def ask(): return 1\n"
        "assert work() == 1"
    )
    assert loaded_after(statement) & set(FORBIDDEN) == set()


def test_every_module_can_be_imported_alone() -> None:
    for module in pkgutil.walk_packages(otel_empathy.__path__, "otel_empathy."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def test_an_unknown_name_is_an_attribute_error() -> None:
    try:
        otel_empathy.nonsense  # noqa: B018
    except AttributeError as error:
        assert "nonsense" in str(error)
    else:
        raise AssertionError
