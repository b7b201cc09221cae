"""Pages of two listings as one page of both."""

from luminoracore_sdk.application.ports.records import Page, SessionQuery, SessionRecord

__all__ = ["merged_page"]


def merged_page(pages: tuple[Page, Page], query: SessionQuery) -> Page:
    """Return the page of a query that two listings answer together; a session in both is listed once.

    Args:
        pages: What each listing answers to the query; what only the first one has counts too.
        query: Its order and limit hold for the result.
    """
    found = {record.session_id: record for page in pages for record in page.sessions}
    listed = sorted(found.values(), key=_place, reverse=query.newest_first)
    ends = [page.next_cursor for page in pages if page.next_cursor is not None]
    end = None
    if ends:  # behind the end of a page that has a successor there may be sessions that nobody has seen yet
        end = max(ends) if query.newest_first else min(ends)
        listed = [record for record in listed if not _is_beyond(_place(record), end, query)]
    if len(listed) > query.limit:
        listed = listed[: query.limit]
        end = _place(listed[-1])
    return Page(sessions=tuple(listed), next_cursor=end)


def _place(record: SessionRecord) -> tuple[int, str]:
    return record.created_at_us, record.session_id


def _is_beyond(place: tuple[int, str], end: tuple[int, str], query: SessionQuery) -> bool:
    return place < end if query.newest_first else place > end
