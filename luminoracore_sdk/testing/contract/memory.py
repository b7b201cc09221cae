"""The contract: memories."""

import asyncio
from typing import Any

import attrs
import pytest

from luminoracore_sdk.application.ports.records import (
    NEVER_EVICTED,
    NO_PAYLOAD,
    MemoryPut,
    MemoryQuery,
    MemoryRecord,
    MemoryScope,
    Payload,
)
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.domain.errors import (
    ConflictError,
    PayloadTooLargeError,
    SessionNotFoundError,
    ValidationError,
)
from luminoracore_sdk.testing.clock import ManualClock
from luminoracore_sdk.testing.contract.base import ContractBase
from luminoracore_sdk.testing.records import json_payload, memory_record, session_record

__all__ = ["MemoryChangeContract", "MemoryContract", "MemoryPageContract"]

_SCOPE = MemoryScope("session", "s")
_USER = MemoryScope("user", "s")

_ENOUGH_STEPS = 100


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
        expected = attrs.evolve(record, created_at_us=clock.now_us, updated_at_us=clock.now_us, version=1)
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
            first, payload=json_payload("new"), retention=2.5, expires_at_us=None, updated_at_us=clock.now_us, version=2
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
        stored = await storage.put_memory(memory_record("k"))
        assert (stored.created_at_us, stored.version) == (clock.now_us, 1)

    async def test_a_full_scope_evicts_the_lowest_retention(self, storage: SessionStorage) -> None:
        await self.begin(storage)
        for key, retention in (("high", 3.0), ("low", 1.0), ("middle", 2.0)):
            await storage.put_memory(memory_record(key, retention=retention), max_entries=3)
        await storage.put_memory(memory_record("lowest", retention=-1e300), max_entries=3)
        assert sorted(await self.keys(storage)) == ["high", "lowest", "middle"]
        await storage.put_memory(memory_record("next", retention=0.0), max_entries=3)
        assert sorted(await self.keys(storage)) == ["high", "middle", "next"]

    @pytest.mark.parametrize("kind", ["session", "user"])
    async def test_what_is_never_evicted_does_not_count(self, storage: SessionStorage, kind: str) -> None:
        await self.begin(storage)
        kept = [memory_record(f"kept{number}", kind=kind, retention=NEVER_EVICTED) for number in range(3)]
        for record in kept:
            await storage.put_memory(record, max_entries=1)
        for retention, key in enumerate("abc"):
            await storage.put_memory(memory_record(key, kind=kind, retention=float(retention)), max_entries=2)
        assert await self.keys(storage, kept[0].scope) == ["b", "c", "kept0", "kept1", "kept2"]
        await storage.change_memories(
            kept[0].scope, [MemoryPut(memory_record(key, kind=kind)) for key in "de"], max_entries=1
        )
        assert await self.keys(storage, kept[0].scope) == ["d", "e", "kept0", "kept1", "kept2"]

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

    async def test_owners_are_listed_by_prefix(self, storage: SessionStorage) -> None:
        users = ["", "a", "b", "%", "_", "\ud7ff", "\ue000", "\U0010ffff", "\U0010ffff\U0010ffff", "x" * 509]
        for user in (*(f"p:{user}" for user in users), "p", "q", "P:a", "\U0010ffff"):
            await storage.put_memory(memory_record("k", kind="user", owner=user))
        for prefix in ("p:", "p:a", "p:%", "p:\ud7ff", "p:\U0010ffff", "\U0010ffff", "nobody", "x" * 512):
            found: list[str] = []
            while page := await storage.list_memory_owners(prefix=prefix, after=found[-1] if found else None, limit=3):
                found += page
            wanted = [user for user in (*(f"p:{user}" for user in users), "\U0010ffff") if user.startswith(prefix)]
            assert sorted(found) == sorted(wanted)


def puts_of(*keys: str, kind: str = "session", value: object = "a value") -> list[MemoryPut]:
    """Return puts of memories, all with one value."""
    return [MemoryPut(memory_record(key, kind=kind, value=str(value))) for key in keys]


