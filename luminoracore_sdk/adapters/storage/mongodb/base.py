"""The life of the MongoDB backend: options, the client, the way that calls take to it."""

import asyncio
import math
import re
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from luminoracore_sdk.adapters.optional import import_extra
from luminoracore_sdk.adapters.storage.base import BaseStorage
from luminoracore_sdk.adapters.storage.group_commit import Append, GroupCommit
from luminoracore_sdk.application.ports.clock import Clock
from luminoracore_sdk.application.ports.records import AppendReceipt
from luminoracore_sdk.domain.errors import (
    ConfigurationError,
    SchemaVersionError,
    StorageClosedError,
    StorageTimeoutError,
)

if TYPE_CHECKING:
    from motor.motor_asyncio import AsyncIOMotorClient
    from pymongo import AsyncMongoClient

    from luminoracore_sdk.adapters.storage.mongodb.driver import Connection
    from luminoracore_sdk.adapters.storage.mongodb.store import Store

__all__ = ["MongoDBBase"]

T = TypeVar("T")

_DRIVERS = ("motor", "pymongo")
_DEFAULT_DATABASE = "luminoracore"
_MOST_REQUESTS = 2
"""Of appends under way at once. 1 to 4 measured 6,400, 6,100, 5,600 and 5,000 appends a second with 64
writers, 4,600, 6,000, 5,300 and 4,600 with 256 (PyMongo, a loaded computer)."""
_GRACE = 1.0
"""Seconds that a cancelled call is given to come to its end."""


