"""The contract: opening, closing, event loops, and other storages on the same store."""

import asyncio
import gc
from collections.abc import Awaitable, Callable

import attrs
import pytest

from luminoracore_sdk.application.ports.records import (
    AppendReceipt,
    MemoryScope,
    MessageRange,
    SessionQuery,
    SessionRecord,
)
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.domain.errors import StorageClosedError, WrongEventLoopError
from luminoracore_sdk.testing.cancellation import CancelAt
from luminoracore_sdk.testing.clock import ManualClock
from luminoracore_sdk.testing.contract.base import ContractBase, StorageFactory
from luminoracore_sdk.testing.records import memory_record, message_record, message_records, session_record

__all__ = ["LifeContract", "ResumeContract"]

_ALL = MessageRange()
_ENOUGH_STEPS = 200


class LifeContract(ContractBase):
    """Opening, closing, event loops, cancellation."""

    async def test_a_storage_opens_at_its_first_use(self, another: Callable[[], SessionStorage]) -> None:
        storage = another()
        assert (await storage.put_session(session_record())).version == 1

    async def test_50_concurrent_first_uses_work(self, another: Callable[[], SessionStorage]) -> None:
        storage = another()
        stored = await asyncio.gather(*(storage.put_session(session_record(f"s{number}")) for number in range(50)))
        assert [record.version for record in stored] == [1] * 50
        assert len(await storage.list_sessions()) == 50

    async def test_open_and_close_may_be_repeated(self, another: Callable[[], SessionStorage]) -> None:
        storage = another()
        await storage.close()
        for _ in range(2):
            await storage.open()
            await storage.open()
            await storage.ping()
            await storage.close()
            await storage.close()

    async def test_a_storage_is_a_context_manager(self, another: Callable[[], SessionStorage]) -> None:
        async with another() as storage:
            await storage.put_session(session_record())
        with pytest.raises(StorageClosedError):
            await storage.find_session("s")

    async def test_a_closed_storage_refuses_every_call(self, storage: SessionStorage) -> None:
        await self.begin(storage, messages=1)
        await storage.close()
        answered = []
        for number, call in enumerate(_all_calls(storage)):
            try:
                await call()
            except StorageClosedError:
                continue
            answered.append(number)
        assert answered == []

    async def test_a_closed_storage_can_be_opened_again(self, storage: SessionStorage) -> None:
        await self.begin(storage, messages=2)
        await storage.close()
        await storage.open()
        if self.persistent:
            assert len(await storage.read_messages("s", _ALL)) == 2
        assert (await storage.put_session(session_record("next"))).version == 1

    async def test_ping_answers_and_the_schema_has_a_version(self, storage: SessionStorage) -> None:
        await storage.ping()
        version = await storage.schema_version()
        assert version >= 1
        assert await storage.schema_version() == version

    async def test_the_backend_has_a_name(self, storage: SessionStorage) -> None:
        assert storage.backend.strip() == storage.backend != ""

    async def test_use_on_a_second_event_loop_works_or_is_refused(self, storage: SessionStorage) -> None:
        await self.begin(storage, messages=1)

        async def append_elsewhere() -> int:
            try:
                receipt = await storage.append_messages("s", [message_record("elsewhere")])
            except WrongEventLoopError:
                return 1
            return receipt.last_position

        last = await asyncio.to_thread(lambda: asyncio.run(append_elsewhere()))
        assert last in (1, 2)
        receipt = await storage.append_messages("s", [message_record("here")])
        assert receipt.first_position == last + 1
        assert len(await storage.read_messages("s", _ALL)) == last + 1

    @pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
    async def test_use_after_its_loop_has_closed_works_or_is_refused(
        self, storage_factory: StorageFactory, clock: ManualClock
    ) -> None:
        def two_runs() -> list[str]:
            storage = storage_factory(clock)
            asyncio.run(self.begin(storage, messages=1))
            try:
                return asyncio.run(append_and_read(storage))
            except WrongEventLoopError:
                return ["refused"]

        async def append_and_read(storage: SessionStorage) -> list[str]:
            await storage.append_messages("s", [message_record("m2")])
            messages = await storage.read_messages("s", _ALL)
            await storage.close()
            return [message.message_id for message in messages]

        assert await asyncio.to_thread(two_runs) in (["m1", "m2"], ["refused"])
        gc.collect()  # connections of the closed loop warn here instead of in a later test
        if self.persistent:
            storage = storage_factory(clock)
            stored = [message.message_id for message in await storage.read_messages("s", _ALL)]
            await storage.close()
            assert stored in (["m1"], ["m1", "m2"])

    @pytest.mark.parametrize("late", [False, True])
    async def test_an_open_cancelled_at_any_step_can_be_repeated(
        self, another: Callable[[], SessionStorage], *, late: bool
    ) -> None:
        for step in range(_ENOUGH_STEPS):
            storage = another()
            call = CancelAt(storage.open(), step, late=late)
            await asyncio.wait([asyncio.ensure_future(call)])
            assert (await storage.put_session(session_record(f"s{step}"))).version == 1
            await storage.close()
            if not call.reached:
                return
        raise AssertionError(f"opening still waits after {_ENOUGH_STEPS} steps")

    @pytest.mark.parametrize("late", [False, True])
    async def test_a_put_cancelled_at_any_step_is_whole_or_absent(self, storage: SessionStorage, *, late: bool) -> None:
        before: SessionRecord = await storage.put_session(session_record(text="step -1"))
        for step in range(_ENOUGH_STEPS):
            record = session_record(text=f"step {step}")
            call = CancelAt(storage.put_session(record), step, late=late)
            await asyncio.wait([asyncio.ensure_future(call)])
            found = await storage.find_session("s")
            written = attrs.evolve(before, payload=record.payload, version=before.version + 1)
            assert found in (before, written)
            before = await storage.put_session(record)
            if not call.reached:
                return
        raise AssertionError(f"a put still waits after {_ENOUGH_STEPS} steps")


