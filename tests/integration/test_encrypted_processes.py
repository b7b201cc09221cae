"""Several processes, and a change of keys, on one encrypted store."""

import asyncio
import multiprocessing
from collections.abc import Callable
from pathlib import Path

from luminoracore_sdk.application.ports.records import MessageRange
from luminoracore_sdk.application.ports.rewriting import PayloadRewrite, RewritingStorage
from luminoracore_sdk.session import EncryptedStorageWrapper, SQLiteStorage
from luminoracore_sdk.testing.records import message_record, session_record
from tests.support.encryption import ALL, keyring

MESSAGES = 60
WRITERS = 4


def write(path: Path, name: str, start: Callable[[], object]) -> None:
    async def run() -> None:
        base = SQLiteStorage(path, synchronous="NORMAL")
        async with EncryptedStorageWrapper(base, keyring("new", "old")) as storage:
            start()
            for number in range(0, MESSAGES, 2):
                batch = [message_record(f"{name}{number}"), message_record(f"{name}{number + 1}")]
                await storage.append_messages("s", batch)

    asyncio.run(run())


async def test_four_processes_write_one_session_and_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "store"
    async with EncryptedStorageWrapper(SQLiteStorage(path), keyring("new", "old")) as storage:
        await storage.put_session(session_record())
        processes = multiprocessing.get_context("forkserver")
        barrier = processes.Barrier(WRITERS, timeout=60)
        children = [processes.Process(target=write, args=(path, name, barrier.wait)) for name in "abcd"]
        for child in children:
            child.start()
        for child in children:
            await asyncio.to_thread(child.join, 120)
        assert [child.exitcode for child in children] == [0] * WRITERS
        found = await storage.read_messages("s", ALL)
    assert [message.position for message in found] == list(range(1, WRITERS * MESSAGES + 1))
    for name in "abcd":
        own = [message.message_id for message in found if message.message_id[0] == name]
        assert own == [f"{name}{number}" for number in range(MESSAGES)]


async def rotate(base: RewritingStorage, storage: EncryptedStorageWrapper, last: int) -> int:
    """Bring the messages up to a position under the current key; returns how many were replaced."""
    rotation = await storage.rotation()
    found = await storage.base.read_messages("s", MessageRange(before=last + 1))
    changes = [
        PayloadRewrite(position=stored.position, message_id=stored.message_id, old=stored.payload, new=new)
        for stored in found
        if (new := rotation.message("s", stored))
    ]
    return await base.rewrite_messages("s", changes)


async def test_keys_change_while_others_write_and_read(tmp_path: Path) -> None:
    base = SQLiteStorage(tmp_path / "store", synchronous="NORMAL")
    old = EncryptedStorageWrapper(base, keyring("old"))
    both = EncryptedStorageWrapper(base, keyring("new", "old"))
    async with old, both:
        await old.put_session(session_record())
        await old.append_messages("s", [message_record(f"old{number}") for number in range(200)])

        async def go_on() -> None:
            for number in range(100):
                await both.append_messages("s", [message_record(f"new{number}")])
                span = MessageRange(newest=True, limit=250)
                texts = [message.payload for message in await both.read_messages("s", span)]
                assert len(set(texts)) == min(250, 201 + number)

        replaced, _ = await asyncio.gather(rotate(base, both, 200), go_on())
        assert replaced == 200
        stored = await base.read_messages("s", ALL)
        assert {message.payload.encoding for message in stored} == {"json+aes256gcm:new"}
        assert [message.position for message in await both.read_messages("s", ALL)] == list(range(1, 301))
