"""``SessionManager.export_user``: what is stored of a user, as lines that an import reads."""

import json
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from luminoracore_sdk.adapters.codec.values import JsonCodec
from luminoracore_sdk.application.exchange.export_import import OnExisting, SessionExchange
from luminoracore_sdk.application.ports.records import MessageRange
from luminoracore_sdk.application.services import Services
from luminoracore_sdk.domain.json_value import JSONObject
from luminoracore_sdk.domain.values import STORE_OWNER
from luminoracore_sdk.session import InMemoryStorage, SessionManager
from luminoracore_sdk.utils.exceptions import SessionNotFoundError, ValidationError
from tests.support.exchange import reader
from tests.support.users import canary, fill_user, records_of, session_of

USER_LINE: JSONObject = {
    "format": "luminora-user",
    "version": 1,
    "user_id": "ada",
    "memories": [{"key": "k", "value": 1, "created_at": "2026-01-02T03:04:05Z"}],
}


async def exported(manager: SessionManager, user_id: str) -> str:
    return "".join([piece async for piece in manager.export_user(user_id)])


def importer(storage: Any, services: Services) -> Callable[..., Any]:
    """Return a function that imports the lines of an export."""
    exchange = SessionExchange(storage=storage, services=services, values=JsonCodec())

    async def import_lines(text: str, existing: OnExisting = OnExisting.REFUSE) -> int:
        memories = 0
        for line in text.splitlines():
            if (user := reader().read_user(json.loads(line))) is not None:
                memories += await exchange.import_user(user, existing=existing)
            else:
                await exchange.import_session(reader().read_line(json.loads(line)), existing=existing)
        return memories

    return import_lines


async def test_an_export_imported_elsewhere_is_the_same_export(manager: SessionManager, services: Services) -> None:
    for user in ("ada", "bob"):
        await fill_user(manager, user, sessions=2)
    text = await exported(manager, "ada")
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["format"] for line in lines] == ["luminora-session", "luminora-session", "luminora-user"]
    assert [line.get("session_id") for line in lines] == [session_of("ada", 0), session_of("ada", 1), None]
    assert [len(line["memories"]) for line in lines] == [1, 1, 2]
    assert canary("bob") not in text
    async with InMemoryStorage() as storage, SessionManager(storage, services=services) as other:
        assert await importer(storage, services)(text) == 2
        assert await exported(other, "ada") == text
        assert await records_of(storage, "bob") == []
        assert (await other.memory_manager.of_user("ada").list_memories()) == (
            await manager.memory_manager.of_user("ada").list_memories()
        )


async def test_an_imported_session_is_listed_as_it_was(manager: SessionManager, services: Services) -> None:
    config = {"session_id": "s", "user_id": "ada", "title": "A title", "attributes": {"a": 1}, "tags": ["t"]}
    await manager.create_session({"name": "Ada"}, {"name": "echo"}, {**config, "archived": True, "pinned": True})
    await manager.send_message("s", "Hello")
    text = await exported(manager, "ada")
    async with InMemoryStorage() as storage, SessionManager(storage, services=services) as other:
        await importer(storage, services)(text)
        (row,) = (await other.list_conversations("ada", archived=True, pinned=True)).conversations
        (original,) = (await manager.list_conversations("ada", archived=True, pinned=True)).conversations
        assert row == attrs.evolve(original, last_activity=row.last_activity)
        assert row.title == "A title"


async def test_unsaved_sessions_are_exported_too(manager: SessionManager) -> None:
    await fill_user(manager, "ada", auto_save=False)
    session, _ = (await exported(manager, "ada")).splitlines()
    assert len(json.loads(session)["messages"]) == 4


async def test_a_user_of_whom_nothing_is_stored_has_an_empty_export(manager: SessionManager) -> None:
    await fill_user(manager, "bob")
    assert await exported(manager, "ada") == ""


@pytest.mark.parametrize("user_id", ["", None, STORE_OWNER])
async def test_only_a_user_can_be_exported(manager: SessionManager, user_id: Any) -> None:
    with pytest.raises(ValidationError, match="user id"):
        await exported(manager, user_id)


