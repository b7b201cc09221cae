"""Rules of the import graph that the contracts in pyproject.toml cannot express."""

import sys
import tomllib
from functools import cache
from pathlib import Path

import grimp
import pytest

PACKAGE = "luminoracore_sdk"
STORAGE = f"{PACKAGE}.adapters.storage"
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph(PACKAGE, include_external_packages=True, cache_dir=None)


def outside_imports(graph: grimp.ImportGraph, layer: str) -> set[str]:
    """Return the top-level packages, without the standard library, that a layer imports."""
    package = f"{PACKAGE}.{layer}"
    imported = {
        target
        for module in {package} | graph.find_descendants(package)
        for target in graph.find_modules_directly_imported_by(module)
    }
    return {name.split(".")[0] for name in imported if not name.startswith(PACKAGE)} - sys.stdlib_module_names


def test_the_domain_imports_only_attrs_and_the_stdlib(graph: grimp.ImportGraph) -> None:
    assert outside_imports(graph, "domain") <= {"attr", "attrs"}


def test_the_application_imports_only_attrs_and_the_stdlib(graph: grimp.ImportGraph) -> None:
    assert outside_imports(graph, "application") <= {"attr", "attrs"}


def owner(module: str) -> str | None:
    """Return the backend that a storage module belongs to; None: it is shared by all."""
    return next((name for name in backends() if module == name or module.startswith(f"{name}.")), None)


@cache
def backends() -> list[str]:
    """Return the backends that the contract of independent backends lists."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (modules,) = [contract["modules"] for contract in contracts if contract["id"] == "independent-backends"]
    return [str(module) for module in modules]


def test_parts_of_a_backend_are_private_to_it(graph: grimp.ImportGraph) -> None:
    crossing = {
        (importer, imported)
        for importer in graph.find_descendants(STORAGE)
        for imported in graph.find_modules_directly_imported_by(importer)
        if owner(imported) not in {None, owner(importer)}
    }
    assert crossing == set()
