"""Message histories of LangChain; that of MongoDB has no await, and each call runs in a thread."""

# pyright: reportMissingImports=false

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import attrs
from langchain_core.messages import AIMessage, HumanMessage
from langchain_mongodb import MongoDBChatMessageHistory
from langchain_postgres import PostgresChatMessageHistory
from psycopg import AsyncConnection
from pymongo import MongoClient

from benchmarks.framework_parts.side import Pair, Place, ours_at, text
from luminoracore_sdk.integrations.langchain import LuminoraChatMessageHistory

__all__ = ["PAIRS"]

_TABLE = "message_store"


@attrs.frozen
class _Histories:
    make: Callable[[str], Any]
    end: Callable[[], Awaitable[object]] | None = None
    in_threads: bool = False
    made: dict[str, Any] = attrs.field(factory=dict)

    def _history(self, session: str) -> Any:
        if session not in self.made:
            self.made[session] = self.make(session)
        return self.made[session]

    async def turn(self, session: str) -> None:
        messages = [HumanMessage(text()), AIMessage(text())]
        history = self._history(session)
        if self.in_threads:
            await asyncio.to_thread(history.add_messages, messages)
        else:
            await history.aadd_messages(messages)

    async def tail(self, session: str) -> int:
        history = self._history(session)
        if self.in_threads:
            return len(await asyncio.to_thread(lambda: history.messages))
        return len(await history.aget_messages())

    async def close(self) -> None:
        if self.end is not None:
            await self.end()
        else:
            for history in self.made.values():
                await history.aclose()


async def _ours(backend: str, place: Place) -> _Histories:
    config = await ours_at(place, backend)
    return _Histories(lambda session: LuminoraChatMessageHistory(session, storage=config))


async def _postgres(place: Place) -> _Histories:
    connection = await AsyncConnection.connect(await place.url())
    await PostgresChatMessageHistory.acreate_tables(connection, _TABLE)

    def made(session: str) -> Any:
        name = str(uuid5(NAMESPACE_URL, session))
        return PostgresChatMessageHistory(_TABLE, name, async_connection=connection)

    return _Histories(made, connection.close)


async def _mongodb(place: Place) -> _Histories:
    client: MongoClient[dict[str, Any]] = MongoClient(place.server_url("MongoDB"))

    def made(session: str) -> Any:
        return MongoDBChatMessageHistory(None, session, database_name="ours", client=client)

    return _Histories(made, partial(asyncio.to_thread, client.close), in_threads=True)


PAIRS = (
    Pair("PostgreSQL", "PostgresChatMessageHistory", _postgres, partial(_ours, "PostgreSQL"), int),
    Pair("MongoDB", "MongoDBChatMessageHistory", _mongodb, partial(_ours, "MongoDB"), int),
)
