"""Users with a word of their own in everything that is stored of them."""

from typing import Any

from luminoracore_sdk.adapters.codec.values import JsonCodec
from luminoracore_sdk.application.maintenance.digest import Digest, RecordLines, line
from luminoracore_sdk.application.ports.records import MemoryScope, MessageRange, SessionQuery
from luminoracore_sdk.application.session_access import headers
from luminoracore_sdk.session import Message, SessionManager, SessionStorage

__all__ = ["PLACES", "canary", "digest_of", "fill_user", "fill_user_everywhere", "records_of", "session_of", "word_in"]

PLACES = (
    *("personality", "system-prompt", "title", "metadata", "tag", "model", "session-id", "message-id"),
    *("question", "part", "message-metadata", "edited-question", "alternative", "annotation", "tool-call"),
    *("memory-key", "memory-value", "user-key", "user-value", "expired-value"),
    *("fork-id", "fork-title", "fork-question", "fork-value"),
)
"""Where a word of a user can be; ``fill_user_everywhere`` stores another one in each."""


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


def word_in(place: str, user_id: str) -> str:
    """Return the word of a user that one place has, and no other."""
    return f"{place}-{canary(user_id)}"


async def fill_user_everywhere(manager: SessionManager, user_id: str) -> None:
    """Store a word of a user in each of ``PLACES``: 3 sessions, 21 messages, 9 memories that last."""
    word = {place: word_in(place, user_id) for place in PLACES}
    memory = manager.memory_manager
    personality = {"name": word["personality"], "system_prompt": word["system-prompt"]}
    provider = {"name": "echo", "model": word["model"]}
    session_id = await manager.create_session(
        personality, provider, {"session_id": word["session-id"], "user_id": user_id, "tags": [word["tag"]]}
    )
    await manager.update_session(session_id, metadata={"title": word["title"], "more": {"note": word["metadata"]}})
    await manager.send_message(session_id, Message("user", word["question"], id=word["message-id"]))
    parts = [{"type": "text", "text": word["part"]}]
    await manager.send_message(session_id, Message("user", parts, metadata={"note": word["message-metadata"]}))
    answer = (await manager.send_message(session_id, "hello")).id
    await manager.annotate(session_id, answer or "", {"label": word["alternative"]})
    answer = (await manager.regenerate(session_id)).id
    await manager.annotate(session_id, answer or "", {"label": word["annotation"]})
    await manager.send_message(session_id, Message("user", "what?", id=f"edited {user_id}"))
    await manager.edit_message(session_id, f"edited {user_id}", word["edited-question"])
    call = {"id": "call", "type": "function", "function": {"name": "look", "arguments": word["tool-call"]}}
    await manager.conversation_manager.append(
        session_id, [Message("assistant", "", metadata={"tool_calls": [call]}, id=f"calls {user_id}")]
    )
    await memory.store_memory(session_id, word["memory-key"], 1)
    await memory.store_memory(session_id, "k", {"deep": [word["memory-value"]]})
    await memory.store_memory(session_id, word["user-key"], 1, scope="user")
    await memory.store_memory(session_id, "k", word["user-value"], scope="user")
    await memory.store_memory(session_id, "short", word["expired-value"], ttl=5)

    fork = await manager.fork(session_id, word["message-id"], new_session_id=word["fork-id"])
    await manager.update_session(fork, metadata={"title": word["fork-title"]})
    await manager.send_message(fork, word["fork-question"])
    await memory.store_memory(fork, "own", word["fork-value"])
    await manager.fork(session_id)


async def digest_of(storage: SessionStorage, user_id: str) -> str:
    """Return a digest over the content of every record of a user."""
    lines = RecordLines(JsonCodec(), backend=storage.backend)
    digest = Digest("user", user_id)
    async for listed in headers(storage, SessionQuery(user_id=user_id)):
        header = await storage.find_session(listed.session_id)
        assert header is not None
        messages = await storage.read_messages(header.session_id, MessageRange())
        memories = await storage.list_memories(MemoryScope("session", header.session_id))
        digest.add([line("session", lines.header(header))])
        digest.add(lines.message(header.session_id, message) for message in messages)
        digest.add(lines.memory(memory) for memory in memories)
    digest.add(lines.memory(memory) for memory in await storage.list_memories(MemoryScope("user", user_id)))
    return digest.with_lines([])
