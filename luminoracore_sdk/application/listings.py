"""Lists of conversations, and the tokens of sessions, without reading a message."""

import base64
import json
from contextlib import suppress
from datetime import date, datetime
from typing import Literal, get_args

import attrs

from luminoracore_sdk.application.ports.codec import EntityCodec
from luminoracore_sdk.application.ports.records import MAX_PAGE, SessionQuery, SessionRecord
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.application.session_access import headers
from luminoracore_sdk.domain.errors import ValidationError
from luminoracore_sdk.domain.settings import ARCHIVED, PINNED
from luminoracore_sdk.domain.summaries import ConversationPage
from luminoracore_sdk.domain.usage import Usage

__all__ = ["Listings", "Order", "check_days"]

Order = Literal["activity", "created"]


@attrs.frozen(kw_only=True)
class Listings:
    """Reads pages of headers.

    Attributes:
        storage: Holds the sessions.
        codec: Reads their records.
    """

    storage: SessionStorage
    codec: EntityCodec

    async def conversations(  # the filters
        self,
        *,
        user_id: str | None,
        tag: str | None,
        archived: bool | None,
        pinned: bool | None,
        order: Order,
        limit: int,
        cursor: str | None,
    ) -> ConversationPage:
        """Return one page; see ``Sessions.list_conversations``."""
        if order not in get_args(Order):
            raise ValidationError(f"order is {' or '.join(map(repr, get_args(Order)))}, not {order!a:.40}")
        if type(limit) is not int or not 1 <= limit <= MAX_PAGE:
            raise ValidationError(f"a page holds 1 to {MAX_PAGE} conversations, not {limit!a:.40}")
        flags = {ARCHIVED: archived, PINNED: pinned}
        for flag in flags.values():
            if flag is not None and type(flag) is not bool:
                raise ValidationError(f"archived and pinned are True, False or None, not {flag!a:.40}")
        asked = (PINNED if pinned else None, tag, ARCHIVED if archived else None)  # the rarest first, as a rule
        wanted = [name for name in asked if name is not None]
        unwanted = [name for name, flag in flags.items() if flag is False]
        query = SessionQuery(
            user_id=user_id,
            tag=wanted[0] if wanted else None,
            without_tag=unwanted[0] if unwanted else None,
            by_activity=order == "activity",
            newest_first=True,
            limit=limit,
            cursor=None if cursor is None else _parsed(cursor),
        )
        is_simple = len(wanted) <= 1 and len(unwanted) <= 1  # the storage filters by one tag of each kind
        found: list[SessionRecord] = []
        while True:
            page = await self.storage.query_sessions(query)
            found += (
                page.sessions
                if is_simple
                else [
                    record
                    for record in page.sessions
                    if all(name in record.tags for name in wanted) and not any(name in record.tags for name in unwanted)
                ]
            )
            if page.next_cursor is None or len(found) >= limit:
                break
            query = attrs.evolve(query, cursor=page.next_cursor, limit=MAX_PAGE)  # what is wanted is rare
        last = found[limit - 1] if len(found) >= limit else None
        has_more = last is not None and (page.next_cursor is not None or len(found) > limit)
        backend = self.storage.backend
        return ConversationPage(
            conversations=[self.codec.summary(record, backend=backend) for record in found[:limit]],
            next_cursor=_text(query.key(last)) if last is not None and has_more else None,
        )

    async def usage(self, query: SessionQuery, *, since: date | None, until: date | None) -> Usage:
        """Return the tokens that the sessions of a query have used in a period."""
        total = Usage()
        async for record in headers(self.storage, query):
            total += Usage.of_counters(record.summary.counters, since=since, until=until)
        return total


def check_days(*days: date | None) -> None:
    """Refuse the bound of a period that is neither None nor a date.

    Raises:
        ValidationError: There is one; a datetime is none.
    """
    for day in days:
        if day is not None and (not isinstance(day, date) or isinstance(day, datetime)):
            raise ValidationError(f"since and until are dates, not {type(day).__name__}")


def _text(cursor: tuple[int, str]) -> str:
    return base64.urlsafe_b64encode(json.dumps(cursor).encode()).decode()


def _parsed(cursor: str) -> tuple[int, str]:
    with suppress(ValueError, TypeError, RecursionError):
        match json.loads(base64.urlsafe_b64decode(cursor)):
            case [int(time_us), str(session_id)] if type(time_us) is int:
                return time_us, session_id
    raise ValidationError(f"{cursor!a:.80} is not a cursor; pass the next_cursor of a page as it is")
