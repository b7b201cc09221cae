"""How things look: text made harmless for a terminal, JSON, tables, progress bars."""

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from luminoracore_sdk.application.exchange import json_text

__all__ = ["columns", "display", "moment", "printable", "progress_bar", "public_url"]

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def printable(text: str) -> str:
    r"""Return text that cannot steer a terminal: ``\x1b`` becomes four characters."""
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


def display(value: Any) -> str:
    """Return any JSON value as a person reads it: text as it is, all else as JSON."""
    return printable(value if isinstance(value, str) else json_text(value))


def moment(time: datetime) -> str:
    """Return a time to the minute, in UTC."""
    return time.astimezone(UTC).strftime("%Y-%m-%d %H:%M")


def public_url(url: str) -> str:
    """Return a store's URL without its password and without its query."""
    parts = urlsplit(url)
    if parts.password is not None:
        name = f"{parts.username}:***@" if parts.username else "***@"
        parts = parts._replace(netloc=name + parts.netloc.rpartition("@")[2])
    return parts._replace(query="", fragment="").geturl() if parts.netloc else url.partition("?")[0]


def columns(names: Sequence[str], rows: Iterable[Iterable[object]]) -> Table:
    """Return a table whose first column is never cut; a column without any value is left out."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    cells = [[Text(printable(str(cell))) for cell in row] for row in rows]
    used = [index for index in range(len(names)) if any(row[index] for row in cells)]
    for index in used:
        table.add_column(names[index], no_wrap=not index, overflow="fold")
    for row in cells:
        table.add_row(*(row[index] for index in used))
    return table


def progress_bar(console: Console, *, quiet: bool) -> Progress:
    """Return a progress bar, which draws only on a terminal and leaves nothing behind."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=quiet or not console.is_terminal,
    )
