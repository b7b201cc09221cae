"""Memory storages that go wrong with time to live, purges or tenants; see ``Faulty``."""

from time import time_ns
from weakref import WeakKeyDictionary

import attrs

from luminoracore_sdk.adapters.storage.memory import InMemoryStorage
from luminoracore_sdk.application.ports.clock import Clock
from luminoracore_sdk.application.ports.records import Purged, SessionRecord
from tests.support.faulty_appends import Faulty, pause

__all__ = ["FAULTY_TENANTS"]


class LetsTheComputersClockDecide(Faulty):
    """As a server that deletes by itself what has expired by its own clock."""

    found_by = ("expiry_follows_the_clock_of_the_storage",)

    async def _put_session(self, record: SessionRecord, expected_version: int | None, now_us: int) -> SessionRecord:
        header = await super()._put_session(record, expected_version, now_us)
        if header.ttl_us is not None and header.updated_at_us + header.ttl_us < time_ns() // 1000:
            self._remove(record.session_id)
        return header


class KeepsTheFirstTimeToLive(Faulty):
    found_by = ("a_put_replaces_the_time_to_live",)

    async def _put_session(self, record: SessionRecord, expected_version: int | None, now_us: int) -> SessionRecord:
        before = self._live(record.session_id, now_us)
        kept = attrs.evolve(record, ttl_us=before.header.ttl_us) if before else record
        return await super()._put_session(kept, expected_version, now_us)


class PurgesWhatItFoundBefore(Faulty):
    found_by = ("sessions_put_again_during_a_purge_stay",)

    async def _purge_expired(self, now_us: int) -> Purged:
        expired = [name for name in self._sessions if self._live(name, now_us) is None]
        for name in expired:
            await pause()
            self._remove(name)
        return Purged(sessions=len(expired), memories=0)


class CountsWhatOthersPurge(Faulty):
    found_by = ("concurrent_purges_count_each_session_once",)

    async def _purge_expired(self, now_us: int) -> Purged:
        expired = [name for name in self._sessions if self._live(name, now_us) is None]
        await pause()
        await super()._purge_expired(now_us)
        return Purged(sessions=len(expired), memories=0)


_FIRST: WeakKeyDictionary[Clock, InMemoryStorage] = WeakKeyDictionary()


class SharesAllBetweenTenants(Faulty):
    """What two factories make for one test, by its clock, has the same sessions."""

    found_by = (
        "records_of_one_tenant_are_absent_from_the_other",
        "concurrent_writers_of_two_tenants_do_not_interfere",
    )

    def __init__(self, *, clock: Clock) -> None:
        super().__init__(clock=clock)
        first = _FIRST.setdefault(clock, self)
        self._sessions, self._order, self._memories = first._sessions, first._order, first._memories


class SharesMemoryOfUsersBetweenTenants(Faulty):
    found_by = ("the_same_id_of_two_tenants_is_two_sessions",)

    def __init__(self, *, clock: Clock) -> None:
        super().__init__(clock=clock)
        self._memories = _FIRST.setdefault(clock, self)._memories


class ClosesForAllTenants(Faulty):
    found_by = ("closing_one_tenants_storage_keeps_the_other_open",)

    def __init__(self, *, clock: Clock) -> None:
        super().__init__(clock=clock)
        self._first = _FIRST.setdefault(clock, self)

    async def _close(self) -> None:
        self._first._is_closed = True


class PurgesOtherTenantsToo(Faulty):
    found_by = ("a_purge_does_not_affect_the_other_tenant",)

    def __init__(self, *, clock: Clock) -> None:
        super().__init__(clock=clock)
        self._first = _FIRST.setdefault(clock, self)

    async def _purge_expired(self, now_us: int) -> Purged:
        if self._first is not self:
            await InMemoryStorage._purge_expired(self._first, now_us)
        return await super()._purge_expired(now_us)


FAULTY_TENANTS: tuple[type[Faulty], ...] = (
    LetsTheComputersClockDecide,
    KeepsTheFirstTimeToLive,
    PurgesWhatItFoundBefore,
    CountsWhatOthersPurge,
    SharesAllBetweenTenants,
    SharesMemoryOfUsersBetweenTenants,
    ClosesForAllTenants,
    PurgesOtherTenantsToo,
)
