"""The contract: concurrent puts, deletions, truncations and memories."""

import asyncio

import pytest

from luminoracore_sdk.application.ports.records import MemoryPut, MemoryQuery, MemoryScope, MessageRange, SessionQuery
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.domain.errors import ConflictError, SessionNotFoundError
from luminoracore_sdk.testing.contract.base import ContractBase, spread
from luminoracore_sdk.testing.records import memory_record, message_record, message_records, session_record

__all__ = ["MemoryRaceContract", "SessionRaceContract"]

_ALL = MessageRange()
_SCOPE = MemoryScope("session", "s")


class SessionRaceContract(ContractBase):
    """Concurrent calls about sessions, from one storage and from two on the same store."""

    async def test_one_of_20_concurrent_creators_wins(self, writers: list[SessionStorage]) -> None:
        created, conflicts = await self.race(
            (
                writer.put_session(session_record(text=f"of {number}"), expected_version=0)
                for writer, number in spread(writers, range(20))
            ),
            ConflictError,
        )
        assert ([header.version for header in created], len(conflicts)) == ([1], 19)
        assert await writers[-1].find_session("s") == created[0]

    async def test_one_of_20_puts_over_one_version_wins(self, writers: list[SessionStorage]) -> None:
        await self.begin(writers[0], messages=1)
        put, conflicts = await self.race(
            (
                writer.put_session(session_record(text=f"of {number}"), expected_version=1)
                for writer, number in spread(writers, range(20))
            ),
            ConflictError,
        )
        assert ([header.version for header in put], len(conflicts)) == ([2], 19)
        assert await writers[-1].find_session("s") == put[0]
        assert len(await self.ids(writers[0])) == 1

    async def test_20_concurrent_puts_get_20_versions(self, writers: list[SessionStorage]) -> None:
        put = await asyncio.gather(
            *(writer.put_session(session_record(text=f"of {number}")) for writer, number in spread(writers, range(20)))
        )
        put.sort(key=lambda header: header.version)
        assert [header.version for header in put] == list(range(1, 21))
        assert await writers[-1].find_session("s") == put[-1]
        assert await writers[0].list_sessions() == ["s"]

    async def test_concurrent_puts_and_appends_are_all_kept(self, writers: list[SessionStorage]) -> None:
        await self.begin(writers[0])
        appends = [
            writer.append_messages("s", message_records(2, prefix=f"{number}-"))
            for writer, number in spread(writers, range(10))
        ]
        puts = [
            writer.put_session(session_record(text=f"of {number}")) for writer, number in spread(writers, range(10))
        ]
        put, _ = await asyncio.gather(asyncio.gather(*puts), asyncio.gather(*appends))
        assert sorted(header.version for header in put) == list(range(2, 12))
        header = await writers[-1].find_session("s")
        assert header is not None
        assert (header.version, header.last_position) == (11, 20)
        assert len(await self.ids(writers[0])) == 20

    async def test_concurrent_saves_succeed_and_keep_user_and_tags(self, writers: list[SessionStorage]) -> None:
        await writers[0].put_session(session_record(user_id="u", tags=("t",)))
        saved = await asyncio.gather(
            *(writer.save_session("s", {"of": number}) for writer, number in spread(writers, range(5)))
        )
        assert saved == [True] * 5
        header = await writers[-1].find_session("s")
        assert header is not None
        assert (header.version, header.user_id, header.tags) == (6, "u", ("t",))

    async def test_after_concurrent_puts_only_the_last_is_listed(self, writers: list[SessionStorage]) -> None:
        names = [f"n{number}" for number in range(10)]
        await asyncio.gather(
            *(writer.put_session(session_record(user_id=name, tags=(name,))) for writer, name in spread(writers, names))
        )
        header = await writers[0].find_session("s")
        assert header is not None
        listed = [
            (await writers[-1].query_sessions(query)).sessions
            for name in names
            for query in (SessionQuery(user_id=name), SessionQuery(tag=name))
        ]
        assert [len(found) for found in listed] == [
            int(name == of) for name in names for of in (header.user_id, *header.tags)
        ]

    async def test_one_of_10_concurrent_deletes_is_true(self, writers: list[SessionStorage]) -> None:
        await self.begin(writers[0], messages=2)
        deleted = await asyncio.gather(*(writer.delete_session("s") for writer, _ in spread(writers, range(10))))
        assert sorted(deleted) == [False] * 9 + [True]

    async def test_a_delete_among_writes_leaves_nothing_behind(self, writers: list[SessionStorage]) -> None:
        for number in range(6):  # half the number of the twelve writes before the delete
            header = await writers[0].put_session(session_record(), expected_version=0)
            assert (header.version, header.last_position) == (1, 0)
            assert await writers[0].read_messages("s", _ALL) == []
            assert await writers[-1].list_memories(_SCOPE) == []
            await self.race_a_delete(writers, before=2 * number)
            assert await writers[0].find_session("s") is None
        await writers[0].put_session(session_record(), expected_version=0)
        receipt = await writers[-1].append_messages("s", message_records(2, prefix="0-"))
        assert (receipt.first_position, receipt.replayed) == (1, False)
        assert await self.ids(writers[0]) == ["0-1", "0-2"]

    async def race_a_delete(self, writers: list[SessionStorage], *, before: int) -> None:
        """Make twelve concurrent appends and puts of memories, with a delete after ``before`` of them."""

        async def write(number: int) -> None:
            storage = writers[number % len(writers)]
            if number % 4 == 3:
                await storage.put_memory(memory_record(f"k{number}"))
            else:
                await storage.append_messages("s", message_records(2, prefix=f"{number}-"))

        deleting = writers[-1].delete_session("s")
        calls = [write(number) for number in range(12)]
        outcome = self.race([*calls[:before], deleting, *calls[before:]], SessionNotFoundError)
        assert (await outcome)[0].count(True) == 1

    async def test_concurrent_truncations_count_each_message_once(self, writers: list[SessionStorage]) -> None:
        await self.begin(writers[0], messages=10)
        removed = await asyncio.gather(
            *(writer.truncate_messages("s", after=4) for writer, _ in spread(writers, range(10)))
        )
        assert sum(removed) == 6
        assert await self.ids(writers[-1]) == ["m1", "m2", "m3", "m4"]

    async def test_truncations_among_appends_leave_no_gap(self, writers: list[SessionStorage]) -> None:
        await self.begin(writers[0], messages=4)
        batches = [message_records(3, prefix=f"{number}-") for number in range(20)]

        async def write(number: int) -> None:
            storage = writers[number % len(writers)]
            await storage.append_messages("s", batches[number])
            if number % 4 == 0:
                await storage.truncate_messages("s", after=4)

        await asyncio.gather(*(write(number) for number in range(20)))
        ids = await self.ids(writers[0])
        header = await writers[-1].find_session("s")
        assert header is not None
        assert (header.last_position, ids[:4]) == (len(ids), ["m1", "m2", "m3", "m4"])
        for batch in batches:
            known = [message.message_id in ids for message in batch]
            receipt = await writers[0].append_messages("s", batch)
            assert known == [receipt.replayed] * 3
        assert len(await self.ids(writers[-1])) == 64


