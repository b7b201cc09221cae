"""Where a rewriting was stopped, and for which aim that counts."""

import pytest

from luminoracore_sdk.adapters.codec.values import JsonCodec
from luminoracore_sdk.application.maintenance.rewrite import RewriteMark
from luminoracore_sdk.application.ports.records import MemoryRecord, MemoryScope
from luminoracore_sdk.domain.json_value import JSONValue
from luminoracore_sdk.domain.values import STORE_OWNER
from luminoracore_sdk.session import InMemoryStorage
from luminoracore_sdk.testing.records import json_payload


@pytest.fixture
def storage() -> InMemoryStorage:
    return InMemoryStorage()


def mark(storage: InMemoryStorage, aim: str = "plain") -> RewriteMark:
    return RewriteMark(storage, JsonCodec(), aim)


async def test_it_goes_on_where_it_was_until_it_has_come_to_its_end(storage: InMemoryStorage) -> None:
    assert await mark(storage).find() is None
    await mark(storage).set((1, "a"))
    await mark(storage).set((2, "b"))
    assert await mark(storage).find() == (2, "b")
    await mark(storage).clear()
    assert await mark(storage).find() is None


async def test_it_does_not_count_for_another_aim(storage: InMemoryStorage) -> None:
    await mark(storage).set((1, "a"))
    assert await mark(storage, "g1").find() is None
    assert await mark(storage).find() == (1, "a")


@pytest.mark.parametrize("value", [None, {}, {"aim": "plain"}, {"aim": "plain", "time_us": "1", "session": "a"}])
async def test_what_names_no_place_is_a_beginning(storage: InMemoryStorage, value: JSONValue) -> None:
    scope = MemoryScope("user", STORE_OWNER)
    await storage.put_memory(MemoryRecord(scope=scope, key="rewriting", payload=json_payload(value)))
    assert await mark(storage).find() is None
