"""Contract cases that a backend cannot run are deselected, so that a skip always means something."""

import pytest

from luminoracore_sdk.testing import StorageContract
from luminoracore_sdk.testing.contract import rewriting
from tests.support.selection import deselect

_ABILITIES = ("persistent", "shares_between_instances")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the cases that need an ability that the backend lacks."""
    deselect(config, items, lambda item: isinstance(item, pytest.Function) and _lacks_ability(item))


def _lacks_ability(item: pytest.Function) -> bool:
    case = item.cls
    if case is None or not issubclass(case, StorageContract):
        return False
    if item.function.__module__ == rewriting.__name__ and not getattr(case, "rewrites", True):
        return True
    writers = item.callspec.params.get("writers") if hasattr(item, "callspec") else None
    if writers == 2 and not case.shares_between_instances:
        return True
    # A case states what it needs by calling ``self.need("…")``.
    return any(name in item.function.__code__.co_consts and not getattr(case, name) for name in _ABILITIES)
