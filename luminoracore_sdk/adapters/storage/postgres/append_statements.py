"""The statements that append messages, as SQLAlchemy constructs, each compiled once.

Taking the positions locks the row of the session until the end of the statement, so that appends to one
session follow each other.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    LargeBinary,
    Table,
    Text,
    func,
    insert,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.sql.selectable import CTE

from luminoracore_sdk.adapters.storage.postgres.compiled import (
    ONE,
    Statement,
    blob,
    blobs,
    number,
    numbers,
    text,
    texts,
    unnested,
)

__all__ = ["AppendStatements"]

_COLUMNS = ("message_id", "role", "created_at_us", "tag", "payload", "blob")


class AppendStatements:
    """The statements.

    Args:
        messages: Their table.
        sessions: That of the headers.
        this: Names the session by the parameter ``session``.
        is_live: Whether it has not expired at ``now``.

    Attributes:
        one: One message, with less work for the server than ``batch`` (measured: 0.06 of 0.48 ms). Its
            parameters are ``session``, ``now``, ``expected`` (NULL: in any case) and ``id``, ``role``,
            ``time``, ``make``, ``data``, ``bytes``. Returns the new last position.
        batch: Any number. Its parameters are ``session``, ``now``, ``expected``, ``size``, and the lists
            ``ids``, ``roles``, ``times``, ``makes``, ``data``, ``bytes``. Returns the new last position.
        groups: To many sessions, see ``_groups``.
    """

    def __init__(
        self, messages: Table, sessions: Table, *, this: ColumnElement[bool], is_live: ColumnElement[bool]
    ) -> None:
        self._messages = messages
        self._sessions = sessions
        self._this = this
        self._is_live = is_live
        self.one = self._one()
        self.batch = self._batch()
        self.groups = self._groups()

    def _one(self) -> Statement:
        head = self._head(ONE)
        given = (text("id"), text("role"), number("time"), text("make"), text("data"), blob("bytes"))
        row = select(head.c.sid, head.c.last_position, *given)
        put = insert(self._messages).from_select(["sid", "position", *_COLUMNS], row)
        return Statement.of(put.returning(self._messages.c.position))

    def _batch(self) -> Statement:
        head = self._head(number("size"))
        batch = unnested("batch", *_lists())
        first = head.c.last_position - number("size")
        rows = select(head.c.sid, first + batch.c.number, *(batch.c[name] for name in _COLUMNS))
        put = insert(self._messages).from_select(
            ["sid", "position", *_COLUMNS], rows.select_from(head.join(batch, true()))
        )
        return Statement.of(select(head.c.last_position).add_cte(put.cte("put")))

    def _head(self, size: ColumnElement[int]) -> CTE:
        """Take the positions of one session."""
        sessions = self._sessions
        taken = {
            "last_position": sessions.c.last_position + size,
            "updated_at_us": func.greatest(number("now"), sessions.c.updated_at_us),
        }
        expected = or_(number("expected").is_(None), sessions.c.last_position == number("expected"))
        take = update(sessions).where(self._this, self._is_live, expected).values(taken)
        return take.returning(sessions.c.sid, sessions.c.last_position).cte("head")

    def _groups(self) -> Statement:
        """Return appends to many sessions in one statement.

        It waits for nobody and nobody can come to wait for it in a circle: a session whose row another
        transaction holds is left out, as one that is absent or does not meet its condition.

        Its parameters are ``now``; the lists ``sessions``, ``expected`` and ``sizes``, an item each session;
        the lists ``owners`` (the number of its session, from 1 on) and ``places`` (its place among those of
        its session, from 1 on), ``ids``, ``roles``, ``times``, ``makes``, ``data``, ``bytes``, an item each
        message. Returns a number and the new last position for each session that was written.
        """
        messages, sessions = self._messages, self._sessions
        wanted = unnested(
            "wanted",
            ("session_id", Text, texts("sessions")),
            ("expected", BigInteger, numbers("expected")),
            ("size", BigInteger, numbers("sizes")),
        )
        as_expected = or_(wanted.c.expected.is_(None), sessions.c.last_position == wanted.c.expected)
        locked = (
            select(sessions.c.sid, wanted.c.size, wanted.c.number)
            .where(sessions.c.session_id == wanted.c.session_id, self._is_live, as_expected)
            .with_for_update(of=sessions, key_share=True, skip_locked=True)
            .cte("locked")
        )
        taken: dict[str, Any] = {
            "last_position": sessions.c.last_position + locked.c.size,
            "updated_at_us": func.greatest(number("now"), sessions.c.updated_at_us),
        }
        head = (
            update(sessions)
            .where(sessions.c.sid == locked.c.sid)
            .values(taken)
            .returning(sessions.c.sid, sessions.c.last_position, locked.c.size, locked.c.number)
            .cte("head")
        )
        batch = unnested(
            "batch",
            ("owner", BigInteger, numbers("owners")),
            ("place", BigInteger, numbers("places")),
            *_lists(),
        )
        position = head.c.last_position - head.c.size + batch.c.place
        rows = select(head.c.sid, position, *(batch.c[name] for name in _COLUMNS))
        put = insert(messages).from_select(
            ["sid", "position", *_COLUMNS],
            rows.select_from(head.join(batch, batch.c.owner == head.c.number)),
        )
        return Statement.of(select(head.c.number, head.c.last_position).add_cte(put.cte("put")))


def _lists() -> tuple[tuple[str, Any, ColumnElement[Any]], ...]:
    """Return the columns of ``_COLUMNS`` with kinds and parameters."""
    return (
        ("message_id", Text, texts("ids")),
        ("role", Text, texts("roles")),
        ("created_at_us", BigInteger, numbers("times")),
        ("tag", Text, texts("makes")),
        ("payload", Text, texts("data")),
        ("blob", LargeBinary, blobs("bytes")),
    )
