"""Samples of the payloads of a store."""

from luminoracore_sdk.application.maintenance.sample import sample_payloads
from luminoracore_sdk.domain.json_value import JSONValue
from luminoracore_sdk.session import InMemoryStorage
from luminoracore_sdk.testing.records import (
    json_payload,
    memory_record,
    message_record,
    message_records,
    session_record,
)


async def filled(sessions: int, messages: int) -> InMemoryStorage:
    storage = InMemoryStorage()
    for number in range(sessions):
        await storage.put_session(session_record(f"s{number}", text=f"header {number}"))
        await storage.append_messages(f"s{number}", message_records(messages, prefix=f"{number}-"))
        await storage.put_memory(memory_record("k", owner=f"s{number}", value=f"memory {number}"))
    return storage


async def test_a_sample_of_a_small_store_has_every_payload() -> None:
    storage = await filled(2, 2)
    expected: list[JSONValue] = [
        *({"text": f"header {number}"} for number in range(2)),
        *({"content": f"text of {number}-{message}"} for number in range(2) for message in (1, 2)),
        *(f"memory {number}" for number in range(2)),
    ]
    assert sorted(await sample_payloads(storage, 100)) == sorted(json_payload(value).data for value in expected)


async def test_a_sample_is_uniform_and_reproducible() -> None:
    storage = await filled(10, 100)
    sample = await sample_payloads(storage, 200)
    assert len(set(sample)) == 200
    assert sample == await sample_payloads(storage, 200)
    assert sample != await sample_payloads(storage, 200, seed=1)
    by_session = [sum(b"text of %d-" % number in record for record in sample) for number in range(10)]
    assert (min(by_session) >= 8, max(by_session) <= 35) == (True, True)


async def test_long_payloads_are_cut() -> None:
    storage = InMemoryStorage()
    await storage.put_session(session_record())
    await storage.append_messages("s", [message_record("m", text="x" * 100_000)])
    assert sorted(map(len, await sample_payloads(storage, 10))) == [len(b'{"text":"a session"}'), 32_768]


async def test_a_session_deleted_after_listing_is_skipped() -> None:
    class Vanishing(InMemoryStorage):
        async def find_session(self, session_id: str) -> None:
            await self.delete_session(session_id)

    storage = Vanishing()
    await storage.put_session(session_record())
    assert await sample_payloads(storage, 10) == []