class MemoryPageContract(ContractBase):
    """Listings by key."""

    async def fill_scope(self, storage: SessionStorage, scope: MemoryScope) -> list[str]:
        """Put memories in no order; return their keys in the order of code points."""
        odd = ["a/\ud7ff", "a/\ue000", "a/\U0010ffff", "é", "e\u0301", "z" * 512]
        keys = ["b", "a", "a/1", "a/10", "a/2", "a0", "A", *odd]
        if scope.kind == "session":
            await self.begin(storage)
        for key in keys:
            await storage.put_memory(memory_record(key, kind=scope.kind, value=key))
        return sorted(keys)

    async def memory_pages(self, storage: SessionStorage, scope: MemoryScope, query: MemoryQuery) -> list[MemoryRecord]:
        """Return the memories of all pages."""
        found: list[MemoryRecord] = []
        while page := await storage.list_memories(scope, query):
            assert len(page) <= (query.limit or len(page))
            found += page
            query = attrs.evolve(query, after=page[-1].key)
        return found

    @pytest.mark.parametrize("descending", [False, True])
    @pytest.mark.parametrize("scope", [_SCOPE, _USER], ids=["session", "user"])
    async def test_memories_are_paged_in_the_order_of_code_points(
        self, storage: SessionStorage, scope: MemoryScope, *, descending: bool
    ) -> None:
        keys = await self.fill_scope(storage, scope)
        await storage.put_memory(memory_record("a", kind="user", owner="another"))
        for prefix in ("", "a", "a/", "a/1", "a/\ud7ff", "a/\U0010ffff", "é", "b", "nothing", "z" * 512):
            wanted = sorted((key for key in keys if key.startswith(prefix)), reverse=descending)
            for limit in (None, 1, 3):
                query = MemoryQuery(prefix=prefix, limit=limit, descending=descending)
                found = await self.memory_pages(storage, scope, query)
                assert [(memory.key, memory.payload) for memory in found] == [
                    (key, json_payload(key)) for key in wanted
                ]

    async def test_a_page_without_payloads_has_all_the_rest(self, storage: SessionStorage, clock: ManualClock) -> None:
        await self.begin(storage)
        for scope in (_SCOPE, _USER):
            record = memory_record("k", kind=scope.kind, retention=2.5, expires_at_us=clock.now_us + 10**9)
            stored = await storage.put_memory(record)
            listed = await storage.list_memories(scope, MemoryQuery(with_payload=False))
            assert listed == [attrs.evolve(stored, payload=NO_PAYLOAD)]
            with pytest.raises(ValidationError):
                await storage.put_memory(listed[0])

    async def test_expired_memories_are_on_no_page(self, storage: SessionStorage, clock: ManualClock) -> None:
        await self.begin(storage)
        for number in range(12):
            expires_at_us = clock.now_us + 5 if number % 4 else None
            await storage.put_memory(memory_record(f"k{number:02}", expires_at_us=expires_at_us))
        clock.advance_us(5)
        for descending in (False, True):
            found = await self.memory_pages(storage, _SCOPE, MemoryQuery(limit=2, descending=descending))
            assert sorted(memory.key for memory in found) == ["k00", "k04", "k08"]

    async def test_what_stays_is_on_one_page_while_others_change(self, storage: SessionStorage) -> None:
        await self.begin(storage)
        kept = [f"k{number}" for number in range(0, 10, 2)]
        await storage.change_memories(_SCOPE, puts_of(*(f"k{number}" for number in range(10))))
        found: list[str] = []
        while page := await storage.list_memories(_SCOPE, MemoryQuery(after=found[-1] if found else None, limit=2)):
            found += [memory.key for memory in page]
            odd = int(found[-1][1]) | 1
            await storage.change_memories(_SCOPE, puts_of("before", f"k{odd}*"), deletes=[f"k{odd}"])
        assert [key for key in found if key in kept] == kept
        assert len(set(found)) == len(found)

    async def test_pages_of_an_unknown_scope_are_empty(self, storage: SessionStorage) -> None:
        for scope in (_SCOPE, _USER):
            assert await storage.list_memories(scope, MemoryQuery(prefix="a", limit=1)) == []

    @pytest.mark.parametrize("query", [MemoryQuery(limit=0), MemoryQuery(limit=1001), MemoryQuery(after="")])
    async def test_an_impossible_page_is_refused(self, storage: SessionStorage, query: MemoryQuery) -> None:
        with pytest.raises(ValidationError):
            await storage.list_memories(_USER, query)


