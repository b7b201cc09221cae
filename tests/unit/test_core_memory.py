"""Core's MemorySystem as a mirror, against a stand-in with Core's signatures."""

import logging
import sys
from types import ModuleType
from typing import Any, ClassVar

import pytest

from luminoracore_sdk.session import MemoryManager


class CoreStorage:
    def __init__(self) -> None:
        self.facts: dict[tuple[str, str, str], Any] = {}

    async def save_fact(self, user_id: str, category: str, key: str, value: Any, **_: Any) -> bool:
        if value == "refuse":
            raise RuntimeError("Core is out of order")
        self.facts[user_id, category, key] = value
        return True

    async def delete_fact(self, user_id: str, category: str, key: str) -> bool:
        return self.facts.pop((user_id, category, key), None) is not None


class CoreSystem:
    made: ClassVar["list[CoreSystem]"] = []

    def __init__(self, storage: CoreStorage) -> None:
        self.storage = storage
        self.made.append(self)

    async def get_memory_stats(self, user_id: str) -> dict[str, Any]:
        return {"facts": sum(1 for owner, _, _ in self.storage.facts if owner == user_id)}


@pytest.fixture
def core(monkeypatch: pytest.MonkeyPatch) -> type[CoreSystem]:
    for name in ("luminoracore", "luminoracore.core", "luminoracore.storage"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    system = ModuleType("luminoracore.core.memory_system")
    system.MemorySystem = CoreSystem  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "luminoracore.core.memory_system", system)
    storage = ModuleType("luminoracore.storage.in_memory_storage")
    storage.InMemoryStorage = CoreStorage  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "luminoracore.storage.in_memory_storage", storage)
    CoreSystem.made = []
    return CoreSystem


async def test_a_stored_memory_reaches_core(core: type[CoreSystem]) -> None:
    memory = MemoryManager()
    assert await memory.store_memory("s", "name", "Ann") is True
    assert core.made[0].storage.facts == {("s", "fact", "name"): "Ann"}
    stats = await memory.get_memory_stats("s")
    assert stats is not None
    assert (stats["using_core"], stats["core_stats"]) == (True, {"facts": 1})


async def test_a_forgotten_memory_is_forgotten_by_core(core: type[CoreSystem]) -> None:
    memory = MemoryManager()
    await memory.store_memory("s", "a", 1)
    await memory.store_memory("s", "b", 2, category="topic")
    assert await memory.delete_memory("s", "a") is True
    assert core.made[0].storage.facts == {("s", "topic", "b"): 2}
    assert await memory.clear_memory("s") is True
    assert core.made[0].storage.facts == {}
    assert await memory.delete_memory("s", "a") is False


async def test_a_failure_of_core_loses_nothing_and_is_logged_without_the_value(
    core: type[CoreSystem], caplog: pytest.LogCaptureFixture
) -> None:
    memory = MemoryManager()
    assert await memory.store_memory("s", "k", "refuse") is True
    assert await memory.get_memory("s", "k") == "refuse"
    assert caplog.messages[-1] == "Core MemorySystem refused a call: RuntimeError"


def test_without_core_the_reason_is_only_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        MemoryManager()
    assert caplog.messages == ["Core MemorySystem not available; using the SDK's own memory"]
