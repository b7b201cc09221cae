"""Strands' FileSessionManager: ``create_message``, which its ``append_message`` calls, and ``list_messages``.

It is synchronous; each call is in a worker thread, like the floor's. It does not call fsync.
"""

import asyncio
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from benchmarks.peer_parts.workers.peer import AGENT, Peer, serve

managers: Any = import_module("strands.session.file_session_manager")
types: Any = import_module("strands.types.session")


class FileSessionManager(Peer):
    _managers: dict[str, Any]
    _lengths: dict[str, int]

    async def open(self) -> None:
        self._managers, self._lengths = {}, {}

    async def begin(self, session: str) -> None:
        manager = managers.FileSessionManager(session_id=session, storage_dir=self.place)
        agent = types.SessionAgent(agent_id=AGENT, state={}, conversation_manager_state={})
        manager.create_agent(session, agent)
        self._managers[session], self._lengths[session] = manager, 0

    async def append(self, session: str, text: str) -> None:
        message = {"role": "user", "content": [{"text": text}]}
        await asyncio.to_thread(self._write, session, message)

    def _write(self, session: str, message: Any) -> None:
        entry = types.SessionMessage.from_message(message, self._lengths[session])
        self._managers[session].create_message(session, AGENT, entry)
        self._lengths[session] += 1

    async def newest(self, session: str, count: int) -> Sequence[str]:
        return await asyncio.to_thread(self._texts, session, max(self._lengths[session] - count, 0))

    async def everything(self, session: str) -> Sequence[str]:
        return await asyncio.to_thread(self._texts, session, 0)

    def _texts(self, session: str, offset: int) -> list[str]:
        found = self._managers[session].list_messages(session, AGENT, offset=offset)
        return [entry.to_message()["content"][0]["text"] for entry in found]


if __name__ == "__main__":
    serve({"FileSessionManager": FileSessionManager})
