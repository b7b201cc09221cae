"""Imported first by every module of the command that needs the ``cli`` extra: says so when it is missing."""

from luminoracore_sdk.domain.errors import MissingDependencyError

try:
    import platformdirs
    import rich
    import typer
except ImportError as exc:
    raise MissingDependencyError("the luminora command", "cli") from exc

__all__ = ["platformdirs", "rich", "typer"]