class MongoDBBase(BaseStorage):
    """Opens and closes; runs calls within the time limit."""

    backend_name = "mongodb"
    loop_bound = True
    max_payload_bytes = 15 * 1024 * 1024

    def __init__(
        self,
        url: str | None = None,
        *,
        client: "AsyncIOMotorClient[dict[str, Any]] | AsyncMongoClient[dict[str, Any]] | None" = None,
        database: str | None = None,
        collection_prefix: str = "",
        driver: Literal["motor", "pymongo"] = "motor",
        max_pool_size: int = 50,
        connect_timeout: float = 5.0,
        timeout: float = 30.0,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(clock=clock)
        if (url is None) == (client is None):
            raise ConfigurationError("MongoDBStorage takes a url or a client, one of them")
        if not isinstance(url, str | None):
            raise ConfigurationError(f"url is a text, not {type(url).__name__}; give a client as client=…")
        _check_options(driver, max_pool_size, collection_prefix)
        for name, seconds in (("connect_timeout", connect_timeout), ("timeout", timeout)):
            if not (math.isfinite(seconds) and seconds > 0):
                raise ConfigurationError(f"{name} is a number of seconds above 0, not {seconds!r}")
        self._load(needs_motor=client is None and driver == "motor")
        named = self._drivers.check_url(url) if url is not None else None
        self._url = url or ""
        self._given = None if client is None else self._drivers.check_client(client)
        self._database = _checked_database(next(n for n in (database, named, _DEFAULT_DATABASE) if n is not None))
        self._prefix = collection_prefix
        self._driver: Literal["motor", "pymongo"] = driver
        self._timeout = timeout
        self._limit = connect_timeout + timeout
        self._options = _client_options(max_pool_size, connect_timeout, timeout)
        self._connection: Connection | None = None
        self._opened: Store | None = None
        self._appends: GroupCommit | None = None
        self._running: set[asyncio.Task[Any]] = set()

    def _load(self, *, needs_motor: bool) -> None:
        import_extra("pymongo", needed_by="MongoDBStorage", extra="mongodb")
        if needs_motor:
            import_extra("motor.motor_asyncio", needed_by="MongoDBStorage", extra="mongodb")
        from luminoracore_sdk.adapters.storage.mongodb import driver as mongodb_driver  # noqa: PLC0415 - imports the driver
        from luminoracore_sdk.adapters.storage.mongodb import store as mongodb_store  # noqa: PLC0415 - imports the driver

        self._drivers = mongodb_driver
        self._make_store = mongodb_store.Store

    # -- life ------------------------------------------------------------------------------------

    async def _open(self) -> None:
        connection = self._given
        if connection is None:
            connection = await self._drivers.connect(self._url, self._driver, self._options)
        store = self._make_store(connection, self._database, self._prefix, patience=self._timeout)
        try:
            await self._write(store.prepare())
        except BaseException:
            await connection.close()
            raise
        self._connection, self._opened = connection, store
        self._appends = GroupCommit(
            self.backend_name,
            alone=self._append_alone,
            together=self._append_together,
            most_requests=_MOST_REQUESTS,
            timeout=self._timeout,
        )

    async def _close(self) -> None:
        if self._appends is not None:
            await self._appends.drain()
        connection, self._connection, self._opened = self._connection, None, None
        if self._running:
            await asyncio.wait(self._running, timeout=self._limit)
        if connection is not None:
            await connection.close()

    def _abandon(self) -> None:
        connection, self._connection, self._opened = self._connection, None, None
        self._appends = None
        self._running.clear()
        if connection is not None:
            connection.abandon()

    async def _ping(self) -> None:
        await self._read(self._store.ping())

    async def _schema_version(self) -> int:
        version = await self._read(self._store.version())
        if version is None:
            raise SchemaVersionError(
                backend=self.backend_name,
                found=None,
                supported=self._make_store.layout,
                hint="the collection meta has lost it",
            )
        return version

    # -- appends ---------------------------------------------------------------------------------

    async def _append(self, append: Append) -> AppendReceipt:
        """Append alone, or together with others who wait."""
        if self._appends is None:
            raise StorageClosedError(self.backend_name)
        return await self._appends.append(append)

    async def _append_alone(self, append: Append) -> AppendReceipt:
        return await self._write(self._store.appends.alone(append))

    async def _append_together(self, appends: Sequence[Append]) -> list[AppendReceipt | None]:
        return await self._write(self._store.appends.together(appends))

    # -- calls -----------------------------------------------------------------------------------

    @property
    def _store(self) -> "Store":
        if self._opened is None:
            raise StorageClosedError(self.backend_name)
        return self._opened

    async def _read(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a call that writes nothing."""
        return await self._run(work, write=False)

    async def _write(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a call that writes."""
        return await self._run(work, write=True)

    async def _run(self, work: Coroutine[Any, Any, T], *, write: bool) -> T:
        """Run a call in a task of its own, within the time limit.

        When the caller is cancelled, the call is given a moment to come to its end, so that nothing that
        was sent takes effect after the caller went on. (PyMongo 4.20 also leaves a socket to the garbage
        collector when it is cancelled while it connects.) Then it is cancelled, and waited for again: who
        goes on meets no call of his own that is under way.
        """
        loop = asyncio.get_running_loop()
        over = loop.create_future()
        task = loop.create_task(_telling(over, work))
        self._running.add(task)
        task.add_done_callback(self._ended)
        timer = loop.call_later(self._limit, _tell, over)
        try:
            await over  # asyncio.wait would take 12 µs more: its turn comes after the task's callbacks
        except asyncio.CancelledError:
            await _wait_for(task)
            if task.cancel():
                await _wait_for(task)
            raise
        finally:
            timer.cancel()
        if not task.done():
            task.cancel()
            reason = f"no answer within {self._limit:g} seconds"
            raise StorageTimeoutError(self.backend_name, reason, in_doubt=write) from TimeoutError(reason)
        return task.result()

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # nobody may be left to ask for it


async def _telling(over: "asyncio.Future[None]", work: Coroutine[Any, Any, T]) -> T:
    """Do some work and tell that it is over; the task is done when who waits for that goes on."""
    try:
        return await work
    finally:
        _tell(over)


async def _wait_for(task: "asyncio.Task[Any]") -> None:
    """Wait up to a second for a task, also when who waits is cancelled again, as AnyIO does all the time."""
    loop = asyncio.get_running_loop()
    end = loop.time() + _GRACE
    while not task.done() and (left := end - loop.time()) > 0:
        with suppress(asyncio.CancelledError):  # the caller raises the one that it has caught
            await asyncio.wait([task], timeout=left)


def _tell(over: "asyncio.Future[None]") -> None:
    if not over.done():
        over.set_result(None)


def _check_options(driver: str, max_pool_size: int, collection_prefix: str) -> None:
    if driver not in _DRIVERS:
        raise ConfigurationError(f"driver is one of {', '.join(_DRIVERS)}, not {driver!r}")
    if max_pool_size < 1:
        raise ConfigurationError(f"max_pool_size is a number from 1, not {max_pool_size!r}")
    beginning = collection_prefix.startswith(("system.", "."))
    if beginning or not re.fullmatch(r"[A-Za-z0-9_.-]{0,64}", collection_prefix):
        raise ConfigurationError(
            f"collection_prefix {collection_prefix!a} is refused: "
            "up to 64 letters, digits, _, - and dots, not a dot first, not system.…"
        )


def _checked_database(name: str) -> str:
    if not re.fullmatch(r"[^/\\. \"$*<>:|?\0]+", name) or len(name.encode()) > 63:
        raise ConfigurationError(
            f'database {name!a} is refused: 1 to 63 bytes without space, NUL or any of /\\."$*<>:|?'
        )
    if name in ("admin", "config", "local"):
        raise ConfigurationError(
            f"database {name!r} is the server's own; name another one with database=… or in the URL, "
            "and where the user is known with authSource=…"
        )
    return name


def _client_options(max_pool_size: int, connect_seconds: float, seconds: float) -> dict[str, Any]:
    """Return the options of a client of our own; retries belong to the retry wrapper."""
    connect_ms, ms = max(1, round(connect_seconds * 1000)), max(1, round(seconds * 1000))
    return {
        "appname": "luminoracore-sdk",
        "maxPoolSize": max_pool_size,
        "serverSelectionTimeoutMS": connect_ms,
        "connectTimeoutMS": connect_ms,
        "waitQueueTimeoutMS": connect_ms,
        "socketTimeoutMS": ms,
        "retryWrites": False,
        "retryReads": False,
        "w": "majority",
        "journal": True,
    }
