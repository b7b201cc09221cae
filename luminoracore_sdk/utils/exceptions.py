"""The documented import: every error of this package; the tree is drawn in ``domain.errors``."""

from luminoracore_sdk.domain.errors import *  # noqa: F403
from luminoracore_sdk.domain.errors import __all__  # noqa: F401
