"""What a SQLite storage executes, seen through a connection class of the test's own."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest

from luminoracore_sdk.application.ports.records import AppendReceipt

__all__ = ["Driver", "all_at_once", "outcomes", "watch_driver"]


@attrs.define
class Driver:
    """What all connections that are opened from now on have in common.

    Attributes:
        statements: The SQL that was executed, with its values.
        instructions: How many instructions SQLite's virtual machine has executed.
        before: Functions to call with a connection, in its thread, before its next statement.
    """

    statements: list[str] = attrs.field(factory=list)
    instructions: int = 0
    before: list[Callable[[sqlite3.Connection], object]] = attrs.field(factory=list)

    def count(self, word: str) -> int:
        """Return how many statements begin with a word."""
        return sum(statement.startswith(word) for statement in self.statements)

    def tick(self) -> int:
        """Count an instruction; 0 lets SQLite continue."""
        self.instructions += 1
        return 0


def watch_driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    """Have ``sqlite3.connect`` return connections that are watched."""
    driver = Driver()

    class Watched(sqlite3.Connection):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.set_trace_callback(driver.statements.append)
            self.set_progress_handler(driver.tick, 1)

        def execute(self, *args: Any) -> sqlite3.Cursor:
            while driver.before:
                driver.before.pop(0)(self)
            return super().execute(*args)

    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Watched))
    return driver


async def all_at_once(path: Path, *calls: Awaitable[object]) -> list[object]:
    """Make calls while another connection holds the write lock; return results and errors.

    The first append is written alone, and those that follow together.
    """
    with closing(sqlite3.Connection(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        tasks = [asyncio.ensure_future(call) for call in calls]
        for _ in range(3):
            await asyncio.sleep(0)
        other.execute("ROLLBACK")
    return await asyncio.gather(*tasks, return_exceptions=True)


def outcomes(results: Sequence[object]) -> list[object]:
    """Return the positions of receipts, and the classes of errors."""
    return [
        (result.first_position, result.last_position) if isinstance(result, AppendReceipt) else type(result)
        for result in results
    ]
