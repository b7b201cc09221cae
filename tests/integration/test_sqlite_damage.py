"""Damaged files, full disks, locks held elsewhere: a typed error each, and nothing lost."""

# ruff: noqa: ASYNC240 - the files are small, and nothing else runs on the loop

import asyncio
import os
import resource
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import attrs
import pytest

from luminoracore_sdk.adapters.storage.sqlite import SQLiteStorage
from luminoracore_sdk.application.ports.records import (
    Brief,
    MemoryScope,
    MessageRange,
    Payload,
    SessionQuery,
    SessionSummary,
)
from luminoracore_sdk.domain.errors import (
    ConflictError,
    CorruptRecordError,
    SessionNotFoundError,
    StorageBusyError,
    StorageError,
    StorageFullError,
    StorageReadOnlyError,
    StorageUnavailableError,
    ValidationError,
)
from luminoracore_sdk.testing.records import memory_record, message_record, message_records, session_record
from tests.support.sqlite_driver import Driver, all_at_once, outcomes, watch_driver


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store"


async def filled(path: Path, messages: int = 200) -> None:
    async with SQLiteStorage(path, synchronous="OFF") as storage:
        await storage.put_session(session_record())
        await storage.append_messages("s", message_records(messages))
        await storage.put_memory(memory_record("k"))


async def ids_in(storage: SQLiteStorage) -> list[str]:
    return [message.message_id for message in await storage.read_messages("s", MessageRange())]


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    return watch_driver(monkeypatch)


def pages_of(path: Path) -> int:
    with plain(path) as other:
        pages: int = other.execute("PRAGMA page_count").fetchone()[0]
        return pages


def limit_pages(driver: Driver, pages: int) -> None:
    """Have the storage's file take no more pages, as a full disk does."""
    driver.before.append(lambda connection: connection.execute(f"PRAGMA max_page_count = {pages}").fetchall())


@contextmanager
def plain(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as connection:
        yield connection


def _flip_header(data: bytes) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:]


