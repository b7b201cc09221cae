"""Leases of turns, and turns that are refused while another process answers."""

import asyncio

import pytest

from luminoracore_sdk.application import leases
from luminoracore_sdk.application.ports.records import Lease
from luminoracore_sdk.application.turns import OnStop
from luminoracore_sdk.session import InMemoryStorage, SessionManager, SessionStorage
from luminoracore_sdk.storage import StorageWrapper
from luminoracore_sdk.testing import ManualClock
from luminoracore_sdk.utils.exceptions import (
    LeaseLostError,
    SessionBusyError,
    SessionNotFoundError,
    StorageError,
    StorageUnavailableError,
    ValidationError,
)
from tests.support.scripted_provider import Script

pytestmark = pytest.mark.usefixtures("script")

PROVIDER = {"name": "scripted"}


async def two(storage: SessionStorage) -> tuple[SessionManager, SessionManager]:
    """Return two managers that share no lock, as in two processes."""
    one, other = SessionManager(storage), SessionManager(StorageWrapper(storage))
    await one.create_session({"name": "Ada"}, PROVIDER, {"session_id": "s"})
    return one, other


async def test_a_busy_session_is_refused_by_every_process(storage: SessionStorage, script: Script) -> None:
    one, other = await two(storage)
    script.may_answer.clear()
    first = asyncio.create_task(one.send_message("s", "Hello", busy="refuse"))
    await script.asked.wait()
    with pytest.raises(SessionBusyError):
        await other.send_message("s", "Me too", busy="refuse")
    with pytest.raises(SessionBusyError):
        await anext(other.stream_message("s", "Me too", busy="refuse"))
    script.may_answer.set()
    await first
    assert (await other.send_message("s", "Now", busy="refuse")).position == 4
    async for _ in one.stream_message("s", "And I", busy="refuse"):
        pass
    texts = [message.content for message in await one.conversation_manager.get_messages("s")]
    assert texts[::2] == ["Hello", "Now", "And I"]


async def test_a_holder_that_was_stopped_changes_nothing(
    storage: SessionStorage, clock: ManualClock, script: Script
) -> None:
    one, other = await two(storage)
    async with one.turn_lease("s", ttl=10) as old:
        with pytest.raises(SessionBusyError):
            async with other.turn_lease("s"):
                pytest.fail("two holders")
        clock.advance(11)  # as if this process had been stopped meanwhile
        async with other.turn_lease("s") as new:
            assert new.fence == old.fence + 1
            await other.send_message("s", "Of the new holder", fence=new.fence)
            with pytest.raises(LeaseLostError):
                await one.send_message("s", "Of the old holder", fence=old.fence)
            with pytest.raises(LeaseLostError):
                await one.regenerate("s", fence=old.fence)
    messages = await one.conversation_manager.get_messages("s")
    assert [message.content for message in messages] == ["Of the new holder", "An answer."]


async def test_a_lease_is_free_again_after_the_block(storage: SessionStorage) -> None:
    one, other = await two(storage)
    fences: list[int] = []

    async def fail() -> None:
        async with one.turn_lease("s") as old:
            fences.append(old.fence)
            raise RuntimeError("within")

    with pytest.raises(RuntimeError, match="within"):
        await fail()
    async with other.turn_lease("s") as lease:
        assert fences == [lease.fence - 1]
    with pytest.raises(SessionNotFoundError):
        async with one.turn_lease("absent"):
            pytest.fail("a lease of nothing")
    for ttl in (0, -1, float("inf"), True, "5"):
        with pytest.raises(ValidationError):
            async with one.turn_lease("s", ttl=ttl):  # type: ignore[arg-type]
                pytest.fail("a lease without end")


class FailsToRenew(StorageWrapper):
    def __init__(self, base: SessionStorage) -> None:
        super().__init__(base)
        self.errors: list[Exception] = []
        self.renewed = asyncio.Event()
        self.calls = 0

    async def acquire_lease(self, session_id: str, *, holder: str, ttl_us: int) -> Lease:
        self.calls += 1
        if self.calls > 1 and self.errors:
            raise self.errors.pop(0)
        lease = await super().acquire_lease(session_id, holder=holder, ttl_us=ttl_us)
        if self.calls > 1:
            self.renewed.set()
        return lease


