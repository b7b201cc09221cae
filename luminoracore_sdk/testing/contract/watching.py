"""The contract: following the changes of a session."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any, cast

import pytest

from luminoracore_sdk.application.ports.records import MAX_CHANGES, MessageRange, MessageRecord
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.application.ports.watching import Change
from luminoracore_sdk.domain.errors import ConflictError, SessionNotFoundError, ValidationError
from luminoracore_sdk.testing.clock import ManualClock
from luminoracore_sdk.testing.contract.base import ContractBase
from luminoracore_sdk.testing.records import json_payload, message_record, message_records, session_record

__all__ = ["WatchContract"]

_ALL = MessageRange()
_SECONDS = 10.0


class _Copy:
    """A copy of a session's messages that follows its changes, and the kinds of these."""

    def __init__(self, messages: list[MessageRecord]) -> None:
        self.messages = messages
        self.kinds: list[str] = []
        self.number = 0
        self.changed = asyncio.Event()

    async def follow(self, changes: AsyncIterator[Change]) -> None:
        async for change in changes:
            self.kinds.append(change.kind)
            self.number = change.number
            if change.kind == "cut":
                del self.messages[change.position :]
            elif change.kind == "updated":
                assert change.message is not None
                self.messages[change.position - 1] = change.message
            elif change.kind == "appended":
                assert change.message is not None
                assert change.position == len(self.messages) + 1
                self.messages.append(change.message)
            self.changed.set()

    async def equals(self, storage: SessionStorage) -> None:
        """Wait until the copy is what the storage has."""
        async with asyncio.timeout(_SECONDS):
            while self.messages != await storage.read_messages("s", _ALL):
                self.changed.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await self.changed.wait()


