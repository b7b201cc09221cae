"""A pytest plugin for ``make contract``: which case of the contract holds on which backend.

A row is a case, a column a backend; a cell says how many variants of the case passed, or that one
failed, or that the backend lacks the ability.
"""

import re
from collections import defaultdict
from string import ascii_lowercase, ascii_uppercase

import pytest

Cells = dict[tuple[str, str], list[str]]

_NODE = re.compile(r"::Test(?P<backend>\w+)::test_(?P<case>\w+)")
_WIDTH = 5  # of a column
_NAMES_IN_A_ROW = 3


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Write the table after the failures."""
    cells: Cells = defaultdict(list)
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, []):
            if found := _NODE.search(report.nodeid):
                cells[found["case"], found["backend"]].append(outcome)
    for line in table(cells):
        terminalreporter.write_line(line)


def table(cells: Cells) -> list[str]:
    """Return the lines: the backends' letters and names, then the cases by name, then the sums."""
    backends = sorted({backend for _, backend in cells})
    cases = sorted({case for case, _ in cells})
    letters = dict(zip(backends, ascii_uppercase + ascii_lowercase, strict=False))
    width = max((len(case) for case in cases), default=0)
    heading = _row("", [letters[backend] for backend in backends], width)
    lines = [*_legend(letters), "", heading]
    for number, case in enumerate(cases):
        if number and number % 40 == 0:  # repeat the heading on every screen
            lines.append(heading)
        row = [_cell(cells.get((case, backend), [])) for backend in backends]
        lines.append(_row(case.replace("_", " "), row, width))
    totals = [sum(cells.get((case, backend), []).count("passed") for case in cases) for backend in backends]
    return [*lines, _row(f"{len(cases)} cases", [str(total) for total in totals], width)]


def _legend(letters: dict[str, str]) -> list[str]:
    names = [f"{letter} {backend}" for backend, letter in letters.items()]
    longest = max(map(len, names), default=0)
    rows = [names[start : start + _NAMES_IN_A_ROW] for start in range(0, len(names), _NAMES_IN_A_ROW)]
    return ["  ".join(name.ljust(longest) for name in row).rstrip() for row in rows]


def _row(title: str, values: list[str], width: int) -> str:
    return "".join([title.ljust(width), *(value.rjust(_WIDTH) for value in values)])


def _cell(outcomes: list[str]) -> str:
    if "failed" in outcomes or "error" in outcomes:
        return "FAIL"
    passed = outcomes.count("passed")
    return str(passed) if passed else "–"
