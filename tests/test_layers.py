"""Who may import whom: the library knows nobody of ours, the server no torch and no worker, the worker nothing of the web."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = {"d3po_core", "server", "worker", "web", "migrations", "benchmarks", "tests"}
HEAVY = {"torch", "diffusers", "transformers", "peft", "accelerate", "safetensors", "tokenizers", "numpy"}
TORCH_FREE = {
    "d3po_core",
    "d3po_core.demo_model.recipe",
    "d3po_core.params",
    "d3po_core.preferences",
    "d3po_core.prompts",
    "d3po_core.rewards",
    "d3po_core.errors",
    "d3po_core.files",
}
WORKER_MAY_USE = {"settings", "db", "models", "domain", "queue", "storage", "errors", "leash"}


def imports(path: Path) -> Iterator[str]:
    """Dotted names of all that a file imports, inside functions and for type checking too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.relative_to(ROOT)}:{node.lineno} imports relatively"
            yield from (_module(f"{node.module}.{alias.name}") for alias in node.names)


def _module(name: str) -> str:
    """`server.db.session_scope` -> `server.db`; a name that is a module of ours stays."""
    place = ROOT.joinpath(*name.split("."))
    is_module = place.with_suffix(".py").exists() or (place / "__init__.py").exists()
    return name if is_module else name.rpartition(".")[0]


def found(package: str) -> list[tuple[str, str]]:
    """(file, imported name) of a whole package."""
    files = sorted((ROOT / package).rglob("*.py"))
    assert files, f"{package} is empty"
    return [(str(file.relative_to(ROOT)), name) for file in files for name in imports(file)]


def top(name: str) -> str:
    return name.partition(".")[0]


def test_the_library_imports_nothing_of_ours() -> None:
    assert [row for row in found("d3po_core") if top(row[1]) in OURS - {"d3po_core"}] == []


def test_the_server_imports_neither_the_worker_nor_anything_heavy() -> None:
    assert [row for row in found("server") if top(row[1]) in HEAVY | {"worker", "benchmarks", "tests"}] == []


def test_the_server_uses_only_the_torch_free_part_of_the_library() -> None:
    assert [row for row in found("server") if top(row[1]) == "d3po_core" and row[1] not in TORCH_FREE] == []


def test_the_worker_uses_the_domain_and_nothing_of_the_web() -> None:
    used = [row for row in found("worker") if top(row[1]) in OURS - {"worker", "d3po_core"}]
    assert [row for row in used if top(row[1]) != "server" or row[1].split(".")[1:2][0] not in WORKER_MAY_USE] == []


def test_migrations_know_only_the_server() -> None:
    assert [row for row in found("migrations") if top(row[1]) in HEAVY | OURS - {"server", "migrations"}] == []


def test_the_domain_does_not_know_how_it_is_reached() -> None:
    edges = {"server.api", "server.pages", "server.app", "server.deps", "server.auth", "server.cli"}
    outer = [row for row in found("server/domain") if top(row[1]) in {"fastapi", "starlette", "typer"}]
    assert outer + [row for row in found("server/domain") if any(row[1].startswith(edge) for edge in edges)] == []


@pytest.mark.parametrize("modules", ["server.app, server.cli", ", ".join(sorted(TORCH_FREE))])
def test_no_heavy_package_is_loaded(modules: str) -> None:
    code = f"import {modules}, sys; print(*sorted({HEAVY!r} & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == ""
