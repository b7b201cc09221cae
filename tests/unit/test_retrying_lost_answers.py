"""RetryingStorage after a lost acknowledgement: what a repetition finds, and what it answers."""

from collections.abc import Awaitable
from typing import Any

import pytest

from luminoracore_sdk.application.ports.records import MemoryPut, MemoryScope
from luminoracore_sdk.domain.errors import (
    ConflictError,
    StorageTimeoutError,
)
from luminoracore_sdk.session import InMemoryStorage, SessionStorage
from luminoracore_sdk.testing.records import memory_record, message_records, session_record
from tests.support.unreliable import CALLS, Fault, Unreliable, lost, retrying, small_store, unsent

SCOPE = MemoryScope("session", "s")


async def test_a_repeated_append_returns_the_first_positions() -> None:
    base = Unreliable(await small_store(), Fault(lost(StorageTimeoutError), done=True))
    receipt = await retrying(base).append_messages("s", message_records(2, prefix="n"), expected_last=3)
    assert (receipt.first_position, receipt.last_position, receipt.replayed) == (4, 5, True)


async def test_a_stream_goes_on_where_a_read_failed() -> None:
    base = Unreliable(await small_store(), None, Fault(unsent()))
    ids = [message.message_id async for message in retrying(base).stream_messages("s", chunk=2)]
    assert ids == ["m1", "m2", "m3"]
    assert base.calls == ["read_messages"] * 3


@pytest.mark.parametrize("text", ["new", "a session"])
async def test_a_conditional_put_recognises_what_it_wrote(text: str) -> None:
    base = Unreliable(await small_store(), Fault(lost(), done=True))
    stored = await retrying(base).put_session(session_record(text=text), expected_version=1)
    assert (stored.version, stored.last_position) == (2, 3)
    assert base.calls == ["put_session", "put_session", "find_session"]


async def test_a_session_begun_by_a_lost_put_is_ours() -> None:
    base = Unreliable(InMemoryStorage(), Fault(lost(), done=True))
    assert (await retrying(base).put_session(session_record(), expected_version=0)).version == 1


async def test_conditional_put_in_doubt_is_looked_up() -> None:
    base = Unreliable(await small_store(), Fault(lost(), done=True), None, Fault(unsent()))
    assert (await retrying(base).put_session(session_record(text="n"), expected_version=1)).version == 2
    assert base.calls == ["put_session", *["put_session", "find_session"] * 2]


@pytest.mark.parametrize(
    "other",
    [
        session_record(text="another"),
        session_record(text="new", user_id="u"),
        session_record(text="new", tags=("t",)),
        session_record(text="new", ttl_us=10**9),
    ],
    ids=["payload", "user", "tags", "ttl"],
)
async def test_conditional_put_after_another_writer_conflicts(other: Any) -> None:
    base = Unreliable(await small_store(), Fault(lost(), meanwhile=lambda below: below.put_session(other)))
    with pytest.raises(ConflictError) as caught:
        await retrying(base).put_session(session_record(text="new"), expected_version=1)
    assert caught.value.actual == "version 2"


async def test_conditional_put_replaced_by_another_writer_conflicts() -> None:
    again = Fault(lost(), done=True, meanwhile=lambda below: below.put_session(session_record(text="new")))
    with pytest.raises(ConflictError) as caught:
        await retrying(Unreliable(await small_store(), again)).put_session(
            session_record(text="new"), expected_version=1
        )
    assert caught.value.actual == "version 3"


async def test_a_conditional_put_whose_session_is_gone_is_a_conflict() -> None:
    gone = Fault(lost(), done=True, meanwhile=lambda below: below.delete_session("s"))
    with pytest.raises(ConflictError):
        await retrying(Unreliable(await small_store(), gone)).put_session(session_record(), expected_version=1)


async def test_a_conflict_without_a_doubt_is_not_looked_into() -> None:
    base = Unreliable(await small_store(), Fault(unsent()))
    with pytest.raises(ConflictError):
        await retrying(base).put_session(session_record(), expected_version=0)
    assert base.calls == ["put_session"] * 2


async def test_delete_in_doubt_returns_true() -> None:
    for name in ("delete_memory", "delete_session"):
        base = Unreliable(await small_store(), Fault(lost(), done=True))
        assert await CALLS[name](retrying(base)) is True
        assert await CALLS[name](retrying(base)) is False


async def test_a_count_after_a_doubt_is_of_the_repetition() -> None:
    for name, count in {"truncate_messages": 2, "clear_memories": 1}.items():
        assert await CALLS[name](retrying(Unreliable(await small_store(), Fault(lost())))) == count
        assert await CALLS[name](retrying(Unreliable(await small_store(), Fault(lost(), done=True)))) == 0


async def test_a_conditional_change_of_memories_recognises_what_it_wrote() -> None:
    base = Unreliable(await small_store(), Fault(lost(), done=True))
    puts = [MemoryPut(memory_record("k", value="new"), 1), MemoryPut(memory_record("l"), 0)]
    stored = await retrying(base).change_memories(SCOPE, puts)
    assert [(memory.key, memory.version) for memory in stored] == [("k", 2), ("l", 1)]


async def test_a_change_of_memories_that_another_writer_preceded_conflicts() -> None:
    def overtake(storage: SessionStorage) -> Awaitable[object]:
        return storage.put_memory(memory_record("k", value="other"))

    base = Unreliable(await small_store(), Fault(lost(), meanwhile=overtake))
    with pytest.raises(ConflictError):
        await retrying(base).put_memory(memory_record("k", value="new"), expected_version=1)
