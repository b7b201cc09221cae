"""Requests to one Redis server, or to the nodes of a cluster; each is sent once.

redis-py's ``execute_command`` does not say whether a request had been sent when it failed, and on a cluster
redis-py 8.1 may send ASKING over another connection than the request. So requests go over connections taken
from redis-py's pools. Connecting and talking are two steps with a time limit each; a failure of the first one
has changed nothing.
"""

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cache
from hashlib import sha1
from importlib import resources
from typing import Any, ClassVar, NamedTuple

import attrs
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import AbstractConnection, ConnectionPool, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import (
    AskError,
    MovedError,
    NoScriptError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TryAgainError,
)

from luminoracore_sdk.adapters.storage.redis.errors import connecting, from_reply, talking
from luminoracore_sdk.adapters.storage.redis.options import RedisAddress, RedisLimits
from luminoracore_sdk.adapters.storage.redis.records import BACKEND
from luminoracore_sdk.adapters.storage.wakeups import Listener
from luminoracore_sdk.domain.errors import (
    ConfigurationError,
    StorageBusyError,
    StorageClosedError,
    StorageUnavailableError,
)

__all__ = ["Client", "client_factory", "script"]

_ASKED_FOR_SLOTS = 3  # nodes of a cluster that are asked within the time limit for connecting
_SPARE = 4  # connections of a cluster node for questions about the slots
_LEAST_CONNECTIONS = 2  # of a pool that lends one for as long as a session is watched
_LISTEN_SECONDS = 0.25  # until the channels of other sessions are heard
_PAUSE_SECONDS = 0.05  # between attempts while a slot is being moved

Reply = Any
"""What a server answers: bytes, int, None or a list of these; or the error that stands for a missing answer."""

Call = tuple[Sequence[bytes], Sequence[bytes]]
"""Keys (on a cluster, of one slot) and arguments of a script."""


class Request(NamedTuple):
    """A command and the key that decides which node of a cluster gets it."""

    key: bytes
    words: tuple[bytes, ...]


@attrs.frozen
class Script:
    """A Lua script and the digest by which a server knows it once it has run it."""

    source: bytes
    digest: bytes


@cache
def script(name: str) -> Script:
    """Return a script together with the files that its first line names.

    Scripts run on Redis 6.2 and newer. They have no ``#!lua`` line: without one, a server whose memory is used up
    refuses a script at its first write that needs memory, and runs those that begin by deleting.
    """
    folder = resources.files("luminoracore_sdk.adapters.storage.redis") / "scripts"
    source = (folder / f"{name}.lua").read_bytes()
    needed = source.partition(b"\n")[0].decode().removeprefix("-- needs:").split()
    whole = b"\n".join((*((folder / f"{part}.lua").read_bytes() for part in needed), source))
    return Script(whole, sha1(whole, usedforsecurity=False).hexdigest().encode())


