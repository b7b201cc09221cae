"""The contract: listing sessions, also while they change."""

import asyncio
from random import Random

import attrs
import pytest

from luminoracore_sdk.application.ports.records import SessionQuery, SessionRecord
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.domain.errors import ValidationError
from luminoracore_sdk.testing.clock import ManualClock
from luminoracore_sdk.testing.contract.base import ContractBase
from luminoracore_sdk.testing.records import message_records, session_record

__all__ = ["ListingContract", "PageContract"]


_ENOUGH_PAGES = 50


class ListingContract(ContractBase):
    """Filters, order and pages."""

    async def put_at_one_second_each(self, storage: SessionStorage, clock: ManualClock, *session_ids: str) -> list[int]:
        """Put sessions one second apart; return their times of creation."""
        created = []
        for session_id in session_ids:
            created.append((await storage.put_session(session_record(session_id))).created_at_us)
            clock.advance(1)
        return created

    async def walk(self, storage: SessionStorage, **query: object) -> list[str]:
        """Return the ids of all pages."""
        found: list[str] = []
        cursor: tuple[int, str] | None = None
        for _ in range(_ENOUGH_PAGES):
            page = await storage.query_sessions(SessionQuery(**query, cursor=cursor))  # type: ignore[arg-type]
            found.extend(record.session_id for record in page.sessions)
            cursor = page.next_cursor
            if cursor is None:
                return found
        raise AssertionError(f"no end of pages after {_ENOUGH_PAGES}: {found}")

    async def test_an_empty_store_lists_nothing(self, storage: SessionStorage) -> None:
        page = await storage.query_sessions(SessionQuery())
        assert (page.sessions, page.next_cursor) == ((), None)

    async def test_listings_have_whole_headers_without_payload(
        self, storage: SessionStorage, clock: ManualClock
    ) -> None:
        put = await storage.put_session(session_record("s", user_id="u", tags=("t",), ttl_us=10**12))
        clock.advance(1)
        await storage.append_messages("s", message_records(2))
        (listed,) = (await storage.query_sessions(SessionQuery())).sessions
        assert listed.payload is None
        assert (listed.session_id, listed.user_id, listed.tags) == ("s", "u", ("t",))
        assert (listed.ttl_us, listed.version, listed.last_position) == (10**12, 1, 2)
        assert (listed.created_at_us, listed.updated_at_us) == (put.created_at_us, clock.now_us)

    async def test_listings_are_ordered_by_creation_both_ways(
        self, storage: SessionStorage, clock: ManualClock
    ) -> None:
        await self.put_at_one_second_each(storage, clock, "c", "a", "b")
        await storage.put_session(session_record("c", text="put again"))
        assert await self.walk(storage) == ["c", "a", "b"]
        assert await self.walk(storage, newest_first=True) == ["b", "a", "c"]

    async def test_sessions_of_one_time_are_ordered_by_code_points(self, storage: SessionStorage) -> None:
        ordered = ["A", "B", "a", "a\n", "aa", "é", "\uffff", "\U0001f600"]
        for session_id in reversed(ordered):
            await storage.put_session(session_record(session_id))
        assert await storage.list_sessions() == ordered
        assert await self.walk(storage, limit=3) == ordered
        assert await self.walk(storage, limit=3, newest_first=True) == ordered[::-1]

    async def test_filters_by_user_and_tag_combine(self, storage: SessionStorage) -> None:
        await storage.put_session(session_record("1", user_id="u", tags=("x", "y")))
        await storage.put_session(session_record("2", user_id="u", tags=("y",)))
        await storage.put_session(session_record("3", user_id="v", tags=("x",)))
        await storage.put_session(session_record("4"))
        assert await self.walk(storage, user_id="u") == ["1", "2"]
        assert await self.walk(storage, tag="x") == ["1", "3"]
        assert await self.walk(storage, user_id="u", tag="x") == ["1"]
        assert await self.walk(storage, user_id="u", tag="z") == []
        assert await self.walk(storage, user_id="U") == []

    async def test_filters_use_the_latest_put(self, storage: SessionStorage) -> None:
        await storage.put_session(session_record("1", user_id="u", tags=("x",)))
        await storage.put_session(session_record("1", user_id="v", tags=("y",)))
        assert await self.walk(storage, user_id="u") == []
        assert await self.walk(storage, tag="x") == []
        assert await self.walk(storage, user_id="v", tag="y") == ["1"]

    async def test_filter_values_are_literal(self, storage: SessionStorage) -> None:
        await storage.put_session(session_record("1", user_id="abc", tags=("ab",)))
        await storage.put_session(session_record("2", user_id="%", tags=("a", "b")))
        assert await self.walk(storage, user_id="%") == ["2"]
        assert await self.walk(storage, user_id="a_c") == []
        assert await self.walk(storage, tag="a") == ["2"]
        assert await self.walk(storage, tag='a","b') == []

    async def test_time_filters_include_the_start_and_exclude_the_end(
        self, storage: SessionStorage, clock: ManualClock
    ) -> None:
        created = await self.put_at_one_second_each(storage, clock, "1", "2", "3", "4")
        assert await self.walk(storage, created_after_us=created[1]) == ["2", "3", "4"]
        assert await self.walk(storage, created_before_us=created[2]) == ["1", "2"]
        between = {"created_after_us": created[1], "created_before_us": created[3]}
        assert await self.walk(storage, **between, limit=1) == ["2", "3"]
        assert await self.walk(storage, **between, limit=1, newest_first=True) == ["3", "2"]
        assert await self.walk(storage, created_after_us=created[3] + 1) == []

    @pytest.mark.parametrize("newest_first", [False, True])
    @pytest.mark.parametrize("limit", [1, 2, 3, 6, 7])
    async def test_pages_are_complete_and_within_the_limit(
        self, storage: SessionStorage, clock: ManualClock, *, limit: int, newest_first: bool
    ) -> None:
        ids = ["1", "2", "3", "4", "5", "6"]
        await self.put_at_one_second_each(storage, clock, *ids)
        page = await storage.query_sessions(SessionQuery(limit=limit, newest_first=newest_first))
        assert len(page.sessions) == min(limit, 6)
        expected = ids[::-1] if newest_first else ids
        assert await self.walk(storage, limit=limit, newest_first=newest_first) == expected

    async def test_a_page_with_all_sessions_is_the_last(self, storage: SessionStorage) -> None:
        await storage.put_session(session_record("1"))
        assert (await storage.query_sessions(SessionQuery(limit=2))).next_cursor is None

    @pytest.mark.parametrize("newest_first", [False, True])
    async def test_sessions_are_listed_once_while_others_change(
        self, storage: SessionStorage, clock: ManualClock, *, newest_first: bool
    ) -> None:
        await self.put_at_one_second_each(storage, clock, "1", "2", "3", "4", "5", "6")
        query = SessionQuery(limit=2, newest_first=newest_first)
        first = await storage.query_sessions(query)
        seen = [record.session_id for record in first.sessions]
        await storage.delete_session(seen[-1])  # the session of the cursor
        await storage.delete_session("4" if newest_first else "3")
        await storage.put_session(session_record("new"))
        await storage.put_session(session_record("5", text="put again"))
        assert first.next_cursor is not None
        rest = await self.rest_of(storage, first.next_cursor, newest_first=newest_first)
        stayed = ["6", "3", "2", "1"] if newest_first else ["1", "4", "5", "6"]
        listed = [*seen, *rest]
        assert [session_id for session_id in listed if session_id in stayed] == stayed
        assert listed.count("5") == 1
        assert len(set(listed)) == len(listed)

    async def rest_of(
        self, storage: SessionStorage, cursor: tuple[int, str] | None, *, newest_first: bool
    ) -> list[str]:
        """Return the ids of the pages after a cursor."""
        found: list[str] = []
        while cursor is not None and len(found) < _ENOUGH_PAGES:
            page = await storage.query_sessions(SessionQuery(limit=2, newest_first=newest_first, cursor=cursor))
            found.extend(record.session_id for record in page.sessions)
            cursor = page.next_cursor
        return found

    async def test_filters_apply_to_every_page(self, storage: SessionStorage, clock: ManualClock) -> None:
        for number in range(9):
            await storage.put_session(session_record(str(number), tags=("x",) if number % 3 == 0 else ()))
            clock.advance(1)
        assert await self.walk(storage, tag="x", limit=1) == ["0", "3", "6"]
        assert await self.walk(storage, tag="x", limit=2, newest_first=True) == ["6", "3", "0"]

    @pytest.mark.parametrize("limit", [0, -1, 1001])
    async def test_a_page_holds_1_to_1000_sessions(self, storage: SessionStorage, limit: int) -> None:
        with pytest.raises(ValidationError):
            await storage.query_sessions(SessionQuery(limit=limit))

    async def test_list_sessions_returns_all_by_creation(self, storage: SessionStorage, clock: ManualClock) -> None:
        assert await storage.list_sessions() == []
        await self.put_at_one_second_each(storage, clock, "z", "y", "x")
        await storage.delete_session("y")
        assert await storage.list_sessions() == ["z", "x"]


