"""This package, in the same harness as the others: ``ConversationManager`` over each storage, as it comes."""

from collections.abc import Sequence
from typing import ClassVar

from benchmarks.peer_parts.workers.peer import Peer, serve
from benchmarks.speed_parts.backends import BACKENDS
from luminoracore_sdk.session import ConversationManager


class OurPeer(Peer):
    backend: ClassVar[str]

    async def open(self) -> None:
        self._conversations = ConversationManager(storage=BACKENDS[self.backend].storage_at(self.place))
        await self._conversations.storage.open()

    async def close(self) -> None:
        await self._conversations.storage.close()

    async def begin(self, session: str) -> None:
        await self._conversations.create_conversation(session)

    async def append(self, session: str, text: str) -> None:
        await self._conversations.add_message(session, "user", text)

    async def newest(self, session: str, count: int) -> Sequence[str]:
        return [str(message.content) for message in await self._conversations.get_recent_messages(session, count)]

    async def everything(self, session: str) -> Sequence[str]:
        return [str(message.content) async for message in self._conversations.stream_messages(session)]


class PostgreSQLStorage(OurPeer):
    backend = "postgres"


class RedisStorage(OurPeer):
    backend = "redis"


class MongoDBStorage(OurPeer):
    backend = "mongodb"


class SQLiteStorage(OurPeer):
    backend = "sqlite"


class JSONFileStorage(OurPeer):
    backend = "files"


if __name__ == "__main__":
    stores = (PostgreSQLStorage, RedisStorage, MongoDBStorage, SQLiteStorage, JSONFileStorage)
    serve({one.__name__: one for one in stores})
