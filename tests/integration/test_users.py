"""``SessionManager.for_user``: no call reaches the sessions or memories of another user."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import pytest

from luminoracore_sdk.application.services import Services
from luminoracore_sdk.application.users import UserSessions
from luminoracore_sdk.domain.values import STORE_OWNER
from luminoracore_sdk.session import InMemoryStorage, SessionManager, SessionStorage
from luminoracore_sdk.testing import ManualClock
from luminoracore_sdk.types.session import SessionConfig
from luminoracore_sdk.utils.exceptions import (
    LuminoraCoreSDKError,
    SessionExistsError,
    SessionNotFoundError,
    TurnInterruptedError,
    ValidationError,
)
from tests.support.backends import EMBEDDED, SERVERS_LATER, backend_fixture
from tests.support.recall import searched
from tests.support.scripted_provider import Script
from tests.support.users import canary, fill_user, records_of, session_of

USERS = [f"user {number}" for number in range(10)]
BACKENDS = [*EMBEDDED, *SERVERS_LATER]

Call = Callable[[UserSessions, str, str], Awaitable[object]]


async def drained(deltas: AsyncIterator[Any]) -> str:
    return "".join([delta.content async for delta in deltas])


async def load(user: UserSessions, session_id: str, _: str) -> object:
    return await user.load_session(session_id, provider_config={"name": "echo"})


async def stopped(user: UserSessions, session_id: str) -> list[bool]:
    return [await user.stop(session_id)]


async def leased(user: UserSessions, session_id: str) -> object:
    async with user.turn_lease(session_id) as lease:
        return lease.fence


async def first_change(user: UserSessions, session_id: str) -> object:
    async with aclosing(user.watch(session_id)) as changes:
        return await anext(changes)


CALLS: dict[str, Call] = {
    "get_session": lambda user, session, _: user.get_session(session),
    "load_session": load,
    "save_session": lambda user, session, _: user.save_session(session),
    "delete_session": lambda user, session, _: user.delete_session(session),
    "update_personality": lambda user, session, _: user.update_personality(session, {"name": "changed"}),
    "update_provider": lambda user, session, _: user.update_provider(session, {"name": "echo", "model": "other"}),
    "update_session": lambda user, session, _: user.update_session(session, metadata={"title": "changed"}),
    "suggest_title": lambda user, session, _: user.suggest_title(session),
    "fork": lambda user, session, _: user.fork(session),
    "send_message": lambda user, session, _: user.send_message(session, "hello"),
    "stream_message": lambda user, session, _: drained(user.stream_message(session, "hello")),
    "edit_message": lambda user, session, message: user.edit_message(session, message, "changed"),
    "stream_edit_message": lambda user, session, message: drained(user.stream_edit_message(session, message, "new")),
    "regenerate": lambda user, session, message: user.regenerate(session, message),
    "stream_regenerate": lambda user, session, _: drained(user.stream_regenerate(session)),
    "alternatives": lambda user, session, message: user.alternatives(session, message),
    "choose": lambda user, session, message: user.choose(session, message, 0),
    "rewind": lambda user, session, _: user.rewind(session, 0),
    "annotate": lambda user, session, message: user.annotate(session, message, {"label": 1}),
    "redact": lambda user, session, message: user.redact(session, message),
    "delete_messages": lambda user, session, message: user.delete_messages(session, [message]),
    "clear_conversation": lambda user, session, _: user.clear_conversation(session),
    "get_conversation": lambda user, session, _: user.get_conversation(session),
    "get_messages": lambda user, session, _: user.get_messages(session),
    "usage": lambda user, session, _: user.usage(session),
    "turn_lease": lambda user, session, _: leased(user, session),
    "stop": lambda user, session, _: stopped(user, session),
    "watch": lambda user, session, _: first_change(user, session),
    "get_session_info": lambda user, session, _: user.get_session_info(session),
    "recall": lambda user, session, _: user.recall("canary asks", session_ids=[session], limit=100, around=2),
}
"""Every call on a session: the handle, the session, the first message of it."""

OWN_CALLS: dict[str, Callable[[UserSessions], Awaitable[object]]] = {
    "create_session": lambda user: user.create_session({"name": canary(user.user_id)}, {"name": "echo"}),
    "list_sessions": lambda user: user.list_sessions(),
    "list_conversations": lambda user: user.list_conversations(archived=None, limit=1000),
    "usage": lambda user: user.usage(),
    "store_memory": lambda user: user.store_memory("city", canary(user.user_id)),
    "history": lambda user: user.history("city"),
    "get_memory": lambda user: user.get_memory("city"),
    "list_memories": lambda user: user.list_memories(),
    "list_entries": lambda user: user.list_entries(),
    "search_memories": lambda user: user.search_memories("canary"),
    "recall": lambda user: user.recall("canary of user asks", limit=1000, around=2, explain=True),
    "delete_memory": lambda user: user.delete_memory("city"),
    "clear_memories": lambda user: user.clear_memories(),
}
"""Every call that names no session."""


backend = backend_fixture(BACKENDS)


@pytest.fixture
async def storage(open_storage: Callable[[], SessionStorage]) -> AsyncIterator[SessionStorage]:
    async with searched(open_storage()) as opened:
        yield opened


async def outcome(call: Awaitable[object]) -> object:
    """Return what a call returns, or the error that it raises, as values that can be compared."""
    try:
        return await call
    except LuminoraCoreSDKError as exc:
        return type(exc), str(exc)


def test_every_public_method_has_a_canary() -> None:
    public = {name for name, value in vars(UserSessions).items() if callable(value) and not name.startswith("_")}
    assert CALLS.keys() | OWN_CALLS.keys() == public


async def test_ten_users_reach_nothing_of_each_other(manager: SessionManager, storage: SessionStorage) -> None:
    owners = [*USERS, None]
    for owner in owners:
        await fill_user(manager, owner)
    before = {owner: await records_of(storage, owner) for owner in owners}
    assert all(canary(owner) in repr(records) for owner, records in before.items())
    reached = []
    for name in USERS:
        user = manager.for_user(name)
        for owner in set(owners) - {name}:
            foreign, absent = session_of(owner), session_of("unknown")
            for method, call in CALLS.items():
                found = repr(await outcome(call(user, foreign, f"{canary(owner)}-0")))
                missing = repr(await outcome(call(user, absent, f"{canary(owner)}-0")))
                if found.replace(foreign, absent) != missing:
                    reached.append((name, owner, method, found))
    assert reached == []
    assert {owner: await records_of(storage, owner) for owner in owners} == before


async def test_calls_without_a_session_stay_with_their_user(manager: SessionManager, storage: SessionStorage) -> None:
    for owner in (*USERS, None):
        await fill_user(manager, owner)
    for name in USERS:
        others = [canary(owner) for owner in (*USERS, None) if owner != name]
        before = {owner: await records_of(storage, owner) for owner in (*USERS, None) if owner != name}
        for method, call in OWN_CALLS.items():
            found = repr(await call(manager.for_user(name)))
            assert canary(name) in found or method != "recall"
            assert [word for word in others if word in found] == []
        assert {owner: await records_of(storage, owner) for owner in before} == before


@pytest.mark.parametrize("method", CALLS)
async def test_every_call_works_on_a_session_of_the_user(manager: SessionManager, method: str) -> None:
    await fill_user(manager, "ada")
    user = manager.for_user("ada")
    session_id = session_of("ada")
    message_id = f"{canary('ada')}-0"
    if method in {"alternatives", "choose"}:
        message_id = (await user.regenerate(session_id)).id or ""
    found = await outcome(CALLS[method](user, session_id, message_id))
    assert found
    assert not isinstance(found, tuple)


async def test_the_handle_creates_sessions_of_its_user(manager: SessionManager) -> None:
    ada = manager.for_user("ada")
    first = await ada.create_session({"name": "A"}, {"name": "echo"})
    second = await ada.create_session({"name": "A"}, {"name": "echo"}, SessionConfig(user_id="ada", tags=["t"]))
    await manager.for_user("bob").create_session({"name": "B"}, {"name": "echo"}, {"session_id": "taken"})
    assert sorted(await ada.list_sessions()) == sorted([first, second])
    assert await ada.list_sessions(tag="t") == [second]
    session = await manager.get_session(first)
    assert session is not None
    assert session.config.user_id == "ada"
    with pytest.raises(ValidationError, match="names another user"):
        await ada.create_session({"name": "A"}, {"name": "echo"}, {"user_id": "bob"})
    with pytest.raises(SessionExistsError):
        await ada.create_session({"name": "A"}, {"name": "echo"}, {"session_id": "taken"})
    assert len(await manager.list_sessions()) == 3


async def test_the_memory_of_the_handle_is_that_of_the_users_sessions(manager: SessionManager) -> None:
    await fill_user(manager, "ada")
    ada = manager.for_user("ada")
    assert await ada.store_memory("city", "Turin", 60, importance=0.9, category="preference") is True
    assert await manager.memory_manager.get_memory(session_of("ada"), "city", scope="user") == "Turin"
    (found,) = await ada.search_memories("turin", 5)
    assert (found["category"], found["importance"]) == ("preference", 0.9)
    assert await ada.delete_memory("city") is True
    assert await ada.clear_memories() == 1
    assert await ada.list_memories() == []


@pytest.mark.parametrize("user_id", ["", None, 7, STORE_OWNER])
def test_a_handle_needs_the_id_of_a_user(user_id: Any) -> None:
    with pytest.raises(ValidationError, match="user id"):
        SessionManager().for_user(user_id)


async def test_a_session_saved_on_demand_belongs_to_its_user_too(manager: SessionManager) -> None:
    await fill_user(manager, "ada", auto_save=False)
    bob, ada = manager.for_user("bob"), manager.for_user("ada")
    assert await bob.save_session(session_of("ada")) is False
    assert await bob.get_messages(session_of("ada")) == []
    assert await manager.storage.session_exists(session_of("ada")) is False
    assert len(await ada.get_messages(session_of("ada"))) == 4
    assert await ada.save_session(session_of("ada")) is True
    assert await manager.storage.session_exists(session_of("ada")) is True


async def test_calls_neither_wait_for_nor_interrupt_the_turn_of_another_user(
    manager: SessionManager, script: Script
) -> None:
    bob, ada = manager.for_user("bob"), manager.for_user("ada")
    await bob.create_session({"name": "B"}, {"name": "scripted"}, {"session_id": "s"})
    script.may_answer.clear()
    running = asyncio.create_task(bob.send_message("s", "hello"))
    await script.asked.wait()
    for call in CALLS.values():
        async with asyncio.timeout(5):
            found = await outcome(call(ada, "s", "m"))
            assert repr(found).replace("'s'", "'unknown'") == repr(await outcome(call(ada, "unknown", "m")))
    with pytest.raises(SessionNotFoundError):
        await ada.send_message("s", "hello", busy="refuse")
    script.may_answer.set()
    assert (await running).position == 2


async def test_a_fork_is_not_completed_in_the_session_of_another_user(manager: SessionManager) -> None:
    await fill_user(manager, "ada")
    bob = manager.for_user("bob")
    parent = {"session_id": session_of("ada"), "position": 4}
    await bob.create_session({"name": "B"}, {"name": "echo"}, {"session_id": "guessed"})
    await bob.update_session("guessed", metadata={"parent": parent})
    with pytest.raises(SessionExistsError):
        await manager.for_user("ada").fork(session_of("ada"), new_session_id="guessed")
    assert await bob.get_messages("guessed") == []


async def exchange(manager: SessionManager, session_id: str) -> None:
    """Delete a session, and create one of the same id for bob."""
    await manager.delete_session(session_id)
    config = {"session_id": session_id, "user_id": "bob"}
    await manager.create_session({"name": "canary"}, {"name": "scripted"}, config)


async def test_a_waiting_turn_does_not_reach_the_session_of_the_next_user(
    manager: SessionManager, script: Script
) -> None:
    ada = manager.for_user("ada")
    await ada.create_session({"name": "A"}, {"name": "scripted"}, {"session_id": "s"})
    script.may_answer.clear()
    running = asyncio.create_task(ada.send_message("s", "first"))
    await script.asked.wait()
    waiting = asyncio.create_task(ada.send_message("s", "second"))
    await asyncio.sleep(0)
    changing = asyncio.create_task(exchange(manager, "s"))
    with pytest.raises(TurnInterruptedError):
        await running
    script.may_answer.set()
    await changing
    with pytest.raises(SessionNotFoundError):
        await waiting
    assert await manager.for_user("bob").get_messages("s") == []


@pytest.mark.parametrize("method", ["get_conversation", "get_messages", "alternatives"])
async def test_a_read_overtaken_by_the_next_user_returns_nothing(
    services: Services, script: Script, clock: ManualClock, method: str
) -> None:
    class Overtaken(InMemoryStorage):
        """Lets bob take the session over once ada's header was read."""

        is_armed = False

        async def find_session(self, session_id: str) -> Any:
            found = await super().find_session(session_id)
            if self.is_armed:
                self.is_armed = False
                clock.advance(1)
                await exchange(manager, session_id)
                await manager.send_message(session_id, "canary")
                await manager.regenerate(session_id)
            return found

    storage = Overtaken(clock=clock)
    async with SessionManager(storage, services=services) as manager:
        ada = manager.for_user("ada")
        await ada.create_session({"name": "A"}, {"name": "scripted"}, {"session_id": "s"})
        storage.is_armed = True
        found = await outcome(CALLS[method](ada, "s", "m"))
        absent = await outcome(CALLS[method](ada, "unknown", "m"))
        assert storage.is_armed is False
        assert len(await manager.for_user("bob").get_messages("s")) == 2
        assert repr(found) == repr(absent).replace("unknown", "s") or method == "alternatives"
        assert "canary" not in repr(found)


