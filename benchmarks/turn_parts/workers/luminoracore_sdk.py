"""This package: ``send_message`` of a SessionManager over each storage, as it comes."""

from collections.abc import AsyncIterator, Sequence
from typing import Any, ClassVar

from benchmarks.speed_parts.backends import BACKENDS
from benchmarks.turn_parts.workers.taker import ANSWER, MEMORIES, TurnTaker, serve
from luminoracore_sdk.providers import BaseProvider, ProviderFactory
from luminoracore_sdk.session import Message, SessionManager
from luminoracore_sdk.types.provider import ChatMessage, ChatResponse


class Instant(BaseProvider):
    """Answer at once."""

    seen: ClassVar[int] = 0

    def get_default_model(self) -> str:
        return "instant-1"

    async def chat(
        self,
        messages: list[ChatMessage],
        temperature: float = 0.7,  # noqa: ARG002
        max_tokens: int | None = None,  # noqa: ARG002
        **kwargs: Any,  # noqa: ARG002
    ) -> ChatResponse:
        type(self).seen = sum(message.role != "system" for message in messages)
        return ChatResponse(ANSWER, finish_reason="stop", model="instant-1")

    async def stream_chat(
        self, messages: list[ChatMessage], temperature: float = 0.7, max_tokens: int | None = None, **kwargs: Any
    ) -> AsyncIterator[ChatResponse]:
        yield await self.chat(messages, temperature, max_tokens, **kwargs)


class Turns(TurnTaker):
    backend: ClassVar[str]

    async def open(self) -> None:
        ProviderFactory.register_provider("instant", Instant)
        self._storage = BACKENDS[self.backend].storage_at(self.place)
        await self._storage.open()
        self._manager = SessionManager(self._storage)
        self._ids: dict[str, str] = {}

    async def begin(self, session: str, texts: Sequence[str]) -> None:
        config = {"context_window_size": 100_000}
        made = await self._manager.create_session({"name": "Ada"}, {"name": "instant"}, config)
        self._ids[session] = made
        said = [Message("assistant" if number % 2 else "user", text) for number, text in enumerate(texts)]
        await self._manager.conversation_manager.append(made, said)
        for name, value in MEMORIES.items():
            await self._manager.memory_manager.store_memory(made, name, value)

    async def turn(self, session: str, text: str) -> str:
        response = await self._manager.send_message(self._ids[session], text)
        self.seen = Instant.seen
        return response.content

    async def close(self) -> None:
        await self._manager.close()
        await self._storage.close()


class PostgreSQLStorage(Turns):
    backend = "postgres"


class RedisStorage(Turns):
    backend = "redis"


class MongoDBStorage(Turns):
    backend = "mongodb"


class SQLiteStorage(Turns):
    backend = "sqlite"


if __name__ == "__main__":
    serve(PostgreSQLStorage, RedisStorage, MongoDBStorage, SQLiteStorage)
