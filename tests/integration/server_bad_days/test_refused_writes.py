"""Servers that refuse writes: replicas, full memory, flushed scripts."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.domain.errors import StorageFullError, StorageReadOnlyError
from luminoracore_sdk.testing import memory_record, message_record, session_record
from tests.support.bad_days import Place, assert_whole, failure, stored_ids
from tests.support.servers.replica import read_only
from tests.support.servers.rigs import ValkeyRig

_WRITES: list[Callable[[SessionStorage], Awaitable[object]]] = [
    lambda storage: storage.put_session(session_record("new")),
    lambda storage: storage.append_messages("s", [message_record("new")]),
    lambda storage: storage.truncate_messages("s", after=0),
    lambda storage: storage.put_memory(memory_record("new")),
    lambda storage: storage.delete_session("s"),
]


async def _fill(storage: SessionStorage) -> None:
    await storage.put_session(session_record())
    await storage.append_messages("s", [message_record("m1"), message_record("m2")])


# A replica in a cluster redirects its clients to the primary.
@pytest.mark.parametrize("kind", ["postgres", "valkey", "mongodb-pymongo"])
async def test_a_replica_is_written_only_after_promotion(place: Place, tmp_path: Path) -> None:
    async with read_only(place.rig, place.account, tmp_path / "replica", _fill) as (storage, promote):
        assert await stored_ids(storage) == ["m1", "m2"]
        assert await storage.list_sessions() == ["s"]
        for write in _WRITES:
            error = await failure(write(storage))
            assert (type(error), error.in_doubt) == (StorageReadOnlyError, False)
        assert await stored_ids(storage) == ["m1", "m2"]
        await assert_whole(storage, 4)
        promote()
        receipt = await storage.append_messages("s", [message_record("m3")])
        assert (receipt.first_position, receipt.replayed) == (3, False)


class TestOfValkey:
    """Valkey's own reasons to refuse."""

    @pytest.fixture(params=["valkey", "valkey-cluster"])
    def kind(self, request: pytest.FixtureRequest) -> str:
        name: str = request.param
        return name

    @pytest.fixture
    def rig(self, place: Place) -> ValkeyRig:
        assert isinstance(place.rig, ValkeyRig)
        return place.rig

    async def test_a_full_server_refuses_appends_and_not_deletes(self, place: Place, rig: ValkeyRig) -> None:
        storage = await place.begun()
        await storage.append_messages("s", [message_record("m1")])
        await storage.put_session(session_record("large"))
        rig.limit_memory(2_000_000)
        try:
            error, stored = await self._fill_up(storage)
            assert (type(error), error.in_doubt) == (StorageFullError, False)
            assert await stored_ids(storage, "large") == stored
            assert await stored_ids(storage) == ["m1"]
            assert await storage.delete_session("large") is True
            await storage.append_messages("s", [message_record("m2")])
            assert await stored_ids(storage) == ["m1", "m2"]
            assert await storage.list_sessions() == ["s"]
        finally:
            rig.command("CONFIG", "SET", "maxmemory", 0)
        await assert_whole(storage, 4)

    async def _fill_up(self, storage: SessionStorage) -> tuple[StorageFullError, list[str]]:
        text, stored = "x" * 100_000, list[str]()
        for number in range(100):
            ids = [f"large-{number}-{part}" for part in (1, 2)]
            try:
                await storage.append_messages("large", [message_record(name, text=text) for name in ids])
            except StorageFullError as error:
                return error, stored
            stored += ids
        raise AssertionError("the memory was not limited")

    async def test_flushed_scripts_are_loaded_again(self, place: Place, rig: ValkeyRig) -> None:
        storage = await place.begun(pool=1)
        await storage.append_messages("s", [message_record("m1")])
        for number in range(2, 5):
            rig.command("SCRIPT", "FLUSH")
            receipt = await storage.append_messages("s", [message_record(f"m{number}")])
            assert (receipt.first_position, receipt.replayed) == (number, False)
            rig.command("SCRIPT", "FLUSH")
            await storage.put_session(session_record())
        assert await stored_ids(storage) == ["m1", "m2", "m3", "m4"]
        await assert_whole(storage, 1)
