"""Export and import of sessions: the format, existing sessions, failures."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import attrs
import pytest

from luminoracore_sdk.adapters.codec.values import JsonCodec
from luminoracore_sdk.adapters.storage.memory import InMemoryStorage
from luminoracore_sdk.application.exchange.export_import import (
    ImportReceipt,
    OnExisting,
    Outcome,
    SessionExchange,
    json_text,
)
from luminoracore_sdk.application.exchange.raw_json import read_json
from luminoracore_sdk.application.ports.records import (
    AppendReceipt,
    MemoryRecord,
    MemoryScope,
    MessageRange,
    SessionRecord,
)
from luminoracore_sdk.bootstrap.managers import SessionManager
from luminoracore_sdk.domain.errors import (
    SessionExistsError,
    SessionNotFoundError,
    StorageError,
    StorageFullError,
    ValidationError,
)
from luminoracore_sdk.domain.json_value import JSONObject
from luminoracore_sdk.testing import ManualClock, message_record, session_record
from tests.support.exchange import TOOLS, good_line, reader


def exchange(storage: InMemoryStorage) -> SessionExchange:
    return SessionExchange(storage=storage, services=TOOLS, values=JsonCodec())


async def export(storage: InMemoryStorage, session_id: str) -> str:
    return "".join([piece async for piece in exchange(storage).export_session(session_id)])


async def import_line(storage: InMemoryStorage, line: str) -> ImportReceipt:
    return await exchange(storage).import_session(reader().read_line(read_json(line)))


@pytest.fixture
async def storage() -> AsyncIterator[InMemoryStorage]:
    async with InMemoryStorage(clock=ManualClock()) as opened:
        yield opened


async def filled(storage: InMemoryStorage) -> str:
    """Create a session with values that are hard to preserve."""
    manager = SessionManager(storage, services=TOOLS)
    session_id = await manager.create_session(
        {"name": "Ada", "k": {"$set": -0.0}},
        {"name": "echo", "extra": {"delay": 0}},
        {"session_id": "a/b:'\n", "user_id": "u", "tags": ["z", "a"], "ttl": 60.5, "max_history": 7},
    )
    await manager.send_message(session_id, "Привет \0 \ud800")
    await manager.conversation_manager.add_message(session_id, "tool", [2**70], {"tool_call_id": "c"})
    await manager.memory_manager.store_memory(session_id, "k", {"a.b": []}, ttl=5, importance=0.25)
    await manager.memory_manager.store_memory(session_id, "likes", "tea", category="preference")
    return session_id


# -- format ----------------------------------------------------------------------------------------


async def test_the_export_of_an_import_is_the_same_line_byte_for_byte(storage: InMemoryStorage) -> None:
    line = await export(storage, await filled(storage))
    async with InMemoryStorage(clock=ManualClock(datetime(2026, 1, 1, 12, 0, 3, tzinfo=UTC))) as other:
        assert (await import_line(other, line)).outcome is Outcome.ADDED
        assert await export(other, "a/b:'\n") == line
        assert await other.list_sessions() == ["a/b:'\n"]


async def test_a_line_holds_everything_that_can_be_restored(storage: InMemoryStorage) -> None:
    data = json.loads(await export(storage, await filled(storage)))
    assert (data["user_id"], data["tags"], data["ttl_us"]) == ("u", ["a", "z"], 60_500_000)
    assert data["created_at"] == "2026-01-01T12:00:00.123456+00:00"
    assert data["document"]["personality"] == {"name": "Ada", "k": {"$set": -0.0}}
    assert [message["position"] for message in data["messages"]] == [1, 2, 3]
    assert data["messages"][0]["content"] == "Привет \0 \ud800"
    assert data["messages"][2] | {"id": ""} == {
        "role": "tool",
        "content": [2**70],
        "timestamp": "2026-01-01T12:00:00.123456+00:00",
        "metadata": {"tool_call_id": "c"},
        "id": "",
        "position": 3,
    }
    assert [(memory["key"], memory["value"]) for memory in data["memories"]] == [("k", {"a.b": []}), ("likes", "tea")]
    assert data["memories"][0]["expires_at"] == "2026-01-01T12:00:05.123456+00:00"


async def test_a_document_of_the_callers_own_comes_through_unchanged(storage: InMemoryStorage) -> None:
    document: JSONObject = {"personality": "mine", "x": [1, {"y": None}]}
    await storage.save_session("own", document)
    line = await export(storage, "own")
    async with InMemoryStorage() as other:
        await import_line(other, line)
        assert await other.load_session("own") == document


async def test_letters_of_every_language_are_readable_in_an_export(storage: InMemoryStorage) -> None:
    await storage.save_session("s", {"said": "नमस्ते"})
    assert '"नमस्ते"' in await export(storage, "s")
    assert json_text("\ud800") == '"\\ud800"'


async def test_an_unknown_session_cannot_be_exported(storage: InMemoryStorage) -> None:
    with pytest.raises(SessionNotFoundError):
        await export(storage, "none")


async def test_more_messages_than_one_append_allows_are_imported(storage: InMemoryStorage) -> None:
    line = good_line()
    line["messages"] = [{**line["messages"][0], "id": f"m{number}", "position": number} for number in range(1, 2003)]
    await import_line(storage, json.dumps(line))
    kept = await storage.read_messages("s", MessageRange())
    assert [message.message_id for message in kept] == [f"m{number}" for number in range(1, 2003)]


async def test_a_memory_that_has_expired_since_counts_as_absent(storage: InMemoryStorage) -> None:
    line = good_line()
    line["memories"][0]["expires_at"] = "2025-12-31T00:00:00Z"
    await import_line(storage, json.dumps(line))
    assert json.loads(await export(storage, "s"))["memories"] == []


# -- existing sessions, failures ---------------------------------------------------------------------


async def test_a_session_that_exists_is_refused_skipped_or_replaced(storage: InMemoryStorage) -> None:
    await storage.save_session("s", {"old": True})
    draft = reader().read_line(good_line())
    with pytest.raises(SessionExistsError):
        await exchange(storage).import_session(draft)
    assert await exchange(storage).import_session(draft, existing=OnExisting.SKIP) == ImportReceipt(
        outcome=Outcome.SKIPPED
    )
    assert await storage.load_session("s") == {"old": True}
    assert (await exchange(storage).import_session(draft, existing=OnExisting.REPLACE)).outcome is Outcome.ADDED
    assert await storage.load_session("s") == {"anything": 1}


class FullStorage(InMemoryStorage):
    """Refuses memories."""

    async def put_memory(
        self, record: MemoryRecord, *, max_entries: int | None = None, expected_version: int | None = None
    ) -> MemoryRecord:
        raise StorageFullError("memory", "no space left")


async def test_a_failure_in_the_middle_leaves_nothing_of_the_session() -> None:
    async with FullStorage() as storage:
        with pytest.raises(StorageFullError):
            await import_line(storage, json.dumps(good_line()))
        assert await storage.list_sessions() == []


class SlowStorage(InMemoryStorage):
    """Blocks in an append until the test continues it."""

    def __init__(self) -> None:
        super().__init__()
        self.appending = asyncio.Event()
        self.go_on = asyncio.Event()

    async def append_messages(
        self, session_id: str, messages: Any, *, expected_last: int | None = None, fence: int | None = None
    ) -> AppendReceipt:
        self.appending.set()
        await self.go_on.wait()
        return await super().append_messages(session_id, messages, expected_last=expected_last, fence=fence)


async def test_a_cancelled_import_finishes_the_session_that_it_began() -> None:
    async with SlowStorage() as storage:
        work = asyncio.ensure_future(import_line(storage, json.dumps(good_line())))
        await storage.appending.wait()
        work.cancel()
        storage.go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await work
        data = json.loads(await export(storage, "s"))
        assert (len(data["messages"]), len(data["memories"])) == (1, 1)


async def test_an_import_cancelled_repeatedly_is_completed() -> None:
    async with SlowStorage() as storage:
        work = asyncio.ensure_future(import_line(storage, json.dumps(good_line())))
        await storage.appending.wait()
        for _ in range(3):
            work.cancel()
            await asyncio.sleep(0)
        assert not work.done()
        storage.go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await work
        assert len(json.loads(await export(storage, "s"))["messages"]) == 1


async def test_a_replacement_that_fails_puts_the_old_session_back() -> None:
    class FullOnce(InMemoryStorage):
        full = False

        async def append_messages(
            self, session_id: str, messages: Any, *, expected_last: int | None = None, fence: int | None = None
        ) -> AppendReceipt:
            if self.full:
                self.full = False
                raise StorageFullError("memory", "no space left")
            return await super().append_messages(session_id, messages, expected_last=expected_last, fence=fence)

    async with FullOnce() as storage:
        await import_line(storage, json.dumps({**good_line(), "document": {"old": True}}))
        before = await export(storage, "s")
        storage.full = True
        new = reader().read_line({**good_line(), "document": {"new": True}})
        with pytest.raises(StorageFullError):
            await exchange(storage).import_session(new, existing=OnExisting.REPLACE)
        assert await export(storage, "s") == before
        bad = attrs.evolve(new, record=attrs.evolve(new.record, ttl_us=-1))
        with pytest.raises(ValidationError):
            await exchange(storage).import_session(bad, existing=OnExisting.REPLACE)
        assert await export(storage, "s") == before


async def test_writes_of_another_writer_during_an_import_are_kept() -> None:
    class Busy(InMemoryStorage):
        async def append_messages(
            self, session_id: str, messages: Any, *, expected_last: int | None = None, fence: int | None = None
        ) -> AppendReceipt:
            if messages[0].message_id == "m1":
                await super().append_messages(session_id, [message_record("theirs")])
            return await super().append_messages(session_id, messages, expected_last=expected_last, fence=fence)

    async with Busy() as storage:
        with pytest.raises(StorageError, match="written by another writer"):
            await import_line(storage, json.dumps(good_line()))
        [kept] = await storage.read_messages("s", MessageRange())
        assert kept.message_id == "theirs"


async def test_replacing_an_absent_session_writes_it(storage: InMemoryStorage) -> None:
    draft = reader().read_line(good_line())
    receipt = await exchange(storage).import_session(draft, existing=OnExisting.REPLACE)
    assert receipt == ImportReceipt(outcome=Outcome.ADDED, messages=1, memories=1)
    assert await storage.list_sessions() == ["s"]


# -- repeated imports --------------------------------------------------------------------------------


def long_line(count: int, **changes: Any) -> JSONObject:
    """Return a session of so many messages and two memories."""
    line = good_line()
    message, memory = line["messages"][0], line["memories"][0]
    line["messages"] = [{**message, "id": f"m{number}", "position": number} for number in range(1, count + 1)]
    line["memories"] = [memory, {**memory, "key": "other"}]
    return {**line, **changes}


async def take(storage: InMemoryStorage, line: JSONObject, **options: Any) -> ImportReceipt:
    return await exchange(storage).import_session(reader().read_line(line), **options)


async def test_a_repeated_import_writes_nothing(storage: InMemoryStorage) -> None:
    assert await take(storage, long_line(3)) == ImportReceipt(outcome=Outcome.ADDED, messages=3, memories=2)
    before = await export(storage, "s")
    assert await take(storage, long_line(3)) == ImportReceipt(outcome=Outcome.UNCHANGED)
    assert await export(storage, "s") == before


@pytest.mark.parametrize("left", [0, 1, 2, 3])
async def test_the_beginning_of_a_session_is_completed(storage: InMemoryStorage, left: int) -> None:
    await take(storage, long_line(3))
    whole = await export(storage, "s")
    await storage.truncate_messages("s", after=left)
    await storage.delete_memory(MemoryScope("session", "s"), "other")
    expected = ImportReceipt(outcome=Outcome.COMPLETED, messages=3 - left, memories=1)
    assert await take(storage, long_line(3), existing=OnExisting.SKIP) == expected
    assert await export(storage, "s") == whole


async def test_a_session_that_went_on_is_left_as_it_is(storage: InMemoryStorage) -> None:
    await take(storage, long_line(3))
    await storage.delete_memory(MemoryScope("session", "s"), "other")
    before = await export(storage, "s")
    assert await take(storage, long_line(2)) == ImportReceipt(outcome=Outcome.UNCHANGED)
    assert await export(storage, "s") == before


@pytest.mark.parametrize("changes", [{"user_id": "u"}, {"messages": [{**good_line()["messages"][0], "id": "x"}]}])
async def test_another_session_with_the_same_id_is_refused(storage: InMemoryStorage, changes: JSONObject) -> None:
    await take(storage, long_line(3))
    with pytest.raises(SessionExistsError):
        await take(storage, long_line(3, **changes))


async def test_large_messages_are_appended_in_several_requests() -> None:
    class Counting(InMemoryStorage):
        sizes: list[int]

        async def append_messages(
            self, session_id: str, messages: Any, *, expected_last: int | None = None, fence: int | None = None
        ) -> AppendReceipt:
            self.sizes.append(len(messages))
            return await super().append_messages(session_id, messages, expected_last=expected_last, fence=fence)

    line = long_line(5)
    for message in line["messages"]:
        message["content"] = "x" * 100_000
    async with Counting() as storage:
        storage.sizes = []
        await take(storage, line)
        assert storage.sizes == [2, 2, 1]


async def test_two_imports_of_one_beginning_do_not_mix() -> None:
    class Busy(InMemoryStorage):
        is_busy = False

        async def append_messages(
            self, session_id: str, messages: Any, *, expected_last: int | None = None, fence: int | None = None
        ) -> AppendReceipt:
            if self.is_busy:
                await super().append_messages(session_id, [message_record("theirs")])
            return await super().append_messages(session_id, messages, expected_last=expected_last, fence=fence)

    async with Busy() as storage:
        await take(storage, long_line(1))
        storage.is_busy = True
        with pytest.raises(StorageError, match="written by another writer"):
            await take(storage, long_line(2))


async def test_a_replacement_that_meets_another_writer_is_refused() -> None:
    class Racing(InMemoryStorage):
        async def find_session(self, session_id: str) -> SessionRecord | None:
            found = await super().find_session(session_id)
            if found is None:
                await self.put_session(session_record(session_id))
            return found

    async with Racing() as storage:
        with pytest.raises(SessionExistsError):
            await take(storage, good_line(), existing=OnExisting.REPLACE)


async def test_a_replacement_of_nothing_that_fails_leaves_nothing() -> None:
    async with FullStorage() as storage:
        with pytest.raises(StorageFullError):
            await take(storage, good_line(), existing=OnExisting.REPLACE)
        assert await storage.list_sessions() == []


# -- the bill --------------------------------------------------------------------------------------


async def billed(storage: InMemoryStorage) -> tuple[SessionManager, str]:
    """Create a session of two answers, of which one was replaced."""
    manager = SessionManager(storage, services=TOOLS)
    session_id = await manager.create_session({"name": "Ada"}, {"name": "echo"})
    await manager.send_message(session_id, "What is new?")
    await manager.regenerate(session_id)
    await manager.send_message(session_id, "And what is old, then?")
    return manager, session_id


async def test_an_import_has_the_bill_of_its_export(storage: InMemoryStorage) -> None:
    manager, session_id = await billed(storage)
    line, usage = await export(storage, session_id), await manager.usage(session_id)
    async with InMemoryStorage(clock=ManualClock()) as other:
        await import_line(other, line)
        assert await SessionManager(other, services=TOOLS).usage(session_id) == usage
        await take(other, json.loads(line), existing=OnExisting.REPLACE)
        assert await SessionManager(other, services=TOOLS).usage(session_id) == usage
        assert await export(other, session_id) == line


async def test_a_completed_session_has_the_bill_of_the_export(storage: InMemoryStorage) -> None:
    manager, session_id = await billed(storage)
    before = await export(storage, session_id)
    await manager.send_message(session_id, "And now?")
    await manager.regenerate(session_id)
    line, usage = await export(storage, session_id), await manager.usage(session_id)
    async with InMemoryStorage(clock=ManualClock()) as other:
        await import_line(other, before)
        assert (await import_line(other, line)).outcome is Outcome.COMPLETED
        assert await SessionManager(other, services=TOOLS).usage(session_id) == usage


async def test_an_export_without_counters_is_counted_by_its_messages(storage: InMemoryStorage) -> None:
    manager, session_id = await billed(storage)
    data = json.loads(await export(storage, session_id))
    del data["counters"]
    async with InMemoryStorage(clock=ManualClock()) as other:
        await take(other, data)
        usage = await SessionManager(other, services=TOOLS).usage(session_id)
    assert 0 < usage.output_tokens < (await manager.usage(session_id)).output_tokens


@pytest.mark.parametrize("counters", [{"n": "1"}, {"n": True}, {"": 1}, {"n": 2**60}, [], {"n": None}])
async def test_counters_that_are_none_are_refused(storage: InMemoryStorage, counters: JSONObject) -> None:
    with pytest.raises(ValidationError):
        await take(storage, {**good_line(), "counters": counters})
    assert await storage.list_sessions() == []


async def test_counters_of_others_are_not_in_the_bill(storage: InMemoryStorage) -> None:
    counters = {"tokens/2026-99-99/input/m": 5, "tokens/today/input/m": 5, "tokens": 5, "tokens/2026-11-29/input/m": 7}
    line = {**good_line(), "counters": counters}
    await take(storage, line)
    assert (await SessionManager(storage, services=TOOLS).usage(str(line["session_id"]))).input_tokens == 7
