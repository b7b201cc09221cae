"""What a failing disk leaves in a log is not written behind, nor written twice."""

import asyncio
import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from luminoracore_sdk.adapters.storage.json_file import JSONFileStorage
from luminoracore_sdk.application.ports.records import AppendReceipt, MessageRange
from luminoracore_sdk.domain.errors import StorageFullError, StorageUnavailableError
from luminoracore_sdk.testing.builders import message_record, session_record

ALL = MessageRange()


async def ids(storage: JSONFileStorage, session_id: str = "s") -> list[str]:
    return [message.message_id for message in await storage.read_messages(session_id, ALL)]


async def started(root: Path, *, lock_timeout: float = 30.0) -> JSONFileStorage:
    storage = JSONFileStorage(root, lock_timeout=lock_timeout)
    await storage.put_session(session_record())
    await storage.append_messages("s", [message_record("m1")])
    return storage


def append(
    storage: JSONFileStorage, message_id: str, expected_last: int | None = None, *, text: str = "text"
) -> asyncio.Task[AppendReceipt]:
    messages = [message_record(message_id, text=text)]
    return asyncio.create_task(storage.append_messages("s", messages, expected_last=expected_last))


@contextmanager
def first_fsync_held(monkeypatch: pytest.MonkeyPatch, *, number: int = 0) -> Iterator[list[threading.Event]]:
    """Hold the first fsync of a log until it is let go; count all of them; let those after it fail.

    Yields:
        What is set when the first one begins, what lets it go, then one item for each fsync.
    """
    fsync = os.fsync
    calls = [threading.Event(), threading.Event()]

    def counted(fd: int) -> None:
        if not Path(f"/proc/self/fd/{fd}").readlink().name.startswith("messages.jsonl"):
            fsync(fd)
            return
        calls.append(threading.Event())
        if len(calls) == 3:
            calls[0].set()
            assert calls[1].wait(20)
        elif number:
            raise OSError(number, os.strerror(number))
        fsync(fd)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", counted)
        yield calls


async def under_way(calls: list[threading.Event]) -> None:
    assert await asyncio.to_thread(calls[0].wait, 20)
    await asyncio.sleep(0)


@pytest.mark.parametrize("number", [0, errno.EIO], ids=["torn", "unsynced"])
async def test_what_cannot_be_undone_is_not_followed_by_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    storage = await started(tmp_path)
    write = os.write

    def torn(fd: int, data: bytes) -> int:
        if bytes(data).count(b"\n") > 1 and not number:
            return write(fd, memoryview(data)[:-20])
        if bytes(data).endswith(b"\n") and len(data) == 20:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(fd, data)

    tries: list[int] = []
    truncate = os.ftruncate

    def refused_once(fd: int, size: int) -> None:
        tries.append(size)
        if len(tries) == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        truncate(fd, size)

    with first_fsync_held(monkeypatch, number=number) as calls:
        first = append(storage, "first")
        await under_way(calls)
        group = [append(storage, "a"), append(storage, "b")]
        await asyncio.sleep(0)
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", torn)
            patch.setattr(os, "ftruncate", refused_once)
            calls[1].set()
            await first
            errors = await asyncio.gather(*group, return_exceptions=True)
    assert {type(error) for error in errors} == {StorageUnavailableError if number else StorageFullError}
    assert len(tries) == 1
    await append(storage, "c")
    await storage.close()
    async with JSONFileStorage(tmp_path) as again:
        stored = await ids(again)
    assert stored[:2] == ["m1", "first"]
    assert sorted(set(stored)) == sorted(stored)
    assert stored[-1] == "c"
