"""The rules of the import graph that the contracts in pyproject.toml cannot say."""

import sys

import grimp
import pytest

PACKAGE = "luminoracore_sdk"
BACKENDS = f"{PACKAGE}.adapters.storage."
SHARED = {"base", "documents"}


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph(PACKAGE, include_external_packages=True, cache_dir=None)


def outside_imports(graph: grimp.ImportGraph, layer: str) -> set[str]:
    """The top-level packages, standard library aside, that a layer imports itself."""
    package = f"{PACKAGE}.{layer}"
    imported = {
        target
        for module in {package} | graph.find_descendants(package)
        for target in graph.find_modules_directly_imported_by(module)
    }
    return {name.split(".")[0] for name in imported if not name.startswith(PACKAGE)} - sys.stdlib_module_names


def test_the_domain_imports_attrs_and_the_standard_library_alone(graph: grimp.ImportGraph) -> None:
    assert outside_imports(graph, "domain") <= {"attr", "attrs"}


def test_the_use_cases_import_attrs_and_the_standard_library_alone(graph: grimp.ImportGraph) -> None:
    assert outside_imports(graph, "application") <= {"attr", "attrs"}


def test_the_parts_of_a_backend_are_imported_by_that_backend_alone(graph: grimp.ImportGraph) -> None:
    def owner(module: str) -> str:
        stem = module.removeprefix(BACKENDS).split(".")[0]
        parts = [name for name in stems if stem == name or stem.startswith(f"{name}_")]
        return min(parts, key=len)

    stems = {module.removeprefix(BACKENDS).split(".")[0] for module in graph.modules if BACKENDS in module}
    crossing = {
        (importer, imported)
        for importer in graph.modules
        if importer.startswith(BACKENDS)
        for imported in graph.find_modules_directly_imported_by(importer)
        if imported.startswith(BACKENDS)
        and owner(imported) not in SHARED
        and owner(importer) != owner(imported)
    }
    assert crossing == set()
