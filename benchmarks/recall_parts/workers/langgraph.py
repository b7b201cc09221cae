"""LangGraph: the store in memory, with an index of vectors; it compares all of them with numpy."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from benchmarks.recall_parts.workers.searcher import Searcher, serve

memory: Any = import_module("langgraph.store.memory")


class InMemoryStore(Searcher):
    async def fill(self, sessions: Mapping[str, Sequence[str]], vectors: Mapping[str, Sequence[float]]) -> None:
        def embed(texts: Sequence[str]) -> list[Sequence[float]]:
            return [vectors[text] for text in texts]

        index = {"dims": len(next(iter(vectors.values()))), "embed": embed, "fields": ["text"]}
        self._store = memory.InMemoryStore(index=index)
        for session, texts in sessions.items():
            for position, text in enumerate(texts, 1):
                await self._store.aput(("user", session), str(position), {"text": text})

    async def search(self, question: str, limit: int) -> list[tuple[str, int]]:
        found = await self._store.asearch(("user",), query=question, limit=limit)
        return [(item.namespace[1], int(item.key)) for item in found]


if __name__ == "__main__":
    serve(InMemoryStore)