async def test_a_lease_is_renewed_although_the_backend_fails_for_a_while(clock: ManualClock) -> None:
    storage = FailsToRenew(InMemoryStorage(clock=clock))
    async with SessionManager(storage) as manager:
        await manager.create_session({}, {"name": "echo"}, {"session_id": "s"})
        storage.errors = [StorageUnavailableError("memory", "gone"), StorageError("memory: it cannot")]
        async with manager.turn_lease("s", ttl=0.03) as lease, asyncio.timeout(5):
            first = lease.fence
            await storage.renewed.wait()
            assert (lease.fence, lease.is_lost) == (first, False)


@pytest.mark.parametrize("loss", ["taken", "taken and ended", "deleted"])
async def test_a_holder_is_told_that_the_lease_is_lost(clock: ManualClock, loss: str) -> None:
    storage = FailsToRenew(InMemoryStorage(clock=clock))
    async with SessionManager(storage) as manager:
        await manager.create_session({}, {"name": "echo"}, {"session_id": "s"})
        async with manager.turn_lease("s", ttl=0.03) as lease, asyncio.timeout(5):
            clock.advance(1)
            if loss == "deleted":
                await storage.base.delete_session("s")
            else:
                await storage.base.acquire_lease("s", holder="another", ttl_us=1_000_000)
            if loss == "taken and ended":
                clock.advance(2)
            while not lease.is_lost:  # noqa: ASYNC110  # nothing tells of it
                await asyncio.sleep(0.001)


async def test_a_lease_that_was_renewed_too_late_is_free_after_the_block(clock: ManualClock) -> None:
    storage = FailsToRenew(InMemoryStorage(clock=clock))
    async with SessionManager(storage) as manager:
        await manager.create_session({}, {"name": "echo"}, {"session_id": "s"})
        async with manager.turn_lease("s", ttl=0.03) as lease, asyncio.timeout(5):
            first = lease.fence
            clock.advance(1)  # as if the event loop had been blocked
            while not lease.is_lost:  # noqa: ASYNC110  # nothing tells of it
                await asyncio.sleep(0.001)
        async with manager.turn_lease("s") as next_one:
            assert next_one.fence == first + 2


async def unsaved(storage: SessionStorage, *, saved: bool) -> tuple[SessionManager, SessionManager]:
    """Return two managers as ``two`` does; the session is written by ``save_session`` only."""
    one, other = SessionManager(storage), SessionManager(StorageWrapper(storage))
    await one.create_session({"name": "Ada"}, PROVIDER, {"session_id": "s", "auto_save": False})
    if saved:
        await one.save_session("s")
    return one, other


async def test_a_turn_that_is_not_saved_leaves_no_lease_behind(storage: SessionStorage, script: Script) -> None:
    await unsaved(storage, saved=True)
    for _ in range(2):
        process = SessionManager(StorageWrapper(storage))  # defers the session in the middle of its turn
        assert (await process.send_message("s", "Hello", busy="refuse")).position == 2
        assert (await process.send_message("s", "Again", busy="refuse")).position == 4


async def test_a_deferred_session_has_one_holder_over_all_processes(
    storage: SessionStorage, clock: ManualClock, script: Script
) -> None:
    one, other = await unsaved(storage, saved=True)
    for manager in (one, other):
        await manager.send_message("s", "Hello")
    async with one.turn_lease("s", ttl=10) as old:
        await one.send_message("s", "Mine", fence=old.fence)
        with pytest.raises(SessionBusyError):
            async with other.turn_lease("s"):
                pytest.fail("two holders")
        clock.advance(11)
        async with other.turn_lease("s") as new:
            await other.send_message("s", "Of the new holder", fence=new.fence)
            for call in (one.send_message("s", "Of the old", fence=old.fence), one.regenerate("s", fence=old.fence)):
                with pytest.raises(LeaseLostError):
                    await call
    async with one.turn_lease("s") as again:
        assert again.fence == old.fence + 2


