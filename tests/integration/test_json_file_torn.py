"""What a failing disk leaves in a log is not written behind, nor written twice."""

import asyncio
import errno
import os
from pathlib import Path

import pytest

from luminoracore_sdk.adapters.storage.json_file import JSONFileStorage
from luminoracore_sdk.domain.errors import StorageFullError, StorageUnavailableError
from tests.support.file_groups import append, first_fsync_held, ids, started, under_way


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
