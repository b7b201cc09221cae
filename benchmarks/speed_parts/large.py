"""What one process does with a large store, and what it measures of itself meanwhile."""

import asyncio
import gc
import json
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path
from statistics import median
from time import perf_counter

from benchmarks.speed_parts.contender import BATCH
from benchmarks.speed_parts.measure import random_texts
from benchmarks.speed_parts.ours import records
from luminoracore_sdk.adapters.codec.entities import JsonEntityCodec
from luminoracore_sdk.application.ports.records import MessageRange, Payload, SessionQuery, SessionRecord
from luminoracore_sdk.application.ports.storage import SessionStorage

__all__ = ["JOBS", "Figures"]

Figures = dict[str, float]
"""What a process tells the one that started it."""

_AT_ONCE = 16
_PAGE = 100
_PAGES = 20
_MESSAGES_EACH = 100
_PATIENCE = 120.0
_HEADER = Payload("json", b'{"text":"a session"}')


async def write(storage: SessionStorage, messages: int) -> Figures:
    """Write one session in batches of 1,000."""
    await storage.put_session(SessionRecord(session_id="large", payload=_HEADER))
    texts = random_texts(BATCH)
    grown = _Growth()
    began = perf_counter()
    for _ in range(messages // BATCH):
        await storage.append_messages("large", records(texts))
    return {"seconds": perf_counter() - began, "grown": grown.megabytes()}


async def stream(storage: SessionStorage, messages: int) -> Figures:
    """Read the session that ``write`` left, as one stream."""
    await storage.read_messages("large", MessageRange(limit=1, newest=True))  # connections are made, code is loaded
    grown = _Growth()
    began, expected = perf_counter(), count(1)
    async for message in storage.stream_messages("large"):
        assert message.position == next(expected)
    assert next(expected) == messages + 1
    return {"seconds": perf_counter() - began, "grown": grown.megabytes()}


async def listing(storage: SessionStorage, sessions: int) -> Figures:
    """Make sessions, and read the first and the last pages of their list in turns."""

    async def make(number: int) -> None:
        await storage.put_session(SessionRecord(session_id=f"session-{number}", payload=_HEADER))

    began = perf_counter()
    await _at_once(make, sessions)
    made = perf_counter() - began
    cursor = await _cursor_before_the_last(storage, min(_PAGES * _PAGE, sessions - 1))
    times: tuple[list[float], list[float]] = ([], [])
    ends = [None, cursor]
    for _ in range(_PAGES):
        for end, found in enumerate(times):
            began = perf_counter()
            page = await storage.query_sessions(SessionQuery(limit=_PAGE, cursor=ends[end]))
            found.append(perf_counter() - began)
            ends[end] = page.next_cursor or ends[end]
    figures = {"made": made, "first_ms": 1000 * median(times[0]), "last_ms": 1000 * median(times[1])}
    if figures["last_ms"] / 1000 * sessions / _PAGE < _PATIENCE:
        figures["walked"] = await _walk(storage)
    return figures


async def _cursor_before_the_last(storage: SessionStorage, number: int) -> tuple[int, str]:
    """Return where a listing stands that has so many sessions left."""
    cursor: tuple[int, str] | None = None
    seen = 0
    while True:
        query = SessionQuery(limit=_PAGE, newest_first=True, cursor=cursor)
        page = await storage.query_sessions(query)
        for session in page.sessions:
            if seen == number:
                return session.created_at_us, session.session_id
            seen += 1
        cursor = page.next_cursor
        assert cursor is not None


async def _walk(storage: SessionStorage) -> float:
    """Return how many different sessions all pages together have."""
    seen: set[str] = set()
    cursor: tuple[int, str] | None = None
    while True:
        page = await storage.query_sessions(SessionQuery(limit=1000, cursor=cursor))
        seen |= {session.session_id for session in page.sessions}
        if (cursor := page.next_cursor) is None:
            return len(seen)


async def room(storage: SessionStorage, sessions: int) -> Figures:
    """Fill a store turn by turn.

    Returns:
        The bytes of the payloads that it was given, and of the whole messages as JSON.
    """
    texts = random_texts(_MESSAGES_EACH)
    codec = JsonEntityCodec()
    payload = whole = 0

    async def fill(number: int) -> None:
        nonlocal payload, whole
        session = f"session-{number}"
        await storage.put_session(SessionRecord(session_id=session, payload=_HEADER))
        for first in range(0, _MESSAGES_EACH, 2):
            # another text in each session: what repeats itself would compress
            turn = records([f"{number:06}{text[6:]}" for text in texts[first : first + 2]])
            for record in turn:
                message = codec.message(record, backend=storage.backend, session_id=session)
                payload += len(record.payload.data)
                whole += len(json.dumps(message.to_dict(), separators=(",", ":")))
            await storage.append_messages(session, turn)

    await _at_once(fill, sessions)
    return {"payload": payload, "whole": whole, "messages": sessions * _MESSAGES_EACH}


JOBS: dict[str, Callable[[SessionStorage, int], Awaitable[Figures]]] = {
    "write": write,
    "stream": stream,
    "list": listing,
    "room": room,
}


async def _at_once(do: Callable[[int], Awaitable[None]], number: int) -> None:
    numbers = iter(range(number))

    async def worker() -> None:
        for one in numbers:
            await do(one)

    async with asyncio.TaskGroup() as group:
        for _ in range(_AT_ONCE):
            group.create_task(worker())


class _Growth:
    """How much more memory this process has had at a time than it has now (Linux)."""

    def __init__(self) -> None:
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        self._before = _status("VmRSS")

    def megabytes(self) -> float:
        return (_status("VmHWM") - self._before) / 1000


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise RuntimeError(f"/proc/self/status has no {name}")
