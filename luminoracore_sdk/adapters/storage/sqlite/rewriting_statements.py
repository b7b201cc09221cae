"""The statements of the SQLite backend that replace payloads, each compiled once."""

from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, func, select, update

from luminoracore_sdk.adapters.storage.sqlite.compiled import Statement, number, text
from luminoracore_sdk.adapters.storage.sqlite.schema import Tables

__all__ = ["RewritingStatements", "rewriting_statements"]


class RewritingStatements:
    """What changes a payload, with the checksum that goes with it, and nothing else.

    They do not compare: they run in a transaction that has read what they replace.
    """

    def __init__(self, tables: Tables) -> None:
        sessions, messages, memories = tables.sessions, tables.messages, tables.memories
        new: dict[str, ColumnElement[Any]] = {
            "checksum": number("crc"),
            "tag": text("make"),
            "payload": text("data"),
        }
        self.session = Statement.of(update(sessions).where(sessions.c.session_id == text("session")).values(new))
        of_session = messages.c.session_id == text("session")
        self.message = Statement.of(
            update(messages).where(of_session, messages.c.position == number("place")).values(new)
        )
        self.memory = Statement.of(
            update(memories)
            .where(
                memories.c.scope_kind == text("kind"),
                memories.c.scope_id == text("owner"),
                memories.c.key == text("name"),
            )
            .values(new)
        )
        places = select(func.json_each(text("places")).table_valued("value").c.value)
        columns = (
            *(messages.c.position, messages.c.message_id, messages.c.role, messages.c.created_at_us),
            *(messages.c.checksum, messages.c.tag, messages.c.payload),
        )
        self.messages_at = Statement.of(select(*columns).where(of_session, messages.c.position.in_(places)))


@lru_cache(maxsize=8)
def rewriting_statements(prefix: str) -> RewritingStatements:
    """Return the statements over the tables with that prefix."""
    return RewritingStatements(Tables.named(prefix))
