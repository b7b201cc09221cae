"""Calls of several sides in turns, so that whatever else the machine does concerns all of them alike."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from time import perf_counter
from typing import TypeVar

import attrs

from benchmarks.speed_parts.contender import Contender

__all__ = ["Call", "Rush", "in_turns", "rushes"]

K = TypeVar("K")

Call = Callable[[int], Awaitable[object]]
"""Does the work of a number, counted from 0."""


async def in_turns(
    calls: Mapping[K, Call], count: int, *, block: int = 10, steps: Mapping[K, int] | None = None
) -> dict[K, list[float]]:
    """Return the seconds of ``count`` calls of each side, made in alternating blocks.

    Who begins changes from block to block.

    Args:
        calls: Of each side.
        count: Of each.
        block: Calls that one side makes before it is the next one's turn.
        steps: Of a side that takes long: 5 leaves four of five calls out.
    """
    steps = steps or {}
    seconds: dict[K, list[float]] = {key: [] for key in calls}
    order = deque(calls)
    for first in range(0, count, block):
        for key in order:
            call, found = calls[key], seconds[key]
            for number in range(first, min(first + block, count), steps.get(key, 1)):
                began = perf_counter()
                await call(number)
                found.append(perf_counter() - began)
        order.rotate(-1)
    return seconds


@attrs.define
class Rush:
    """What many writers at once did.

    Attributes:
        seconds: Of each call.
        wall: Of all together.
    """

    seconds: list[float] = attrs.Factory(list)
    wall: float = 0.0


async def rushes(
    sides: Sequence[Contender], writers: Sequence[str], texts: Sequence[str], *, rounds: int
) -> dict[str, Rush]:
    """Let many writers append at once, each all of the texts, one side after the other in each round.

    Args:
        sides: Who takes part.
        writers: The session of each, which is there; its name ends with the layer.
        texts: What each appends in a round.
        rounds: How often.
    Returns:
        By layer.
    """
    found = {side.layer: Rush() for side in sides}
    order = deque(sides)
    for _ in range(rounds):
        for side in order:
            rush = found[side.layer]
            began = perf_counter()
            await asyncio.gather(*(_write(side, f"{name}-{side.layer}", texts, rush.seconds) for name in writers))
            rush.wall += perf_counter() - began
        order.rotate(-1)
    return found


async def _write(side: Contender, session: str, texts: Sequence[str], seconds: list[float]) -> None:
    for text in texts:
        began = perf_counter()
        await side.append(session, text)
        seconds.append(perf_counter() - began)
