"""Session repositories of Strands, which have no await: each call runs in a thread."""

# pyright: reportMissingImports=false

import asyncio
from functools import partial
from typing import Any

import attrs
from strands.session.file_session_manager import FileSessionManager
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from benchmarks.framework_parts.side import Pair, Place, ours_at, text
from luminoracore_sdk.integrations.strands import LuminoraSessionRepository

__all__ = ["PAIRS"]


@attrs.frozen
class _Repository:
    repository: Any
    counts: dict[str, int] = attrs.field(factory=dict)

    async def turn(self, session: str) -> None:
        await asyncio.to_thread(self._turn, session)

    def _turn(self, session: str) -> None:
        if session not in self.counts:
            self.repository.create_session(Session(session, SessionType.AGENT))
            self.repository.create_agent(session, SessionAgent("agent", {}, {}))
        number = self.counts.setdefault(session, 0)
        for index, role in enumerate(("user", "assistant"), number):
            message: Any = {"role": role, "content": [{"text": text()}]}
            self.repository.create_message(session, "agent", SessionMessage(message, index))
        self.counts[session] = number + 2

    async def tail(self, session: str) -> int:
        offset = max(self.counts[session] - 20, 0)
        return len(await asyncio.to_thread(self.repository.list_messages, session, "agent", offset=offset))

    async def close(self) -> None:
        if hasattr(self.repository, "close"):
            self.repository.close()


async def _ours(backend: str, place: Place) -> _Repository:
    return _Repository(LuminoraSessionRepository(await ours_at(place, backend)))


async def _files(place: Place) -> _Repository:
    return _Repository(FileSessionManager("unused", storage_dir=str(place.folder / "own")))


PAIRS = (
    Pair("files", "FileSessionManager", _files, partial(_ours, "files")),
    Pair("files", "FileSessionManager, ours on SQLite", _files, partial(_ours, "SQLite")),
)
