"""How an answer is shown while it arrives."""

from io import StringIO

import pytest
from rich.console import Console

from luminoracore_sdk.cli.answers import MarkdownAnswer, PlainAnswer


def terminal() -> tuple[Console, StringIO]:
    written = StringIO()
    console = Console(
        file=written, force_terminal=True, width=60, height=20, color_system="standard", legacy_windows=False
    )
    return console, written


def shown(*parts: str) -> str:
    """Return what stays on the terminal of an answer that arrives in parts."""
    console, written = terminal()
    view = MarkdownAnswer(console)
    for part in parts:
        view.add(part)
    view.finish()
    return written.getvalue()


def test_a_plain_answer_is_written_as_it_arrives() -> None:
    console, written = terminal()
    view = PlainAnswer(console)
    view.add("**one")
    assert written.getvalue() == "**one"
    view.pause()
    view.add("\x1b**")
    view.finish()
    assert written.getvalue() == "**one\\x1b**\n"


@pytest.mark.parametrize("size", [1, 3, 1_000])
def test_every_part_of_an_answer_stays_once(size: int) -> None:
    text = "First **bold**.\n\n- one\n- two\n\n```python\nx = 1\n\ny = 2\n```\n\nLast words."
    whole = shown(*(text[start : start + size] for start in range(0, len(text), size)))
    final = whole[whole.rindex("First") :] if size == 1_000 else whole
    for piece in ("\x1b[1mbold\x1b[0m", "one", "two", "x", "Last words."):
        assert piece in final
    assert whole.rstrip().endswith("Last words.")


def test_an_empty_line_in_code_does_not_end_the_block() -> None:
    console, written = terminal()
    view = MarkdownAnswer(console)
    view.add("```\nx = 1\n\nwhile **this**\n")
    view.add("```\n\nafter")
    assert "**this**" in written.getvalue()
    view.finish()


def test_the_target_of_a_link_is_shown() -> None:
    assert "http://x.example\x1b[0m)" in shown("See [here](http://x.example).")


def test_control_characters_are_escaped() -> None:
    assert "\\x1b]8" in shown("a\x1b]8;;http://x\x07b")


def test_an_answer_that_is_blank_shows_nothing() -> None:
    assert shown("\n\n", "  ") == ""


def test_a_pause_removes_what_is_still_arriving() -> None:
    console, written = terminal()
    view = MarkdownAnswer(console)
    view.add("unfinished")
    view.pause()
    view.pause()
    before = written.getvalue()
    view.add(" words")
    view.finish()
    assert "unfinished words" in written.getvalue()[len(before) :]
