"""The stores of agent frameworks beside ours, under the same framework and in the same run.

    python -m benchmarks.frameworks NAME [--turns 200]
    python -m benchmarks.frameworks --environments [NAME…] [--write]

The first form runs in an environment that has the framework's extra, the packages of its own stores, and those of the
servers. The second makes those environments, or takes those of ``scripts.framework_tests``, measures in each, and can
put the table into the documentation, for which it has to measure all.

Measured are the append of a turn of two messages of 1 KB and the read of the tail, as medians of calls made in turns;
the bytes on disk behind them; and 64 sessions that append five turns each at once. Both sides acknowledge a write when
it is on the disk, as far as their defaults say so: SQLite's ``synchronous`` is FULL and PostgreSQL's
``synchronous_commit`` on for both, Redis writes its append-only file every second. FileSessionManager of Strands,
FileHistoryProvider of the Agent Framework and the stores on MongoDB do not wait for the disk; ours do.
"""

import argparse
import asyncio
import json
import math
import random
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from importlib import import_module
from pathlib import Path
from statistics import median

import attrs

from benchmarks.framework_parts.side import Pair, Place, Side
from benchmarks.optimizer_parts.tables import put_into, table
from scripts.framework_tests import ROOT, environment

MEASURED = {
    "openai-agents": ("aiosqlite", "sqlalchemy[asyncio]"),
    "langgraph": ("langgraph-checkpoint-sqlite", "langgraph-checkpoint-postgres", "psycopg[binary,pool]"),
    "google-adk": ("aiosqlite", "sqlalchemy"),
    "llama-index": ("aiosqlite", "sqlalchemy[asyncio]"),
    "strands": (),
    "langchain": ("langchain-mongodb", "langchain-postgres", "psycopg[binary]"),
    "agent-framework": (),
}
"""The frameworks that have a durable store of their own, and the packages of those."""

DOCUMENT = ROOT / "docs" / "explanation" / "performance.md"
_HEADS = ("", "", "store", "turn, ms", "last 20 turns, ms", "tail, ms", "KB", "turns/s, 64 at once")

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
    for place in places:
        place.close()
    return found


def row(name: str, pair: Pair, own: Sequence[float], ours: Sequence[float]) -> list[str]:
    """Return a line of the table: theirs / ours; where ours is behind, in bold."""
    cells = []
    for number, (theirs, mine) in enumerate(zip(own, ours, strict=True)):
        digits = 0 if number > 2 else 2  # sizes and rates are whole numbers
        shown = "failed" if math.isnan(theirs) else f"{theirs:,.{digits}f}"
        is_behind = mine < theirs if number == len(own) - 1 else mine > theirs
        cell = f"{shown} / {mine:,.{digits}f}"
        cells.append(f"**{cell}**" if is_behind else cell)
    return [name, pair.backend, pair.name, *cells]


def here(name: str, turns: int) -> list[list[str]]:
    """Measure a framework in this environment, and return its lines of the table."""
    pairs: Sequence[Pair] = import_module(f"benchmarks.framework_parts.{name.replace('-', '_')}").PAIRS
    print(f"{name}\n{'':46}   turn  last 20     tail       KB  64 at once")
    print(f"{'':46}     ms       ms       ms           turns/s")
    rows: list[list[str]] = []
    for number, pair in enumerate(pairs):
        random.seed(0)
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as path:
            own, ours = (figures.values() for figures in asyncio.run(measure(pair, Path(path) / f"{number}", turns)))
        ratios = [*(theirs / mine for theirs, mine in zip(own[:4], ours[:4], strict=True)), ours[4] / own[4]]
        for label, values, digits in ((pair.name, own, 2), ("ours", ours, 2), ("ours is better by", ratios, 1)):
            shown = " ".join(f"{value:8.{digits if value < 100 else 0}f}" for value in values)
            print(f"{pair.backend:11} {label:34}{shown}", flush=True)
        rows.append(row(name, pair, own, ours))
    return rows


def in_environments(names: Sequence[str], turns: int) -> list[list[str]]:
    """Measure frameworks, each in its environment, and return the table.

    Raises:
        subprocess.CalledProcessError: One failed.
    """
    rows: list[list[str]] = []
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "rows.json"
        for name in names:
            python = str(environment(name, *MEASURED[name]))
            command = [python, "-m", "benchmarks.frameworks", name, "--turns", str(turns), "--rows", str(found)]
            subprocess.run(command, cwd=ROOT, check=True)  # noqa: S603
            rows += json.loads(found.read_text("utf-8"))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="The stores of agent frameworks beside ours")
    parser.add_argument("names", nargs="*", choices=[*MEASURED, []], metavar="NAME")
    parser.add_argument("--turns", type=int, default=200, help="turns of the long session, a multiple of 20")
    parser.add_argument("--environments", action="store_true", help="make an environment for each framework")
    parser.add_argument("--write", action="store_true", help=f"put the table into {DOCUMENT.name}; measure all")
    parser.add_argument("--rows", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if not given.environments:
        rows = [line for name in given.names for line in here(name, given.turns)]
        if given.rows is not None:
            given.rows.write_text(json.dumps(rows), "utf-8")
        return
    rows = in_environments(list(MEASURED) if given.write else given.names or list(MEASURED), given.turns)
    content = table(_HEADS, rows, texts=3)
    print(content)
    if given.write:
        DOCUMENT.write_text(put_into(DOCUMENT.read_text("utf-8"), "frameworks", content), "utf-8")


if __name__ == "__main__":
    main()
