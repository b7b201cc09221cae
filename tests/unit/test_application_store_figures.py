"""StoreFigures: which bytes and tokens are counted, and what is reported instead."""

from typing import Any

import attrs
import pytest

from luminoracore_sdk.adapters.codec.values import JsonCodec
from luminoracore_sdk.application.maintenance.measure import SessionFigures, StoreFigures
from luminoracore_sdk.application.ports.records import IndexRewrite, MemoryRecord, MemoryScope, Payload, SessionQuery
from luminoracore_sdk.application.prompt_tokens import prompt_tokens
from luminoracore_sdk.application.services import Services
from luminoracore_sdk.bootstrap.managers import default_services
from luminoracore_sdk.domain.values import STORE_OWNER
from luminoracore_sdk.optimization import Optimizer
from luminoracore_sdk.session import InMemoryStorage, OptimizedStorageWrapper, SessionManager, SessionStorage
from luminoracore_sdk.testing import ManualClock
from luminoracore_sdk.testing.records import memory_record, message_records, session_record

PROVIDER = {"name": "echo"}
ID = "s"


class Length:
    """Counts characters."""

    def count(self, text: str) -> int:
        return len(text)


@pytest.fixture
def services() -> Services:
    return attrs.evolve(default_services(), clock=ManualClock(), tokens=Length())


@pytest.fixture
def backend() -> InMemoryStorage:
    return InMemoryStorage(clock=ManualClock())


async def run(
    storage: SessionStorage,
    backend: SessionStorage | None = None,
    tools: Services | None = None,
    query: SessionQuery | None = None,
) -> list[SessionFigures]:
    figures = StoreFigures(storage, backend or storage, values=JsonCodec(), services=tools)
    return [one async for one in figures.run(query)]


async def talk(storage: SessionStorage, services: Services, turns: int = 2, **config: Any) -> SessionManager:
    """Create a session with turns and a memory."""
    manager = SessionManager(storage, services=services)
    await manager.create_session({"name": "Ada"}, PROVIDER, {"session_id": ID, **config})
    for number in range(turns):
        await manager.send_message(ID, f"Question {number}")
    await manager.memory_manager.store_memory(ID, "name", "Grace")
    return manager


async def payloads(storage: SessionStorage, session_id: str = ID) -> list[Payload]:
    record = await storage.find_session(session_id)
    assert record is not None
    assert record.payload is not None
    memories = await storage.list_memories(MemoryScope("session", session_id))
    messages = [message.payload async for message in storage.stream_messages(session_id)]
    return [record.payload, *messages, *(memory.payload for memory in memories)]


async def test_every_payload_is_measured_as_json_and_as_stored(backend: InMemoryStorage, services: Services) -> None:
    storage = OptimizedStorageWrapper(backend, Optimizer())
    await talk(storage, services)
    plain, stored = await payloads(storage), await payloads(backend)
    (figures,) = await run(storage, backend)
    assert figures == SessionFigures(
        session_id=ID,
        messages=4,
        memories=1,
        json_bytes=sum(len(payload.data) for payload in plain),
        stored_bytes=sum(len(payload.data) + len(payload.encoding) for payload in stored),
    )
    assert figures.stored_bytes < figures.json_bytes


async def test_a_query_selects_and_orders_the_sessions(backend: InMemoryStorage) -> None:
    for session_id, user in (("a", "u"), ("b", None), ("c", "u")):
        await backend.put_session(session_record(session_id, user_id=user))
    await backend.append_messages("c", message_records(2))
    found = await run(backend, query=SessionQuery(user_id="u", newest_first=True))
    assert [(one.session_id, one.messages) for one in found] == [("c", 2), ("a", 0)]


async def test_a_stores_own_records_belong_to_no_session(backend: InMemoryStorage) -> None:
    own = memory_record("dictionary", kind="user", owner=STORE_OWNER, value="x" * 98)
    await backend.put_memory(own)
    assert await StoreFigures(backend, backend, values=JsonCodec(), services=None).own_bytes() == 104
    assert await run(backend) == []


# -- tokens --------------------------------------------------------------------------------------


async def expected_tokens(manager: SessionManager, services: Services, messages: int, *, remembered: bool) -> Any:
    said = await manager.conversation_manager.get_recent_messages(ID, messages) if messages else []
    entries = await manager.memory_manager.list_entries(ID) if remembered else []
    return prompt_tokens(said, entries, services.tokens, services.notations)


