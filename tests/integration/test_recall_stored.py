"""The index that is stored with a message is that of its text, whoever wrote it."""

import asyncio
import json
from base64 import b64decode, b64encode
from pathlib import Path

import pytest

from luminoracore_sdk.adapters.analysis import make_analyzer
from luminoracore_sdk.adapters.codec.entities import JsonEntityCodec
from luminoracore_sdk.application.ports.records import IndexRecord, IndexRewrite, MessageRange, Payload, SessionQuery
from luminoracore_sdk.application.session_access import headers
from luminoracore_sdk.session import (
    EncryptedStorageWrapper,
    InMemoryStorage,
    Keyring,
    Message,
    SessionManager,
    SessionStorage,
    SQLiteStorage,
    create_storage,
)
from luminoracore_sdk.testing import ManualClock
from tests.support.backends import Backend
from tests.support.command import luminora_over, process
from tests.support.recall import CHANGES, TEXTS, manager_of, reindexed, say, searched, stored_entries, without_indexes

CODEC = JsonEntityCodec().indexing(make_analyzer("english"))


async def records(storage: SessionStorage) -> list[IndexRecord]:
    """Return the indexes of all messages, each compared with the one that its text has."""
    found: list[IndexRecord] = []
    async for header in headers(storage, SessionQuery()):
        session_id = header.session_id
        indexes = await storage.read_index(session_id, MessageRange())
        for message, record in zip(await storage.read_messages(session_id, MessageRange()), indexes, strict=True):
            decoded = CODEC.message(message, backend="", session_id=session_id)
            if decoded.timestamp is not None:
                assert record.index == CODEC.message_record(decoded).index, (session_id, record.position)
        found += indexes
    return found


@pytest.mark.parametrize("number", range(1, len(CHANGES)))
async def test_every_change_stores_the_index_of_its_text(number: int) -> None:
    clock = ManualClock()
    async with searched(InMemoryStorage(clock=clock)) as storage:
        manager = manager_of(storage, clock)
        for change in CHANGES[:number]:
            await change(manager, clock)
        assert len(await records(storage)) >= 45


async def test_an_import_stores_indexes(storage: SessionStorage, backend: Backend, tmp_path: Path) -> None:
    luminora = luminora_over(f"sqlite:///{tmp_path / 'cli.db'}")
    chat = {"messages": [{"role": "user", "content": text} for text in TEXTS.values() if "\ud800" not in text]}
    (tmp_path / "chat.json").write_text(json.dumps(chat), encoding="utf-8")
    done = await asyncio.to_thread(
        luminora, "sessions", "import", tmp_path / "chat.json", LUMINORA_STORAGE_SEARCH="text"
    )
    assert done.exit_code == 0
    async with SQLiteStorage(tmp_path / "cli.db") as imported:
        assert len(await records(imported)) == len(chat["messages"])
    await asyncio.to_thread(luminora, "chat", "The boat leaves at noon", LUMINORA_STORAGE_SEARCH="text")
    async with SQLiteStorage(tmp_path / "cli.db") as imported:
        assert len(await records(imported)) == len(chat["messages"]) + 2


async def test_a_copy_takes_the_indexes_with_it(tmp_path: Path) -> None:
    source, target = f"sqlite:///{tmp_path / 's.db'}", f"file://{tmp_path / 'copy'}"
    clock = ManualClock()
    async with searched(SQLiteStorage(tmp_path / "s.db", clock=clock)) as storage:
        await CHANGES[0](manager_of(storage, clock), clock)
        before = await stored_entries(storage)
    done = await asyncio.to_thread(luminora_over(source), "copy", source, target, "--compress")
    assert done.exit_code == 0, done.output
    async with create_storage(target) as copied:
        assert await stored_entries(copied) == before


async def test_a_rotation_of_keys_keeps_indexes(tmp_path: Path) -> None:
    path, clock = tmp_path / "s.db", ManualClock()
    keys = {name: b64encode(bytes([number]) * 32).decode() for number, name in enumerate(("new", "old"))}

    def ring(*names: str) -> Keyring:
        return Keyring({name: b64decode(keys[name]) for name in names})

    async with searched(EncryptedStorageWrapper(SQLiteStorage(path, clock=clock), ring("old"))) as storage:
        await CHANGES[0](manager_of(storage, clock), clock)
        before = await stored_entries(storage)
    done = await asyncio.to_thread(
        luminora_over(f"sqlite:///{path}"),
        *("optimize", "rewrite"),
        LUMINORA_STORAGE_ENCRYPTION_ENABLED="yes",
        LUMINORA_ENCRYPTION_KEYS=f"new:{keys['new']},old:{keys['old']}",
    )
    assert done.exit_code == 0, done.output
    async with SQLiteStorage(path) as raw:
        found = [one.index for one in await raw.read_index("s-ada-1", MessageRange())]
        assert {index and index.encoding for index in found} == {"terms+aes256gcm:new"}
    async with EncryptedStorageWrapper(SQLiteStorage(path), ring("new", "old")) as storage:
        assert await stored_entries(storage) == before
        assert len(await records(storage)) == len(before)