async def test_sessions_deleted_meanwhile_are_omitted(services: Services) -> None:
    class Shrinking(InMemoryStorage):
        async def query_sessions(self, query: Any) -> Any:
            page = await super().query_sessions(query)
            await self.delete_session(session_of("ada", 0))
            return page

    async with Shrinking() as storage, SessionManager(storage, services=services) as manager:
        await fill_user(manager, "ada", sessions=2)
        lines = (await exported(manager, "ada")).splitlines()
        assert [json.loads(line).get("session_id") for line in lines] == [session_of("ada", 1), None]


async def test_a_session_deleted_in_its_line_is_an_error(services: Services) -> None:
    class Shrinking(InMemoryStorage):
        async def read_messages(self, session_id: str, span: MessageRange) -> Any:
            if is_exporting:
                await self.delete_session(session_id)
            return await super().read_messages(session_id, span)

    is_exporting = False
    async with Shrinking() as storage, SessionManager(storage, services=services) as manager:
        await fill_user(manager, "ada", sessions=2)
        is_exporting = True
        with pytest.raises(SessionNotFoundError):
            await exported(manager, "ada")


async def test_memories_that_exist_are_refused_skipped_or_replaced(services: Services) -> None:
    line = json.dumps(USER_LINE)
    two = json.dumps({**USER_LINE, "memories": [*USER_LINE["memories"], {**USER_LINE["memories"][0], "key": "new"}]})
    changed = two.replace('"value": 1', '"value": 2')
    async with InMemoryStorage() as storage, SessionManager(storage, services=services) as manager:
        memories = manager.memory_manager.of_user("ada")
        await memories.store_memory("own", 0)
        import_lines = importer(storage, services)
        assert await import_lines(line) == 1
        with pytest.raises(ValidationError, match="user 'ada' has some of these memories"):
            await import_lines(changed)
        assert await memories.get_memory("new") is None
        assert await import_lines(changed, OnExisting.SKIP) == 1
        assert [await memories.get_memory(key) for key in ("own", "k", "new")] == [0, 1, 2]
        assert await import_lines(changed, OnExisting.REPLACE) == 2
        assert [await memories.get_memory(key) for key in ("own", "k", "new")] == [0, 2, 2]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"version": 2}, "version 1"),
        ({"user_id": ""}, "user id"),
        ({"user_id": STORE_OWNER}, "reserved"),
        ({"more": 1}, "more"),
        ({"memories": [{"key": "k"}]}, r"memories\[0\]"),
        ({"memories": [*USER_LINE["memories"]] * 2}, "memory key"),
    ],
)
def test_an_invalid_line_of_a_user_is_refused(change: JSONObject, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        reader().read_user({**USER_LINE, **change})


@pytest.mark.parametrize("value", [[], {"messages": []}, {"format": "luminora-session"}])
def test_a_line_of_another_kind_is_no_users(value: Any) -> None:
    assert reader().read_user(value) is None


async def test_memories_of_tenants_and_agents_are_moved_too(manager: SessionManager, services: Services) -> None:
    await manager.for_user("ada", "acme").store_memory("k", "of ada")
    await manager.memory_manager.of_agent("guide").store_memory("k", "of the guide")
    text = "".join([piece async for piece in manager.export_user("ada", "acme")])
    text += "".join([piece async for piece in exchange_of(manager, services).export_user("luminora:a=guide")])
    async with InMemoryStorage() as storage, SessionManager(storage, services=services) as other:
        assert await importer(storage, services)(text) == 2
        assert await other.for_user("ada", "acme").get_memory("k") == "of ada"
        assert await other.memory_manager.of_agent("guide").get_memory("k") == "of the guide"
        assert await other.for_user("ada").get_memory("k") is None


def exchange_of(manager: SessionManager, services: Services) -> SessionExchange:
    return SessionExchange(storage=manager.storage, services=services, values=JsonCodec())
