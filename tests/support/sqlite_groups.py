"""Appends that wait for the thread of a SQLite storage at the same time."""

import asyncio
import threading
from collections.abc import Awaitable, Sequence

from luminoracore_sdk.adapters.storage.sqlite import SQLiteStorage
from luminoracore_sdk.application.ports.records import AppendReceipt, MessageRange

__all__ = ["all_at_once", "ids_in", "outcomes", "trace"]


async def ids_in(storage: SQLiteStorage, session_id: str = "s") -> list[str]:
    return [message.message_id for message in await storage.read_messages(session_id, MessageRange())]


async def trace(storage: SQLiteStorage) -> list[str]:
    """Return a list to which the first word of every statement that writes will be added."""
    seen: list[str] = []
    await storage._write(lambda connection: connection.set_trace_callback(lambda sql: seen.append(sql.split()[0])))
    return seen


async def all_at_once(storage: SQLiteStorage, *calls: Awaitable[object]) -> list[object]:
    """Make calls while the thread is held up, so that they all wait; returns results and errors."""
    gate = threading.Event()
    held_up = asyncio.ensure_future(storage._write(lambda _: gate.wait(30)))
    await asyncio.sleep(0)
    tasks = [asyncio.ensure_future(call) for call in calls]
    await asyncio.sleep(0)
    gate.set()
    assert await held_up
    return await asyncio.gather(*tasks, return_exceptions=True)


def outcomes(results: Sequence[object]) -> list[object]:
    """Return positions, and the classes of errors."""
    return [
        (result.first_position, result.last_position) if isinstance(result, AppendReceipt) else type(result)
        for result in results
    ]
