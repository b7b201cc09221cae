"""How tables look: columns on a terminal, however narrow; lines with tabs elsewhere."""

import re
from io import StringIO

import pytest
from rich.console import Console

from luminoracore_sdk.cli.output import amount, print_table

NAMES = ("session", "personality", "provider", "msgs", "created (UTC)", "last activity (UTC)", "tags")
ROW = ("0123456789abcdef0123456789abcdef", "Ada", "echo", "12", "2026-01-02 03:04", "2026-01-02 03:05", "")
TIMES = ("created (UTC)", "last activity (UTC)")


def table(width: int, *, terminal: bool = True) -> str:
    console = Console(file=StringIO(), width=width, force_terminal=terminal, color_system=None)
    print_table(console, NAMES, [ROW], whole=("msgs", *TIMES), spare=("provider", "created (UTC)"))
    written = console.file
    assert isinstance(written, StringIO)
    return written.getvalue()


@pytest.mark.parametrize(
    ("width", "headings"),
    [
        (140, ["session", "personality", "provider", "msgs", "created (UTC)", "last activity (UTC)"]),
        (95, ["session", "personality", "msgs", "created (UTC)", "last activity (UTC)"]),
        (80, ["session", "personality", "msgs", "last activity (UTC)"]),
    ],
)
def test_a_narrow_terminal_does_without_the_provider_first(width: int, headings: list[str]) -> None:
    lines = table(width).splitlines()
    assert re.split(r" {2,}", lines[1].strip()) == headings
    assert len(lines) == 5
    assert "2026-01-02 03:05" in lines[3]


def test_elsewhere_a_row_is_a_line_with_tabs() -> None:
    assert table(40, terminal=False).splitlines() == ["\t".join(NAMES), "\t".join(ROW)]


def test_what_would_break_a_row_is_escaped() -> None:
    console = Console(file=StringIO())
    print_table(console, ("a", "b"), [("x\ty", "1\n2")])
    written = console.file
    assert isinstance(written, StringIO)
    assert written.getvalue() == "a\tb\nx\\ty\t1\\n2\n"


@pytest.mark.parametrize(
    ("number", "what", "text"),
    [
        (0, "session", "0 sessions"),
        (1, "session", "1 session"),
        (1, "memory", "1 memory"),
        (2, "memory", "2 memories"),
    ],
)
def test_one_thing_is_named_in_the_singular(number: int, what: str, text: str) -> None:
    assert amount(number, what) == text
