"""Valkey, and redis-py alone."""

import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

from redis import Redis as Watch
from redis.asyncio import BlockingConnectionPool
from redis.asyncio import Redis as Client

from benchmarks.speed_parts.backends.server import ServerBackend
from benchmarks.speed_parts.contender import Contender
from luminoracore_sdk.adapters.storage.redis import RedisStorage
from tests.support.servers.process import wait_until
from tests.support.servers.valkey import ValkeyServer

__all__ = ["Redis"]

_CONNECTIONS = 50  # as many as RedisStorage has by default

_SETTINGS = (
    *("--appendonly", "yes", "--appendfsync", "everysec"),
    *("--auto-aof-rewrite-percentage", "0"),  # so that the log's growth is what the appends wrote
)


class Floor(Contender):
    system = layer = "floor"

    def __init__(self, url: str) -> None:
        pool = BlockingConnectionPool.from_url(url, max_connections=_CONNECTIONS, timeout=None)
        self._client = Client.from_pool(pool)

    async def open(self) -> None:
        await cast("Any", self._client.ping())

    async def close(self) -> None:
        await self._client.aclose()

    async def begin(self, session: str) -> None:
        """Do nothing: a list is there with its first element."""

    async def append(self, session: str, text: str) -> None:
        await cast("Any", self._client.rpush(f"raw:{session}", json.dumps(text)))

    async def fill(self, session: str, texts: Sequence[str]) -> None:
        await cast("Any", self._client.rpush(f"raw:{session}", *map(json.dumps, texts)))

    async def newest(self, session: str, count: int) -> list[Any]:
        found = await cast("Any", self._client.lrange(f"raw:{session}", -count, -1))
        return [json.loads(text) for text in found]

    async def page(self, session: str, after: int, count: int) -> list[Any]:
        found = await cast("Any", self._client.lrange(f"raw:{session}", after, after + count - 1))
        return [json.loads(text) for text in found]


class Redis(ServerBackend):
    name = "redis"
    title = "Redis"
    durability = "appendonly yes, appendfsync everysec: the last second is not yet on the disk"
    default_durability = "as here; the append-only file is a setting of the server"

    def _make(self, folder: Path) -> ValkeyServer:
        self.server = ValkeyServer(folder, settings=_SETTINGS)
        return self.server

    @property
    def place(self) -> str:
        return self.server.url

    @staticmethod
    def storage_at(place: str) -> RedisStorage:
        return RedisStorage(place)

    def floor(self) -> Floor:
        return Floor(self.server.url)

    def versions(self) -> str:
        server = self.server.command("INFO", "server")["valkey_version"]
        return f"Valkey {server}, redis {version('redis')}"

    def bytes_used(self, of: str) -> int:  # noqa: ARG002  # both sides share it
        """Return the length of the append-only file."""
        return int(self.server.command("INFO", "persistence")["aof_current_size"])

    def settle(self) -> None:
        """Rewrite the append-only file: as shipped, a server does when it has doubled."""
        self.server.command("BGREWRITEAOF")
        wait_until(self._is_rewritten, "a rewritten append-only file")

    def _is_rewritten(self) -> bool:
        said = self.server.command("INFO", "persistence")
        return not said["aof_rewrite_in_progress"] and not said["aof_rewrite_scheduled"]

    def count_calls(self, *, on: bool) -> None:
        if on:
            self._watch = Watch(port=self.server.port)
            self._watched = 0
        else:
            self._watch.close()

    def calls(self) -> int:
        """Return how often the server read from its clients: requests that waited for an answer.

        Commands are no measure: the server counts those inside of scripts too.
        """
        self._watched += 1
        return int(self._watch.info("stats")["total_reads_processed"]) - self._watched
