"""Everything that a store has, as bytes, read around the adapter: files, tables, keys, collections, objects."""

import asyncio
import gc
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType
from typing import Any, cast

from luminoracore_sdk.session import InMemoryStorage, SessionStorage
from tests.support.backends import FILES, MEMORY, MONGODB, POSTGRES, REDIS, SQLITE, Backend
from tests.support.servers import mongodb_url, postgres_url, redis_url
from tests.support.servers.places import place_name

__all__ = ["raw_content"]


async def raw_content(backend: Backend, path: Path, storage: SessionStorage) -> bytes:
    """Return all that a store has, names included; of a backend without a place, what its storage object holds."""
    if backend.name == MEMORY.name:
        return b"\n".join(_objects(storage))
    return b"\n".join(await asyncio.to_thread(lambda: list(_READERS[backend.name](path))))


def _objects(storage: SessionStorage) -> Iterator[bytes]:
    """Yield every string that can be reached from a storage in memory, through its own objects and containers."""
    assert isinstance(storage, InMemoryStorage)
    seen: dict[int, Any] = {}
    waiting: list[Any] = [storage]
    while waiting:
        one = waiting.pop()
        if id(one) in seen or isinstance(one, type | FunctionType):  # a function refers to its whole module
            continue
        seen[id(one)] = one
        if isinstance(one, str):
            yield one.encode()
        elif isinstance(one, bytes):
            yield one
        elif type(one).__module__.partition(".")[0] in {"builtins", "collections", "luminoracore_sdk"}:
            waiting += gc.get_referents(one)


def _files(path: Path) -> Iterator[bytes]:
    """Yield names and bytes of a file or folder, and of all beside it whose names begin with its name."""
    for one in path.parent.glob(f"{path.name}*"):
        yield str(one).encode()
        for found in one.rglob("*") if one.is_dir() else [one]:
            yield str(found).encode()
            if found.is_file():
                yield found.read_bytes()


def _tables(path: Path) -> Iterator[bytes]:
    """Yield every row of every table of a schema; binary columns as they are."""

    async def read() -> list[str]:
        import asyncpg

        connection = await asyncpg.connect(postgres_url())
        try:
            name, found = place_name(path), list[str]()
            tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = $1", name)
            assert tables != []
            for (table,) in tables:
                rows = await connection.fetch(f'SELECT t::text FROM {name}."{table}" t')  # noqa: S608  # of this schema
                found += [table, *(row[0] for row in rows)]
            return found
        finally:
            await connection.close()

    for row in asyncio.run(read()):
        yield row.encode()
        yield from map(bytes.fromhex, re.findall(r"\\x((?:[0-9a-f]{2})+)", row))


def _keys(path: Path) -> Iterator[bytes]:
    """Yield every key with the prefix of a store, and all of its value."""
    import redis

    with redis.Redis.from_url(redis_url()) as client:
        reads: dict[Any, Callable[[Any], Any]] = {
            b"string": client.get,
            b"hash": client.hgetall,
            b"list": lambda key: client.lrange(key, 0, -1),
            b"set": client.smembers,
            b"zset": lambda key: client.zrange(key, 0, -1),
            b"stream": client.xrange,
        }
        keys = list(client.scan_iter(f"{place_name(path)}*", count=1000))
        assert keys != []
        for key in keys:
            kind = client.type(key)
            if kind != b"none":  # it has expired
                yield key
                yield repr(reads[kind](key)).encode()


def _collections(path: Path) -> Iterator[bytes]:
    """Yield the BSON of every document of every collection of a database."""
    from pymongo import MongoClient

    with MongoClient[dict[str, Any]](mongodb_url()) as client:
        database = client[place_name(path)]
        names = database.list_collection_names()
        assert names != []
        for name in names:
            yield name.encode()
            yield from cast("Iterator[bytes]", database[name].find_raw_batches({}))


_READERS: dict[str, Callable[[Path], Iterator[bytes]]] = {
    FILES.name: _files,
    SQLITE.name: _files,
    POSTGRES.name: _tables,
    REDIS.name: _keys,
    MONGODB.name: _collections,
}
