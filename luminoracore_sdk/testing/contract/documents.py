"""The contract: documents, ids, and the isolation of the store from the caller's objects."""

from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import pytest

from luminoracore_sdk.application.ports.records import MemoryScope, MessageRange, SessionQuery
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.domain.errors import InvalidIdError, InvalidJSONError, ValidationError
from luminoracore_sdk.domain.json_value import same_json
from luminoracore_sdk.testing.contract.base import ContractBase
from luminoracore_sdk.testing.records import (
    DOCUMENTS,
    INVALID_IDS,
    NOT_DOCUMENTS,
    VALID_IDS,
    memory_record,
    message_record,
    message_records,
    session_record,
)

__all__ = ["DocumentContract", "IdContract"]


class DocumentContract(ContractBase):
    """The document calls: any JSON object is loaded as it was saved."""

    @pytest.mark.parametrize("name", DOCUMENTS)
    async def test_a_document_is_loaded_with_types_and_key_order(self, storage: SessionStorage, name: str) -> None:
        document = DOCUMENTS[name]
        assert await storage.save_session("s", document) is True
        loaded = await storage.load_session("s")
        same = same_json(loaded, document)
        assert same is True

    async def test_many_documents_do_not_affect_each_other(self, storage: SessionStorage) -> None:
        for name, document in DOCUMENTS.items():
            await storage.save_session(name, document)
        unlike = [
            name for name, document in DOCUMENTS.items() if not same_json(await storage.load_session(name), document)
        ]
        assert unlike == []
        assert sorted(await storage.list_sessions()) == sorted(DOCUMENTS)

    async def test_save_creates_or_replaces_a_document(self, storage: SessionStorage) -> None:
        assert await storage.load_session("s") is None
        assert await storage.session_exists("s") is False
        await storage.save_session("s", {"a": 1, "b": 2})
        assert await storage.session_exists("s") is True
        await storage.save_session("s", {"b": 3})
        assert await storage.load_session("s") == {"b": 3}
        assert await storage.list_sessions() == ["s"]

    async def test_save_keeps_owner_tags_ttl_messages_and_memory(self, storage: SessionStorage) -> None:
        put = await storage.put_session(session_record("s", user_id="u", tags=("t",), ttl_us=10**12))
        await storage.append_messages("s", message_records(2))
        await storage.put_memory(memory_record("k"))
        await storage.save_session("s", {"new": True})
        found = await storage.find_session("s")
        assert found is not None
        assert found == attrs.evolve(put, payload=found.payload, version=2, last_position=2, summary=found.summary)
        assert len(await storage.read_messages("s", MessageRange())) == 2
        assert len(await storage.list_memories(MemoryScope("session", "s"))) == 1

    async def test_delete_removes_a_document(self, storage: SessionStorage) -> None:
        await storage.save_session("s", {"a": 1})
        assert await storage.delete_session("s") is True
        assert await storage.load_session("s") is None
        assert await storage.session_exists("s") is False

    @pytest.mark.parametrize("name", NOT_DOCUMENTS)
    async def test_a_value_that_is_not_a_json_object_is_refused(self, storage: SessionStorage, name: str) -> None:
        with pytest.raises(InvalidJSONError):
            await storage.save_session("new", NOT_DOCUMENTS[name])
        assert await storage.list_sessions() == []
        await storage.save_session("s", {"a": 1})
        with pytest.raises(InvalidJSONError):
            await storage.save_session("s", NOT_DOCUMENTS[name])
        assert await storage.load_session("s") == {"a": 1}

    async def test_changing_a_document_does_not_change_the_store(self, storage: SessionStorage) -> None:
        document: dict[str, Any] = {"list": [1], "object": {"a": 1}}
        await storage.save_session("s", document)
        document["list"].append(2)
        document["object"]["b"] = 2
        loaded = await storage.load_session("s")
        assert loaded is not None
        assert loaded == {"list": [1], "object": {"a": 1}}
        loaded["list"].append(3)
        del loaded["object"]
        assert await storage.load_session("s") == {"list": [1], "object": {"a": 1}}

    async def test_changing_a_batch_does_not_change_the_store(self, storage: SessionStorage) -> None:
        await self.begin(storage)
        batch = message_records(2)
        await storage.append_messages("s", batch)
        batch.clear()
        read = await storage.read_messages("s", MessageRange())
        read.clear()
        assert len(await storage.read_messages("s", MessageRange())) == 2


