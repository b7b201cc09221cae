"""The longest pause of the event loop during one turn that carries 5 MB.

    python -m benchmarks.turn_parts.pauses [--repeats 5] [--only text rows picture] [--megabytes 5] [--write]

A second task asks for the loop every half millisecond; what it waits beyond that is a pause. Each turn is taken
``--repeats`` times, and the figure is the median of the longest pauses: a machine with other work adds to each of
them, which the first row, a turn of a few characters, shows. The model server is a process of its own.
"""

import argparse
import asyncio
import json
import random
import string
import sys
import tempfile
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.optimizer_parts.tables import put_into, table
from luminoracore_sdk.adapters.storage.sqlite import SQLiteStorage
from luminoracore_sdk.providers import BaseProvider, ProviderFactory
from luminoracore_sdk.session import InMemoryStorage, Message, SessionManager, SessionStorage
from luminoracore_sdk.types.provider import ChatMessage, ChatResponse

DOCUMENT = Path(__file__).parents[2] / "docs" / "explanation" / "performance.md"
TICK = 0.0005
SERVER = Path(__file__).with_name("large_answers.py")


class Immediate(BaseProvider):
    """Answers at once, with a few characters or with as many as ``extra["characters"]`` says."""

    def get_default_model(self) -> str:
        return "immediate-1"

    async def chat(
        self,
        messages: list[ChatMessage],  # noqa: ARG002
        temperature: float = 0.7,  # noqa: ARG002
        max_tokens: int | None = None,  # noqa: ARG002
        **kwargs: Any,  # noqa: ARG002
    ) -> ChatResponse:
        return ChatResponse(ANSWERS[self.config.extra.get("characters", 5)], finish_reason="stop")

    async def stream_chat(
        self, messages: list[ChatMessage], temperature: float = 0.7, max_tokens: int | None = None, **kwargs: Any
    ) -> AsyncIterator[ChatResponse]:
        yield await self.chat(messages, temperature, max_tokens, **kwargs)


ANSWERS: dict[int, str] = {5: "right"}


