"""SQLAlchemy constructs compiled to SQL strings, which run on a plain connection.

Names of parameters never equal names of columns, as SQLAlchemy reserves those in INSERT and UPDATE.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import attrs
from sqlalchemy import ClauseElement, ColumnElement, Integer, Text, bindparam, literal_column
from sqlalchemy.sql.selectable import GenerativeSelect

from luminoracore_sdk.adapters.storage.sqlite.rows import Row
from luminoracore_sdk.adapters.storage.sqlite.schema import DIALECT

__all__ = ["ONE", "SESSION", "ZERO", "Statement", "at_most_count", "number", "text"]

S = TypeVar("S", bound=GenerativeSelect)

ZERO: ColumnElement[int] = literal_column("0", Integer)
ONE: ColumnElement[int] = literal_column("1", Integer)
SESSION: ColumnElement[str] = literal_column("'session'", Text)


@attrs.frozen
class Statement:
    """A compiled statement.

    Attributes:
        sql: With question marks.
        names: Of the parameters, in the order of the question marks.
    """

    sql: str
    names: tuple[str, ...]

    @classmethod
    def of(cls, clause: ClauseElement) -> "Statement":
        """Compile a construct, all of whose values are named parameters."""
        compiled = clause.compile(dialect=DIALECT)
        return cls(str(compiled), tuple(getattr(compiled, "positiontup", None) or ()))

    def rows(self, connection: sqlite3.Connection, **given: Any) -> list[Row]:
        """Run it to its end and return all rows."""
        return connection.execute(self.sql, [given[name] for name in self.names]).fetchall()

    def row(self, connection: sqlite3.Connection, **given: Any) -> Row | None:
        """Run it to its end and return the first row, or None."""
        return next(iter(self.rows(connection, **given)), None)

    def change(self, connection: sqlite3.Connection, **given: Any) -> int:
        """Run a statement that returns no rows; returns how many it changed."""
        return connection.execute(self.sql, [given[name] for name in self.names]).rowcount

    def change_each(self, connection: sqlite3.Connection, given: Sequence[Mapping[str, Any]]) -> int:
        """Run it once for each set of parameters; returns how many rows that changed in all."""
        rows = ([values[name] for name in self.names] for values in given)
        return connection.executemany(self.sql, rows).rowcount if given else 0


def at_most_count(found: S) -> S:
    """Limit a selection to parameter ``count``."""
    # SQLAlchemy writes an OFFSET in any case; a nameless parameter would be in the way
    return found.limit(number("count")).offset(ZERO)


def number(name: str) -> ColumnElement[int]:
    """Return a numeric parameter."""
    return bindparam(name, type_=Integer())


def text(name: str) -> ColumnElement[str]:
    """Return a text parameter."""
    return bindparam(name, type_=Text())
