"""Rewriting that others overtake between its reads and its updates."""

from collections.abc import Awaitable, Callable

import attrs
import pytest

from luminoracore_sdk.adapters.storage.mongodb import MongoDBStorage
from luminoracore_sdk.application.ports.records import MemoryScope, MessageRange, Payload
from luminoracore_sdk.testing.records import memory_record, message_record, message_records, session_record
from tests.support.mongodb import Moments, MongoPlace, ids
from tests.support.rewriting import NEW, to_new

Late = tuple[MongoDBStorage, Moments]
Change = Callable[[MongoDBStorage, MongoPlace], Awaitable[object]]

_ALL = MessageRange()
_OTHER_NEW = Payload("json+zstd:2", b"\xff other")


async def kill() -> None:
    raise Killed


class Killed(Exception):  # noqa: N818  # not an error: the process has ended
    """The process that made the call was killed."""


@pytest.mark.parametrize("after", [0, 1, 2, 3, 5])
async def test_what_a_truncation_takes_out_meanwhile_is_not_counted_and_not_put_back(
    place: MongoPlace, late: Late, other: MongoDBStorage, after: int
) -> None:
    storage, moments = late
    await other.put_session(session_record())
    for prefix in ("a", "b"):
        await other.append_messages("s", message_records(3, prefix=prefix))
    changes = to_new(await other.read_messages("s", _ALL))
    moments.before("messages", "update_one", lambda: other.truncate_messages("s", after=after))
    assert await storage.rewrite_messages("s", changes) == after
    found = await other.read_messages("s", _ALL)
    assert [message.payload for message in found] == [change.new for change in changes[:after]]
    for batch in place.messages.find({}):
        assert len(batch["ids"]) == max(len(batch["items"]), 1)
        assert all(set(item) == {"role", "created", "encoding", "payload"} for item in batch["items"])
    await other.append_messages("s", [message_record("b3", text="again")], expected_last=after)
    assert (await other.read_messages("s", _ALL))[-1].payload == message_record("b3", text="again").payload


async def rewrite_all(storage: MongoDBStorage, _: MongoPlace) -> None:
    changes = to_new(await storage.read_messages("s", _ALL))
    others = [attrs.evolve(change, new=_OTHER_NEW) for change in changes[::2]]
    assert await storage.rewrite_messages("s", others) == 2


async def rewrite_there_and_back(storage: MongoDBStorage, _: MongoPlace) -> None:
    there = to_new(await storage.read_messages("s", _ALL))
    back = [attrs.evolve(change, old=change.new, new=change.old) for change in there]
    for changes in (there, back):
        assert await storage.rewrite_messages("s", changes) == 4


async def delete(storage: MongoDBStorage, _: MongoPlace) -> None:
    await storage.delete_session("s")


async def delete_and_append_again(storage: MongoDBStorage, _: MongoPlace) -> None:
    await storage.delete_session("s")
    await storage.put_session(session_record())
    await storage.append_messages("s", message_records(4))


async def expire_and_purge(storage: MongoDBStorage, place: MongoPlace) -> None:
    place.clock.advance(10)
    await storage.purge_expired()


async def append(storage: MongoDBStorage, _: MongoPlace) -> None:
    await storage.append_messages("s", message_records(1, prefix="next"))


_OTHER = [b"\xff other", b"\xff m2", b"\xff other", b"\xff m4"]
_OURS = [b"\xff m1", b"\xff m2", b"\xff m3", b"\xff m4"]

MEANWHILE: dict[str, tuple[Change, int, list[bytes]]] = {
    "rewritten by another": (rewrite_all, 2, _OTHER),
    "rewritten there and back": (rewrite_there_and_back, 4, _OURS),
    "deleted": (delete, 0, []),
    "deleted and appended again": (delete_and_append_again, 4, _OURS),
    "expired and purged": (expire_and_purge, 0, []),
    "appended": (append, 4, [*_OURS, message_record("next1").payload.data]),
}