@pytest.mark.parametrize(
    "blob",
    [
        *(b"", b"\0", b"\xff" * 3, b"no index"),
        pytest.param(None, id="cut"),
    ],
    ids=repr,
)
async def test_a_damaged_index_is_replaced_by_the_text(blob: bytes | None) -> None:
    async with searched(InMemoryStorage()) as storage:
        await say(SessionManager(storage), "a red boat", "the blue sea")
        before = await stored_entries(storage)
        (record, _) = await storage.read_index("s", MessageRange())
        assert record.index is not None
        data = record.index.data[:-1] if blob is None else blob
        for bad in (Payload("terms", data), Payload("json", record.index.data)):
            (record, _) = await storage.read_index("s", MessageRange())
            change = IndexRewrite(position=1, message_id=record.message_id, old=record.index, new=bad)
            assert await storage.rewrite_index("s", [change]) == 1
            (found,) = await SessionManager(storage).recall("boats", limit=1)
            assert found.text == "a red boat"
            assert await reindexed(storage) == 1
            assert await stored_entries(storage) == before


async def test_a_store_that_was_written_without_search_is_searched_at_once(storage: SessionStorage) -> None:
    manager = SessionManager(storage)
    await say(manager, *TEXTS.values())
    assert set((await stored_entries(storage)).values()) == {None}
    search = searched(storage)
    (hit,) = await SessionManager(search).recall("Carol's ceramics in Lisbon", limit=1)
    assert hit.text == TEXTS["English"]
    assert await reindexed(search) == len(TEXTS)
    assert await reindexed(search) == 0
    assert len(await records(storage)) == len(TEXTS)
    assert await without_indexes(storage) == len(TEXTS)


KILLED = """
import os
from luminoracore_sdk.application.indexing import Indexer
complete, done = Indexer.complete, []

async def until_killed(self, session_id, **options):
    if len(done) == 2:
        os.kill(os.getpid(), 9)
    done.append(session_id)
    return await complete(self, session_id, **options)

Indexer.complete = until_killed
"""


def test_reindex_that_was_killed_is_repeated(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 's.db'}"

    async def fill() -> None:
        async with SQLiteStorage(tmp_path / "s.db") as storage:
            for number in range(4):
                await say(SessionManager(storage), *TEXTS.values(), session_id=f"s{number}")

    async def indexed() -> int:
        async with SQLiteStorage(tmp_path / "s.db") as storage:
            return sum(blob is not None for blob in (await stored_entries(storage)).values())

    asyncio.run(fill())
    killed = process(tmp_path, "reindex", code=KILLED, LUMINORA_STORE=url)
    assert (killed.returncode, asyncio.run(indexed())) == (-9, 2 * len(TEXTS))
    done = luminora_over(url)("reindex", "--json")
    expected = {"sessions": 4, "messages": 2 * len(TEXTS), "damaged": 0, "refused": 0}
    assert (done.exit_code, json.loads(done.stdout)) == (0, expected)
    assert asyncio.run(indexed()) == 4 * len(TEXTS)


async def test_an_unsaved_session_is_found_and_saved_with_its_indexes(storage: SessionStorage) -> None:
    search = searched(storage)
    manager = SessionManager(search)
    config = {"session_id": "s", "auto_save": False, "user_id": "ada"}
    await manager.create_session({"name": "A"}, {"name": "echo"}, config)
    await manager.send_message("s", "The boat leaves at noon")
    await manager.memory_manager.store_memory("s", "boat", "Aurora")
    assert [hit.text for hit in await manager.recall("boat", user_id="ada", roles=["user"])] == [
        "The boat leaves at noon"
    ]
    assert [hit.key for hit in await manager.recall("boat", session_ids=["s"], kinds=["memory"])] == ["boat"]
    assert await SessionManager(search).recall("boat", user_id="ada") == []
    assert await stored_entries(storage) == {}
    assert await manager.save_session("s")
    assert len(await records(storage)) == 2
    assert len(await SessionManager(search).recall("boat", user_id="ada")) == 2


async def test_calls_of_tools_and_pictures_are_found_by_their_words(storage: SessionStorage) -> None:
    manager = SessionManager(searched(storage))
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    call = {"id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": '{"city": "Lisbon"}'}}
    messages = [
        Message("user", [{"type": "text", "text": "What is on this picture of a harbour?"}, picture]),
        Message("assistant", "", metadata={"tool_calls": [call]}),
        Message("tool", '{"boats": 3}', metadata={"tool_call_id": "call_1"}),
        Message("assistant", "Three boats"),
    ]
    await manager.conversation_manager.create_conversation("s")
    await manager.conversation_manager.append("s", messages)
    assert [hit.position for hit in await manager.recall("harbour picture", limit=1)] == [1]
    assert {hit.role for hit in await manager.recall("boats")} >= {"tool", "assistant"}
    assert await manager.recall("iVBORw0KGgo") == []
    assert len(await records(storage)) == 4


async def test_a_message_of_a_megabyte_is_found_by_its_beginning(storage: SessionStorage) -> None:
    manager = SessionManager(searched(storage))
    text = "harbour " + "boat and sea " * 80_000
    await say(manager, text)
    (hit,) = await manager.recall("harbour")
    assert hit.text == text
    ((_, blob),) = (await stored_entries(storage)).items()
    assert blob is not None
    assert len(blob) < 100
    assert len(await records(storage)) == 1


async def test_the_loop_runs_on_while_a_large_index_is_read() -> None:
    async with searched(InMemoryStorage()) as storage:
        await say(SessionManager(storage), *(f"boat number {number} in the harbour" for number in range(10_000)))
        manager = SessionManager(storage)
        asked, turns = asyncio.create_task(manager.recall("boat number 7777")), 0
        while not asked.done():
            await asyncio.sleep(0.001)
            turns += 1
        assert (await asked)[0].text == "boat number 7777 in the harbour"
        assert turns >= 8
