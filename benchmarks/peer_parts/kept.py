"""What was measured of each store, kept from run to run, so that one can be measured alone."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import attrs

from benchmarks.peer_parts.catalogue import CASES
from benchmarks.speed_parts.results import Result

__all__ = ["Outcome", "merged", "read_outcomes", "results_of", "write_outcomes"]

_FORMAT = 1


@attrs.frozen(kw_only=True)
class Outcome:
    """What came of one store.

    Attributes:
        results: The peer's and the floor's.
        reason: Why there are none; empty: there are.
    """

    results: tuple[Result, ...] = ()
    reason: str = ""


def merged(old: Mapping[str, Outcome], new: Mapping[str, Outcome]) -> dict[str, Outcome]:
    """Return the newest outcome of each store of the catalogue, in its order."""
    found = {**old, **new}
    return {case.name: found[case.name] for case in CASES if case.name in found}


def results_of(outcomes: Iterable[Outcome]) -> list[Result]:
    """Return all rows; those of one store and of its floor have a run of their own."""
    return [attrs.evolve(result, run=run) for run, outcome in enumerate(outcomes, 1) for result in outcome.results]


def write_outcomes(path: Path, outcomes: Mapping[str, Outcome], machine: str) -> None:
    """Write a file that ``read_outcomes`` reads."""
    cases = {name: attrs.asdict(outcome) for name, outcome in outcomes.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {"format": _FORMAT, "machine": machine, "cases": cases}
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", "utf-8")


def read_outcomes(path: Path, machine: str) -> dict[str, Outcome]:
    """Return what a file has, nothing when it is missing, of another format or from another machine."""
    if not path.exists():
        return {}
    document = json.loads(path.read_text("utf-8"))
    if (document["format"], document["machine"]) != (_FORMAT, machine):
        return {}
    return {
        name: Outcome(results=tuple(Result(**row) for row in kept["results"]), reason=kept["reason"])
        for name, kept in document["cases"].items()
    }
