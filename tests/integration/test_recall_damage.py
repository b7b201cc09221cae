"""Recall over what is damaged: it is left out and named, and everything else is found."""

import asyncio
import json
import logging
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import attrs
import pytest
import redis
from pymongo import MongoClient

from luminoracore_sdk.adapters.analysis import make_analyzer
from luminoracore_sdk.adapters.embedders import HashingEmbedder
from luminoracore_sdk.adapters.storage.json_file.layout import hashed
from luminoracore_sdk.adapters.wrappers.searching import SearchWrapper
from luminoracore_sdk.application.indexing import readable_memories, text_index
from luminoracore_sdk.application.ports.records import MemoryRecord, MemoryScope, MessageRange, MessageRecord, Payload
from luminoracore_sdk.domain.errors import CorruptRecordError, UnreadablePayloadError
from luminoracore_sdk.session import (
    EncryptedStorageWrapper,
    InMemoryStorage,
    Keyring,
    SessionManager,
    SessionStorage,
    SQLiteStorage,
)
from luminoracore_sdk.testing import ManualClock
from tests.support.backends import FILES, MONGODB, POSTGRES, REDIS, SQLITE, Backend, each_backend
from tests.support.command import Luminora, luminora_over
from tests.support.recall import reindexed, say, searched
from tests.support.servers import mongodb_url, postgres_url, redis_url
from tests.support.servers.places import execute_postgres, place_name

TEXTS = [f"boat number {number}" for number in range(8)]
BAD = Payload("json", b'{"v":')


def on_sqlite(path: Path, statement: str) -> None:
    """Change the tables behind the storage's back."""
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        assert database.execute(statement).rowcount == 1


def message(number: int, *, index: Payload | None = None) -> MessageRecord:
    return MessageRecord(message_id=f"bad-{number}", role="user", created_at_us=1, payload=BAD, index=index)


async def found(storage: SessionStorage, session_ids: list[str] | None = None) -> list[str]:
    return sorted(hit.text for hit in await SessionManager(storage).recall("boat", session_ids=session_ids))


@pytest.fixture(params=["memory", "sqlite"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], SessionStorage]:
    return InMemoryStorage if request.param == "memory" else lambda: SQLiteStorage(tmp_path / "s.db")


async def test_a_damaged_message_is_left_out(
    make: Callable[[], SessionStorage], caplog: pytest.LogCaptureFixture
) -> None:
    async with make() as plain:
        await say(SessionManager(plain), *TEXTS[:4])
        await plain.append_messages("s", [message(5)])
        await say(SessionManager(plain), *TEXTS[4:], session_id="t")
        manager = SessionManager(searched(plain))
        for _ in range(2):
            assert sorted(hit.text for hit in await manager.recall("boat")) == TEXTS
        told = [record.message for record in caplog.records if record.levelno == logging.WARNING]
        assert ["message 5 of session 's' is damaged" in text for text in told] == [True]
        assert await reindexed(searched(plain)) == 8
        assert await reindexed(searched(plain)) == 0
        assert await found(searched(plain)) == TEXTS


async def test_a_hit_whose_text_is_damaged_is_left_out(
    make: Callable[[], SessionStorage], caplog: pytest.LogCaptureFixture
) -> None:
    async with searched(make()) as storage:
        await say(SessionManager(storage), *TEXTS)
        await storage.append_messages("s", [message(9, index=text_index(make_analyzer("english"), "a boat"))])
        manager = SessionManager(storage)
        hits = await manager.recall("boat", around=1)
        assert sorted(hit.text for hit in hits) == TEXTS
        (last,) = [hit for hit in hits if hit.position == 8]
        assert [one.position for one in last.around] == [7, 8]
        assert "message 9 of session 's' is damaged" in caplog.text


async def test_a_session_with_much_damage_is_left_out(
    make: Callable[[], SessionStorage], caplog: pytest.LogCaptureFixture
) -> None:
    async with make() as plain:
        await say(SessionManager(plain), *TEXTS)
        await say(SessionManager(plain), session_id="t")
        await plain.append_messages("t", [message(position) for position in range(30)])
        assert await found(searched(plain)) == TEXTS
        assert caplog.text.count("is damaged") == 1


async def test_a_damaged_memory_is_left_out(
    make: Callable[[], SessionStorage], caplog: pytest.LogCaptureFixture
) -> None:
    async with searched(make()) as storage:
        manager = SessionManager(storage)
        await say(manager, *TEXTS)
        await manager.memory_manager.store_memory("s", "boat", "Aurora")
        await storage.put_memory(MemoryRecord(scope=MemoryScope("session", "s"), key="bad", payload=BAD))
        for _ in range(2):
            assert await found(storage, session_ids=["s"]) == ["Aurora", *TEXTS]
        assert "'bad'" in caplog.text


def damage_in_files(path: Path) -> None:
    (memory,) = (file for file in path.rglob("users/*/*/memory/*.json") if b'"key":"bad"' in file.read_bytes())
    memory.write_bytes(memory.read_bytes().replace(b"Boreas", b"damage"))


