"""MongoDB, and each of its two drivers alone."""

import itertools
import json
from collections import defaultdict
from collections.abc import Sequence
from importlib.metadata import version
from inspect import isawaitable
from pathlib import Path
from typing import Any

from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient

from benchmarks.speed_parts.backends.server import ServerBackend
from benchmarks.speed_parts.contender import Contender
from luminoracore_sdk.adapters.storage.mongodb import MongoDBStorage
from tests.support.servers.mongo import MongoServer

__all__ = ["MongoDB", "MongoDBWithMotor"]

_OWN = {"serverStatus", "hello", "isMaster", "ismaster", "ping", "buildInfo", "fsync", "dbStats"}
_JOURNALED: dict[str, Any] = {"w": "majority", "journal": True}


class Floor(Contender):
    system = layer = "floor"

    def __init__(self, client: Any, database: str = "raw") -> None:
        self._client = client
        self._messages = client[database]["messages"]
        self._positions: dict[str, itertools.count[int]] = defaultdict(lambda: itertools.count(1))

    async def open(self) -> None:
        await self._messages.create_index([("session", 1), ("position", 1)], unique=True)

    async def close(self) -> None:
        if isawaitable(closed := self._client.close()):  # with PyMongo, not with motor
            await closed

    async def begin(self, session: str) -> None:
        """Do nothing: a session is there with its first message."""

    async def append(self, session: str, text: str) -> None:
        await self._messages.insert_one(self._document(session, text))

    async def fill(self, session: str, texts: Sequence[str]) -> None:
        await self._messages.insert_many([self._document(session, text) for text in texts])

    async def newest(self, session: str, count: int) -> list[Any]:
        cursor = self._messages.find({"session": session}).sort("position", -1).limit(count)
        return [json.loads(found["text"]) for found in await cursor.to_list(None)]

    async def page(self, session: str, after: int, count: int) -> list[Any]:
        found = self._messages.find({"session": session, "position": {"$gt": after}})
        cursor = found.sort("position", 1).limit(count)
        return [json.loads(found["text"]) for found in await cursor.to_list(None)]

    def _document(self, session: str, text: str) -> dict[str, Any]:
        position = next(self._positions[session])
        return {"session": session, "position": position, "role": "user", "text": json.dumps(text)}


class Defaults(Floor):
    system = layer = "defaults"


class MongoDB(ServerBackend):
    name = "mongodb"
    title = "MongoDB, PyMongo"
    durability = "w=majority, journal=true"
    default_durability = "the server's write concern: up to 0.1 s are not yet in the journal"

    def _make(self, folder: Path) -> MongoServer:
        self.server = MongoServer(folder)
        return self.server

    @property
    def place(self) -> str:
        return self.server.url

    @staticmethod
    def storage_at(place: str) -> MongoDBStorage:
        return MongoDBStorage(place, database="ours")

    def floor(self) -> Floor:
        return Floor(AsyncMongoClient(self.server.url, **_JOURNALED))

    def defaults(self) -> Defaults:
        return Defaults(AsyncMongoClient(self.server.url), "defaults")

    def versions(self) -> str:
        with self.server.client() as client:
            server = client.server_info()["version"]
        return f"MongoDB {server}, pymongo {version('pymongo')}"

    def bytes_used(self, of: str) -> int:
        with self.server.client() as client:
            client.admin.command("fsync")
            stats = client["raw" if of == "floor" else of].command("dbStats")
        return int(stats["storageSize"] + stats["indexSize"])

    def calls(self) -> int:
        with self.server.client() as client:
            commands = client.admin.command("serverStatus")["metrics"]["commands"]
        return sum(
            int(count["total"])
            for name, count in commands.items()
            if name not in _OWN and isinstance(count, dict) and "total" in count
        )


class MongoDBWithMotor(MongoDB):
    name = "mongodb-motor"
    title = "MongoDB, motor"

    @staticmethod
    def storage_at(place: str) -> MongoDBStorage:
        return MongoDBStorage(place, database="ours", driver="motor")

    def floor(self) -> Floor:
        return Floor(AsyncIOMotorClient(self.server.url, **_JOURNALED))

    def defaults(self) -> Defaults:
        return Defaults(AsyncIOMotorClient(self.server.url), "defaults")

    def versions(self) -> str:
        return f"{super().versions()}, motor {version('motor')}"
