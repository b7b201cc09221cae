"""The runner of code blocks sees what is wrong with a page."""

from pathlib import Path

import pytest

from tests.docs.page import BlockError, Page, Project

PROJECT = Project(make_targets=frozenset({"test"}), extras=frozenset({"files"}))


def run(home: Path, language: str, *blocks: str) -> None:
    path = home / "page.md"
    path.write_text("# Title\n\n" + "\n".join(f"```{language}\n{block}\n```\n" for block in blocks))
    Page(path, home, PROJECT).run()


def test_blocks_of_a_page_share_their_names_and_their_event_loop(home: Path) -> None:
    run(
        home,
        "python",
        "import asyncio\nloop = asyncio.get_running_loop()\nawait asyncio.sleep(0)\nx = 1",
        "assert x == 1 and __name__ == '__main__'",
        "assert asyncio.get_running_loop() is loop\nawait asyncio.sleep(0)\nprint(x + 1)",
    )


def test_a_block_that_raises_fails_with_the_line_of_the_page(home: Path) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        run(home, "python", "x = 0", "y = 1\ny / x")
    assert (Path(str(caught.traceback[-1].path)).name, caught.traceback[-1].lineno + 1) == ("page.md", 9)


def test_a_block_that_awaits_a_failure_fails(home: Path) -> None:
    with pytest.raises(TimeoutError):
        run(home, "python", "import asyncio\nasync with asyncio.timeout(0):\n    await asyncio.sleep(1)")


def test_a_block_that_is_not_python_fails(home: Path) -> None:
    with pytest.raises(SyntaxError):
        run(home, "python", "manager = SessionManager(")


@pytest.mark.parametrize("fence", ["pyton", "python title='x'", "", "pycon", "python-norun", "{.python}"])
def test_a_fence_that_would_escape_is_refused(home: Path, fence: str) -> None:
    with pytest.raises(BlockError, match=r"page\.md:3: a fence of no known kind"):
        run(home, fence, "1 / 0")


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("make tests", "no such make target: tests"),
        ('pip install "luminoracore-sdk[file]"', "no such extra: file"),
        ('.venv/bin/pip install ".[alle]"', "no such extra: alle"),
        ("rm -r store", "does not know: rm -r store"),
        ("luminora no-such-command", "ended with 2"),
        (".venv/bin/luminora no-such-command", "ended with 2"),
        (".venv/luminora --help", "does not know: .venv/luminora"),
        ("echo Hello | luminora chat --no-such-option", "ended with 2"),
    ],
)
def test_a_command_that_would_not_work_is_refused(home: Path, command: str, problem: str) -> None:
    with pytest.raises(BlockError, match=problem):
        run(home, "console", f"$ {command}")


@pytest.mark.parametrize(
    "command", ["make test", "git clone URL", 'pip install "luminoracore-sdk[files]"', "export A=b"]
)
def test_commands_that_are_not_run_may_stand_with_or_without_a_prompt(home: Path, command: str) -> None:
    run(home, "console", f"$ {command}")
    (home / "bin" / "luminora").unlink()
    (home / "bin").rmdir()
    run(home, "bash", f"# what it does\n{command}  # and why")


def test_output_that_the_page_shows_must_be_what_is_printed(home: Path) -> None:
    run(home, "console", "$ luminora --help\n...Usage: ...\n")


def test_output_that_is_not_what_is_printed_fails(home: Path) -> None:
    with pytest.raises(BlockError, match="but the page says:\nNothing at all"):
        run(home, "console", "$ luminora --help\nNothing at all\n")
