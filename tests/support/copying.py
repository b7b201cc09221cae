"""Two stores and a copy between them, for tests."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import attrs

from luminoracore_sdk.adapters.codec.values import JsonCodec
from luminoracore_sdk.application.maintenance.copy import CHUNK, Copied, Outcome, StoreCopy
from luminoracore_sdk.application.ports.records import MemoryScope, MessageRange, Payload, SessionQuery
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.testing import ManualClock
from luminoracore_sdk.testing.records import memory_record, message_records, session_record

__all__ = [
    "DAMAGED",
    "LONG",
    "OF_S",
    "OF_U",
    "Copy",
    "change_header",
    "change_memory",
    "change_message",
    "contents",
    "copy",
    "filled",
    "summary",
    "whole",
]

Copy = Callable[..., Awaitable[list[Copied]]]

OF_S, OF_U = MemoryScope("session", "s"), MemoryScope("user", "u")

DAMAGED = Payload("json", b"{")

LONG = 2 * CHUNK + 10
"""Messages of the session ``s``: three chunks."""


async def filled(storage: SessionStorage, clock: ManualClock) -> None:
    """Store a session that fills three chunks, with all that belongs to it."""
    header = attrs.evolve(session_record(user_id="u", tags=("b", "a"), ttl_us=10**12), created_at_us=123)
    await storage.put_session(header, expected_version=0)
    await storage.append_messages("s", message_records(LONG))
    for number, key in enumerate("cab"):
        clock.advance(1)
        entry = memory_record(key, value=key, retention=-number, expires_at_us=clock.now_us + 10**9)
        await storage.put_memory(attrs.evolve(entry, created_at_us=clock.now_us - 5))
    await storage.put_memory(memory_record("name", kind="user", owner="u", value="Ada"))


async def copy(
    source: SessionStorage,
    target: SessionStorage,
    clock: ManualClock,
    query: SessionQuery | None = None,
    *,
    overwrite: bool = False,
    dry_run: bool = False,
) -> list[Copied]:
    """Copy what a query asks for, by default everything."""
    made = StoreCopy(source, target, values=JsonCodec(), clock=clock, overwrite=overwrite, dry_run=dry_run)
    return [copied async for copied in made.run(query or SessionQuery())]


def summary(copied: Sequence[Copied]) -> list[tuple[str, str, str, int, int]]:
    """Return the outcomes of a copy, without digests and reasons."""
    return [(one.kind, one.owner_id, one.outcome.value, one.messages, one.memories) for one in copied]


def whole(outcome: Outcome) -> list[tuple[str, str, str, int, int]]:
    """Return the summary of a copy of what ``filled`` stored."""
    return [("user", "u", outcome, 0, 1), ("session", "s", outcome, LONG, 3)]


async def contents(storage: SessionStorage) -> object:
    """Return everything that ``filled`` stored, without the fields that a store sets."""
    found = await storage.find_session("s")
    assert found is not None
    memories = [*await storage.list_memories(OF_S), *await storage.list_memories(OF_U)]
    return (
        attrs.evolve(found, version=0, updated_at_us=0),
        await storage.read_messages("s", MessageRange()),
        [attrs.evolve(memory, updated_at_us=0) for memory in memories],
    )


async def change_header(storage: SessionStorage, **changes: Any) -> None:
    """Put the header again, changed."""
    record = await storage.find_session("s")
    assert record is not None
    await storage.put_session(attrs.evolve(record, **changes))


async def change_message(storage: SessionStorage, **changes: Any) -> None:
    """Store the last message anew, changed."""
    (message,) = await storage.read_messages("s", MessageRange(after=LONG - 1))
    await storage.truncate_messages("s", after=LONG - 1)
    await storage.append_messages("s", [attrs.evolve(message, **changes)])


async def change_memory(storage: SessionStorage, scope: MemoryScope, key: str, **changes: Any) -> None:
    """Store a memory anew, changed."""
    record = await storage.find_memory(scope, key)
    assert record is not None
    await storage.delete_memory(scope, key)
    await storage.put_memory(attrs.evolve(record, **changes))
