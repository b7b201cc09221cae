"""Imports of packages that belong to an extra."""

from importlib import import_module
from types import ModuleType

from luminoracore_sdk.domain.errors import MissingDependencyError

__all__ = ["import_extra"]


def import_extra(module: str, *, needed_by: str, extra: str) -> ModuleType:
    """Return an optional module.

    Args:
        module: Its full name.
        needed_by: The class or command that needs it, for the error.
        extra: The extra of this package that installs it.

    Raises:
        MissingDependencyError: The module is not installed.
        ImportError: The module is installed but its import fails, for example because a dependency of its own is
            missing. Installing the extra would not help.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as exc:
        # a parent package may be missing too: google.cloud of google.cloud.firestore
        if exc.name is None or not f"{module}.".startswith(f"{exc.name}."):
            raise
        raise MissingDependencyError(needed_by, extra) from exc
