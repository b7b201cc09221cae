"""Formatting of output: text that is safe for a terminal, JSON, tables, progress bars."""

import re
from collections.abc import Container, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from luminoracore_sdk.application.exchange.export_import import json_text
from luminoracore_sdk.application.invisible_characters import HIDDEN

__all__ = ["amount", "display", "moment", "print_table", "printable", "progress_bar", "public_url", "share"]

_CONTROL = re.compile(rf"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff{HIDDEN}]")

_FOLDED = 16
"""Width below which a column is not folded."""
_GAP = 2


def printable(text: str) -> str:
    r"""Return text in which control characters are escaped: ``\x1b`` becomes four characters.

    Invisible characters and those that change the direction of writing (``\u202e``) are escaped too, except those
    that join emoji.
    """
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


def display(value: Any) -> str:
    """Return a JSON value for display: a string as it is, anything else as JSON."""
    return printable(value if isinstance(value, str) else json_text(value))


def moment(time: datetime) -> str:
    """Return a time to the minute, in UTC."""
    return time.astimezone(UTC).strftime("%Y-%m-%d %H:%M")


def public_url(url: str) -> str:
    """Return a store's URL without its password and its query.

    If it is not clear where the password begins or ends, as without the host, more of the URL is hidden.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return "***"
    account, at, place = rest.rpartition("@")
    hosts = re.sub(r"\[[^]]*]", "", re.split("[/?#]", place, maxsplit=1)[0])
    if set("?#") & set(account) or re.search(":(?![0-9]*(,|$))", hosts):
        return f"{scheme}://***"
    user, colon, _ = account.partition(":")
    is_unclear = not user or "/" in user or (not colon and scheme.startswith("redis"))  # Redis' users are rare
    name = "***@" if at and is_unclear else f"{user}{':***' if colon else ''}{at}"
    return f"{scheme}{separator}{name}{re.split('[?#]', place, maxsplit=1)[0]}"


def amount(number: int, what: str) -> str:
    """Return a number with its noun: "1 session", "2 memories"."""
    if number != 1:
        what = f"{what.removesuffix('y')}ies" if what.endswith("y") else f"{what}s"
    return f"{number} {what}"


def share(part: int, whole: int) -> str:
    """Return a number and its share of the whole: "1,234 (56%)"."""
    return f"{part:,} ({part / whole:.0%})" if whole else f"{part:,}"


def print_table(
    console: Console,
    names: Sequence[str],
    rows: Iterable[Iterable[object]],
    *,
    whole: Container[str] = (),
    spare: Sequence[str] = (),
) -> None:
    """Print a table: in columns on a terminal, else one line per row with tabs between the cells.

    On a terminal, columns without values are omitted.

    Args:
        console: The console to print to.
        names: Headings.
        rows: Cells.
        whole: Columns that are never folded; the first one never is.
        spare: Columns that are omitted on a narrow terminal, in this order.
    """
    cells = [[printable(str(cell)) for cell in row] for row in rows]
    if not console.is_terminal:
        for row in (names, *cells):
            console.file.write("\t".join(_one_line(cell) for cell in row) + "\n")
        console.file.flush()
        return
    used = [index for index in range(len(names)) if any(row[index] for row in cells)]
    for name in spare:
        if _room(names, cells, used, whole) > console.width:
            used = [index for index in used if names[index] != name]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for index in used:
        table.add_column(names[index], no_wrap=not index or names[index] in whole, overflow="fold")
    for row in cells:
        table.add_row(*(Text(row[index]) for index in used))
    console.print(table)


def _one_line(cell: str) -> str:
    return cell.replace("\t", "\\t").replace("\n", "\\n")


def _room(names: Sequence[str], cells: Sequence[Sequence[str]], used: Iterable[int], whole: Container[str]) -> int:
    """Return the width of the table, with long columns folded where allowed."""
    total = 0
    for index in used:
        longest = max(cell_len(text) for text in (names[index], *(row[index] for row in cells)))
        total += (longest if not index or names[index] in whole else min(longest, _FOLDED)) + _GAP
    return total


def progress_bar(console: Console, *, quiet: bool) -> Progress:
    """Return a progress bar; it is shown only on a terminal and erased at the end."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=quiet or not console.is_terminal,
    )
