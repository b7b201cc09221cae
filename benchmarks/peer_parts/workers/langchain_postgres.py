"""LangChain's chat history on PostgreSQL: ``aadd_messages`` and ``aget_messages``.

Its connection is the caller's, and "allows to reuse the underlying connection object across multiple
instantiations": as many as the floor's pool has are shared by all sessions. They commit by themselves, which
saves each append the statements around its one INSERT. There is no way to read only a part.
"""

import itertools
import uuid
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any

from benchmarks.peer_parts.workers.peer import Peer, serve

histories: Any = import_module("langchain_postgres")
messages: Any = import_module("langchain_core.messages")
psycopg: Any = import_module("psycopg")

TABLE = "chat_history"


class PostgresChatMessageHistory(Peer):
    _next: Iterator[Any]

    async def open(self) -> None:
        self._histories: dict[str, Any] = {}
        self._connections = [
            await psycopg.AsyncConnection.connect(self.place, autocommit=True) for _ in range(self.pool_size)
        ]
        self._next = itertools.cycle(self._connections)
        await histories.PostgresChatMessageHistory.acreate_tables(self._connections[0], TABLE)

    async def begin(self, session: str) -> None:
        name = str(uuid.uuid5(uuid.NAMESPACE_OID, session))  # it must be a UUID
        self._histories[session] = histories.PostgresChatMessageHistory(TABLE, name, async_connection=next(self._next))

    async def append(self, session: str, text: str) -> None:
        await self._histories[session].aadd_messages([messages.HumanMessage(content=text)])

    async def newest(self, session: str, count: int) -> Sequence[str]:
        return (await self.everything(session))[-count:]

    async def everything(self, session: str) -> Sequence[str]:
        return [message.content for message in await self._histories[session].aget_messages()]

    async def close(self) -> None:
        for connection in self._connections:
            await connection.close()


if __name__ == "__main__":
    serve({"PostgresChatMessageHistory": PostgresChatMessageHistory})
