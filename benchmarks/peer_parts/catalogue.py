"""The stores that are measured, ours among them, and what a reader of their figures must know."""

import attrs

from benchmarks.peer_parts.environments import OURS

__all__ = ["CASES", "Case"]


@attrs.frozen(kw_only=True)
class Case:
    """One store.

    Attributes:
        peer: The package, as the registry has it; its requirements and its worker have that name.
        store: The class.
        backend: As ``benchmarks.speed_parts.backends`` names it.
        note: How it is used, where that is not plain.
    """

    peer: str
    store: str
    backend: str
    note: str = ""

    @property
    def name(self) -> str:
        """The class, and the backend, which one class may have several of."""
        return f"{self.peer}/{self.store}/{self.backend}"

    @property
    def worker(self) -> str:
        """The module to run."""
        return f"benchmarks.peer_parts.workers.{self.peer.replace('-', '_')}"


_WHOLE = "has no partial read"
_SNAPSHOT = "writes the whole history with each message"

_OURS = {
    "postgres": "PostgreSQLStorage",
    "redis": "RedisStorage",
    "mongodb": "MongoDBStorage",
    "sqlite": "SQLiteStorage",
    "files": "JSONFileStorage",
}

CASES = (
    *(
        Case(peer=OURS, store=store, backend=backend, note="this package, through ConversationManager")
        for backend, store in _OURS.items()
    ),
    Case(peer="openai-agents", store="SQLAlchemySession", backend="postgres"),
    Case(peer="google-adk", store="DatabaseSessionService", backend="postgres"),
    Case(peer="agno", store="AsyncPostgresDb", backend="postgres", note="a run a message"),
    Case(peer="langchain-postgres", store="PostgresChatMessageHistory", backend="postgres", note=_WHOLE),
    Case(
        peer="langgraph",
        store="AsyncPostgresSaver",
        backend="postgres",
        note=f"a checkpoint a message, without the graph's own time: {_SNAPSHOT}, {_WHOLE}",
    ),
    Case(
        peer="pydantic-ai-harness",
        store="PostgresStepStore",
        backend="postgres",
        note="a snapshot a message: it names each message of the history again, and has no partial read",
    ),
    Case(peer="openai-agents", store="RedisSession", backend="redis"),
    Case(peer="openai-agents", store="MongoDBSession", backend="mongodb"),
    Case(
        peer="openai-agents",
        store="AsyncSQLiteSession",
        backend="sqlite",
        note="a connection a session",
    ),
    Case(peer="google-adk", store="DatabaseSessionService", backend="sqlite"),
    Case(
        peer="langgraph",
        store="AsyncSqliteSaver",
        backend="sqlite",
        note="as AsyncPostgresSaver",
    ),
    Case(
        peer="pydantic-ai-harness",
        store="SqliteStepStore",
        backend="sqlite",
        note="as PostgresStepStore",
    ),
    Case(
        peer="strands-agents",
        store="FileSessionManager",
        backend="files",
        note="a file a message, without fsync: a power cut may take what was acknowledged",
    ),
)
