"""Whole numbers of BSON do not leave the backend: bson.Int64 is an int of another name."""

from collections.abc import Iterator

import attrs
import pytest

from luminoracore_sdk.adapters.storage.mongodb import MongoDBStorage
from luminoracore_sdk.application.ports.records import MemoryScope, MessageRange, SessionQuery
from luminoracore_sdk.domain.errors import ValidationError
from luminoracore_sdk.testing.records import memory_record, message_record, message_records, session_record
from tests.support.mongodb import MongoPlace

_FAR = 2**62


def numbers(value: object, name: str = "") -> Iterator[tuple[str, type]]:
    """Yield every whole number in a result, at any depth, with its type."""
    if isinstance(value, int):
        yield name, type(value)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from numbers(item, name)
    elif attrs.has(kind := type(value)):
        for field in attrs.fields_dict(kind):
            yield from numbers(getattr(value, field), f"{kind.__name__}.{field}")


@pytest.mark.parametrize("driver", [0, 1], ids=["motor", "pymongo"])
async def test_every_number_in_every_result_is_a_plain_int(
    place: MongoPlace, storages: list[MongoDBStorage], driver: int
) -> None:
    storage, scope = storages[driver], MemoryScope("session", "s")
    header = attrs.evolve(session_record(ttl_us=_FAR), created_at_us=-_FAR)
    memory = attrs.evolve(memory_record("k", expires_at_us=_FAR), created_at_us=_FAR - 1)
    message = attrs.evolve(message_record("late"), created_at_us=_FAR)
    results: list[object] = [
        await storage.put_session(header),
        await storage.put_session(header),
        await storage.append_messages("s", message_records(3)),
        await storage.append_messages("s", message_records(3)),
        await storage.truncate_messages("s", after=2),
        await storage.append_messages("s", [message]),
        await storage.find_session("s"),
        await storage.read_messages("s", MessageRange()),
        await storage.put_memory(memory),
        await storage.put_memory(memory),
        await storage.find_memory(scope, "k"),
        await storage.list_memories(scope),
        await storage.query_sessions(SessionQuery()),
        await storage.schema_version(),
    ]
    await storage.put_session(session_record("z"))
    results.append(await storage.query_sessions(SessionQuery(limit=1)))
    found = list(numbers(results))
    assert len(found) > 40
    assert [(name, kind) for name, kind in found if kind not in (int, bool)] == []
    assert await storage.clear_memories(scope) == 1


async def test_a_retention_that_ranks_nowhere_is_refused(storages: list[MongoDBStorage]) -> None:
    with pytest.raises(ValidationError, match="NaN"):
        await storages[0].put_memory(memory_record("k", kind="user", owner="u", retention=float("nan")))
    assert await storages[0].list_memories(MemoryScope("user", "u")) == []
