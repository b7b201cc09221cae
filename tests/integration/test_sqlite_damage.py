"""Bad files, full disks, locks that are not given: a typed error each, and nothing lost."""

# ruff: noqa: ASYNC240 - the files are small, and nothing else runs on the loop

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from luminoracore_sdk.adapters.storage.sqlite import SQLiteStorage
from luminoracore_sdk.application.ports.records import MemoryScope, MessageRange, SessionQuery
from luminoracore_sdk.domain.errors import (
    ConflictError,
    CorruptRecordError,
    SessionNotFoundError,
    StorageBusyError,
    StorageError,
    StorageFullError,
    StorageReadOnlyError,
    ValidationError,
)
from luminoracore_sdk.testing.records import memory_record, message_record, message_records, session_record


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


@contextmanager
def plain(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
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


async def test_a_database_that_refuses_writes_is_read_only(path: Path) -> None:
    await filled(path, messages=1)
    async with SQLiteStorage(path) as storage:
        await storage._write(lambda connection: connection.execute("PRAGMA query_only = ON").fetchall())
        with pytest.raises(StorageReadOnlyError):
            await storage.append_messages("s", [message_record("new")])
        with pytest.raises(StorageReadOnlyError):
            await storage.put_session(session_record())
        assert await ids_in(storage) == ["m1"]


async def test_a_full_disk_loses_nothing_and_leaves_no_part_of_a_batch(path: Path) -> None:
    await filled(path, messages=3)
    async with SQLiteStorage(path) as storage:
        pages = await storage._write(lambda connection: connection.execute("PRAGMA page_count").fetchone()[0])
        await storage._write(lambda connection: connection.execute(f"PRAGMA max_page_count = {pages + 3}").fetchall())
        with pytest.raises(StorageFullError):
            await storage.append_messages("s", [message_record(f"big{n}", text="x" * 9000) for n in range(9)])
        with pytest.raises(StorageFullError):
            await storage.put_memory(memory_record("big", value="x" * 90_000), max_entries=1)
        assert await ids_in(storage) == ["m1", "m2", "m3"]
        assert [memory.key for memory in await storage.list_memories(MemoryScope("session", "s"))] == ["k"]
        await storage._write(lambda connection: connection.execute("PRAGMA max_page_count = 100000").fetchall())
        assert (await storage.append_messages("s", [message_record("m4")])).first_position == 4


async def test_a_lock_held_beyond_the_time_limit_is_busy_and_changes_nothing(path: Path) -> None:
    await filled(path, messages=1)
    with plain(path) as other:
        other.execute("BEGIN IMMEDIATE")
        async with SQLiteStorage(path, busy_timeout=0.05) as storage:
            with pytest.raises(StorageBusyError):
                await storage.append_messages("s", [message_record("m2")])
            with pytest.raises(StorageBusyError):
                await storage.delete_session("s")
            assert await ids_in(storage) == ["m1"]  # readers wait for nobody
            other.execute("ROLLBACK")
            assert (await storage.append_messages("s", [message_record("m2")])).first_position == 2


async def test_a_refused_write_leaves_no_transaction_open(path: Path) -> None:
    await filled(path, messages=1)
    async with SQLiteStorage(path) as storage:
        with pytest.raises(ConflictError):
            await storage.put_session(session_record(), expected_version=7)
        with pytest.raises(SessionNotFoundError):
            await storage.truncate_messages("unknown", after=0)
        assert await storage._write(lambda connection: connection.in_transaction) is False


async def test_numbers_and_texts_that_sqlite_has_no_place_for_are_refused(path: Path) -> None:
    async with SQLiteStorage(path) as storage:
        with pytest.raises(ValidationError, match="every backend"):
            await storage.put_session(session_record(ttl_us=2**64))
        with pytest.raises(ValidationError, match="lone surrogate"):
            await storage.query_sessions(SessionQuery(user_id="\ud800"))
        assert await storage.list_sessions() == []


async def test_no_error_shows_what_a_message_says(path: Path) -> None:
    await filled(path, messages=1)
    with plain(path) as other:
        other.execute("UPDATE messages SET payload = 'a secret' || payload")
    async with SQLiteStorage(path) as storage:
        with pytest.raises(StorageError) as caught:
            await storage.read_messages("s", MessageRange())
    assert "secret" not in f"{caught.value!r}{caught.value.details}{caught.value.__cause__!r}"


async def test_an_edited_row_is_read_again_once_its_checksum_is_null(path: Path) -> None:
    await filled(path, messages=1)
    with plain(path) as other:
        other.execute("""UPDATE messages SET payload = '{"v":2,"content":"edited"}', checksum = NULL""")
    async with SQLiteStorage(path) as storage:
        [message] = await storage.read_messages("s", MessageRange())
    assert message.payload.data == b'{"v":2,"content":"edited"}'


async def test_an_append_whose_reason_to_fail_is_gone_goes_through(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process truncates between the statement and the look for the reason."""
    await filled(path, messages=3)
    async with SQLiteStorage(path) as storage:
        refused = storage._refused

        def truncated_before(*args: object) -> object:
            connection = args[0]
            assert isinstance(connection, sqlite3.Connection)
            connection.execute("DELETE FROM messages WHERE position = 3")
            return refused(*args)  # type: ignore[arg-type]

        monkeypatch.setattr(storage, "_refused", truncated_before)
        receipt = await storage.append_messages("s", [message_record("new")], expected_last=2)
        assert (receipt.first_position, receipt.replayed) == (3, False)
        assert await ids_in(storage) == ["m1", "m2", "new"]
        with pytest.raises(SessionNotFoundError):
            await storage.append_messages("unknown", [message_record("new")])


async def test_messages_that_are_missing_in_between_are_noticed(path: Path) -> None:
    await filled(path, messages=6)
    with plain(path) as other:
        other.execute("DELETE FROM messages WHERE position IN (3, 4)")
    async with SQLiteStorage(path) as storage:
        for span in (MessageRange(), MessageRange(limit=3), MessageRange(limit=3, newest=True)):
            with pytest.raises(CorruptRecordError, match="messages at positions"):
                await storage.read_messages("s", span)
