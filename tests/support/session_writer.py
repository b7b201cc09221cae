"""A process that writes to the sessions of a user until its input ends: ``session_writer.py factory place user count``.

It prints a line when it has written to each session, and at the end, as JSON, how many calls were done and refused, and
what was left unsaved was answered by ``save_session``.
"""

import asyncio
import json
import sys
from collections import Counter
from importlib import import_module
from typing import Any

from luminoracore_sdk.session import Message, SessionManager
from luminoracore_sdk.utils.exceptions import (
    ConflictError,
    MessageNotFoundError,
    SessionNotFoundError,
    TurnInterruptedError,
    ValidationError,
)
from tests.support.users import canary, session_of

_REFUSED = (ConflictError, MessageNotFoundError, SessionNotFoundError, TurnInterruptedError, ValidationError)


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def write(manager: SessionManager, user_id: str, number: int, counts: Counter[str]) -> None:
    """Make each write to one session once."""
    session_id, word = session_of(user_id, number), canary(user_id)
    chat, memory = manager.conversation_manager, manager.memory_manager
    for call in (
        lambda: manager.send_message(session_id, word),
        lambda: manager.regenerate(session_id),
        lambda: chat.append(session_id, [Message("user", word)]),
        lambda: chat.add_message(session_id, "user", word),
        lambda: chat.create_conversation(session_id),
        lambda: memory.store_memory(session_id, word, word),
        lambda: memory.store_memory(session_id, f"{word} {number}", word, scope="user"),
        lambda: manager.update_session(session_id, metadata={"title": word}),
        lambda: manager.fork(session_id, 1),
    ):
        try:
            done = await call()
        except _REFUSED:
            done = False
        counts["refused" if done is False else "done"] += 1


async def main(factory: str, place: str, user_id: str, sessions: str) -> None:
    module, _, name = factory.partition(":")
    storage: Any = getattr(import_module(module), name)(place)
    word, counts = canary(user_id), Counter[str]()
    ended = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    async with storage, SessionManager(storage) as manager:
        unsaved = [f"unsaved {word}", session_of(user_id, int(sessions))]
        settings = {"session_id": unsaved[0], "user_id": user_id, "auto_save": False}
        await manager.create_session({"name": word}, {"name": "echo"}, settings)
        for session_id in unsaved:
            await manager.send_message(session_id, word)
        await asyncio.gather(*(write(manager, user_id, number, counts) for number in range(int(sessions))))
        say("writing")
        while not ended.done():
            await asyncio.gather(*(write(manager, user_id, number, counts) for number in range(int(sessions))))
        saved = [await manager.save_session(session_id) for session_id in unsaved]
        say(json.dumps({**counts, "saved": saved}))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
