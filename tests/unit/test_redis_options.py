"""Options and URLs of the Redis backend."""

import asyncio
import subprocess
import sys
import traceback
from collections.abc import Mapping
from typing import Any

import pytest
import redis
import redis.asyncio
from redis.asyncio.sentinel import Sentinel

from luminoracore_sdk.adapters.storage.redis import RedisStorage
from luminoracore_sdk.adapters.storage.redis.client import script
from luminoracore_sdk.adapters.storage.redis.options import RedisAddress, parse_address
from luminoracore_sdk.domain.errors import ConfigurationError, StorageUnavailableError

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


def test_a_database_may_be_named_twice() -> None:
    assert parse_address("redis://h/2").with_db(2).db == 2
    assert parse_address("redis+cluster://h/0").with_db(0).db == 0
    assert parse_address("redis://h").with_db(3).db == 3


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


def test_importing_the_backend_imports_no_driver() -> None:
    program = "import sys, luminoracore_sdk.adapters.storage.redis as it; print('redis' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


def test_scripts_have_no_flags_and_differ() -> None:
    names = ["open", "put_session", "drop_session", "append", "read", "truncate"]
    names += [
        "change_memories",
        "touch_memories",
        "page_memories",
        "delete_memory",
        "clear_memories",
        "count_memories",
        "purge_memory",
    ]
    scripts = [script(name) for name in names]
    assert len({one.digest for one in scripts}) == len(names)
    assert [one for one in scripts if one.source.startswith(b"#!")] == []


@pytest.mark.parametrize(
    ("url", "knows_master"),
    [
        ("rediss://127.0.0.1:{}", False),
        ("rediss+cluster://127.0.0.1:{}", False),
        ("rediss+sentinel://127.0.0.1:{}/main", False),
        ("rediss+sentinel://127.0.0.1:{}/main", True),
    ],
)
async def test_with_tls_a_connection_begins_with_a_handshake(
    url: str, knows_master: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    first: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first.append(await reader.read(1))
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()

        async def discover_master(*_: object) -> tuple[str, int]:
            return str(host), int(port)

        if knows_master:
            monkeypatch.setattr(Sentinel, "discover_master", discover_master)
        with pytest.raises(StorageUnavailableError):
            await RedisStorage(url.format(port)).open()
    assert set(first) == {b"\x16"}


# -- URLs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://h", RedisAddress(kind="single", hosts=(("h", 6379),))),
        ("redis://h:1/2", RedisAddress(kind="single", hosts=(("h", 1),), db=2)),
        ("redis://h:1?db=3", RedisAddress(kind="single", hosts=(("h", 1),), db=3)),
        ("redis://", RedisAddress(kind="single", hosts=(("localhost", 6379),))),
        ("redis://[::1]:7/0", RedisAddress(kind="single", hosts=(("::1", 7),), db=0)),
        ("valkey://h", RedisAddress(kind="single", hosts=(("h", 6379),))),
        ("rediss://h", RedisAddress(kind="single", hosts=(("h", 6379),), tls=True)),
        ("valkeys://h", RedisAddress(kind="single", hosts=(("h", 6379),), tls=True)),
        ("unix:///run/redis.sock?db=1", RedisAddress(kind="single", path="/run/redis.sock", db=1)),
        (
            "redis://user:p%40ss%2F@h/0",
            RedisAddress(
                kind="single",
                hosts=(("h", 6379),),
                db=0,
                options={"username": "user", "password": "p@ss/"},
            ),
        ),
        (
            "redis://:secret@h",
            RedisAddress(kind="single", hosts=(("h", 6379),), options={"password": "secret"}),
        ),
        ("redis+cluster://a:1,b", RedisAddress(kind="cluster", hosts=(("a", 1), ("b", 6379)))),
        (
            "rediss+cluster://u:p@[::1]:1,b:2?ssl_check_hostname=False&ssl_ca_certs=%2Fca.pem",
            RedisAddress(
                kind="cluster",
                hosts=(("::1", 1), ("b", 2)),
                tls=True,
                options={
                    "username": "u",
                    "password": "p",
                    "ssl_check_hostname": False,
                    "ssl_ca_certs": "/ca.pem",
                },
            ),
        ),
        (
            "redis+sentinel://u:p@a,b:2/home/4?sentinel_password=q",
            RedisAddress(
                kind="sentinel",
                hosts=(("a", 26379), ("b", 2)),
                master="home",
                db=4,
                options={"username": "u", "password": "p"},
                sentinel_options={"password": "q"},
            ),
        ),
        (
            "valkeys+sentinel://a/home",
            RedisAddress(kind="sentinel", hosts=(("a", 26379),), master="home", tls=True),
        ),
    ],
)
def test_a_url_is_read(url: str, expected: RedisAddress) -> None:
    assert parse_address(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:6379",
        "http://h",
        "rediscluster://h",
        "redis+ring://h",
        "unix+cluster:///x",
        "redis://h:port",
        "redis://h:99999",
        "redis://h/name",
        "redis://h?db=x",
        "redis://h/0/1",
        "redis+sentinel://h",
        "redis+sentinel://h/",
        "redis://h?decode_responses=1",
        "redis://h?retry_on_timeout=1",
        "redis://h?socket_timeout=1",
        "redis://[::1",
    ],
)
def test_an_invalid_url_is_refused_and_not_repeated(url: str) -> None:
    whole = url.replace("://", "://name:s3cret@")
    with pytest.raises(ConfigurationError) as caught:
        parse_address(whole)
    assert "s3cret" not in f"{caught.value}{caught.value.details}"


@pytest.mark.parametrize(
    "url",
    [
        "redis://:s3#cret@h/0",
        "redis://:63#cret@h/0",
        "redis://:s3/cret@h/0",
        "redis://:63/cret@h/0",
        "redis+sentinel://:63#cret@h/main/0",
    ],
)
def test_an_error_never_contains_an_unencoded_password(url: str) -> None:
    with pytest.raises(ConfigurationError, match="%23") as caught:
        parse_address(url)
    assert "cret" not in "".join(traceback.format_exception_only(caught.value))
    assert (caught.value.__cause__, caught.value.__suppress_context__) == (None, True)


def test_the_repr_of_an_address_contains_no_password() -> None:
    address = parse_address("redis+sentinel://u:s3cret@a/home?sentinel_password=s4cret")
    assert "cret" not in repr(address)
