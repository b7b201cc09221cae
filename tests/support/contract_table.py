"""A pytest plugin for ``make contract``: which case of the contract holds on which backend.

A row is a case, a column a backend; a cell says how many variants of the case passed, or that one
failed, or that the backend lacks the ability.
"""

import re
from collections import defaultdict

import pytest

Cells = dict[tuple[str, str], list[str]]

_NODE = re.compile(r"::Test(?P<backend>\w+)::test_(?P<case>\w+)")


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
    """Return the lines: a heading, then the cases in the order they ran."""
    backends = list(dict.fromkeys(backend for _, backend in cells))
    cases = list(dict.fromkeys(case for case, _ in cells))
    width = max(map(len, cases), default=0)
    lines = [" ".join(["".ljust(width), *backends])]
    for case in cases:
        row = [_cell(cells.get((case, backend), [])).rjust(len(backend)) for backend in backends]
        lines.append(" ".join([case.replace("_", " ").ljust(width), *row]))
    return lines


def _cell(outcomes: list[str]) -> str:
    if "failed" in outcomes or "error" in outcomes:
        return "FAIL"
    passed = outcomes.count("passed")
    return str(passed) if passed else "–"
