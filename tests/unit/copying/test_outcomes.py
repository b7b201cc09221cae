"""Copying: what is copied, what is found equal, what differs."""

import hashlib
import math
from collections.abc import Awaitable, Callable

import attrs
import pytest

from luminoracore_sdk.adapters.codec.values import JsonCodec
from luminoracore_sdk.application import session_access
from luminoracore_sdk.application.maintenance.copy import CHUNK, Outcome
from luminoracore_sdk.application.ports.records import (
    MemoryRecord,
    MemoryScope,
    MessageRange,
    MessageRecord,
    Payload,
    SessionQuery,
    SessionRecord,
)
from luminoracore_sdk.domain.values import STORE_OWNER
from luminoracore_sdk.session import EncryptedStorageWrapper, InMemoryStorage, Keyring
from luminoracore_sdk.testing import ManualClock
from luminoracore_sdk.testing.records import memory_record, message_record, message_records, session_record
from tests.support.copying import (
    DAMAGED,
    LONG,
    OF_S,
    OF_U,
    Copy,
    change_header,
    change_memory,
    change_message,
    contents,
    summary,
    whole,
)

Change = Callable[[InMemoryStorage], Awaitable[object]]


# -- copied --------------------------------------------------------------------------------------


async def test_sessions_and_users_are_copied_with_everything(
    source: InMemoryStorage, target: InMemoryStorage, copied: Copy
) -> None:
    first = await copied()
    assert summary(first) == whole(Outcome.COPIED)
    assert await contents(target) == await contents(source)
    again = await copied()
    assert summary(again) == whole(Outcome.PRESENT)
    assert [one.digest for one in again] == [one.digest for one in first]
    found = await target.find_session("s")
    assert found is not None
    assert found.version == 1


async def test_messages_are_copied_with_their_indexes(
    source: InMemoryStorage, target: InMemoryStorage, copied: Copy
) -> None:
    encrypted = EncryptedStorageWrapper(InMemoryStorage(), Keyring({"k": bytes(32)}))  # its messages have no index
    await encrypted.put_session(session_record("i"))
    batch = [
        attrs.evolve(message, index=Payload("terms", message.message_id.encode())) for message in message_records(9)
    ]
    batch[4] = attrs.evolve(batch[4], index=None)
    await encrypted.append_messages("i", batch[:7])
    await copied(source=encrypted)
    await encrypted.append_messages("i", batch[7:])
    await copied(source=encrypted)
    found = await target.read_index("i", MessageRange())
    assert [record.index for record in found] == [message.index for message in batch]


async def test_memories_keep_the_order_of_their_updates(target: InMemoryStorage, copied: Copy) -> None:
    class Noting(InMemoryStorage):
        async def put_memory(
            self, record: MemoryRecord, *, max_entries: int | None = None, expected_version: int | None = None
        ) -> MemoryRecord:
            keys.append(record.key)
            return await super().put_memory(record, max_entries=max_entries, expected_version=expected_version)

    keys: list[str] = []
    await copied(target=Noting())
    assert keys == ["name", "c", "a", "b"]


async def test_a_user_with_several_sessions_is_copied_once(source: InMemoryStorage, copied: Copy) -> None:
    await source.put_session(session_record("t", user_id="u"))
    await source.put_session(session_record("nobody's"))
    assert [(one.kind, one.owner_id) for one in await copied()] == [
        ("user", "u"),
        ("session", "s"),
        ("session", "nobody's"),
        ("session", "t"),
    ]


async def test_a_user_without_a_session_is_copied_and_compared(
    source: InMemoryStorage, target: InMemoryStorage, copied: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_access, "MAX_PAGE", 1)
    await source.put_memory(memory_record("k", kind="user", owner="v"))
    await source.put_memory(memory_record("dictionary", kind="user", owner=STORE_OWNER))
    assert summary(await copied())[:2] == [("user", "u", "copied", 0, 1), ("user", "v", "copied", 0, 1)]
    assert await target.list_memory_owners() == ["u", "v"]
    assert await target.list_memories(MemoryScope("user", STORE_OWNER)) == []
    await target.put_memory(memory_record("k", kind="user", owner="v", value="other"))
    assert summary(await copied())[1] == ("user", "v", "different", 0, 0)