async def test_a_deletion_overtaken_by_the_next_user_deletes_nothing(
    services: Services, script: Script, clock: ManualClock
) -> None:
    class Overtaken(InMemoryStorage):
        is_armed = False

        async def find_session(self, session_id: str) -> Any:
            found = await super().find_session(session_id)
            if self.is_armed:
                self.is_armed = False
                await exchange(manager, session_id)
            return found

    storage = Overtaken(clock=clock)
    async with SessionManager(storage, services=services) as manager:
        ada = manager.for_user("ada")
        for method, answer in (("delete_session", False), ("rewind", SessionNotFoundError)):
            await ada.create_session({"name": "A"}, {"name": "scripted"}, {"session_id": method})
            storage.is_armed = True
            found = await outcome(CALLS[method](ada, method, "m"))
            assert (found[0] if isinstance(found, tuple) else found) == answer
            assert await manager.for_user("bob").get_session(method) is not None


async def test_the_key_of_one_user_is_not_used_for_the_next_one(manager: SessionManager, script: Script) -> None:
    config = {"name": "scripted", "api_key": "sk-ada"}
    await manager.for_user("ada").create_session({"name": "A"}, config, {"session_id": "s"})
    assert await manager.for_user("bob").update_provider("s", {"name": "scripted"}) is False
    await manager.for_user("ada").send_message("s", "hi")
    await manager.storage.delete_session("s")  # as another process does
    await manager.for_user("bob").create_session({"name": "B"}, {"name": "scripted"}, {"session_id": "s"})
    await manager.for_user("bob").send_message("s", "hi")
    assert [call.config.api_key for call in script.calls] == ["sk-ada", None]