@pytest.mark.parametrize("change", MEANWHILE)
async def test_messages_that_changed_since_they_were_read_are_looked_at_again(
    place: MongoPlace, late: Late, other: MongoDBStorage, change: str
) -> None:
    storage, moments = late
    happens, replaced, left = MEANWHILE[change]
    await other.put_session(session_record(ttl_us=10_000_000))
    await other.append_messages("s", message_records(4))
    changes = to_new(await other.read_messages("s", _ALL))
    moments.before("messages", "update_one", lambda: happens(other, place))
    assert await storage.rewrite_messages("s", changes) == replaced
    if left:
        assert [message.payload.data for message in await other.read_messages("s", _ALL)] == left
    else:
        assert place.messages.count_documents({}) == 0


async def test_a_session_put_since_it_was_read_is_not_undone(late: Late, other: MongoDBStorage) -> None:
    storage, moments = late
    old = session_record().payload
    assert old is not None
    await other.put_session(session_record())
    moments.before("sessions", "update_one", lambda: other.put_session(session_record(text="put meanwhile")))
    assert await storage.rewrite_session("s", old=old, new=NEW) is False
    await other.put_session(session_record())
    moments.before("sessions", "update_one", lambda: other.rewrite_session("s", old=old, new=_OTHER_NEW))
    assert await storage.rewrite_session("s", old=old, new=NEW) is False
    found = await other.find_session("s")
    assert found is not None
    assert (found.payload, found.version) == (_OTHER_NEW, 3)
    moments.before("sessions", "update_one", lambda: other.put_session(session_record()))
    assert await storage.rewrite_session("s", old=_OTHER_NEW, new=NEW) is False
    moments.before("sessions", "update_one", lambda: other.truncate_messages("s", after=0))
    assert await storage.rewrite_session("s", old=old, new=NEW) is True


async def test_a_session_deleted_and_put_again_since_it_was_read_is_another_one(
    place: MongoPlace, late: Late, other: MongoDBStorage
) -> None:
    storage, moments = late
    record = session_record()
    assert record.payload is not None
    await other.put_session(record)

    async def again() -> None:
        await other.delete_session("s")
        await other.put_session(session_record(text="another"))

    moments.before("sessions", "update_one", again)
    assert await storage.rewrite_session("s", old=record.payload, new=NEW) is False
    found = await other.find_session("s")
    assert found is not None
    assert found.payload == session_record(text="another").payload


@pytest.mark.parametrize("kind", ["session", "user"])
@pytest.mark.parametrize("deleted", [False, True])
async def test_a_memory_put_in_the_same_microsecond_is_not_undone(
    late: Late, other: MongoDBStorage, kind: str, deleted: bool
) -> None:
    storage, moments = late
    scope = MemoryScope(kind, "s")
    await other.put_session(session_record())
    first = await other.put_memory(memory_record("k", kind=kind))

    async def again() -> None:
        if deleted:
            await other.delete_memory(scope, "k")
        put = await other.put_memory(memory_record("k", kind=kind, value="put meanwhile"))
        assert put.updated_at_us == first.updated_at_us

    moments.before("memories", "update_one", again)
    assert await storage.rewrite_memory(scope, "k", old=first.payload, new=NEW) is False
    found = await other.find_memory(scope, "k")
    assert found is not None
    assert found.payload == memory_record("k", value="put meanwhile").payload


async def test_a_hidden_message_is_not_the_one_that_took_its_place_and_its_id(
    place: MongoPlace, late: Late, other: MongoDBStorage
) -> None:
    """The truncation was killed before it took out what it had hidden."""
    storage, moments = late
    await other.put_session(session_record())
    await other.append_messages("s", message_records(4))
    changes = to_new(await other.read_messages("s", _ALL))
    moments.before("messages", "delete_many", kill)
    with pytest.raises(Killed):
        await storage.truncate_messages("s", after=2)
    await other.append_messages("s", message_records(2, prefix="new"))
    assert await storage.rewrite_messages("s", changes) == 2
    first, second = place.messages.find({}, sort=[("_id", 1)])
    assert [item["encoding"] for item in first["items"]] == ["json+zstd:1", "json+zstd:1", "json", "json"]
    assert [item["encoding"] for item in second["items"]] == ["json", "json"]
    assert await ids(other) == ["m1", "m2", "new1", "new2"]