class MemoryRaceContract(ContractBase):
    """Concurrent calls about memories."""

    async def test_50_concurrent_memories_are_all_kept(self, writers: list[SessionStorage]) -> None:
        await self.begin(writers[0])
        keys = [f"k{number:02}" for number in range(50)]
        await asyncio.gather(
            *(writer.put_memory(memory_record(key, value=key)) for writer, key in spread(writers, keys))
        )
        assert [memory.key for memory in await writers[-1].list_memories(_SCOPE)] == keys

    async def test_a_scope_keeps_its_limit_under_concurrent_puts(self, writers: list[SessionStorage]) -> None:
        await self.begin(writers[0])
        for kind in ("session", "user"):
            await asyncio.gather(
                *(
                    writer.put_memory(memory_record(f"k{number}", kind=kind, retention=float(number)), max_entries=5)
                    for writer, number in spread(writers, range(50))
                )
            )
            await writers[0].put_memory(memory_record("last", kind=kind, retention=-1.0), max_entries=5)
            left = [memory.key for memory in await writers[-1].list_memories(MemoryScope(kind, "s"))]
            assert (len(left), "last" in left) == (5, True)

    async def test_20_concurrent_puts_of_one_memory_store_one(self, writers: list[SessionStorage]) -> None:
        await self.begin(writers[0])
        put = await asyncio.gather(
            *(
                writer.put_memory(memory_record("k", value=number), max_entries=1)
                for writer, number in spread(writers, range(20))
            )
        )
        (left,) = await writers[-1].list_memories(_SCOPE)
        assert left in put

    async def test_a_memory_of_a_session_that_is_being_created_is_kept_or_refused(
        self, writers: list[SessionStorage]
    ) -> None:
        for number in range(10):
            scope = MemoryScope("session", f"new {number}")
            puts = [
                writer.put_memory(memory_record(f"k{key}", owner=scope.owner_id))
                for writer, key in spread(writers, range(6))
            ]
            created = writers[0].put_session(session_record(scope.owner_id))
            (_, (kept, _)) = await asyncio.gather(created, self.race(puts, SessionNotFoundError))
            stored = await writers[-1].list_memories(scope)
            assert {memory.key for memory in stored} == {memory.key for memory in kept}

    async def test_one_of_10_deletes_of_a_memory_is_true(self, writers: list[SessionStorage]) -> None:
        await self.begin(writers[0])
        await writers[0].put_memory(memory_record("k"))
        deleted = await asyncio.gather(*(writer.delete_memory(_SCOPE, "k") for writer, _ in spread(writers, range(10))))
        assert sorted(deleted) == [False] * 9 + [True]

    async def test_concurrent_memories_and_messages_are_all_kept(self, writers: list[SessionStorage]) -> None:
        await self.begin(writers[0])

        async def write(number: int) -> None:
            storage = writers[number % len(writers)]
            await storage.append_messages("s", [message_record(f"m{number}")])
            await storage.put_memory(memory_record(f"k{number}"))

        await asyncio.gather(*(write(number) for number in range(20)))
        assert len(await self.ids(writers[0])) == 20
        assert len(await writers[0].list_memories(_SCOPE)) == 20

    async def test_one_of_20_puts_over_one_version_of_a_memory_wins(self, writers: list[SessionStorage]) -> None:
        await self.begin(writers[0])
        for kind in ("session", "user"):
            for version in range(2):
                won, lost = await self.race(
                    (
                        writer.put_memory(memory_record("k", kind=kind, value=number), expected_version=version)
                        for writer, number in spread(writers, range(20))
                    ),
                    ConflictError,
                )
                assert ([memory.version for memory in won], len(lost)) == ([version + 1], 19)
                assert await writers[-1].list_memories(MemoryScope(kind, "s")) == won

    async def test_one_of_10_changes_over_one_version_wins(self, writers: list[SessionStorage]) -> None:
        await self.begin(writers[0])

        def puts(kind: str, number: int, version: int) -> list[MemoryPut]:
            keys = ["a", "b", "c"] if number % 2 else ["c", "b", "a"]
            return [MemoryPut(memory_record(key, kind=kind, value=number), version) for key in keys]

        for kind in ("session", "user"):
            scope = MemoryScope(kind, "s")
            for version in range(2):
                calls = [
                    writer.change_memories(scope, puts(kind, number, version))
                    for writer, number in spread(writers, range(10))
                ]
                won, lost = await self.race(calls, ConflictError)
                assert (len(won), len(lost)) == (1, 9)
                stored = sorted(won[0], key=lambda memory: memory.key)
                assert await writers[-1].list_memories(scope) == stored

    @pytest.mark.parametrize("kind", ["session", "user"])
    async def test_changes_among_puts_and_reads_are_whole(self, writers: list[SessionStorage], kind: str) -> None:
        keys = [f"k{number}" for number in range(5)]
        await self.begin(writers[0])
        scope = MemoryScope(kind, "s")
        await writers[0].change_memories(scope, [MemoryPut(memory_record(key, kind=kind)) for key in keys])

        async def write(storage: SessionStorage, number: int) -> None:
            if number % 3 == 0:
                puts = [MemoryPut(memory_record(key, kind=kind, value=number)) for key in keys]
                await storage.change_memories(scope, puts if number % 2 else puts[::-1])
            elif number % 3 == 1:
                await storage.put_memory(memory_record("alone", kind=kind, value=number))
                assert await storage.touch_memories(scope, keys, expires_at_us=None) == len(keys)
            for query in (None, MemoryQuery(prefix="k", limit=5)):
                found = [memory for memory in await storage.list_memories(scope, query) if memory.key in keys]
                assert len(found) == len(keys)
                assert len({memory.payload for memory in found}) == 1

        await asyncio.gather(*(write(writer, number) for writer, number in spread(writers, range(30))))
        found = await writers[-1].list_memories(scope)
        versions = {memory.key: memory.version for memory in found}
        assert versions == {**dict.fromkeys(keys, 11), "alone": 10}

    async def test_puts_beside_changes_of_the_same_memory_all_count(self, writers: list[SessionStorage]) -> None:
        await self.begin(writers[0])

        async def write(storage: SessionStorage, number: int) -> int:
            records = [memory_record(key, value=number) for key in ("a", "b")]
            if number % 2:
                return (await storage.put_memory(records[0])).version
            stored = await storage.change_memories(_SCOPE, [MemoryPut(record) for record in records])
            return stored[0].version

        versions = await asyncio.gather(*(write(writer, number) for writer, number in spread(writers, range(20))))
        assert sorted(versions) == list(range(1, 21))
        first, second = await writers[-1].list_memories(_SCOPE)
        assert (first.key, first.version, second.key, second.version) == ("a", 20, "b", 10)

    async def test_a_change_beside_the_deletion_of_its_session_leaves_nothing(
        self, writers: list[SessionStorage]
    ) -> None:
        for number in range(6):
            await self.begin(writers[0])
            puts = [MemoryPut(memory_record(f"k{key}")) for key in range(5)]
            calls = [
                writer.change_memories(_SCOPE, puts) if place != number else writer.delete_session("s")
                for writer, place in spread(writers, range(7))
            ]
            await self.race(calls, SessionNotFoundError)
            assert await writers[-1].find_session("s") is None
            await self.begin(writers[0])
            assert await writers[-1].list_memories(_SCOPE) == []
            assert (await writers[-1].change_memories(_SCOPE, puts))[0].version == 1
            await writers[0].delete_session("s")

    async def test_a_change_beside_a_clear_is_whole_or_absent(self, writers: list[SessionStorage]) -> None:
        puts = [MemoryPut(memory_record(f"k{key}", kind="user", owner="s")) for key in range(5)]
        scope = MemoryScope("user", "s")
        for number in range(6):
            await writers[0].change_memories(scope, puts[:2])
            calls = [
                writer.change_memories(scope, puts) if place != number % 3 else writer.clear_memories(scope)
                for writer, place in spread(writers, range(3))
            ]
            await asyncio.gather(*calls)
            assert len(await writers[-1].list_memories(scope)) in (0, 5)
            await writers[0].clear_memories(scope)

    async def test_each_concurrent_change_has_its_own_outcome(self, writers: list[SessionStorage]) -> None:
        names = [f"s{number}" for number in range(20)]
        for name in names:
            await self.begin(writers[0], session_id=name)
            await writers[0].change_memories(MemoryScope("session", name), self.puts(name, "old", "older"))
        batches = [
            (name, puts, deletes, most)
            for name in names
            for puts, deletes, most in (
                (self.puts(name, "a", "b"), [], None),
                (self.puts(name, "a"), [], None),
                (self.puts(name, "c", "old", version=0), [], None),
                (self.puts(name, "old", version=0), [], None),
                (self.puts(name, "d", version=0), [], None),
                (self.puts(name, "e"), ["older"], 9),
            )
        ]
        absent: list[tuple[str, list[MemoryPut], list[str], int | None]] = [
            ("absent", self.puts("absent", "a"), [], None)
        ] * 2
        outcomes = await asyncio.gather(
            *(
                writer.change_memories(MemoryScope("session", name), puts, deletes=deletes, max_entries=most)
                for writer, (name, puts, deletes, most) in spread(writers, [*absent, *batches])
            ),
            *(writer.append_messages(name, message_records(2)) for writer, name in spread(writers, names)),
            return_exceptions=True,
        )
        assert [type(outcome) for outcome in outcomes[:2]] == [SessionNotFoundError] * 2
        for number, name in enumerate(names):
            plain, again, whole, single, new, mixed = outcomes[2 + 6 * number : 8 + 6 * number]
            assert [type(outcome) for outcome in (whole, single)] == [ConflictError] * 2
            assert isinstance(plain, list)
            assert isinstance(again, list)
            assert sorted(record.version for record in (plain[0], again[0])) == [1, 2]
            stored = {memory.key: memory for memory in await writers[-1].list_memories(MemoryScope("session", name))}
            assert {key: memory.version for key, memory in stored.items()} == {"a": 2, "b": 1, "d": 1, "e": 1, "old": 1}
            assert [[stored["d"]], [stored["e"]]] == [new, mixed]
            assert plain[1] == stored["b"]
            assert await self.ids(writers[0], name) == ["m1", "m2"]

    @pytest.mark.parametrize("steps", [0, 1, 2, 4, 8])
    async def test_cancelled_changes_do_not_affect_concurrent_ones(
        self, writers: list[SessionStorage], *, steps: int
    ) -> None:
        names = [f"s{number}" for number in range(30)]
        for name in names:
            await self.begin(writers[0], session_id=name)
        tasks = [
            asyncio.create_task(writer.change_memories(MemoryScope("session", name), self.puts(name, "a", "b")))
            for writer, name in spread(writers, names)
        ]
        for _ in range(steps):
            await asyncio.sleep(0)
        for task in tasks[::3]:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        for number, (name, outcome) in enumerate(zip(names, outcomes, strict=True)):
            stored = await writers[0].list_memories(MemoryScope("session", name))
            if number % 3 or not isinstance(outcome, asyncio.CancelledError):
                assert outcome == stored
            assert [memory.key for memory in stored] in ([], ["a", "b"])

    def puts(self, name: str, *keys: str, version: int | None = None) -> list[MemoryPut]:
        """Return puts of memories of a session, each with the same expected version."""
        return [MemoryPut(memory_record(key, owner=name), version) for key in keys]
