"""An answer on the terminal while it arrives: plain, or with its Markdown rendered block by block."""

import re
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.markdown import Markdown

from luminoracore_sdk.cli.output import printable

__all__ = ["AnswerView", "MarkdownAnswer", "NoAnswer", "PlainAnswer"]

_FENCE = re.compile(r"^ {0,3}(```|~~~)", re.MULTILINE)
_BLOCK_END = re.compile(r"\n[ \t]*\n(?=[^ \t\n])")


class AnswerView(Protocol):
    """Shows an answer."""

    def add(self, text: str) -> None:
        """Show a part of it."""
        ...

    def pause(self) -> None:
        """Leave the terminal to other output; ``add`` continues."""
        ...

    def finish(self) -> None:
        """Show the rest, and end the line."""
        ...


class NoAnswer:
    """Shows nothing: the answer is written as JSON at its end."""

    def add(self, text: str) -> None:
        """Do nothing."""

    def pause(self) -> None:
        """Do nothing."""

    def finish(self) -> None:
        """Do nothing."""


class PlainAnswer:
    """Shows an answer as it arrives.

    Args:
        console: Its file is written to.
    """

    def __init__(self, console: Console) -> None:
        self._file = console.file

    def add(self, text: str) -> None:
        """Write a part of it."""
        self._file.write(printable(text))
        self._file.flush()

    def pause(self) -> None:
        """Do nothing: what arrived is written."""

    def finish(self) -> None:
        """End the line."""
        self._file.write("\n")
        self._file.flush()


class MarkdownAnswer:
    """Renders the Markdown of an answer; the block that is still arriving is drawn anew with each part.

    Args:
        console: A terminal that can move its cursor.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._text = ""
        self._live: Live | None = None

    def add(self, text: str) -> None:
        """Draw the block that is arriving, and print those that are complete."""
        self._text += printable(text)
        end = _end_of_blocks(self._text)
        if end:
            self._print(self._text[:end])
            self._text = self._text[end:]
        if self._text.strip():
            if self._live is None:
                self._live = Live(console=self._console, transient=True, auto_refresh=False)
                self._live.start()
            self._live.update(_rendered(self._text), refresh=True)

    def _print(self, text: str) -> None:
        self.pause()
        if text.strip():
            self._console.print(_rendered(text))

    def pause(self) -> None:
        """Erase the block that is arriving; ``add`` and ``finish`` show it again."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def finish(self) -> None:
        """Print the last block."""
        self._print(self._text)
        self._text = ""


def _rendered(text: str) -> Markdown:
    return Markdown(text, hyperlinks=False)  # a link whose target is hidden could lead anywhere


def _end_of_blocks(text: str) -> int:
    """Return where the last complete block ends: at an empty line outside of fenced code."""
    ends = [found.end() for found in _BLOCK_END.finditer(text)]
    return max((end for end in ends if len(_FENCE.findall(text[:end])) % 2 == 0), default=0)
