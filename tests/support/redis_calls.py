"""The calls of a Redis storage by name, and what it holds of connections meanwhile."""

from collections.abc import Awaitable, Callable
from typing import Any

import attrs

from luminoracore_sdk.adapters.storage.redis import RedisStorage
from luminoracore_sdk.application.ports.records import MemoryScope, MessageRange, SessionQuery
from luminoracore_sdk.testing.records import (
    json_payload,
    memory_record,
    message_record,
    message_records,
    session_record,
)
from tests.support.rewriting import NEW, to_new

__all__ = ["ALL", "CALLS", "READS", "SCOPE", "WRITES", "Call", "connections", "fill", "in_use"]

ALL = MessageRange()
SCOPE = MemoryScope("session", "s")

_FIRST = attrs.evolve(message_record("m1"), position=1)
_TEXT = json_payload({"text": "a session"})

Call = Callable[[RedisStorage], Awaitable[object]]

READS: dict[str, Call] = {
    "find": lambda storage: storage.find_session("s"),
    "query": lambda storage: storage.query_sessions(SessionQuery()),
    "read": lambda storage: storage.read_messages("s", ALL),
    "find memory": lambda storage: storage.find_memory(SCOPE, "k"),
    "list memories": lambda storage: storage.list_memories(SCOPE),
    "ping": lambda storage: storage.ping(),
}
WRITES: dict[str, Call] = {
    "put": lambda storage: storage.put_session(session_record()),
    "append": lambda storage: storage.append_messages("s", [message_record("next")]),
    "truncate": lambda storage: storage.truncate_messages("s", after=1),
    "put memory": lambda storage: storage.put_memory(memory_record("k")),
    "rewrite": lambda storage: storage.rewrite_session("s", old=_TEXT, new=NEW),
    "rewrite messages": lambda storage: storage.rewrite_messages("s", to_new([_FIRST])),
    "rewrite memory": lambda storage: storage.rewrite_memory(SCOPE, "k", old=memory_record("k").payload, new=NEW),
    "delete memory": lambda storage: storage.delete_memory(SCOPE, "k"),
    "clear": lambda storage: storage.clear_memories(SCOPE),
    "delete": lambda storage: storage.delete_session("s"),
}
CALLS = READS | WRITES


async def fill(storage: RedisStorage) -> None:
    """Put session ``s`` with three messages and a memory."""
    await storage.put_session(session_record())
    await storage.append_messages("s", message_records(3))
    await storage.put_memory(memory_record("k"))


def connections(storage: RedisStorage) -> int:
    """Return how many connections of a storage are open."""
    assert storage._opened is not None
    return sum(connection.is_connected for connection in storage._opened[0]._connections())


def in_use(storage: RedisStorage) -> int:
    """Return how many connections of a storage are checked out."""
    assert storage._opened is not None
    link: Any = storage._opened[0]
    if hasattr(link, "_pool"):
        return len(link._pool._in_use_connections)
    nodes = link._client.nodes_manager.nodes_cache.values()
    return sum(len(node._connections) - len(node._free) for node in nodes)
