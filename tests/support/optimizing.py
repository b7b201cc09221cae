"""Stores for tests of ``luminora optimize``: talks that are alike, and what lies in them byte for byte."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any, TypeVar

from luminoracore_sdk.adapters.wrappers.current_encoding import backend_of
from luminoracore_sdk.application.ports.records import MemoryScope, MessageRange
from luminoracore_sdk.session import SessionStorage, create_storage
from tests.support.command import Luminora

__all__ = ["exported", "fill", "json_of", "payloads", "tags", "talks", "within"]

T = TypeVar("T")

_WORDS = (
    "hedgehog",
    "winter",
    "sleep",
    "leaf",
    "garden",
    "gate",
    "autumn",
    "apple",
    "night",
    "frost",
    "spring",
)


def talks(number: int, *, turns: int = 3) -> str:
    """Return so many conversations about hedgehogs as OpenAI chat files have them, a line each."""
    random = Random(number)  # noqa: S311 - words, no secret

    def said() -> str:
        return " ".join(random.choices(_WORDS, k=12))

    return "".join(
        json.dumps(
            {
                "messages": [
                    {"role": role, "content": f"The {role} of the hedgehog says: {said()}"}
                    for _ in range(turns)
                    for role in ("user", "assistant")
                ]
            }
        )
        + "\n"
        for _ in range(number)
    )


def fill(luminora: Luminora, number: int, *, turns: int = 3) -> None:
    """Store so many conversations."""
    done = luminora("sessions", "import", "-", stdin=talks(number, turns=turns))
    assert done.exit_code == 0, done.output


def exported(luminora: Luminora) -> str:
    """Return what all sessions say, whatever their form in the store is."""
    done = luminora("sessions", "export")
    assert done.exit_code == 0, done.output
    return done.stdout


def json_of(luminora: Luminora, *arguments: str, **environment: str) -> Any:
    """Return what a command of ``optimize`` writes for a script."""
    done = luminora("optimize", *arguments, "--json", **environment)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def within(url: str, work: Callable[[SessionStorage], Awaitable[T]]) -> T:
    """Do something to a store, on a loop of its own: the command runs on another one."""

    async def run() -> T:
        async with create_storage(url) as storage:
            return await work(storage)

    return asyncio.run(run())


def payloads(url: str) -> dict[tuple[str, object], tuple[str, bytes]]:
    """Return tag and bytes of every record of every session, as they lie in the store."""

    async def read(storage: SessionStorage) -> dict[tuple[str, object], tuple[str, bytes]]:
        backend = backend_of(storage)
        found: dict[tuple[str, object], tuple[str, bytes]] = {}
        for session_id in await backend.list_sessions():
            header = await backend.find_session(session_id)
            assert header is not None
            assert header.payload is not None
            found[session_id, "header"] = header.payload.encoding, header.payload.data
            for message in await backend.read_messages(session_id, MessageRange()):
                found[session_id, message.position] = message.payload.encoding, message.payload.data
            for memory in await backend.list_memories(MemoryScope("session", session_id)):
                found[session_id, memory.key] = memory.payload.encoding, memory.payload.data
        return found

    return within(url, read)


def tags(url: str) -> set[str]:
    """Return the tags of all records of sessions."""
    return {tag for tag, _ in payloads(url).values()}
