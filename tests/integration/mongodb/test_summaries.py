"""Summaries, listings by activity, updates, leases and forks: what a killed process and a slow one leave."""

import asyncio
import json

import attrs
import pytest
from bson.json_util import dumps

from luminoracore_sdk.adapters.storage.mongodb import MongoDBStorage
from luminoracore_sdk.application.ports.records import Brief, MessageRecord, SessionQuery, SessionRecord, SessionSummary
from luminoracore_sdk.domain.errors import ConflictError, LeaseLostError
from luminoracore_sdk.testing.records import json_payload, message_record, message_records, session_record
from tests.support.mongodb import Moments, MongoPlace, ids

Late = tuple[MongoDBStorage, Moments]

_SECOND = 1_000_000


class Killed(Exception):  # noqa: N818  # not an error: the process has ended
    """The process that made the call was killed."""


async def kill() -> None:
    raise Killed


def said(message_id: str, role: str = "user", **adds: int) -> MessageRecord:
    return attrs.evolve(message_record(message_id, role=role), brief=json_payload(f"brief of {message_id}"), adds=adds)


async def summary(storage: MongoDBStorage) -> SessionSummary:
    found = await storage.find_session("s")
    assert found is not None
    return found.summary


def text_of(place: MongoPlace) -> str:
    """Return all that is stored of sessions and messages."""
    return json.dumps([dumps(list(collection.find())) for collection in (place.sessions, place.messages)])


async def listed(storage: MongoDBStorage, *, texts: bool = True) -> SessionRecord:
    """Return the one session that there is as a listing shows it."""
    (row,) = (await storage.query_sessions(SessionQuery(texts=texts))).sessions
    return row


async def found(storage: MongoDBStorage, *, texts: bool = True) -> SessionRecord:
    """Return session ``s`` as a listing has to show it."""
    header = await storage.find_session("s")
    assert header is not None
    return header.listed(texts=texts)


@pytest.mark.parametrize("first", ["in the newest batch", "in another batch"])
async def test_a_listing_reads_one_batch_a_session_and_its_briefs(place: MongoPlace, first: str) -> None:
    sessions = 12
    async with place.recorded() as (storage, commands):
        for name in "abcdefghijkl":
            await storage.put_session(session_record(name))
            for number in range(20):  # a quick sequence
                said_by = "assistant" if number < 19 and first == "in the newest batch" else "user"
                await storage.append_messages(name, [said(f"{number}", said_by)])
        commands.clear()
        page = await storage.query_sessions(SessionQuery(by_activity=True, newest_first=True))
    assert [record.last_position for record in page.sessions] == [20] * sessions
    assert [record.summary.first.position for record in page.sessions if record.summary.first] == [
        20 if first == "in the newest batch" else 1
    ] * sessions
    assert [next(iter(command)) for command in commands] == ["find", "aggregate"]
    for command in commands:
        read = place.database.command({**command, **({} if "find" in command else {"cursor": {}})})
        assert "text of" not in dumps(read)
    looked_up = [stage for stage in place.explain(commands[1])["stages"] if "$lookup" in stage]
    others = 0 if first == "in the newest batch" else sessions
    assert [stage["totalDocsExamined"] for stage in looked_up] == [sessions, others, sessions]
    assert max(stage["totalKeysExamined"] for stage in looked_up) <= 2 * sessions


@pytest.mark.parametrize("newest_first", [True, False])
async def test_sessions_of_killed_writers_are_listed_once(
    place: MongoPlace, late: Late, other: MongoDBStorage, *, newest_first: bool
) -> None:
    """The batch is inserted in a later minute than the header says, and stays so."""
    storage, moments = late
    for name in ("a", "b", "c", "d"):
        await storage.put_session(session_record(name))
        for number in range(2):  # a quick sequence, after which no header is settled
            await storage.append_messages(name, message_records(1, prefix=f"q{number}"))
        place.clock.advance(70)
    moments.after("messages", "insert_one", kill)
    with pytest.raises(Killed):
        await storage.append_messages("b", message_records(1))
    query, found = SessionQuery(by_activity=True, newest_first=newest_first, limit=1), list[str]()
    for _ in range(10):
        page = await other.query_sessions(query)
        found.extend(record.session_id for record in page.sessions)
        assert page.sessions[0] == attrs.evolve(
            await other.find_session(page.sessions[0].session_id) or page.sessions[0], payload=None
        )
        if page.next_cursor is None:
            break
        query = attrs.evolve(query, cursor=page.next_cursor)
    assert found == (["d", "c", "b", "a"] if newest_first else ["a", "b", "c", "d"])
    await other.append_messages("b", message_records(1, prefix="n"))
    page = await other.query_sessions(SessionQuery(by_activity=True, newest_first=True))
    assert [record.session_id for record in page.sessions] == ["b", "d", "c", "a"]


