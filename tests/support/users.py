"""Users with a word of their own in everything that is stored of them."""

from typing import Any

from luminoracore_sdk.application.ports.records import MemoryScope, MessageRange, SessionQuery
from luminoracore_sdk.application.session_access import headers
from luminoracore_sdk.session import Message, SessionManager, SessionStorage

__all__ = ["canary", "fill_user", "records_of", "session_of"]


def canary(user_id: str | None) -> str:
    """Return the word of a user."""
    return f"canary-of-{user_id}-end"


def session_of(user_id: str | None, number: int = 0) -> str:
    """Return the id of a session of a user."""
    return f"session-{number}-{canary(user_id)}"


async def fill_user(
    manager: SessionManager, user_id: str | None, *, sessions: int = 1, turns: int = 2, **config: Any
) -> None:
    """Store sessions, messages with an alternative, and memories of a user, each with the word of the user."""
    word = canary(user_id)
    for number in range(sessions):
        session_id = session_of(user_id, number)
        settings = {"session_id": session_id, "user_id": user_id, "tags": [word], **config}
        await manager.create_session({"name": word, "system_prompt": word}, {"name": "echo"}, settings)
        for turn in range(turns):
            question = Message("user", f"{word} asks {turn}", metadata={"note": word}, id=f"{word}-{turn}")
            await manager.send_message(session_id, question)
        if turns:
            await manager.regenerate(session_id)
            await manager.annotate(session_id, f"{word}-0", {"label": word})
        await manager.memory_manager.store_memory(session_id, f"key {word}", {"value": word})
        if user_id is not None:
            await manager.memory_manager.store_memory(session_id, f"own {number} {word}", word, scope="user")


async def records_of(storage: SessionStorage, user_id: str | None) -> list[object]:
    """Return every record of a user; None: of the sessions that have no user, and of those alone."""
    found: list[object] = []
    async for header in headers(storage, SessionQuery(user_id=user_id)):
        if header.user_id == user_id:
            session_id = header.session_id
            found.append(await storage.find_session(session_id))
            found.extend(await storage.read_messages(session_id, MessageRange()))
            found.extend(await storage.list_memories(MemoryScope("session", session_id)))
    if user_id is not None:
        found.extend(await storage.list_memories(MemoryScope("user", user_id)))
    return found