def _truncate(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _cut_to_100(data: bytes) -> bytes:
    return data[:100]


def _text(_: bytes) -> bytes:
    return b"these are notes, and no database\n" * 300


def _noise(data: bytes) -> bytes:
    return bytes(number * 167 % 251 for number in range(len(data)))


@pytest.mark.parametrize("damage", [_flip_header, _truncate, _cut_to_100, _text, _noise])
async def test_a_damaged_file_is_named_and_left_as_it_is(path: Path, damage: Callable[[bytes], bytes]) -> None:
    await filled(path)
    path.write_bytes(damage(path.read_bytes()))
    before = path.read_bytes()
    with pytest.raises(CorruptRecordError, match=path.name):
        await SQLiteStorage(path).list_sessions()
    assert path.read_bytes() == before


async def test_a_flipped_bit_in_any_byte_of_a_message_is_noticed(path: Path) -> None:
    await filled(path, messages=3)
    whole = path.read_bytes()
    start = whole.index(b"text of m2")
    for offset in range(start, start + len(b"text of m2")):
        damaged = bytearray(whole)
        damaged[offset] ^= 0b100
        path.write_bytes(damaged)
        async with SQLiteStorage(path) as storage:
            with pytest.raises(CorruptRecordError, match="message 2 of session 's'"):
                await storage.read_messages("s", MessageRange())
            assert [found.message_id for found in await storage.read_messages("s", MessageRange(after=2))] == ["m3"]


async def test_damage_in_a_page_is_an_error_and_not_an_empty_session(path: Path) -> None:
    await filled(path)
    whole = bytearray(path.read_bytes())
    page = whole.index(b"text of m100") // 4096 * 4096
    whole[page : page + 64] = bytes(64)
    path.write_bytes(whole)
    async with SQLiteStorage(path) as storage:
        with pytest.raises(CorruptRecordError, match=path.name):
            await storage.read_messages("s", MessageRange())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
async def test_a_folder_without_permission_to_write_is_read_only(tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    with pytest.raises(StorageReadOnlyError):
        await SQLiteStorage(folder / "store").open()


async def test_a_database_that_refuses_writes_is_read_only(path: Path, driver: Driver) -> None:
    await filled(path, messages=1)
    async with SQLiteStorage(path) as storage:
        driver.before.append(lambda connection: connection.execute("PRAGMA query_only = ON"))
        with pytest.raises(StorageReadOnlyError):
            await storage.append_messages("s", [message_record("new")])
        with pytest.raises(StorageReadOnlyError):
            await storage.put_session(session_record())
        assert await ids_in(storage) == ["m1"]


async def test_a_full_disk_loses_nothing_and_leaves_no_part_of_a_batch(path: Path, driver: Driver) -> None:
    await filled(path, messages=3)
    async with SQLiteStorage(path) as storage:
        limit_pages(driver, pages_of(path) + 3)
        with pytest.raises(StorageFullError):
            await storage.append_messages("s", [message_record(f"big{n}", text="x" * 9000) for n in range(9)])
        with pytest.raises(StorageFullError):
            await storage.put_memory(memory_record("big", value="x" * 90_000), max_entries=1)
        assert await ids_in(storage) == ["m1", "m2", "m3"]
        assert [memory.key for memory in await storage.list_memories(MemoryScope("session", "s"))] == ["k"]
        limit_pages(driver, 100_000)
        assert (await storage.append_messages("s", [message_record("m4")])).first_position == 4


async def test_a_disk_too_full_for_one_append_takes_the_others(path: Path, driver: Driver) -> None:
    await filled(path, messages=1)
    async with SQLiteStorage(path) as storage:
        limit_pages(driver, pages_of(path) + 3)
        results = await all_at_once(
            path,
            storage.append_messages("s", [message_record("m2")]),
            storage.append_messages("s", [message_record("m3")]),
            storage.append_messages("s", [message_record("big", text="x" * 90_000)]),
            storage.append_messages("s", [message_record("m4")]),
        )
        assert outcomes(results) == [(2, 2), (3, 3), StorageFullError, (4, 4)]
        assert await ids_in(storage) == ["m1", "m2", "m3", "m4"]


async def test_an_io_error_fails_every_waiting_append_and_writes_nothing(path: Path) -> None:
    await filled(path, messages=1)
    async with SQLiteStorage(path) as storage:
        await storage.append_messages("s", [message_record("m2")])
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (Path(f"{path}-wal").stat().st_size + 5000, hard))
        try:
            turns = [[message_record(f"new{n}", text="x" * 4000)] for n in range(4)]
            results = await all_at_once(path, *(storage.append_messages("s", turn) for turn in turns))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert [isinstance(error, StorageUnavailableError) for error in results] == [True] * 4
        assert len({id(error) for error in results}) == 4
        assert await ids_in(storage) == ["m1", "m2"]
        assert (await storage.append_messages("s", [message_record("m3")])).first_position == 3
    async with SQLiteStorage(path) as storage:
        assert await ids_in(storage) == ["m1", "m2", "m3"]


async def test_a_lock_held_too_long_is_busy_and_changes_nothing(path: Path) -> None:
    await filled(path, messages=1)
    with plain(path) as other:
        other.execute("BEGIN IMMEDIATE")
        async with SQLiteStorage(path, busy_timeout=0.05) as storage:
            with pytest.raises(StorageBusyError):
                await storage.append_messages("s", [message_record("m2")])
            with pytest.raises(StorageBusyError):
                await storage.delete_session("s")
            assert await ids_in(storage) == ["m1"]
            other.execute("ROLLBACK")
            assert (await storage.append_messages("s", [message_record("m2")])).first_position == 2


async def test_a_lock_is_busy_for_every_waiting_append(path: Path) -> None:
    await filled(path, messages=1)
    with plain(path) as other:
        other.execute("BEGIN IMMEDIATE")
        async with SQLiteStorage(path, busy_timeout=0.05) as storage:
            appends = (storage.append_messages("s", [message_record(f"new{n}")]) for n in range(4))
            results = await asyncio.gather(*appends, return_exceptions=True)
            assert outcomes(results) == [StorageBusyError] * 4
            assert len({id(error) for error in results}) == 4
            assert await ids_in(storage) == ["m1"]
        other.execute("ROLLBACK")


async def test_reads_go_on_while_a_write_waits_for_a_lock(path: Path) -> None:
    await filled(path, messages=1)
    with plain(path) as other:
        async with SQLiteStorage(path) as storage:
            other.execute("BEGIN IMMEDIATE")
            writes = [
                asyncio.ensure_future(storage.append_messages("s", [message_record("m2")])),
                asyncio.ensure_future(storage.put_memory(memory_record("new"))),
            ]
            for _ in range(20):
                assert await ids_in(storage) == ["m1"]
            assert not any(write.done() for write in writes)
            other.execute("ROLLBACK")
            await asyncio.gather(*writes)
            assert await ids_in(storage) == ["m1", "m2"]


async def test_a_cancelled_write_waits_for_no_lock(path: Path) -> None:
    await filled(path, messages=1)
    with plain(path) as other:
        async with SQLiteStorage(path) as storage:
            other.execute("BEGIN IMMEDIATE")
            delete = asyncio.ensure_future(storage.delete_session("s"))
            assert await ids_in(storage) == ["m1"]  # behind the first attempt to delete
            delete.cancel()
            with pytest.raises(asyncio.CancelledError):
                await delete
            assert await ids_in(storage) == ["m1"]  # behind an attempt that may have begun
            other.execute("ROLLBACK")
            assert await ids_in(storage) == ["m1"]


async def test_a_refused_write_leaves_no_transaction_open(path: Path) -> None:
    await filled(path, messages=1)
    async with SQLiteStorage(path) as storage:
        with pytest.raises(ConflictError):
            await storage.put_session(session_record(), expected_version=7)
        with pytest.raises(SessionNotFoundError):
            await storage.truncate_messages("unknown", after=0)
        with plain(path) as other:
            other.execute("BEGIN IMMEDIATE")


async def test_values_that_no_column_can_hold_are_refused(path: Path) -> None:
    async with SQLiteStorage(path) as storage:
        with pytest.raises(ValidationError, match="every backend"):
            await storage.put_session(session_record(ttl_us=2**64))
        with pytest.raises(ValidationError, match="lone surrogate"):
            await storage.query_sessions(SessionQuery(user_id="\ud800"))
        with pytest.raises(ValidationError, match="beyond 64 bits"):
            await storage.put_memory(memory_record("k", retention=2**70))
        assert await storage.list_sessions() == []


async def test_no_error_shows_what_a_message_says(path: Path) -> None:
    await filled(path, messages=1)
    with plain(path) as other:
        other.execute("UPDATE luminora_messages SET payload = 'a secret' || payload")
    async with SQLiteStorage(path) as storage:
        with pytest.raises(StorageError) as caught:
            await storage.read_messages("s", MessageRange())
    assert "secret" not in f"{caught.value!r}{caught.value.details}{caught.value.__cause__!r}"


async def test_an_edited_row_with_a_checksum_of_null_is_read(path: Path) -> None:
    await filled(path, messages=1)
    with plain(path) as other:
        other.execute("""UPDATE luminora_messages SET payload = '{"v":2,"content":"edited"}', checksum = NULL""")
    async with SQLiteStorage(path) as storage:
        [message] = await storage.read_messages("s", MessageRange())
    assert message.payload.data == b'{"v":2,"content":"edited"}'


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM luminora_messages WHERE position IN (3, 4)",
        "DELETE FROM luminora_messages WHERE position = 6",
        "DELETE FROM luminora_messages",
        "UPDATE luminora_messages SET position = position + 10",
        "UPDATE luminora_sessions SET last_position = 5",
        "UPDATE luminora_sessions SET last_position = 'x'",
    ],
)
async def test_missing_or_surplus_messages_are_noticed(path: Path, damage: str) -> None:
    await filled(path, messages=6)
    with plain(path) as other:
        other.execute(damage)
    async with SQLiteStorage(path) as storage:
        for span in (MessageRange(), MessageRange(after=2), MessageRange(limit=9, newest=True)):
            with pytest.raises(CorruptRecordError, match="session 's' is damaged"):
                await storage.read_messages("s", span)


