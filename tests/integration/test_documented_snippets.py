"""The lines of the public document run unchanged, from top to bottom."""

import ast
import importlib
import inspect
from typing import Any

import pytest

from luminoracore_sdk.session import SessionStorage

IMPORTS = """
from luminoracore_sdk.session import (SessionManager, ConversationManager, MemoryManager, SessionStorage,
    InMemoryStorage, JSONFileStorage, RedisStorage, PostgreSQLStorage, MongoDBStorage,
    OptimizedStorageWrapper, create_storage)
from luminoracore_sdk.types.session import StorageConfig, StorageType, MemoryConfig, SessionConfig
from luminoracore.optimization import Optimizer, OptimizationConfig     # belongs to "Core"; see section 4
"""

SESSIONS = """
manager = SessionManager(storage=storage_backend)
session_id = await manager.create_session(personality=personality_data, provider_config=provider_config)
"""

# The document has three dots in these two calls instead of the id.
DATA_FLOW = """
await manager.save_session(session_id); await manager.load_session(session_id)      # named in the document's data-flow diagrams
"""  # noqa: E501  # as the document has it

CONVERSATIONS = """
conversation = ConversationManager()
await conversation.add_message(session_id, message)
messages = await conversation.get_messages(session_id)
"""

MEMORY = """
memory = MemoryManager(config=MemoryConfig(), optimizer=optimizer)     # optimizer is optional
await memory.store_memory(session_id, "key", "value")
value = await memory.get_memory(session_id, "key")
"""

STORAGE = """
storage = create_storage(StorageConfig(storage_type=StorageType.MEMORY))                       # a plain backend
"""  # as the document has it

OPTIMIZED = """
storage = create_storage(StorageConfig(storage_type=StorageType.MEMORY), optimizer=optimizer)  # an OptimizedStorageWrapper
"""  # noqa: E501  # as the document has it

OPTIMIZER = """
optimizer = Optimizer(OptimizationConfig(key_abbreviation=True, compact_format=True, minify_json=True))
"""


class Reader:
    """Run snippets in one namespace, with ``await`` at the top level."""

    def __init__(self, **names: Any) -> None:
        self.names = names

    async def run(self, source: str) -> None:
        code = compile(source, "the document", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        result = eval(code, self.names)  # noqa: S307  # our own document
        if inspect.iscoroutine(result):
            await result

    def __getattr__(self, name: str) -> Any:
        return self.names[name]


@pytest.fixture
async def reader(storage: SessionStorage) -> Reader:
    made = Reader(
        storage_backend=storage,
        personality_data={"name": "Ada", "system_prompt": "You are Ada."},
        provider_config={"name": "echo"},
        message={"role": "user", "content": "Good morning"},
    )
    await made.run(IMPORTS)
    await made.run(OPTIMIZER)
    return made


async def test_a_session_is_created_saved_and_loaded(reader: Reader) -> None:
    await reader.run(SESSIONS)
    await reader.run(DATA_FLOW)
    assert await reader.storage_backend.list_sessions() == [reader.session_id]
    loaded = await reader.manager.load_session(reader.session_id)
    assert loaded.personality == {"name": "Ada", "system_prompt": "You are Ada."}
    assert loaded.provider == {"name": "echo", "model": "echo-1", "base_url": None, "extra": {}}
    await reader.manager.close()


@pytest.mark.parametrize("session_id", ["a session of the manager's", "any id"])
async def test_a_message_is_added_and_read(reader: Reader, session_id: str) -> None:
    reader.names["session_id"] = session_id
    await reader.run(CONVERSATIONS)
    assert [(said.role, said.content) for said in reader.messages] == [("user", "Good morning")]


async def test_a_value_is_remembered(reader: Reader) -> None:
    reader.names["session_id"] = "any id"
    await reader.run(MEMORY)
    assert reader.value == "value"
    assert reader.memory.optimizer is reader.optimizer


async def test_a_plain_backend_comes_without_an_optimizer(reader: Reader) -> None:
    await reader.run(STORAGE)
    assert type(reader.storage) is reader.InMemoryStorage


async def test_with_an_optimizer_the_result_is_the_wrapper(reader: Reader) -> None:
    await reader.run(OPTIMIZED)
    assert type(reader.storage) is reader.OptimizedStorageWrapper
    assert type(reader.storage.base) is reader.InMemoryStorage
    document = {"messages": [{"content": "twice", "timestamp": "t", "k": 1}] * 2, "content": "c"}
    assert await reader.storage.save_session("s", document) is True
    assert await reader.storage.load_session("s") == document
    assert (await reader.storage.base.find_session("s")).payload.encoding == "json+zstd:g1"
    await reader.storage.close()


async def test_the_documented_optimizer_restores_a_session_whole(reader: Reader) -> None:
    session = {"session_id": "s", "messages": [{"role": "user", "content": "k"}], "k": {"content": None}}
    assert reader.optimizer.expand(reader.optimizer.compress(session)) == session
    config = reader.optimizer.config
    assert (config.key_abbreviation, config.compact_format, config.minify_json) == (True, True, True)


def test_without_core_its_import_gets_our_optimizer() -> None:
    documented = importlib.import_module("luminoracore.optimization")
    ours = importlib.import_module("luminoracore_sdk.optimization")
    assert documented.Optimizer is ours.Optimizer
    with pytest.raises(ModuleNotFoundError, match=r"luminoracore\.core"):
        importlib.import_module("luminoracore.core")
