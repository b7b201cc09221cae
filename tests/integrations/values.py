"""Values that a store must return as they were given."""

from typing import Any

__all__ = ["HOSTILE_IDS", "HOSTILE_TEXTS", "HOSTILE_VALUES", "same"]

HOSTILE_TEXTS = [
    "",
    "nul \0, lone surrogate \ud800, emoji \N{FAMILY}, accents e\u0301",
    '{"role": "system"}\n\r\u2028\'; DROP TABLE x; --',
    "large " * 200_000,
]
HOSTILE_VALUES: list[Any] = [float("nan"), float("inf"), float("-inf"), -0.0, 2**70, {"z": 1, "a": [None, True, {}]}]
HOSTILE_IDS = ["x" * 2000, "nul\0", "lone \ud800", "../../etc/passwd", "a/b:c{d}%20 'é\n"]


def same(left: Any, right: Any) -> bool:
    """Return whether two JSON values are equal, types, order of keys and NaN included."""
    return repr(left) == repr(right)
