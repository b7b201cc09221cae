"""Calls that another storage overtakes between two of their commands, and calls that are killed there."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from luminoracore_sdk.adapters.storage.mongodb import MongoDBStorage
from luminoracore_sdk.application.ports.records import AppendReceipt, MemoryScope, MessageRange, SessionQuery
from luminoracore_sdk.domain.errors import SessionNotFoundError
from luminoracore_sdk.testing.records import memory_record, message_record, message_records, session_record
from tests.support.mongodb import Moments, MongoPlace, ids

Late = tuple[MongoDBStorage, Moments]


class Killed(Exception):  # noqa: N818  # not an error: the process has ended
    """The process that made the call was killed."""


async def kill() -> None:
    raise Killed


@pytest.mark.parametrize(
    ("after", "kept"),
    [
        (2, ["late1", "late2"]),  # hidden, so it is appended anew
        (3, ["late1"]),
        (4, ["late1", "late2"]),
        (5, ["late1", "late2", "other1"]),
    ],
)
@pytest.mark.parametrize("ttl_us", [None, 1_000_000])
async def test_a_truncation_between_insert_and_verification(
    late: Late, other: MongoDBStorage, after: int, kept: list[str], ttl_us: int | None
) -> None:
    """The batch is inserted; others append behind it and truncate; then the header is read."""
    storage, moments = late
    await storage.put_session(session_record(ttl_us=ttl_us))
    await storage.append_messages("s", message_records(2))

    async def overtake() -> None:
        await other.append_messages("s", message_records(2, prefix="other"))
        await other.truncate_messages("s", after=after)

    moments.after("messages", "insert_one", overtake)
    receipt = await storage.append_messages("s", message_records(2, prefix="late"))
    assert receipt == AppendReceipt(first_position=3, last_position=4)
    assert await ids(other) == ["m1", "m2", *kept]
    assert (await storage.append_messages("s", [message_record("next")])).first_position == 3 + len(kept)


async def test_a_truncation_before_the_insert(late: Late, other: MongoDBStorage) -> None:
    """The end of the session is known; others append and truncate; then the batch is inserted."""
    storage, moments = late
    await storage.put_session(session_record())
    await storage.append_messages("s", message_records(2))

    async def overtake() -> None:
        await other.append_messages("s", message_records(2, prefix="hidden"))
        await other.truncate_messages("s", after=2)

    moments.before("messages", "insert_one", overtake)
    receipt = await storage.append_messages("s", message_records(2, prefix="late"))
    assert receipt == AppendReceipt(first_position=3, last_position=4)
    assert await ids(other) == ["m1", "m2", "late1", "late2"]


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_new_session_of_the_same_id_gets_the_append(
    place: MongoPlace, late: Late, other: MongoDBStorage, moment: str
) -> None:
    storage, moments = late
    await storage.put_session(session_record())
    await storage.append_messages("s", message_records(2))

    async def overtake() -> None:
        await other.delete_session("s")
        await other.put_session(session_record())

    getattr(moments, moment)("messages", "insert_one", overtake)
    assert (await storage.append_messages("s", [message_record("late")])).first_position == 1
    assert await ids(other) == ["late"]
    assert place.messages.count_documents({}) == 1


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_an_append_to_a_session_deleted_meanwhile_leaves_nothing(
    place: MongoPlace, late: Late, other: MongoDBStorage, moment: str
) -> None:
    storage, moments = late
    await storage.put_session(session_record())
    getattr(moments, moment)("messages", "insert_one", lambda: other.delete_session("s"))
    with pytest.raises(SessionNotFoundError):
        await storage.append_messages("s", [message_record("late")])
    assert place.messages.count_documents({}) == 0


async def test_a_writer_killed_before_verification_blocks_nobody(late: Late, other: MongoDBStorage) -> None:
    storage, moments = late
    await storage.put_session(session_record())
    await other.append_messages("s", message_records(2))
    moments.after("messages", "insert_one", kill)
    with pytest.raises(Killed):
        await storage.append_messages("s", [message_record("killed")])
    again = await other.append_messages("s", [message_record("killed")])
    assert again == AppendReceipt(first_position=3, last_position=3, replayed=True)
    assert (await other.append_messages("s", [message_record("next")])).first_position == 4
    assert await ids(other) == ["m1", "m2", "killed", "next"]


@pytest.mark.parametrize("after", [0, 2, 3])
async def test_ids_that_a_killed_truncation_left_are_released(
    late: Late, other: MongoDBStorage, place: MongoPlace, after: int
) -> None:
    storage, moments = late
    await other.put_session(session_record())
    await other.append_messages("s", message_records(2, prefix="a"))
    await other.append_messages("s", message_records(2, prefix="b"))
    moments.before("messages", "delete_many", kill)
    with pytest.raises(Killed):
        await storage.truncate_messages("s", after=after)
    whole = ["a1", "a2", "b1", "b2"]
    assert await ids(other) == whole[:after]
    assert place.messages.count_documents({}) == 2
    again = [message_record(message_id) for message_id in whole[after:]]
    receipt = await other.append_messages("s", again)
    assert receipt == AppendReceipt(first_position=after + 1, last_position=4)
    assert await ids(other) == whole


async def test_messages_that_a_killed_truncation_left_stay_hidden(late: Late, other: MongoDBStorage) -> None:
    storage, moments = late
    await other.put_session(session_record())
    for prefix in "abc":
        await other.append_messages("s", message_records(2, prefix=prefix))
    moments.before("messages", "delete_many", kill)
    with pytest.raises(Killed):
        await storage.truncate_messages("s", after=3)
    for number in range(4):
        await other.append_messages("s", [message_record(f"new{number}")])
    assert await ids(other) == ["a1", "a2", "b1", *(f"new{number}" for number in range(4))]
    newest = await other.read_messages("s", MessageRange(limit=5, newest=True))
    assert [message.message_id for message in newest] == ["b1", *(f"new{number}" for number in range(4))]
    some = await other.read_messages("s", MessageRange(after=2, limit=3))
    assert [message.message_id for message in some] == ["b1", "new0", "new1"]


@pytest.mark.parametrize("span", [MessageRange(after=1), MessageRange(limit=2), MessageRange(after=3, limit=2)])
async def test_a_read_that_a_truncation_overtakes_reads_again(
    late: Late, other: MongoDBStorage, span: MessageRange
) -> None:
    """The header is read; others truncate and append; then the batches are read."""
    storage, moments = late
    await other.put_session(session_record())
    await other.append_messages("s", message_records(5))

    async def overtake() -> None:
        await other.truncate_messages("s", after=1)
        await other.append_messages("s", message_records(4, prefix="new"))

    moments.after("sessions", "aggregate", overtake)
    read = await storage.read_messages("s", span)
    assert read == await other.read_messages("s", span)
    assert {message.message_id[:3] for message in read if message.position > 1} == {"new"}


@pytest.mark.parametrize("limit", [None, 2])
async def test_a_remembered_epoch_that_was_sealed_is_not_read(
    late: Late, other: MongoDBStorage, limit: int | None
) -> None:
    storage, _ = late
    await other.put_session(session_record())
    await other.append_messages("s", message_records(3))
    span = MessageRange(limit=limit, newest=limit is not None)
    await storage.read_messages("s", span)
    await other.truncate_messages("s", after=1)
    assert [message.position for message in await storage.read_messages("s", span)] == [1]
    await other.delete_session("s")
    with pytest.raises(SessionNotFoundError):
        await storage.read_messages("s", span)


async def test_a_range_beyond_the_remembered_end_is_looked_up(late: Late, other: MongoDBStorage) -> None:
    storage, _ = late
    await storage.put_session(session_record())
    await storage.append_messages("s", message_records(3))
    for number in range(5):
        await other.append_messages("s", [message_record(f"other{number}")])
    read = await storage.read_messages("s", MessageRange(after=5, limit=2))
    assert [message.position for message in read] == [6, 7]
    read = await storage.read_messages("s", MessageRange(after=7))
    assert [message.position for message in read] == [8]
    await other.delete_session("s")
    for span in (MessageRange(limit=0), MessageRange(after=8), MessageRange(after=1, limit=1)):
        with pytest.raises(SessionNotFoundError):
            await storage.read_messages("s", span)


async def test_a_truncation_that_another_overtakes_looks_again(late: Late, other: MongoDBStorage) -> None:
    storage, moments = late
    await other.put_session(session_record())
    await other.append_messages("s", message_records(6))

    async def overtake() -> None:
        await other.truncate_messages("s", after=2)
        await other.append_messages("s", message_records(3, prefix="new"))

    moments.before("sessions", "update_one", overtake)
    assert await storage.truncate_messages("s", after=4) == 1
    assert await ids(other) == ["m1", "m2", "new1", "new2"]


@pytest.mark.parametrize("again", [False, True])
async def test_a_memory_of_a_session_deleted_meanwhile_is_not_kept(
    place: MongoPlace, late: Late, other: MongoDBStorage, *, again: bool
) -> None:
    """The session is found, and deleted; then the memory is put."""
    storage, moments = late
    await other.put_session(session_record())

    async def overtake() -> None:
        await other.delete_session("s")
        if again:
            await other.put_session(session_record())
        await other.purge_expired()

    moments.before("memories", "find_one_and_update", overtake)
    with pytest.raises(SessionNotFoundError):
        await storage.put_memory(memory_record("k"))
    assert place.memories.count_documents({}) == 0


async def test_a_memory_made_important_meanwhile_is_not_evicted(late: Late, other: MongoDBStorage) -> None:
    """The memories to evict are looked up; one of them is put again; then they are deleted."""
    storage, moments = late
    for retention, key in enumerate("abcd"):
        await other.put_memory(memory_record(key, kind="user", owner="u", retention=retention))

    async def overtake() -> None:
        await other.put_memory(memory_record("a", kind="user", owner="u", retention=9))

    moments.after("memories", "find", overtake)
    await storage.put_memory(memory_record("new", kind="user", owner="u"), max_entries=3)
    kept = await other.list_memories(MemoryScope("user", "u"))
    assert sorted(memory.key for memory in kept) == ["a", "c", "d", "new"]
    await storage.put_memory(memory_record("new", kind="user", owner="u"), max_entries=3)
    kept = await other.list_memories(MemoryScope("user", "u"))
    assert sorted(memory.key for memory in kept) == ["a", "d", "new"]


async def appended(storage: MongoDBStorage) -> None:
    await storage.append_messages("s", [message_record("new")])


async def cut(storage: MongoDBStorage) -> None:
    await storage.truncate_messages("s", after=1)


async def cut_and_appended(storage: MongoDBStorage) -> None:
    await cut(storage)
    await appended(storage)


async def replaced(storage: MongoDBStorage) -> None:
    await storage.replace_tail("s", after=1, messages=message_records(3, prefix="new"))


async def changed(storage: MongoDBStorage) -> None:
    await storage.put_session(session_record(tags=("t",)))


async def created_anew(storage: MongoDBStorage) -> None:
    await storage.delete_session("s")
    await storage.put_session(session_record())
    await appended(storage)


@pytest.mark.parametrize(
    ("change", "last"),
    [(appended, 4), (cut, 1), (cut_and_appended, 2), (replaced, 4), (changed, 3), (created_anew, 1)],
)
@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_known_page_shows_each_change_of_another_storage(
    place: MongoPlace,
    late: Late,
    other: MongoDBStorage,
    change: Callable[[MongoDBStorage], Awaitable[None]],
    last: int,
    moment: str,
) -> None:
    """The page is known; another storage changes it, right before the command is sent or after its answer."""
    storage, moments = late
    query = SessionQuery(texts=False)
    for session_id in ("r", "s"):
        await storage.put_session(session_record(session_id))
        await storage.append_messages(session_id, message_records(3))
    await storage.query_sessions(query)
    known = await storage.query_sessions(query)
    assert [header.last_position for header in known.sessions] == [3, 3]
    place.clock.advance(5)
    getattr(moments, moment)("messages", "aggregate", lambda: change(other))
    found = await storage.query_sessions(query)
    async with place.storage() as fresh:
        page = await fresh.query_sessions(query)
    assert [header.last_position for header in page.sessions if header.session_id == "s"] == [last]
    assert found == (page if moment == "before" else known)
    assert await storage.query_sessions(query) == page


async def test_a_known_page_shows_a_session_whose_next_tail_is_prepared(late: Late, other: MongoDBStorage) -> None:
    storage, moments = late
    query = SessionQuery(texts=False)
    await storage.put_session(session_record())
    await storage.append_messages("s", message_records(3))
    page = await other.query_sessions(query)
    moments.after("messages", "insert_one", kill)
    with pytest.raises(Killed):
        await storage.replace_tail("s", after=1, messages=message_records(5, prefix="new"))
    for _ in range(2):
        assert await other.query_sessions(query) == page
    await other.append_messages("s", [message_record("next")])
    assert (await other.query_sessions(query)).sessions[0].last_position == 4


async def test_a_page_shows_appends_to_a_session_that_was_settled_when_it_began(
    place: MongoPlace, late: Late, other: MongoDBStorage
) -> None:
    storage, moments = late
    query = SessionQuery(texts=False)
    await storage.put_session(session_record())
    place.clock.advance(600)
    moments.after("messages", "aggregate", lambda: changed(other))
    await storage.query_sessions(query)
    await other.append_messages("s", [message_record("next")])
    assert (await storage.query_sessions(query)).sessions[0].last_position == 1


async def test_a_session_deleted_meanwhile_fails_only_its_own_read(late: Late, other: MongoDBStorage) -> None:
    storage, moments = late
    for session_id in "abc":
        await storage.put_session(session_record(session_id))
        await storage.append_messages(session_id, message_records(9))

    async def overtake() -> None:
        await other.delete_session("b")
        await other.truncate_messages("c", after=5)

    moments.before("messages", "aggregate", overtake)
    a, b, c = await asyncio.gather(
        *(storage.read_messages(session_id, MessageRange(after=4, limit=2)) for session_id in "abc"),
        return_exceptions=True,
    )
    assert isinstance(b, SessionNotFoundError)
    assert [[message.position for message in read] for read in (a, c) if isinstance(read, list)] == [[5, 6], [5]]


async def test_a_cancelled_read_does_not_keep_others_from_theirs(late: Late) -> None:
    """The first read sends the command for all of them."""
    storage, moments = late
    for session_id in "abc":
        await storage.put_session(session_record(session_id))
        await storage.append_messages(session_id, message_records(9))
    sent = asyncio.Event()

    async def wait() -> None:
        sent.set()
        await asyncio.Event().wait()

    moments.before("messages", "aggregate", wait)
    first, *others = (
        asyncio.create_task(storage.read_messages(session_id, MessageRange(after=4, limit=2))) for session_id in "abc"
    )
    await sent.wait()
    first.cancel()
    for read in await asyncio.gather(*others):
        assert [message.position for message in read] == [5, 6]
    assert first.cancelled()


async def test_a_command_that_fails_fails_each_read(late: Late) -> None:
    storage, moments = late
    for session_id in "abc":
        await storage.put_session(session_record(session_id))
        await storage.append_messages(session_id, message_records(9))
    moments.before("messages", "aggregate", kill)
    reads = [storage.read_messages(session_id, MessageRange(after=4, limit=2)) for session_id in "abc"]
    assert [type(error) for error in await asyncio.gather(*reads, return_exceptions=True)] == [Killed] * 3
    assert len(await storage.read_messages("a", MessageRange(after=4, limit=2))) == 2
