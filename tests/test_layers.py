"""Imports point one way: a file may import its own package and the ones before it in the list."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LAYERS = [
    "core", "emit", "sources", "host", "pipeline", "store", "views", "control", "server", "ui",
    "cli",
]  # fmt: skip
# The roof: where layers meet, and what users see. Nothing below it may look up, except the
# terminal, whose demo is a user of the public API like any other.
ROOF = {"wiring", "testing", "__init__", "_version"}
MAY_USE_THE_ROOF = {"cli"}
STDLIB_ONLY = "core"
API_ONLY = {"core", "emit", "sources"}
HEAVY = {
    "asyncio", "grpc", "requests", "urllib3", "google", "psutil", "pynvml", "wrapt", "sqlite3",
    "msgspec", "click", "rich", "fastapi", "pydantic", "orjson",
}  # fmt: skip

FILES = sorted((ROOT / "otel_empathy").rglob("*.py"))


def imports(path: Path) -> list[tuple[int, str, bool]]:
    """Each imported module with its line and whether the whole program pays for it."""
    tree = ast.parse(path.read_text())
    late = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    for block in ast.walk(tree):
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test):
            late |= {id(node) for node in ast.walk(block)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name, id(node) not in late) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            module = node.module or ""
            found += [
                (node.lineno, f"{module}.{alias.name}", id(node) not in late)
                for alias in node.names
            ]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_imports_only_its_own_layer_and_those_before_it(path: Path) -> None:
    parts = path.relative_to(ROOT / "otel_empathy").parts
    layer = parts[0] if len(parts) > 1 else None
    if layer is None:
        return
    allowed = LAYERS[: LAYERS.index(layer) + 1]
    for line, module, _ in imports(path):
        names = module.split(".")
        if names[0] == "otel_empathy_auto":
            pytest.fail(f"{path}:{line}: the library knows nothing of the instrumentations")
        if names[0] != "otel_empathy":
            continue
        target = names[1] if len(names) > 1 else "__init__"
        if target in LAYERS:
            assert target in allowed, f"{path}:{line}: {layer} may not import {target}"
        elif target != "_version":
            assert layer in MAY_USE_THE_ROOF, f"{path}:{line}: {layer} may not import {module}"


@pytest.mark.parametrize(
    "path",
    [p for p in FILES if p.relative_to(ROOT / "otel_empathy").parts[0] in API_ONLY],
    ids=lambda p: str(p.relative_to(ROOT)),
)
def test_what_a_decorated_function_needs_loads_the_api_alone(path: Path) -> None:
    layer = path.relative_to(ROOT / "otel_empathy").parts[0]
    for line, module, at_start in imports(path):
        top = module.split(".")[0]
        if not at_start:
            continue
        assert top not in HEAVY, f"{path}:{line}: {module} is loaded by every program"
        assert not module.startswith("opentelemetry.sdk"), f"{path}:{line}: the SDK stays out"
        if layer == STDLIB_ONLY:
            assert top != "opentelemetry", f"{path}:{line}: core is the standard library alone"


def test_every_file_has_a_layer() -> None:
    for path in FILES:
        parts = path.relative_to(ROOT / "otel_empathy").parts
        known = parts[0] in LAYERS if len(parts) > 1 else path.stem in ROOF
        assert known, f"{path} belongs to no layer"