_AT_ONCE = 50
_LIMIT = 97
_PASSING = 20


def _session(name: str, created_at_us: int, *, user_id: str = "u") -> SessionRecord:
    record = session_record(name, user_id=user_id, tags=("t",))
    return attrs.evolve(record, created_at_us=created_at_us)


class PageContract(ContractBase):
    """Listings of ``listing_size`` sessions, of which three each have the same time of creation."""

    @pytest.fixture
    def residents(self) -> list[SessionRecord]:
        """Return the sessions that exist throughout, in the order of the listing."""
        return [_session(f"s{number:06}", 10**6 + number // 3) for number in range(self.listing_size)]

    async def put_all(self, storage: SessionStorage, records: list[SessionRecord]) -> None:
        """Put sessions concurrently, in random order."""
        mixed = Random(1).sample(records, len(records))  # noqa: S311  # no secret
        for start in range(0, len(mixed), _AT_ONCE):
            await asyncio.gather(*map(storage.put_session, mixed[start : start + _AT_ONCE]))

    def passing(self, residents: list[SessionRecord], visit: int) -> list[SessionRecord]:
        """Return sessions of the same user with times of creation all over the listing."""
        moments = range(10**6, residents[-1].created_at_us + 2, max(1, len(residents) // 3 // _PASSING))
        return [_session(f"s{place:06}-{visit}", moment) for place, moment in enumerate(moments)]

    async def come_and_go(self, storage: SessionStorage, residents: list[SessionRecord], visit: int) -> None:
        """Delete some sessions of the previous visit, put some of this one, and some residents again."""
        random = Random(visit)  # noqa: S311  # no secret
        gone = random.sample(self.passing(residents, visit - 1), 5)
        new = random.sample(self.passing(residents, visit), 5)
        await asyncio.gather(
            *(storage.delete_session(record.session_id) for record in gone),
            *map(storage.put_session, [*new, *random.sample(residents, 2)]),
        )

    async def test_a_long_listing_is_complete_while_others_change(
        self, storage: SessionStorage, residents: list[SessionRecord]
    ) -> None:
        strangers = [_session(f"x{number}", 10**6 + number, user_id="v") for number in range(100)]
        await self.put_all(storage, [*residents, *strangers, *self.passing(residents, 0)])
        staying = [record.session_id for record in residents]
        visit = 0
        for newest_first in (False, True):
            query = SessionQuery(user_id="u", limit=_LIMIT, newest_first=newest_first)
            listed: list[str] = []
            while True:
                visit += 1
                page, _ = await asyncio.gather(
                    storage.query_sessions(query), self.come_and_go(storage, residents, visit)
                )
                listed += [record.session_id for record in page.sessions]
                if page.next_cursor is None:
                    break
                assert 0 < len(page.sessions) <= _LIMIT  # sessions deleted meanwhile may be missing
                query = attrs.evolve(query, cursor=page.next_cursor)
            assert len(set(listed)) == len(listed)
            found = [name for name in listed if len(name) == len(staying[0])]
            assert found == (staying[::-1] if newest_first else staying)
