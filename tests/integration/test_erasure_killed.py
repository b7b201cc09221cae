"""An erasure is killed at every moment: the next one deletes what is left, and its receipt says so."""

import asyncio
import json
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import pytest

from luminoracore_sdk.session import SessionManager
from tests.support import erase_worker
from tests.support.backends import FILES, SQLITE
from tests.support.command import ROOT
from tests.support.killed_clients import CLIENTS, Client
from tests.support.raw_stores import raw_content
from tests.support.users import canary, digest_of, fill_user


@attrs.define
class Worker:
    """The process that forks those that are killed.

    Attributes:
        process: It.
        moments: What the last of them reached.
    """

    process: asyncio.subprocess.Process
    moments: list[str] = attrs.field(factory=list)

    async def erase(self, place: str, *, kill_at: int) -> int:
        """Erase the user in a new process; return its exit status."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.moments = []
        self.process.stdin.write(json.dumps([place, kill_at]).encode() + b"\n")
        async for line in self.process.stdout:
            word, _, rest = line.decode().strip().partition(" ")
            if word == "ended":
                return int(rest)
            self.moments.append(rest)
        raise AssertionError("the worker ended")


@asynccontextmanager
async def worker_of(client: Client, user_id: str) -> AsyncIterator[Worker]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, erase_worker.__file__, client.factory, user_id),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        yield Worker(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()


async def fill(client: Client, path: Path) -> str:
    """Fill a store; return its place. A store on the disk is a copy of the first one."""
    place, first = client.place(path), path.parent.with_name("first")
    if client.backend is None and first.exists():
        shutil.copytree(first, path.parent)
        return place
    path.parent.mkdir()
    async with client.storage(place) as storage, SessionManager(storage) as manager:
        await fill_user(manager, "ada", sessions=2, turns=1)
        await fill_user(manager, "bob", turns=1)
    if client.backend is None:
        shutil.copytree(path.parent, first)
    return place


@pytest.mark.parametrize(
    "name",
    [
        "sqlite",
        *(pytest.param(name, marks=pytest.mark.nightly) for name in ("files", "postgres", "redis", "mongodb")),
    ],
)
async def test_an_erasure_killed_at_any_moment_is_repeated(tmp_path: Path, name: str) -> None:
    client = CLIENTS[name]
    backend = client.backend or {"files": FILES, "sqlite": SQLITE}[name]
    counts = set[int]()
    async with worker_of(client, "ada") as worker:
        moment, status = 0, -signal.SIGKILL
        while status == -signal.SIGKILL:
            moment += 1
            path = tmp_path / f"moment-{moment}" / "store"
            place = await fill(client, path)
            async with client.storage(place) as storage, SessionManager(storage) as manager:
                bob = await digest_of(storage, "bob")

                status = await worker.erase(place, kill_at=moment)

                where = (moment, worker.moments[-1])
                left = await manager.list_sessions(user_id="ada")
                receipt = await manager.erase_user("ada")
                assert (receipt.sessions, receipt.verified) == (len(left), True), where
                again = await manager.erase_user("ada")
                assert (again.sessions, again.messages, again.memories, again.verified) == (0, 0, 0, True), where
                content = await raw_content(backend, path, storage)
                assert canary("ada").encode() not in content, where
                assert canary("bob").encode() in content
                assert await digest_of(storage, "bob") == bob, where
                counts.add(receipt.sessions)
            client.clear(path)
    assert status == 0
    assert counts == {0, 1, 2}
    assert moment > 20
