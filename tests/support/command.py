"""The ``luminora`` command for tests, in this process or in another one."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from typer.testing import CliRunner, Result

from luminoracore_sdk.cli.app import app

__all__ = ["Luminora", "luminora_at", "luminora_over", "process", "process_environment"]

ROOT = Path(__file__).parents[2]

Luminora = Callable[..., Result]


def luminora_over(store: str, **shared: str | None) -> Luminora:
    """Return the command over a store, in this process, under some changes of the environment."""

    def luminora(*arguments: str | Path, stdin: str | bytes | None = None, **environment: str) -> Result:
        variables = {"LUMINORA_STORE": store, "COLUMNS": "160", **shared, **environment}
        return CliRunner(env=variables).invoke(
            app, [str(one) for one in arguments], input=stdin, catch_exceptions=False
        )

    return luminora


def luminora_at(home: Path) -> Luminora:
    """Return the command over the default store of a home, in this process."""
    return luminora_over("", HOME=str(home), **{name: None for name in os.environ if name.startswith("XDG_")})


def process_environment(home: Path, **changes: str) -> dict[str, str]:
    """Return variables for a process whose home is an empty folder."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LUMINORA_", "XDG_"))}
    return {**kept, "HOME": str(home), "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1", **changes}


def process(
    home: Path, *arguments: str, stdin: str = "", code: str = "", timeout: float = 30, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own; ``code`` runs before it."""
    source = f"{code}\nfrom luminoracore_sdk.cli import run\nrun()"
    return subprocess.run(
        [sys.executable, "-c", source, *arguments],
        input=stdin,
        check=False,
        capture_output=True,
        text=True,
        timeout=timeout,
        env=process_environment(home, **environment),
    )
