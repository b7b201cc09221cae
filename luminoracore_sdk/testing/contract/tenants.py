"""The contract: two tenants, on one server or in two files, are isolated from each other."""

import asyncio

import pytest

from luminoracore_sdk.application.ports.records import (
    MemoryPut,
    MemoryQuery,
    MemoryScope,
    MessageRange,
    Purged,
    SessionQuery,
)
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.domain.errors import SessionNotFoundError
from luminoracore_sdk.testing.clock import ManualClock
from luminoracore_sdk.testing.contract.base import ContractBase
from luminoracore_sdk.testing.records import (
    json_payload,
    memory_record,
    message_record,
    message_records,
    session_record,
)

__all__ = ["TenantContract"]

_ALL = MessageRange()
_SESSION = MemoryScope("session", "s")
_USER = MemoryScope("user", "u")
_PAYLOAD = json_payload({"content": "another"})


class TenantContract(ContractBase):
    """Storages of ``storage_factory`` and ``other_storage_factory`` share no records."""

    async def fill_tenant(self, storage: SessionStorage, text: str) -> None:
        """Store records of every kind with a text."""
        await storage.put_session(
            session_record(text=text, user_id="u", tags=("t",), ttl_us=10_000_000), expected_version=0
        )
        batch = [message_record("m1", text=text), message_record("m2", text=text)]
        receipt = await storage.append_messages("s", batch)
        assert (receipt.first_position, receipt.replayed) == (1, False)
        await storage.put_memory(memory_record("k", value=text))
        await storage.put_memory(memory_record("k", kind="user", owner="u", value=text), max_entries=1)

    async def texts(self, storage: SessionStorage) -> list[object]:
        """Return what ``fill_tenant`` stored, as found in every way."""
        header = await storage.find_session("s")
        listed = await storage.query_sessions(SessionQuery(user_id="u", tag="t"))
        turn = await storage.read_turn("s", newest=9)
        assert (turn and turn.messages) == (await storage.read_messages("s", _ALL) if header else None)
        assert (turn and turn.memories) == (await storage.list_memories(_SESSION) if header else None)
        memories = [memory for scope in (_SESSION, _USER) for memory in await storage.list_memories(scope)]
        return [
            header and header.payload,
            [found.session_id for found in listed.sessions],
            [message.payload for message in await storage.read_messages("s", _ALL)] if header else None,
            [memory.payload for memory in memories],
        ]

    def filled(self, text: str) -> list[object]:
        """Return what ``texts`` returns after ``fill_tenant``."""
        content = json_payload({"content": text})
        return [json_payload({"text": text}), ["s"], [content] * 2, [json_payload(text)] * 2]

    async def test_records_of_one_tenant_are_absent_from_the_other(
        self, storage: SessionStorage, elsewhere: SessionStorage, clock: ManualClock
    ) -> None:
        await self.fill_tenant(storage, "here")
        assert await self.texts(elsewhere) == [None, [], None, []]
        assert await elsewhere.list_sessions() == []
        assert await elsewhere.find_message("s", "m1") is None
        assert await elsewhere.delete_session("s") is False
        assert await elsewhere.delete_memory(_USER, "k") is False
        assert await elsewhere.clear_memories(_USER) == 0
        with pytest.raises(SessionNotFoundError):
            await elsewhere.append_messages("s", message_records(1))
        with pytest.raises(SessionNotFoundError):
            await elsewhere.replace_tail("s", after=0)
        with pytest.raises(SessionNotFoundError):
            await elsewhere.update_message("s", 1, payload=_PAYLOAD, expected=_PAYLOAD)
        with pytest.raises(SessionNotFoundError):
            await elsewhere.put_memory(memory_record("k"))
        with pytest.raises(SessionNotFoundError):
            await elsewhere.change_memories(_SESSION, [MemoryPut(memory_record("k"))], deletes=["other"])
        for scope in (_SESSION, _USER):
            assert await elsewhere.touch_memories(scope, ["k"], expires_at_us=1) == 0
            assert await elsewhere.list_memories(scope, MemoryQuery(prefix="k")) == []
        assert await elsewhere.change_memories(_USER, deletes=["k"]) == []
        assert await elsewhere.list_memory_owners(prefix="u") == []
        with pytest.raises(SessionNotFoundError):
            await elsewhere.fork_session("s", session_record("f"), at=1)
        with pytest.raises(SessionNotFoundError):
            await elsewhere.acquire_lease("s", holder="h", ttl_us=1_000_000)
        with pytest.raises(SessionNotFoundError):
            await anext(elsewhere.watch("s"))
        assert await elsewhere.release_lease("s", fence=1) is False
        for by_activity in (True, False):
            assert (await elsewhere.query_sessions(SessionQuery(by_activity=by_activity))).sessions == ()
        clock.advance(9)
        assert await self.texts(storage) == self.filled("here")

    async def test_the_same_id_of_two_tenants_is_two_sessions(
        self, storage: SessionStorage, elsewhere: SessionStorage, clock: ManualClock
    ) -> None:
        await self.fill_tenant(storage, "here")
        await self.fill_tenant(elsewhere, "there")
        assert await self.texts(storage) == self.filled("here")
        assert await self.texts(elsewhere) == self.filled("there")
        await elsewhere.update_message("s", 1, payload=_PAYLOAD, expected=json_payload({"content": "there"}))
        await elsewhere.truncate_messages("s", after=1)
        await elsewhere.acquire_lease("s", holder="there", ttl_us=1_000_000)
        clock.advance_us(1)
        assert (await storage.acquire_lease("s", holder="here", ttl_us=1_000_000)).fence == clock.now_us
        await elsewhere.fork_session("s", session_record("f"), at=1)
        assert await storage.find_session("f") is None
        await elsewhere.replace_tail("s", after=0, messages=message_records(1, prefix="new"))
        change = [MemoryPut(memory_record("new", kind="user", owner="u"), 0)]
        assert await elsewhere.touch_memories(_USER, ["k"], expires_at_us=None) == 1
        await elsewhere.change_memories(_USER, change, deletes=["k"])
        assert await elsewhere.clear_memories(_USER) == 1
        assert await elsewhere.delete_session("s") is True
        assert await self.texts(storage) == self.filled("here")
        assert (await storage.append_messages("s", message_records(2))).replayed is True

    async def test_a_purge_does_not_affect_the_other_tenant(
        self, storage: SessionStorage, elsewhere: SessionStorage, clock: ManualClock
    ) -> None:
        for tenant in (storage, elsewhere):
            await tenant.put_session(session_record(ttl_us=10_000_000))
            await tenant.put_memory(memory_record("k", kind="user", expires_at_us=clock.now_us + 5))
        clock.advance(10)
        assert await elsewhere.purge_expired() == Purged(sessions=1, memories=1)
        assert await storage.purge_expired() == Purged(sessions=1, memories=1)

    async def test_concurrent_writers_of_two_tenants_do_not_interfere(
        self, storage: SessionStorage, elsewhere: SessionStorage
    ) -> None:
        for tenant in (storage, elsewhere):
            await self.begin(tenant)
        receipts = await asyncio.gather(
            *(
                tenant.append_messages("s", message_records(2, prefix=f"{number}-"))
                for number in range(10)
                for tenant in (storage, elsewhere)
            )
        )
        assert {receipt.replayed for receipt in receipts} == {False}
        for tenant in (storage, elsewhere):
            assert len(await self.ids(tenant)) == 20

    async def test_closing_one_tenants_storage_keeps_the_other_open(
        self, storage: SessionStorage, elsewhere: SessionStorage
    ) -> None:
        await self.fill_tenant(storage, "here")
        await elsewhere.ping()
        await elsewhere.close()
        assert await self.texts(storage) == self.filled("here")
