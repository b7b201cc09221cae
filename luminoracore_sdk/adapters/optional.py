"""Imports of the packages that come with an extra."""

from importlib import import_module
from types import ModuleType

from luminoracore_sdk.domain.errors import MissingDependencyError

__all__ = ["import_extra"]


def import_extra(module: str, *, needed_by: str, extra: str) -> ModuleType:
    """Return an optional module.

    Args:
        module: Its full name.
        needed_by: The class or command that cannot do without, for the text.
        extra: Our extra that installs it.

    Raises:
        MissingDependencyError: It is not installed.
        ImportError: It is installed but cannot be imported, for example because a package that it needs
            is missing: installing the extra again would not help, so the error passes as it is.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as exc:
        # a package above it may be what is missing: of google.cloud.firestore, google.cloud
        if exc.name is None or not f"{module}.".startswith(f"{exc.name}."):
            raise
        raise MissingDependencyError(needed_by, extra) from exc
