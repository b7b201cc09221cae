"""Named statements of a SQL backend, loaded from its ``queries.sql``.

A statement begins at a line ``-- name: find_session`` and ends at the next one. The file can be pasted into
psql or sqlite3: tables have their default names, which begin with ``luminora_``, and parameters are written
``:name``. Loading replaces the table names by the configured ones and, for PostgreSQL, the parameters by
``$1``, ``$2`` ….
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from types import MappingProxyType
from typing import Any

import attrs

__all__ = ["DEFAULT_PREFIX", "Statement", "Statements", "load_statements", "narrowed", "without_texts"]

DEFAULT_PREFIX = "luminora_"
"""Beginning of the table names in ``queries.sql``, and of the tables unless configured."""

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_COMMENT = re.compile(r"^\s*--.*\n?", re.MULTILINE)
_STRING = re.compile(r"'[^']*'")
_PARAMETER = re.compile(r"(?<![:\w]):([a-z][a-z0-9_]*)")
_PLACEHOLDER = re.compile(rf"""\$(\d+)|{_PARAMETER.pattern}|"(?:[^"]|"")*\"""")
_TABLE = re.compile(rf"\b{DEFAULT_PREFIX}(\w+)\b")
_TEXTS = re.compile(r"(?<=last_change),.*?(?=\n *FROM)", re.DOTALL)
_WRITES = re.compile(r"\b(?:INSERT|DELETE|(?<!FOR )(?<!KEY )UPDATE)\b")  # FOR UPDATE only locks


@attrs.frozen
class Statement:
    """One statement.

    Attributes:
        name: As in ``queries.sql``.
        sql: The text for the driver.
        parameters: Names of the parameters; with ``numbered``, in the order of their numbers.
        writes: Whether it changes anything.
    """

    name: str
    sql: str
    parameters: tuple[str, ...]
    writes: bool

    def arguments(self, given: Mapping[str, Any]) -> list[Any]:
        """Return the values of the parameters in the order of their numbers."""
        return [given[name] for name in self.parameters]


@lru_cache(maxsize=32)
def without_texts(statement: Statement) -> Statement:
    """Return a listing without the columns behind ``last_change``, which are card and summary."""
    return attrs.evolve(statement, sql=_TEXTS.sub("", statement.sql))


@lru_cache(maxsize=256)
def narrowed(statement: Statement, given: frozenset[str]) -> Statement:
    """Return a statement without the lines that have a parameter which is not given."""

    def parameter(match: re.Match[str]) -> str | None:
        number, name = match.groups()
        return statement.parameters[int(number) - 1] if number else name  # None: a quoted name

    lines = [
        line
        for line in statement.sql.splitlines()
        if given.issuperset(filter(None, map(parameter, _PLACEHOLDER.finditer(line))))
    ]
    parameters = tuple(name for name in statement.parameters if name in given)

    def renumbered(match: re.Match[str]) -> str:
        return f"${parameters.index(str(parameter(match))) + 1}" if match[1] else match[0]

    return attrs.evolve(statement, sql=_PLACEHOLDER.sub(renumbered, "\n".join(lines)), parameters=parameters)


class Statements:
    """The statements of one ``queries.sql``, each an attribute or item under its name."""

    def __init__(self, statements: Mapping[str, Statement]) -> None:
        self._statements = MappingProxyType(dict(statements))

    def __getattr__(self, name: str) -> Statement:
        try:
            return self._statements[name]
        except KeyError:
            raise AttributeError(f"queries.sql has no statement {name!r}") from None

    def __getitem__(self, name: str) -> Statement:
        return self._statements[name]

    def names(self) -> list[str]:
        """Return the names of all statements, in the order of the file."""
        return list(self._statements)


def load_statements(package: str, *, tables: Mapping[str, str], numbered: bool) -> Statements:
    """Read the ``queries.sql`` of a backend.

    Args:
        package: The backend's package.
        tables: What replaces each table name of the file, quoted as SQL has it; keys are the names
            without ``luminora_``.
        numbered: Whether to write parameters as ``$1``, ``$2`` … instead of ``:name``.

    Raises:
        KeyError: The file names a table that ``tables`` does not have.
    """
    text = resources.files(package).joinpath("queries.sql").read_text("utf-8")
    parts = _NAME.split(text)[1:]
    statements = {}
    for name, body in zip(parts[::2], parts[1::2], strict=True):
        sql = _COMMENT.sub("", body).strip().removesuffix(";")
        parameters = tuple(dict.fromkeys(_PARAMETER.findall(_STRING.sub("''", sql))))
        if numbered:
            for number, parameter in enumerate(parameters, 1):
                sql = re.sub(rf"(?<![:\w]):{parameter}\b", f"${number}", sql)
        writes = _WRITES.search(sql) is not None
        # last: a configured name may hold anything, also ':' and quotes
        sql = _TABLE.sub(lambda match: tables[match.group(1)], sql)
        statements[name] = Statement(name, sql, parameters, writes)
    return Statements(statements)
