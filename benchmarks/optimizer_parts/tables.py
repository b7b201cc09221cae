"""Markdown tables, and the places of a document where they belong."""

import os
import platform
import re
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path

__all__ = ["machine", "percent", "put_into", "table", "versions"]


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, texts: int = 1) -> str:
    """Return a table; the first columns are texts, all others are figures."""
    rule = ["---" if column < texts else "---:" for column, _ in enumerate(heads)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (heads, rule, *rows))


def percent(smaller: float, plain: float) -> str:
    """Return by how much ``smaller`` is smaller than ``plain``."""
    return f"{100 * (smaller / plain - 1):+.1f} %".replace("-", "−")


def machine() -> str:
    """Return what the figures were measured on."""
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    model = re.search(r"model name\s*:\s*(.+)", text)
    processor = model.group(1).strip() if model else platform.machine()
    return f"{os.cpu_count()} cores of {processor}, {platform.system()}, Python {platform.python_version()}"


def versions(*packages: str) -> str:
    """Return names and versions."""
    return ", ".join(f"{package} {version(package)}" for package in packages)


def put_into(document: str, name: str, content: str) -> str:
    """Return the document with the content between the marks of that name.

    Raises:
        ValueError: It has no such marks, or several.
    """
    begin, end = f"<!-- benchmark:{name} -->", "<!-- end -->"
    marked = re.compile(rf"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    new, count = marked.subn(lambda _: f"{begin}\n{content}\n{end}", document)
    if count != 1:
        raise ValueError(f"the document has {count} places for {begin}")
    return new
