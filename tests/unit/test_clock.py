"""The real clock and the real ids."""

from datetime import UTC, datetime
from uuid import RFC_4122, UUID

from luminoracore_sdk.adapters.clock import SystemClock, UuidFactory
from luminoracore_sdk.adapters.storage.memory import InMemoryStorage
from luminoracore_sdk.domain.values import to_microseconds
from luminoracore_sdk.testing.records import session_record


def test_an_id_is_a_random_uuid_in_hexadecimal_digits() -> None:
    ids = [UuidFactory().new_id() for _ in range(500)]
    read = [UUID(hex=new) for new in ids]
    assert [uuid.hex for uuid in read] == ids
    assert {(uuid.version, uuid.variant) for uuid in read} == {(4, RFC_4122)}
    assert len(set(ids)) == 500


def test_the_present_is_in_utc() -> None:
    before, now, after = datetime.now(UTC), SystemClock().now(), datetime.now(UTC)
    assert before <= now <= after
    assert now.tzinfo is UTC


async def test_storage_without_a_clock_uses_the_system_clock() -> None:
    async with InMemoryStorage() as storage:
        before = to_microseconds(SystemClock().now())
        stored = await storage.put_session(session_record())
        after = to_microseconds(SystemClock().now())
    assert before <= stored.updated_at_us <= after
