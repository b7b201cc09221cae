"""Work on large values, away from the event loop."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from luminoracore_sdk.domain.message import Message
from luminoracore_sdk.domain.pieces import LARGE, is_large

__all__ = ["MANY_WORDS", "is_large_message", "off_loop", "off_loop_to_the_end"]

MANY_WORDS = 4000
"""Characters of texts from which on they are indexed in a thread; so many new words take up to 10 ms."""

T = TypeVar("T")


async def off_loop(work: Callable[[], T], *, large: bool) -> T:
    """Return what a function returns; it is called in a thread if it handles large values.

    Small values are handled at once: a thread costs 0.1 ms. The function must not change what others use, and
    goes on in its thread when the waiting task is cancelled.

    Args:
        work: The function.
        large: Whether it handles more than about ``LARGE`` characters.
    """
    return await asyncio.to_thread(work) if large else work()


async def off_loop_to_the_end(work: Callable[[], T], *, large: bool) -> T:
    """Do as ``off_loop`` with a function that changes what others use.

    When the waiting task is cancelled, the end of the function is awaited.
    """
    if not large:
        return work()
    ended = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(ended)
    except asyncio.CancelledError:
        while not ended.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([ended])
        raise


def is_large_message(message: Message) -> bool:
    """Return whether a message has more than about ``LARGE`` characters."""
    content = message.content
    if type(content) is str and len(content) <= LARGE:
        return bool(message.metadata) and is_large(message.metadata)
    return is_large(content) or is_large(message.metadata)
