"""Sessions, messages and memory of AI conversations, kept on any backend, never lost.

Importing this package also lets ``from luminoracore.optimization import ...`` work where the separate
Core package is not installed; an installed Core always wins.
"""

__version__ = "0.1.0"

from luminoracore_sdk.adapters import core_import as _core_import

_core_import.install()