class Client(ABC):
    """Send commands and calls of scripts.

    At most ``limits.requests`` are under way at a time. A reply may be an error of the storage port in the place of
    an answer; the other replies are valid then.

    Args:
        limits: How many requests at a time, and how long they may take.
        owned: Whether ``close`` closes the connections.
    """

    is_cluster: ClassVar[bool] = False

    def __init__(self, limits: RedisLimits, *, owned: bool) -> None:
        self._limits = limits
        self._owned = owned
        self._slots = asyncio.Semaphore(limits.requests)
        self._is_closed = False
        self._closing: asyncio.Task[None] | None = None

    async def read(self, commands: Sequence[tuple[bytes, ...]]) -> list[Reply]:
        """Send commands that read, each given as its key, its name and its other words; not atomic together."""
        requests = [Request(key, (name, key, *words)) for key, name, *words in commands]
        return await self._send(requests, writes=False)

    async def run(self, name: str, calls: Sequence[Call], *, writes: bool = True, follows: bool = True) -> list[Reply]:
        """Call a script with each of several keys and arguments.

        Each call is atomic. The calls for one server are one pipeline. A server that does not know the script is sent
        its source.

        Args:
            name: The script.
            calls: The keys and arguments of each call.
            writes: Whether a call without an answer is in doubt.
            follows: Whether a call is sent again when a cluster redirects it; else its reply is None, and nothing
                was done.
        """
        called = script(name)
        requests = [
            Request(keys[0], (b"EVALSHA", called.digest, b"%d" % len(keys), *keys, *arguments))
            for keys, arguments in calls
        ]
        return await self._send(requests, writes=writes, follows=follows, source=called.source)

    async def _send(
        self, requests: Sequence[Request], *, writes: bool, follows: bool = True, source: bytes = b""
    ) -> list[Reply]:
        await self._wait_for_slot()
        try:
            if self._is_closed:
                raise StorageClosedError(BACKEND)
            replies = await self._exchange(requests, writes=writes, follows=follows)
            unknown = [place for place, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
            if unknown and not self._is_closed:
                again = [Request(requests[at].key, (b"EVAL", source, *requests[at].words[2:])) for at in unknown]
                found = await self._exchange(again, writes=writes, follows=follows)
                for place, reply in zip(unknown, found, strict=True):
                    replies[place] = reply
        finally:
            self._slots.release()
        for place, reply in enumerate(replies):
            if isinstance(reply, ResponseError):
                replies[place] = from_reply(reply, requests[place].key, in_doubt=writes)
        return replies

    async def _wait_for_slot(self) -> None:
        if not self._slots.locked():
            await self._slots.acquire()  # does not wait
            return
        try:
            async with asyncio.timeout(self._limits.seconds):
                await self._slots.acquire()
        except TimeoutError as exc:
            reason = f"none of {self._limits.requests} connections was free within {self._limits.seconds:g} s"
            raise StorageBusyError(BACKEND, reason) from exc

    def node_of(self, key: bytes) -> str:  # noqa: ARG002 - for clusters
        """Return the name of the node that has a key, as far as is known; empty for a single server."""
        return ""

    async def listen(self, listener: Listener, channel: Callable[[str], bytes]) -> None:  # noqa: ARG002 - for servers
        """Listen to the channels of sessions; returns at once where the server cannot tell, as on a cluster.

        Args:
            listener: Receives the changes.
            channel: Returns the channel of a session.
        """
        return

    async def wait_until_idle(self) -> None:
        """Wait until no request is under way; none can be sent afterwards."""
        for _ in range(self._limits.requests):
            await self._slots.acquire()

    async def close(self) -> None:
        """Close the connections at once, those in use too; if this is cancelled, closing continues."""
        self._is_closed = True
        if self._owned:
            self._closing = asyncio.create_task(self._disconnect())
            with contextlib.suppress(RedisError, OSError):  # the server may be gone; the sockets are closed
                await asyncio.shield(self._closing)

    @abstractmethod
    async def _exchange(self, requests: Sequence[Request], *, writes: bool, follows: bool) -> list[Reply]:
        """Send requests and return the replies; what the server answers as an error is a ``ResponseError``."""

    @abstractmethod
    async def _disconnect(self) -> None: ...


class ServerClient(Client):
    """Send to the server of a connection pool."""

    def __init__(self, pool: ConnectionPool, limits: RedisLimits, *, owned: bool, sentinels: Sequence[Redis] = ()):
        super().__init__(limits, owned=owned)
        self._pool = pool
        self._sentinels = sentinels

    async def _exchange(self, requests: Sequence[Request], *, writes: bool, follows: bool) -> list[Reply]:  # noqa: ARG002
        try:
            connection = await self._acquire()
        except StorageUnavailableError as exc:
            return [exc] * len(requests)
        try:
            return await _talk(connection, requests, self._limits.seconds, writes=writes)
        finally:
            await self._pool.release(connection)

    async def _acquire(self) -> AbstractConnection:
        with connecting(self._limits.connect_seconds):
            if not self._owned:  # other users of the pool may hold all its connections for a moment
                async with asyncio.timeout(self._limits.connect_seconds):
                    return await self._pool.get_connection()  # type: ignore[no-any-return, no-untyped-call]
            connection: AbstractConnection = self._pool.get_available_connection()  # type: ignore[no-untyped-call]
            try:
                await _connect(connection, self._limits.connect_seconds)
            except BaseException:
                await self._pool.release(connection)
                raise
            return connection

    async def listen(self, listener: Listener, channel: Callable[[str], bytes]) -> None:
        """Listen to the channels of sessions on one connection, if others are left."""
        if self._pool.max_connections < _LEAST_CONNECTIONS:
            return
        names: dict[bytes, str] = {}
        try:
            async with Redis(connection_pool=self._pool).pubsub() as channels:
                while True:
                    wanted = {channel(session_id): session_id for session_id in listener.sessions}
                    if new := wanted.keys() - names.keys():
                        await channels.subscribe(*new)
                    if gone := names.keys() - wanted.keys():
                        await channels.unsubscribe(*gone)
                    names = wanted
                    message = await channels.get_message(timeout=_LISTEN_SECONDS)
                    if message and message["type"] in ("subscribe", "message"):  # changes before the first are unheard
                        name = message["channel"]
                        name = name.encode() if isinstance(name, str) else name
                        if name in names:
                            listener.heard(names[name])
        except (RedisError, OSError) as exc:
            raise StorageUnavailableError(BACKEND, f"no channel can be heard: {type(exc).__name__}") from exc

    async def _disconnect(self) -> None:
        await self._pool.aclose()
        for sentinel in self._sentinels:
            await sentinel.aclose()


class ClusterClient(Client):
    """Send to the nodes of a cluster, and follow MOVED, ASK and TRYAGAIN for as long as an answer may take."""

    is_cluster = True

    def __init__(self, cluster: RedisCluster, limits: RedisLimits, *, owned: bool) -> None:
        super().__init__(limits, owned=owned)
        self._cluster = cluster
        self._is_stale = True  # what redis-py knows about the slots

    async def _exchange(self, requests: Sequence[Request], *, writes: bool, follows: bool) -> list[Reply]:
        replies: list[Reply] = [None] * len(requests)
        todo: dict[int, ClusterNode | None] = dict.fromkeys(range(len(requests)))  # None: the node of the slot
        loop = asyncio.get_running_loop()
        end = loop.time() + self._limits.seconds
        attempts = 0
        while todo and not self._is_closed and (not attempts or loop.time() < end):
            if attempts > 1:
                await asyncio.sleep(_PAUSE_SECONDS)
            attempts += 1
            groups = await self._groups(requests, todo, replies)
            if len(groups) == 1:  # without a task
                await self._exchange_with(*groups[0], requests, replies, writes=writes)
            else:
                async with asyncio.TaskGroup() as tasks:
                    for group in groups:
                        tasks.create_task(self._exchange_with(*group, requests, replies, writes=writes))
            todo = self._redirected(todo, replies)
            if not follows:
                for place in todo:
                    replies[place] = None
                break
        return replies

    async def _groups(
        self, requests: Sequence[Request], todo: dict[int, ClusterNode | None], replies: list[Reply]
    ) -> list[tuple[ClusterNode, bool, list[int]]]:
        """Return which requests go to which node, and whether they ask for keys that are just moving there.

        A request for which there is no node gets the error as its reply.
        """
        try:
            await self._refresh()
        except StorageUnavailableError as exc:
            for place in todo:
                replies[place] = exc
            return []
        groups: dict[tuple[str, bool], tuple[ClusterNode, bool, list[int]]] = {}
        for place, target in todo.items():
            node = target or self._known_node(requests[place].key)
            if node is None:
                self._is_stale = True
                replies[place] = StorageUnavailableError(BACKEND, "no node of the cluster has the slot of a key")
            else:
                is_asking = target is not None
                groups.setdefault((node.name, is_asking), (node, is_asking, []))[2].append(place)
        return list(groups.values())

    async def _refresh(self) -> None:
        """Ask the cluster which node has which slot, if what redis-py knows may be wrong."""
        if not self._is_stale:
            return
        self._is_stale = False
        try:
            with connecting(self._limits.connect_seconds):
                async with asyncio.timeout(self._limits.connect_seconds):
                    if not self._owned:
                        await self._cluster.initialize()
                    await self._cluster.nodes_manager.initialize()
        except BaseException:
            self._is_stale = True
            raise

    def _known_node(self, key: bytes) -> ClusterNode | None:
        try:
            return self._cluster.nodes_manager.get_node_from_slot(self._cluster.keyslot(key))
        except (KeyError, RedisClusterException):  # redis-py raises either
            return None

    def node_of(self, key: bytes) -> str:
        """Return the name of the node that has a key, as far as is known."""
        node = self._known_node(key)
        return node.name if node else ""

    async def _exchange_with(
        self,
        node: ClusterNode,
        is_asking: bool,  # noqa: FBT001 - part of a group
        places: Sequence[int],
        requests: Sequence[Request],
        replies: list[Reply],
        *,
        writes: bool,
    ) -> None:
        asking = (Request(b"", (b"ASKING",)),) if is_asking else ()
        sent = [request for place in places for request in (*asking, requests[place])]
        try:
            answers = await self._talk_to(node, sent, writes=writes)
        except StorageUnavailableError as exc:
            answers = [exc] * len(sent)
        if any(isinstance(answer, StorageUnavailableError) for answer in answers):
            self._is_stale = True  # another node may have taken over
        for place, answer in zip(places, answers[len(asking) :: len(asking) + 1], strict=True):
            replies[place] = answer

    async def _talk_to(self, node: ClusterNode, requests: Sequence[Request], *, writes: bool) -> list[Reply]:
        with connecting(self._limits.connect_seconds):
            connection = node.acquire_connection()
        limits = connection.socket_connect_timeout, connection.socket_timeout
        # these limits are for redis-py's questions about the slots
        connection.socket_connect_timeout = connection.socket_timeout = None
        try:
            with connecting(self._limits.connect_seconds):
                await _connect(connection, self._limits.connect_seconds)
            return await _talk(connection, requests, self._limits.seconds, writes=writes)
        finally:
            connection.socket_connect_timeout, connection.socket_timeout = limits
            node.release(connection)

    def _redirected(self, done: dict[int, ClusterNode | None], replies: list[Reply]) -> dict[int, ClusterNode | None]:
        """Return the requests to send again, each with the node that asks for it or None.

        While a slot is being moved, a node answers TRYAGAIN to a request for keys of which some have moved.
        """
        again: dict[int, ClusterNode | None] = {}
        for place in done:
            reply = replies[place]
            if isinstance(reply, MovedError):
                self._is_stale = True
                again[place] = None
            elif isinstance(reply, AskError):
                again[place] = self._cluster.get_node(reply.host, reply.port)
                self._is_stale |= again[place] is None  # a node that has joined since
            elif isinstance(reply, TryAgainError):
                again[place] = None
        return again

    async def _disconnect(self) -> None:
        for kind in ("nodes_cache", "startup_nodes"):
            await self._cluster.nodes_manager.aclose(kind)


async def _connect(connection: AbstractConnection, seconds: float) -> None:
    """Connect, and connect anew if the server has closed the connection."""
    should_reconnect = getattr(connection, "should_reconnect", bool)  # redis-py 7.1
    can_read = getattr(connection, "can_read", None) or connection.can_read_destructive  # redis-py 8
    if connection.is_connected and (should_reconnect() or await can_read()):
        await connection.disconnect(nowait=True)
    if not connection.is_connected:
        async with asyncio.timeout(seconds):
            await connection.connect()  # type: ignore[no-untyped-call]


async def _talk(
    connection: AbstractConnection, requests: Sequence[Request], seconds: float, *, writes: bool
) -> list[Reply]:
    """Send requests over a connection and return the answers, as bytes even if the client decodes.

    When this fails or is cancelled, redis-py closes the connection, so that a late answer is never taken for that
    of another request. Answers that came before stay; the other requests have the error.
    """
    replies: list[Reply] = []
    try:
        with talking(seconds, in_doubt=writes):
            async with asyncio.timeout(seconds):
                await connection.send_packed_command(_packed(requests), check_health=False)
                for _ in requests:
                    try:
                        replies.append(await connection.read_response(disable_decoding=True))
                    except ResponseError as exc:
                        replies.append(exc)
    except StorageUnavailableError as exc:
        replies += [exc] * (len(requests) - len(replies))
    return replies


def _packed(requests: Sequence[Request]) -> bytes:
    """Return requests as they are sent: what ``pack_commands`` does, in a quarter of the time for short words."""
    parts: list[bytes] = []
    for request in requests:
        parts.append(b"*%d" % len(request.words))
        for word in request.words:
            parts.append(b"$%d" % len(word))
            parts.append(word)
    return b"\r\n".join((*parts, b""))


# -- clients from an address, or around a client of the caller ------------------------------------------------------


def client_factory(
    address: RedisAddress | None, client: "Redis | RedisCluster | None", limits: RedisLimits
) -> Callable[[], Client]:
    """Return a function that makes a client; it connects when it sends.

    Args:
        address: Where the store is; None: ``client`` is used.
        client: A client of the caller, whose connections are used and left open.
        limits: See ``Client``.

    Raises:
        ConfigurationError: The client is not one of ``redis.asyncio``.
    """
    if address is not None:
        return lambda: _client_to(address, limits)
    if isinstance(client, RedisCluster):
        return lambda: ClusterClient(client, limits, owned=False)
    if isinstance(client, Redis):
        return lambda: ServerClient(client.connection_pool, limits, owned=False)
    kind = f"{type(client).__module__}.{type(client).__qualname__}"
    raise ConfigurationError(f"client is a redis.asyncio.Redis or RedisCluster, not a {kind}")


def _client_to(address: RedisAddress, limits: RedisLimits) -> Client:
    common: dict[str, Any] = {"protocol": 2, "retry": Retry(NoBackoff(), 0)}  # version 2 needs no greeting
    if address.kind == "cluster":
        share = limits.connect_seconds / _ASKED_FOR_SLOTS  # leaves time to ask others when a node is silent
        cluster = RedisCluster(
            startup_nodes=[ClusterNode(host, port) for host, port in address.hosts],
            max_connections=limits.requests + _SPARE,
            require_full_coverage=False,
            ssl=address.tls,
            socket_connect_timeout=share,
            socket_timeout=share,
            **common,
            **address.options,
        )
        return ClusterClient(cluster, limits, owned=True)
    # the limits of ``Client`` apply; redis-py's own would be applied a second time, at 20 µs a request
    options = {
        **common,
        **address.options,
        "db": address.db or 0,
        "max_connections": limits.requests + 1,  # one to listen
        "socket_connect_timeout": limits.connect_seconds,
        "socket_timeout": None,
    }
    if address.kind == "sentinel":
        share = limits.connect_seconds / (len(address.hosts) + 1)  # leaves time when a sentinel is silent
        asked = {"socket_connect_timeout": share, "socket_timeout": share, **common, **address.sentinel_options}
        if address.tls:
            asked |= {name: value for name, value in address.options.items() if name.startswith("ssl_")}
            asked["ssl"] = True
        sentinels = Sentinel(address.hosts, sentinel_kwargs=asked)  # type: ignore[no-untyped-call]
        pool = SentinelConnectionPool(address.master, sentinels, ssl=address.tls, **options)  # type: ignore[no-untyped-call]
        return ServerClient(pool, limits, owned=True, sentinels=sentinels.sentinels)
    if address.path is not None:
        options |= {"connection_class": UnixDomainSocketConnection, "path": address.path}
    else:
        options["host"], options["port"] = address.hosts[0]
        if address.tls:
            options["connection_class"] = SSLConnection
    return ServerClient(ConnectionPool(**options), limits, owned=True)
