"""The calls that the managers make to the storage, and the memory that a stream needs."""

import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import attrs
import pytest

from luminoracore_sdk.adapters.wrappers.base import StorageWrapper
from luminoracore_sdk.application.ports.records import MessageRange, MessageRecord, TurnRecords
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.application.services import Services
from luminoracore_sdk.bootstrap.managers import default_services
from luminoracore_sdk.session import ConversationManager, InMemoryStorage, SessionManager
from luminoracore_sdk.testing.records import message_record
from luminoracore_sdk.types.session import MemoryConfig, Message

TEXT = "x" * 200

PORT = frozenset(name for name in vars(SessionStorage) if not name.startswith("_")) - {"backend", "search"}


class Counted(StorageWrapper):
    """Records the calls of the port."""

    def __init__(self, base: SessionStorage) -> None:
        super().__init__(base)
        self.calls: list[str] = []
        self.newest: list[int] = []

    def __getattribute__(self, name: str) -> Any:
        if name in PORT:
            self.calls.append(name)
        return super().__getattribute__(name)

    async def read_turn(self, session_id: str, *, newest: int) -> TurnRecords | None:
        self.newest.append(newest)
        return await self.base.read_turn(session_id, newest=newest)

    def taken(self) -> list[str]:
        """Return the calls since the last time."""
        calls, self.calls = self.calls, []
        return calls


class Numbered:
    """Counts ids, so that always the same answers fold the counters of their session."""

    def __init__(self) -> None:
        self._number = 0

    def new_id(self) -> str:
        """Return the next id."""
        self._number += 1
        return f"id-{self._number}"


def _services() -> Services:
    return attrs.evolve(default_services(), ids=Numbered())


@pytest.fixture
def storage() -> Counted:
    return Counted(InMemoryStorage())


@pytest.fixture
async def manager(storage: Counted) -> AsyncIterator[SessionManager]:
    async with SessionManager(storage, services=_services()) as opened:
        yield opened


async def _begun(manager: SessionManager, storage: Counted, **config: Any) -> str:
    session_id = await manager.create_session({"name": "Ada"}, {"name": "echo"}, config)
    await manager.send_message(session_id, "hello")
    storage.taken()
    return session_id


async def test_a_message_is_one_call_to_the_storage(storage: Counted) -> None:
    conversations = ConversationManager(storage=storage)
    await conversations.add_message("s", "user", TEXT)
    # a session that was erased with its user is not created again
    assert storage.taken() == ["append_messages", "find_memory", "put_session", "append_messages"]
    await conversations.add_message("s", "user", TEXT)
    assert storage.taken() == ["append_messages"]


async def test_a_read_of_the_newest_is_one_call_to_the_storage(storage: Counted) -> None:
    conversations = ConversationManager(storage=storage)
    await conversations.add_message("s", "user", TEXT)
    storage.taken()
    for read in (
        conversations.get_messages("s"),
        conversations.get_recent_messages("s", 20),
        conversations.get_last_message("s"),
    ):
        await read
        assert storage.taken() == ["read_messages"]


@pytest.mark.parametrize(
    ("config", "calls"),
    [
        ({}, ["read_turn", "append_messages"]),
        ({"session_type": "stateless"}, ["read_turn", "append_messages"]),
        ({"memory_enabled": False}, ["read_turn", "append_messages"]),
        ({"ttl": 60}, ["read_turn", "put_session", "append_messages"]),
        ({"user_id": "u"}, ["read_turn", "list_memories", "append_messages"]),
        ({"user_id": "u", "memory_enabled": False}, ["read_turn", "append_messages"]),
        ({"user_id": "u", "include_context_in_prompt": False}, ["read_turn", "append_messages"]),
    ],
)
async def test_a_turn_is_one_read_and_one_append(
    manager: SessionManager, storage: Counted, config: dict[str, Any], calls: list[str]
) -> None:
    session_id = await _begun(manager, storage, **config)
    await manager.send_message(session_id, TEXT)
    assert storage.taken() == calls
    async for _ in manager.stream_message(session_id, TEXT):
        pass
    assert storage.taken() == calls


async def test_a_turn_in_64_reads_the_header_too(manager: SessionManager, storage: Counted) -> None:
    session_id = await _begun(manager, storage)
    for _ in range(256):
        await manager.send_message(session_id, "x")
    assert 1 <= storage.taken().count("find_session") <= 8


async def test_a_turn_reads_ahead_as_many_messages_as_the_one_before(manager: SessionManager, storage: Counted) -> None:
    session_id = await _begun(manager, storage, max_history_length=80, context_window_size=100_000)
    await manager.conversation_manager.append(session_id, [Message("user", TEXT)] * 70)
    other = await manager.create_session({"name": "Bob"}, {"name": "echo"})
    await manager.send_message(other, TEXT)
    for calls in (["read_turn", "read_messages", "append_messages"], ["read_turn", "append_messages"]):
        storage.taken()
        await manager.send_message(session_id, TEXT)
        assert storage.taken() == calls


async def test_a_turn_without_memory_does_not_read_that_of_the_user(storage: Counted) -> None:
    memory_config = MemoryConfig(enabled=False)
    async with SessionManager(storage, memory_config=memory_config, services=_services()) as manager:
        session_id = await _begun(manager, storage, user_id="u")
        await manager.send_message(session_id, TEXT)
        assert storage.taken() == ["read_turn", "append_messages"]


async def test_no_turn_reads_ahead_more_than_200_messages(manager: SessionManager, storage: Counted) -> None:
    session_id = await _begun(manager, storage, max_history_length=5000, max_history=5000)
    await manager.send_message(session_id, TEXT)
    await manager.send_message(session_id, TEXT)
    assert storage.newest[-1] == 200


async def test_a_turn_of_a_deferred_session_calls_no_storage(manager: SessionManager, storage: Counted) -> None:
    session_id = await _begun(manager, storage, auto_save=False)
    await manager.send_message(session_id, TEXT)
    assert storage.taken() == []


async def test_the_memory_of_a_stream_does_not_grow_with_its_length() -> None:
    class Endless(StorageWrapper):
        async def read_messages(self, session_id: str, span: MessageRange) -> list[MessageRecord]:
            positions = range(span.after + 1, min(length, span.after + (span.limit or 0)) + 1)
            return [attrs.evolve(record, position=position) for position in positions]

    record = message_record("m")
    conversations = ConversationManager(storage=Endless(InMemoryStorage()))
    peaks = []
    for length in (1, 2_000, 20_000):  # the first stream fills caches
        tracemalloc.start()
        count = 0
        async for _ in conversations.stream_messages("s"):
            count += 1
        assert count == length
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] <= 1.1 * peaks[1]
