"""The ``luminora`` command."""

import sys

from luminoracore_sdk.adapters.optional import import_extra
from luminoracore_sdk.cli.streams import finish_streams, prepare_streams
from luminoracore_sdk.domain.errors import MissingDependencyError

__all__ = ["run"]


def run() -> None:
    """Run the command with the arguments of this process, and exit."""
    prepare_streams()
    try:
        for name in ("platformdirs", "rich", "typer"):
            import_extra(name, needed_by="the luminora command", extra="cli")
        from luminoracore_sdk.cli.app import app  # noqa: PLC0415  # needs the extra

        app()
    except MissingDependencyError as exc:
        sys.exit(f"luminora: {exc}")
    except OSError as exc:  # of --help and --version; commands report their own
        sys.exit(f"luminora: stdout: {exc.strerror}")
    except KeyboardInterrupt:  # while modules are imported; commands report their own
        sys.exit(130)
    finally:
        finish_streams()
