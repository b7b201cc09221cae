"""What the operating system refuses becomes a typed error, and nothing is lost."""

import asyncio
import errno
import fcntl
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from luminoracore_sdk.adapters.storage.json_file import JSONFileStorage
from luminoracore_sdk.adapters.storage.json_file.files import FolderLocks
from luminoracore_sdk.application.ports.records import MessageRange
from luminoracore_sdk.domain.errors import (
    MissingDependencyError,
    StorageBusyError,
    StorageError,
    StorageFullError,
    StorageReadOnlyError,
    StorageUnavailableError,
)
from luminoracore_sdk.testing.cancellation import CancelAt
from luminoracore_sdk.testing.records import memory_record, message_record, message_records, session_record

ALL = MessageRange()


async def texts(storage: JSONFileStorage) -> list[str]:
    return [message.message_id for message in await storage.read_messages("s", ALL)]


def found(root: Path, pattern: str) -> list[Path]:
    return sorted(root.rglob(pattern))


async def started(root: Path) -> JSONFileStorage:
    storage = JSONFileStorage(root)
    await storage.put_session(session_record())
    await storage.append_messages("s", [message_record("m1")])
    return storage


@contextmanager
def failing_writes(monkeypatch: pytest.MonkeyPatch, name: str, number: int, after: int = 0) -> Iterator[None]:
    """Let ``os.write`` to files of a name take so many bytes, then fail with an errno."""
    write = os.write
    left = after

    def failing(fd: int, data: Any) -> int:
        nonlocal left
        if not Path(f"/proc/self/fd/{fd}").readlink().name.startswith(name):
            return write(fd, data)
        if left <= 0:
            raise OSError(number, os.strerror(number))
        part, left = memoryview(data)[:left], 0
        return write(fd, part)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", failing)
        yield


@contextmanager
def read_only(monkeypatch: pytest.MonkeyPatch, root: Path, number: int) -> Iterator[None]:
    """Refuse every opening for writing below a folder, as a read-only file system does to root too."""
    open_file = os.open

    def refusing(path: Any, flags: int, mode: int = 0o777, **others: Any) -> int:
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if writes and str(path).startswith(str(root)):
            raise OSError(number, os.strerror(number), str(path))
        return open_file(path, flags, mode, **others)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refusing)
        yield


@pytest.mark.parametrize("after", [0, 20], ids=["no byte written", "20 bytes written"])
@pytest.mark.parametrize(
    ("number", "error"),
    [
        (errno.ENOSPC, StorageFullError),
        (errno.EDQUOT, StorageFullError),
        (errno.EIO, StorageUnavailableError),
        (errno.EROFS, StorageReadOnlyError),
    ],
)
async def test_a_failed_append_leaves_the_log_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, error: type[StorageError], after: int
) -> None:
    storage = await started(tmp_path)
    (log,) = found(tmp_path, "messages.jsonl")
    whole = log.read_bytes()
    with failing_writes(monkeypatch, "messages.jsonl", number, after), pytest.raises(error) as caught:
        await storage.append_messages("s", [message_record("m2")])
    assert type(caught.value) is error
    assert isinstance(caught.value.__cause__, OSError)
    assert log.read_bytes() == whole
    receipt = await storage.append_messages("s", [message_record("m2")])
    assert (receipt.first_position, receipt.replayed) == (2, False)
    assert await texts(storage) == ["m1", "m2"]
    await storage.close()


async def test_a_short_write_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = await started(tmp_path)
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda fd, data: write(fd, memoryview(data)[:7]))
        await storage.append_messages("s", [message_record("m2")])
    assert await texts(storage) == ["m1", "m2"]
    await storage.close()


async def test_a_failed_header_or_memory_keeps_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = await started(tmp_path)
    await storage.put_memory(memory_record("key", value="old"))
    before = await storage.find_session("s")
    with failing_writes(monkeypatch, "session.json", errno.ENOSPC, 10), pytest.raises(StorageFullError):
        await storage.put_session(session_record(text="new"))
    with failing_writes(monkeypatch, "", errno.ENOSPC, 10), pytest.raises(StorageFullError):
        await storage.put_memory(memory_record("key", value="new"))
    with failing_writes(monkeypatch, "messages.jsonl", errno.ENOSPC, 10), pytest.raises(StorageFullError):
        await storage.append_messages("s", message_records(3, prefix="n"))
    assert await storage.find_session("s") == before
    kept = await storage.find_memory(memory_record("key").scope, "key")
    assert kept is not None
    assert kept.payload == memory_record("key", value="old").payload
    assert found(tmp_path, "*.tmp") == []
    await storage.close()


async def test_a_failed_truncation_keeps_every_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = await started(tmp_path)
    await storage.append_messages("s", message_records(3, prefix="n"))
    with failing_writes(monkeypatch, "messages.jsonl", errno.ENOSPC, 10), pytest.raises(StorageFullError):
        await storage.truncate_messages("s", after=2)
    assert await texts(storage) == ["m1", "n1", "n2", "n3"]
    assert (await storage.append_messages("s", [message_record("n3")])).replayed is True
    await storage.close()


