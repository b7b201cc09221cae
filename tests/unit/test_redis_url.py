"""The addresses of Redis."""

import traceback

import pytest

from luminoracore_sdk.adapters.storage.redis.url import RedisAddress, parse_address
from luminoracore_sdk.domain.errors import ConfigurationError


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
def test_an_address_is_read(url: str, expected: RedisAddress) -> None:
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
def test_what_is_no_address_is_refused_without_being_repeated(url: str) -> None:
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
def test_a_password_that_should_have_been_encoded_is_in_no_error_and_leads_nowhere(url: str) -> None:
    with pytest.raises(ConfigurationError, match="%23") as caught:
        parse_address(url)
    assert "cret" not in "".join(traceback.format_exception_only(caught.value))
    assert (caught.value.__cause__, caught.value.__suppress_context__) == (None, True)


def test_an_address_shows_no_password() -> None:
    address = parse_address("redis+sentinel://u:s3cret@a/home?sentinel_password=s4cret")
    assert "cret" not in repr(address)
