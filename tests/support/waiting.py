"""Waiting for a condition that nothing announces."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable

__all__ = ["until"]


async def until(holds: Callable[[], bool | Awaitable[bool]], what: str, seconds: float = 20) -> None:
    """Wait for a condition, checking it two hundred times a second; fail after a deadline."""
    end = time.monotonic() + seconds
    while True:
        result = holds()
        if await result if inspect.isawaitable(result) else result:
            return
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        await asyncio.sleep(0.005)