@pytest.mark.parametrize(
    ("config", "messages", "remembered"),
    [
        ({}, 6, True),
        ({"max_history_length": 3}, 3, True),
        ({"max_history": 2}, 2, True),
        ({"max_history_length": 2**70, "max_history": 2**70}, 6, True),
        ({"max_history_length": 0}, 0, True),
        ({"session_type": "stateless"}, 0, True),
        ({"include_context_in_prompt": False}, 6, False),
        ({"memory_enabled": False}, 6, False),
    ],
)
async def test_tokens_of_the_prompts_content_are_counted(
    backend: InMemoryStorage, services: Services, config: dict[str, Any], messages: int, remembered: bool
) -> None:
    manager = await talk(backend, services, turns=3, **config)
    (figures,) = await run(backend, tools=services)
    assert figures.tokens == await expected_tokens(manager, services, messages, remembered=remembered)
    assert figures.messages == 6


async def test_a_callers_own_document_has_no_tokens(backend: InMemoryStorage, services: Services) -> None:
    await backend.save_session("mine", {"v1": True})
    await backend.append_messages("mine", message_records(1))
    (figures,) = await run(backend, tools=services)
    assert (figures.json_bytes, figures.tokens) == (len('{"v1":true}{"content":"text of m1"}'), None)


async def test_without_services_no_tokens_are_counted(backend: InMemoryStorage, services: Services) -> None:
    await talk(backend, services)
    assert [one.tokens for one in await run(backend)] == [None]


# -- what cannot be counted ----------------------------------------------------------------------


async def damage_header(storage: InMemoryStorage, payload: Payload) -> None:
    record = await storage.find_session(ID)
    assert record is not None
    await storage.put_session(attrs.evolve(record, payload=payload))


async def damage_memory(storage: InMemoryStorage, payload: Payload) -> None:
    await storage.put_memory(MemoryRecord(scope=MemoryScope("session", ID), key="k", payload=payload))


async def damage_message(storage: InMemoryStorage, payload: Payload) -> None:
    await storage.append_messages(ID, [attrs.evolve(message_records(1)[0], payload=payload)])


@pytest.mark.parametrize("place", [damage_header, damage_memory, damage_message])
@pytest.mark.parametrize("payload", [Payload("json", b"{"), Payload("json+aes256gcm:k", b"\xff")])
async def test_an_unreadable_session_is_reported(
    backend: InMemoryStorage, services: Services, place: Any, payload: Payload
) -> None:
    await talk(backend, services)
    await backend.put_session(session_record("z"))
    await place(backend, payload)
    reason = "not valid json" if payload.encoding == "json" else "its encoding is 'json+aes256gcm:k'"
    bad, good = await run(backend)
    assert attrs.evolve(bad, reason=None) == SessionFigures(session_id=ID)
    assert (bad.reason or "").partition(" is damaged: ")[2].startswith(reason)
    assert (good.session_id, good.reason) == ("z", None)


async def test_a_damaged_document_is_reported(backend: InMemoryStorage, services: Services) -> None:
    await talk(backend, services)
    await damage_header(backend, Payload("json", b'{"v":1}'))
    (figures,) = await run(backend, tools=services)
    assert figures.reason == "memory storage: session 's' is damaged: its document has no 'personality'"


async def test_a_session_deleted_after_listing_is_skipped() -> None:
    class Vanishing(InMemoryStorage):
        """Deletes a session before its second read, which is that of the backend."""

        looks = 0

        async def find_session(self, session_id: str) -> Any:
            self.looks += 1
            if self.looks == 2:
                await self.delete_session(session_id)
            return await super().find_session(session_id)

    storage = Vanishing(clock=ManualClock())
    for session_id in ("a", "b"):
        await storage.put_session(session_record(session_id))
    assert [one.session_id for one in await run(storage)] == ["b"]


async def test_messages_appended_meanwhile_are_not_measured(services: Services) -> None:
    class Busy(InMemoryStorage):
        """Appends a message after each read of the header."""

        async def find_session(self, session_id: str) -> Any:
            record = await super().find_session(session_id)
            self.appended = getattr(self, "appended", 0) + 1
            await self.append_messages(session_id, message_records(1, prefix=f"{self.appended}-"))
            return record

    storage = Busy(clock=ManualClock())
    await storage.put_session(session_record(ID))
    (figures,) = await run(storage)
    header = session_record(ID).payload
    assert header is not None
    assert (figures.messages, figures.json_bytes) == (0, len(header.data))
    assert figures.stored_bytes == len(header.data) + len("json")


async def test_indexes_of_messages_are_counted(backend: InMemoryStorage) -> None:
    await backend.put_session(session_record(ID))
    await backend.append_messages(ID, message_records(2))
    (before,) = await run(backend)
    change = IndexRewrite(position=2, message_id="m2", old=None, new=Payload("terms", bytes(100)))
    assert await backend.rewrite_index(ID, [change]) == 1
    (after,) = await run(backend)
    assert (after.stored_bytes - before.stored_bytes, after.json_bytes) == (105, before.json_bytes)
