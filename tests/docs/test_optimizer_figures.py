"""The figures that the benchmark wrote into the optimizer's page keep what is promised."""

import re

from benchmarks.optimizer import DOCUMENT
from benchmarks.optimizer_parts.forms import OURS


def written(part: str) -> str:
    """Return what the benchmark wrote into the page."""
    found = re.search(rf"<!-- benchmark:{part} -->\n(.*?)<!-- end -->", DOCUMENT.read_text("utf-8"), re.DOTALL)
    assert found is not None, f"the page has no place for {part}"
    return found.group(1)


def savings(part: str, row: str) -> list[float]:
    """Return the percentages of one row, as positive numbers."""
    (line,) = [line for line in written(part).splitlines() if line.startswith(f"| {row}")]
    return [float(figure) for figure in re.findall(r"−([\d.]+) %", line)]


def test_sessions_are_65_percent_smaller_and_messages_55() -> None:
    sessions, _, messages, *_ = savings("sizes", OURS)

    assert sessions >= 65
    assert messages >= 55


def test_facts_cost_25_percent_fewer_tokens_sessions_35() -> None:
    _, facts = savings("tokens", "facts: key and value")
    session, _ = savings("tokens", "context of a session")

    assert facts >= 25
    assert session >= 35