async def test_an_append_behind_a_wrong_last_position_is_refused(path: Path) -> None:
    await filled(path, messages=6)
    with plain(path) as other:
        other.execute("UPDATE luminora_sessions SET last_position = 5")
    async with SQLiteStorage(path) as storage:
        with pytest.raises(CorruptRecordError, match="messages follow on its last position, 5"):
            await storage.append_messages("s", [message_record("new")])
        assert [found.message_id for found in await storage.read_messages("s", MessageRange(before=6))][-1] == "m5"


async def test_a_session_without_its_document_is_damaged(path: Path) -> None:
    await filled(path, messages=1)
    with plain(path) as other:
        other.execute("DELETE FROM luminora_documents")
    async with SQLiteStorage(path) as storage:
        with pytest.raises(CorruptRecordError, match="session 's' is damaged"):
            await storage.find_session("s")


async def test_a_fork_does_not_hide_damage(path: Path) -> None:
    await filled(path, messages=6)
    with plain(path) as other:
        other.execute("UPDATE luminora_messages SET payload = '{}' WHERE position = 2")
        other.execute("UPDATE luminora_messages SET payload = '{}', checksum = NULL WHERE position = 3")
    async with SQLiteStorage(path) as storage:
        await storage.fork_session("s", session_record("f"), at=4)
        [third] = await storage.read_messages("f", MessageRange(after=2, limit=1))
        assert third.payload.data == b"{}"
        with pytest.raises(CorruptRecordError, match="message 2 of session 'f' is damaged"):
            await storage.read_messages("f", MessageRange())
        with pytest.raises(CorruptRecordError, match="message 2 of session 's' is damaged"):
            await storage.fork_session("s", session_record("g"), at=4, rewrite=lambda message: message)
        with plain(path) as other:
            other.execute("DELETE FROM luminora_messages WHERE position = 4")
        with pytest.raises(CorruptRecordError, match="it has 4 messages up to position 5"):
            await storage.fork_session("s", session_record("g"), at=5)
        assert await storage.list_sessions() == ["s", "f"]


