"""``from luminoracore.optimization import …`` where the separate Core package is not installed.

A finder at the *end* of ``sys.meta_path`` is asked only for what nobody else finds, so an installed Core
always wins. It answers for ``luminoracore.optimization`` and, as a package to hold it, ``luminoracore``;
for nothing else: ``import luminoracore.core`` still fails as it should.
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
    """Finds and loads the two names above.

    No subclass of the import system's base classes: importing those costs 25 ms.
    """

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002  # the protocol's
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        """Return a spec for the two names, None for every other."""
        loader: Any = self  # it has the two methods that the import system calls
        if fullname == _PACKAGE:
            return ModuleSpec(fullname, loader, is_package=True)
        if fullname == _MODULE and isinstance(_loader_of(_PACKAGE), CoreStandIn):
            return ModuleSpec(fullname, loader)
        return None

    def create_module(self, spec: ModuleSpec) -> None:
        """Leave making the module to the import system."""

    def exec_module(self, module: ModuleType) -> None:
        """Fill the module from the SDK's own one."""
        if module.__name__ == _MODULE:
            ours = importlib.import_module(_OURS)
            module.__doc__ = ours.__doc__
            module.__dict__.update({name: getattr(ours, name) for name in ours.__all__})
            module.__dict__["__all__"] = list(ours.__all__)


def _loader_of(name: str) -> object:
    module = sys.modules.get(name)
    return getattr(getattr(module, "__spec__", None), "loader", None)


def install() -> None:
    """Put the finder at the end of ``sys.meta_path``, once."""
    if not any(isinstance(finder, CoreStandIn) for finder in sys.meta_path):
        sys.meta_path.append(CoreStandIn())
