"""``luminoracore.optimization`` without Core, and with it."""

import subprocess
import sys
from pathlib import Path


def run(code: str, *paths: Path) -> str:
    inside = f"import sys; sys.path[:0] = {[str(path) for path in paths]!r}\n{code}"
    done = subprocess.run([sys.executable, "-c", inside], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.strip()


def test_documented_import_works_without_core() -> None:
    code = (
        "import luminoracore_sdk\n"
        "from luminoracore.optimization import Optimizer, OptimizationConfig\n"
        "print(Optimizer.__module__)"
    )
    assert run(code) == "luminoracore_sdk.adapters.optimizer"


def test_nothing_else_of_core_seems_to_be_there() -> None:
    code = (
        "import luminoracore_sdk, luminoracore.optimization\n"
        "try:\n    import luminoracore.core\n"
        "except ModuleNotFoundError as exc:\n    print(exc.name)"
    )
    assert run(code) == "luminoracore.core"


def test_an_installed_core_wins(tmp_path: Path) -> None:
    core = tmp_path / "luminoracore" / "optimization"
    core.mkdir(parents=True)
    (tmp_path / "luminoracore" / "__init__.py").write_text("")
    (core / "__init__.py").write_text("class Optimizer:\n    pass\n")
    code = "import luminoracore_sdk\nfrom luminoracore.optimization import Optimizer\nprint(Optimizer.__module__)"
    assert run(code, tmp_path) == "luminoracore.optimization"


def test_a_core_without_optimization_is_not_extended(tmp_path: Path) -> None:
    (tmp_path / "luminoracore").mkdir()
    (tmp_path / "luminoracore" / "__init__.py").write_text("")
    code = (
        "import luminoracore_sdk\n"
        "try:\n    import luminoracore.optimization\n"
        "except ModuleNotFoundError as exc:\n    print(exc.name)"
    )
    assert run(code, tmp_path) == "luminoracore.optimization"


def test_the_finder_is_installed_once() -> None:
    code = (
        "import sys, luminoracore_sdk\n"
        "from luminoracore_sdk.adapters.core_import import CoreStandIn, install\n"
        "install()\n"
        "print(sum(isinstance(finder, CoreStandIn) for finder in sys.meta_path))"
    )
    assert run(code) == "1"
