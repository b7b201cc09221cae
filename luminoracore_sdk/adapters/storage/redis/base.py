"""The life of the Redis backend: options, opening, and the calls of scripts."""

import asyncio
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from luminoracore_sdk.adapters.optional import import_extra
from luminoracore_sdk.adapters.storage.base import BaseStorage
from luminoracore_sdk.adapters.storage.redis.keys import Keyspace
from luminoracore_sdk.adapters.storage.redis.lua import script
from luminoracore_sdk.adapters.storage.redis.records import BACKEND
from luminoracore_sdk.adapters.storage.redis.url import RedisAddress, parse_address
from luminoracore_sdk.application.ports.clock import Clock
from luminoracore_sdk.domain.errors import ConfigurationError, SchemaVersionError, StorageClosedError

if TYPE_CHECKING:
    from redis.asyncio import Redis, RedisCluster

    from luminoracore_sdk.adapters.storage.redis.link import Limits, Link

__all__ = ["RedisBase"]

SCHEMA_VERSION = 1

_BUCKETS_OF_A_CLUSTER = 128
_MOST_BUCKETS = 16_384  # slots of a cluster
_LONGEST_PREFIX = 200


class RedisBase(BaseStorage):
    """Opens and closes; sends commands and calls scripts."""

    backend_name = BACKEND
    loop_bound = True

    grace_ms: ClassVar[int] = 10_000
    """How long after a session's end the server keeps its keys, in milliseconds.

    What has expired is decided by the storage's clock. The server removes what nobody can see any more,
    and must not do so before everybody's clock is there.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        client: "Redis | RedisCluster | None" = None,
        db: int | None = None,
        prefix: str = "luminoracore:",
        buckets: int | None = None,
        max_connections: int = 50,
        connect_timeout: float = 5.0,
        timeout: float = 30.0,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(clock=clock)
        if (url is None) == (client is None):
            raise ConfigurationError("RedisStorage takes a url or a client, and not both")
        if not isinstance(url, str | None):
            raise ConfigurationError(f"url is a text, not {type(url).__name__}; give a client as client=…")
        _check_prefix(prefix)
        if buckets is not None and not 1 <= buckets <= _MOST_BUCKETS:
            raise ConfigurationError(f"buckets is a number from 1 to {_MOST_BUCKETS}, not {buckets!r}")
        if max_connections < 1:
            raise ConfigurationError(f"max_connections is at least 1, not {max_connections!r}")
        for name, seconds in (("connect_timeout", connect_timeout), ("timeout", timeout)):
            if not (math.isfinite(seconds) and seconds > 0):
                raise ConfigurationError(f"{name} is a number of seconds above 0, not {seconds!r}")
        import_extra("redis.asyncio", needed_by="RedisStorage", extra="redis")
        from luminoracore_sdk.adapters.storage.redis import clients as redis_clients  # noqa: PLC0415 - imports the driver
        from luminoracore_sdk.adapters.storage.redis import link as redis_link  # noqa: PLC0415 - imports the driver
        from luminoracore_sdk.adapters.storage.redis import wire as redis_wire  # noqa: PLC0415 - imports the driver

        self._clients = redis_clients
        self._call = redis_wire.ScriptCall
        self._request = redis_wire.Request
        self._limits: Limits = redis_link.Limits(
            requests=max_connections, connect_seconds=connect_timeout, seconds=timeout
        )
        self._client = client
        self._address = self._checked_address(url, db)
        self._prefix = prefix
        self._buckets = buckets
        self._opened: tuple[Link, Keyspace] | None = None

    def _checked_address(self, url: str | None, db: int | None) -> RedisAddress | None:
        if url is None:
            self._clients.check_client(self._client)
            if db is not None:
                raise ConfigurationError("a client has its database already; db goes with a url")
            return None
        address = parse_address(url)
        if db is not None and address.db not in (None, db):
            raise ConfigurationError(f"the URL names database {address.db}, db is {db}")
        self._db = address.db if db is None else db
        if self._db is not None and self._db < 0:
            raise ConfigurationError(f"db is a number from 0, not {self._db}")
        if self._db and address.kind == "cluster":
            raise ConfigurationError("a Redis Cluster has database 0 only; keep stores apart by prefix")
        return address

    # -- life ------------------------------------------------------------------------------------

    async def _open(self) -> None:
        link = self._new_link()
        try:
            keyspace = await self._entered(link)
        except BaseException:
            await link.close()
            raise
        self._opened = link, keyspace

    def _new_link(self) -> "Link":
        if self._address is not None:
            return self._clients.link_to(self._address, self._limits, db=self._db)
        assert self._client is not None  # noqa: S101 - one of the two is given
        return self._clients.link_around(self._client, self._limits)

    async def _entered(self, link: "Link") -> Keyspace:
        """Check the layout of the store, or make it."""
        if self._address is None:
            is_cluster = self._clients.is_cluster(self._client)
        else:
            is_cluster = self._address.kind == "cluster"
        buckets = self._buckets or (_BUCKETS_OF_A_CLUSTER if is_cluster else 1)
        meta = Keyspace(self._prefix, buckets).meta
        call = self._call([meta], [b"%d" % SCHEMA_VERSION, b"%d" % buckets])
        [(found, kept)] = await link.run(script("open"), [call], writes=True)
        if found != b"%d" % SCHEMA_VERSION or not kept.isdigit():
            raise SchemaVersionError(
                backend=BACKEND,
                found=found.decode(errors="replace") or None,
                supported=SCHEMA_VERSION,
                hint=f"use the package that made it, or another prefix than {self._prefix!a}",
            )
        if self._buckets not in (None, int(kept)):
            raise ConfigurationError(
                f"the store at {self._prefix!a} has {int(kept)} buckets, not {self._buckets}; "
                "the number is fixed when a store is made"
            )
        return Keyspace(self._prefix, int(kept))

    async def _close(self) -> None:
        link = self._link
        try:
            await self._drain()
        except asyncio.CancelledError:
            link.drop()
            raise
        finally:
            self._opened = None
        await link.close()

    async def _drain(self) -> None:
        """Wait until nothing is left that will be sent."""

    def _abandon(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            opened[0].abandon()

    async def _ping(self) -> None:
        await self._schema_version()

    async def _schema_version(self) -> int:
        [found] = await self._read((self._keys.meta, b"HGET", b"schema_version"))
        return int(found or 0)

    # -- calls -----------------------------------------------------------------------------------

    @property
    def _link(self) -> "Link":
        if self._opened is None:
            raise StorageClosedError(BACKEND)
        return self._opened[0]

    @property
    def _keys(self) -> Keyspace:
        if self._opened is None:
            raise StorageClosedError(BACKEND)
        return self._opened[1]

    async def _read(self, *commands: tuple[bytes, ...]) -> list[Any]:
        """Send commands that read, each as its key, its name and its further words; not atomic together."""
        requests = [self._request(key, (verb, key, *words)) for key, verb, *words in commands]
        return await self._link.read(requests)

    async def _run(self, name: str, keys: Sequence[bytes], *arguments: bytes, writes: bool = True) -> Any:
        """Call a script, which is atomic."""
        [reply] = await self._link.run(script(name), [self._call(keys, arguments)], writes=writes)
        return reply

    async def _run_each(self, name: str, calls: Sequence[tuple[Sequence[bytes], Sequence[bytes]]]) -> list[Any]:
        """Call a script with each of several keys and arguments; each call is atomic."""
        if not calls:
            return []
        return await self._link.run(script(name), [self._call(*call) for call in calls], writes=True)


def _check_prefix(prefix: str) -> None:
    if not 1 <= len(prefix) <= _LONGEST_PREFIX or not prefix.isprintable() or set("{}") & set(prefix):
        raise ConfigurationError(
            f"prefix {prefix!a:.80} is refused: 1 to {_LONGEST_PREFIX} printable characters, no braces"
        )
