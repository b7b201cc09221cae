"""The tables of the peers, and their place in the documentation."""

import re
from collections.abc import Mapping, Sequence

from benchmarks.optimizer_parts.tables import table
from benchmarks.peer_parts.catalogue import CASES, Case
from benchmarks.peer_parts.kept import Outcome, results_of
from benchmarks.peer_parts.pins import system_of
from benchmarks.peer_parts.trial import NEWEST, WRITERS
from benchmarks.speed_parts.backends import BACKENDS
from benchmarks.speed_parts.results import FLOOR, Result, summary

__all__ = ["placed", "report"]

Figures = dict[tuple[str, str, str, str], tuple[Result, float | None]]

_BEGIN, _END = "<!-- peers -->", "<!-- /peers -->"
_NONE = "–"
_HOW = (
    "A ratio is to the raw driver that worked in turns with that store; the raw driver's row is the median "
    "beside all stores of that backend."
)


def report(outcomes: Mapping[str, Outcome], lengths: Sequence[int], machine: str) -> str:
    """Return the tables, the longer sessions' last, and what must be known of the rows."""
    figures = {result.key: (result, ratio) for result, ratio in summary(results_of(outcomes.values()))}
    shown = [case for case in CASES if case.name in outcomes]
    parts = []
    for length in lengths:
        heads = ["", "append, p50 ms", "p99 ms", "÷ floor", "growth"]
        heads += [f"newest {NEWEST}, ms", "÷ floor", f"all {length:,}, ms", "÷ floor"]
        heads += [f"{WRITERS} writers, 1/s", "÷ floor"] if length == min(lengths) else []
        parts.append(table(heads, _rows(shown, outcomes, figures, length, width=len(heads))))
    parts.append(_HOW)
    return "\n\n".join([*parts, _notes(shown, outcomes), f"{machine}; {_versions(shown, outcomes)}."])


def placed(document: str, content: str) -> str:
    """Return the document with the content between the marks of the peers.

    Raises:
        ValueError: It has no such marks, or several.
    """
    marked = re.compile(rf"{re.escape(_BEGIN)}.*?{re.escape(_END)}", re.DOTALL)
    new, count = marked.subn(lambda _: f"{_BEGIN}\n{content}\n{_END}", document)
    if count != 1:
        raise ValueError(f"the document has {count} places for the peers")
    return new


def _rows(
    shown: Sequence[Case], outcomes: Mapping[str, Outcome], figures: Figures, length: int, *, width: int
) -> list[list[str]]:
    rows = []
    for name, backend in BACKENDS.items():
        cases = [case for case in shown if case.backend == name]
        floor = (name, FLOOR, FLOOR)
        if (*floor, f"append-{length}") in figures:
            rows.append([f"**{backend.title}**, raw driver", *_cells(figures, floor, length)][:width])
        for case in cases:
            title = f"{case.peer} {case.store}"
            if outcomes[case.name].reason:
                rows.append([f"{title} ({backend.title}): not measured, see below", *[_NONE] * (width - 1)])
                continue
            peer = (name, system_of(case.peer), case.store)
            reached = _n(figures, (*peer, f"append-{length}"))
            title += f", ended at {reached:,}" if reached < length else ""
            rows.append([title, *_cells(figures, peer, length)][:width])
    return rows


def _cells(figures: Figures, side: tuple[str, str, str], length: int) -> list[str]:
    append, ratio = figures[*side, f"append-{length}"]
    cells = [_ms(append.p50_ms), _ms(append.p99_ms), _times(ratio), _times(append.growth)]
    for work in (f"newest-{length}", f"all-{length}"):
        read, ratio = figures[*side, work]
        cells += [_ms(read.p50_ms), _times(ratio)]
    writers, ratio = figures[*side, f"writers-{WRITERS}"]
    return [*cells, f"{writers.ops_per_s or 0:,.0f}", _times(ratio)]


def _n(figures: Figures, key: tuple[str, str, str, str]) -> int:
    return figures[key][0].n


def _ms(value: float | None) -> str:
    if value is None:
        return _NONE
    return f"{value:.2f}" if value < 10 else f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def _times(value: float | None) -> str:
    if value is None:
        return _NONE
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def _notes(shown: Sequence[Case], outcomes: Mapping[str, Outcome]) -> str:
    notes = []
    for case in shown:
        reason = outcomes[case.name].reason
        said = f"not measured: {reason}" if reason else case.note
        if said:
            notes.append(f"- {case.store} on {BACKENDS[case.backend].title}: {said}.")
    return "\n".join(notes)


def _versions(shown: Sequence[Case], outcomes: Mapping[str, Outcome]) -> str:
    """Return the peers with what they stand on, and the servers with the floors' drivers."""
    said = [
        result.versions
        for case in shown
        for result in sorted(outcomes[case.name].results, key=lambda one: one.system == FLOOR)
    ]
    return ", ".join(dict.fromkeys(word for text in said for word in text.split(", ")))
