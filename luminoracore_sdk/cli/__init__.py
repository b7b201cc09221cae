"""The ``luminora`` command."""

import sys

from luminoracore_sdk.adapters.optional import import_extra
from luminoracore_sdk.domain.errors import MissingDependencyError

__all__ = ["run"]


def run() -> None:
    """Run the command with the arguments of this process, and exit."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # both are text files
    try:
        for name in ("platformdirs", "rich", "typer"):
            import_extra(name, needed_by="the luminora command", extra="cli")
        from luminoracore_sdk.cli.app import app  # noqa: PLC0415  # needs the extra
    except MissingDependencyError as exc:
        sys.exit(f"luminora: {exc}")
    app()
