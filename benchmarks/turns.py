"""The cost of whole turns: ``send_message`` with a provider that answers at once.

    python -m benchmarks.turns [--turns 300] [--only memory sqlite …] [--peers] [--write]

The session has 50 messages of 200 characters and ten memories. Beside it stands the raw floor of the same run:
one read of the newest 50 messages and one durable write of two messages' text by the raw driver. CPU is that of
this process.

With ``--peers``, the same turn is taken by other frameworks too, each with a model that answers at once and in a
process of its own, ours among them; they are installed as ``benchmarks.peers`` does it. Each ten turns begin a
session of 50 messages, and the sides take turns.
"""

import argparse
import asyncio
import gc
import tempfile
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.optimizer_parts.tables import put_into, table
from benchmarks.peer_parts.environments import PeerUnavailableError, python_of
from benchmarks.speed_parts.backends import BACKENDS
from benchmarks.speed_parts.contender import Contender
from benchmarks.speed_parts.measure import random_texts
from benchmarks.speed_parts.results import percentile
from benchmarks.turn_parts.peers import TURN_CASES, floor_turn, take_all
from benchmarks.turn_parts.timed import Timed
from luminoracore_sdk.providers import BaseProvider, ProviderFactory
from luminoracore_sdk.session import InMemoryStorage, Message, SessionManager, SessionStorage
from luminoracore_sdk.types.provider import ChatMessage, ChatResponse

DOCUMENT = Path(__file__).parents[1] / "docs" / "explanation" / "performance.md"
HISTORY = 50
MEMORIES = 10
WARM_UP = 20
MEMORY = "memory"


class Instant(BaseProvider):
    """Answer at once, with 200 characters."""

    def get_default_model(self) -> str:
        return "instant-1"

    async def chat(
        self,
        messages: list[ChatMessage],  # noqa: ARG002
        temperature: float = 0.7,  # noqa: ARG002
        max_tokens: int | None = None,  # noqa: ARG002
        **kwargs: Any,  # noqa: ARG002
    ) -> ChatResponse:
        return ChatResponse("x" * 200, finish_reason="stop", model="instant-1")

    async def stream_chat(
        self, messages: list[ChatMessage], temperature: float = 0.7, max_tokens: int | None = None, **kwargs: Any
    ) -> AsyncIterator[ChatResponse]:
        yield await self.chat(messages, temperature, max_tokens, **kwargs)


async def measure(storage: SessionStorage, floor: Contender | None, turns: int) -> tuple[Timed, Timed | None]:
    """Take turns with a manager and, alternately, do the raw floor's work."""
    texts = random_texts(max(turns, HISTORY) + WARM_UP)
    ours, raw = Timed(), Timed() if floor else None
    async with storage, SessionManager(storage) as manager:
        session_id = await begun(manager, texts)
        if floor is not None:
            await floor.open()
            await floor.begin("turns")
            await floor.fill("turns", texts[:HISTORY])
        for number in range(WARM_UP + turns):
            if number == WARM_UP:
                ours, raw = Timed(), Timed() if floor else None
            await ours.call(manager.send_message(session_id, texts[number]))
            if floor is not None and raw is not None:
                await raw.call(floor_turn(floor, "turns", texts[number]))
        if floor is not None:
            await floor.close()
    return ours, raw


async def begun(manager: SessionManager, texts: list[str]) -> str:
    config = {"context_window_size": 100_000}
    session_id = await manager.create_session({"name": "Ada"}, {"name": "instant"}, config)
    said = [Message("assistant" if number % 2 else "user", text) for number, text in enumerate(texts[:HISTORY])]
    await manager.conversation_manager.append(session_id, said)
    for number in range(MEMORIES):
        await manager.memory_manager.store_memory(session_id, f"fact {number}", f"value {number}")
    return session_id


def run(name: str, turns: int) -> list[list[str]]:
    """Measure one backend; return the lines of its table."""
    gc.collect()
    gc.freeze()
    if name == MEMORY:
        ours, _ = asyncio.run(measure(InMemoryStorage(), None, turns))
        return [["memory", "send_message", *ours.cells(), "–"]]
    with tempfile.TemporaryDirectory(prefix="luminora-turns-") as folder:
        backend = BACKENDS[name](Path(folder))
        backend.start()
        try:
            ours, raw = asyncio.run(measure(backend.storage_at(backend.place), backend.floor(), turns))
        finally:
            backend.stop()
    assert raw is not None
    ratio = percentile(ours.seconds, 0.5) / percentile(raw.seconds, 0.5)
    return [
        [backend.title, "raw driver: read 50, write once", *raw.cells(), "1.00"],
        [backend.title, "send_message", *ours.cells(), f"{ratio:.2f}"],
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="The cost of whole turns")
    names = [MEMORY, *BACKENDS]
    parser.add_argument("--turns", type=int, default=300)
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="BACKEND")
    parser.add_argument("--peers", action="store_true", help="measure other frameworks beside ours")
    parser.add_argument("--write", action="store_true", help=f"put the table into {DOCUMENT.name}")
    arguments = parser.parse_args()
    ProviderFactory.register_provider("instant", Instant)
    if arguments.peers:
        for peer in dict.fromkeys(case.peer for case in TURN_CASES):  # nothing is installed while others are measured
            with suppress(PeerUnavailableError):  # its row says why
                python_of(peer)
    measured = take_all if arguments.peers else run
    lines = [line for name in arguments.only for line in measured(name, arguments.turns)]
    content = table(["", "", "p50, ms", "p99, ms", "CPU, ms", "÷ raw driver"], lines, texts=2)
    print(content)
    if arguments.write:
        DOCUMENT.write_text(
            put_into(DOCUMENT.read_text("utf-8"), "turn-peers" if arguments.peers else "turns", content), "utf-8"
        )


if __name__ == "__main__":
    main()