async def test_a_damaged_summary_is_noticed_and_delays_no_append(path: Path) -> None:
    await filled(path, messages=1)
    async with SQLiteStorage(path) as storage:
        message = attrs.evolve(message_record("m2"), brief=Payload("json", b'"brief"'))
        await storage.append_messages("s", [message])
        first = Brief(4, Payload("json", b'"brief"'))
        with plain(path) as other:
            other.execute("UPDATE luminora_sessions SET summary = CAST(replace(summary, 'brief', 'other') AS BLOB)")
        await storage.append_messages("s", [attrs.evolve(message, message_id="m3")])
        for call in (
            lambda: storage.find_session("s"),
            lambda: storage.query_sessions(SessionQuery()),
            lambda: storage.query_sessions(SessionQuery(by_activity=True)),
            lambda: storage.truncate_messages("s", after=1),
        ):
            with pytest.raises(CorruptRecordError, match="session 's' is damaged: the checksum of its summary"):
                await call()
        assert await ids_in(storage) == ["m1", "m2", "m3"]
        with plain(path) as other:
            other.execute("UPDATE luminora_sessions SET summary = NULL")
        await storage.append_messages("s", [attrs.evolve(message, message_id="m4")])
        found = await storage.find_session("s")
        assert found is not None
        assert found.summary == SessionSummary(first=first, last=first, counters={"user": 1})


async def test_a_users_id_that_was_changed_is_damage(path: Path) -> None:
    async with SQLiteStorage(path) as storage:
        await storage.put_memory(memory_record("k", kind="user", owner="ada"))
        with plain(path) as other:
            other.execute("UPDATE luminora_user_memories SET user_id = 'eve'")
        with pytest.raises(CorruptRecordError, match="does not match its digest"):
            await storage.list_memory_owners()