class IdContract(ContractBase):
    """Ids are opaque, even if they look like paths, keys or statements."""

    async def test_hostile_ids_work_for_every_kind_of_record(self, storage: SessionStorage) -> None:
        for name in VALID_IDS:
            await storage.put_session(session_record(name, text=name, user_id=name, tags=(name,)))
            await storage.append_messages(name, [message_record(name, text=name)])
            await storage.put_memory(memory_record(name, owner=name, value=name))
            await storage.put_memory(memory_record(name, owner=name, kind="user", value=name))
        assert sorted(await storage.list_sessions()) == sorted(VALID_IDS)
        unlike = [name for name in VALID_IDS if not await self.is_whole(storage, name)]
        assert unlike == []

    async def is_whole(self, storage: SessionStorage, name: str) -> bool:
        """Return whether exactly the records of a name are stored under it."""
        header = await storage.find_session(name)
        messages = await storage.read_messages(name, MessageRange())
        page = await storage.query_sessions(SessionQuery(user_id=name, tag=name))
        memories = [
            await storage.find_memory(MemoryScope("session", name), name),
            *await storage.list_memories(MemoryScope("user", name)),
        ]
        record = session_record(name, text=name)
        memory = memory_record(name, value=name)
        return (
            header is not None
            and (header.session_id, header.payload) == (name, record.payload)
            and messages == [attrs.evolve(message_record(name, text=name), position=1)]
            and [found.session_id for found in page.sessions] == [name]
            and [found and (found.key, found.payload) for found in memories] == [(name, memory.payload)] * 2
        )

    async def test_deleting_one_hostile_id_leaves_the_others(self, storage: SessionStorage) -> None:
        for name in VALID_IDS:
            await storage.put_session(session_record(name))
        for name in VALID_IDS[::2]:
            assert await storage.delete_session(name) is True
        assert sorted(await storage.list_sessions()) == sorted(VALID_IDS[1::2])

    @pytest.mark.parametrize("name", INVALID_IDS)
    async def test_an_invalid_id_is_refused_everywhere(self, storage: SessionStorage, name: str) -> None:
        await self.begin(storage, messages=1)
        accepted = []
        for number, call in enumerate(_calls_with(storage, INVALID_IDS[name])):
            try:
                await call()
            except InvalidIdError:
                continue
            accepted.append(number)
        assert accepted == []
        assert await storage.list_sessions() == ["s"]
        assert len(await storage.read_messages("s", MessageRange())) == 1

    @pytest.mark.parametrize("name", INVALID_IDS)
    async def test_a_filter_by_an_invalid_id_is_refused_or_finds_nothing(
        self, storage: SessionStorage, name: str
    ) -> None:
        await self.begin(storage)
        for query in (SessionQuery(user_id=INVALID_IDS[name]), SessionQuery(tag=INVALID_IDS[name])):
            try:
                page = await storage.query_sessions(query)
            except ValidationError:
                continue
            assert page.sessions == ()


def _calls_with(storage: SessionStorage, bad: str) -> list[Callable[[], Awaitable[object]]]:
    scope, whole = MemoryScope("session", bad), MessageRange()
    return [
        lambda: storage.put_session(attrs.evolve(session_record(), session_id=bad)),
        lambda: storage.put_session(session_record("new", user_id=bad)),
        lambda: storage.put_session(session_record("new", tags=(bad,))),
        lambda: storage.find_session(bad),
        lambda: storage.delete_session(bad),
        lambda: storage.append_messages(bad, message_records(1)),
        lambda: storage.append_messages("s", [message_record("fine"), message_record(bad, text="x")]),
        lambda: storage.read_messages(bad, whole),
        lambda: anext(storage.stream_messages(bad)),
        lambda: storage.truncate_messages(bad, after=0),
        lambda: storage.put_memory(memory_record("k", owner=bad)),
        lambda: storage.put_memory(memory_record("k", owner=bad, kind="user")),
        lambda: storage.put_memory(memory_record(bad)),
        lambda: storage.find_memory(scope, "k"),
        lambda: storage.find_memory(MemoryScope("session", "s"), bad),
        lambda: storage.list_memories(scope),
        lambda: storage.delete_memory(scope, "k"),
        lambda: storage.delete_memory(MemoryScope("session", "s"), bad),
        lambda: storage.clear_memories(scope),
        lambda: storage.save_session(bad, {}),
        lambda: storage.load_session(bad),
        lambda: storage.session_exists(bad),
    ]
