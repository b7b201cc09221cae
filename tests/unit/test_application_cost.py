"""What lies above the storage port costs: calls to the storage, steps of Python, memory.

Nothing is timed. Steps are calls of functions, in Python and in C, as ``sys.setprofile`` sees them: the same
in every run on one version of Python, fewer on later ones than on 3.11, for which the bounds are set. A
bound lies a tenth above what was measured.
"""

import gc
import sys
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import attrs
import pytest

from luminoracore_sdk.adapters.codec.entities import JsonEntityCodec
from luminoracore_sdk.adapters.wrappers.base import StorageWrapper
from luminoracore_sdk.application.ports.records import AppendReceipt, MessageRange, MessageRecord
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.session import ConversationManager, InMemoryStorage, SessionManager
from luminoracore_sdk.types.session import Message

TEXT = "x" * 200
RECORD = JsonEntityCodec().message_record(Message("user", TEXT, datetime(2026, 1, 1, tzinfo=UTC), id="m"))

PORT = frozenset(name for name in vars(SessionStorage) if not name.startswith("_")) - {"backend"}


class Counted(StorageWrapper):
    """Writes down every call of the port."""

    def __init__(self, base: SessionStorage) -> None:
        super().__init__(base)
        self.calls: list[str] = []

    def __getattribute__(self, name: str) -> Any:
        if name in PORT:
            self.calls.append(name)
        return super().__getattribute__(name)

    def taken(self) -> list[str]:
        """Return the calls since the last time."""
        calls, self.calls = self.calls, []
        return calls


class Instant(StorageWrapper):
    """Takes and gives messages without doing anything, so that every step is ours."""

    async def append_messages(
        self, session_id: str, messages: Sequence[MessageRecord], *, expected_last: int | None = None
    ) -> AppendReceipt:
        return AppendReceipt(first_position=1, last_position=len(messages))

    async def read_messages(self, session_id: str, span: MessageRange) -> list[MessageRecord]:
        assert span.limit is not None
        return [attrs.evolve(RECORD, position=position) for position in range(1, span.limit + 1)]


@pytest.fixture
def storage() -> Counted:
    return Counted(InMemoryStorage())


@pytest.fixture
async def manager(storage: Counted) -> AsyncIterator[SessionManager]:
    async with SessionManager(storage) as opened:
        yield opened


async def _begun(manager: SessionManager, storage: Counted, **config: Any) -> str:
    session_id = await manager.create_session({"name": "Ada"}, {"name": "echo"}, config)
    await manager.send_message(session_id, "hello")
    storage.taken()
    return session_id


# -- calls to the storage ------------------------------------------------------------------------


async def test_a_message_is_one_call_to_the_storage(storage: Counted) -> None:
    conversations = ConversationManager(storage=storage)
    await conversations.add_message("s", "user", TEXT)
    assert storage.taken() == ["append_messages", "put_session", "append_messages"]
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
        ({}, ["find_session", "read_messages", "list_memories", "append_messages"]),
        ({"session_type": "stateless"}, ["find_session", "list_memories", "append_messages"]),
        ({"memory_enabled": False}, ["find_session", "read_messages", "append_messages"]),
        ({"ttl": 60}, ["find_session", "put_session", "read_messages", "list_memories", "append_messages"]),
    ],
)
async def test_a_turn_is_one_header_read_what_its_prompt_needs_and_one_append(
    manager: SessionManager, storage: Counted, config: dict[str, Any], calls: list[str]
) -> None:
    session_id = await _begun(manager, storage, **config)
    await manager.send_message(session_id, TEXT)
    assert storage.taken() == calls
    async for _ in manager.stream_message(session_id, TEXT):
        pass
    assert storage.taken() == calls


async def test_a_turn_that_is_held_back_makes_no_call_to_the_storage_below(
    manager: SessionManager, storage: Counted
) -> None:
    session_id = await _begun(manager, storage, auto_save=False)
    await manager.send_message(session_id, TEXT)
    assert storage.taken() == []


# -- steps of Python -----------------------------------------------------------------------------


async def _steps(work: Callable[[], Awaitable[object]]) -> int:
    """Return the calls that work makes the second time, when every cache is filled."""
    await work()
    steps = 0

    def count(_: object, event: str, __: object) -> None:
        nonlocal steps
        steps += event in ("call", "c_call")

    before = sys.getprofile()
    gc.collect()
    gc.disable()  # what it lets go may take steps of its own
    sys.setprofile(count)
    try:
        await work()
    finally:
        sys.setprofile(before)
        gc.enable()
    return steps


async def test_a_message_is_added_in_few_steps() -> None:
    conversations = ConversationManager(storage=Instant(InMemoryStorage()))
    assert await _steps(lambda: conversations.add_message("s", "user", TEXT)) <= 51


async def test_each_message_of_a_read_takes_few_steps() -> None:
    storage = Instant(InMemoryStorage())
    conversations = ConversationManager(storage=storage)
    ours = await _steps(lambda: conversations.get_recent_messages("s", 1000))
    made = await _steps(lambda: storage.read_messages("s", MessageRange(limit=1000)))
    assert (ours - made) / 1000 <= 17.5


# -- memory --------------------------------------------------------------------------------------


async def _peak_of_a_stream(length: int) -> int:
    class Long(Instant):
        async def read_messages(self, session_id: str, span: MessageRange) -> list[MessageRecord]:
            assert span.limit is not None
            end = min(length, span.after + span.limit)
            return [attrs.evolve(RECORD, position=place) for place in range(span.after + 1, end + 1)]

    conversations = ConversationManager(storage=Long(InMemoryStorage()))
    tracemalloc.start()
    try:
        count = 0
        async for _ in conversations.stream_messages("s"):
            count += 1
        assert count == length
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


async def test_a_stream_of_ten_times_as_many_messages_needs_no_more_memory() -> None:
    await _peak_of_a_stream(1)
    short, long = await _peak_of_a_stream(2_000), await _peak_of_a_stream(20_000)
    assert long <= 1.1 * short
    assert short <= 143_000