async def test_more_sessions_than_a_page_in_one_minute(other: MongoDBStorage) -> None:
    names = [f"{number:03}" for number in range(60)]
    for name in names:
        await other.put_session(session_record(name))
    query, found = SessionQuery(by_activity=True, newest_first=True, limit=7), list[str]()
    for _ in range(20):
        page = await other.query_sessions(query)
        found.extend(record.session_id for record in page.sessions)
        if page.next_cursor is None:
            break
        query = attrs.evolve(query, cursor=page.next_cursor)
    assert found == names[::-1]


async def test_an_append_that_a_cut_has_seen_is_counted_once(late: Late, other: MongoDBStorage) -> None:
    storage, moments = late
    await storage.put_session(session_record())
    await storage.append_messages("s", [said("m1", n=1)])
    moments.after("messages", "insert_one", lambda: other.truncate_messages("s", after=0))
    await storage.append_messages("s", [said("m2", n=10)])
    assert await ids(other) == ["m2"]
    assert await summary(other) == SessionSummary(
        first=Brief(1, json_payload("brief of m2")),
        last=Brief(1, json_payload("brief of m2")),
        counters={"n": 11, "user": 1},
    )


@pytest.mark.parametrize("given", [True, False])
async def test_a_removed_brief_is_in_no_document(place: MongoPlace, late: Late, *, given: bool) -> None:
    storage, _ = late
    first = Brief(1, json_payload("brief of m1"))
    given_summary = SessionSummary(first=first, last=first) if given else SessionSummary()
    await storage.put_session(attrs.evolve(session_record(), summary=given_summary))
    message = message_record("m1") if given else said("m1")
    await storage.append_messages("s", [message, message_record("m2")])
    for number in range(3):
        await storage.append_messages("s", [message_record(f"n{number}")])
    assert (await summary(storage)).first == (await summary(storage)).last == first
    assert "brief of m1" in text_of(place)
    await storage.update_message("s", 1, payload=json_payload("redacted"), expected=message.payload)
    assert await summary(storage) == SessionSummary(counters={"user": 5})
    assert "brief of m1" not in text_of(place)
    assert "text of m1" not in text_of(place)


async def test_a_writer_that_knows_the_removed_brief_appends_the_next_first(late: Late, other: MongoDBStorage) -> None:
    storage, moments = late
    await storage.put_session(session_record())
    await storage.append_messages("s", [said("m1")])

    async def remove() -> None:
        await other.update_message("s", 1, payload=json_payload("redacted"), expected=message_record("m1").payload)

    moments.before("messages", "insert_one", remove)
    await storage.append_messages("s", [said("m2")])
    assert (await summary(other)).first == Brief(2, json_payload("brief of m2"))
    assert await ids(other) == ["m1", "m2"]


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_an_update_killed_at_the_batch_is_whole_or_absent(late: Late, other: MongoDBStorage, moment: str) -> None:
    storage, moments = late
    await storage.put_session(session_record())
    await storage.append_messages("s", [said("m1")])
    getattr(moments, moment)("messages", "update_one", kill)
    with pytest.raises(Killed):
        await storage.update_message("s", 1, payload=json_payload("new"), expected=message_record("m1").payload)
    found = await other.find_message("s", "m1")
    header = await other.find_session("s")
    assert header is not None
    assert found is not None
    assert [change.kind for change in header.changes] == ["updated"]
    if moment == "before":
        assert (found.payload, header.summary.first) == (
            message_record("m1").payload,
            Brief(1, json_payload("brief of m1")),
        )
    else:
        assert (found.payload, header.summary.first) == (json_payload("new"), None)
    await other.append_messages("s", [message_record("m2")])  # waits until the mark is given up
    assert await ids(other) == ["m1", "m2"]


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_lease_that_passes_on_during_an_append(
    place: MongoPlace, late: Late, other: MongoDBStorage, moment: str
) -> None:
    """Inserted before the lease passes on: it counts. After: it is hidden, and not acknowledged."""
    storage, moments = late
    await storage.put_session(session_record())
    fence = (await storage.acquire_lease("s", holder="a", ttl_us=_SECOND)).fence
    before = await other.find_session("s")

    async def take_over() -> None:
        place.clock.advance(2)
        assert (await other.acquire_lease("s", holder="b", ttl_us=_SECOND)).fence == fence + 1
        await other.append_messages("s", [message_record("new")], fence=fence + 1)

    getattr(moments, moment)("messages", "insert_one", take_over)
    if moment == "before":
        with pytest.raises(LeaseLostError):
            await storage.append_messages("s", [said("late", n=1)], fence=fence)
        assert await ids(other) == ["new"]
        assert await summary(other) == SessionSummary(counters={"user": 1})
    else:
        await storage.append_messages("s", [said("late", n=1)], fence=fence)
        assert await ids(other) == ["late", "new"]
        assert (await summary(other)).counters == {"n": 1, "user": 2}
    assert before is not None
    assert place.sessions.find_one({})["writing"] == []  # type: ignore[index]


