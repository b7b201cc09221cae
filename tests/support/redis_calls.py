"""The calls of a Redis storage by name, its connections, and storages that are interrupted between requests."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import attrs
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection

from luminoracore_sdk.adapters.storage.redis import RedisStorage
from luminoracore_sdk.application.ports.clock import Clock
from luminoracore_sdk.application.ports.records import HeaderTexts, MemoryScope, MessageRange, SessionQuery
from luminoracore_sdk.testing.records import (
    json_payload,
    memory_record,
    message_record,
    message_records,
    session_record,
)
from tests.support.rewriting import NEW, to_new
from tests.support.servers.valkey import ValkeyServer

__all__ = [
    "ALL",
    "CALLS",
    "READS",
    "SCOPE",
    "WRITES",
    "Call",
    "HookedPool",
    "assert_free",
    "connected",
    "fill",
    "hooked",
]

ALL = MessageRange()
SCOPE = MemoryScope("session", "s")

_FIRST = attrs.evolve(message_record("m1"), position=1)
_TEXT = json_payload({"text": "a session"})
_NO_TEXTS = HeaderTexts(card=None, first=None, last=None)
_TEXTS = attrs.evolve(_NO_TEXTS, card=_TEXT)

Call = Callable[[RedisStorage], Awaitable[object]]

READS: dict[str, Call] = {
    "find": lambda storage: storage.find_session("s"),
    "query": lambda storage: storage.query_sessions(SessionQuery()),
    "read": lambda storage: storage.read_messages("s", ALL),
    "find message": lambda storage: storage.find_message("s", "m1"),
    "read turn": lambda storage: storage.read_turn("s", newest=2),
    "find memory": lambda storage: storage.find_memory(SCOPE, "k"),
    "list memories": lambda storage: storage.list_memories(SCOPE),
    "list owners": lambda storage: storage.list_memory_owners(),
    "ping": lambda storage: storage.ping(),
}
WRITES: dict[str, Call] = {
    "put": lambda storage: storage.put_session(session_record()),
    "append": lambda storage: storage.append_messages("s", [message_record("next")]),
    "truncate": lambda storage: storage.truncate_messages("s", after=1),
    "replace tail": lambda storage: storage.replace_tail("s", after=1, messages=[message_record("next")]),
    "fork": lambda storage: storage.fork_session("s", session_record("f"), at=1),
    "take a lease": lambda storage: storage.acquire_lease("s", holder="h", ttl_us=1),
    "rewrite texts": lambda storage: storage.rewrite_texts("s", old=_NO_TEXTS, new=_TEXTS),
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


async def assert_free(storage: RedisStorage) -> None:
    """Assert that no call that has ended holds the connection of a storage with ``max_connections=1``."""
    async with asyncio.timeout(5):
        await storage.ping()


def connected(server: ValkeyServer) -> int:
    """Return how many clients a server has, without the one that asks."""
    return int(server.command("INFO", "clients")["connected_clients"]) - 1


class HookedPool(ConnectionPool):
    """A pool that calls a function after each request, to let something happen between two requests.

    Args:
        port: The server's.
        hook: What to call; a request that it causes itself calls nothing.
    """

    def __init__(self, port: int, hook: Callable[[], Awaitable[object]]) -> None:
        super().__init__(port=port)
        self._hook = hook
        self._is_calling = False

    async def release(self, connection: AbstractConnection) -> None:
        """Give a connection back, then call the function."""
        await super().release(connection)
        if not self._is_calling:
            self._is_calling = True
            try:
                await self._hook()
            finally:
                self._is_calling = False


@asynccontextmanager
async def hooked(
    server: ValkeyServer, hook: Callable[[], Awaitable[object]], clock: Clock | None = None
) -> AsyncIterator[RedisStorage]:
    """Open a storage that calls a function after each of its requests, but not while it opens."""
    is_open = False

    async def call() -> None:
        if is_open:
            await hook()

    async with (
        Redis.from_pool(HookedPool(server.port, call)) as client,
        RedisStorage(client=client, clock=clock) as storage,
    ):
        is_open = True
        yield storage
        is_open = False
