"""OpenAI Agents SDK: the session that can be searched.

It finds the user's messages of one session that contain a string as a whole, in the order of the session. Here every
session is asked, one after the other.
"""

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from benchmarks.recall_parts.workers.searcher import Searcher, serve

memory: Any = import_module("agents.extensions.memory")


class AdvancedSQLiteSession(Searcher):
    async def fill(self, sessions: Mapping[str, Sequence[str]], vectors: Mapping[str, Sequence[float]]) -> None:  # noqa: ARG002
        self._sessions: dict[str, Any] = {}
        for name, texts in sessions.items():
            session = memory.AdvancedSQLiteSession(session_id=name, db_path=self.place, create_tables=True)
            await session.add_items([{"role": "user", "content": text} for text in texts])
            self._sessions[name] = session

    async def search(self, question: str, limit: int) -> list[tuple[str, int]]:
        found: list[tuple[str, int]] = []
        for name, session in self._sessions.items():
            found += [(name, turn["turn"]) for turn in await session.find_turns_by_content(question)]
        return found[:limit]

    async def close(self) -> None:
        for session in self._sessions.values():
            session.close()


if __name__ == "__main__":
    serve(AdvancedSQLiteSession)