async def test_a_lease_of_a_killed_writer_hides_what_comes_late(
    place: MongoPlace, late: Late, other: MongoDBStorage
) -> None:
    storage, moments = late
    await storage.put_session(session_record())
    fence = (await storage.acquire_lease("s", holder="a", ttl_us=_SECOND)).fence
    moments.before("messages", "insert_one", kill)
    with pytest.raises(Killed):
        await storage.append_messages("s", [message_record("late")], fence=fence)
    place.clock.advance(2)
    lease = await other.acquire_lease("s", holder="b", ttl_us=60 * _SECOND)
    header = place.sessions.find_one({}) or {}
    assert (header["epoch"], header["writing"], header["sealed"]) == (1, [], [])
    batch = {"inc": header["inc"], "epoch": 0, "s": "s", "first": 1, "last": 1, "at": 0, "state": {"sum": []}}
    place.messages.insert_one(
        {**batch, "ids": "late", "role": "user", "created": 0, "encoding": "json", "payload": "1"}
    )
    await other.append_messages("s", [message_record("new")], fence=lease.fence)
    assert await ids(other) == ["new"]


async def test_leases_that_pass_on_in_peace_open_no_epoch(place: MongoPlace, other: MongoDBStorage) -> None:
    await other.put_session(session_record())
    fences = []
    for turn in range(5):
        lease = await other.acquire_lease("s", holder=f"h{turn}", ttl_us=_SECOND)
        await other.append_messages("s", [message_record(f"m{turn}")], fence=lease.fence)
        await other.release_lease("s", fence=lease.fence)
        fences.append(lease.fence)
    header = place.sessions.find_one({}) or {}
    assert (header["epoch"], header["sealed"], header["lease"]["fence"]) == (0, [], fences[0] + 4)


async def test_a_fork_in_progress_is_not_purged(place: MongoPlace, late: Late, other: MongoDBStorage) -> None:
    storage, moments = late
    await storage.put_session(session_record())
    await storage.append_messages("s", message_records(3))
    moments.before("sessions", "insert_one", other.purge_expired)
    await storage.fork_session("s", session_record("f"), at=2)
    await other.purge_expired()
    assert [m.message_id async for m in other.stream_messages("f")] == ["m1", "m2"]
    assert place.meta.count_documents({}) == 1


async def test_a_killed_fork_is_purged_after_an_hour(place: MongoPlace, late: Late, other: MongoDBStorage) -> None:
    storage, moments = late
    await storage.put_session(session_record())
    await storage.append_messages("s", message_records(3))
    moments.before("sessions", "insert_one", kill)
    moments.before("messages", "delete_many", kill)
    with pytest.raises(Killed):
        await storage.fork_session("s", session_record("f"), at=2)
    assert await other.list_sessions() == ["s"]
    assert place.messages.count_documents({}) == 2
    await other.purge_expired()
    assert place.messages.count_documents({}) == 2
    place.clock.advance(3601)
    await other.purge_expired()
    assert (place.messages.count_documents({}), place.meta.count_documents({})) == (1, 1)
    assert await ids(other) == ["m1", "m2", "m3"]


async def test_a_fork_whose_source_is_cut_meanwhile_is_made_again(late: Late, other: MongoDBStorage) -> None:
    storage, moments = late
    await storage.put_session(session_record())
    await storage.append_messages("s", message_records(3))

    async def replace() -> None:
        await other.replace_tail("s", after=1, messages=message_records(2, prefix="n"))

    moments.before("messages", "aggregate", replace)
    await storage.fork_session("s", session_record("f"), at=3)
    assert [m.message_id async for m in other.stream_messages("f")] == ["m1", "n1", "n2"]


