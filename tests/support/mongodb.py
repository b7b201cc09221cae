"""What tests of the MongoDB backend share: places on the shared servers, and looks past the adapter."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Literal

from pymongo import AsyncMongoClient, MongoClient
from pymongo.database import Database
from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
)

from luminoracore_sdk.adapters.storage.mongodb import MongoDBStorage
from luminoracore_sdk.application.ports.records import MessageRange
from luminoracore_sdk.testing.clock import ManualClock
from tests.support.servers.places import clear_mongodb, place_name

__all__ = ["MongoPlace", "ids", "mongo_place", "with_database"]


def with_database(url: str, name: str) -> str:
    """Return the URL of a server with the name of a database in it."""
    server, _, options = url.partition("?")
    return f"{server.rstrip('/')}/{name}" + (f"?{options}" if options else "")


_RECORDED = ("find", "aggregate", "insert", "update", "delete", "findAndModify")
_SESSION_FIELDS = ("lsid", "$db", "$clusterTime", "txnNumber", "writeConcern", "$readPreference")


class _Recorder(CommandListener):
    """Keeps the commands that a client sends."""

    def __init__(self) -> None:
        self.commands: list[dict[str, Any]] = []

    def started(self, event: CommandStartedEvent) -> None:
        if event.command_name in _RECORDED:
            self.commands.append({name: value for name, value in event.command.items() if name not in _SESSION_FIELDS})

    def succeeded(self, event: CommandSucceededEvent) -> None: ...

    def failed(self, event: CommandFailedEvent) -> None: ...


class MongoPlace:
    """A database of a test's own.

    Attributes:
        url: Of the server.
        name: Of the database.
        database: Reached without the adapter.
        clock: What its storages tell the time by.
    """

    def __init__(self, url: str, name: str, client: MongoClient[dict[str, Any]]) -> None:
        self.url = url
        self.name = name
        self.clock = ManualClock()
        self.database: Database[dict[str, Any]] = client[name]
        self._client = client

    def storage(self, driver: Literal["motor", "pymongo"] = "motor", **options: Any) -> MongoDBStorage:
        """Return a storage, not yet open, as another process would make it."""
        return MongoDBStorage(self.url, database=self.name, driver=driver, clock=self.clock, **options)

    @asynccontextmanager
    async def recorded(self) -> AsyncIterator[tuple[MongoDBStorage, list[dict[str, Any]]]]:
        """Give an open storage, and a list that grows by each command that it sends."""
        recorder = _Recorder()
        async with (
            AsyncMongoClient[dict[str, Any]](self.url, event_listeners=[recorder]) as client,
            MongoDBStorage(client=client, database=self.name, clock=self.clock) as storage,
        ):
            yield storage, recorder.commands

    def explain(self, command: Mapping[str, Any]) -> dict[str, Any]:
        """Return how the server carries out a command; nothing is written."""
        return self.database.command("explain", dict(command), verbosity="executionStats")


@contextmanager
def mongo_place(server_url: Callable[[], str], path: Path) -> Iterator[MongoPlace]:
    """Give an empty database for the length of a ``with`` block."""
    url, name = server_url(), place_name(path)
    with MongoClient[dict[str, Any]](url) as client:
        try:
            yield MongoPlace(url, name, client)
        finally:
            clear_mongodb(url, name)


async def ids(storage: MongoDBStorage) -> list[str]:
    """Return the ids of the messages of session ``s``; fails when their positions have a gap."""
    messages = await storage.read_messages("s", MessageRange())
    assert [message.position for message in messages] == list(range(1, len(messages) + 1))
    return [message.message_id for message in messages]
