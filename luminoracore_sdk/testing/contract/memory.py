"""The contract: memories."""

import attrs
import pytest

from luminoracore_sdk.application.ports.records import MemoryScope, Payload
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.domain.errors import PayloadTooLargeError, SessionNotFoundError, ValidationError
from luminoracore_sdk.testing.clock import ManualClock
from luminoracore_sdk.testing.contract.base import ContractBase
from luminoracore_sdk.testing.records import json_payload, memory_record, session_record

__all__ = ["MemoryContract"]

_SCOPE = MemoryScope("session", "s")
_USER = MemoryScope("user", "s")


class MemoryContract(ContractBase):
    """Put, find, list, delete, expiry, eviction, scopes, owners."""

    async def keys(self, storage: SessionStorage, scope: MemoryScope = _SCOPE) -> list[str]:
        """Return the keys of a scope in the order of its listing."""
        return [memory.key for memory in await storage.list_memories(scope)]

    @pytest.mark.parametrize("kind", ["session", "user"])
    async def test_put_returns_the_record_with_its_times(
        self, storage: SessionStorage, clock: ManualClock, kind: str
    ) -> None:
        await self.begin(storage)
        record = memory_record("k", kind=kind, retention=-1.5e300, expires_at_us=clock.now_us + 10**12)
        expected = attrs.evolve(record, created_at_us=clock.now_us, updated_at_us=clock.now_us)
        assert await storage.put_memory(record) == expected
        assert await storage.find_memory(record.scope, "k") == expected
        assert await storage.list_memories(record.scope) == [expected]

    async def test_a_memory_put_again_keeps_created_at_only(self, storage: SessionStorage, clock: ManualClock) -> None:
        await self.begin(storage)
        first = await storage.put_memory(memory_record("k", expires_at_us=clock.now_us + 10**9))
        clock.advance_us(1)
        await storage.put_memory(memory_record("k", value="new", retention=2.5))
        found = await storage.find_memory(_SCOPE, "k")
        assert found == attrs.evolve(
            first, payload=json_payload("new"), retention=2.5, expires_at_us=None, updated_at_us=clock.now_us
        )

    async def test_only_the_first_put_of_a_memory_sets_created_at(
        self, storage: SessionStorage, clock: ManualClock
    ) -> None:
        await self.begin(storage)
        await storage.put_memory(memory_record("now"))
        record = attrs.evolve(memory_record("past"), created_at_us=7, updated_at_us=8)
        stored = await storage.put_memory(record)
        assert (stored.created_at_us, stored.updated_at_us) == (7, clock.now_us)
        stored = await storage.put_memory(attrs.evolve(record, created_at_us=9))
        assert (stored.created_at_us, stored.updated_at_us) == (7, clock.now_us)
        assert await self.keys(storage) == ["past", "now"]

    async def test_only_a_session_memory_needs_a_session(self, storage: SessionStorage) -> None:
        with pytest.raises(SessionNotFoundError):
            await storage.put_memory(memory_record("k"))
        assert await self.keys(storage) == []
        await storage.put_memory(memory_record("k", kind="user"))
        assert await self.keys(storage, _USER) == ["k"]

    async def test_memories_do_not_change_the_header(self, storage: SessionStorage, clock: ManualClock) -> None:
        before = await storage.put_session(session_record())
        clock.advance(1)
        await storage.put_memory(memory_record("k"))
        await storage.delete_memory(_SCOPE, "k")
        assert await storage.find_session("s") == before

    async def test_an_unknown_memory_is_absent(self, storage: SessionStorage) -> None:
        for scope in (_SCOPE, _USER):
            assert await storage.find_memory(scope, "k") is None
            assert await storage.list_memories(scope) == []
            assert await storage.delete_memory(scope, "k") is False
            assert await storage.clear_memories(scope) == 0

    async def test_memories_are_listed_by_creation_then_key(self, storage: SessionStorage, clock: ManualClock) -> None:
        await self.begin(storage)
        for moment in (["b", "a", "\U0001f600", "\uffff"], ["Z"]):
            for key in moment:
                await storage.put_memory(memory_record(key))
            clock.advance(1)
        await storage.put_memory(memory_record("a", value="put again"))
        assert await self.keys(storage) == ["a", "b", "\uffff", "\U0001f600", "Z"]

    async def test_a_session_and_a_user_of_one_id_share_no_memory(self, storage: SessionStorage) -> None:
        await self.begin(storage)
        await storage.put_memory(memory_record("k", value="of the session"))
        await storage.put_memory(memory_record("k", kind="user", value="of the user"))
        assert await storage.delete_memory(_SCOPE, "k") is True
        left = await storage.find_memory(_USER, "k")
        assert left is not None
        assert left.payload == json_payload("of the user")
        assert await storage.clear_memories(_USER) == 1

    async def test_scopes_and_keys_with_separators_do_not_collide(self, storage: SessionStorage) -> None:
        pairs = [("a", "b:c"), ("a:b", "c"), ("a/b", "c"), ("a", "b/c"), ("a", "b\nc"), ("a\nb", "c")]
        for owner, key in pairs:
            await storage.put_memory(memory_record(key, kind="user", owner=owner, value=[owner, key]))
        for owner, key in pairs:
            found = await storage.find_memory(MemoryScope("user", owner), key)
            assert found is not None
            assert found.payload == json_payload([owner, key])

    async def test_delete_and_clear_return_what_they_removed(self, storage: SessionStorage) -> None:
        await self.begin(storage)
        for key in ("a", "b", "c"):
            await storage.put_memory(memory_record(key))
        assert [await storage.delete_memory(_SCOPE, "a") for _ in range(2)] == [True, False]
        assert await self.keys(storage) == ["b", "c"]
        assert [await storage.clear_memories(_SCOPE) for _ in range(2)] == [2, 0]
        assert await self.keys(storage) == []

    async def test_an_expired_memory_is_absent_from_every_call(
        self, storage: SessionStorage, clock: ManualClock
    ) -> None:
        await self.begin(storage)
        await storage.put_memory(memory_record("k", expires_at_us=clock.now_us + 5))
        await storage.put_memory(memory_record("other", expires_at_us=clock.now_us + 6))
        clock.advance_us(4)
        assert await self.keys(storage) == ["k", "other"]
        clock.advance_us(1)
        assert await self.keys(storage) == ["other"]
        assert await storage.find_memory(_SCOPE, "k") is None
        assert await storage.delete_memory(_SCOPE, "k") is False
        assert await storage.clear_memories(_SCOPE) == 1

    async def test_a_put_over_an_expired_memory_creates_a_new_one(
        self, storage: SessionStorage, clock: ManualClock
    ) -> None:
        await self.begin(storage)
        await storage.put_memory(memory_record("k", expires_at_us=clock.now_us + 5))
        clock.advance_us(5)
        assert (await storage.put_memory(memory_record("k"))).created_at_us == clock.now_us

    async def test_a_full_scope_evicts_the_lowest_retention(self, storage: SessionStorage) -> None:
        await self.begin(storage)
        for key, retention in (("high", 3.0), ("low", 1.0), ("middle", 2.0)):
            await storage.put_memory(memory_record(key, retention=retention), max_entries=3)
        await storage.put_memory(memory_record("lowest", retention=-1e300), max_entries=3)
        assert sorted(await self.keys(storage)) == ["high", "lowest", "middle"]
        await storage.put_memory(memory_record("next", retention=0.0), max_entries=3)
        assert sorted(await self.keys(storage)) == ["high", "middle", "next"]

    async def test_of_equal_retention_the_oldest_is_evicted(self, storage: SessionStorage, clock: ManualClock) -> None:
        await self.begin(storage)
        for key in ("a", "b", "c", "a"):
            await storage.put_memory(memory_record(key))
            clock.advance(1)
        await storage.put_memory(memory_record("d"), max_entries=3)
        assert await self.keys(storage) == ["a", "c", "d"]

    async def test_a_smaller_limit_evicts_several(self, storage: SessionStorage) -> None:
        await self.begin(storage)
        for number in range(5):
            await storage.put_memory(memory_record(f"k{number}", retention=float(number)))
        await storage.put_memory(memory_record("k0", retention=0.0), max_entries=2)
        assert await self.keys(storage) == ["k0", "k4"]

    async def test_replacing_in_a_full_scope_evicts_nothing(self, storage: SessionStorage) -> None:
        await self.begin(storage)
        for key in ("a", "b", "a"):
            await storage.put_memory(memory_record(key), max_entries=2)
        assert await self.keys(storage) == ["a", "b"]

    async def test_expired_memories_do_not_count_for_the_limit(
        self, storage: SessionStorage, clock: ManualClock
    ) -> None:
        await self.begin(storage)
        await storage.put_memory(memory_record("lasting", retention=1.0))
        await storage.put_memory(memory_record("over", retention=2.0, expires_at_us=clock.now_us + 5))
        await storage.put_memory(memory_record("of the user", kind="user", retention=-5.0))
        clock.advance_us(5)
        await storage.put_memory(memory_record("new", retention=3.0), max_entries=2)
        assert await self.keys(storage) == ["lasting", "new"]
        assert await self.keys(storage, _USER) == ["of the user"]

    async def test_a_retention_of_nan_is_refused(self, storage: SessionStorage) -> None:
        with pytest.raises(ValidationError, match="NaN"):
            await storage.put_memory(memory_record("k", kind="user", owner="u", retention=float("nan")))
        assert await storage.list_memories(MemoryScope("user", "u")) == []

    @pytest.mark.parametrize("max_entries", [0, -1])
    async def test_a_memory_limit_below_1_is_refused(self, storage: SessionStorage, max_entries: int) -> None:
        await self.begin(storage)
        with pytest.raises(ValidationError):
            await storage.put_memory(memory_record("k"), max_entries=max_entries)
        assert await self.keys(storage) == []

    async def test_memory_payloads_are_read_byte_for_byte(self, storage: SessionStorage) -> None:
        await self.begin(storage)
        payloads = [Payload("json+zstd", bytes(range(256))), Payload("json", b'{"b": 1.0, "a": 2}')]
        for number, payload in enumerate(payloads):
            await storage.put_memory(attrs.evolve(memory_record(f"k{number}"), payload=payload))
        assert [memory.payload for memory in await storage.list_memories(_SCOPE)] == payloads

    async def test_a_memory_above_the_limit_is_refused(self, storage: SessionStorage) -> None:
        await self.begin(storage)
        huge = Payload("json+zstd", bytes(self.max_payload_bytes + 1))
        with pytest.raises(PayloadTooLargeError):
            await storage.put_memory(attrs.evolve(memory_record("k"), payload=huge))
        assert await self.keys(storage) == []

    async def owners(self, storage: SessionStorage, limit: int = 1000) -> list[str]:
        """Return the owners of all pages."""
        found: list[str] = []
        while page := await storage.list_memory_owners(after=found[-1] if found else None, limit=limit):
            assert len(page) <= limit
            found += page
        return found

    async def test_users_with_memories_are_listed_once(self, storage: SessionStorage) -> None:
        await self.begin(storage)
        await storage.put_memory(memory_record("k"))
        users = [f"user {number}" for number in range(7)] + ["u:/\n'\"é\U0001f600", "u" * 512]
        for user in users:
            for key in ("a", "b"):
                await storage.put_memory(memory_record(key, kind="user", owner=user))
        for limit in (1, 2, 3, 1000):
            assert sorted(await self.owners(storage, limit)) == sorted(users)

    async def test_users_without_live_memories_are_not_listed(
        self, storage: SessionStorage, clock: ManualClock
    ) -> None:
        for user in ("deleted", "cleared", "expired", "kept"):
            expires = clock.now_us + 10 if user == "expired" else None
            await storage.put_memory(memory_record("k", kind="user", owner=user, expires_at_us=expires))
        assert await storage.delete_memory(MemoryScope("user", "deleted"), "k")
        assert await storage.clear_memories(MemoryScope("user", "cleared")) == 1
        clock.advance_us(10)
        assert await self.owners(storage, 1) == ["kept"]
        await storage.put_memory(memory_record("k", kind="user", owner="deleted"))
        assert sorted(await self.owners(storage)) == ["deleted", "kept"]

    async def test_owners_are_listed_once_while_others_change(self, storage: SessionStorage) -> None:
        users = [f"u{number}" for number in range(9)]
        for user in users:
            await storage.put_memory(memory_record("k", kind="user", owner=user))
        first = await storage.list_memory_owners(limit=4)
        await storage.clear_memories(MemoryScope("user", first[-1]))
        rest = await storage.list_memory_owners(after=first[-1], limit=1000)
        assert sorted(first + rest) == users
        assert await storage.list_memory_owners(after=(first + rest)[-1]) == []

    @pytest.mark.parametrize("limit", [0, 1001])
    async def test_a_page_of_owners_holds_1_to_1000_ids(self, storage: SessionStorage, limit: int) -> None:
        with pytest.raises(ValidationError):
            await storage.list_memory_owners(limit=limit)
