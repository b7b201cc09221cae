"""What RedisStorage takes and refuses."""

import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest
import redis
import redis.asyncio
from redis.asyncio.connection import SSLConnection

from luminoracore_sdk.adapters.storage.redis import RedisStorage
from luminoracore_sdk.adapters.storage.redis.lua import script
from luminoracore_sdk.domain.errors import ConfigurationError

_URL = "redis://127.0.0.1:1/0"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, "a url or a client"),
        ({"url": _URL, "client": redis.asyncio.Redis()}, "a url or a client"),
        ({"client": redis.Redis()}, "not a redis.client.Redis"),
        ({"client": redis.asyncio.Redis(), "db": 1}, "db goes with a url"),
        ({"url": _URL, "db": 1}, "names database 0, db is 1"),
        ({"url": "redis://h", "db": -1}, "from 0, not -1"),
        ({"url": "redis+cluster://h", "db": 1}, "database 0 only"),
        ({"url": "redis+cluster://h/1"}, "database 0 only"),
        ({"url": _URL, "prefix": ""}, "prefix '' is refused"),
        ({"url": _URL, "prefix": "a{b}"}, "no braces"),
        ({"url": _URL, "prefix": "a}"}, "no braces"),
        ({"url": _URL, "prefix": "a\0"}, "printable"),
        ({"url": _URL, "prefix": "x" * 201}, "1 to 200"),
        ({"url": _URL, "buckets": 0}, "from 1 to 16384, not 0"),
        ({"url": _URL, "buckets": 16_385}, "from 1 to 16384"),
        ({"url": _URL, "max_connections": 0}, "at least 1, not 0"),
        ({"url": _URL, "timeout": 0}, "timeout is a number of seconds above 0, not 0"),
        ({"url": _URL, "connect_timeout": float("inf")}, "connect_timeout is a number"),
        ({"url": "redis://h?protocol=3"}, "'protocol' is no option"),
    ],
)
def test_an_option_that_cannot_work_is_refused(options: Mapping[str, Any], reason: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        RedisStorage(**options)
    assert reason in str(caught.value)


def test_a_database_may_be_said_twice_if_it_is_the_same() -> None:
    assert RedisStorage("redis://h/2", db=2)._db == 2
    assert RedisStorage("redis+cluster://h/0", db=0)._db == 0


def test_without_its_package_the_constructor_names_the_extra() -> None:
    program = (
        "import sys; sys.modules['redis'] = None\n"
        "from luminoracore_sdk.adapters.storage.redis import RedisStorage\n"
        "RedisStorage('redis://h')"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert run.stderr.strip().endswith(
        "MissingDependencyError: RedisStorage needs the 'redis' extra: pip install \"luminoracore-sdk[redis]\""
    )


def test_scripts_bear_no_flags_and_differ() -> None:
    names = ["open", "put_session", "drop_session", "append", "read", "truncate"]
    names += ["put_memory", "delete_memory", "clear_memories", "purge_memory"]
    scripts = [script(name) for name in names]
    assert len({one.digest for one in scripts}) == len(names)
    assert [one.name for one in scripts if one.source.startswith(b"#!")] == []
    assert script("append") is scripts[3]


@pytest.mark.parametrize("tls", [False, True])
def test_with_tls_every_connection_is_encrypted(tls: bool) -> None:
    scheme, options = ("rediss", "?ssl_check_hostname=no") if tls else ("redis", "")

    def link(rest: str) -> Any:
        return RedisStorage(f"{scheme}{rest}{options}")._new_link()

    single, sentinel, cluster = link("://h"), link("+sentinel://h/main"), link("+cluster://h:1,i:2")
    pools = [single._pool, sentinel._pool, *(one.connection_pool for one in sentinel._sentinels)]
    classes = [pool.connection_class for pool in pools]
    classes += [node.connection_class for node in cluster._client.nodes_manager.startup_nodes.values()]
    assert [issubclass(kind, SSLConnection) for kind in classes] == [tls] * 5
    assert [pool.connection_kwargs.get("ssl_check_hostname") for pool in pools] == [False if tls else None] * 3
