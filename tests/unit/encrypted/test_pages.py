"""Pages of two listings: nothing is listed twice, and nothing is passed over."""

import pytest

from luminoracore_sdk.application.ports.records import Page, SessionQuery, SessionRecord
from luminoracore_sdk.application.session_access import merged_page


def page(*created: int, end: int | None = None) -> Page:
    """Return a page of sessions that are called after the time when they were created."""
    sessions = tuple(SessionRecord(session_id=f"s{time}", payload=None, created_at_us=time) for time in created)
    return Page(sessions=sessions, next_cursor=None if end is None else (end, f"s{end}"))


def times(merged: Page) -> list[int]:
    return [record.created_at_us for record in merged.sessions]


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(
    ("first", "second", "listed", "end"),
    [
        (page(), page(), [], None),
        (page(1, 3), page(2), [1, 2, 3], None),
        (page(1, 2), page(2), [1, 2], None),
        (page(1, 2, 4, end=4), page(3), [1, 2, 3], 3),
        (page(1, 2, 3, end=3), page(4, 5, 6, end=6), [1, 2, 3], 3),
        (page(1, end=3), page(2, 4), [1, 2], 3),  # short by what was deleted meanwhile
        (page(end=3), page(4), [], 3),
    ],
)
def test_two_pages_become_one(first: Page, second: Page, listed: list[int], end: int | None, *, turned: bool) -> None:
    merged = merged_page((second, first) if turned else (first, second), SessionQuery(limit=3))
    assert times(merged) == listed
    assert merged.next_cursor == (None if end is None else (end, f"s{end}"))


def test_newest_first_turns_it_round() -> None:
    merged = merged_page((page(9, end=5), page(8, 4)), SessionQuery(limit=3, newest_first=True))
    assert (times(merged), merged.next_cursor) == ([9, 8], (5, "s5"))
