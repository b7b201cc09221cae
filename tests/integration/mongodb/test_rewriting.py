"""Rewriting: its cost, payloads near the limit, failures on the way, damage."""

from collections.abc import Awaitable, Callable
from typing import Literal

import attrs
import pytest
from pymongo.errors import OperationFailure

from luminoracore_sdk.adapters.storage.mongodb import MongoDBStorage
from luminoracore_sdk.application.ports.records import MemoryScope, MessageRange, Payload
from luminoracore_sdk.application.ports.rewriting import PayloadRewrite
from luminoracore_sdk.domain.errors import (
    CorruptRecordError,
    PayloadTooLargeError,
    StorageFullError,
)
from luminoracore_sdk.testing.records import memory_record, message_record, message_records, session_record
from tests.support.mongodb import MongoPlace
from tests.support.rewriting import NEW, to_new

_ALL = MessageRange()
_LARGEST = MongoDBStorage.max_payload_bytes


@pytest.mark.parametrize("driver", ["motor", "pymongo"])
async def test_the_largest_payloads_are_replaced_by_the_largest(
    place: MongoPlace, driver: Literal["motor", "pymongo"]
) -> None:
    old, new = (Payload("json+aes256gcm:k", letter * _LARGEST) for letter in (b"a", b"b"))
    async with place.storage(driver) as storage:
        await storage.put_session(attrs.evolve(session_record(), payload=old))
        await storage.append_messages("s", [attrs.evolve(message_record("m1"), payload=old)])
        await storage.put_memory(attrs.evolve(memory_record("k"), payload=old))
        change = PayloadRewrite(position=1, message_id="m1", old=old, new=new)
        assert await storage.rewrite_session("s", old=old, new=new) is True
        assert await storage.rewrite_messages("s", [change]) == 1
        assert await storage.rewrite_memory(MemoryScope("session", "s"), "k", old=old, new=new) is True
        session = await storage.find_session("s")
        [message] = await storage.read_messages("s", _ALL)
        memory = await storage.find_memory(MemoryScope("session", "s"), "k")
    assert session is not None
    assert memory is not None
    for found in (session.payload, message.payload, memory.payload):
        assert found is not None
        assert (found.encoding, len(found.data), found.data == new.data) == (new.encoding, _LARGEST, True)


@pytest.mark.parametrize("driver", ["motor", "pymongo"])
@pytest.mark.parametrize("megabytes", [9, 15])
async def test_a_batch_that_would_outgrow_its_document_is_left_as_it_is(
    place: MongoPlace, driver: Literal["motor", "pymongo"], megabytes: int
) -> None:
    """The update itself is still below 16 MB where one message of two grows, and above where both do."""
    large = Payload("json+zstd:1", b"x" * (megabytes << 20))
    async with place.storage(driver) as storage:
        await storage.put_session(session_record())
        await storage.append_messages("s", message_records(2, prefix="before"))
        await storage.append_messages("s", message_records(2))
        before = await storage.read_messages("s", _ALL)
        changes = to_new(before)
        both = [*changes[:2], *(attrs.evolve(change, new=large) for change in changes[2:])]
        with pytest.raises(PayloadTooLargeError) as caught:
            await storage.rewrite_messages("s", both)
        assert "document" in str(caught.value)
        after = await storage.read_messages("s", _ALL)
        assert [message.payload for message in after[:2]] == [change.new for change in changes[:2]]
        assert after[2:] == before[2:]
        assert await storage.rewrite_messages("s", both[2:3]) == 1
        with pytest.raises(PayloadTooLargeError):
            await storage.rewrite_messages("s", both[3:])
        assert (await storage.read_messages("s", MessageRange(after=3))) == before[3:]


async def test_what_fails_after_the_first_update_is_in_doubt(place: MongoPlace) -> None:
    async def full() -> None:
        raise OperationFailure("no space", 14031)

    async with place.interrupted() as (storage, moments):
        await storage.put_session(session_record())
        for prefix in ("a", "b"):
            await storage.append_messages("s", message_records(2, prefix=prefix))
        changes = to_new(await storage.read_messages("s", _ALL))

        async def full_later() -> None:
            moments.before("messages", "update_one", full)

        moments.before("messages", "update_one", full)
        with pytest.raises(StorageFullError) as caught:
            await storage.rewrite_messages("s", changes)
        assert caught.value.in_doubt is False
        moments.after("messages", "update_one", full_later)
        with pytest.raises(StorageFullError) as caught:
            await storage.rewrite_messages("s", changes)
        assert caught.value.in_doubt is True
        assert await storage.rewrite_messages("s", changes) == 2


async def test_a_damaged_record_is_named_and_left(place: MongoPlace, storages: list[MongoDBStorage]) -> None:
    storage, *_ = storages
    old = session_record().payload
    assert old is not None
    await storage.put_session(session_record())
    await storage.append_messages("s", message_records(1))
    memory = await storage.put_memory(memory_record("k"))
    change = to_new(await storage.read_messages("s", _ALL))
    place.sessions.update_one({}, {"$set": {"payload": 7}})
    place.messages.update_one({}, {"$set": {"items.0.payload": 7}})
    place.memories.update_one({}, {"$unset": {"encoding": 1}})
    calls: list[tuple[str, Callable[[], Awaitable[object]]]] = [
        ("session 's'", lambda: storage.rewrite_session("s", old=old, new=NEW)),
        ("messages 1 to 1 of session 's'", lambda: storage.rewrite_messages("s", change)),
        (
            "memory 'k' of session 's'",
            lambda: storage.rewrite_memory(memory.scope, "k", old=memory.payload, new=NEW),
        ),
    ]
    for key, call in calls:
        with pytest.raises(CorruptRecordError) as caught:
            await call()
        assert caught.value.key == key


async def test_rewriting_is_one_look_and_one_update_for_each_batch(place: MongoPlace) -> None:
    async with place.recorded() as (storage, commands):
        await storage.put_session(session_record())
        for number in range(30):
            await storage.append_messages("s", message_records(10, prefix=f"{number}-"))
        changes = to_new(await storage.read_messages("s", MessageRange(after=95, before=206)))
        commands.clear()
        assert await storage.rewrite_messages("s", changes[::-1]) == 110
        sent = [next(iter(command)) for command in commands]
        plans = [place.explain(command)["executionStats"] for command in commands[1:]]
    assert sent == ["aggregate", "aggregate", *["update"] * 12]  # positions 96 to 100, …, 201 to 205
    assert [plan["totalDocsExamined"] for plan in plans] == [12, *[1] * 12]