def damage_in_sqlite(path: Path) -> None:
    on_sqlite(path, "UPDATE luminora_user_memories SET payload = 'damaged' WHERE CAST(key AS TEXT) = 'bad'")


def damage_in_postgres(path: Path) -> None:
    table = f"{place_name(path)}.luminora_user_memories"
    execute_postgres(postgres_url(), f"UPDATE {table} SET payload = NULL WHERE key = 'bad'")  # noqa: S608


def damage_in_redis(path: Path) -> None:
    with redis.Redis.from_url(redis_url()) as client:
        (memories,) = client.scan_iter(f"{place_name(path)}*user-memories:u", count=1000)
        assert client.hset(memories, "bad", "damaged") == 0


def damage_in_mongodb(path: Path) -> None:
    with MongoClient[dict[str, Any]](mongodb_url()) as client:
        memories = client[place_name(path)]["luminora_memories"]
        assert memories.update_one({"key": "bad"}, {"$set": {"payload": 7}}).modified_count == 1


DAMAGE: dict[Backend, Callable[[Path], None]] = {
    FILES: damage_in_files,
    SQLITE: damage_in_sqlite,
    POSTGRES: damage_in_postgres,
    REDIS: damage_in_redis,
    MONGODB: damage_in_mongodb,
}


async def remember_three(manager: SessionManager) -> None:
    await manager.create_session({"name": "A"}, {"name": "echo"}, {"session_id": "s", "user_id": "u"})
    for key, value in (("good", "boat Aurora"), ("bad", "boat Boreas"), ("last", "boat Circe")):
        await manager.memory_manager.store_memory("s", key, value, scope="user")