async def test_an_index_that_cannot_be_written_does_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = await started(tmp_path)

    def refused(fd: int, data: bytes, offset: int) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", refused)
        assert (await storage.append_messages("s", [message_record("m2")])).first_position == 2
        assert (await storage.append_messages("s", [message_record("m1")])).replayed is True
    assert (await storage.append_messages("s", [message_record("m3")])).first_position == 3
    assert await texts(storage) == ["m1", "m2", "m3"]
    await storage.close()


async def test_an_append_that_cannot_be_undone_is_in_doubt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = await started(tmp_path)

    def refused(fd: int, size: int = 0) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refused)
        patch.setattr(os, "ftruncate", refused)
        with pytest.raises(StorageUnavailableError, match="cannot undo a failed write") as caught:
            await storage.append_messages("s", [message_record("m2")])
    assert caught.value.in_doubt is True
    assert (await storage.append_messages("s", [message_record("m2")])).first_position == 2
    assert (await storage.append_messages("s", [message_record("m3")])).first_position == 3
    assert await texts(storage) == ["m1", "m2", "m3"]
    await storage.close()


async def test_a_failed_fsync_leaves_the_log_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = await started(tmp_path)

    def refused(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refused)
        with pytest.raises(StorageUnavailableError) as caught:
            await storage.append_messages("s", [message_record("m2")])
    assert caught.value.in_doubt is False
    assert await texts(storage) == ["m1"]
    receipt = await storage.append_messages("s", [message_record("m2")])
    assert (receipt.first_position, receipt.replayed) == (2, False)
    await storage.close()


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EPERM])
async def test_a_read_only_store_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    await (await started(tmp_path)).close()
    (index,) = found(tmp_path, "messages.idx")
    index.unlink()
    for lock in found(tmp_path, "*.lock"):
        lock.unlink()
    with read_only(monkeypatch, tmp_path, number):
        async with JSONFileStorage(tmp_path) as storage:
            assert await storage.list_sessions() == ["s"]
            assert await texts(storage) == ["m1"]
            with pytest.raises(StorageReadOnlyError, match="cannot append to session 's'"):
                await storage.append_messages("s", [message_record("m2")])
            with pytest.raises(StorageReadOnlyError, match="cannot delete session 's'"):
                await storage.delete_session("s")
            with pytest.raises(StorageReadOnlyError, match="cannot write session 'new'"):
                await storage.put_session(session_record("new"))
    assert [path.name for path in found(tmp_path, "*") if path.parent == tmp_path] == [
        "locks",
        "luminora.json",
        "sessions",
    ]


async def test_a_folder_that_cannot_be_made_is_a_read_only_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with read_only(monkeypatch, tmp_path, errno.EROFS), pytest.raises(StorageReadOnlyError):
        await JSONFileStorage(tmp_path / "store").open()


async def test_a_lock_held_too_long_is_an_error(tmp_path: Path) -> None:
    await (await started(tmp_path)).close()
    (path,) = found(tmp_path, "*.lock")
    fd = os.open(path, os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        async with JSONFileStorage(tmp_path, lock_timeout=0.02) as storage:
            with pytest.raises(StorageBusyError, match=rf"locks/{path.name} for over 0\.02 s"):
                await storage.append_messages("s", [message_record("m2")])
            with pytest.raises(StorageBusyError):
                await storage.find_session("s")
            fcntl.flock(fd, fcntl.LOCK_UN)
            assert (await storage.append_messages("s", [message_record("m2")])).first_position == 2
    finally:
        os.close(fd)


async def test_a_cancelled_append_is_whole_or_absent(tmp_path: Path) -> None:
    storage = await started(tmp_path)
    batch = message_records(5, prefix="n")
    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(_cancelled(storage))
    await storage.close()  # waits for the thread
    async with JSONFileStorage(tmp_path) as again:
        assert await texts(again) in (["m1"], ["m1", *(message.message_id for message in batch)])


async def test_a_call_after_a_cancelled_one_sees_its_effect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def hold(locks: FolderLocks, *args: Any, **kwargs: Any) -> AbstractContextManager[None]:
        """Wait, the first time, before the lock is taken."""
        if not begun.is_set():
            begun.set()
            go_on.wait(10)
        return locked(locks, *args, **kwargs)

    async with await started(tmp_path) as storage:
        locked = FolderLocks.hold
        monkeypatch.setattr(FolderLocks, "hold", hold)
        append = asyncio.create_task(storage.append_messages("s", [message_record("m2")]))
        await asyncio.to_thread(begun.wait, 10)
        append.cancel()
        await asyncio.wait({append})
        read = asyncio.create_task(texts(storage))
        await asyncio.sleep(0)
        go_on.set()
        assert (append.cancelled(), await read) == (True, ["m1", "m2"])


async def _cancelled(storage: JSONFileStorage) -> None:
    await CancelAt(storage.append_messages("s", message_records(5, prefix="n")), 0)


async def test_without_filelock_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "filelock", None)
    with pytest.raises(MissingDependencyError, match=r"luminoracore-sdk\[files\]"):
        JSONFileStorage(tmp_path)
