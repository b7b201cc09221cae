"""The runner of code blocks fails where a page is wrong."""

from pathlib import Path

import pytest

from tests.docs.page import BlockError, Page, Project

PROJECT = Project(make_targets=frozenset({"test"}), extras=frozenset({"files"}))


def run(home: Path, language: str, *blocks: str) -> None:
    path = home / "page.md"
    path.write_text("# Title\n\n" + "\n".join(f"```{language}\n{block}\n```\n" for block in blocks))
    Page(path, home, PROJECT).run()


def test_an_error_in_a_block_has_the_line_of_the_page(home: Path) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        run(home, "python", "import asyncio\nx = 0", "await asyncio.sleep(x)\n1 / x")
    assert (Path(str(caught.traceback[-1].path)).name, caught.traceback[-1].lineno + 1) == ("page.md", 10)


@pytest.mark.parametrize("fence", ["pyton", "python title='x'", "", "{.python}"])
def test_a_fence_of_an_unknown_language_is_refused(home: Path, fence: str) -> None:
    with pytest.raises(BlockError, match=r"page\.md:3: a fence of no known kind"):
        run(home, fence, "1 / 0")


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("make tests", "no such make target: tests"),
        ('pip install "luminoracore-sdk[file]"', "no such extra: file"),
        ("rm -r store", "does not know: rm -r store"),
        (".venv/bin/luminora no-such-command", "ended with 2"),
        ("luminora --help\nNothing at all\n", "but the page says:\nNothing at all"),
    ],
)
def test_a_command_that_would_not_work_is_refused(home: Path, command: str, problem: str) -> None:
    with pytest.raises(BlockError, match=problem):
        run(home, "console", f"$ {command}")
