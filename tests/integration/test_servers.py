"""The servers that the tests start are what the tests take them for."""

from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest
import redis

from tests.support.servers import (
    mongodb_replica_set_url,
    mongodb_url,
    postgres_url,
    redis_cluster_url,
    redis_url,
)
from tests.support.servers.mongo import MongoServer
from tests.support.servers.postgres import PostgresServer
from tests.support.servers.process import ServerProcess
from tests.support.servers.valkey import ValkeyServer


@pytest.mark.parametrize("url", [postgres_url, redis_url, redis_cluster_url, mongodb_url, mongodb_replica_set_url])
def test_a_shared_server_is_started_once(url: Callable[[], str]) -> None:
    assert url() == url()


@pytest.mark.parametrize("kind", [PostgresServer, ValkeyServer, MongoServer])
def test_a_server_of_ones_own_comes_back_on_its_port(kind: type[ServerProcess], tmp_path: Path) -> None:
    with kind(tmp_path / "server") as server:
        port, first = server.port, server.pid
        server.kill()
        server.start()
        assert (server.port, server.pid != first) == (port, True)
        server.freeze()
        server.thaw()
        server.stop()


async def test_the_guarded_role_of_postgresql_needs_its_password(tmp_path: Path) -> None:
    with PostgresServer(tmp_path / "server") as server:
        connection = await asyncpg.connect(server.url)
        try:
            await connection.execute("CREATE ROLE guarded LOGIN PASSWORD 's3cret'")
        finally:
            await connection.close()
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(server.url_of("postgres", "guarded", "wrong"))
        connection = await asyncpg.connect(server.url_of("postgres", "guarded", "s3cret"))
        await connection.close()


def test_the_cluster_shares_out_all_slots() -> None:
    address = redis_cluster_url().removeprefix("redis+cluster://").split(",")[0]
    host, port = address.split(":")
    with redis.Redis(host=host, port=int(port), decode_responses=True) as client:
        assert "cluster_slots_ok:16384" in str(client.execute_command("CLUSTER", "INFO"))