async def test_a_query_selects_sessions_and_their_users(source: InMemoryStorage, copied: Copy) -> None:
    await source.put_session(session_record("t", tags=("x",)))
    await source.put_memory(memory_record("k", kind="user", owner="v"))
    assert summary(await copied(SessionQuery(user_id="v"))) == [("user", "v", "copied", 0, 1)]
    assert summary(await copied(SessionQuery(tag="x"))) == [("session", "t", "copied", 0, 0)]
    assert summary(await copied(SessionQuery(tag="a"), dry_run=True)) == whole(Outcome.COPIED)
    assert summary(await copied(SessionQuery(user_id="u"))) == whole(Outcome.COPIED)


async def test_a_dry_run_reports_and_writes_nothing(target: InMemoryStorage, copied: Copy) -> None:
    dry = await copied(dry_run=True)
    assert summary(dry) == whole(Outcome.COPIED)
    assert (await target.list_sessions(), await target.list_memories(OF_U)) == ([], [])
    assert dry == await copied()
    assert summary(await copied(dry_run=True)) == whole(Outcome.PRESENT)


# -- present, completed, different ---------------------------------------------------------------


@pytest.mark.parametrize("there", [0, 1, CHUNK, CHUNK + 1, LONG - 1, LONG])
async def test_the_beginning_of_a_session_is_completed(
    source: InMemoryStorage, target: InMemoryStorage, copied: Copy, there: int
) -> None:
    record = await source.find_session("s")
    assert record is not None
    await target.put_session(record)
    for message in message_records(there):
        await target.append_messages("s", [message])
    await target.put_memory((await source.list_memories(OF_S))[0])
    before = await contents(target)
    assert summary(await copied(dry_run=True))[1] == ("session", "s", "completed", LONG, 3)
    assert await contents(target) == before
    assert summary(await copied())[1] == ("session", "s", "completed", LONG, 3)
    assert await contents(target) == await contents(source)


async def test_what_a_session_has_used_since_is_copied_once(
    source: InMemoryStorage, target: InMemoryStorage, copied: Copy
) -> None:
    def used(message_id: str, number: int) -> MessageRecord:
        return attrs.evolve(message_record(message_id), adds={"tokens": number, message_id: 1})

    await source.append_messages("s", [used("first", 1)])
    await copied()
    for after, message_id, number in ((LONG + 1, "replaced", 10), (LONG + 1, "second", 100)):
        await source.replace_tail("s", after=after, messages=[used(message_id, number)])
    await copied(dry_run=True)
    for _ in range(2):
        await copied()
        found = await target.find_session("s")
        assert found is not None
        assert dict(found.summary.counters) == {"user": LONG + 2, "tokens": 111, "first": 1, "replaced": 1, "second": 1}


async def make_anew(storage: InMemoryStorage) -> None:
    record = await storage.find_session("s")
    assert record is not None
    await storage.delete_session("s")
    await storage.put_session(attrs.evolve(record, created_at_us=5))


CHANGES: dict[str, tuple[Change, str]] = {
    "user": (lambda storage: change_header(storage, user_id="v"), "differs in: user"),
    "tags and ttl": (lambda storage: change_header(storage, tags=(), ttl_us=None), "differs in: tags, ttl"),
    "document": (
        lambda storage: change_header(storage, payload=Payload("json", b'{"text":1}')),
        "differs in: document",
    ),
    "creation": (make_anew, "differs in: time of creation"),
    "more messages": (
        lambda storage: storage.append_messages("s", [message_record("more")]),
        f"has {LONG + 1} messages, not {LONG}",
    ),
    "message id": (lambda storage: change_message(storage, message_id="x"), f"differs in message {LONG}"),
    "role": (lambda storage: change_message(storage, role="tool"), f"differs in message {LONG}"),
    "time": (lambda storage: change_message(storage, created_at_us=1), f"differs in message {LONG}"),
    "content": (lambda storage: change_message(storage, payload=Payload("json", b"1.0")), f"differs in message {LONG}"),
    "more memories": (lambda storage: storage.put_memory(memory_record("d")), "differs in memory 'd'"),
    "memory": (
        lambda storage: change_memory(storage, OF_S, "a", payload=Payload("json", b"2")),
        "differs in memory 'a'",
    ),
    "expiry": (lambda storage: change_memory(storage, OF_S, "a", expires_at_us=None), "differs in memory 'a'"),
    "retention": (lambda storage: change_memory(storage, OF_S, "a", retention=0.5), "differs in memory 'a'"),
    "memory's creation": (lambda storage: change_memory(storage, OF_S, "a", created_at_us=7), "differs in memory 'a'"),
    "damaged header": (
        lambda storage: change_header(storage, payload=DAMAGED),
        "in the target: memory storage: session 's' is damaged: not valid json",
    ),
    "damaged message": (
        lambda storage: change_message(storage, payload=DAMAGED),
        f"in the target: memory storage: message {LONG} of session 's' is damaged: not valid json",
    ),
    "damaged memory": (
        lambda storage: change_memory(storage, OF_S, "a", payload=DAMAGED),
        "in the target: memory storage: memory 'a' of session 's' is damaged: not valid json",
    ),
}


