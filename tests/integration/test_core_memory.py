"""With Core installed: the stand-in, or the checkout that ``LUMINORA_CORE_PATH`` names.

These tests hold for both; failures of Core are in ``tests/unit/test_core_memory.py``.
"""

import importlib
import inspect
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from luminoracore_sdk.session import (
    ConversationManager,
    MemoryManager,
    OptimizedStorageWrapper,
    SessionManager,
    SessionStorage,
    create_storage,
)
from luminoracore_sdk.types.session import StorageConfig, StorageType
from tests.support.core import STAND_IN, VARIABLE, core_folder, core_installed

DOCUMENTS: list[dict[str, Any]] = [
    {},
    {"k": 1},
    {"key": 1, "k": 2},
    {"user_id": "u", "category": "c", "key": "k", "value": None, "confidence": 1.0, "odd": [{}]},
    {"session_id": "s", "messages": [{"role": "user", "content": "Hi", "metadata": {"u": 1}}]},
]


@pytest.fixture
def optimizer() -> Iterator[Any]:
    """Return Core's own optimizer, by the documented import."""
    with core_installed():
        core = importlib.import_module("luminoracore.optimization")
        yield core.Optimizer(core.OptimizationConfig(key_abbreviation=True, compact_format=True, minify_json=True))


def wrapped(optimizer: Any) -> SessionStorage:
    return create_storage(StorageConfig(storage_type=StorageType.MEMORY), optimizer=optimizer)


def test_a_missing_core_is_only_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        MemoryManager()
    [record] = caplog.records
    assert record.levelno == logging.INFO
    assert record.getMessage() == "Core MemorySystem not available; using the SDK's own memory"


async def test_cores_optimizer_loses_data_by_itself(optimizer: Any) -> None:
    assert optimizer.expand(optimizer.compress({"k": 1})) != {"k": 1}


async def test_cores_optimizer_loses_nothing_in_the_wrapper(optimizer: Any) -> None:
    async with wrapped(optimizer) as storage:
        assert isinstance(storage, OptimizedStorageWrapper)
        for number, document in enumerate(DOCUMENTS):
            await storage.save_session(str(number), document)
        loaded = [await storage.load_session(str(number)) for number in range(len(DOCUMENTS))]
    assert loaded == DOCUMENTS


async def test_managers_work_over_cores_optimizer(optimizer: Any) -> None:
    async with wrapped(optimizer) as storage:
        manager = SessionManager(storage=storage)
        session_id = await manager.create_session({"name": "Ada"}, {"name": "echo"})
        await manager.send_message(session_id, "k")
        said = await ConversationManager(storage=storage).get_messages(session_id)
        await manager.close()
    assert [message.content for message in said] == ["k", "You said: k"]


async def test_a_memory_reaches_cores_memory(optimizer: Any) -> None:
    memory = MemoryManager(optimizer=optimizer)
    await memory.store_memory("s", "k", {"k": "v", "value": None})
    assert await memory.get_memory("s", "k") == {"k": "v", "value": None}
    stats = await memory.get_memory_stats("s")
    assert stats is not None
    assert (stats["using_core"], stats["core_stats"]["memory_types"]["facts"]) == (True, 1)


_WITH_CORE = """
import asyncio
from luminoracore_sdk.session import MemoryManager
from luminoracore.storage.in_memory_storage import InMemoryStorage
from luminoracore.optimization import Optimizer

made = []
make = InMemoryStorage.__init__
InMemoryStorage.__init__ = lambda self: made.append(self) or make(self)

async def facts():
    return [(fact["category"], fact["key"], fact["value"]) for fact in await made[0].get_facts("s")]

async def main():
    memory = MemoryManager()
    await memory.store_memory("s", "a", 1)
    await memory.store_memory("s", "b", 2, category="topic")
    await memory.delete_memory("s", "a")
    print(await facts(), await memory.get_memory("s", "b"))
    stats = await memory.get_memory_stats("s")
    print(stats["using_core"], stats["core_stats"]["fact_count"])
    await memory.clear_memory("s")
    print(await facts(), Optimizer.__module__.split(".")[0])

asyncio.run(main())
"""


def test_every_change_reaches_an_installed_core() -> None:
    environment = {"PYTHONPATH": os.pathsep.join([str(core_folder()), str(Path(__file__).parents[2])])}
    done = subprocess.run(
        [sys.executable, "-c", _WITH_CORE], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["[('topic', 'b', 2)] 2", "True 1", "[] luminoracore"]


NAMES = {
    "luminoracore.core.memory_system": {"MemorySystem": ["__init__", "search_memories", "get_memory_stats"]},
    "luminoracore.storage.in_memory_storage": {
        "InMemoryStorage": ["save_fact", "get_facts", "update_fact", "delete_fact", "search_facts"]
    },
    "luminoracore.optimization": {"Optimizer": ["__init__", "compress", "expand"]},
}


def signatures(folder: Path) -> dict[str, list[tuple[str, Any]]]:
    with core_installed(folder):
        return {
            f"{kind}.{method}": [
                (name, parameter.default)
                for name, parameter in inspect.signature(
                    getattr(getattr(importlib.import_module(module), kind), method)
                ).parameters.items()
            ]
            for module, kinds in NAMES.items()
            for kind, methods in kinds.items()
            for method in methods
        }


@pytest.mark.skipif(VARIABLE not in os.environ, reason=f"{VARIABLE} names no checkout of Core")
def test_the_stand_in_has_the_signatures_of_core() -> None:
    assert signatures(STAND_IN) == signatures(core_folder())


def test_a_folder_without_core_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with pytest.raises(AssertionError, match=VARIABLE):
        core_folder()
    (tmp_path / "luminoracore" / "luminoracore" / "core").mkdir(parents=True)
    assert core_folder() == tmp_path / "luminoracore"