async def test_odd_names_of_counters_survive_cuts(other: MongoDBStorage) -> None:
    await other.put_session(session_record())
    odd = dict.fromkeys(("$ref", "a.b", "$x", "_id", "'"), 1)
    await other.append_messages("s", [attrs.evolve(said("m1"), adds=odd), said("m2", "assistant")])
    await other.truncate_messages("s", after=1)
    await other.replace_tail("s", after=0, messages=[attrs.evolve(said("m3"), adds=odd)])
    assert (await summary(other)).counters == {"user": 1, **dict.fromkeys(odd, 2)}


@pytest.mark.parametrize("batches", [0, 1, 2, 3])
@pytest.mark.parametrize("pause", [5, 60])
async def test_a_listing_of_settled_sessions_reads_their_headers_only(
    place: MongoPlace, late: Late, batches: int, pause: int
) -> None:
    """Another process has made the later appends."""
    other, _ = late
    async with place.recorded() as (storage, commands):
        await storage.put_session(attrs.evolve(session_record(), card=json_payload("card")))
        messages = [said("m1", n=1), said("m2", "assistant", n=2), message_record("m3")]
        for number in range(batches):
            place.clock.advance(pause)
            await (other if number else storage).append_messages("s", [messages[number]])
        commands.clear()
        row = await listed(storage)
    assert [next(iter(command)) for command in commands] == ["find"]
    assert row == await found(other)
    assert await listed(other, texts=False) == await found(other, texts=False)


async def test_a_quick_sequence_is_settled_once_and_only_reads_the_header(place: MongoPlace) -> None:
    async with place.recorded() as (storage, commands):
        await storage.put_session(session_record())
        place.clock.advance(70)
        for number in range(4):
            await storage.append_messages("s", [said(f"m{number}")])
            assert await listed(storage) == await found(storage)
        sent = [next(iter(command)) for command in commands]
    assert sent.count("findAndModify") == 2
    assert "settled" not in (place.sessions.find_one({}) or {})


@pytest.mark.parametrize("put", [False, True])
async def test_an_append_that_another_overtakes_does_not_settle_what_is_older(
    place: MongoPlace, late: Late, other: MongoDBStorage, *, put: bool
) -> None:
    """Both are in a new minute; the later one is verified first, also by a look at a header that was put meanwhile."""
    storage, moments = late
    await storage.put_session(session_record())
    for number in range(2):
        await storage.append_messages("s", [said(f"q{number}")])
    place.clock.advance(70)

    async def overtake() -> None:
        if put:
            await other.put_session(session_record())
            await other.append_messages("s", [said("m2")])
        await other.append_messages("s", [said("m3")])

    moments.after("messages", "insert_one", overtake)
    await storage.append_messages("s", [said("m1")])
    assert (await listed(other)).last_position == (5 if put else 4)
    assert await listed(other) == await found(other)


@pytest.mark.parametrize("change", ["update", "remove", "texts", "killed"])
@pytest.mark.parametrize("moment", ["before", "after", "earlier"])
async def test_an_append_settles_no_text_that_was_changed(
    place: MongoPlace, late: Late, other: MongoDBStorage, change: str, moment: str
) -> None:
    """It is changed before the insert, right after it, or before the append, by another process."""
    storage, moments = late
    await storage.put_session(session_record())
    await storage.append_messages("s", [said("m1")])
    old, new = message_record("m1").payload, json_payload("new")

    async def update() -> None:
        if change == "update":
            await other.update_message("s", 1, payload=new, expected=old, brief=new)
        elif change == "remove":
            await other.update_message("s", 1, payload=new, expected=old)
        elif change == "texts":
            texts = (await found(other)).texts
            assert texts.last is not None
            changed = attrs.evolve(texts, first=Brief(1, new), last=attrs.evolve(texts.last, payload=new))
            assert await other.rewrite_texts("s", old=texts, new=changed)
        else:
            async with place.interrupted() as (killed, kills):
                kills.after("messages", "update_one", kill)
                with pytest.raises(Killed):
                    await killed.update_message("s", 1, payload=new, expected=old, brief=new)

    place.clock.advance(70)
    if moment == "earlier":
        await update()
    else:
        getattr(moments, moment)("messages", "insert_one", update)
    await storage.append_messages("s", [said("m2", "assistant")])
    for number in range(2):
        assert await listed(other) == await found(other)
        assert "brief of m1" not in dumps(list(place.sessions.find()))
        place.clock.advance(70)
        await storage.append_messages("s", [said(f"n{number}", "assistant")])
    header = place.sessions.find_one({}) or {}
    assert ("settled" in header, bool(header["updating"])) == ((False, True) if change == "killed" else (True, False))