class WatchContract(ContractBase):
    """``watch``."""

    @asynccontextmanager
    async def watching(
        self,
        storage: SessionStorage,
        *,
        after: int = 0,
        seen: int | None = None,
        known: list[MessageRecord] | None = None,
    ) -> AsyncIterator[tuple[_Copy, "asyncio.Task[None]"]]:
        """Follow a session in a task within the block."""
        copy = _Copy(known or [])

        async def follow() -> None:
            changes = storage.watch("s", after=after, seen=seen, poll_seconds=0.02)
            async with aclosing(cast("aclosing[AsyncIterator[Change]]", changes)):  # type: ignore[type-var]
                await copy.follow(changes)

        task = asyncio.create_task(follow())
        try:
            yield copy, task
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def test_what_is_stored_is_replayed_then_followed(self, writers: list[SessionStorage]) -> None:
        await self.begin(writers[0], messages=3)
        known = (await writers[0].read_messages("s", _ALL))[:1]
        async with self.watching(writers[-1], after=1, known=known) as (copy, _):
            await copy.equals(writers[0])
            for number in range(3):
                await writers[0].append_messages("s", message_records(2, prefix=f"{number}-"))
                await copy.equals(writers[0])
            assert copy.kinds == ["appended"] * 8

    async def test_updates_and_cuts_are_followed(self, writers: list[SessionStorage]) -> None:
        await self.begin(writers[0], messages=4)
        async with self.watching(writers[-1]) as (copy, _):
            await copy.equals(writers[0])
            new = json_payload({"content": "new"})
            await writers[0].update_message("s", 2, payload=new, expected=message_record("m2").payload)
            await copy.equals(writers[0])
            await writers[0].truncate_messages("s", after=3)
            await copy.equals(writers[0])
            await writers[0].replace_tail("s", after=1, messages=message_records(3, prefix="n"))
            await copy.equals(writers[0])
            kinds = [kind for place, kind in enumerate(copy.kinds) if copy.kinds[place - 1 : place] != [kind]]
            assert kinds in (
                ["appended", "updated", "cut", "appended"],
                ["appended", "updated", "cut", "appended", "cut", "appended"],
            )

    async def test_a_deletion_is_the_last_change(self, storage: SessionStorage, clock: ManualClock) -> None:
        await self.begin(storage, messages=1)
        async with self.watching(storage) as (copy, task):
            await copy.equals(storage)
            await storage.delete_session("s")
            async with asyncio.timeout(_SECONDS):
                await task
            assert copy.kinds[-1] == "deleted"
        await storage.put_session(session_record(ttl_us=1_000_000))
        await storage.append_messages("s", message_records(1))
        async with self.watching(storage) as (copy, task):
            await copy.equals(storage)
            clock.advance(2)
            async with asyncio.timeout(_SECONDS):
                await task
            assert copy.kinds == ["appended", "deleted"]

    async def test_a_session_created_anew_is_another_one(self, storage: SessionStorage, clock: ManualClock) -> None:
        await self.begin(storage, messages=1)
        async with self.watching(storage) as (copy, task):
            await copy.equals(storage)
            await storage.delete_session("s")
            clock.advance(1)
            await self.begin(storage, messages=2)
            async with asyncio.timeout(_SECONDS):
                await task
            assert copy.kinds[-1] == "deleted"

    async def test_a_watcher_that_knows_too_much_is_cut(self, storage: SessionStorage) -> None:
        await self.begin(storage, messages=5)
        known = await storage.read_messages("s", _ALL)
        await storage.truncate_messages("s", after=2)
        async with self.watching(storage, after=5, known=known) as (copy, _):
            await copy.equals(storage)
            assert copy.kinds == ["cut"]

    async def test_a_watcher_that_falls_behind_misses_nothing(self, writers: list[SessionStorage]) -> None:
        await self.begin(writers[0], messages=4)
        changes = writers[-1].watch("s", poll_seconds=0.02)
        copy = _Copy([(await anext(changes)).message])  # type: ignore[list-item]
        payload = message_record("m1").payload
        for number in range(MAX_CHANGES + 8):
            new = json_payload({"content": f"{number}"})
            if number % 3 == 0:
                await writers[0].replace_tail(
                    "s", after=3, messages=message_records(1 + number % 2, prefix=f"{number}-")
                )
            else:
                await writers[0].update_message("s", 1, payload=new, expected=payload)
                payload = new
        task = asyncio.create_task(copy.follow(changes))
        try:
            await copy.equals(writers[0])
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def test_a_watcher_that_comes_back_misses_nothing(self, writers: list[SessionStorage]) -> None:
        storage = writers[0]
        await self.begin(storage, messages=4)
        await storage.update_message("s", 3, payload=json_payload(0), expected=message_record("m3").payload)
        async with self.watching(writers[-1], seen=0) as (copy, _):
            await copy.equals(storage)
        known, number = copy.messages, copy.number
        assert copy.kinds == ["appended"] * 4
        assert number > 0
        await storage.update_message("s", 2, payload=json_payload(1), expected=message_record("m2").payload)
        await storage.replace_tail("s", after=3, messages=message_records(1, prefix="n"))  # the end is where it was
        async with self.watching(writers[-1], after=4, seen=number, known=known) as (copy, _):
            await copy.equals(storage)
            assert list(dict.fromkeys(copy.kinds)) == ["updated", "cut", "appended"]
        number = copy.number
        async with self.watching(writers[-1], after=4, seen=number, known=copy.messages) as (copy, _):
            await storage.append_messages("s", message_records(1, prefix="o"))
            await copy.equals(storage)
            assert (copy.kinds, copy.number) == (["appended"], number)

    async def test_a_watcher_of_an_earlier_session_begins_anew(self, storage: SessionStorage) -> None:
        await self.begin(storage, messages=2)
        known = await storage.read_messages("s", _ALL)
        await storage.truncate_messages("s", after=1)
        await storage.delete_session("s")
        await self.begin(storage)
        await storage.append_messages("s", message_records(2, prefix="n"))
        async with self.watching(storage, after=2, seen=1, known=known) as (copy, _):
            await copy.equals(storage)
            assert copy.kinds == ["cut", "appended", "appended"]

    async def test_a_copy_among_writers_ends_up_equal(self, writers: list[SessionStorage]) -> None:
        await self.begin(writers[0], messages=6)
        async with self.watching(writers[-1]) as (copy, _):

            async def write(storage: SessionStorage, number: int) -> None:
                await storage.append_messages("s", message_records(2, prefix=f"a{number}-"))
                if number % 3 == 0:
                    with suppress(ConflictError):  # another one has cut deeper
                        messages = message_records(2, prefix=f"r{number}-")
                        await storage.replace_tail("s", after=number % 5, messages=messages)

            await asyncio.gather(*(write(writers[number % len(writers)], number) for number in range(20)))
            await copy.equals(writers[0])

    async def test_an_absent_session_cannot_be_watched(self, storage: SessionStorage) -> None:
        with pytest.raises(SessionNotFoundError):
            await anext(storage.watch("s"))
        await self.begin(storage)
        wrongs: tuple[Any, ...] = (-1, True, 1.5)
        for wrong in wrongs:
            with pytest.raises(ValidationError):
                await anext(storage.watch("s", after=wrong))
            with pytest.raises(ValidationError):
                await anext(storage.watch("s", seen=wrong))

    async def test_a_wait_for_a_change_ends(self, storage: SessionStorage) -> None:
        await self.begin(storage)
        async with storage.wakeups("s") as wakeup, asyncio.timeout(_SECONDS):
            await wakeup.wait(0.01)
            await storage.append_messages("s", message_records(1))
            await wakeup.wait(0.01)
        assert await self.ids(storage) == ["m1"]

    async def test_leases_and_headers_are_no_changes(self, storage: SessionStorage) -> None:
        await self.begin(storage, messages=1)
        async with self.watching(storage) as (copy, _):
            await copy.equals(storage)
            await storage.acquire_lease("s", holder="a", ttl_us=1_000_000)
            await storage.put_session(session_record())
            await storage.append_messages("s", [message_record("m2")])
            await copy.equals(storage)
            assert copy.kinds == ["appended", "appended"]
