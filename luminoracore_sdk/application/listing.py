"""All pages of a listing, one header after the other."""

from collections.abc import AsyncIterator

import attrs

from luminoracore_sdk.application.ports.records import MAX_PAGE, SessionQuery, SessionRecord
from luminoracore_sdk.application.ports.storage import SessionStorage

__all__ = ["headers"]


async def headers(storage: SessionStorage, query: SessionQuery) -> AsyncIterator[SessionRecord]:
    """Yield every header that a query asks for, without payload, in constant memory.

    Args:
        storage: Where to look.
        query: Filters and direction; its limit and cursor are set here.
    """
    query = attrs.evolve(query, limit=MAX_PAGE, cursor=None)
    while True:
        page = await storage.query_sessions(query)
        for record in page.sessions:
            yield record
        if page.next_cursor is None:
            return
        query = attrs.evolve(query, cursor=page.next_cursor)