def contents(size: int) -> dict[str, Any]:
    """Return the contents that are sent, each of about so many characters as JSON."""
    draw = random.Random(1)  # the same each time
    words = ["".join(draw.choices(string.ascii_lowercase, k=draw.randint(2, 9))) for _ in range(5000)]
    text = " ".join(draw.choices(words, k=size // 6))
    row = {"id": 10_000, "name": "item 10000", "price": 0.123456, "tags": ["a", "b", None, True]}
    rows = [{**row, "id": number, "price": draw.random()} for number in range(size // len(json.dumps(row)))]
    picture = "data:image/png;base64," + "".join(draw.choices(string.ascii_letters + string.digits, k=size))
    return {
        "small": "What is it?",
        "text": text,
        "rows": {"rows": rows},
        "picture": [
            {"type": "text", "text": "What is it?"},
            {"type": "image_url", "image_url": {"url": picture}},
        ],
    }


class Heartbeat:
    """Measures how long the loop keeps a task waiting."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def beat(self) -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(TICK)
            self.longest = max(self.longest, time.perf_counter() - before - TICK)


async def longest_pause(work: Any) -> float:
    """Return the longest pause while some work is done, in seconds."""
    heart = Heartbeat()
    task = asyncio.create_task(heart.beat())
    await asyncio.sleep(5 * TICK)
    heart.longest = 0.0
    await work
    await asyncio.sleep(5 * TICK)
    task.cancel()
    return heart.longest


Case = Callable[[SessionManager, Mapping[str, Any], Any], Awaitable[float]]

CONFIG = {"context_window_size": 100_000_000, "timeout": 60}


async def as_question(manager: SessionManager, provider: Mapping[str, Any], content: Any) -> float:
    session = await manager.create_session({"name": "Ada"}, provider, CONFIG)
    return await longest_pause(manager.send_message(session, Message("user", content)))


async def as_result(manager: SessionManager, provider: Mapping[str, Any], content: Any) -> float:
    session = await _with_call(manager, provider)
    result = Message("tool", content, metadata={"tool_call_id": "call_1"})
    return await longest_pause(manager.send_message(session, result))


async def in_history(manager: SessionManager, provider: Mapping[str, Any], content: Any) -> float:
    session = await _with_call(manager, provider)
    is_picture = isinstance(content, list)  # in a result, few providers take one
    metadata = {} if is_picture else {"tool_call_id": "call_1"}
    said = [Message("user" if is_picture else "tool", content, metadata=metadata), Message("assistant", "It is red.")]
    await manager.conversation_manager.append(session, said)
    return await longest_pause(manager.send_message(session, "And what else?"))


async def _with_call(manager: SessionManager, provider: Mapping[str, Any]) -> str:
    session = await manager.create_session({"name": "Ada"}, provider, CONFIG)
    call = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    said = [Message("user", "Look."), Message("assistant", "", metadata={"tool_calls": [call]})]
    await manager.conversation_manager.append(session, said)
    return str(session)


async def as_answer(manager: SessionManager, provider: Mapping[str, Any], _: Any) -> float:
    session = await manager.create_session({"name": "Ada"}, provider, CONFIG)
    return await longest_pause(manager.send_message(session, "Tell me all."))


async def as_streamed_answer(manager: SessionManager, provider: Mapping[str, Any], _: Any) -> float:
    session = await manager.create_session({"name": "Ada"}, provider, CONFIG)

    async def read() -> None:
        async for _ in manager.stream_message(session, "Tell me all."):
            pass

    return await longest_pause(read())


PLACES: dict[str, Case] = {"new message": as_question, "tool result": as_result, "in the history": in_history}


@asynccontextmanager
async def model_server(size: int) -> AsyncIterator[str]:
    """Run the model server; it yields its address without a path."""
    process = await asyncio.create_subprocess_exec(sys.executable, str(SERVER), str(size), stdin=PIPE, stdout=PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(await process.stdout.readline())}"
    finally:
        process.stdin.close()
        await process.wait()


async def measure(repeats: int, names: list[str], size: int, folder: Path) -> list[list[str]]:
    """Return the rows of the table."""
    values = contents(size)
    ANSWERS[size] = values["text"]
    lines = []
    async with model_server(size) as server:
        providers = {
            "at once": {"name": "immediate"},
            "openai": {"name": "openai", "api_key": "sk-1", "model": "m", "base_url": f"{server}/small"},
            "anthropic": {"name": "anthropic", "api_key": "sk-1", "model": "m", "base_url": f"{server}/small"},
        }
        large = {
            "at once": {"name": "immediate", "extra": {"characters": size}},
            "openai": {**providers["openai"], "base_url": f"{server}/large"},
            "anthropic": {**providers["anthropic"], "base_url": f"{server}/large"},
        }
        cases: list[tuple[str, Case, Any, dict[str, Any]]] = [
            (f"{name}, {place}", case, values[name], providers)
            for name in names
            for place, case in PLACES.items()
            if name != "picture" or place != "tool result"
        ]
        if "text" in names:
            cases += [("text, as the answer", as_answer, None, large)]
            cases += [("text, as the streamed answer", as_streamed_answer, None, large)]
        for title, case, value, given in cases:
            cells = []
            for way, provider in given.items():
                if way == "anthropic" and case is as_streamed_answer:  # it comes in the same way
                    cells.append("–")
                    continue
                storages: list[SessionStorage] = [InMemoryStorage()]
                if way == "at once":
                    storages.append(SQLiteStorage(folder / "pauses.db"))
                pauses = [await _median_pause(storage, case, provider, value, repeats) for storage in storages]
                cells += [f"{1e3 * pause:.1f}" for pause in pauses]
            lines.append([title, *cells])
            print(*lines[-1], sep=" | ", file=sys.stderr, flush=True)
    return lines


async def _median_pause(
    storage: SessionStorage, case: Case, provider: Mapping[str, Any], value: Any, repeats: int
) -> float:
    async with storage, SessionManager(storage) as manager:
        pauses = [await case(manager, provider, value) for _ in range(repeats + 1)]
    return median(pauses[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description="The longest pause of the event loop during a large turn")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--megabytes", type=float, default=5)
    names = ["small", "text", "rows", "picture"]
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    parser.add_argument("--write", action="store_true", help=f"put the table into {DOCUMENT.name}")
    arguments = parser.parse_args()
    ProviderFactory.register_provider("immediate", Immediate)
    with tempfile.TemporaryDirectory(prefix="luminora-pauses-") as folder:
        size = round(arguments.megabytes * 1_000_000)
        lines = asyncio.run(measure(arguments.repeats, arguments.only, size, Path(folder)))
    ways = ["memory", "SQLite", "memory, OpenAIProvider", "memory, AnthropicProvider"]
    content = table(["longest pause, ms", *ways], lines)
    print(content)
    if arguments.write:
        DOCUMENT.write_text(put_into(DOCUMENT.read_text("utf-8"), "pauses", content), "utf-8")


if __name__ == "__main__":
    main()
