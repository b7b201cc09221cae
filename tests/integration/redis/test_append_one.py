"""One message to a session without a ttl, which the script that appends does in a shorter way."""

from datetime import UTC, datetime, timedelta

import pytest

from luminoracore_sdk.adapters.storage.redis import RedisStorage
from luminoracore_sdk.application.ports.records import MessageRange
from luminoracore_sdk.domain.errors import ConflictError, CorruptRecordError
from luminoracore_sdk.testing import ManualClock
from luminoracore_sdk.testing.records import message_record, session_record
from tests.support.servers.valkey import ValkeyServer

_HEADER = "luminoracore:{0}:session:a"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("before", "now", "after"),
    [(5, 7, 7), (7, 5, 7), (9, 10, 10), (10, 9, 10), (-5, -7, -5), (-7, -5, -5), (-5, 17, 17), (17, -5, 17)],
)
async def test_the_time_of_the_last_change_never_goes_back(
    storage: RedisStorage, server: ValkeyServer, clock: ManualClock, before: int, now: int, after: int
) -> None:
    await storage.put_session(session_record("a"))
    server.command("HSET", _HEADER, "updated_at_us", before)
    clock.set(_EPOCH + timedelta(microseconds=now))
    await storage.append_messages("a", [message_record("m")])
    assert server.command("HGET", _HEADER, "updated_at_us") == str(after)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("updated_at_us", "1700000000000x00"), ("updated_at_us", None)),
        *(("last_position", "x"), ("last_position", "2"), ("last_position", None)),
        *(("ttl_us", None), ("version", None)),
    ],
)
async def test_a_damaged_header_is_told_and_nothing_is_written(
    storage: RedisStorage, server: ValkeyServer, field: str, value: str | None
) -> None:
    await storage.put_session(session_record("a"))
    await storage.append_messages("a", [message_record("m")])
    if value is None:
        server.command("HDEL", _HEADER, field)
    else:
        server.command("HSET", _HEADER, field, value)
    with pytest.raises(CorruptRecordError):
        await storage.append_messages("a", [message_record("n")])
    assert server.command("LLEN", "luminoracore:{0}:messages:a") == 1
    assert server.command("HKEYS", "luminoracore:{0}:ids:a") == ["m"]


async def test_a_message_is_compared_with_what_is_there_and_with_what_was_expected(
    storage: RedisStorage,
) -> None:
    await storage.put_session(session_record("a"))
    first = await storage.append_messages("a", [message_record("m")], expected_last=0)
    second = await storage.append_messages("a", [message_record("n")], expected_last=1)
    with pytest.raises(ConflictError):
        await storage.append_messages("a", [message_record("o")], expected_last=1)
    again = await storage.append_messages("a", [message_record("n")], expected_last=1)
    whatever = await storage.append_messages("a", [message_record("m")])
    receipts = (first, second, again, whatever)
    assert [receipt.last_position for receipt in receipts] == [1, 2, 2, 1]
    found = await storage.read_messages("a", MessageRange())
    assert [message.message_id for message in found] == ["m", "n"]