async def test_appends_of_a_group_settle_their_sessions(place: MongoPlace, other: MongoDBStorage) -> None:
    names = [f"{number:02}" for number in range(20)]
    async with place.recorded() as (storage, commands):
        for name in names:
            await storage.put_session(session_record(name))
        for turn in range(3):
            place.clock.advance(70 if turn < 2 else 0)
            await asyncio.gather(*(storage.append_messages(name, [said(f"m{turn}", n=turn)]) for name in names))
            commands.clear()
            rows = (await storage.query_sessions(SessionQuery())).sessions
            assert [next(iter(command)) for command in commands] == ["find", "aggregate"][: 1 + (turn == 2)]
            for row in rows:
                header = await other.find_session(row.session_id)
                assert header is not None
                assert row == header.listed(texts=True)
            assert [row.last_position for row in rows] == [turn + 1] * len(names)


async def test_a_killed_append_to_a_settled_session_is_listed_once_it_is_repeated(
    place: MongoPlace, late: Late, other: MongoDBStorage
) -> None:
    storage, moments = late
    await storage.put_session(session_record())
    place.clock.advance(70)
    moments.after("messages", "insert_one", kill)
    with pytest.raises(Killed):
        await storage.append_messages("s", [said("m1")])
    place.clock.advance(70)
    assert (await listed(other)).last_position == 0
    assert (await other.append_messages("s", [said("m1")])).replayed
    assert (await listed(other)).last_position == 1
    assert await listed(other) == await found(other)


@pytest.mark.parametrize("change", ["append", "put", "cut", "tail", "update", "remove", "texts", "lease"])
async def test_a_settled_header_follows_every_change(
    place: MongoPlace, late: Late, other: MongoDBStorage, change: str
) -> None:
    storage, _ = late
    await storage.put_session(attrs.evolve(session_record(), card=json_payload("card")))
    await storage.append_messages("s", [said("m1", n=1), said("m2", "assistant")])
    place.clock.advance(600)
    assert "settled" in (place.sessions.find_one({}) or {})
    old, new = message_record("m1").payload, json_payload("new")
    header = await other.find_session("s")
    assert header is not None
    if change == "append":
        await storage.append_messages("s", [said("m3")])
    elif change == "put":
        await storage.put_session(session_record())
    elif change == "cut":
        await storage.truncate_messages("s", after=1)
    elif change == "tail":
        await storage.replace_tail("s", after=0, messages=[said("m4")])
    elif change == "update":
        await storage.update_message("s", 1, payload=new, expected=old, brief=new)
    elif change == "remove":
        await storage.update_message("s", 1, payload=new, expected=old)
        assert "brief of m1" not in text_of(place)
    elif change == "texts":
        texts = attrs.evolve(header.texts, card=new, last=Brief(2, new))
        assert await storage.rewrite_texts("s", old=header.texts, new=texts)
        assert "brief of m2" not in text_of(place)
    else:
        await storage.acquire_lease("s", holder="a", ttl_us=1)
    for _ in range(2):
        (row,) = (await other.query_sessions(SessionQuery())).sessions
        header = await other.find_session("s")
        assert header is not None
        assert row == attrs.evolve(header, payload=None)


@pytest.mark.parametrize("call", ["truncate", "fork"])
async def test_a_cut_that_another_cut_overtakes(late: Late, other: MongoDBStorage, call: str) -> None:
    """The batch, of which the roles are read, is deleted meanwhile."""
    storage, moments = late
    await storage.put_session(session_record())
    for prefix in "abc":
        await storage.append_messages("s", message_records(2, prefix=prefix))

    async def cut() -> None:
        await other.truncate_messages("s", after=2)

    if call == "truncate":
        moments.before("messages", "find_one", cut)
        assert await storage.truncate_messages("s", after=4) == 0
    else:
        moments.after("messages", "aggregate", cut)
        with pytest.raises(ConflictError):
            await storage.fork_session("s", session_record("f"), at=4)
        assert await storage.find_session("f") is None
    assert await ids(other) == ["a1", "a2"]
    assert await summary(other) == SessionSummary(counters={"user": 2})
