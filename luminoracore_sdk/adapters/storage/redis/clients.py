"""Links made from an address or around a client of the caller's."""

from typing import Any

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import (
    ConnectionPool,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff

from luminoracore_sdk.adapters.storage.redis.cluster import ClusterLink
from luminoracore_sdk.adapters.storage.redis.link import Limits, Link, PoolLink
from luminoracore_sdk.adapters.storage.redis.url import RedisAddress
from luminoracore_sdk.domain.errors import ConfigurationError

__all__ = ["check_client", "link_around", "link_to"]

_ASKED_FOR_SLOTS = 3  # nodes of a cluster, one after the other
_SPARE = 4  # connections of a cluster node for questions about the slots


def link_to(address: RedisAddress, limits: Limits, *, db: int | None) -> Link:
    """Return a link with connections of its own; none is opened yet."""
    if address.kind == "cluster":
        return ClusterLink(limits, _cluster(address, limits), owned=True)
    options = _options(address, limits)
    # without a time limit of redis-py's: the link has them, and a second one takes 20 µs a request
    options.update(db=db or 0, max_connections=limits.requests, socket_timeout=None)
    if address.kind == "sentinel":
        return _by_sentinels(address, limits, options)
    if address.path is not None:
        pool = ConnectionPool(connection_class=UnixDomainSocketConnection, path=address.path, **options)
        return PoolLink(limits, pool, owned=True)
    host, port = address.hosts[0]
    if address.tls:
        options["connection_class"] = SSLConnection
    return PoolLink(limits, ConnectionPool(host=host, port=port, **options), owned=True)


def check_client(client: object) -> None:
    """Refuse what is no client that this backend can use.

    Raises:
        ConfigurationError: It is not one of redis.asyncio.
    """
    if not isinstance(client, (Redis, RedisCluster)):
        kind = f"{type(client).__module__}.{type(client).__qualname__}"
        raise ConfigurationError(f"client is a redis.asyncio.Redis or RedisCluster, not a {kind}")


def link_around(client: "Redis | RedisCluster", limits: Limits) -> Link:
    """Return a link that uses a client's connections and leaves the client open."""
    if isinstance(client, RedisCluster):
        return ClusterLink(limits, client, owned=False)
    return PoolLink(limits, client.connection_pool, owned=False)


def is_cluster(client: object) -> bool:
    """Tell whether a client is one of a cluster."""
    return isinstance(client, RedisCluster)


def _options(address: RedisAddress, limits: Limits) -> dict[str, Any]:
    return {
        **address.options,
        # the answers are the same in both versions of the protocol, and the older one needs no greeting
        "protocol": 2,
        "socket_connect_timeout": limits.connect_seconds,
        # an answer's time limit is the link's; this one is for what redis-py asks on its own
        "socket_timeout": limits.seconds,
        "retry": Retry(NoBackoff(), 0),
    }


def _cluster(address: RedisAddress, limits: Limits) -> RedisCluster:
    options = _options(address, limits)
    # For questions about the slots only: a node that is silent leaves time to ask others.
    share = limits.connect_seconds / _ASKED_FOR_SLOTS
    options.update(socket_connect_timeout=share, socket_timeout=share)
    return RedisCluster(
        startup_nodes=[ClusterNode(host, port) for host, port in address.hosts],
        max_connections=limits.requests + _SPARE,
        require_full_coverage=False,
        ssl=address.tls,
        **options,
    )


def _by_sentinels(address: RedisAddress, limits: Limits, options: dict[str, Any]) -> Link:
    share = limits.connect_seconds / (len(address.hosts) + 1)  # one that is silent leaves time for the others
    asked = {
        **address.sentinel_options,
        "socket_connect_timeout": share,
        "socket_timeout": share,
        "protocol": 2,
        "retry": Retry(NoBackoff(), 0),
    }
    if address.tls:
        asked["ssl"] = True
        asked.update((name, value) for name, value in address.options.items() if name.startswith("ssl_"))
    sentinels = Sentinel(address.hosts, sentinel_kwargs=asked)  # type: ignore[no-untyped-call]
    pool = SentinelConnectionPool(  # type: ignore[no-untyped-call]
        address.master, sentinels, ssl=address.tls, **options
    )
    return PoolLink(limits, pool, owned=True, sentinels=sentinels)
