"""Pydantic AI's harness: ``save_snapshot`` of the history after each message, and ``latest_snapshot``.

The step stores keep messages only as snapshots of a whole history, so this is how one message more is kept
(its StepPersistence saves one at every settled step). The newest messages come with the whole snapshot.
"""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from benchmarks.peer_parts.workers.peer import Peer, serve

steps: Any = import_module("pydantic_ai_harness.step_persistence")
messages: Any = import_module("pydantic_ai.messages")


class StepPeer(Peer):
    _store: Any

    def __init__(self, place: str, pool_size: int) -> None:
        super().__init__(place, pool_size)
        self._histories: dict[str, list[Any]] = {}

    async def begin(self, session: str) -> None:
        self._histories[session] = []
        await self._store.register_run(steps.RunRecord(run_id=session, conversation_id=session))

    async def append(self, session: str, text: str) -> None:
        history = self._histories[session]
        history.append(messages.ModelRequest(parts=[messages.UserPromptPart(content=text)]))
        snapshot = steps.ContinuableSnapshot(
            run_id=session, step_index=len(history), messages=history, conversation_id=session
        )
        await self._store.save_snapshot(snapshot)

    async def newest(self, session: str, count: int) -> Sequence[str]:
        return (await self.everything(session))[-count:]

    async def everything(self, session: str) -> Sequence[str]:
        found = await self._store.latest_snapshot(run_id=session)
        return [message.parts[0].content for message in found.messages]


class PostgresStepStore(StepPeer):
    async def open(self) -> None:
        pool: Any = import_module("asyncpg").create_pool(self.place, min_size=1, max_size=self.pool_size)
        self._pool = await pool
        self._store = steps.PostgresStepStore(self._pool)

    async def close(self) -> None:
        await self._pool.close()


class SqliteStepStore(StepPeer):
    async def open(self) -> None:
        self._store = steps.SqliteStepStore(database=self.place)


if __name__ == "__main__":
    serve({one.__name__: one for one in (PostgresStepStore, SqliteStepStore)})
