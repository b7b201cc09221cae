"""Helpers of the tests of server failures: one rig of each kind per run, and common assertions."""

import asyncio
import atexit
import os
import time
import traceback
from collections.abc import Awaitable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import pytest

from luminoracore_sdk.application.ports.records import MessageRange
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.domain.errors import LuminoraCoreSDKError, StorageUnavailableError
from luminoracore_sdk.testing import session_record
from tests.support.servers.places import place_name
from tests.support.servers.proxy import FaultProxy
from tests.support.servers.rig import PASSWORD, SECONDS, Account, Rig

__all__ = [
    "BOUND",
    "Place",
    "assert_whole",
    "failed",
    "failure",
    "in_time",
    "possible_failure",
    "running_rig",
    "stored_ids",
]

T = TypeVar("T")

BOUND = 3 * SECONDS + 0.5
"""What one call may take: its time limits for connecting and for the answer, and a slow machine."""


@cache
def running_rig(name: str) -> Rig:
    """Return the rig of a kind, started at first use and stopped with the run."""
    try:
        from tests.support.servers.rigs import RIGS

        folder = Path(os.environ["LUMINORA_TEST_SERVERS"]) / f"bad-days-{name}-{os.getpid()}"
        rig = RIGS[name](folder)
    except ImportError as exc:
        if os.environ.get("CI"):
            pytest.fail(f"no server: {exc}")
        pytest.skip(f"no server: {exc}")
    atexit.register(rig.each_proxy, FaultProxy.close)  # the servers are stopped with the folder
    rig.begin()
    return rig


class Place:
    """A store on a rig, and the storages that a test creates on it.

    Attributes:
        rig: The server.
        account: An account with all permissions.
    """

    def __init__(self, rig: Rig, path: Path) -> None:
        self.rig = rig
        self.account = Account(place_name(path).removeprefix("luminora_"))
        self._made: list[SessionStorage] = []

    def storage(self, account: Account | None = None, **options: Any) -> SessionStorage:
        """Return a storage that is not open; closed with the test. See ``Rig.storage`` for the options."""
        made = self.rig.storage(account or self.account, **options)
        self._made.append(made)
        return made

    async def begun(self, **options: Any) -> SessionStorage:
        """Return an open storage with a session ``s``."""
        storage = self.storage(**options)
        await storage.put_session(session_record())
        return storage

    async def close(self) -> None:
        """Close every storage; fails when a connection stays open."""
        for storage in self._made:
            await storage.close()
        await asyncio.to_thread(self.rig.wait_until_unused)


async def in_time(call: Awaitable[T]) -> T:
    """Await a call and assert that it ends within its time limits."""
    begin = time.monotonic()
    try:
        async with asyncio.timeout(20):  # a test that fails must end too
            return await call
    finally:
        assert time.monotonic() - begin < BOUND


async def failure(call: Awaitable[object]) -> StorageUnavailableError:
    """Return the error of a call that must fail, after the assertions that hold for every such error."""
    with pytest.raises(StorageUnavailableError) as caught:
        await in_time(call)
    failed(caught.value)
    return caught.value


async def possible_failure(call: Awaitable[object]) -> StorageUnavailableError | None:
    """Return the error of a call that may fail, such as the first one after a cut."""
    try:
        await in_time(call)
    except StorageUnavailableError as error:
        failed(error)
        return error
    return None


def failed(error: StorageUnavailableError) -> None:
    """Assert that the driver's error is the cause of this one, and that none of them shows a password."""
    cause = error.__cause__
    while isinstance(cause, LuminoraCoreSDKError):
        cause = cause.__cause__
    assert cause is not None
    assert type(cause).__module__.partition(".")[0] in {"asyncpg", "builtins", "pymongo", "redis"}
    assert PASSWORD not in "".join(traceback.format_exception(error)) + repr(error.details)


async def stored_ids(storage: SessionStorage, session_id: str = "s") -> list[str]:
    """Return the ids of a session's messages; fails when their positions have a gap."""
    messages = await storage.read_messages(session_id, MessageRange())
    assert [message.position for message in messages] == list(range(1, len(messages) + 1))
    return [message.message_id for message in messages]


async def assert_whole(storage: SessionStorage, pool: int) -> None:
    """Assert that no connection stayed checked out: more calls than connections all succeed in time."""
    begin = time.monotonic()
    for _ in range(3):
        await asyncio.gather(*(storage.find_session("s") for _ in range(2 * pool)))
    assert time.monotonic() - begin < SECONDS
