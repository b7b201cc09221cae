"""The statements of the PostgreSQL backend on memory: the same for the two kinds of scope."""

from typing import Any, Self

from sqlalchemy import (
    ColumnElement,
    FromClause,
    LargeBinary,
    Select,
    Table,
    Text,
    and_,
    case,
    delete,
    func,
    literal_column,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import insert as upsert

from luminoracore_sdk.adapters.storage.postgres.compiled import (
    ONE,
    Statement,
    blob,
    holds_old,
    new_payload,
    number,
    real,
    text,
)

__all__ = ["MemoryStatements"]


class MemoryStatements:
    """The statements on one of the two tables.

    All take ``owner`` and, as far as they depend on the time, ``now``.

    Args:
        table: Which.
        within: What the rows of the scope have in common.
        owner: The columns that say whose a row is, and what they get.
        owners: Where the latter come from; no row: there is no such scope.
        locked: The same, and the scope is locked until the end of the transaction.
    """

    def __init__(
        self,
        table: Table,
        *,
        within: ColumnElement[bool],
        owner: dict[str, ColumnElement[Any]],
        owners: Select[Any],
        locked: Select[Any],
    ) -> None:
        self._table = table
        self._owner = list(owner)
        ends = table.c.expires_at_us
        is_live = or_(ends.is_(None), ends > number("now"))
        there, this = and_(within, is_live), table.c.key == text("name")
        found = select(
            *(table.c.key, ends, table.c.retention, table.c.created_at_us, table.c.updated_at_us),
            *(table.c.tag, table.c.payload, table.c.blob),
        )
        self.find = Statement.of(found.where(there, this))
        self.list = Statement.of(found.where(there).order_by(table.c.created_at_us, table.c.key))
        self.put = self._put(owners)
        self.put_locked = self._put(locked)
        self.rewrite = Statement.of(
            update(table).where(there, this, holds_old(table)).values(new_payload()).returning(ONE.label("one"))
        )
        self.delete = Statement.of(delete(table).where(there, this).returning(ONE.label("one")))
        cleared = delete(table).where(there).returning(ONE.label("one")).cte("cleared")
        self.clear = Statement.of(select(func.count()).select_from(cleared))
        other = table.c.key != text("name")
        ranked = (table.c.retention.desc(), table.c.updated_at_us.desc(), table.c.key.desc())
        surplus = select(table.c.key).where(there, other).order_by(*ranked).offset(number("others"))
        self.evict = Statement.of(
            delete(table).where(within, other, or_(ends <= number("now"), table.c.key.in_(surplus)))
        )
        self.purge = self._purge()

    @classmethod
    def of_sessions(cls, table: Table, live: Select[Any]) -> Self:
        """Return the statements on the memories of sessions.

        Args:
            table: Which.
            live: Selects the number of the session, if it is live.
        """
        return cls(
            table,
            within=table.c.sid == live.scalar_subquery(),
            owner={"sid": table.c.sid},
            owners=live.with_for_update(read=True, key_share=True),
            locked=live.with_for_update(key_share=True),
        )

    @classmethod
    def of_users(cls, table: Table) -> Self:
        """Return the statements on the memories of users; ``put_locked`` takes a number ``lock`` too."""
        utf8 = literal_column("'UTF8'", Text)
        digest = func.sha256(func.convert_to(text("owner"), utf8), type_=LargeBinary)
        owners: Any = select(digest, text("owner"))
        locked = select(func.pg_advisory_xact_lock(number("lock"))).cte("locked")
        return cls(
            table,
            within=table.c.user_digest == digest,
            owner={"user_digest": table.c.user_digest, "user_id": table.c.user_id},
            owners=owners,
            locked=owners.select_from(locked),
        )

    def _put(self, owners: Select[Any]) -> Statement:
        """Put a memory; what it replaces hands on its time of creation, unless that had expired.

        Its parameters are ``name``, ``ends``, ``rank``, ``created``, ``now``, ``make``, ``data`` and
        ``bytes``.
        """
        table = self._table
        given = owners.add_columns(
            *(text("name"), number("ends"), real("rank"), number("created"), number("now")),
            *(text("make"), text("data"), blob("bytes")),
        )
        names = [
            "key",
            "expires_at_us",
            "retention",
            "created_at_us",
            "updated_at_us",
            "tag",
            "payload",
            "blob",
        ]
        put = upsert(table).from_select([*self._owner, *names], given)
        new = put.excluded
        kept = {name: new[name] for name in names if name not in ("key", "created_at_us")}
        created = case((table.c.expires_at_us <= new.updated_at_us, new.created_at_us), else_=table.c.created_at_us)
        return Statement.of(
            put.on_conflict_do_update(
                index_elements=[self._owner[0], "key"], set_={**kept, "created_at_us": created}
            ).returning(table.c.created_at_us)
        )

    def _purge(self) -> Statement:
        table = self._table
        key = (table.c[self._owner[0]], table.c.key)
        gone: FromClause = (
            select(*key)
            .where(table.c.expires_at_us <= number("now"))
            .limit(number("count"))
            .with_for_update(skip_locked=True)
            .cte("gone")
        )
        dropped = delete(table).where(tuple_(*key).in_(select(*gone.c))).returning(ONE.label("one"))
        return Statement.of(select(func.count()).select_from(dropped.cte("dropped")))
