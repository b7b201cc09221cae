"""The contract: many sessions of a user, in pages, while others come and go."""

import asyncio
from random import Random

import attrs
import pytest

from luminoracore_sdk.application.ports.records import SessionQuery, SessionRecord
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.testing.builders import session_record
from luminoracore_sdk.testing.contract_base import ContractBase

__all__ = ["PageContract"]

_AT_ONCE = 50
_LIMIT = 97
_PASSING = 20


def _session(name: str, created_at_us: int, *, user_id: str = "u") -> SessionRecord:
    record = session_record(name, user_id=user_id, tags=("t",))
    return attrs.evolve(record, created_at_us=created_at_us)


class PageContract(ContractBase):
    """``listing_size`` sessions; three of each moment, so that cursors end within a moment too."""

    @pytest.fixture
    def residents(self) -> list[SessionRecord]:
        """Return the sessions that are there throughout, in the order of the listing."""
        return [_session(f"s{number:06}", 10**6 + number // 3) for number in range(self.listing_size)]

    async def put_all(self, storage: SessionStorage, records: list[SessionRecord]) -> None:
        """Put sessions, many at once, in an order that has nothing to do with their time."""
        mixed = Random(1).sample(records, len(records))  # noqa: S311  # no secret
        for start in range(0, len(mixed), _AT_ONCE):
            await asyncio.gather(*map(storage.put_session, mixed[start : start + _AT_ONCE]))

    def passing(self, residents: list[SessionRecord], visit: int) -> list[SessionRecord]:
        """Return sessions of the same user that are created all over the listing."""
        moments = range(10**6, residents[-1].created_at_us + 2, max(1, len(residents) // 3 // _PASSING))
        return [_session(f"s{place:06}-{visit}", moment) for place, moment in enumerate(moments)]

    async def come_and_go(self, storage: SessionStorage, residents: list[SessionRecord], visit: int) -> None:
        """Delete those of the visit before, put those of this one, and some residents again."""
        random = Random(visit)  # noqa: S311  # no secret
        gone = random.sample(self.passing(residents, visit - 1), 5)
        new = random.sample(self.passing(residents, visit), 5)
        await asyncio.gather(
            *(storage.delete_session(record.session_id) for record in gone),
            *map(storage.put_session, [*new, *random.sample(residents, 2)]),
        )

    async def test_a_users_sessions_are_listed_once_each_in_pages_while_others_come_and_go(
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
                assert 0 < len(page.sessions) <= _LIMIT  # what was deleted meanwhile may be missing
                query = attrs.evolve(query, cursor=page.next_cursor)
            assert len(set(listed)) == len(listed)
            found = [name for name in listed if len(name) == len(staying[0])]
            assert found == (staying[::-1] if newest_first else staying)
