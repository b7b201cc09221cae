"""Calls that others overtake between two commands, and truncations that were killed there."""

from typing import Any

import pytest

from luminoracore_sdk.adapters.storage.mongodb import MongoDBStorage
from luminoracore_sdk.adapters.storage.mongodb import hints as mongodb_hints
from luminoracore_sdk.adapters.storage.mongodb import messages as mongodb_messages
from luminoracore_sdk.adapters.storage.mongodb.documents import Header
from luminoracore_sdk.adapters.storage.mongodb.driver import Document
from luminoracore_sdk.application.ports.records import AppendReceipt, MemoryScope
from luminoracore_sdk.testing.records import memory_record, message_record, message_records, session_record
from tests.support.mongodb import ids


@pytest.mark.parametrize(
    ("after", "kept"),
    [
        (2, ["late1", "late2"]),  # hidden, so it is appended anew
        (3, ["late1"]),
        (4, ["late1", "late2"]),
        (5, ["late1", "late2", "other1"]),
    ],
)
@pytest.mark.parametrize("why", ["no hint", "hint too old when the answer came", "time to live"])
async def test_a_batch_that_a_truncation_came_upon_before_its_writer_looked_is_no_gap(
    storages: list[MongoDBStorage], monkeypatch: pytest.MonkeyPatch, after: int, kept: list[str], why: str
) -> None:
    """The batch is inserted; others append behind it and truncate; only then comes the look."""
    late, other, *_ = storages
    await late.put_session(session_record(ttl_us=1_000_000 if why == "time to live" else None))
    await late.append_messages("s", message_records(2))
    if why == "no hint":
        late._store.appends.forget("s")
    messages = late._store.appends._store.messages
    insert = messages.insert

    async def overtaken(document: Document) -> None:
        monkeypatch.setattr(messages, "insert", insert)
        await insert(document)
        await other.append_messages("s", message_records(2, prefix="other"))
        await other.truncate_messages("s", after=after)
        if why == "hint too old when the answer came":
            monkeypatch.setattr(mongodb_hints, "_SECONDS", 0)

    monkeypatch.setattr(messages, "insert", overtaken)
    receipt = await late.append_messages("s", message_records(2, prefix="late"))
    assert receipt == AppendReceipt(first_position=3, last_position=4)
    monkeypatch.undo()
    assert await ids(other) == ["m1", "m2", *kept]
    assert (await late.append_messages("s", [message_record("next")])).first_position == 3 + len(kept)


async def test_a_position_that_a_truncation_hid_is_not_given_again_to_who_came_before_it(
    storages: list[MongoDBStorage], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The header is read; others append and truncate; only then comes the insert."""
    late, other, *_ = storages
    await other.put_session(session_record())
    await other.append_messages("s", message_records(2))
    assert late._opened is not None
    sessions = late._opened.sessions
    existing = sessions.existing

    async def overtaken(session_id: str, now_us: int) -> Header:
        header = await existing(session_id, now_us)
        monkeypatch.undo()
        await other.append_messages("s", message_records(2, prefix="hidden"))
        await other.truncate_messages("s", after=2)
        return header

    monkeypatch.setattr(sessions, "existing", overtaken)
    receipt = await late.append_messages("s", message_records(2, prefix="late"))
    assert receipt == AppendReceipt(first_position=3, last_position=4)
    assert await ids(other) == ["m1", "m2", "late1", "late2"]


@pytest.mark.parametrize("after", [0, 2, 3])
async def test_ids_that_a_killed_truncation_left_taken_are_set_free_by_who_needs_them(
    storages: list[MongoDBStorage], monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    writer, other, *_ = storages
    await writer.put_session(session_record())
    await writer.append_messages("s", message_records(2, prefix="a"))
    await writer.append_messages("s", message_records(2, prefix="b"))

    async def killed(*_: object, **__: object) -> None:
        return None

    with monkeypatch.context() as patch:
        patch.setattr(mongodb_messages, "release", killed)
        assert await other.truncate_messages("s", after=after) == 4 - after
    whole = ["a1", "a2", "b1", "b2"]
    assert await ids(writer) == whole[:after]
    again = [message_record(message_id) for message_id in whole[after:]]
    receipt = await writer.append_messages("s", again)
    assert receipt == AppendReceipt(first_position=after + 1, last_position=4)
    assert await ids(other) == whole


async def test_a_truncation_that_was_overtaken_by_another_looks_again(
    storages: list[MongoDBStorage], monkeypatch: pytest.MonkeyPatch
) -> None:
    late, other, *_ = storages
    await other.put_session(session_record())
    await other.append_messages("s", message_records(6))
    assert late._opened is not None
    sessions = late._opened.sessions
    existing = sessions.existing

    async def overtaken(session_id: str, now_us: int) -> Header:
        header = await existing(session_id, now_us)
        monkeypatch.undo()
        await other.truncate_messages("s", after=2)
        await other.append_messages("s", message_records(3, prefix="new"))
        return header

    monkeypatch.setattr(sessions, "existing", overtaken)
    assert await late.truncate_messages("s", after=4) == 1
    assert await ids(other) == ["m1", "m2", "new1", "new2"]


async def test_a_memory_that_another_writer_makes_important_is_not_evicted_after_all(
    storages: list[MongoDBStorage], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The memories to let go of are looked up; one of them is put again; only then comes their removal."""
    late, other, *_ = storages
    for retention, key in enumerate("abcd"):
        await other.put_memory(memory_record(key, kind="user", owner="u", retention=retention))
    assert late._opened is not None
    memories = late._opened.memories._store.memories
    find = memories.find

    async def overtaken(*args: Any, **options: Any) -> list[Document]:
        found = await find(*args, **options)
        monkeypatch.undo()
        await other.put_memory(memory_record("a", kind="user", owner="u", retention=9))
        return found

    monkeypatch.setattr(memories, "find", overtaken)
    await late.put_memory(memory_record("new", kind="user", owner="u"), max_entries=3)
    kept = await other.list_memories(MemoryScope("user", "u"))
    assert sorted(memory.key for memory in kept) == ["a", "c", "d", "new"]
    await late.put_memory(memory_record("new", kind="user", owner="u"), max_entries=3)
    kept = await other.list_memories(MemoryScope("user", "u"))
    assert sorted(memory.key for memory in kept) == ["a", "d", "new"]
