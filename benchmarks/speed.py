"""How fast this package is, beside the raw driver doing the least that could count.

    python -m benchmarks.speed [--runs 3] [--only postgres …] [--json FILE] [--write]
    python -m benchmarks.speed --from FILE [FILE …] --write

Real servers with durable settings, started for this in a temporary folder, which must be on a disk. All
sides work in turns in one process. What is imported by then is kept from the garbage collector: to look
through it takes longer than most calls, and has nothing to do with them. ``--write`` puts tables and pictures
into the documentation; ``--from`` makes them of results that were kept, also those of benchmarks.peers,
instead of measuring.
"""

import argparse
import asyncio
import gc
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.optimizer_parts.tables import put_into
from benchmarks.speed_parts.backends import BACKENDS
from benchmarks.speed_parts.measure import Sizes, measure
from benchmarks.speed_parts.pictures import write_pictures
from benchmarks.speed_parts.report import PARTS, described_machine
from benchmarks.speed_parts.results import Result, joined, read_results, summary, write_results

DOCUMENT = Path(__file__).parents[1] / "docs" / "explanation" / "performance.md"


def run_all(names: Sequence[str], runs: int, sizes: Sizes) -> list[Result]:
    """Measure every backend, then all of them again."""
    found = []
    for run in range(1, runs + 1):
        for name in names:
            began = time.perf_counter()
            found += run_one(name, sizes, run)
            print(f"run {run}: {name}, {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    return found


def run_one(name: str, sizes: Sizes, run: int) -> list[Result]:
    """Measure one backend, new and empty."""
    with tempfile.TemporaryDirectory(prefix="luminora-speed-") as folder:
        backend = BACKENDS[name](Path(folder))
        backend.start()
        gc.collect()
        gc.freeze()
        try:
            return asyncio.run(measure(backend, sizes, run))
        finally:
            backend.stop()


def report(results: Sequence[Result], machine: dict[str, str], *, write: bool) -> None:
    """Print the tables, and put them into the documentation."""
    rows = summary(results)
    document = DOCUMENT.read_text("utf-8")
    for name, part in PARTS.items():
        content = part(rows, machine)
        print(f"## {name}\n\n{content}\n", flush=True)
        document = put_into(document, name, content)
    if write:
        DOCUMENT.write_text(document, "utf-8")
        write_pictures(rows, DOCUMENT.parent)


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed beside the raw drivers")
    parser.add_argument("--runs", type=int, default=3, help="the figures are medians of so many")
    parser.add_argument("--only", nargs="+", choices=list(BACKENDS), default=list(BACKENDS), metavar="BACKEND")
    parser.add_argument("--messages", type=int, default=10_000, help="in the long session")
    parser.add_argument("--json", type=Path, help="where to keep the raw results")
    parser.add_argument("--from", dest="files", type=Path, nargs="+", help="results that were kept")
    parser.add_argument("--write", action="store_true", help=f"put tables and pictures into {DOCUMENT.name}")
    arguments = parser.parse_args()
    if arguments.files:
        kept = [read_results(path) for path in arguments.files]
        results, machine = joined(found for found, _ in kept), kept[0][1]
    else:
        machine = described_machine()
        results = run_all(arguments.only, arguments.runs, Sizes(messages=arguments.messages))
    if arguments.json:
        write_results(arguments.json, results, machine)
    report(results, machine, write=arguments.write)


if __name__ == "__main__":
    main()
