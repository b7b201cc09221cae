"""What tests of the MongoDB backend share: databases on the shared servers, and clients that can be observed."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Literal, cast

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

__all__ = ["Moments", "MongoPlace", "ids", "mongo_place", "with_database"]

Action = Callable[[], Awaitable[object]]


def with_database(url: str, name: str) -> str:
    """Return the URL of a server with the name of a database in it."""
    server, _, options = url.partition("?")
    return f"{server.rstrip('/')}/{name}" + (f"?{options}" if options else "")


_RECORDED = ("find", "aggregate", "insert", "update", "delete", "findAndModify")
_SESSION_FIELDS = ("lsid", "$db", "$clusterTime", "txnNumber", "writeConcern", "$readPreference")


class _Recorder(CommandListener):
    """Keep the commands that a client sends."""

    def __init__(self) -> None:
        self.commands: list[dict[str, Any]] = []

    def started(self, event: CommandStartedEvent) -> None:
        if event.command_name in _RECORDED:
            self.commands.append({name: value for name, value in event.command.items() if name not in _SESSION_FIELDS})

    def succeeded(self, event: CommandSucceededEvent) -> None: ...

    def failed(self, event: CommandFailedEvent) -> None: ...


class Moments(AsyncMongoClient[dict[str, Any]]):
    """A client that lets a test act once, right before a command of a collection is sent or after its answer."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._actions: dict[tuple[str, str, str], Action] = {}

    def before(self, collection: str, call: str, action: Action) -> None:
        """Act before the next call of a method of a collection, such as ``insert_one``."""
        self._actions["before", f"luminora_{collection}", call] = action

    def after(self, collection: str, call: str, action: Action) -> None:
        """Act after the next call of a method of a collection, before its result is returned."""
        self._actions["after", f"luminora_{collection}", call] = action

    async def act(self, when: str, collection: str, call: str) -> None:
        """Do what is due, if anything."""
        if action := self._actions.pop((when, collection, call), None):
            await action()

    def get_database(self, *args: Any, **options: Any) -> Any:
        """Return a database whose collections are observed."""
        return _Observed(super().get_database(*args, **options), self)


class _Observed:
    """A database, a collection or a cursor of ``Moments``."""

    def __init__(self, raw: Any, moments: Moments, call: str = "") -> None:
        self._raw, self._moments, self._call = raw, moments, call

    def __getitem__(self, name: str) -> "_Observed":
        return _Observed(self._raw[name], self._moments)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._raw, name)
        if name == "database":
            return _Observed(value, self._moments)
        if name in ("with_options", "find"):
            return lambda *args, **options: _Observed(value(*args, **options), self._moments, name)
        if not callable(value):
            return value

        method = cast("Callable[..., Awaitable[Any]]", value)

        async def observed(*args: Any, **options: Any) -> Any:
            collection, call = getattr(self._raw, "name", ""), name
            if name == "command":
                call, collection = next(iter(args[0].items()))
            elif name == "to_list":
                collection, call = self._raw.collection.name, self._call
            await self._moments.act("before", collection, call)
            result = await method(*args, **options)
            await self._moments.act("after", collection, call)
            return result

        return observed


class MongoPlace:
    """A database of a test's own.

    Attributes:
        url: Of the server.
        name: Of the database.
        database: Reached without the adapter.
        clock: Tells its storages the time.
    """

    def __init__(self, url: str, name: str, client: MongoClient[dict[str, Any]]) -> None:
        self.url = url
        self.name = name
        self.clock = ManualClock()
        self.database: Database[dict[str, Any]] = client[name]
        self.sessions = self.database["luminora_sessions"]
        self.messages = self.database["luminora_messages"]
        self.memories = self.database["luminora_memories"]
        self.meta = self.database["luminora_meta"]

    def storage(self, driver: Literal["motor", "pymongo"] = "pymongo", **options: Any) -> MongoDBStorage:
        """Return a storage, not yet open, as another process would create it."""
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

    @asynccontextmanager
    async def interrupted(self, **options: Any) -> AsyncIterator[tuple[MongoDBStorage, Moments]]:
        """Give an open storage, and its client, which lets the test act between its commands."""
        moments = Moments(self.url, w="majority", journal=True)
        given = {"clock": self.clock, **options}
        async with moments, MongoDBStorage(client=moments, database=self.name, **given) as storage:
            yield storage, moments

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
