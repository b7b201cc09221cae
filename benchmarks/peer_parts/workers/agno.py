"""Agno's AsyncPostgresDb: ``upsert_run`` of a run with one message, and ``get_session``.

An agent writes the session's own row too after each run; that is left out. The engine is the one that
Agno's own factory makes, with the pool's size given.
"""

import time
import uuid
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from benchmarks.peer_parts.workers.peer import AGENT, Peer, serve

postgres: Any = import_module("agno.db.postgres")
engines: Any = import_module("agno.db.postgres.engine")
models: Any = import_module("agno.models.message")
runs: Any = import_module("agno.run.agent")
states: Any = import_module("agno.run.base")
sessions: Any = import_module("agno.session")


class AsyncPostgresDb(Peer):
    _lengths: dict[str, int]

    async def open(self) -> None:
        self._lengths = {}
        url = self.place.replace("postgresql://", "postgresql+asyncpg://")
        engine = engines.create_async_postgres_engine(url, pool_size=self.pool_size, max_overflow=0)
        self._database = postgres.AsyncPostgresDb(db_engine=engine)

    async def begin(self, session: str) -> None:
        made = sessions.AgentSession(session_id=session, agent_id=AGENT, created_at=int(time.time()))
        assert await self._database.upsert_session(made) is not None  # it logs errors, and raises none
        self._lengths[session] = 0

    async def append(self, session: str, text: str) -> None:
        run = runs.RunOutput(
            run_id=str(uuid.uuid4()),
            session_id=session,
            agent_id=AGENT,
            messages=[models.Message(role="user", content=text)],
            status=states.RunStatus.completed,
        )
        await self._database.upsert_run(run=run, session_id=session, run_index=self._lengths[session])
        self._lengths[session] += 1

    async def newest(self, session: str, count: int) -> Sequence[str]:
        return await self._texts(session, count)

    async def everything(self, session: str) -> Sequence[str]:
        return await self._texts(session, None)

    async def _texts(self, session: str, limit: int | None) -> list[str]:
        found = await self._database.get_session(session, runs_limit=limit)
        return [message.content for run in found.runs for message in run.messages]

    async def close(self) -> None:
        await self._database.close()
        await self._database.db_engine.dispose()


if __name__ == "__main__":
    serve({"AsyncPostgresDb": AsyncPostgresDb})
