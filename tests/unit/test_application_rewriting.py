"""StoreRewrite and RewriteMark: what a run rewrites, what it leaves, and how it is resumed."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import attrs
import pytest

from luminoracore_sdk.adapters.codec.values import JsonCodec
from luminoracore_sdk.application import session_access
from luminoracore_sdk.application.maintenance.rewrite import CHUNK, RewriteMark, Rewritten, StoreRewrite
from luminoracore_sdk.application.ports.records import (
    HeaderTexts,
    IndexRecord,
    IndexRewrite,
    MemoryRecord,
    MemoryScope,
    MessageRange,
    MessageRecord,
    Payload,
    SessionRecord,
)
from luminoracore_sdk.application.ports.rewriting import PayloadRewrite
from luminoracore_sdk.domain.errors import ConfigurationError, CorruptRecordError, PayloadTooLargeError
from luminoracore_sdk.domain.json_value import JSONValue
from luminoracore_sdk.domain.values import STORE_OWNER
from luminoracore_sdk.optimization import Optimizer
from luminoracore_sdk.session import InMemoryStorage, OptimizedStorageWrapper
from luminoracore_sdk.testing import ManualClock
from luminoracore_sdk.testing.records import json_payload, memory_record, message_records, session_record

LONG = 2 * CHUNK + 1


class Upper:
    """Forms in capital letters; a payload with a ``?`` cannot be read."""

    def __init__(self) -> None:
        self.before: Callable[[], Awaitable[object]] | None = None

    async def _upper(self, payload: Payload) -> Payload:
        if self.before is not None:
            before, self.before = self.before, None
            await before()
        if b"?" in payload.data:
            raise CorruptRecordError(backend="memory", key="a record", reason="unreadable")
        new = Payload(payload.encoding, payload.data.upper())
        return payload if new == payload else new

    async def session(self, record: SessionRecord) -> Payload:
        return await self._upper(record.payload or Payload("", b""))

    async def texts(self, record: SessionRecord) -> HeaderTexts:
        card = None if record.card is None else await self._upper(record.card)
        return attrs.evolve(record.texts, card=card)

    async def message(self, session_id: str, record: MessageRecord) -> Payload:
        return await self._upper(record.payload)

    async def index(self, session_id: str, record: IndexRecord) -> Payload | None:
        return None if record.index is None else await self._upper(record.index)

    async def memory(self, record: MemoryRecord) -> Payload:
        return await self._upper(record.payload)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def store(clock: ManualClock) -> InMemoryStorage:
    storage = InMemoryStorage(clock=clock)
    await storage.put_session(session_record("s", user_id="u", ttl_us=10**9))
    await storage.append_messages("s", message_records(LONG))
    await storage.put_memory(memory_record("k"))
    await storage.put_memory(memory_record("of the user", owner="u", kind="user"))
    await storage.put_memory(memory_record("of another", owner="v", kind="user"))
    await storage.put_memory(memory_record("of the store", owner=STORE_OWNER, kind="user"))
    clock.advance(1)
    await storage.put_session(session_record("t", user_id="u"))
    return storage


async def run(storage: InMemoryStorage, forms: Upper, **options: Any) -> list[Rewritten]:
    return [done async for done in StoreRewrite(storage, forms).run(**options)]


ALL = [STORE_OWNER, "u", "v", "s", "t"]


def counts(done: Rewritten) -> tuple[str, str, int, int, int, int]:
    return done.kind, done.owner_id, done.records, done.changed, done.left, done.unreadable


async def contents(storage: InMemoryStorage) -> list[Any]:
    scopes = [MemoryScope("session", "s"), *(MemoryScope("user", name) for name in ("u", "v", STORE_OWNER))]
    return [
        *[await storage.find_session(name) for name in ("s", "t")],
        *await storage.read_messages("s", MessageRange()),
        *[memory for scope in scopes for memory in await storage.list_memories(scope)],
    ]


def upper(record: Any) -> Any:
    payload = record.payload
    return attrs.evolve(record, payload=Payload(payload.encoding, payload.data.upper()))


async def test_every_payload_is_rewritten_and_nothing_else_changes(store: InMemoryStorage, clock: ManualClock) -> None:
    before = await contents(store)
    clock.advance(100)
    done = await run(store, Upper())
    assert [counts(one) for one in done] == [
        ("user", STORE_OWNER, 1, 1, 0, 0),
        ("user", "u", 1, 1, 0, 0),
        ("user", "v", 1, 1, 0, 0),  # a user without a session
        ("session", "s", LONG + 2, LONG + 2, 0, 0),
        ("session", "t", 1, 1, 0, 0),
    ]
    assert await contents(store) == [upper(record) for record in before]


async def test_indexes_of_messages_are_rewritten(store: InMemoryStorage) -> None:
    texts = {1: b"one", 2: b"two?", LONG: b"last"}
    changes = [
        IndexRewrite(position=position, message_id=f"m{position}", old=None, new=Payload("terms", text))
        for position, text in texts.items()
    ]
    assert await store.rewrite_index("s", changes) == 3
    done = (await run(store, Upper()))[ALL.index("s")]
    assert (done.changed, done.left, done.unreadable) == (LONG + 2, 0, 1)
    found = [record.index for record in await store.read_index("s", MessageRange()) if record.index]
    assert [index.data for index in found] == [b"ONE", b"two?", b"LAST"]


async def test_an_index_that_is_replaced_meanwhile_is_left(store: InMemoryStorage) -> None:
    one, two = Payload("terms", b"one"), Payload("terms", b"two")
    change = IndexRewrite(position=1, message_id="m1", old=None, new=one)
    assert await store.rewrite_index("s", [change]) == 1

    class Overtaken(Upper):
        async def index(self, session_id: str, record: IndexRecord) -> Payload | None:
            if record.position == 1:
                await store.rewrite_index(session_id, [attrs.evolve(change, old=one, new=two)])
            return await super().index(session_id, record)

    assert (await run(store, Overtaken()))[ALL.index("s")].left == 1
    assert (await store.read_index("s", MessageRange(limit=1)))[0].index == two


async def test_a_second_run_changes_nothing(store: InMemoryStorage) -> None:
    await run(store, Upper())
    found = [counts(one)[2:] for one in await run(store, Upper())]
    assert found == [(records, 0, 0, 0) for records in (1, 1, 1, LONG + 2, 1)]


async def test_a_resumed_run_skips_sessions_up_to_the_cursor(store: InMemoryStorage) -> None:
    first = (await run(store, Upper()))[ALL.index("s")]
    assert [one.owner_id for one in await run(store, Upper(), after=first.cursor)] == [STORE_OWNER, "u", "v", "t"]


async def test_users_and_sessions_of_several_pages_are_rewritten(
    store: InMemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_access, "MAX_PAGE", 1)
    assert [one.owner_id for one in await run(store, Upper())] == ALL


async def test_sizes_before_and_after_are_counted(store: InMemoryStorage) -> None:
    class Short(Upper):
        async def _upper(self, payload: Payload) -> Payload:
            return Payload("short", b"x")

    done = {one.owner_id: one for one in await run(store, Short())}
    payload = session_record("t").payload
    assert payload is not None
    assert (done["t"].bytes_before, done["t"].bytes_after) == (len(payload.data), 1)
    assert done["s"].bytes_after == LONG + 2


async def test_an_unreadable_record_stays_and_the_rest_is_rewritten(store: InMemoryStorage) -> None:
    await store.put_session(session_record("s", text="what?"))
    await store.put_memory(memory_record("k", value="why?"))
    before = await store.find_session("s")
    done = (await run(store, Upper()))[ALL.index("s")]
    assert counts(done)[2:] == (LONG + 2, LONG, 0, 2)
    assert done.reason == "memory storage: a record is damaged: unreadable"
    assert await store.find_session("s") == before


@pytest.mark.parametrize("damaged", [1, CHUNK + 3, LONG])
async def test_messages_around_a_damaged_one_are_rewritten(
    store: InMemoryStorage, monkeypatch: pytest.MonkeyPatch, damaged: int
) -> None:
    read = store.read_messages

    async def torn(session_id: str, span: MessageRange) -> list[MessageRecord]:
        messages = await read(session_id, span)
        if any(message.position == damaged for message in messages):
            raise CorruptRecordError(backend="memory", key=f"message {damaged}", reason="a bit")
        return messages

    monkeypatch.setattr(store, "read_messages", torn)
    before = await store.find_session("s")
    done = {one.owner_id: one for one in await run(store, Upper())}
    assert counts(done["s"])[2:] == (LONG + 1, LONG + 1, 0, 1)
    assert done["s"].reason == f"memory storage: message {damaged} is damaged: a bit"
    monkeypatch.undo()
    texts = [message.payload.data for message in await store.read_messages("s", MessageRange())]
    assert [text.isupper() for text in texts].count(False) == 1
    assert await store.find_session("s") == upper(before)


@pytest.mark.parametrize("call", ["find_session", "list_memories"])
async def test_the_other_parts_of_a_damaged_session_are_rewritten(
    store: InMemoryStorage, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    async def torn(*_: object) -> None:
        raise CorruptRecordError(backend="memory", key="all of it", reason="a bit")

    monkeypatch.setattr(store, call, torn)
    done = await run(store, Upper())
    assert [one.unreadable for one in done] == ([0, 0, 0, 1, 1] if call == "find_session" else [1] * 5)
    assert [one.changed for one in done if one.owner_id == "s"] == [LONG + 1]


class Limited(InMemoryStorage):
    """Refuses payloads with these words, and batches that contain one."""

    def _refuse(self, new: Payload) -> None:
        if b"TEXT OF M7" in new.data or b"A VALUE" in new.data:
            raise PayloadTooLargeError(backend="memory", key="a record", size_bytes=2, limit_bytes=1)

    async def rewrite_messages(self, session_id: str, changes: Sequence[PayloadRewrite]) -> int:
        for change in changes:
            self._refuse(change.new)
        return await super().rewrite_messages(session_id, changes)

    async def rewrite_memory(self, scope: MemoryScope, key: str, *, old: Payload, new: Payload) -> bool:
        self._refuse(new)
        return await super().rewrite_memory(scope, key, old=old, new=new)


async def test_a_payload_that_is_too_large_is_left_alone() -> None:
    store = Limited()
    await store.put_session(session_record("s"))
    await store.append_messages("s", message_records(9))
    await store.put_memory(memory_record("k"))
    await store.put_memory(memory_record("l", value="short"))
    _, done = await run(store, Upper())
    assert (done.records, done.changed, done.left, done.too_large) == (12, 10, 0, 2)
    assert done.reason == "a record is 2 bytes; memory stores at most 1 in one record"
    messages = await store.read_messages("s", MessageRange())
    assert [message.payload.data.isupper() for message in messages] == [number != 7 for number in range(1, 10)]


async def test_a_record_written_meanwhile_is_left_alone(store: InMemoryStorage) -> None:
    forms = Upper()

    async def write() -> None:
        await store.put_session(session_record("t", text="theirs"))

    results = StoreRewrite(store, forms).run()
    for _ in ALL[:-1]:
        await anext(results)
    forms.before = write
    done = await anext(results)
    assert counts(done) == ("session", "t", 1, 0, 1, 0)
    assert done.bytes_before == done.bytes_after
    assert await store.load_session("t") == {"text": "theirs"}


async def test_a_session_deleted_after_listing_has_no_records(store: InMemoryStorage) -> None:
    results = StoreRewrite(store, Upper()).run()
    for _ in ALL[:-1]:
        await anext(results)
    await store.delete_session("t")
    assert [counts(one)[:3] async for one in results] == [("session", "t", 0)]


def test_a_storage_that_cannot_replace_payloads_is_refused() -> None:
    wrapper = OptimizedStorageWrapper(InMemoryStorage(), Optimizer())
    with pytest.raises(ConfigurationError, match="a memory storage cannot replace"):
        StoreRewrite(wrapper, Upper())


# -- the mark of a stopped run -------------------------------------------------------------------


def mark(storage: InMemoryStorage, aim: str = "plain") -> RewriteMark:
    return RewriteMark(storage, JsonCodec(), aim)


async def test_a_mark_keeps_the_latest_cursor_until_it_is_cleared() -> None:
    storage = InMemoryStorage()
    assert await mark(storage).find() is None
    await mark(storage).set((1, "a"))
    await mark(storage).set((2, "b"))
    assert await mark(storage).find() == (2, "b")
    assert await mark(storage, "another aim").find() is None
    await mark(storage).clear()
    assert await mark(storage).find() is None


@pytest.mark.parametrize("value", [None, {}, {"aim": "plain"}, {"aim": "plain", "time_us": "1", "session": "a"}])
async def test_a_mark_without_a_cursor_is_ignored(value: JSONValue) -> None:
    storage = InMemoryStorage()
    record = memory_record("rewriting", owner=STORE_OWNER, kind="user")
    await storage.put_memory(attrs.evolve(record, payload=json_payload(value)))
    assert await mark(storage).find() is None


# -- the change of a payload ---------------------------------------------------------------------


def test_a_change_fits_only_the_message_that_was_read() -> None:
    stored = attrs.evolve(message_records(1)[0], position=3, payload=Payload("json", b"1"))
    change = PayloadRewrite(position=3, message_id="m1", old=Payload("json", b"1"), new=Payload("x", b"2"))
    assert change.fits(stored) is True
    for other in (
        attrs.evolve(stored, position=4),
        attrs.evolve(stored, message_id="n"),
        attrs.evolve(stored, payload=Payload("json+opt1", b"1")),
        attrs.evolve(stored, payload=Payload("json", b"10")),
        attrs.evolve(stored, payload=change.new),
    ):
        assert change.fits(other) is False


async def test_texts_are_rewritten_although_others_change_them(clock: ManualClock) -> None:
    storage = InMemoryStorage(clock=clock)
    await storage.put_session(attrs.evolve(session_record("s"), card=json_payload("a card")))
    forms, changes = Upper(), 0

    async def change() -> None:
        nonlocal changes
        changes += 1
        if changes <= 3:
            forms.before = change
            brief = json_payload(f"brief {changes}")
            await storage.append_messages(
                "s", [attrs.evolve(message_records(1)[0], message_id=str(changes), brief=brief)]
            )

    forms.before = change
    done = await run(storage, forms)
    header = await storage.find_session("s")
    assert header is not None
    assert header.card == json_payload("A CARD")
    assert sum(one.left for one in done) == 0
    assert changes == 4


async def test_texts_that_always_change_are_left(clock: ManualClock) -> None:
    storage = InMemoryStorage(clock=clock)
    await storage.put_session(attrs.evolve(session_record("s"), card=json_payload("a card")))

    class ChangesAlways(Upper):
        number = 0

        async def texts(self, record: SessionRecord) -> HeaderTexts:
            new = await super().texts(record)
            self.number += 1
            brief = json_payload(f"brief {self.number}")
            message = attrs.evolve(message_records(1)[0], message_id=str(self.number), brief=brief)
            await storage.append_messages("s", [message])
            return new

    done = await run(storage, ChangesAlways())
    assert sum(one.left for one in done) == 1


async def test_a_session_deleted_while_its_texts_are_rewritten_is_left(clock: ManualClock) -> None:
    storage = InMemoryStorage(clock=clock)
    await storage.put_session(attrs.evolve(session_record("s"), card=json_payload("a card")))

    class Deletes(Upper):
        async def texts(self, record: SessionRecord) -> HeaderTexts:
            await storage.delete_session("s")
            return await super().texts(record)

    (_, done) = await run(storage, Deletes())
    assert (done.owner_id, done.left, done.unreadable) == ("s", 0, 0)


async def test_an_index_that_is_too_large_is_left_alone() -> None:
    class Refuses(InMemoryStorage):
        async def rewrite_index(self, session_id: str, changes: Sequence[IndexRewrite]) -> int:
            raise PayloadTooLargeError(backend="memory", key=f"the index of {session_id}", size_bytes=2, limit_bytes=1)

    store, index = Refuses(), Payload("terms", b"one")
    await store.put_session(session_record("s"))
    await store.append_messages("s", [attrs.evolve(message_records(1)[0], index=index)])
    _, done = await run(store, Upper())
    assert (done.left, done.too_large) == (0, 1)
    assert [record.index for record in await store.read_index("s", MessageRange())] == [index]