@pytest.mark.parametrize(("change", "reason"), CHANGES.values(), ids=CHANGES)
async def test_a_different_session_is_reported_or_overwritten(
    source: InMemoryStorage, target: InMemoryStorage, copied: Copy, change: Change, reason: str
) -> None:
    await copied()
    await change(target)
    before = await contents(target)
    _, one = await copied()
    assert (one.outcome, one.is_equal, one.reason, one.digest) == (Outcome.DIFFERENT, False, reason, None)
    dry = await copied(dry_run=True, overwrite=True)
    assert summary(dry)[1][:3] == ("session", "s", "replaced")
    assert await contents(target) == before
    replaced = await copied(overwrite=True)
    assert summary(replaced) == [*whole(Outcome.PRESENT)[:1], *whole(Outcome.REPLACED)[1:]]
    assert await contents(target) == await contents(source)


async def test_the_memories_of_a_user_are_completed_or_differ(
    source: InMemoryStorage, target: InMemoryStorage, copied: Copy
) -> None:
    await copied()
    await source.put_memory(memory_record("drink", kind="user", owner="u", value="tea"))
    assert summary(await copied(dry_run=True))[0] == ("user", "u", "completed", 0, 2)
    assert summary(await copied())[0] == ("user", "u", "completed", 0, 2)
    await change_memory(target, OF_U, "drink", retention=1.0)
    user, session = await copied()
    assert (user.outcome, user.reason) == (Outcome.DIFFERENT, "differs in memory 'drink'")
    assert session.outcome is Outcome.PRESENT
    assert summary(await copied(overwrite=True))[0] == ("user", "u", "replaced", 0, 2)
    assert await contents(target) == await contents(source)


# -- the digest ----------------------------------------------------------------------------------


async def test_the_format_of_digests_is_fixed(clock: ManualClock, copied: Copy) -> None:
    """Stored digests become worthless when the format changes, so it must not change by accident."""
    source = InMemoryStorage(clock=clock)
    header = SessionRecord(session_id="s", payload=JsonCodec().encode({"é": 1.0}), created_at_us=5)
    await source.put_session(header)
    await source.append_messages("s", [message_record("m", text="\ud800")])
    await source.put_memory(attrs.evolve(memory_record("k", value=2**70), created_at_us=6))
    (one,) = await copied(source=source)
    lines = (
        '["session","s",null,[],null,5,{"\\u00e9":1.0}]\n'
        '["message",1,"m","user",1700000000000001,{"content":"\\ud800"}]\n'
        '["memory","k",null,0.0,6,1180591620717411303424]\n'
    )
    assert one.digest == hashlib.sha256(lines.encode()).hexdigest()


@pytest.mark.parametrize(("retention", "written"), [(math.inf, '"inf"'), (-math.inf, '"-inf"'), (-0.0, "0.0")])
async def test_an_infinite_retention_has_a_digest(
    clock: ManualClock, copied: Copy, retention: float, written: str
) -> None:
    source = InMemoryStorage(clock=clock)
    memory = memory_record("k", kind="user", owner="u", value=1, retention=retention)
    await source.put_memory(attrs.evolve(memory, created_at_us=6))
    (one,) = await copied(SessionQuery(user_id="u"), source=source)
    lines = f'["user","u"]\n["memory","k",null,{written},6,1]\n'
    assert one.digest == hashlib.sha256(lines.encode()).hexdigest()
