"""What lies where: tables of an SQLite file, files of a folder."""

import sqlite3
from contextlib import closing
from pathlib import Path

from rich import box
from rich.table import Table

__all__ = ["folder_table", "sqlite_table"]


def sqlite_table(file: Path) -> Table:
    """Return the tables of a database with their rows and the bytes of their payloads."""
    table = _table(file.name, "table", "rows", "payload bytes")
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        for name in ("documents", "messages", "session_memories", "user_memories"):
            # The names are those above; length() of TEXT counts characters, of a BLOB bytes.
            size = "coalesce(sum(length(CAST(coalesce(payload, blob) AS BLOB))), 0)"
            query = f"SELECT count(*), {size} FROM luminora_{name}"  # noqa: S608
            rows, size = connection.execute(query).fetchone()
            table.add_row(f"luminora_{name}", f"{rows:,}", f"{size:,}")
    table.add_section()
    for path in sorted(file.parent.glob(f"{file.name}*")):
        table.add_row(path.name, "", f"{path.stat().st_size:,} in all")
    return table


def folder_table(folder: Path) -> Table:
    """Return the files of a folder with their lines and bytes; empty lock files are left out."""
    table = _table(f"{folder.name}/", "file", "lines", "bytes")
    for path in sorted(folder.rglob("*")):
        if path.is_file() and (content := path.read_bytes()):
            table.add_row(str(path.relative_to(folder)), str(content.count(b"\n")), f"{len(content):,}")
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left", overflow="fold")
    return table
