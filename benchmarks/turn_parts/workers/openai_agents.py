"""OpenAI Agents SDK: ``Runner.run`` with a session that returns the newest 50 items; tracing is off."""

from abc import abstractmethod
from collections.abc import Sequence
from importlib import import_module
from itertools import count
from typing import Any

from benchmarks.turn_parts.workers.taker import ANSWER, NEWEST, SYSTEM, TurnTaker, serve

agents: Any = import_module("agents")
memory: Any = import_module("agents.extensions.memory")
responses: Any = import_module("openai.types.responses")


class Instant(agents.Model):  # type: ignore[misc]
    """A model as the SDK's own tests have it."""

    def __init__(self, taker: TurnTaker) -> None:
        self._taker = taker
        self._ids = count(1)

    async def get_response(self, system_instructions: Any, input: Any, *_: Any, **__: Any) -> Any:  # noqa: A002, ARG002
        self._taker.seen = len(input)
        text = responses.ResponseOutputText(type="output_text", text=ANSWER, annotations=[], logprobs=[])
        message = responses.ResponseOutputMessage(
            id=f"msg_{next(self._ids)}", type="message", role="assistant", status="completed", content=[text]
        )
        return agents.ModelResponse(output=[message], usage=agents.Usage(), response_id=None)

    def stream_response(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError


class Agents(TurnTaker):
    def __init__(self, place: str, pool_size: int) -> None:
        super().__init__(place, pool_size)
        self._agent = agents.Agent(name="Ada", instructions=SYSTEM, model=Instant(self))
        settings = memory.SessionSettings(limit=NEWEST) if hasattr(memory, "SessionSettings") else None
        settings = settings or import_module("agents.memory").SessionSettings(limit=NEWEST)
        self._config = agents.RunConfig(tracing_disabled=True, session_settings=settings)
        self._sessions: dict[str, Any] = {}

    @abstractmethod
    def _session(self, name: str) -> Any: ...

    async def begin(self, session: str, texts: Sequence[str]) -> None:
        self._sessions[session] = self._session(session)
        roles = ("user", "assistant")
        items = [{"role": roles[number % 2], "content": text} for number, text in enumerate(texts)]
        await self._sessions[session].add_items(items)

    async def turn(self, session: str, text: str) -> str:
        result = await agents.Runner.run(self._agent, text, session=self._sessions[session], run_config=self._config)
        return str(result.final_output)


class SQLAlchemySession(Agents):
    async def open(self) -> None:
        sqlalchemy: Any = import_module("sqlalchemy.ext.asyncio")
        url = self.place.replace("postgresql://", "postgresql+asyncpg://")
        pool = {"pool_size": self.pool_size, "max_overflow": 0}
        if "://" not in url:
            url, pool = f"sqlite+aiosqlite:///{url}", {}
        self._engine = sqlalchemy.create_async_engine(url, **pool)
        await memory.SQLAlchemySession("first", engine=self._engine, create_tables=True).get_items()

    def _session(self, name: str) -> Any:
        return memory.SQLAlchemySession(name, engine=self._engine)

    async def close(self) -> None:
        await self._engine.dispose()


class SQLiteSession(Agents):
    async def open(self) -> None:
        """Do nothing: each session opens the file."""

    def _session(self, name: str) -> Any:
        return agents.SQLiteSession(name, self.place)

    async def close(self) -> None:
        for session in self._sessions.values():
            session.close()


class RedisSession(Agents):
    async def open(self) -> None:
        self._client = import_module("redis.asyncio").from_url(self.place)

    def _session(self, name: str) -> Any:
        return memory.RedisSession(name, redis_client=self._client)

    async def close(self) -> None:
        await self._client.aclose()


class MongoDBSession(Agents):
    async def open(self) -> None:
        self._client = import_module("pymongo").AsyncMongoClient(self.place, w="majority", journal=True)

    def _session(self, name: str) -> Any:
        return memory.MongoDBSession(name, client=self._client, database="peer")

    async def close(self) -> None:
        await self._client.close()


if __name__ == "__main__":
    serve(SQLAlchemySession, SQLiteSession, RedisSession, MongoDBSession)
