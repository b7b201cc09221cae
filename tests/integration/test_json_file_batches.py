"""Appends to several sessions of files are synced at the same time, and yet are nobody else's."""

import asyncio
import errno
import os
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import attrs
import pytest
from luminoracore_sdk.adapters.storage.json_file.append import Outcome
from luminoracore_sdk.adapters.storage.json_file.io import Syncing
from luminoracore_sdk.adapters.storage.json_file.queue import AppendQueue
from luminoracore_sdk.adapters.storage.json_file.sync import Syncs

from luminoracore_sdk.adapters.storage.group_commit import Append
from luminoracore_sdk.adapters.storage.json_file import JSONFileStorage
from luminoracore_sdk.adapters.storage.json_file import queue as json_file_queue
from luminoracore_sdk.adapters.storage.json_file import session as json_file_session
from luminoracore_sdk.adapters.storage.json_file.layout import hashed
from luminoracore_sdk.application.ports.records import AppendReceipt, MessageRange
from luminoracore_sdk.domain.errors import SessionNotFoundError, StorageUnavailableError
from luminoracore_sdk.testing.records import message_record, session_record
from tests.support.file_groups import files_opened


async def ids(storage: JSONFileStorage, session_id: str) -> list[str]:
    return [message.message_id for message in await storage.read_messages(session_id, MessageRange())]


@contextmanager
def batches(monkeypatch: pytest.MonkeyPatch, *broken: str) -> Iterator[list[set[str]]]:
    """Note which logs are synced at the same time; let those of some sessions fail.

    Yields:
        The names of the folders that were synced at the same time.
    """
    names: list[set[str]] = []
    run, fsync = Syncs.run, os.fsync
    bad = {hashed(session_id) for session_id in broken}

    def folder(fd: int) -> str:
        return Path(f"/proc/self/fd/{fd}").readlink().parent.name

    def recorded(self: Syncs, fds: Sequence[int]) -> list[BaseException | None]:
        names.append({folder(fd) for fd in fds})
        return run(self, fds)

    def failing(fd: int) -> None:
        if folder(fd) in bad:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(fd)

    with monkeypatch.context() as patch:
        patch.setattr(Syncs, "run", recorded)
        patch.setattr(os, "fsync", failing)
        yield names


async def sessions(root: Path, count: int, *, lock_timeout: float = 30.0) -> tuple[JSONFileStorage, list[str]]:
    storage = JSONFileStorage(root, lock_timeout=lock_timeout)
    names = [f"s{number}" for number in range(count)]
    for name in names:
        await storage.put_session(session_record(name))
    return storage, names


async def append_to_each(storage: JSONFileStorage, names: Sequence[str]) -> list[AppendReceipt | BaseException]:
    calls = (storage.append_messages(name, [message_record("m1")]) for name in names)
    return await asyncio.gather(*calls, return_exceptions=True)


async def test_a_failing_fsync_undoes_the_lines_of_its_own_session_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, names = await sessions(tmp_path, 40)
    with batches(monkeypatch, "s7", "s9") as synced:
        outcomes = await append_to_each(storage, names)
    assert max(len(batch) for batch in synced) > 8
    failed = [name for name, outcome in zip(names, outcomes, strict=True) if isinstance(outcome, Exception)]
    assert failed == ["s7", "s9"]
    assert {type(outcomes[7]), type(outcomes[9])} == {StorageUnavailableError}
    assert outcomes[7] is not outcomes[9]
    assert [name for name in names if await ids(storage, name) != ["m1"]] == ["s7", "s9"]
    first = AppendReceipt(first_position=1, last_position=1)
    assert await append_to_each(storage, ["s7", "s9"]) == [first, first]
    await storage.close()


async def test_sessions_that_share_a_lock_are_written_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage, names = await sessions(tmp_path, 100)
    stripes = Counter(hashed(name)[:2] for name in names)
    shared = [name for name in names if stripes[hashed(name)[:2]] > 1]
    assert len(shared) > 20
    with batches(monkeypatch) as synced:
        await append_to_each(storage, shared)
    together = max(synced, key=len)
    assert len({name[:2] for name in together}) < len(together)
    assert [await ids(storage, name) for name in shared] == [["m1"]] * len(shared)
    await storage.close()


async def test_a_session_whose_lock_another_process_has_holds_up_no_other(tmp_path: Path) -> None:
    import fcntl

    storage, names = await sessions(tmp_path, 40)
    path = tmp_path / "locks" / f"{hashed('s3')[:2]}.lock"
    fd = os.open(path, os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        free = [name for name in names if hashed(name)[:2] != path.stem]
        held = asyncio.create_task(append_to_each(storage, ["s3"]))
        both = asyncio.create_task(append_to_each(storage, ["s3", *free]))
        assert len(await append_to_each(storage, free)) == len(free)
        assert not held.done()
        assert not both.done()
    finally:
        os.close(fd)
    assert await held == [AppendReceipt(first_position=1, last_position=1)]
    replayed = AppendReceipt(first_position=1, last_position=1, replayed=True)
    assert (await both)[0] == replayed
    await storage.close()


async def test_what_waits_when_the_pool_is_shut_down_is_written_by_the_thread_that_began(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def write(session_id: str, appends: Sequence[Append], deadline: float) -> Syncing[Sequence[Outcome]]:
        yield from ()
        return [AppendReceipt(first_position=1, last_position=1) for _ in appends]

    monkeypatch.setattr(json_file_queue, "_MOST_SESSIONS", 1)
    pool, go_on = ThreadPoolExecutor(1), threading.Event()
    pool.submit(go_on.wait, 20)
    queue = AppendQueue(pool, workers=2, timeout=30, write=write)
    appends = [Append(name, (message_record("m1"),), None, 0) for name in "abc"]
    waiting = [asyncio.create_task(queue.put(append)) for append in appends]
    await asyncio.sleep(0)
    queue.close()
    pool.shutdown(wait=False)
    go_on.set()
    receipts = await asyncio.wait_for(asyncio.gather(*waiting), 20)
    assert [receipt.last_position for receipt in receipts] == [1, 1, 1]
    queue.end()


async def test_a_header_that_is_known_is_read_again_when_another_process_replaces_or_removes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_file_session, "_SETTLED_NS", -(10**18))
    async with JSONFileStorage(tmp_path) as ours, JSONFileStorage(tmp_path) as others:
        await ours.put_session(session_record())
        await ours.append_messages("s", [message_record("m1")])
        with files_opened(monkeypatch) as opened:
            await ours.append_messages("s", [message_record("m2")])
            assert opened == [f"{hashed('s')[:2]}.lock"]
            record = await others.put_session(session_record())
            opened.clear()
            assert (await ours.find_session("s")) == attrs.evolve(record, last_position=2)
            assert "session.json" in opened
        await others.delete_session("s")
        with pytest.raises(SessionNotFoundError):
            await ours.append_messages("s", [message_record("m3")])
