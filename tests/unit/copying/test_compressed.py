"""Copying a store that has a dictionary of its own: the target is readable without it."""

import pytest

from luminoracore_sdk.adapters.compression import dictionary_registry as known
from luminoracore_sdk.adapters.compression.dictionary import Dictionary
from luminoracore_sdk.adapters.compression.dictionary_store import choose_dictionary, save_dictionary
from luminoracore_sdk.application.maintenance.copy import Outcome
from luminoracore_sdk.application.ports.records import MemoryScope, MessageRange, Payload
from luminoracore_sdk.optimization import Optimizer
from luminoracore_sdk.session import InMemoryStorage, OptimizedStorageWrapper
from luminoracore_sdk.testing.records import memory_record, message_record, session_record
from tests.support.copying import Copy


async def test_records_that_need_an_own_dictionary_are_copied_plain(
    source: InMemoryStorage, target: InMemoryStorage, copied: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = Dictionary(b"what lies only in the source " * 4)
    await save_dictionary(source, trained)
    await choose_dictionary(source, trained.id)
    writer, long = OptimizedStorageWrapper(source, Optimizer()), "what lies only in the source " * 9
    await writer.put_session(session_record("long", text=long, user_id="u"))
    await writer.append_messages("long", [message_record("m", text=long)])
    await writer.put_memory(memory_record("k", owner="long", value=long))
    await writer.put_memory(memory_record("k", kind="user", owner="u", value=long))
    assert {one.outcome for one in await copied()} == {Outcome.COPIED}
    monkeypatch.setattr(known, "TRAINED", {})  # as in another process
    written = await payloads(target, "long")
    assert {payload.encoding for payload in written} == {"json"}
    assert await target.load_session("long") == {"text": long}


async def payloads(storage: InMemoryStorage, session_id: str) -> list[Payload]:
    header = await storage.find_session(session_id)
    assert header is not None
    assert header.payload is not None
    messages = await storage.read_messages(session_id, MessageRange())
    scopes = MemoryScope("session", session_id), MemoryScope("user", "u")
    memories = [memory for scope in scopes for memory in await storage.list_memories(scope)]
    assert (len(messages), len(memories)) == (1, 3)
    return [header.payload, *(one.payload for one in messages), *(one.payload for one in memories)]
