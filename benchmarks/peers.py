"""How fast other projects keep messages, beside the raw drivers and on the same servers.

    python -m benchmarks.peers [--only openai-agents …] [--json FILE] [--write]

Each peer is installed from the registry into an environment of its own, kept in build/peers, and works in a
process of its own, in turns with the raw driver, which is the floor of benchmarks.speed. What was measured is
kept too: ``--only`` measures anew what it names and shows it with the rest. ``--write`` puts the tables into
the documentation.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.optimizer_parts.tables import machine
from benchmarks.peer_parts.catalogue import CASES, Case
from benchmarks.peer_parts.environments import CACHE, PeerUnavailableError, python_of
from benchmarks.peer_parts.kept import Outcome, merged, read_outcomes, results_of, write_outcomes
from benchmarks.peer_parts.report import placed, report
from benchmarks.peer_parts.trial import Sizes, try_case
from benchmarks.speed_parts.results import write_results

DOCUMENT = Path(__file__).parents[1] / "docs" / "explanation" / "performance.md"
KEPT = CACHE / "results.json"


def try_all(cases: Sequence[Case], sizes: Sizes) -> dict[str, Outcome]:
    """Measure one store after the other; one that cannot be measured says why."""
    return {case.name: _try(case, sizes) for case in cases}


def _try(case: Case, sizes: Sizes) -> Outcome:
    began = time.perf_counter()
    try:
        outcome = Outcome(results=tuple(asyncio.run(try_case(case, sizes))))
    except PeerUnavailableError as exc:
        outcome = Outcome(reason=str(exc))
    said = outcome.reason or "measured"
    print(f"{case.name}: {said}, {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    return outcome


def make_environments(cases: Sequence[Case]) -> None:
    """Install all peers first, so that nothing is installed while something is measured."""
    for peer in dict.fromkeys(case.peer for case in cases):
        try:
            python_of(peer)
        except PeerUnavailableError as exc:
            print(f"{peer}: {exc}", file=sys.stderr, flush=True)


def write(content: str) -> None:
    """Put the tables into the documentation, or end with the reason why not; they were printed already."""
    try:
        DOCUMENT.write_text(placed(DOCUMENT.read_text("utf-8"), content), "utf-8")
    except (FileNotFoundError, ValueError) as exc:
        sys.exit(f"{DOCUMENT.name} is as it was: {exc}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed of the peers beside the raw drivers")
    names = sorted({name for case in CASES for name in (case.peer, case.store, case.backend)})
    parser.add_argument("--only", nargs="+", choices=names, metavar="PEER, CLASS OR BACKEND")
    parser.add_argument("--install", action="store_true", help="make the environments, and measure nothing")
    parser.add_argument("--shown", action="store_true", help="show what is kept, and measure nothing")
    parser.add_argument("--json", type=Path, help="where to write the rows, as benchmarks.speed reads them")
    parser.add_argument("--write", action="store_true", help=f"put the tables into {DOCUMENT.name}")
    arguments = parser.parse_args()
    wanted = set(arguments.only or names)
    cases = [case for case in CASES if wanted & {case.peer, case.store, case.backend}]
    if not arguments.shown:
        make_environments(cases)
    if arguments.install:
        return
    sizes = Sizes()
    outcomes = read_outcomes(KEPT, machine())
    if not arguments.shown:
        outcomes = merged(outcomes, try_all(cases, sizes))
        write_outcomes(KEPT, outcomes, machine())
    if arguments.json:
        write_results(arguments.json, results_of(outcomes.values()), {"machine": machine()})
    content = report(outcomes, sizes.messages, machine())
    print(content)
    if arguments.write:
        write(content)


if __name__ == "__main__":
    main()