class MemoryChangeContract(ContractBase):
    """Versions, changes of several memories at once, and new times of expiry."""

    async def memory_versions(self, storage: SessionStorage, scope: MemoryScope = _SCOPE) -> dict[str, int]:
        """Return the versions of the memories of a scope by key."""
        return {memory.key: memory.version for memory in await storage.list_memories(scope)}

    @pytest.mark.parametrize("kind", ["session", "user"])
    async def test_every_put_raises_the_version_of_a_memory(self, storage: SessionStorage, kind: str) -> None:
        await self.begin(storage)
        record, scope = memory_record("k", kind=kind), MemoryScope(kind, "s")
        assert [(await storage.put_memory(record)).version for _ in range(3)] == [1, 2, 3]
        assert (await storage.put_memory(attrs.evolve(record, version=9), max_entries=1)).version == 4
        found = await storage.find_memory(scope, "k")
        assert found is not None
        assert found.version == 4
        assert await self.memory_versions(storage, scope) == {"k": 4}
        assert await storage.delete_memory(scope, "k") is True
        assert (await storage.put_memory(record)).version == 1

    @pytest.mark.parametrize("kind", ["session", "user"])
    async def test_a_put_over_another_version_conflicts(self, storage: SessionStorage, kind: str) -> None:
        await self.begin(storage)
        record, scope = memory_record("k", kind=kind), MemoryScope(kind, "s")
        with pytest.raises(ConflictError):
            await storage.put_memory(record, expected_version=1)
        assert (await storage.put_memory(record, expected_version=0)).version == 1
        other = memory_record("k", kind=kind, value="other")
        for expected, limit in ((0, None), (2, None), (2, 1)):
            with pytest.raises(ConflictError):
                await storage.put_memory(other, expected_version=expected, max_entries=limit)
        assert (await storage.put_memory(record, expected_version=1)).version == 2
        found = await storage.find_memory(scope, "k")
        assert found is not None
        assert (found.version, found.payload) == (2, record.payload)

    @pytest.mark.parametrize("kind", ["session", "user"])
    async def test_an_expired_memory_has_no_version(
        self, storage: SessionStorage, clock: ManualClock, kind: str
    ) -> None:
        await self.begin(storage)
        record = memory_record("k", kind=kind, expires_at_us=clock.now_us + 5)
        await storage.put_memory(record)
        clock.advance_us(5)
        with pytest.raises(ConflictError):
            await storage.put_memory(memory_record("k", kind=kind), expected_version=1)
        assert (await storage.put_memory(memory_record("k", kind=kind), expected_version=0)).version == 1

    @pytest.mark.parametrize("kind", ["session", "user"])
    async def test_a_change_puts_and_deletes_in_one_step(
        self, storage: SessionStorage, clock: ManualClock, kind: str
    ) -> None:
        await self.begin(storage)
        scope = MemoryScope(kind, "s")
        for key in ("changed", "deleted", "kept"):
            await storage.put_memory(memory_record(key, kind=kind))
        clock.advance(1)
        records = [
            memory_record("new", kind=kind, value="1", expires_at_us=clock.now_us + 10**9),
            memory_record("changed", kind=kind, value="2", retention=1.5),
        ]
        stored = await storage.change_memories(
            scope, [MemoryPut(records[0], 0), MemoryPut(records[1], 1)], deletes=["deleted", "absent"]
        )
        assert [(memory.key, memory.version, memory.payload) for memory in stored] == [
            ("new", 1, json_payload("1")),
            ("changed", 2, json_payload("2")),
        ]
        assert stored[0].created_at_us == stored[1].updated_at_us == clock.now_us
        listed = {memory.key: memory for memory in await storage.list_memories(scope)}
        assert sorted(listed) == ["changed", "kept", "new"]
        assert [listed["new"], listed["changed"]] == stored
        assert await storage.change_memories(scope, deletes=["kept", "new"]) == []
        assert await self.memory_versions(storage, scope) == {"changed": 2}

    @pytest.mark.parametrize("kind", ["session", "user"])
    async def test_a_conflict_leaves_every_memory_as_it_was(self, storage: SessionStorage, kind: str) -> None:
        await self.begin(storage)
        scope = MemoryScope(kind, "s")
        await storage.change_memories(scope, puts_of("a", "b", "c", kind=kind))
        before = await storage.list_memories(scope)
        for expected in ({"a": 1, "b": 2}, {"a": 1, "b": 0}, {"new": 1, "a": 1}, {"a": 2}):
            puts = [
                MemoryPut(memory_record(key, kind=kind, value="other"), version) for key, version in expected.items()
            ]
            with pytest.raises(ConflictError):
                await storage.change_memories(scope, [*puts, *puts_of("d", kind=kind)], deletes=["c"])
            assert await storage.list_memories(scope) == before

    async def test_a_change_of_a_session_needs_the_session(self, storage: SessionStorage) -> None:
        with pytest.raises(SessionNotFoundError):
            await storage.change_memories(_SCOPE, puts_of("a", "b"), deletes=["c"])
        with pytest.raises(SessionNotFoundError):
            await storage.change_memories(_SCOPE, deletes=["c"])
        await storage.change_memories(_USER, puts_of("a", "b", kind="user"))
        assert await self.memory_versions(storage, _USER) == {"a": 1, "b": 1}
        await self.begin(storage)
        assert await self.memory_versions(storage) == {}

    async def test_a_change_holds_1_to_1000_keys_once_each(self, storage: SessionStorage) -> None:
        await self.begin(storage)
        many = [f"k{number}" for number in range(1000)]
        for puts, deletes in (
            ([], []),
            (puts_of("a", "a"), []),
            (puts_of("a"), ["a"]),
            ([], ["a", "a"]),
            (puts_of(*many), ["a"]),
            (puts_of("a", kind="user"), []),
            ([MemoryPut(memory_record("a"), -1)], []),
            (puts_of("a"), [""]),
        ):
            with pytest.raises(ValidationError):
                await storage.change_memories(_SCOPE, puts, deletes=deletes)
        assert await self.memory_versions(storage) == {}
        assert len(await storage.change_memories(_SCOPE, puts_of(*many))) == 1000
        assert await self.memory_versions(storage) == dict.fromkeys(many, 1)
        assert await storage.change_memories(_SCOPE, puts_of("k0"), deletes=many[1:]) != []
        assert await self.memory_versions(storage) == {"k0": 2}

    async def test_a_change_evicts_none_of_its_own_memories(self, storage: SessionStorage) -> None:
        await self.begin(storage)
        for number in range(4):
            await storage.put_memory(memory_record(f"old{number}", retention=float(number)))
        await storage.change_memories(_SCOPE, puts_of("a", "b"), deletes=["old3"], max_entries=3)
        assert sorted(await self.memory_versions(storage)) == ["a", "b", "old2"]
        await storage.change_memories(_SCOPE, puts_of("c", "d"), max_entries=1)
        assert sorted(await self.memory_versions(storage)) == ["c", "d"]

    async def test_a_change_with_a_huge_payload_changes_nothing(self, storage: SessionStorage) -> None:
        await self.begin(storage)
        huge = Payload("json+zstd", bytes(self.max_payload_bytes + 1))
        puts = [*puts_of("a"), MemoryPut(attrs.evolve(memory_record("b"), payload=huge))]
        with pytest.raises(PayloadTooLargeError):
            await storage.change_memories(_SCOPE, puts)
        assert await self.memory_versions(storage) == {}

    @pytest.mark.parametrize("kind", ["session", "user"])
    async def test_a_touch_changes_only_the_expiry(
        self, storage: SessionStorage, clock: ManualClock, kind: str
    ) -> None:
        await self.begin(storage)
        scope, now_us = MemoryScope(kind, "s"), clock.now_us
        records = {"a": None, "b": now_us + 5, "c": now_us + 10, "gone": now_us + 1}
        for key, expires_at_us in records.items():
            await storage.put_memory(memory_record(key, kind=kind, retention=1.5, expires_at_us=expires_at_us))
        clock.advance_us(4)
        before = await storage.list_memories(scope)
        keys = ["a", "b", "gone", "absent"]
        assert await storage.touch_memories(scope, keys, expires_at_us=now_us + 8) == 2
        wanted = [memory if memory.key == "c" else attrs.evolve(memory, expires_at_us=now_us + 8) for memory in before]
        assert await storage.list_memories(scope) == wanted
        clock.advance_us(4)
        assert await self.memory_versions(storage, scope) == {"c": 1}
        assert await storage.touch_memories(scope, ["a", "b", "c"], expires_at_us=None) == 1
        clock.advance_us(10)
        assert await self.memory_versions(storage, scope) == {"c": 1}
        await storage.purge_expired()
        assert await self.memory_versions(storage, scope) == {"c": 1}

    async def test_a_touch_of_an_unknown_scope_finds_nothing(self, storage: SessionStorage) -> None:
        for scope in (_SCOPE, _USER):
            assert await storage.touch_memories(scope, ["a", "b"], expires_at_us=None) == 0
        for keys in ([], ["a", "a"], [f"k{number}" for number in range(1001)]):
            with pytest.raises(ValidationError):
                await storage.touch_memories(_USER, keys, expires_at_us=None)

    async def test_a_fraction_of_a_time_is_refused(self, storage: SessionStorage) -> None:
        fraction: Any = 1.5
        await storage.put_memory(memory_record("k", kind="user"))
        with pytest.raises(ValidationError):
            await storage.put_memory(attrs.evolve(memory_record("k", kind="user"), expires_at_us=fraction))
        with pytest.raises(ValidationError):
            await storage.touch_memories(_USER, ["k"], expires_at_us=fraction)
        assert await self.memory_versions(storage, _USER) == {"k": 1}

    @pytest.mark.parametrize("late", [False, True])
    @pytest.mark.parametrize("kind", ["session", "user"])
    async def test_a_change_cancelled_at_any_step_is_whole_or_absent(
        self, storage: SessionStorage, kind: str, *, late: bool
    ) -> None:
        await self.begin(storage)
        scope = MemoryScope(kind, "s")
        await storage.change_memories(scope, puts_of("a", "b", kind=kind, value="step -1"))
        for step in range(_ENOUGH_STEPS):
            before = await storage.list_memories(scope)
            puts = puts_of("b", f"new {step}", kind=kind, value=f"step {step}")
            cancelled = await self.cancel(storage.change_memories(scope, puts, deletes=["a"]), step, late=late)
            after = await storage.list_memories(scope)
            payloads = {memory.key: memory.payload for memory in after if memory.payload == puts[0].record.payload}
            if after != before:
                assert payloads == {put.record.key: put.record.payload for put in puts}
                assert "a" not in await self.memory_versions(storage, scope)
            else:
                assert cancelled
            await storage.change_memories(scope, puts_of("a", "b", kind=kind, value="again"), deletes=[f"new {step}"])
            assert {memory.payload for memory in await storage.list_memories(scope)} == {json_payload("again")}
            if not cancelled:
                return
        pytest.fail(f"the call took more than {_ENOUGH_STEPS} steps")

    async def test_concurrent_changes_of_one_memory_all_count(self, storage: SessionStorage) -> None:
        await self.begin(storage)
        changes = [storage.change_memories(_SCOPE, puts_of("a", f"k{number}", value=number)) for number in range(10)]
        stored = await asyncio.gather(*changes)
        assert sorted(first.version for first, _ in stored) == list(range(1, 11))
        assert await self.memory_versions(storage) == {"a": 10, **{f"k{number}": 1 for number in range(10)}}
