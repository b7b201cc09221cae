"""``from luminoracore.optimization import …`` without the separate Core package.

The finder is the *last* one in ``sys.meta_path``, so an installed Core takes precedence. It finds only
``luminoracore.optimization`` and its parent package ``luminoracore``; ``import luminoracore.core`` still fails.
"""

import importlib
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["CoreStandIn", "install"]

_PACKAGE = "luminoracore"
_MODULE = "luminoracore.optimization"
_OURS = "luminoracore_sdk.adapters.optimizer"


class CoreStandIn:
    """Find and load the two modules.

    Not a subclass of the import system's base classes, whose import takes 25 ms.
    """

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002  # required by the protocol
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        """Return a spec for one of the two modules, else None."""
        loader: Any = self  # implements the two methods that the import system calls
        if fullname == _PACKAGE:
            return ModuleSpec(fullname, loader, is_package=True)
        if fullname == _MODULE and isinstance(_loader_of(_PACKAGE), CoreStandIn):
            return ModuleSpec(fullname, loader)
        return None

    def create_module(self, spec: ModuleSpec) -> None:
        """Let the import system create the module."""

    def exec_module(self, module: ModuleType) -> None:
        """Fill the module with the names of the SDK's own optimizer."""
        if module.__name__ == _MODULE:
            ours = importlib.import_module(_OURS)
            module.__doc__ = ours.__doc__
            module.__dict__.update({name: getattr(ours, name) for name in ours.__all__})
            module.__dict__["__all__"] = list(ours.__all__)


def _loader_of(name: str) -> object:
    module = sys.modules.get(name)
    return getattr(getattr(module, "__spec__", None), "loader", None)


def install() -> None:
    """Append the finder to ``sys.meta_path``, once."""
    if not any(isinstance(finder, CoreStandIn) for finder in sys.meta_path):
        sys.meta_path.append(CoreStandIn())