@each_backend(tuple(DAMAGE))
async def test_of_stored_memories_only_a_damaged_one_is_left_out(
    backend: Backend, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, clock = tmp_path / "store", ManualClock()
    try:
        async with searched(backend.at(path)(clock)) as storage:
            await remember_three(SessionManager(storage))
            DAMAGE[backend](path)
            with pytest.raises(CorruptRecordError):
                await storage.list_memories(MemoryScope("user", "u"))
            manager = SessionManager(storage)
            for _ in range(2):
                hits = await manager.recall("boat", user_id="u")
                assert sorted(hit.text for hit in hits) == ["boat Aurora", "boat Circe"]
            told = [record.getMessage() for record in caplog.records if "recall leaves it out" in record.message]
            assert len(told) == 1
            named = hashed("bad") if backend == FILES else "'bad' of user 'u'"
            assert named in told[0]
    finally:
        backend.clear(path)


async def test_of_encrypted_memories_only_a_damaged_one_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    base, scope = InMemoryStorage(), MemoryScope("user", "u")
    async with searched(EncryptedStorageWrapper(base, Keyring({"k": bytes(32)}))) as storage:
        await remember_three(SessionManager(storage))
        bad = (await base.list_memories(scope))[1]
        data = bytes([*bad.payload.data[:-1], bad.payload.data[-1] ^ 1])
        await base.put_memory(attrs.evolve(bad, payload=Payload(bad.payload.encoding, data)))
        with pytest.raises(CorruptRecordError):
            await storage.list_memories(scope)
        hits = await SessionManager(storage).recall("boat", user_id="u")
        assert sorted(hit.text for hit in hits) == ["boat Aurora", "boat Circe"]
        assert f"memory {bad.key!r} of user 'u' is damaged" in caplog.text


async def test_memories_of_a_missing_wrapper_are_an_error(make: Callable[[], SessionStorage]) -> None:
    async with make() as plain:
        await remember_three(SessionManager(EncryptedStorageWrapper(plain, Keyring({"k": bytes(32)}))))
        damage: list[CorruptRecordError] = []
        async with EncryptedStorageWrapper(plain, Keyring({"other": bytes(32)})) as storage:
            with pytest.raises(UnreadablePayloadError):
                await readable_memories(storage, MemoryScope("user", "u"), damage=damage)
        assert damage == []


async def test_a_damaged_index_row_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with searched(SQLiteStorage(tmp_path / "s.db")) as storage:
        await say(SessionManager(storage), *TEXTS)
    on_sqlite(tmp_path / "s.db", "UPDATE luminora_messages SET index_data = x'0102030405060708' WHERE position = 3")
    async with searched(SQLiteStorage(tmp_path / "s.db")) as storage:
        assert await found(storage) == [text for text in TEXTS if text != TEXTS[2]]
        assert "the index of message 3 of session 's' is damaged" in caplog.text
        await say(SessionManager(storage), "another boat", session_id="t")
        assert len(await found(storage)) == 8


async def test_a_missing_row_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with searched(SQLiteStorage(tmp_path / "s.db")) as storage:
        await say(SessionManager(storage), *TEXTS)
    on_sqlite(tmp_path / "s.db", "DELETE FROM luminora_messages WHERE position = 3")
    async with searched(SQLiteStorage(tmp_path / "s.db")) as storage:
        assert await found(storage) == [text for text in TEXTS if text != TEXTS[2]]
        assert "session 's' is damaged" in caplog.text


@pytest.fixture
def luminora(tmp_path: Path) -> Luminora:
    made = luminora_over(f"sqlite:///{tmp_path / 's.db'}")
    for number in range(3):
        options = ["--session", "s", *(() if number else ("--create",))]
        made("chat", *options, f"boat {number}", LUMINORA_STORAGE_SEARCH="text")
    return made


@pytest.mark.parametrize(
    ("change", "check", "named"),
    [
        ("index_data = x'0102030405060708'", "search", "the index of message 3 of session 's' is damaged"),
        ("payload = 'damaged'", "messages", "message 3 of session 's' is damaged"),
    ],
    ids=["index", "message"],
)
def test_doctor_finds_what_is_damaged(luminora: Luminora, tmp_path: Path, change: str, check: str, named: str) -> None:
    search = {"LUMINORA_STORAGE_SEARCH": "text"}
    assert luminora("doctor", **search).exit_code == 0
    on_sqlite(tmp_path / "s.db", f"UPDATE luminora_messages SET {change} WHERE position = 3")  # noqa: S608
    done = luminora("doctor", "--json", **search)
    failed = json.loads(done.stdout)["checks"][-1]
    assert (done.exit_code, failed["name"], failed["ok"]) == (1, check, False)
    assert named in failed["detail"]
    assert len(json.loads(luminora("recall", "boat", "--json").stdout)) == 5


@pytest.mark.parametrize(("table", "owner"), [("session", "session 's'"), ("user", "user 'u'")])
def test_doctor_finds_memories_that_are_damaged(luminora: Luminora, tmp_path: Path, table: str, owner: str) -> None:
    async def remember() -> None:
        async with SQLiteStorage(tmp_path / "s.db") as storage:
            for scope in (MemoryScope("session", "s"), MemoryScope("user", "u")):
                for key in ("bad", "good", "worse"):
                    payload = Payload("json", b'{"value": 1}')
                    await storage.put_memory(MemoryRecord(scope=scope, key=key, payload=payload))

    asyncio.run(remember())
    assert luminora("doctor").exit_code == 0
    on_sqlite(
        tmp_path / "s.db",
        f"UPDATE luminora_{table}_memories SET payload = 'damaged' WHERE CAST(key AS TEXT) = 'bad'",  # noqa: S608
    )
    on_sqlite(
        tmp_path / "s.db",
        f"UPDATE luminora_{table}_memories SET checksum = NULL, payload = '[' WHERE CAST(key AS TEXT) = 'worse'",  # noqa: S608
    )
    done = luminora("doctor", "--json")
    failed = json.loads(done.stdout)["checks"][-1]
    assert (done.exit_code, failed["name"], failed["ok"]) == (1, "memories", False)
    assert f"'bad' of {owner} is damaged" in failed["detail"]
    assert f"memory 'worse' of {owner} too" in failed["detail"]


@pytest.mark.parametrize(
    ("change", "told", "left"),
    [
        ("luminora_session_memories SET payload = 'damaged'", "memory", TEXTS),
        ("luminora_sessions SET last_position = 0", "session 's'", ["Aurora"]),
    ],
    ids=["a memory", "a session"],
)
async def test_what_a_database_has_damaged_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, change: str, told: str, left: list[str]
) -> None:
    async with searched(SQLiteStorage(tmp_path / "s.db")) as storage:
        manager = SessionManager(storage)
        await say(manager, *TEXTS)
        await manager.memory_manager.store_memory("s", "boat", "Aurora")
    on_sqlite(tmp_path / "s.db", f"UPDATE {change}")
    async with searched(SQLiteStorage(tmp_path / "s.db")) as storage:
        assert await found(storage, ["s"]) == left
        assert told in caplog.text
        assert "is damaged" in caplog.text


async def test_a_wrapper_that_is_missing_is_an_error(make: Callable[[], SessionStorage]) -> None:
    async with make() as plain:
        await say(SessionManager(EncryptedStorageWrapper(plain, Keyring({"k": bytes(32)}))), *TEXTS)
        with pytest.raises(UnreadablePayloadError):
            await found(searched(plain))


@pytest.mark.parametrize("count", [1, 30])
async def test_what_is_damaged_gets_no_vector(
    make: Callable[[], SessionStorage], caplog: pytest.LogCaptureFixture, count: int
) -> None:
    storage = searched(make(), HashingEmbedder(8))
    assert isinstance(storage, SearchWrapper)
    async with storage:
        await say(SessionManager(storage), *TEXTS)
        await storage.append_messages("s", [message(number) for number in range(count)])
        await say(SessionManager(storage), *TEXTS, session_id="t")
        assert await storage.drain() is True
        assert re.search(
            rf"{min(count, 21)} damaged messages get no vectors: .*: message 9 of session 's'", caplog.text
        )
        assert len((await storage.read_index("t", MessageRange()))[-1].index.data) > 20  # type: ignore[union-attr]