class ResumeContract(ContractBase):
    """Persistence, and other storages on the same store."""

    async def fill(self, storage: SessionStorage, clock: ManualClock) -> None:
        """Store records of every kind; truncate, replace and delete some."""
        for name in ("a", "b", "deleted"):
            await storage.put_session(session_record(name, user_id="u", tags=("t",), ttl_us=10**12))
            await storage.append_messages(name, message_records(5))
            await storage.put_memory(memory_record("k", owner=name, expires_at_us=clock.now_us + 10**9))
            clock.advance(1)
        await storage.put_session(session_record("a", text="put again", tags=("t", "x")))
        await storage.truncate_messages("b", after=3)
        await storage.append_messages("b", message_records(2, prefix="again"))
        await storage.put_memory(memory_record("gone", owner="a"))
        await storage.delete_memory(MemoryScope("session", "a"), "gone")
        await storage.put_memory(memory_record("k", owner="u", kind="user", retention=-2.5))
        await storage.delete_session("deleted")

    async def everything(self, storage: SessionStorage) -> list[object]:
        """Return everything that ``fill`` left."""
        scopes = [MemoryScope("session", name) for name in ("a", "b", "deleted")]
        return [
            await storage.query_sessions(SessionQuery(user_id="u")),
            [await storage.find_session(name) for name in await storage.list_sessions()],
            [await storage.read_messages(name, _ALL) for name in ("a", "b")],
            [await storage.list_memories(scope) for scope in (*scopes, MemoryScope("user", "u"))],
            await storage.schema_version(),
        ]

    async def test_a_new_storage_reads_everything_equal(
        self, storage: SessionStorage, another: Callable[[], SessionStorage], clock: ManualClock
    ) -> None:
        self.need("persistent")
        await self.fill(storage, clock)
        before = await self.everything(storage)
        await storage.close()
        assert await self.everything(another()) == before

    async def test_a_new_storage_continues_where_the_last_one_ended(
        self, storage: SessionStorage, another: Callable[[], SessionStorage], clock: ManualClock
    ) -> None:
        self.need("persistent")
        await self.fill(storage, clock)
        await storage.close()
        resumed = another()
        assert (await resumed.append_messages("b", message_records(3))).replayed is True
        receipt = await resumed.append_messages("b", [message_record("next")], expected_last=5)
        assert receipt.first_position == 6
        assert (await resumed.put_session(session_record("a"), expected_version=2)).version == 3
        clock.advance(10**6)
        assert await resumed.list_sessions() == ["a"]

    @pytest.mark.parametrize("steps", [0, 2, 8])
    async def test_close_completes_or_refuses_appends_in_progress(
        self, another: Callable[[], SessionStorage], *, steps: int
    ) -> None:
        self.need("persistent")
        storage = another()
        names = [f"s{number}" for number in range(30)]
        for name in names:
            await self.begin(storage, session_id=name)
        tasks = [asyncio.create_task(storage.append_messages(name, message_records(2))) for name in names]
        for _ in range(steps):
            await asyncio.sleep(0)
        await storage.close()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        after = another()
        lengths = [len(await self.ids(after, name)) for name in names]
        assert {*zip(map(type, outcomes), lengths, strict=True)} <= {(AppendReceipt, 2), (StorageClosedError, 0)}

    async def test_two_open_storages_see_each_others_writes(
        self, storage: SessionStorage, another: Callable[[], SessionStorage], clock: ManualClock
    ) -> None:
        self.need("shares_between_instances")
        other = another()
        assert await other.list_sessions() == []
        await self.fill(storage, clock)
        assert await self.everything(other) == await self.everything(storage)
        await other.truncate_messages("a", after=1)
        receipt = await storage.append_messages("a", [message_record("m5")])
        assert (receipt.first_position, receipt.replayed) == (2, False)
        await other.delete_session("a")
        assert await storage.find_session("a") is None


def _all_calls(storage: SessionStorage) -> list[Callable[[], Awaitable[object]]]:
    scope = MemoryScope("session", "s")
    return [
        storage.ping,
        storage.schema_version,
        lambda: storage.put_session(session_record()),
        lambda: storage.find_session("s"),
        lambda: storage.delete_session("s"),
        lambda: storage.query_sessions(SessionQuery()),
        lambda: storage.append_messages("s", message_records(1)),
        lambda: storage.read_messages("s", _ALL),
        lambda: anext(storage.stream_messages("s")),
        lambda: storage.truncate_messages("s", after=0),
        lambda: storage.put_memory(memory_record("k")),
        lambda: storage.find_memory(scope, "k"),
        lambda: storage.list_memories(scope),
        lambda: storage.delete_memory(scope, "k"),
        lambda: storage.clear_memories(scope),
        storage.purge_expired,
        lambda: storage.save_session("s", {}),
        lambda: storage.load_session("s"),
        storage.list_sessions,
        lambda: storage.session_exists("s"),
    ]
