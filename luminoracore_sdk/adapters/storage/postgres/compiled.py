"""SQLAlchemy constructs compiled to SQL strings, which run on asyncpg.

Names of parameters never equal names of columns, as SQLAlchemy reserves those in INSERT and UPDATE.
"""

from collections.abc import Mapping
from typing import Any

import attrs
from sqlalchemy import (
    ARRAY,
    BigInteger,
    ClauseElement,
    ColumnElement,
    Float,
    LargeBinary,
    Table,
    Text,
    and_,
    bindparam,
    column,
    func,
    literal_column,
)
from sqlalchemy.dialects.postgresql import asyncpg
from sqlalchemy.sql.dml import UpdateBase
from sqlalchemy.sql.selectable import TableValuedAlias
from sqlalchemy.types import TypeEngine

__all__ = [
    "DIALECT",
    "ONE",
    "ZERO",
    "Statement",
    "blob",
    "blobs",
    "holds_old",
    "new_payload",
    "number",
    "numbers",
    "real",
    "text",
    "texts",
    "unnested",
]

DIALECT = asyncpg.dialect()  # type: ignore[no-untyped-call]

ZERO: ColumnElement[int] = literal_column("0", BigInteger)
ONE: ColumnElement[int] = literal_column("1", BigInteger)


@attrs.frozen
class Statement:
    """A compiled statement.

    Attributes:
        sql: With $1, $2 ….
        names: Of the parameters, in the order of their numbers.
        writes: Whether it changes anything.
    """

    sql: str
    names: tuple[str, ...]
    writes: bool

    @classmethod
    def of(cls, clause: ClauseElement) -> "Statement":
        """Compile a construct, all of whose values are named parameters."""
        compiled: Any = clause.compile(dialect=DIALECT)
        parts = (clause, *(cte.element for cte in compiled.ctes or ()))
        return cls(
            sql=str(compiled),
            names=tuple(compiled.positiontup or ()),
            writes=any(isinstance(part, UpdateBase) for part in parts),
        )

    def arguments(self, given: Mapping[str, Any]) -> list[Any]:
        """Return the values of the parameters in the order of their numbers."""
        return [given[name] for name in self.names]


def new_payload() -> dict[str, ColumnElement[Any]]:
    """Return the parameters ``make``, ``data``, ``bytes`` as the values of a payload's columns."""
    return {"tag": text("make"), "payload": text("data"), "blob": blob("bytes")}


def holds_old(table: Table) -> ColumnElement[bool]:
    """Compare a payload's columns with the parameters ``old_make``, ``old_data``, ``old_bytes``."""
    return and_(
        table.c.tag == text("old_make"),
        table.c.payload.is_not_distinct_from(text("old_data")),
        table.c.blob.is_not_distinct_from(blob("old_bytes")),
    )


def number(name: str) -> ColumnElement[int]:
    """Return a 64-bit parameter."""
    return bindparam(name, type_=BigInteger())


def numbers(name: str) -> ColumnElement[Any]:
    """Return a parameter that is a list of 64-bit numbers."""
    return bindparam(name, type_=ARRAY(BigInteger()))


def real(name: str) -> ColumnElement[float]:
    """Return a floating-point parameter."""
    return bindparam(name, type_=Float(53))


def text(name: str) -> ColumnElement[str]:
    """Return a text parameter."""
    return bindparam(name, type_=Text())


def texts(name: str) -> ColumnElement[Any]:
    """Return a parameter that is a list of texts."""
    return bindparam(name, type_=ARRAY(Text()))


def blob(name: str) -> ColumnElement[bytes]:
    """Return a bytes parameter."""
    return bindparam(name, type_=LargeBinary())


def blobs(name: str) -> ColumnElement[Any]:
    """Return a parameter that is a list of bytes."""
    return bindparam(name, type_=ARRAY(LargeBinary()))


def unnested(name: str, *lists: tuple[str, type[TypeEngine[Any]], ColumnElement[Any]]) -> TableValuedAlias:
    """Return lists as a table: name, kind and parameter of each column; then ``number``, from 1 on."""
    columns = (column(part, kind) for part, kind, _ in lists)
    table = func.unnest(*(given for *_, given in lists)).table_valued(*columns, with_ordinality="number")
    return table.render_derived(name)
