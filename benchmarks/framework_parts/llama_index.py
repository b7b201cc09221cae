"""Chat stores of LlamaIndex: a tail is all messages of a key."""

# pyright: reportMissingImports=false

from functools import partial
from typing import Any

import attrs
from llama_index.core.llms import ChatMessage
from llama_index.core.storage.chat_store.sql import SQLAlchemyChatStore
from sqlalchemy.ext.asyncio import create_async_engine

from benchmarks.framework_parts.side import Pair, Place, ours_at, text
from luminoracore_sdk.integrations.llama_index import LuminoraChatStore

__all__ = ["PAIRS"]


@attrs.frozen
class _Store:
    store: Any
    engine: Any = None

    async def turn(self, session: str) -> None:
        messages = [ChatMessage(role=role, content=text()) for role in ("user", "assistant")]
        await self.store.add_messages(session, messages)

    async def tail(self, session: str) -> int:
        return len(await self.store.get_messages(session))

    async def close(self) -> None:
        await (self.store.aclose() if self.engine is None else self.engine.dispose())


async def _ours(backend: str, place: Place) -> _Store:
    return _Store(LuminoraChatStore(await ours_at(place, backend)))


async def _sqlalchemy(backend: str, place: Place) -> _Store:
    engine = create_async_engine(await place.alchemy_url(backend), pool_size=20)
    return _Store(SQLAlchemyChatStore("messages", async_engine=engine), engine)


PAIRS = (
    Pair(
        *("SQLite", "SQLAlchemyChatStore"),
        partial(_sqlalchemy, "SQLite"),
        partial(_ours, "SQLite"),
        int,
    ),
    Pair(
        *("PostgreSQL", "SQLAlchemyChatStore"),
        partial(_sqlalchemy, "PostgreSQL"),
        partial(_ours, "PostgreSQL"),
        int,
    ),
)
