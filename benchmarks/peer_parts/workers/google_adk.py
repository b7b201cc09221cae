"""Google's ADK: ``append_event`` and ``get_session`` of DatabaseSessionService, on PostgreSQL and SQLite.

The Session that a runner holds is kept, and gets each event, as in a runner.
"""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from benchmarks.peer_parts.workers.peer import APP, Peer, serve

sessions: Any = import_module("google.adk.sessions")
base: Any = import_module("google.adk.sessions.base_session_service")
events: Any = import_module("google.adk.events")
types: Any = import_module("google.genai.types")

USER = "user"


class DatabaseSessionService(Peer):
    _sessions: dict[str, Any]

    async def open(self) -> None:
        self._sessions = {}
        pool = {"pool_size": self.pool_size, "max_overflow": 0}
        url = self.place.replace("postgresql://", "postgresql+asyncpg://")
        if "://" not in url:
            url, pool = f"sqlite+aiosqlite:///{url}", {}
        self._service = sessions.DatabaseSessionService(db_url=url, **pool)

    async def begin(self, session: str) -> None:
        self._sessions[session] = await self._service.create_session(app_name=APP, user_id=USER, session_id=session)

    async def append(self, session: str, text: str) -> None:
        content = types.Content(role="user", parts=[types.Part(text=text)])
        event = events.Event(author="user", invocation_id="bench", content=content)
        await self._service.append_event(self._sessions[session], event)

    async def newest(self, session: str, count: int) -> Sequence[str]:
        return await self._texts(session, base.GetSessionConfig(num_recent_events=count))

    async def everything(self, session: str) -> Sequence[str]:
        return await self._texts(session, None)

    async def _texts(self, session: str, config: Any) -> list[str]:
        found = await self._service.get_session(app_name=APP, user_id=USER, session_id=session, config=config)
        return [event.content.parts[0].text for event in found.events]

    async def close(self) -> None:
        await self._service.close()


if __name__ == "__main__":
    serve({"DatabaseSessionService": DatabaseSessionService})
