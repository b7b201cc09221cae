"""Core, installed for a while: the stand-in, or the checkout that ``LUMINORA_CORE_PATH`` names.

The variable names the folder of a checkout of LuminoraCore, or the folder in it that holds the package.
"""

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

__all__ = ["STAND_IN", "VARIABLE", "core_folder", "core_installed"]

VARIABLE = "LUMINORA_CORE_PATH"
STAND_IN = Path(__file__).parent / "core_stand_in"


def core_folder() -> Path:
    """Return the folder to put on the path."""
    folder = Path(os.environ.get(VARIABLE) or STAND_IN).absolute()
    found = [place for place in (folder, folder / "luminoracore") if (place / "luminoracore" / "core").is_dir()]
    assert found, f"{VARIABLE} names {folder}, where there is no package luminoracore with a folder core"
    return found[0]


@contextmanager
def core_installed(folder: Path | None = None) -> Iterator[None]:
    """Put Core first on the path, and restore path and modules afterwards."""
    before = _taken_out()
    place = str(folder or core_folder())
    sys.path.insert(0, place)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(place)
        _taken_out()
        sys.modules.update(before)


def _taken_out() -> dict[str, ModuleType]:
    names = [name for name in sys.modules if name.partition(".")[0] == "luminoracore"]
    return {name: sys.modules.pop(name) for name in names}
