"""Every record of a live store into its present form: what changes, what stays, what others did meanwhile."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import attrs
import pytest

from luminoracore_sdk.application.maintenance import rewrite as rewriting
from luminoracore_sdk.application.maintenance.rewrite import CHUNK, Rewritten, StoreRewrite
from luminoracore_sdk.application.ports.records import (
    MemoryRecord,
    MemoryScope,
    MessageRange,
    MessageRecord,
    Payload,
    SessionQuery,
    SessionRecord,
)
from luminoracore_sdk.application.ports.rewriting import PayloadRewrite
from luminoracore_sdk.domain.errors import ConfigurationError, CorruptRecordError, PayloadTooLargeError
from luminoracore_sdk.domain.values import STORE_OWNER
from luminoracore_sdk.optimization import Optimizer
from luminoracore_sdk.session import InMemoryStorage, OptimizedStorageWrapper
from luminoracore_sdk.testing import ManualClock
from luminoracore_sdk.testing.records import memory_record, message_records, session_record

LONG = 2 * CHUNK + 1


class Upper:
    """The form of this store is capital letters; what holds a ``?`` cannot be read."""

    def __init__(self) -> None:
        self.before: Callable[[], Awaitable[object]] | None = None

    async def _form(self, payload: Payload) -> Payload:
        if self.before is not None:
            before, self.before = self.before, None
            await before()
        if b"?" in payload.data:
            raise CorruptRecordError(backend="memory", key="a record", reason="who knows")
        new = Payload(payload.encoding, payload.data.upper())
        return payload if new == payload else new

    async def session(self, record: SessionRecord) -> Payload:
        return await self._form(record.payload or Payload("", b""))

    async def message(self, session_id: str, record: MessageRecord) -> Payload:
        return await self._form(record.payload)

    async def memory(self, record: MemoryRecord) -> Payload:
        return await self._form(record.payload)


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


async def test_every_record_gets_its_form_and_nothing_else_changes(store: InMemoryStorage, clock: ManualClock) -> None:
    before = await contents(store)
    clock.advance(100)
    done = await run(store, Upper(), users=["v"])
    assert [counts(one) for one in done] == [
        ("user", STORE_OWNER, 1, 1, 0, 0),
        ("user", "v", 1, 1, 0, 0),
        ("user", "u", 1, 1, 0, 0),
        ("session", "s", LONG + 2, LONG + 2, 0, 0),
        ("session", "t", 1, 1, 0, 0),
    ]
    assert await contents(store) == [upper(record) for record in before]


async def test_a_second_run_reads_and_changes_nothing(store: InMemoryStorage) -> None:
    await run(store, Upper())
    found = [counts(one)[2:] for one in await run(store, Upper())]
    assert found == [(1, 0, 0, 0), (1, 0, 0, 0), (LONG + 2, 0, 0, 0), (1, 0, 0, 0)]


async def test_a_run_goes_on_behind_a_cursor_and_within_a_query(store: InMemoryStorage) -> None:
    _, _, first, _ = await run(store, Upper(), query=SessionQuery(user_id="u"))
    assert first.cursor == ((await store.query_sessions(SessionQuery(limit=1))).next_cursor)
    rest = await run(store, Upper(), query=SessionQuery(cursor=first.cursor))
    assert [one.owner_id for one in rest] == [STORE_OWNER, "u", "t"]
    assert [one.owner_id for one in await run(store, Upper(), query=SessionQuery(user_id="x"))] == [STORE_OWNER]


async def test_a_store_of_several_pages_is_rewritten_whole(
    store: InMemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rewriting, "MAX_PAGE", 1)
    assert [one.owner_id for one in await run(store, Upper())] == [STORE_OWNER, "u", "s", "t"]


async def test_bytes_are_counted_before_and_after(store: InMemoryStorage) -> None:
    class Short(Upper):
        async def _form(self, payload: Payload) -> Payload:
            return Payload("short", b"x")

    done = {one.owner_id: one for one in await run(store, Short())}
    payload = session_record("t").payload
    assert payload is not None
    assert (done["t"].bytes_before, done["t"].bytes_after) == (len(payload.data), 1)
    assert done["s"].bytes_after == LONG + 2


async def test_what_cannot_be_read_stays_and_the_rest_goes_on(store: InMemoryStorage) -> None:
    await store.put_session(session_record("s", text="what?"))
    await store.put_memory(memory_record("k", value="why?"))
    before = await store.find_session("s")
    _, done, *_ = await run(store, Upper())
    assert counts(done)[2:] == (LONG + 2, LONG, 0, 2)
    assert done.reason == "memory storage: a record is damaged: who knows"
    assert await store.find_session("s") == before


@pytest.mark.parametrize("damaged", [1, CHUNK + 3, LONG])
async def test_a_message_that_cannot_be_read_keeps_nobody_from_the_others(
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
async def test_a_part_that_cannot_be_read_keeps_nobody_from_the_others(
    store: InMemoryStorage, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    async def torn(*_: object) -> None:
        raise CorruptRecordError(backend="memory", key="all of it", reason="a bit")

    monkeypatch.setattr(store, call, torn)
    done = await run(store, Upper())
    assert [one.unreadable for one in done] == ([0, 0, 1, 1] if call == "find_session" else [1, 1, 1, 1])
    assert [one.changed for one in done if one.owner_id == "s"] == [LONG + 1]


class Limited(InMemoryStorage):
    """Takes no payload with these words, and no batch that has one."""

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


async def test_what_would_be_too_large_stays_and_the_rest_goes_on() -> None:
    store = Limited()
    await store.put_session(session_record("s"))
    await store.append_messages("s", message_records(9))
    await store.put_memory(memory_record("k"))
    await store.put_memory(memory_record("l", value="short"))
    _, done = await run(store, Upper())
    assert (done.records, done.changed, done.left, done.too_large) == (12, 10, 0, 2)
    assert done.reason == "a record is 2 bytes; memory keeps at most 1 in one record"
    messages = await store.read_messages("s", MessageRange())
    assert [message.payload.data.isupper() for message in messages] == [number != 7 for number in range(1, 10)]


async def test_what_somebody_else_writes_meanwhile_is_theirs(store: InMemoryStorage) -> None:
    forms = Upper()

    async def write() -> None:
        await store.put_session(session_record("t", text="theirs"))

    running = StoreRewrite(store, forms).run(SessionQuery(cursor=(await created(store, "s"), "s")))
    await anext(running)
    await anext(running)
    forms.before = write
    done = await anext(running)
    assert counts(done) == ("session", "t", 1, 0, 1, 0)
    assert done.bytes_before == done.bytes_after
    assert await store.load_session("t") == {"text": "theirs"}


async def created(store: InMemoryStorage, session_id: str) -> int:
    record = await store.find_session(session_id)
    assert record is not None
    return record.created_at_us


async def test_a_session_deleted_after_it_was_listed_has_no_records(store: InMemoryStorage) -> None:
    running = StoreRewrite(store, Upper()).run()
    await anext(running)
    await anext(running)
    await store.delete_session("t")
    found = [counts(one)[:3] async for one in running]
    assert found == [("session", "s", LONG + 2), ("session", "t", 0)]


def test_a_storage_that_cannot_replace_payloads_is_refused() -> None:
    wrapper = OptimizedStorageWrapper(InMemoryStorage(), Optimizer())
    with pytest.raises(ConfigurationError, match="a memory storage cannot replace"):
        StoreRewrite(wrapper, Upper())
