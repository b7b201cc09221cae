"""The command copies the demonstration's corpus through every kind of backend and back."""

import asyncio
import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from parts.corpus import spread_over_languages

from luminoracore_sdk.session import Message, SessionManager, create_storage
from tests.support.command import luminora_over
from tests.support.servers import mongodb_url, postgres_url
from tests.support.servers.places import clear_mongodb, clear_postgres, place_name

CONVERSATIONS = 120


@pytest.fixture(scope="module")
def redis_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Start servers for this module: a URL names no prefix, so that other tests would see the keys."""
    valkey = pytest.importorskip("tests.support.servers.valkey", exc_type=ImportError)
    folder = tmp_path_factory.mktemp("valkey")
    with valkey.ValkeyServer(folder / "alone") as alone, valkey.ValkeyCluster(folder / "cluster") as cluster:
        yield [alone.url, cluster.url]


@pytest.fixture
def ring(tmp_path: Path, redis_servers: list[str]) -> Iterator[list[str]]:
    """Yield the URL of every persistent kind of backend, empty, with files at both ends."""
    name = place_name(tmp_path)
    postgres, mongodb = postgres_url(), urlsplit(mongodb_url())
    yield [
        f"file://{tmp_path}/first",
        f"sqlite:///{tmp_path}/store.db",
        f"{postgres}{'&' if '?' in postgres else '?'}schema={name}",
        *redis_servers,
        mongodb._replace(path=f"/{name}").geturl(),
        f"file://{tmp_path}/last",
    ]
    clear_postgres(postgres, name)
    clear_mongodb(mongodb.geturl(), name)


async def fill(url: str) -> None:
    """Store the corpus."""
    async with create_storage(url) as storage:
        manager = SessionManager(storage)
        for talk in spread_over_languages(CONVERSATIONS):
            session_id = await manager.create_session(
                {"name": talk.language}, {"name": "echo"}, session_config={"tags": [talk.category]}
            )
            said = [Message(("user", "assistant")[number % 2], line) for number, line in enumerate(talk.lines)]
            await manager.conversation_manager.append(session_id, said)
            await manager.memory_manager.store_memory(session_id, "language", talk.language)


def test_the_corpus_survives_a_copy_through_all_backends(ring: list[str]) -> None:
    asyncio.run(fill(ring[0]))
    luminora = luminora_over("memory://")
    reports = [json.loads(luminora("copy", one, other, "--json").stdout) for one, other in pairwise(ring)]
    assert [report["sessions"] for report in reports] == [{"copied": CONVERSATIONS}] * len(reports)
    assert len({report["digest"] for report in reports}) == 1
    first, last = (luminora_over(url)("sessions", "export").stdout for url in (ring[0], ring[-1]))
    assert first == last
    assert first.count("\n") == CONVERSATIONS
