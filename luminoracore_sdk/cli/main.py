"""The entry point of the ``luminora`` command."""

import importlib
import sys

from luminoracore_sdk.domain.errors import MissingDependencyError

__all__ = ["run"]


def run() -> None:
    """Run the command with the arguments of this process, and exit."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # text files, both
    try:
        app = importlib.import_module("luminoracore_sdk.cli.app").app
    except MissingDependencyError as exc:
        sys.exit(f"luminora: {exc}")
    app()


if __name__ == "__main__":
    run()
