"""Stores of similar conversations for tests of ``luminora optimize``, and their stored bytes."""

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
    """Return conversations about hedgehogs as lines of an OpenAI chat file."""
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
    """Store conversations."""
    done = luminora("sessions", "import", "-", stdin=talks(number, turns=turns))
    assert done.exit_code == 0, done.output


def exported(luminora: Luminora) -> str:
    """Return the messages of all sessions, decoded."""
    done = luminora("sessions", "export")
    assert done.exit_code == 0, done.output
    return done.stdout


def json_of(luminora: Luminora, *arguments: str, **environment: str) -> Any:
    """Return the JSON output of a command of ``optimize``."""
    done = luminora("optimize", *arguments, "--json", **environment)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def within(url: str, work: Callable[[SessionStorage], Awaitable[T]]) -> T:
    """Run a coroutine function on a store, on an event loop of its own."""

    async def run() -> T:
        async with create_storage(url) as storage:
            return await work(storage)

    return asyncio.run(run())


def payloads(url: str) -> dict[tuple[str, object], tuple[str, bytes]]:
    """Return encoding and bytes of every stored record of every session."""

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
    """Return the encodings of all records of sessions."""
    return {tag for tag, _ in payloads(url).values()}
