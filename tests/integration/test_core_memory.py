"""Core's MemorySystem: used where it is installed, only logged where it is not."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from luminoracore_sdk.session import MemoryManager


def test_that_core_is_missing_is_only_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        MemoryManager()
    [record] = caplog.records
    assert record.levelno == logging.INFO
    assert record.getMessage() == "Core MemorySystem not available; using the SDK's own memory"


_CORE_STORAGE = """
class InMemoryStorage:
    facts = {}
    async def save_fact(self, user_id, category, key, value, **kwargs):
        self.facts[user_id, category, key] = value
    async def delete_fact(self, user_id, category, key):
        del self.facts[user_id, category, key]
"""
_CORE_SYSTEM = """
class MemorySystem:
    def __init__(self, storage):
        self.storage = storage
    async def get_memory_stats(self, user_id):
        return {"facts": len(self.storage.facts)}
"""
_WITH_CORE = """
import asyncio
from luminoracore_sdk.session import MemoryManager
from luminoracore.storage.in_memory_storage import InMemoryStorage
from luminoracore.optimization import Optimizer

async def main():
    memory = MemoryManager()
    await memory.store_memory("s", "a", 1)
    await memory.store_memory("s", "b", 2, category="topic")
    await memory.delete_memory("s", "a")
    assert InMemoryStorage.facts == {("s", "topic", "b"): 2}, InMemoryStorage.facts
    stats = await memory.get_memory_stats("s")
    assert (stats["using_core"], stats["core_stats"]) == (True, {"facts": 1}), stats
    await memory.clear_memory("s")
    assert InMemoryStorage.facts == {}
    assert Optimizer == "Core's own", Optimizer

asyncio.run(main())
"""


def test_with_core_installed_every_change_reaches_it_and_nothing_shadows_it(tmp_path: Path) -> None:
    modules = {
        "core/memory_system.py": _CORE_SYSTEM,
        "storage/in_memory_storage.py": _CORE_STORAGE,
        "optimization.py": 'Optimizer = "Core\'s own"\n',
    }
    for name, source in modules.items():
        path = tmp_path / "luminoracore" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        for package in {path.parent, tmp_path / "luminoracore"}:
            (package / "__init__.py").touch()
        path.write_text(source)
    environment = {"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}"}
    done = subprocess.run(
        [sys.executable, "-c", _WITH_CORE], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
