"""The process that ``crash_trial`` kills: it appends turns and prints which of them were acknowledged.

It is run by its path instead of its module name, so that it does not import Hypothesis and pytest. Arguments: the
factory as ``module:name``, the location of the store, the name of this run, the number of concurrent writers.
"""

import asyncio
import os
import sys
from importlib import import_module

from luminoracore_sdk.adapters.codec.values import JsonCodec
from luminoracore_sdk.application.ports.records import (
    MemoryPut,
    MemoryQuery,
    MemoryRecord,
    MemoryScope,
    MessageRecord,
    SessionRecord,
)
from luminoracore_sdk.application.ports.storage import SessionStorage

_CODEC = JsonCodec()
MOST_MEMORIES = 3


def turn(session_id: str, name: str) -> list[MessageRecord]:
    """Return a question and its answer, whose texts are derived from their ids."""
    return [
        MessageRecord(
            message_id=f"{name}-{role}",
            role=role,
            created_at_us=1,
            payload=_CODEC.encode({"session": session_id, "text": f"{name}-{role} " * 20}),
            brief=_CODEC.encode(f"{name}-{role}"),
            adds={"tokens": 3},
            index=_CODEC.encode({"terms": f"{name}-{role}"}),
        )
        for role in ("user", "assistant")
    ]


def say(*words: str) -> None:
    """Write a line to the pipe before the next statement runs."""
    os.write(1, (" ".join(words) + "\n").encode())


async def remember(storage: SessionStorage, session_id: str, name: str) -> None:
    """Put one memory into a scope with at most ``MOST_MEMORIES``."""
    scope = MemoryScope("session", session_id)
    record = MemoryRecord(scope=scope, key=name, payload=_CODEC.encode(name))
    await storage.put_memory(record, max_entries=MOST_MEMORIES)


async def change(storage: SessionStorage, session_id: str, name: str) -> None:
    """Put memories of a user that all have one name, and delete the one that only the change before had."""
    scope = MemoryScope("user", session_id)
    before = await storage.list_memories(scope, MemoryQuery(prefix="of ", with_payload=False))
    puts = [MemoryPut(MemoryRecord(scope=scope, key=key, payload=_CODEC.encode(name))) for key in changed(name)]
    gone = {memory.key for memory in before} - {put.record.key for put in puts}
    await storage.change_memories(scope, puts, deletes=sorted(gone))


def changed(name: str) -> list[str]:
    """Return the keys that a scope has after ``change``."""
    return ["first", f"of {name}", "second"]


async def write(storage: SessionStorage, session_id: str, run: str) -> None:
    """Append turns to one session until killed, with a put and memories after every fifth one."""
    record = SessionRecord(session_id=session_id, payload=_CODEC.encode({"session": session_id}))
    if await storage.find_session(session_id) is None:
        await storage.put_session(record)
    number = 0
    while True:
        number += 1
        name = f"{run}-{number}"
        await storage.append_messages(session_id, turn(session_id, name))
        say("stored", session_id, name)
        if number % 5 == 0:
            await storage.put_session(record)
            await remember(storage, session_id, name)
            await change(storage, session_id, name)
            say("remembered", session_id, name)


async def main(factory: str, location: str, run: str, writers: str) -> None:
    """Write until killed."""
    module, _, name = factory.partition(":")
    storage: SessionStorage = getattr(import_module(module), name)(location)
    say("opening")
    async with storage:
        say("open")
        await asyncio.gather(*(write(storage, f"session-{number}", run) for number in range(int(writers))))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
