"""A new process resumes a session; without ``auto_save`` only ``save_session`` writes."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from luminoracore_sdk.adapters.wrappers.base import StorageWrapper
from luminoracore_sdk.application.ports.records import SessionRecord
from luminoracore_sdk.application.services import Services
from luminoracore_sdk.session import (
    ConversationManager,
    MemoryManager,
    SessionManager,
    SessionStorage,
    create_storage,
)
from luminoracore_sdk.testing import ManualClock
from luminoracore_sdk.utils.exceptions import ConflictError, SessionExistsError
from tests.support.backends import FILES, SQLITE
from tests.support.scripted_provider import Script

ROOT = Path(__file__).parents[2]
ADA = {"name": "Ada", "system_prompt": "You are Ada."}
ECHO = {"name": "echo"}

_FIRST = """
import asyncio, sys
from luminoracore_sdk.session import SessionManager, create_storage

async def main(url):
    async with create_storage(url) as storage, SessionManager(storage) as manager:
        await manager.create_session(
            {"name": "Ada", "system_prompt": "You are Ada."},
            {"name": "echo", "model": "m"},
            {"session_id": "../s\\n1", "timeout": 7, "user_id": "u", "tags": ["t"]},
        )
        await manager.send_message("../s\\n1", "First")
        await manager.memory_manager.store_memory("../s\\n1", "odd", {"k": [2**70, "\\ud800"]})

asyncio.run(main(sys.argv[1]))
"""

_SECOND = """
import asyncio, json, sys
from luminoracore_sdk.session import SessionManager, create_storage

async def main(url):
    async with create_storage(url) as storage, SessionManager(storage) as manager:
        [session_id] = await manager.list_sessions(user_id="u")
        await manager.send_message(session_id, "Second")
        session = await manager.load_session(session_id)
        said = await manager.conversation_manager.get_messages(session_id)
        print(json.dumps({
            "session": session.to_dict(),
            "said": [message.content for message in said],
            "positions": [message.position for message in said],
            "odd": await manager.memory_manager.get_memory(session_id, "odd"),
        }))

