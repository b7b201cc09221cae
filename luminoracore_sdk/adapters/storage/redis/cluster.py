"""Requests to a Redis Cluster: each to the node that has its key's slot."""

import asyncio
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from itertools import chain, count
from typing import Any, TypeVar

from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import AskError, MovedError, RedisClusterException, TryAgainError

from luminoracore_sdk.adapters.storage.redis.errors import connecting
from luminoracore_sdk.adapters.storage.redis.link import Limits, Link
from luminoracore_sdk.adapters.storage.redis.records import BACKEND
from luminoracore_sdk.adapters.storage.redis.wire import Reply, Request, ready, talk
from luminoracore_sdk.domain.errors import StorageUnavailableError

__all__ = ["ClusterLink"]

T = TypeVar("T")

_ASKING = Request(b"", (b"ASKING",))
_PAUSE_SECONDS = 0.05


class ClusterLink(Link):
    """Sends to the nodes of a cluster, and follows MOVED and ASK.

    redis-py finds the nodes and makes the connections. Following is done here: redis-py 8.1 sends ASKING
    over another connection than the request that it is for when several are open.

    When the cluster's layout changes, redis-py before 8.1 cuts the connections of requests under way, which
    are then in doubt; nothing else here needs the newer one.

    Args:
        limits: How much and how long.
        client: Whose nodes these are.
        owned: Whether the client is closed with the link.
    """

    has_places = True

    def __init__(self, limits: Limits, client: RedisCluster, *, owned: bool) -> None:
        super().__init__(limits)
        self._client = client
        self._owned = owned
        self._is_stale = True

    def place(self, key: bytes) -> str:
        """Return the name of the node that has a key's slot, as far as is known."""
        try:
            return str(self._client.nodes_manager.get_node_from_slot(self._client.keyslot(key)).name)
        except (KeyError, RedisClusterException):
            return ""

    async def _send(self, requests: Sequence[Request], *, writes: bool, follow: bool = True) -> list[Reply]:
        replies: list[Reply] = [None] * len(requests)
        todo: Mapping[int, tuple[str, int] | None] = dict.fromkeys(range(len(requests)))
        end = asyncio.get_running_loop().time() + self._limits.seconds
        for attempt in count():
            groups = await self._groups(requests, todo, replies)
            if len(groups) == 1:
                answers = [await self._ask(*groups[0], requests, writes=writes)]
            else:
                answers = await _all_of(self._ask(*group, requests, writes=writes) for group in groups)
            for place, reply in chain.from_iterable(answers):
                replies[place] = reply
            todo = self._redirected(replies, todo)
            if not (todo and follow) or asyncio.get_running_loop().time() > end:
                break
            if attempt:
                await asyncio.sleep(_PAUSE_SECONDS)
        return replies

    async def _groups(
        self,
        requests: Sequence[Request],
        todo: Mapping[int, tuple[str, int] | None],
        replies: list[Reply],
    ) -> list[tuple[ClusterNode, bool, list[int]]]:
        """Return which requests go to which node, and whether they ask for what is just arriving there.

        A request for which no node is found gets the error for an answer.
        """
        groups: dict[tuple[str, bool], tuple[ClusterNode, bool, list[int]]] = {}
        try:
            if self._is_stale:
                await self._within(self._refresh())
        except StorageUnavailableError as exc:
            for place in todo:
                replies[place] = exc
            return []
        for place, asked in todo.items():
            try:
                if asked is None:
                    node = self._holder(requests[place].key)
                else:
                    node = await self._within(self._node(*asked))
            except StorageUnavailableError as exc:
                replies[place] = exc
                continue
            asking = asked is not None
            groups.setdefault((node.name, asking), (node, asking, []))[2].append(place)
        return list(groups.values())

    async def _within(self, asking: Coroutine[Any, Any, T]) -> T:
        """Await what asks the cluster about its nodes, as long as connecting may take."""
        with connecting(self._limits.connect_seconds):
            async with asyncio.timeout(self._limits.connect_seconds):
                return await asking

    def _holder(self, key: bytes) -> ClusterNode:
        try:
            return self._client.nodes_manager.get_node_from_slot(self._client.keyslot(key))
        except (KeyError, RedisClusterException) as exc:  # redis-py's, as it happens
            self._is_stale = True  # somebody may have it the next time
            raise StorageUnavailableError(BACKEND, "no node of the cluster has the slot of a key") from exc

    async def _node(self, host: str, port: int) -> ClusterNode:
        node = self._client.get_node(host, port)
        if node is None:  # it has joined since
            self._is_stale = True
            await self._refresh()
            node = self._client.get_node(host, port)
        if node is None:
            raise RedisClusterException(f"the cluster names a node {host}:{port} that it does not list")
        return node

    async def _refresh(self) -> None:
        """Ask the cluster which node has which slot, if what is known may be wrong."""
        if self._is_stale:
            self._is_stale = False
            try:
                if self._owned:
                    await self._client.nodes_manager.initialize()
                else:
                    await self._client.initialize()
                    await self._client.nodes_manager.initialize()
            except BaseException:
                self._is_stale = True
                raise

    async def _ask(
        self,
        node: ClusterNode,
        asking: bool,  # noqa: FBT001 - part of a group
        places: list[int],
        requests: Sequence[Request],
        *,
        writes: bool,
    ) -> list[tuple[int, Reply]]:
        before = (_ASKING,) if asking else ()
        sent = [request for place in places for request in (*before, requests[place])]
        try:
            with connecting(self._limits.connect_seconds):
                connection = node.acquire_connection()
            try:
                answers = await self._talk(connection, sent, writes=writes)
            finally:
                node.release(connection)
        except StorageUnavailableError as exc:
            answers = [exc] * len(sent)
        answers = answers[len(before) :: len(before) + 1]
        if any(isinstance(answer, StorageUnavailableError) for answer in answers):
            self._is_stale = True  # the node may be gone, and another in its place
        return list(zip(places, answers, strict=True))

    async def _talk(self, connection: AbstractConnection, sent: Sequence[Request], *, writes: bool) -> list[Reply]:
        limits = connection.socket_connect_timeout, connection.socket_timeout
        if self._owned:  # redis-py's own limits are for questions about the slots
            connection.socket_connect_timeout = connection.socket_timeout = None
        try:
            await ready(connection, self._limits.connect_seconds)
            return await talk(connection, sent, self._limits.seconds, writes=writes)
        finally:
            connection.socket_connect_timeout, connection.socket_timeout = limits

    def _redirected(self, replies: Sequence[Reply], done: Iterable[int]) -> Mapping[int, tuple[str, int] | None]:
        """Return the requests that must be sent again, and where to; None: where their slot is.

        While a slot is being moved, the cluster takes no request for several keys of which some are at
        one end and some at the other, or nowhere; it says TRYAGAIN.
        """
        again: dict[int, tuple[str, int] | None] = {}
        for place in done:
            reply = replies[place]
            if isinstance(reply, MovedError):
                self._is_stale = True
                again[place] = None
            elif isinstance(reply, AskError):
                again[place] = (reply.host, reply.port)
            elif isinstance(reply, TryAgainError):
                again[place] = None
        return again

    async def _close(self) -> None:
        if self._owned:
            await self._client.aclose()
            for kind in ("nodes_cache", "startup_nodes"):
                await self._client.nodes_manager.aclose(kind)

    def _connections(self) -> Iterable[AbstractConnection]:
        if self._owned:
            manager = self._client.nodes_manager
            # a node may stand in both under one name, as two objects with connections of their own
            for node in (*manager.nodes_cache.values(), *manager.startup_nodes.values()):
                yield from node._connections  # noqa: SLF001 - redis-py has no other way


async def _all_of(calls: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Await calls at once; when one fails, or this is cancelled, the others have ended too."""
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    results: list[T] = []
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
        results.append(outcome)
    return results
