"""What an encrypted store shows to whoever reads its disk or its server: none of the words."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from luminoracore_sdk.session import ConversationManager, MemoryManager, SessionManager, SessionStorage
from luminoracore_sdk.testing.clock import ManualClock
from luminoracore_sdk.types.session import MemoryConfig
from tests.support.backends import FILES, MONGODB, POSTGRES, REDIS, SQLITE, Backend, encrypted, optimized
from tests.support.servers import mongodb_url, postgres_url, redis_url
from tests.support.servers.places import place_name

PLACES = ("content", "metadata", "name", "memorykey", "memoryvalue", "label", "prompt", "document")
WORDS = [f"zanzibar{place}" for place in PLACES]
LONG_WORD = "zanzibarlong" * 40


def dump_files(path: Path) -> bytes:
    files = [found for found in path.parent.rglob("*") if found.is_file()]
    names = "\n".join(str(found.relative_to(path.parent)) for found in files)
    return names.encode() + b"".join(found.read_bytes() for found in files)


def dump_postgres(path: Path) -> bytes:
    import asyncpg

    async def rows() -> bytes:
        connection = await asyncpg.connect(postgres_url(), server_settings={"search_path": place_name(path)})
        try:
            tables = await connection.fetch(
                "SELECT table_name FROM information_schema.tables WHERE table_schema = $1", place_name(path)
            )
            found = [await connection.fetch(f'SELECT * FROM "{table[0]}"') for table in tables]  # noqa: S608
            return "\n".join(repr(tuple(row)) for table in found for row in table).encode()
        finally:
            await connection.close()

    with ThreadPoolExecutor(1) as apart:
        return apart.submit(asyncio.run, rows()).result()


def dump_redis(path: Path) -> bytes:
    import redis

    with redis.Redis.from_url(redis_url()) as client:
        read: dict[Any, Callable[[Any], Any]] = {
            b"string": client.get,
            b"hash": client.hgetall,
            b"list": lambda key: client.lrange(key, 0, -1),
            b"set": client.smembers,
            b"zset": lambda key: client.zrange(key, 0, -1, withscores=True),
            b"stream": client.xrange,
        }
        keys = list(client.scan_iter(f"{place_name(path)}*", count=1000))
        return b"\n".join(b"%r %r" % (key, read[client.type(key)](key)) for key in keys)


def dump_mongodb(path: Path) -> bytes:
    import bson
    from pymongo import MongoClient

    with MongoClient[dict[str, object]](mongodb_url()) as client:
        database = client[place_name(path)]
        return b"\n".join(
            bson.encode(document) for name in database.list_collection_names() for document in database[name].find()
        )


STORES = [
    (FILES, dump_files),
    (SQLITE, dump_files),
    (POSTGRES, dump_postgres),
    (REDIS, dump_redis),
    (MONGODB, dump_mongodb),
]


@pytest.fixture(params=STORES, ids=[backend.name for backend, _ in STORES])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Backend, Callable[[], bytes]]]:
    backend, dump = request.param
    path = tmp_path / "place" / "store"
    path.parent.mkdir()
    yield Backend(backend.name, lambda _: backend.at(path)), lambda: dump(path)
    backend.clear(path)


async def fill(storage: SessionStorage) -> None:
    """Put a word into every place that takes text of the user's."""
    sessions = SessionManager(storage=storage)
    conversation = ConversationManager(storage=storage)
    memory = MemoryManager(MemoryConfig(), storage=storage)
    session_id = await sessions.create_session(
        {"name": "zanzibarname", "system_prompt": "say zanzibarprompt"},
        {"name": "echo"},
        {"session_id": "known-id", "user_id": "known-user", "tags": ["zanzibarlabel", LONG_WORD]},
    )
    await conversation.add_message(session_id, "user", "the zanzibarcontent", {"of": "zanzibarmetadata"})
    await memory.store_memory(session_id, "zanzibarmemorykey", {"is": "zanzibarmemoryvalue"})
    await memory.store_memory(session_id, LONG_WORD, "zanzibarmemoryvalue")
    await storage.save_session("document", {"zanzibardocument": LONG_WORD})
    assert await sessions.list_sessions(tag=LONG_WORD) == [session_id]
    await sessions.close()


async def dumped(backend: Backend, dump: Callable[[], bytes]) -> bytes:
    async with backend.at(Path())(ManualClock()) as storage:
        await fill(storage)
        return dump()


async def test_a_plain_store_shows_every_word(store: tuple[Backend, Callable[[], bytes]]) -> None:
    found = await dumped(*store)
    assert [word for word in (*WORDS, LONG_WORD) if word.encode() not in found] == []


@pytest.mark.parametrize("wrap", [encrypted, lambda backend: optimized(encrypted(backend))], ids=["alone", "both"])
async def test_an_encrypted_store_shows_ids_and_none_of_the_words(
    store: tuple[Backend, Callable[[], bytes]], wrap: Callable[[Backend], Backend]
) -> None:
    backend, dump = store
    found = await dumped(wrap(backend), dump)
    assert b"zanzibar" not in found
    assert [shown for shown in (b"known-user", b"aes256gcm:2026") if shown not in found] == []
