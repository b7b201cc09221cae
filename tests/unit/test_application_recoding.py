"""Every record of a live store into its present form: what changes, what stays, what others did meanwhile."""

from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import pytest

from luminoracore_sdk.application import recoding
from luminoracore_sdk.application.ports.records import (
    MemoryRecord,
    MemoryScope,
    MessageRange,
    MessageRecord,
    Payload,
    SessionQuery,
    SessionRecord,
)
from luminoracore_sdk.application.recoding import CHUNK, Recoded, StoreRecoding
from luminoracore_sdk.domain.errors import ConfigurationError, CorruptRecordError
from luminoracore_sdk.domain.values import STORE_OWNER
from luminoracore_sdk.optimization import Optimizer
from luminoracore_sdk.session import InMemoryStorage, OptimizedStorageWrapper
from luminoracore_sdk.testing import ManualClock
from luminoracore_sdk.testing.builders import memory_record, message_records, session_record

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
        new = Payload(payload.tag, payload.data.upper())
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


async def run(storage: InMemoryStorage, forms: Upper, **options: Any) -> list[Recoded]:
    return [done async for done in StoreRecoding(storage, forms).run(**options)]


def counts(done: Recoded) -> tuple[str, str, int, int, int, int]:
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
    return attrs.evolve(record, payload=Payload(payload.tag, payload.data.upper()))


async def test_every_record_gets_its_form_and_nothing_else_changes(
    store: InMemoryStorage, clock: ManualClock
) -> None:
    before = await contents(store)
    clock.advance(100)
    done = await run(store, Upper(), users=["u", "v"])
    assert [counts(one) for one in done] == [
        ("user", STORE_OWNER, 1, 1, 0, 0),
        ("session", "s", LONG + 2, LONG + 2, 0, 0),
        ("user", "u", 1, 1, 0, 0),
        ("session", "t", 1, 1, 0, 0),
        ("user", "v", 1, 1, 0, 0),
    ]
    assert await contents(store) == [upper(record) for record in before]


async def test_a_second_run_reads_and_changes_nothing(store: InMemoryStorage) -> None:
    await run(store, Upper())
    done = await run(store, Upper())
    assert [counts(one)[2:] for one in done] == [
        (1, 0, 0, 0),
        (LONG + 2, 0, 0, 0),
        (1, 0, 0, 0),
        (1, 0, 0, 0),
    ]


async def test_a_run_goes_on_behind_a_cursor_and_within_a_query(store: InMemoryStorage) -> None:
    _, first, *_ = await run(store, Upper(), query=SessionQuery(user_id="u"))
    assert first.cursor == ((await store.query_sessions(SessionQuery(limit=1))).next_cursor)
    rest = await run(store, Upper(), query=SessionQuery(cursor=first.cursor))
    assert [one.owner_id for one in rest] == [STORE_OWNER, "t", "u"]
    assert [one.owner_id for one in await run(store, Upper(), query=SessionQuery(user_id="x"))] == [
        STORE_OWNER
    ]


async def test_a_store_of_several_pages_is_rewritten_whole(
    store: InMemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recoding, "MAX_PAGE", 1)
    assert [one.owner_id for one in await run(store, Upper())] == [STORE_OWNER, "s", "u", "t"]


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


async def test_a_session_that_is_damaged_as_a_whole_does_not_keep_the_others_from_it(
    store: InMemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def torn(*_: object) -> list[MessageRecord]:
        raise CorruptRecordError(backend="memory", key="session 's'", reason="a gap")

    monkeypatch.setattr(store, "read_messages", torn)
    done = await run(store, Upper())
    assert [counts(one)[2:] for one in done] == [(1, 1, 0, 0), (1, 1, 0, 1), (1, 1, 0, 0), (1, 1, 0, 1)]
    assert done[1].reason == "memory storage: session 's' is damaged: a gap"


async def test_what_somebody_else_writes_meanwhile_is_theirs(store: InMemoryStorage) -> None:
    forms = Upper()

    async def write() -> None:
        await store.put_session(session_record("t", text="theirs"))

    store_owner = StoreRecoding(store, forms).run(SessionQuery(cursor=(await created(store, "s"), "s")))
    await anext(store_owner)
    forms.before = write
    done = await anext(store_owner)
    assert counts(done) == ("session", "t", 1, 0, 1, 0)
    assert done.bytes_before == done.bytes_after
    assert await store.load_session("t") == {"text": "theirs"}


async def created(store: InMemoryStorage, session_id: str) -> int:
    record = await store.find_session(session_id)
    assert record is not None
    return record.created_at_us


async def test_a_session_deleted_after_it_was_listed_has_no_records(store: InMemoryStorage) -> None:
    running = StoreRecoding(store, Upper()).run()
    await anext(running)
    await anext(running)
    await store.delete_session("t")
    assert [counts(one)[:3] async for one in running] == [("user", "u", 1), ("session", "t", 0)]


def test_a_storage_that_cannot_replace_payloads_is_refused() -> None:
    wrapper = OptimizedStorageWrapper(InMemoryStorage(), Optimizer())
    with pytest.raises(ConfigurationError, match="a memory storage cannot replace"):
        StoreRecoding(wrapper, Upper())
