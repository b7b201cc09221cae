"""Imported first by every module of the command that needs the ``cli`` extra: says so when it is missing."""

from luminoracore_sdk.adapters.optional import import_extra

for _name in ("platformdirs", "rich", "typer"):
    import_extra(_name, needed_by="the luminora command", extra="cli")

import platformdirs  # noqa: E402  # they are there, and a type checker knows them by these names
import rich  # noqa: E402
import typer  # noqa: E402

__all__ = ["platformdirs", "rich", "typer"]
