"""The searches of other frameworks and of PostgreSQL, over the same messages."""

import re
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg

from benchmarks.peer_parts.catalogue import Case
from benchmarks.peer_parts.environments import python_of
from benchmarks.peer_parts.link import started

__all__ = ["SEARCH_CASES", "TS_RANKS", "PeerSearch", "SearchCase", "searched_by", "ts_ranked"]

PeerSearch = Callable[[str, int], Awaitable[tuple[list[tuple[str, int]], float]]]
"""Returns the sessions and positions that a question finds, the best first, and the seconds that it took."""


class SearchCase(Case):
    """One search; ``store`` is the class that has it."""

    @property
    def worker(self) -> str:
        """The module to run."""
        return f"benchmarks.recall_parts.workers.{self.peer.replace('-', '_')}"


SEARCH_CASES = (
    SearchCase(
        peer="openai-agents",
        store="AdvancedSQLiteSession",
        backend="sqlite",
        note="find_turns_by_content, the question as one string",
    ),
    SearchCase(peer="google-adk", store="InMemoryMemoryService", backend="memory", note="words in common"),
    SearchCase(peer="langgraph", store="InMemoryStore", backend="memory", note="the vectors of wordllama"),
)

TS_RANKS = ("ts_rank", "ts_rank_cd")

_TABLE = """
CREATE TEMPORARY TABLE turns (
    number bigint GENERATED ALWAYS AS IDENTITY,
    session text,
    position bigint,
    text text,
    words tsvector GENERATED ALWAYS AS (to_tsvector('english', text)) STORED
);
CREATE INDEX ON turns USING gin (words);
"""


@asynccontextmanager
async def searched_by(
    case: SearchCase, sessions: Mapping[str, Sequence[str]], vectors: Mapping[str, Sequence[float]]
) -> AsyncIterator[PeerSearch]:
    """Run the worker of a peer with the texts of all sessions.

    Raises:
        PeerUnavailableError: It is not installed, or raised an error.
    """
    with tempfile.TemporaryDirectory(prefix="luminora-recall-") as folder:
        async with started(case, python_of(case.peer), str(Path(folder) / "peer.db"), 1) as link:
            await link.order(do="fill", sessions=sessions, vectors=vectors)

            async def search(question: str, limit: int) -> tuple[list[tuple[str, int]], float]:
                answer = await link.order(do="search", question=question, limit=limit)
                return [(session, position) for session, position in answer["found"]], answer["seconds"]

            yield search


@asynccontextmanager
async def ts_ranked(url: str, function: str, sessions: Mapping[str, Sequence[str]]) -> AsyncIterator[PeerSearch]:
    """Store the texts in PostgreSQL, to be found by any of a question's words and ordered by a function."""
    statement = (
        "SELECT session, position FROM turns, websearch_to_tsquery('english', $1) AS asked "  # noqa: S608  # a name of ours
        f"WHERE words @@ asked ORDER BY {function}(words, asked) DESC, number LIMIT $2"
    )
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(_TABLE)
        rows = [(name, at, text) for name, texts in sessions.items() for at, text in enumerate(texts, 1)]
        await connection.copy_records_to_table("turns", records=rows, columns=["session", "position", "text"])
        await connection.execute("ANALYZE turns")

        async def search(question: str, limit: int) -> tuple[list[tuple[str, int]], float]:
            words = " or ".join(f'"{word}"' for word in re.findall(r"\w+", question))
            began = time.perf_counter()
            found = await connection.fetch(statement, words, limit)
            seconds = time.perf_counter() - began
            return [(row["session"], row["position"]) for row in found], seconds

        yield search
    finally:
        await connection.close()
