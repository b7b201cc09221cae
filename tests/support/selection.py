"""Deselecting tests during collection."""

from collections.abc import Callable

import pytest

__all__ = ["deselect"]


def deselect(config: pytest.Config, items: list[pytest.Item], unwanted: Callable[[pytest.Item], bool]) -> None:
    """Take the unwanted tests out of a collection, and report them as deselected."""
    taken_out = [item for item in items if unwanted(item)]
    if taken_out:
        config.hook.pytest_deselected(items=taken_out)
        items[:] = [item for item in items if not unwanted(item)]
