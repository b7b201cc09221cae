"""Session services of the Google ADK."""

# pyright: reportMissingImports=false

from functools import partial
from typing import Any

import attrs
from google.adk.events.event import Event
from google.adk.sessions.base_session_service import GetSessionConfig
from google.adk.sessions.database_session_service import DatabaseSessionService
from google.adk.sessions.sqlite_session_service import SqliteSessionService
from google.genai.types import Content, Part

from benchmarks.framework_parts.side import Pair, Place, ours_at, text
from luminoracore_sdk.integrations.google_adk import LuminoraSessionService

__all__ = ["PAIRS"]


@attrs.frozen
class _Service:
    service: Any
    sessions: dict[str, Any] = attrs.field(factory=dict)

    async def turn(self, session: str) -> None:
        if session not in self.sessions:
            self.sessions[session] = await self.service.create_session(**_names(session))
        for author, role in (("user", "user"), ("agent", "model")):
            content = Content(role=role, parts=[Part(text=text())])
            await self.service.append_event(self.sessions[session], Event(author=author, content=content))

    async def tail(self, session: str) -> int:
        config = GetSessionConfig(num_recent_events=20)
        return len((await self.service.get_session(**_names(session), config=config)).events)

    async def close(self) -> None:
        if hasattr(self.service, "close"):
            await self.service.close()


def _names(session: str) -> dict[str, str]:
    return {"app_name": "app", "user_id": "user", "session_id": session}


async def _ours(backend: str, place: Place) -> _Service:
    return _Service(LuminoraSessionService(await ours_at(place, backend)))


async def _database(backend: str, place: Place) -> _Service:
    return _Service(DatabaseSessionService(await place.alchemy_url(backend)))


async def _sqlite(place: Place) -> _Service:
    return _Service(SqliteSessionService(place.file))


PAIRS = (
    Pair(
        *("SQLite", "DatabaseSessionService"),
        partial(_database, "SQLite"),
        partial(_ours, "SQLite"),
    ),
    Pair("SQLite", "SqliteSessionService", _sqlite, partial(_ours, "SQLite")),
    Pair(
        *("PostgreSQL", "DatabaseSessionService"),
        partial(_database, "PostgreSQL"),
        partial(_ours, "PostgreSQL"),
    ),
)
