"""Looks at the JSON file store at work: while a log's first fsync is held, and which files it opens."""

import asyncio
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from luminoracore_sdk.adapters.storage.json_file import JSONFileStorage
from luminoracore_sdk.application.ports.records import AppendReceipt, MessageRange
from luminoracore_sdk.testing.records import message_record, session_record

__all__ = ["ALL", "append", "files_opened", "first_fsync_held", "ids", "started", "under_way"]

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


@contextmanager
def files_opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Give the names of the files that are opened in the block, in order."""
    opened: list[str] = []
    open_file = os.open

    def recorded(path: str, flags: int, mode: int = 0o777) -> int:
        opened.append(Path(path).name)
        return open_file(path, flags, mode)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", recorded)
        yield opened
