"""A watcher that looks every 30 seconds learns of the changes of other processes at once: their server tells."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast

import attrs
import pytest

from luminoracore_sdk.adapters.clock import SystemClock
from luminoracore_sdk.adapters.storage.mongodb import MongoDBStorage
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.application.ports.watching import Change
from luminoracore_sdk.testing import StorageFactory
from luminoracore_sdk.testing.records import json_payload, message_record, message_records, session_record
from tests.support.backends import MONGODB_REPLICA_SET, POSTGRES, REDIS, Backend, encrypted, optimized, shared
from tests.support.servers import mongodb_replica_set_url
from tests.support.servers.places import place_name


def _motor(path: Path) -> StorageFactory:
    url = mongodb_replica_set_url()
    return lambda clock: MongoDBStorage(url, database=place_name(path), driver="motor", clock=clock)


_MOTOR = attrs.evolve(MONGODB_REPLICA_SET, name="MongoDB replica set by motor", at=_motor)
_SERVERS = (POSTGRES, REDIS, MONGODB_REPLICA_SET, _MOTOR)
_WRAPPED = (optimized(encrypted(POSTGRES)), shared(POSTGRES))
SECONDS = 5.0
"""Enough on a busy computer; without a wake-up it takes 30."""


@pytest.fixture(params=(*_SERVERS, *_WRAPPED), ids=lambda backend: backend.name)
def make(request: pytest.FixtureRequest) -> Iterator[StorageFactory]:
    backend: Backend = request.param
    with backend.place() as factory:
        yield factory


@pytest.fixture
async def storages(make: StorageFactory) -> AsyncIterator[tuple[SessionStorage, SessionStorage]]:
    async with make(SystemClock()) as writer, make(SystemClock()) as reader:
        await writer.put_session(session_record())
        yield writer, reader


def watch(storage: SessionStorage, session_id: str = "s") -> "aclosing[AsyncIterator[Change]]":  # type: ignore[type-var]
    changes = storage.watch(session_id, poll_seconds=30)
    return aclosing(cast("Any", changes))


async def take(changes: AsyncIterator[Change]) -> tuple[str, int]:
    async with asyncio.timeout(SECONDS):
        change = await anext(changes)
    return change.kind, change.position


async def test_every_change_of_another_process_wakes(storages: tuple[SessionStorage, SessionStorage]) -> None:
    writer, reader = storages
    async with watch(reader) as changes:
        for number in (1, 2):
            await writer.append_messages("s", [message_record(f"m{number}")])
            assert await take(changes) == ("appended", number)
        await writer.append_messages("s", message_records(2, prefix="n"))
        assert [await take(changes) for _ in range(2)] == [("appended", 3), ("appended", 4)]
        new = json_payload({"content": "new"})
        await writer.update_message("s", 2, payload=new, expected=message_record("m2").payload)
        assert await take(changes) == ("updated", 2)
        await writer.truncate_messages("s", after=3)
        cut = await take(changes)
        assert (await take(changes) if cut == ("updated", 2) else cut) == ("cut", 3)  # an update may come twice
        await writer.replace_tail("s", after=2, messages=[message_record("t")])
        assert [await take(changes) for _ in range(2)] == [("cut", 2), ("appended", 3)]
        await writer.delete_session("s")
        assert await take(changes) == ("deleted", 0)


async def test_appends_that_are_written_together_wake(storages: tuple[SessionStorage, SessionStorage]) -> None:
    writer, reader = storages
    for number in range(20):
        await writer.put_session(session_record(f"s{number}"))
    async with watch(reader, "s3") as third, watch(reader, "s17") as other:
        appends = [writer.append_messages(f"s{number}", [message_record("m1")]) for number in range(20)]
        first = [asyncio.create_task(take(changes)) for changes in (third, other)]
        await asyncio.gather(*appends)
        assert [await task for task in first] == [("appended", 1), ("appended", 1)]


async def test_a_watcher_that_comes_later_is_woken_too(storages: tuple[SessionStorage, SessionStorage]) -> None:
    writer, reader = storages
    await writer.put_session(session_record("t"))
    async with watch(reader) as changes:
        await writer.append_messages("s", [message_record("m1")])
        assert await take(changes) == ("appended", 1)
        async with watch(reader, "t") as others, watch(reader) as same:
            assert await take(same) == ("appended", 1)
            await writer.append_messages("t", [message_record("m1")])
            assert await take(others) == ("appended", 1)
        await writer.append_messages("s", [message_record("m2")])
        assert await take(changes) == ("appended", 2)
