"""Sessions of the OpenAI Agents SDK."""

# pyright: reportMissingImports=false

from collections.abc import Callable
from functools import partial
from typing import Any

import attrs
from agents import SQLiteSession
from agents.extensions.memory import MongoDBSession, RedisSession, SQLAlchemySession
from pymongo import AsyncMongoClient
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import create_async_engine

from benchmarks.framework_parts.side import Pair, Place, ours_at, text
from luminoracore_sdk.integrations.openai_agents import LuminoraSession

__all__ = ["PAIRS"]


@attrs.frozen
class _Sessions:
    make: Callable[[str], Any]
    made: dict[str, Any] = attrs.field(factory=dict)

    def _session(self, session: str) -> Any:
        if session not in self.made:
            self.made[session] = self.make(session)
        return self.made[session]

    async def turn(self, session: str) -> None:
        await self._session(session).add_items(
            [{"role": "user", "content": text()}, {"role": "assistant", "content": text()}]
        )

    async def tail(self, session: str) -> int:
        return len(await self._session(session).get_items(20))

    async def close(self) -> None:
        for session in self.made.values():
            if hasattr(session, "close") and (closing := session.close()) is not None:
                await closing


async def _ours(backend: str, place: Place) -> _Sessions:
    config = await ours_at(place, backend)
    return _Sessions(lambda session: LuminoraSession(session, storage=config))


async def _sqlite(place: Place) -> _Sessions:
    return _Sessions(lambda session: SQLiteSession(session, place.file))


async def _sqlalchemy(backend: str, place: Place) -> _Sessions:
    engine = create_async_engine(await place.alchemy_url(backend), pool_size=20)
    return _Sessions(lambda session: SQLAlchemySession(session, engine=engine, create_tables=True))


async def _redis(place: Place) -> _Sessions:
    client = Redis.from_url(place.server_url("Redis"))
    return _Sessions(lambda session: RedisSession(session, redis_client=client))


async def _mongodb(place: Place) -> _Sessions:
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(place.server_url("MongoDB"))
    return _Sessions(lambda session: MongoDBSession(session, client=client, database="ours"))


PAIRS = (
    Pair("SQLite", "SQLiteSession", _sqlite, partial(_ours, "SQLite")),
    Pair(
        *("SQLite", "SQLAlchemySession"),
        partial(_sqlalchemy, "SQLite"),
        partial(_ours, "SQLite"),
    ),
    Pair("PostgreSQL", "SQLAlchemySession", partial(_sqlalchemy, "PostgreSQL"), partial(_ours, "PostgreSQL")),
    Pair("Redis", "RedisSession", _redis, partial(_ours, "Redis")),
    Pair("MongoDB", "MongoDBSession", _mongodb, partial(_ours, "MongoDB")),
)
