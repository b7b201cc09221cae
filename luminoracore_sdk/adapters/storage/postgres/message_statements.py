"""The statements of the PostgreSQL backend on messages, as SQLAlchemy constructs, each compiled once."""

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    LargeBinary,
    Table,
    Text,
    and_,
    any_,
    delete,
    func,
    select,
    true,
    update,
)

from luminoracore_sdk.adapters.storage.postgres.append_statements import AppendStatements
from luminoracore_sdk.adapters.storage.postgres.compiled import (
    ONE,
    Statement,
    blobs,
    number,
    numbers,
    texts,
    unnested,
)

__all__ = ["MessageStatements"]


class MessageStatements:
    """The statements on messages, and what they change in the header.

    Args:
        messages: Their table.
        sessions: That of the headers.
        this: Names the session by the parameter ``session``.
        is_live: Whether it has not expired at ``now``.
    """

    def __init__(
        self, messages: Table, sessions: Table, *, this: ColumnElement[bool], is_live: ColumnElement[bool]
    ) -> None:
        self._messages = messages
        self._sessions = sessions
        self._this = this
        self._is_live = is_live
        self.append = AppendStatements(messages, sessions, this=this, is_live=is_live)
        self.known = Statement.of(
            select(messages.c.message_id, messages.c.position).where(
                messages.c.sid == number("sid_"), messages.c.message_id == any_(texts("ids"))
            )
        )
        self.read_oldest = self._read(messages.c.position)
        self.read_newest = self._read(messages.c.position.desc())
        after = number("after")
        cut = {
            "last_position": func.least(sessions.c.last_position, after),
            "updated_at_us": func.greatest(number("now"), sessions.c.updated_at_us),
        }
        self.truncate = Statement.of(
            update(sessions).where(self._this, self._is_live).values(cut).returning(sessions.c.sid)
        )
        self.rewrite = self._rewrite()
        above = and_(messages.c.sid == number("sid_"), messages.c.position > after)
        gone = delete(messages).where(above).returning(ONE.label("one")).cte("gone")
        self.drop_above = Statement.of(select(func.count()).select_from(gone))
        self.drop = Statement.of(delete(messages).where(messages.c.sid == any_(numbers("sids"))))

    def _rewrite(self) -> Statement:
        """Return what replaces payloads: one statement for a batch of any size, which returns how many.

        It locks the row of the session first, as all do that write its messages: so none of them waits for
        one that waits for it. Its parameters are ``session``, ``now``, and the lists ``places``, ``ids``,
        ``old_makes``, ``old_data``, ``old_bytes``, ``makes``, ``data``, ``bytes``.
        """
        messages, sessions = self._messages, self._sessions
        locked = select(sessions.c.sid).where(self._this, self._is_live).with_for_update(key_share=True)
        head = locked.cte("head")
        batch = unnested(
            "batch",
            ("position", BigInteger, numbers("places")),
            ("message_id", Text, texts("ids")),
            ("old_tag", Text, texts("old_makes")),
            ("old_payload", Text, texts("old_data")),
            ("old_blob", LargeBinary, blobs("old_bytes")),
            ("tag", Text, texts("makes")),
            ("payload", Text, texts("data")),
            ("blob", LargeBinary, blobs("bytes")),
        )
        replaced = (
            update(messages)
            .where(
                messages.c.sid == head.c.sid,
                messages.c.position == batch.c.position,
                messages.c.message_id == batch.c.message_id,
                messages.c.tag == batch.c.old_tag,
                messages.c.payload.is_not_distinct_from(batch.c.old_payload),
                messages.c.blob.is_not_distinct_from(batch.c.old_blob),
            )
            .values(tag=batch.c.tag, payload=batch.c.payload, blob=batch.c.blob)
            .returning(ONE.label("one"))
            .cte("replaced")
        )
        return Statement.of(select(func.count()).select_from(replaced))

    def _read(self, order: ColumnElement[int]) -> Statement:
        """Return a range: last position of the session, then the message; one row at least if it is there.

        Its parameters are ``session``, ``now``, ``after``, ``before`` and ``count``, NULL for no limit.
        """
        messages, sessions = self._messages, self._sessions
        columns = (
            *(messages.c.position, messages.c.message_id, messages.c.role, messages.c.created_at_us),
            *(messages.c.tag, messages.c.payload, messages.c.blob),
        )
        # inside, so that the index gives the order and the limit ends the search
        found = (
            select(*columns)
            .where(
                messages.c.sid == sessions.c.sid,
                messages.c.position > number("after"),
                messages.c.position < number("before"),
            )
            .order_by(order)
            .limit(number("count"))
            .lateral("found")
        )
        read = select(sessions.c.last_position, *found.c).select_from(sessions.outerjoin(found, true()))
        return Statement.of(read.where(self._this, self._is_live).order_by(found.c.position))
