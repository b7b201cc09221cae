"""Google's ADK: the memory service in the process. It counts the words in common, and returns ten messages at most."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from benchmarks.peer_parts.workers.peer import APP
from benchmarks.recall_parts.workers.searcher import Searcher, serve

memories: Any = import_module("google.adk.memory")
adk_sessions: Any = import_module("google.adk.sessions")
events: Any = import_module("google.adk.events")
types: Any = import_module("google.genai.types")

USER = "user"


class InMemoryMemoryService(Searcher):
    async def open(self) -> None:
        self._service = memories.InMemoryMemoryService()
        self._places: dict[str, tuple[str, int]] = {}

    async def fill(self, sessions: Mapping[str, Sequence[str]], vectors: Mapping[str, Sequence[float]]) -> None:  # noqa: ARG002
        for name, texts in sessions.items():
            said = [self._event(name, position, text) for position, text in enumerate(texts, 1)]
            session = adk_sessions.Session(id=name, app_name=APP, user_id=USER, events=said)
            await self._service.add_session_to_memory(session)

    def _event(self, session: str, position: int, text: str) -> Any:
        content = types.Content(role="user", parts=[types.Part(text=text)])
        event = events.Event(id=f"{session}:{position}", author="user", invocation_id="bench", content=content)
        self._places[event.id] = session, position
        return event

    async def search(self, question: str, limit: int) -> list[tuple[str, int]]:
        found = await self._service.search_memory(app_name=APP, user_id=USER, query=question)
        return [self._places[memory.id] for memory in found.memories[:limit]]


if __name__ == "__main__":
    serve(InMemoryMemoryService)
