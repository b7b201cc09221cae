"""The figures of the optimizer's page: written by the benchmark, and what is promised of them."""

import re

import pytest

from benchmarks.optimizer import DOCUMENT, PARTS
from benchmarks.optimizer_parts.forms import OURS
from benchmarks.optimizer_parts.tables import percent, put_into, table


def written(part: str) -> str:
    """Return what the benchmark wrote into the page."""
    found = re.search(rf"<!-- benchmark:{part} -->\n(.*?)<!-- end -->", DOCUMENT.read_text("utf-8"), re.DOTALL)
    assert found is not None, f"the page has no place for {part}"
    return found.group(1)


def savings(part: str, row: str) -> list[float]:
    """Return the percentages of one row, as positive numbers."""
    (line,) = [line for line in written(part).splitlines() if line.startswith(f"| {row}")]
    return [float(figure) for figure in re.findall(r"−([\d.]+) %", line)]


@pytest.mark.parametrize("part", PARTS)
def test_the_benchmark_has_written_every_part_of_the_page(part: str) -> None:
    assert written(part).count("\n") > 1


def test_sessions_are_smaller_by_65_percent_and_messages_by_55() -> None:
    sessions, _, messages, *_ = savings("sizes", OURS)

    assert sessions >= 65
    assert messages >= 55


def test_remembered_facts_cost_25_percent_fewer_tokens_and_a_session_35() -> None:
    _, facts = savings("tokens", "facts: key and value")
    session, _ = savings("tokens", "context of a session")

    assert facts >= 25
    assert session >= 35


def test_a_table_is_put_between_its_own_marks_and_nowhere_else() -> None:
    page = "a\n<!-- benchmark:x -->\nold\n<!-- end -->\nb\n<!-- benchmark:y -->\n<!-- end -->\n"

    new = put_into(page, "x", table(["", "n"], [["k", percent(25, 100)]]))

    assert new == (
        "a\n<!-- benchmark:x -->\n|  | n |\n| --- | ---: |\n| k | −75.0 % |\n<!-- end -->\nb\n"
        "<!-- benchmark:y -->\n<!-- end -->\n"
    )


def test_a_page_without_the_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="0 places"):
        put_into("a page", "x", "a table")
