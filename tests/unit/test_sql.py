"""Statements of ``queries.sql``."""

import pytest

from luminoracore_sdk.adapters.storage.sql import Statement, narrowed

_NUMBERED = 'SELECT 1 FROM "x$1".t\n WHERE a > $1\n   AND b = $2\n   AND (c, a) > ($3, $1)\n LIMIT $4'
_NAMED = "SELECT 1 FROM t\n WHERE a > :now\n   AND b = :user\n   AND (c, a) > (:cursor, :now)\n LIMIT :count"


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        (_NUMBERED, 'SELECT 1 FROM "x$1".t\n WHERE a > $1\n   AND (c, a) > ($2, $1)\n LIMIT $3'),
        (_NAMED, "SELECT 1 FROM t\n WHERE a > :now\n   AND (c, a) > (:cursor, :now)\n LIMIT :count"),
    ],
)
def test_a_narrowed_statement_has_only_the_given_parameters(sql: str, expected: str) -> None:
    statement = Statement("n", sql, ("now", "user", "cursor", "count"), writes=False)
    assert narrowed(statement, frozenset(statement.parameters)) == statement
    found = narrowed(statement, frozenset({"now", "cursor", "count"}))
    assert (found.sql, found.parameters) == (expected, ("now", "cursor", "count"))
