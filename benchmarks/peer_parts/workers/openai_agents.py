"""Sessions of the OpenAI Agents SDK: ``add_items`` and ``get_items`` of one object a session.

Engines and clients are shared by all sessions, as each module's docstring shows it; AsyncSQLiteSession has no
such way and opens a connection a session. Tables are made once before ("defaults to False for production").
"""

from abc import abstractmethod
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from benchmarks.peer_parts.workers.peer import Peer, serve

memory: Any = import_module("agents.extensions.memory")


class AgentsPeer(Peer):
    def __init__(self, place: str, pool_size: int) -> None:
        super().__init__(place, pool_size)
        self._sessions: dict[str, Any] = {}

    @abstractmethod
    def _session(self, name: str) -> Any: ...

    async def begin(self, session: str) -> None:
        self._sessions[session] = self._session(session)

    async def append(self, session: str, text: str) -> None:
        await self._sessions[session].add_items([{"role": "user", "content": text}])

    async def newest(self, session: str, count: int) -> Sequence[str]:
        return [item["content"] for item in await self._sessions[session].get_items(limit=count)]

    async def everything(self, session: str) -> Sequence[str]:
        return [item["content"] for item in await self._sessions[session].get_items()]


class SQLAlchemySession(AgentsPeer):
    async def open(self) -> None:
        sqlalchemy: Any = import_module("sqlalchemy.ext.asyncio")
        url = self.place.replace("postgresql://", "postgresql+asyncpg://")
        self._engine = sqlalchemy.create_async_engine(url, pool_size=self.pool_size, max_overflow=0)
        first = memory.SQLAlchemySession("first", engine=self._engine, create_tables=True)
        await first.get_items()

    def _session(self, name: str) -> Any:
        return memory.SQLAlchemySession(name, engine=self._engine)

    async def close(self) -> None:
        await self._engine.dispose()


class RedisSession(AgentsPeer):
    async def open(self) -> None:
        self._client = import_module("redis.asyncio").from_url(self.place)

    def _session(self, name: str) -> Any:
        return memory.RedisSession(name, redis_client=self._client)

    async def close(self) -> None:
        await self._client.aclose()


class MongoDBSession(AgentsPeer):
    async def open(self) -> None:
        self._client = import_module("pymongo").AsyncMongoClient(self.place, w="majority", journal=True)

    def _session(self, name: str) -> Any:
        return memory.MongoDBSession(name, client=self._client, database="peer")

    async def close(self) -> None:
        await self._client.close()


class AsyncSQLiteSession(AgentsPeer):
    async def open(self) -> None:
        """Do nothing: each session opens the file."""

    def _session(self, name: str) -> Any:
        return memory.AsyncSQLiteSession(name, self.place)

    async def close(self) -> None:
        for session in self._sessions.values():
            await session.close()


if __name__ == "__main__":
    serve({one.__name__: one for one in (SQLAlchemySession, RedisSession, MongoDBSession, AsyncSQLiteSession)})