asyncio.run(main(sys.argv[1]))
"""


def run(source: str, url: str) -> str:
    done = subprocess.run([sys.executable, "-c", source, url], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("scheme", ["file", "sqlite"])
def test_a_new_process_resumes_a_session(tmp_path: Path, scheme: str) -> None:
    url = f"{scheme}://{'/' if scheme == 'sqlite' else ''}{tmp_path}/store"
    run(_FIRST, url)
    seen = json.loads(run(_SECOND, url))
    assert seen["said"] == ["First", "You said: First", "Second", "You said: Second"]
    assert seen["positions"] == [1, 2, 3, 4]
    assert seen["odd"] == {"k": [2**70, "\ud800"]}
    session = seen["session"]
    assert (session["session_id"], session["personality"], session["message_count"]) == ("../s\n1", ADA, 4)
    assert session["provider_config"] == {"name": "echo", "model": "m", "base_url": None, "extra": {}}
    assert (session["config"]["timeout"], session["config"]["tags"]) == (7, ["t"])


@pytest.mark.parametrize("backend", [FILES, SQLITE], ids=lambda backend: backend.name, indirect=True)
async def test_standalone_managers_use_their_storage(
    open_storage: Callable[[], SessionStorage], storage: SessionStorage
) -> None:
    await ConversationManager(storage=storage).add_message("s", "user", "Hello")
    await MemoryManager(storage=storage).store_memory("s", "k", "v")
    await storage.close()
    async with open_storage() as resumed:
        [message] = await ConversationManager(storage=resumed).get_messages("s")
        assert (message.content, message.position) == ("Hello", 1)
        assert await MemoryManager(storage=resumed).get_memory("s", "k") == "v"


@pytest.fixture
def observer(storage: SessionStorage) -> SessionManager:
    """Return another manager over the same store, which sees only stored data."""
    return SessionManager(storage)


async def unsaved(manager: SessionManager, **config: Any) -> str:
    return await manager.create_session(ADA, {"name": "scripted"}, {"auto_save": False, **config})


async def test_without_auto_save_only_save_session_writes(
    manager: SessionManager, observer: SessionManager, storage: SessionStorage, script: Script
) -> None:
    session_id = await unsaved(manager)
    await manager.send_message(session_id, "Hello")
    await manager.memory_manager.store_memory(session_id, "k", "v")
    assert await storage.list_sessions() == []
    assert await manager.load_session(session_id) is None  # the stored session
    assert await manager.get_session(session_id) is not None  # the deferred session
    assert await manager.list_sessions() == [session_id]
    assert await manager.memory_manager.get_memory(session_id, "k") == "v"

    assert await manager.save_session(session_id) is True
    assert await storage.list_sessions() == [session_id]
    said = await observer.conversation_manager.get_messages(session_id)
    assert [message.content for message in said] == ["Hello", "An answer."]
    assert await observer.memory_manager.get_memory(session_id, "k") == "v"


async def test_after_a_save_writes_are_deferred_again(
    manager: SessionManager, observer: SessionManager, script: Script
) -> None:
    session_id = await unsaved(manager)
    await manager.save_session(session_id)
    await manager.send_message(session_id, "Hello")
    await manager.update_personality(session_id, {"tone": "dry"})
    assert await observer.conversation_manager.get_message_count(session_id) == 0
    stored = await manager.load_session(session_id)
    assert stored is not None
    assert stored.personality == ADA
    await manager.save_session(session_id)
    assert await observer.conversation_manager.get_message_count(session_id) == 2
    stored = await manager.load_session(session_id)
    assert stored is not None
    assert stored.personality == {**ADA, "tone": "dry"}


async def test_a_resumed_session_is_deferred_too(
    storage: SessionStorage, services: Services, manager: SessionManager, script: Script
) -> None:
    session_id = await unsaved(manager)
    await manager.send_message(session_id, "First")
    await manager.save_session(session_id)
    resumed = SessionManager(storage, services=services)
    await resumed.send_message(session_id, "Second")
    assert await ConversationManager(storage=storage).get_message_count(session_id) == 2
    assert script.prompts[-1][1:] == [("user", "First"), ("assistant", "An answer."), ("user", "Second")]
    assert await resumed.save_session(session_id) is True
    assert await ConversationManager(storage=storage).get_message_count(session_id) == 4
    await resumed.close()


class Uneven(StorageWrapper):
    """Return every fifth session late, as it was at the time of the call."""

    calls = 0

    async def find_session(self, session_id: str) -> SessionRecord | None:
        self.calls += 1
        delay = 200 if self.calls % 5 == 0 else 0
        found = await self.base.find_session(session_id)
        for _ in range(delay):
            await asyncio.sleep(0)
        return found


async def test_concurrent_calls_on_an_unsaved_session_count(
    storage: SessionStorage, services: Services, manager: SessionManager, script: Script
) -> None:
    session_id = await unsaved(manager)
    await manager.save_session(session_id)
    resumed = SessionManager(Uneven(storage), services=services)
    await asyncio.gather(
        *(resumed.update_personality(session_id, {f"field {number}": number}) for number in range(10)),
        *(resumed.send_message(session_id, "Now") for _ in range(10)),
        *(resumed.get_session(session_id) for _ in range(10)),
    )
    await resumed.save_session(session_id)
    session = await resumed.load_session(session_id)
    assert session is not None
    assert session.personality == {**ADA, **{f"field {number}": number for number in range(10)}}
    assert session.message_count == 20
    await resumed.close()


async def test_an_unsaved_session_can_be_cleared_and_deleted(
    manager: SessionManager, storage: SessionStorage, script: Script
) -> None:
    session_id = await unsaved(manager)
    await manager.send_message(session_id, "Hello")
    await manager.save_session(session_id)
    assert await manager.clear_conversation(session_id) is True
    assert await ConversationManager(storage=storage).get_message_count(session_id) == 2
    await manager.save_session(session_id)
    assert await ConversationManager(storage=storage).get_message_count(session_id) == 0
    assert await manager.delete_session(session_id) is True
    assert await storage.list_sessions() == []


async def test_a_stored_id_is_refused_without_auto_save(manager: SessionManager, script: Script) -> None:
    await manager.create_session(ADA, ECHO, {"session_id": "s"})
    with pytest.raises(SessionExistsError):
        await unsaved(manager, session_id="s")
    assert (await manager.get_session_info("s") or {})["provider"] == "echo"


async def test_saving_over_a_concurrent_turn_conflicts(
    manager: SessionManager, storage: SessionStorage, script: Script
) -> None:
    session_id = await unsaved(manager)
    await manager.save_session(session_id)
    await manager.send_message(session_id, "Mine")
    await ConversationManager(storage=storage).add_message(session_id, "user", "Theirs")
    with pytest.raises(ConflictError):
        await manager.save_session(session_id)
    [stored] = await ConversationManager(storage=storage).get_messages(session_id)
    assert stored.content == "Theirs"
    mine = await manager.conversation_manager.get_messages(session_id)
    assert [message.content for message in mine] == ["Mine", "An answer."]


async def test_a_session_is_gone_after_its_ttl_without_activity(
    manager: SessionManager, storage: SessionStorage, clock: ManualClock
) -> None:
    session_id = await manager.create_session(ADA, ECHO, {"ttl": 10})
    clock.advance(9)
    await manager.send_message(session_id, "Still here")
    clock.advance(9.999999)
    assert (await manager.get_session_info(session_id) or {})["message_count"] == 2
    clock.advance(0.000001)
    assert await manager.get_session(session_id) is None
    assert await manager.list_sessions() == []
    assert await manager.delete_session(session_id) is False


@pytest.mark.parametrize("backend", [FILES, SQLITE], ids=lambda backend: backend.name, indirect=True)
async def test_get_conversation_is_limited_by_max_history(manager: SessionManager) -> None:
    session_id = await manager.create_session(ADA, ECHO, {"max_history": 3})
    for number in range(3):
        await manager.send_message(session_id, str(number))
    conversation = await manager.get_conversation(session_id)
    assert [message.content for message in conversation or []] == ["You said: 1", "2", "You said: 2"]
    assert await manager.conversation_manager.get_message_count(session_id) == 6


async def test_create_storage_creates_nothing_before_first_use(tmp_path: Path) -> None:
    storage = create_storage(f"sqlite:////{tmp_path}/store.db")
    files = create_storage(f"file://{tmp_path}/files")
    await storage.close()
    await files.close()
    assert os.listdir(tmp_path) == []  # noqa: PTH208  # in a test