async def test_a_session_is_saved_while_its_lease_is_held(storage: SessionStorage, script: Script) -> None:
    one, other = await unsaved(storage, saved=False)
    for _ in range(2):  # the second lease has another fence than the first one of a stored session
        async with one.turn_lease("s", ttl=60) as lease:
            await one.send_message("s", "Before", fence=lease.fence)
    async with one.turn_lease("s", ttl=60) as lease:
        await one.save_session("s")
        await one.send_message("s", "After", fence=lease.fence)
        assert (await one.storage.find_session("s")) is not None
    async with other.turn_lease("s"):
        with pytest.raises(SessionBusyError):
            async with one.turn_lease("s"):
                pytest.fail("two holders")


class ReleasesSlowly(StorageWrapper):
    """Waits before it gives back a lease."""

    def __init__(self, base: SessionStorage) -> None:
        super().__init__(base)
        self.begun, self.may_go_on = asyncio.Event(), asyncio.Event()

    async def release_lease(self, session_id: str, *, fence: int) -> bool:
        self.begun.set()
        await self.may_go_on.wait()
        return await super().release_lease(session_id, fence=fence)


async def test_a_turn_cancelled_at_its_end_gives_its_lease_back(storage: SessionStorage, script: Script) -> None:
    slow = ReleasesSlowly(storage)
    one, _ = await two(slow)
    turn = asyncio.create_task(one.send_message("s", "Question", busy="refuse"))
    await slow.begun.wait()
    turn.cancel()
    asyncio.get_running_loop().call_later(0.02, slow.may_go_on.set)
    await asyncio.wait({turn})
    assert turn.cancelled()
    async with one.turn_lease("s"):
        pass


async def test_a_turn_that_is_cancelled_anywhere_leaves_no_lease_behind(
    storage: SessionStorage, script: Script
) -> None:
    one, other = await two(storage)
    for steps in range(50):
        turn = asyncio.create_task(one.send_message("s", f"Question {steps}", busy="refuse"))
        for _ in range(steps):
            await asyncio.sleep(0)
        turn.cancel()
        await asyncio.wait({turn})
        async with other.turn_lease("s"):
            pass


async def test_a_cancelled_holder_does_not_wait_for_ever(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    class Hangs(StorageWrapper):
        async def acquire_lease(self, session_id: str, *, holder: str, ttl_us: int) -> Lease:
            await asyncio.Event().wait()
            return await super().acquire_lease(session_id, holder=holder, ttl_us=ttl_us)

    monkeypatch.setattr(leases, "_CANCEL_SECONDS", 0.01)
    one, _ = await two(Hangs(InMemoryStorage()))
    turn = asyncio.create_task(one.send_message("s", "Question", busy="refuse"))
    await asyncio.sleep(0)
    turn.cancel()
    assert await asyncio.wait({turn}, timeout=5) == ({turn}, set())
    assert turn.cancelled()


async def test_a_turn_that_is_cancelled_while_its_lease_is_refused_has_none(script: Script) -> None:
    class Refuses(StorageWrapper):
        async def acquire_lease(self, session_id: str, *, holder: str, ttl_us: int) -> Lease:
            await asyncio.sleep(0)
            raise StorageUnavailableError("memory", "gone")

    one, _ = await two(Refuses(InMemoryStorage()))
    turn = asyncio.create_task(one.send_message("s", "Question", busy="refuse"))
    await asyncio.sleep(0)
    turn.cancel()
    await asyncio.wait({turn}, timeout=5)
    assert turn.cancelled()


@pytest.mark.parametrize("on_stop", ["discard", "keep_partial"])
@pytest.mark.parametrize("is_closed", [False, True])
async def test_a_stream_whose_lease_is_lost_stores_nothing(
    storage: SessionStorage, clock: ManualClock, script: Script, on_stop: OnStop, *, is_closed: bool
) -> None:
    one, other = await two(storage)
    script.may_finish.clear()
    stream = one.stream_message("s", "Question", busy="refuse", on_stop=on_stop)
    await anext(stream)
    clock.advance(40)
    async with other.turn_lease("s"):
        if is_closed:
            await stream.aclose()
        else:
            script.may_finish.set()
            with pytest.raises(LeaseLostError):
                async for _ in stream:
                    pass
    assert await one.conversation_manager.get_messages("s") == []
    assert (await one.send_message("s", "Again", busy="refuse")).position == 2
