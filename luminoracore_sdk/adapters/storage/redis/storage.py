"""The Redis backend: one server, a cluster, or a master that sentinels know; Valkey too."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from secrets import randbits, token_hex
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from luminoracore_sdk.adapters.optional import import_extra
from luminoracore_sdk.adapters.storage.base import (
    Append,
    BaseStorage,
    MemoryChange,
    MessageUpdate,
    Tail,
    check_fence,
    check_fork,
    is_live,
    matches,
    memory_conflict,
    replay_receipt,
)
from luminoracore_sdk.adapters.storage.group_commit import GroupCommit, own_copy
from luminoracore_sdk.adapters.storage.packed import encoding_bytes, packed
from luminoracore_sdk.adapters.storage.redis.keys import (
    Keyspace,
    bounds,
    bounds_of_prefix,
    memory_entry,
    stamp,
    stamps,
    unstamp,
)
from luminoracore_sdk.adapters.storage.redis.listing import HOT_US, IndexRange, entries, grown, is_within
from luminoracore_sdk.adapters.storage.redis.options import RedisLimits, check_buckets, check_prefix, parse_address
from luminoracore_sdk.adapters.storage.redis.records import (
    BACKEND,
    HEADER,
    LISTED_HEADER,
    TURN_HEADER,
    WHOLE_HEADER,
    added_words,
    damaged,
    index_record,
    light_record,
    memory_record,
    memory_value,
    message_element,
    message_record,
    number_or_none,
    optional_payload,
    session_record,
    session_summary,
    summary_texts,
    text_values,
)
from luminoracore_sdk.adapters.storage.wakeups import Listener
from luminoracore_sdk.application.ports.clock import Clock
from luminoracore_sdk.application.ports.records import (
    AppendReceipt,
    HeaderTexts,
    IndexRecord,
    IndexRewrite,
    Lease,
    MemoryQuery,
    MemoryRecord,
    MemoryScope,
    MessageRange,
    MessageRecord,
    Page,
    Payload,
    Purged,
    RewriteMessage,
    SessionQuery,
    SessionRecord,
    TailReceipt,
    TurnRecords,
    with_indexes,
)
from luminoracore_sdk.application.ports.rewriting import PayloadRewrite
from luminoracore_sdk.domain.errors import (
    ConfigurationError,
    LeaseHeldError,
    LuminoraCoreSDKError,
    SchemaVersionError,
    SessionNotFoundError,
    StorageBusyError,
    StorageClosedError,
    StorageUnavailableError,
)

if TYPE_CHECKING:
    from redis.asyncio import Redis, RedisCluster

    from luminoracore_sdk.adapters.storage.redis.client import Client

__all__ = ["COPY_MS", "RedisStorage"]

SCHEMA_VERSION = 1

_CLUSTER_BUCKETS = 128
_MAX_POSITION = 2**52  # beyond every position, and exact as a number of Lua
_PART_BYTES = 2**20  # of messages in one answer, which may be twice as long
_ATTEMPTS = 3  # to read a long history in parts while it is being cut off
_PURGED_AT_ONCE = 1000  # of all buckets together, or ten of each
_REWRITTEN_AT_ONCE = 200  # messages in one call of the script, which seeks each of them in the list
COPY_MS = 60_000  # the server removes the copy of a fork that was not completed
_GROUPS_UNDER_WAY = 2  # the server works on one while the other is prepared; 1 to 4 measured the same
_LEAST_SHARE = 8  # appends in each of two groups: 16 writers take a quarter less time, 4 in each a fifth


class RedisStorage(BaseStorage):
    """Keep sessions on a Redis server, a Redis Cluster, or a master that sentinels watch.

    Every write is one call of a script: all or nothing, also on a cluster, at the same cost whatever the history
    holds; a large batch to rewrite is divided. Reads go to the master. How long an acknowledged write lasts depends
    on the server (``appendonly``, ``appendfsync``, replicas); it must not evict keys (``maxmemory-policy
    noeviction``).

    Belongs to the event loop on which it was opened. Needs the ``redis`` extra, and Redis 6.2 or newer, or Valkey.

    Args:
        url: ``redis://user:password@host:port/db``, ``rediss://`` for TLS, ``unix:///path?db=0``,
            ``redis+cluster://host:port,host:port``, ``redis+sentinel://host:port,host:port/master/db``;
            ``rediss+cluster://`` and ``rediss+sentinel://`` too. ``valkey`` stands for ``redis``.
        client: A client of ``redis.asyncio`` instead of a URL. Only its connections are used; it is left open.
        db: Number of the database, unless the URL names it.
        prefix: Begins every key, so that a database may hold several stores: printable, without braces.
        buckets: Number of parts into which a new store is divided; a session's data are in one of them, on one
            node. 1 on one server, 128 on a cluster, when None. Fixed when the store is made.
        max_connections: Most requests at a time, over one connection each.
        connect_timeout: Seconds for a new connection.
        timeout: Seconds to wait for a free connection, and then for an answer.
        clock: Tells the time; the system clock when None.

    Raises:
        ConfigurationError: An option that cannot work; on opening, another number of buckets.
        MissingDependencyError: The extra is not installed.
    """

    backend_name = BACKEND
    loop_bound = True

    grace_ms: ClassVar[int] = 10_000
    """How long the server keeps the keys of an expired session, in milliseconds.

    The storage's clock decides what has expired. The server only frees memory, and must not do so before the clocks
    of all processes have passed the session's end.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        client: "Redis | RedisCluster | None" = None,
        db: int | None = None,
        prefix: str = "luminoracore:",
        buckets: int | None = None,
        max_connections: int = 50,
        connect_timeout: float = 5.0,
        timeout: float = 30.0,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(clock=clock)
        if (url is None) == (client is None):
            raise ConfigurationError("RedisStorage takes a url or a client, and not both")
        if not isinstance(url, str | None):
            raise ConfigurationError(f"url is a string, not {type(url).__name__}; pass a client as client=…")
        if client is not None and db is not None:
            raise ConfigurationError("a client has its database already; db goes with a url")
        check_prefix(prefix)
        check_buckets(buckets)
        limits = RedisLimits(requests=max_connections, connect_seconds=connect_timeout, seconds=timeout)
        address = None if url is None else parse_address(url).with_db(db)
        import_extra("redis.asyncio", needed_by="RedisStorage", extra="redis")
        from luminoracore_sdk.adapters.storage.redis.client import client_factory  # noqa: PLC0415 - imports the driver

        self._make_client: Callable[[], Client] = client_factory(address, client, limits)
        self._timeout = timeout
        self._prefix = prefix
        self._buckets = buckets
        self._opened: tuple[Client, Keyspace] | None = None
        self._commits: dict[
            str, GroupCommit[Append, AppendReceipt]
        ] = {}  # by node: a silent one delays only its own sessions
        self._nodes: dict[int, str] = {}  # by bucket, as first found: its appends stay in order if it moves

    # -- lifecycle -----------------------------------------------------------------------------------

    async def _open(self) -> None:
        client = self._make_client()
        try:
            self._opened = client, await self._open_store(client)
        except BaseException:
            await client.close()
            raise

    async def _open_store(self, client: "Client") -> Keyspace:
        """Check the layout of the store, or create it."""
        buckets = self._buckets or (_CLUSTER_BUCKETS if client.is_cluster else 1)
        arguments = (b"%d" % SCHEMA_VERSION, b"%d" % buckets)
        [reply] = await client.run("open", [([Keyspace(self._prefix, buckets).meta], arguments)])
        found, kept = _checked(reply)
        if found != b"%d" % SCHEMA_VERSION or not kept.isdigit():
            raise SchemaVersionError(
                backend=BACKEND,
                found=found.decode(errors="replace") or None,
                supported=SCHEMA_VERSION,
                hint=f"use the package that made it, or another prefix than {self._prefix!a}",
            )
        if self._buckets not in (None, int(kept)):
            raise ConfigurationError(
                f"the store at {self._prefix!a} has {int(kept)} buckets, not {self._buckets}; "
                "the number is fixed when a store is made"
            )
        return Keyspace(self._prefix, int(kept))

    async def _close(self) -> None:
        client = self._client
        try:
            await asyncio.gather(*(commit.drain() for commit in self._commits.values()))
            self._opened = None  # calls that need another request fail
            await client.wait_until_idle()
        finally:
            self._opened, self._commits, self._nodes = None, {}, {}
            await client.close()

    async def _ping(self) -> None:
        await self._schema_version()

    async def _schema_version(self) -> int:
        [found] = await self._read((self._keys.meta, b"HGET", b"schema_version"))
        return int(found or 0)

    # -- requests ------------------------------------------------------------------------------------

    @property
    def _client(self) -> "Client":
        if self._opened is None:
            raise StorageClosedError(BACKEND)
        return self._opened[0]

    @property
    def _keys(self) -> Keyspace:
        if self._opened is None:
            raise StorageClosedError(BACKEND)
        return self._opened[1]

    async def _read(self, *commands: tuple[bytes, ...]) -> list[Any]:
        """Send commands that read, each given as its key, its name and its other words."""
        return [_checked(reply) for reply in await self._client.read(commands)]

    async def _run(self, name: str, keys: Sequence[bytes], *arguments: bytes, writes: bool = True) -> Any:
        [reply] = await self._client.run(name, [(keys, arguments)], writes=writes)
        return _checked(reply)

    def _done(self, session_id: str, reply: Sequence[Any]) -> Sequence[Any]:
        """Return a script's reply after its first word, or raise what that word means."""
        if reply[0] == b"absent":
            raise self._not_found(session_id)
        if reply[0] == b"damaged":
            raise damaged(f"session {session_id!a}", "its header does not match its messages")
        return reply[1:]

    async def _listen(self, listener: Listener) -> None:
        await self._client.listen(listener, lambda session_id: self._keys.session(session_id).session)

    # -- sessions ------------------------------------------------------------------------------------

    async def _put_session(self, record: SessionRecord, expected_version: int | None, now_us: int) -> SessionRecord:
        keys = self._keys.session(record.session_id)
        reply = await self._run("put_session", keys, *self._put_words(record, expected_version, now_us))
        return self._put(record, expected_version, reply)

    def _put_words(
        self, record: SessionRecord, expected_version: int | None, now_us: int, last: int = 0
    ) -> list[bytes]:
        """Return the arguments of ``put_session``; ``last`` and the summary are for a new session."""
        payload = record.payload or Payload("", b"")
        return [
            record.session_id.encode(),
            b"%d" % now_us,
            stamp(now_us),
            b"%d" % self.grace_ms,
            number_or_none(expected_version),
            (record.user_id or "").encode(),
            "\0".join(record.tags).encode(),
            number_or_none(record.ttl_us),
            stamp(record.created_at_us or now_us),
            encoding_bytes(payload),
            payload.data,
            optional_payload(record.card),
            *summary_texts(record.summary),
            b"%d" % last,
            b"%d" % randbits(48),  # of a history that begins here; each change of it adds 1
        ]

    def _put(self, record: SessionRecord, expected_version: int | None, reply: Sequence[Any]) -> SessionRecord:
        """Return a header as ``put_session`` has stored it, or raise what refused it."""
        if reply[0] == b"conflict":
            raise self._version_conflict(record.session_id, expected_version or 0, int(reply[1]))
        version, created, updated, last, *summary = self._done(record.session_id, reply)
        return attrs.evolve(
            record,
            version=int(version),
            created_at_us=unstamp(created),
            updated_at_us=int(updated),
            last_position=int(last),
            summary=session_summary(record.session_id, *summary),
        )

    async def _find_session(self, session_id: str, now_us: int) -> SessionRecord | None:
        key = self._keys.session(session_id).session
        [values] = await self._read((key, b"HMGET", *WHOLE_HEADER))
        found = session_record(session_id, WHOLE_HEADER, values)
        return found if found and is_live(found.updated_at_us, found.ttl_us, now_us) else None

    async def _delete_session(self, session_id: str, now_us: int) -> bool:
        arguments = (session_id.encode(), b"%d" % now_us, b"any")
        was_live, _ = await self._run("drop_session", self._keys.session(session_id), *arguments)
        return bool(was_live)

    async def _query_sessions(self, query: SessionQuery, now_us: int) -> Page:
        found: list[SessionRecord] = []
        async for header in self._matching(query, now_us):
            if len(found) == query.limit:
                return Page(sessions=tuple(found), next_cursor=query.key(found[-1]))
            found.append(header)
        return Page(sessions=tuple(found), next_cursor=None)

    async def _matching(self, query: SessionQuery, now_us: int) -> AsyncIterator[SessionRecord]:
        """Yield the live headers that match a query.

        An index may name sessions that the server has removed, or that were changed, or deleted and put again since:
        the header decides. Headers of hot sessions wait until no other one can come before them.
        """
        count, read = query.limit + 1, self._listed if query.texts else self._light
        waiting: list[SessionRecord] = []
        async for portion in entries(self._read, self._keys, IndexRange.of_sessions(query), count):
            start = 0
            while some := portion[start : start + count]:
                start, count = start + count, grown(count)
                names = [entry.name.decode() for entry in some]
                for entry, header in zip(some, await read(names), strict=True):
                    if (
                        header
                        and entry.earliest <= stamp(query.key(header)[0]) <= entry.latest
                        and is_live(header.updated_at_us, header.ttl_us, now_us)
                        and matches(header, query)
                        and is_within(header, query)
                    ):
                        waiting.append(header)
                waiting.sort(key=query.key, reverse=query.newest_first)
                end = unstamp(some[-1].time), names[-1]
                while waiting and (
                    query.key(waiting[0]) >= end if query.newest_first else query.key(waiting[0]) <= end
                ):
                    yield waiting.pop(0)
        for header in waiting:
            yield header

    async def _listed(self, names: Sequence[str]) -> list[SessionRecord | None]:
        """Return the headers of sessions as a listing shows them; None: there is none."""
        commands = [(self._keys.session(name).session, b"HMGET", *LISTED_HEADER) for name in names]
        replies = await self._read(*commands)
        return [session_record(name, LISTED_HEADER, values) for name, values in zip(names, replies, strict=True)]

    async def _light(self, names: Sequence[str]) -> list[SessionRecord | None]:
        """Do the same without texts, with one call for each bucket: in a quarter of the time."""
        buckets: dict[bytes, dict[str, bytes]] = {}
        for name in names:
            keys = self._keys.session(name)
            buckets.setdefault(keys.bucket_index, {})[name] = keys.session
        calls = [(list(of_one.values()), ()) for of_one in buckets.values()]
        replies = await self._client.run("light_headers", calls, writes=False)
        found = {
            name: None if value is None else light_record(name, value)
            for of_one, reply in zip(buckets.values(), replies, strict=True)
            for name, value in zip(of_one, _checked(reply), strict=True)
        }
        return [found[name] for name in names]

    async def _rewrite_session(self, session_id: str, old: Payload, new: Payload, now_us: int) -> bool:
        arguments = (b"%d" % now_us, encoding_bytes(old), old.data, encoding_bytes(new), new.data)
        reply = await self._run("rewrite_session", (self._keys.session(session_id).session,), *arguments)
        return self._replaced(session_id, reply) > 0

    async def _rewrite_texts(self, session_id: str, old: HeaderTexts, new: HeaderTexts, now_us: int) -> bool:
        arguments = (b"%d" % now_us, *text_values(old), *text_values(new))
        reply = await self._run("rewrite_texts", (self._keys.session(session_id).session,), *arguments)
        return self._replaced(session_id, reply) > 0

    def _replaced(self, session_id: str, reply: Sequence[Any]) -> int:
        """Return how many payloads a script has replaced; none of an absent session."""
        return 0 if reply[0] == b"absent" else int(self._done(session_id, reply)[0])

    async def _fork_session(
        self, source_id: str, record: SessionRecord, at: int, rewrite: RewriteMessage | None, now_us: int
    ) -> SessionRecord:
        for attempt in range(_ATTEMPTS + 1):
            is_last = attempt == _ATTEMPTS  # the whole history in one step, as it changes all the time
            copy = self._keys.copy(record.session_id, token_hex(16))
            keys: tuple[bytes, ...] = (*self._keys.session(record.session_id), *copy)
            size_bytes = _MAX_POSITION if is_last else _PART_BYTES
            source = self._keys.session(source_id)
            is_near = source.bucket_index in keys
            if is_near and rewrite is None:
                copied = await self._copy_on_server(source_id, copy, at, now_us, size_bytes)
            else:
                copied = await self._copy_through_client(source_id, copy, at, rewrite, now_us, size_bytes)
            if copied is None:
                continue
            history, roles = copied
            counters = {**record.summary.counters, **roles}
            made = attrs.evolve(record, summary=attrs.evolve(record.summary, counters=counters))
            if is_near and not is_last:
                keys = (*keys, source.session)
            reply = await self._run("put_session", keys, *self._put_words(made, 0, now_us, at), history)
            if reply[0] != b"changed":
                return self._put(made, 0, reply)
        raise StorageBusyError(BACKEND, f"the copy of session {source_id!a} was removed before it was complete")

    async def _copy_on_server(
        self, source_id: str, copy: Sequence[bytes], at: int, now_us: int, size_bytes: int
    ) -> tuple[bytes, dict[str, int]] | None:
        """Copy messages within a node; return the number of their history, and how many are of each role.

        None stands for a history that was changed meanwhile.
        """
        source = self._keys.session(source_id)
        history, copied, roles = b"", 0, dict[str, int]()
        while True:
            words = (b"%d" % (copied + 1), b"%d" % at, b"%d" % size_bytes, history)
            reply = await self._run(
                "fork_part",
                (source.session, source.messages, source.ids, *copy),
                b"%d" % now_us,
                b"%d" % COPY_MS,
                *words,
            )
            if reply[0] == b"changed":
                return None
            history, last, copied, counted = self._done(source_id, reply)
            check_fork(BACKEND, source_id, at, last)
            for role, count in zip(*[iter(counted)] * 2, strict=True):
                roles[role.decode()] = roles.get(role.decode(), 0) + count
            if copied == at:
                return history, roles

    async def _copy_through_client(  # the facts of one copy
        self,
        source_id: str,
        copy: Sequence[bytes],
        at: int,
        rewrite: RewriteMessage | None,
        now_us: int,
        size_bytes: int,
    ) -> tuple[bytes, dict[str, int]] | None:
        """Do the same between nodes, or with messages that are rewritten."""
        known, copied, roles = None, 0, dict[str, int]()
        while True:
            span = MessageRange(after=copied, before=at + 1)
            history, _, stop, indexes, elements = await self._read_part(
                source_id, span, now_us, size_bytes, "read_index", whole=True
            )
            if known not in (None, history):
                return None
            known = history
            check_fork(BACKEND, source_id, at, stop)
            messages = await asyncio.to_thread(_rewritten, source_id, copied + 1, elements, indexes, rewrite)
            self._check_batch(messages)
            if messages:
                await self._run("stage", copy, b"%d" % COPY_MS, b"%d" % (copied + 1), *_message_words(messages))
            for message in messages:
                roles[message.role] = roles.get(message.role, 0) + 1
            copied += len(messages)
            if copied == at:
                return history, roles

    # -- leases --------------------------------------------------------------------------------------

    async def _acquire_lease(self, session_id: str, holder: str, ttl_us: int, now_us: int) -> Lease:
        until_us = now_us + ttl_us
        arguments = (b"%d" % now_us, holder.encode(), b"%d" % until_us)
        reply = await self._run("acquire_lease", (self._keys.session(session_id).session,), *arguments)
        if reply[0] == b"held":
            raise LeaseHeldError(backend=BACKEND, session_id=session_id, until_us=int(reply[1]), now_us=now_us)
        [fence] = self._done(session_id, reply)
        return Lease(fence=fence, holder=holder, until_us=until_us)

    async def _release_lease(self, session_id: str, fence: int, now_us: int) -> bool:
        arguments = (b"%d" % now_us, b"%d" % fence)
        reply = await self._run("release_lease", (self._keys.session(session_id).session,), *arguments)
        return self._replaced(session_id, reply) > 0

    # -- messages ------------------------------------------------------------------------------------

    async def _append_messages(self, append: Append) -> AppendReceipt:
        bucket = self._keys.bucket_of(append.session_id)
        node = self._nodes.get(bucket)
        if node is None:
            node = self._nodes[bucket] = self._client.node_of(self._keys.session(append.session_id).session)
        commit = self._commits.get(node)
        if commit is None:
            commit = self._commits[node] = GroupCommit(
                BACKEND,
                alone=self._append_alone,
                together=self._append_group,
                most_requests=_GROUPS_UNDER_WAY,
                least_share=_LEAST_SHARE,
                timeout=self._timeout,
            )
        return await commit.write(append)

    async def _append_alone(self, append: Append) -> AppendReceipt:
        [reply] = await self._client.run("append", [self._append_call([append])])
        [answer] = self._answers(append.session_id, reply)
        return self._receipt(append, answer)

    async def _append_group(self, appends: Sequence[Append]) -> list[AppendReceipt | LuminoraCoreSDKError | None]:
        """Append in one pipeline, with one call of the script for each session, which keeps their order.

        None stands for an append that a cluster redirects: others do not wait until its keys have moved.
        """
        by_session: dict[str, list[int]] = {}
        for place, append in enumerate(appends):
            by_session.setdefault(append.session_id, []).append(place)
        calls = [self._append_call([appends[place] for place in places]) for places in by_session.values()]
        replies = await self._client.run("append", calls, follows=False)
        outcomes: list[AppendReceipt | LuminoraCoreSDKError | None] = [None] * len(appends)
        for places, reply in zip(by_session.values(), replies, strict=True):
            for number, place in enumerate(places if reply is not None else ()):
                try:
                    answer = self._answers(appends[place].session_id, reply)[number]
                    outcomes[place] = self._receipt(appends[place], answer)
                except LuminoraCoreSDKError as exc:
                    outcomes[place] = exc
        return outcomes

    def _append_call(self, appends: Sequence[Append]) -> tuple[Sequence[bytes], Sequence[bytes]]:
        """Return keys and arguments for appends to one session."""
        arguments = self._change_words(appends[-1].now_us)
        for append in appends:
            arguments += (number_or_none(append.expected_last), number_or_none(append.fence))
            arguments += added_words(append.messages)
            arguments.append(b"%d" % len(append.messages))
            arguments += _message_words(append.messages)
        return self._keys.session(appends[0].session_id), arguments

    def _change_words(self, now_us: int) -> list[bytes]:
        """Return the arguments with which the scripts that change a history begin."""
        return [b"%d" % now_us, stamps(now_us, HOT_US), b"%d" % self.grace_ms]

    def _answers(self, session_id: str, reply: Any) -> Sequence[Any]:
        """Return what the script answers for each append of a call, or raise what refused the call."""
        return (reply,) if isinstance(reply, int) else self._done(session_id, _checked(reply))

    def _receipt(self, append: Append, answer: Any) -> AppendReceipt:
        """Return the receipt for what the script answers for one append, or raise what refused it."""
        if isinstance(answer, int):
            return AppendReceipt(first_position=answer - len(append.messages) + 1, last_position=answer)
        kind, *positions = answer
        if kind == b"moved":
            raise self._position_conflict(append.session_id, append.expected_last or 0, positions[0])
        if kind == b"fenced":
            check_fence(BACKEND, append.session_id, append.fence, positions[0])
        pairs = zip(append.messages, positions, strict=True)
        stored = {message.message_id: position for message, position in pairs if position}
        if receipt := replay_receipt(BACKEND, append.messages, stored):
            return receipt
        raise damaged(f"session {append.session_id!a}", "an id of its messages has no position")

    async def _read_messages(self, session_id: str, span: MessageRange, now_us: int) -> list[MessageRecord]:
        first, elements = await self._read_parts("read", session_id, span, now_us)
        return [message_record(session_id, first + number, element) for number, element in enumerate(elements)]

    async def _read_index(self, session_id: str, span: MessageRange, now_us: int) -> list[IndexRecord]:
        first, elements = await self._read_parts("read_index", session_id, span, now_us)
        return [index_record(session_id, first + number, element) for number, element in enumerate(elements)]

    async def _read_parts(
        self, script: str, session_id: str, span: MessageRange, now_us: int, attempts: int = _ATTEMPTS
    ) -> tuple[int, list[bytes]]:
        """Return the first position of a range, and what a script returns of each of its messages."""
        size_bytes = _PART_BYTES if attempts else _MAX_POSITION  # in the end, the whole range in one answer
        history, first, stop, elements, *_ = await self._read_part(session_id, span, now_us, size_bytes, script)
        while len(elements) <= stop - first:
            rest = MessageRange(after=first + len(elements) - 1, before=stop + 1)
            seen, _, _, more, *_ = await self._read_part(session_id, rest, now_us, size_bytes, script)
            if seen != history:  # cut off, or replaced by another session of this id
                return await self._read_parts(script, session_id, span, now_us, attempts - 1)
            if not more:
                raise damaged(f"session {session_id!a}", f"message {first + len(elements)} is missing")
            elements += more
        return first, elements

    async def _read_part(
        self,
        session_id: str,
        span: MessageRange,
        now_us: int,
        size_bytes: int,
        script: str = "read",
        *,
        turn: bool = False,
        whole: bool = False,
    ) -> Sequence[Any]:
        """Return history, first and last position and what a script returns of the messages that fit.

        Args:
            session_id: The session.
            span: The range.
            now_us: The time.
            size_bytes: How much fits.
            script: ``read`` or ``read_index``.
            turn: Whether ``read`` returns header and memories too.
            whole: Whether ``read_index`` returns the elements too.
        """
        keys = self._keys.session(session_id)
        others = (keys.memories,) if turn else (keys.ids,) if script == "read_index" else ()
        reply = await self._run(
            script,
            (keys.session, keys.messages, *others),
            b"%d" % now_us,
            b"%d" % max(0, min(span.after, _MAX_POSITION)),
            number_or_none(None if span.before is None else max(0, min(span.before, _MAX_POSITION))),
            number_or_none(None if span.limit is None else min(span.limit, _MAX_POSITION)),
            b"1" if span.newest else b"0",
            b"%d" % size_bytes,
            *(TURN_HEADER if turn else (b"1",) if whole else ()),
            writes=False,
        )
        return self._done(session_id, reply)

    async def _find_message(self, session_id: str, message_id: str, now_us: int) -> MessageRecord | None:
        reply = await self._run(
            "find_message", self._keys.session(session_id)[:3], b"%d" % now_us, message_id.encode(), writes=False
        )
        if reply[0] == b"absent":
            return None
        found = self._done(session_id, reply)
        return message_record(session_id, found[0], found[1]) if found else None

    async def _replace_tail(self, tail: Tail) -> TailReceipt:
        arguments = [
            *self._change_words(tail.now_us),
            b"%d" % min(tail.after, _MAX_POSITION),
            number_or_none(tail.expected_last),
            number_or_none(tail.expected_change),
            number_or_none(tail.fence),
            *added_words(tail.messages),
            *_message_words(tail.messages),
        ]
        reply = await self._run("replace_tail", self._keys.session(tail.session_id), *arguments)
        if reply[0] != b"refused":
            [elements] = self._done(tail.session_id, reply)
            numbered = enumerate(elements, start=tail.after + 1)
            removed = [message_record(tail.session_id, position, element) for position, element in numbered]
            return TailReceipt(removed=removed, last_position=tail.after + len(tail.messages))
        _, last, positions, latest_change, latest_fence = reply
        pairs = zip(tail.messages, positions, strict=True)
        stored = {message.message_id: position for message, position in pairs if position}
        if receipt := tail.replayed(BACKEND, last, stored, latest_change=latest_change, latest_fence=latest_fence):
            return receipt
        raise damaged(f"session {tail.session_id!a}", "an id of its messages has no position")

    async def _read_turn(self, session_id: str, newest: int, now_us: int) -> TurnRecords | None:
        span = MessageRange(limit=newest, newest=True)
        try:
            read = await self._read_part(session_id, span, now_us, _PART_BYTES, turn=True)
        except SessionNotFoundError:
            return None
        _, first, stop, elements, values, memories = read
        session = session_record(session_id, TURN_HEADER, values)
        if session is None or len(elements) <= stop - first:
            return await super()._read_turn(session_id, newest, now_us)  # in parts
        return TurnRecords(
            session=session,
            memories=_unexpired(MemoryScope("session", session_id), memories, now_us),
            messages=[message_record(session_id, first + number, element) for number, element in enumerate(elements)],
        )

    async def _truncate_messages(self, session_id: str, after: int, now_us: int) -> int:
        arguments = (*self._change_words(now_us), b"%d" % min(after, _MAX_POSITION))
        reply = await self._run("truncate", self._keys.session(session_id), *arguments)
        return int(self._done(session_id, reply)[0])

    async def _update_message(self, update: MessageUpdate) -> bool:
        message = update.message
        reply = await self._run(
            "update_message",
            self._keys.session(update.session_id),
            b"%d" % update.now_us,
            b"%d" % message.position,
            message_element(message),
            message_element(attrs.evolve(message, payload=update.payload)),
            optional_payload(update.brief),
            optional_payload(update.index),
        )
        return self._replaced(update.session_id, reply) > 0

    async def _rewrite_messages(self, session_id: str, changes: Sequence[PayloadRewrite], now_us: int) -> int:
        return await self._rewritten("rewrite_messages", session_id, changes, now_us)

    async def _rewrite_index(self, session_id: str, changes: Sequence[IndexRewrite], now_us: int) -> int:
        return await self._rewritten("rewrite_index", session_id, changes, now_us)

    async def _rewritten(
        self, script: str, session_id: str, changes: Sequence[PayloadRewrite | IndexRewrite], now_us: int
    ) -> int:
        """Run a script with changes in parts; return how many it has made."""
        replaced = 0
        for words in _parts(changes):
            try:
                reply = await self._run(script, self._keys.session(session_id)[:3], b"%d" % now_us, *words)
            except StorageUnavailableError as exc:
                if replaced and not exc.in_doubt:
                    raise type(exc)(exc.backend, exc.reason, in_doubt=True) from exc
                raise
            replaced += self._replaced(session_id, reply)
        return replaced

    # -- memories ------------------------------------------------------------------------------------

    async def _change_memories(self, change: MemoryChange) -> list[MemoryRecord]:
        scope, now_us = change.scope, change.now_us
        words = [*_scope_words(scope), b"%d" % now_us, stamp(now_us), b"%d" % self.grace_ms]
        words += [number_or_none(change.max_entries), b"%d" % len(change.puts)]
        for put in change.puts:
            record = put.record
            words += [record.key.encode(), number_or_none(put.expected_version)]
            words += [stamp(record.created_at_us or now_us), *memory_value(record)]
        words += [key.encode() for key in change.deletes]
        reply = await self._run("change_memories", self._keys.memories(scope), *words)
        if reply[0] == b"conflict":
            raise memory_conflict(BACKEND, change.puts[reply[1] - 1], int(reply[2]))
        stored = iter(self._done(scope.owner_id, reply))
        return [
            attrs.evolve(put.record, created_at_us=unstamp(created), updated_at_us=now_us, version=int(version))
            for put, created, version in zip(change.puts, stored, stored, strict=True)
        ]

    async def _touch_memories(
        self, scope: MemoryScope, keys: Sequence[str], expires_at_us: int | None, now_us: int
    ) -> int:
        expires = b"" if expires_at_us is None else stamp(expires_at_us)
        words = (*_scope_words(scope), b"%d" % now_us, stamp(now_us), expires, *(key.encode() for key in keys))
        return int(await self._run("touch_memories", self._keys.memories(scope), *words))

    async def _find_memory(self, scope: MemoryScope, key: str, now_us: int) -> MemoryRecord | None:
        name = key.encode()
        value = await self._read_memories(scope, now_us, b"HGET", name)
        found = None if value is None else memory_record(scope, name, value)
        return found if found and not _is_expired(found, now_us) else None

    async def _list_memories(self, scope: MemoryScope, query: MemoryQuery | None, now_us: int) -> list[MemoryRecord]:
        if query is None:
            return _unexpired(scope, await self._read_memories(scope, now_us, b"HGETALL"), now_us)
        kind, owner = _scope_words(scope)
        beginning = b"n\0" + kind + b"\0" + owner + b"\0"
        reply = await self._run(
            "page_memories",
            self._keys.memories(scope),
            *(kind, owner, b"%d" % now_us, stamp(now_us)),
            *bounds_of_prefix(beginning, query.prefix, query.after, descending=query.descending),
            b"1" if query.descending else b"0",
            number_or_none(query.limit),
            b"1" if query.with_payload else b"0",
            writes=False,
        )
        if reply[0] == b"absent":
            return []
        found = iter(self._done(scope.owner_id, reply))
        return query.intact(
            lambda pair: memory_record(scope, *pair, whole=query.with_payload), zip(found, found, strict=True)
        )

    async def _read_memories(self, scope: MemoryScope, now_us: int, *command: bytes) -> Any:
        """Send a command to the hash of a scope; return None if it belongs to a session that is absent."""
        *session, memories, _, _ = self._keys.memories(scope)
        if not session:
            [reply] = await self._read((memories, *command))
            return reply
        values, reply = await self._read((session[0], b"HMGET", *HEADER), (memories, *command))
        owner = session_record(scope.owner_id, HEADER, values)
        return reply if owner and is_live(owner.updated_at_us, owner.ttl_us, now_us) else None

    async def _list_memory_owners(self, prefix: str, after: str | None, limit: int, now_us: int) -> list[str]:
        found: list[str] = []
        async for portion in entries(self._read, self._keys, [IndexRange.of_owners(prefix, after)], limit):
            scopes = [MemoryScope("user", entry.name.decode()) for entry in portion]
            calls = [(self._keys.memories(scope), (*_scope_words(scope), stamp(now_us))) for scope in scopes]
            counts = await self._client.run("count_memories", calls, writes=False)
            found += [scope.owner_id for scope, count in zip(scopes, counts, strict=True) if _checked(count)]
            if len(found) >= limit:
                break
        return found[:limit]

    async def _delete_memory(self, scope: MemoryScope, key: str, now_us: int) -> bool:
        arguments = (*_scope_words(scope), key.encode(), b"%d" % now_us, stamp(now_us))
        return bool(await self._run("delete_memory", self._keys.memories(scope), *arguments))

    async def _clear_memories(self, scope: MemoryScope, now_us: int) -> int:
        arguments = (*_scope_words(scope), b"%d" % now_us, stamp(now_us))
        return int(await self._run("clear_memories", self._keys.memories(scope), *arguments))

    async def _rewrite_memory(self, scope: MemoryScope, key: str, old: Payload, new: Payload, now_us: int) -> bool:
        payloads = packed(old), packed(new)
        arguments = (*_scope_words(scope), key.encode(), b"%d" % now_us, stamp(now_us), *payloads)
        reply = await self._run("rewrite_memory", self._keys.memories(scope), *arguments)
        return self._replaced(scope.owner_id, reply) > 0

    # -- what has expired ----------------------------------------------------------------------------

    async def _purge_expired(self, now_us: int) -> Purged:
        sessions = memories = 0
        async for members in self._members(b"x\0"):
            names = dict.fromkeys(member.split(b"\0", 2)[1] for member in members)
            drops = [(self._keys.session(name.decode()), (name, b"%d" % now_us, b"expired")) for name in names]
            for reply in await self._client.run("drop_session", drops):
                _, removed = _checked(reply)
                sessions += removed
        async for members in self._members(b"m\0"):
            expired = [entry for entry in map(memory_entry, members) if unstamp(entry[1]) <= now_us]
            calls = [(self._keys.memories(scope), (*_scope_words(scope), *rest)) for scope, *rest in expired]
            for reply in await self._client.run("purge_memory", calls):
                memories += _checked(reply)
        return Purged(sessions=sessions, memories=memories)

    async def _members(self, beginning: bytes) -> AsyncIterator[list[bytes]]:
        """Yield the index members that begin with a text, some of each bucket at a time."""
        low, high = bounds(beginning)
        count = max(10, _PURGED_AT_ONCE // self._keys.buckets)
        limit = (b"BYLEX", b"LIMIT", b"0", b"%d" % count)
        left = {self._keys.index(bucket): low for bucket in range(self._keys.buckets)}
        while left:
            asked = list(left)
            replies = await self._read(*((index, b"ZRANGE", left[index], high, *limit) for index in asked))
            left = {
                index: b"(" + members[-1]
                for index, members in zip(asked, replies, strict=True)
                if len(members) == count
            }
            if found := [member for members in replies for member in members]:
                yield found


def _checked(reply: Any) -> Any:
    """Return an answer, or raise the error that stands for it."""
    if isinstance(reply, LuminoraCoreSDKError):
        raise own_copy(reply)  # several replies may share it
    return reply


def _rewritten(
    session_id: str, first: int, elements: Sequence[bytes], indexes: Sequence[bytes], rewrite: RewriteMessage | None
) -> list[MessageRecord]:
    """Return the messages of elements as a fork stores them; called in a thread."""
    messages = with_indexes(
        [message_record(session_id, first + number, element) for number, element in enumerate(elements)],
        [index_record(session_id, first + number, element) for number, element in enumerate(indexes)],
    )
    return messages if rewrite is None else [rewrite(message) for message in messages]


def _message_words(messages: Sequence[MessageRecord]) -> list[bytes]:
    """Return the ids of messages, then their elements, then their indexes, as scripts take them."""
    words = [message.message_id.encode() for message in messages]
    words += [message_element(message) for message in messages]
    words += [optional_payload(message.index) for message in messages]
    return words


def _scope_words(scope: MemoryScope) -> tuple[bytes, bytes]:
    """Return kind and owner of a scope, as scripts and index name them."""
    return (b"s" if scope.kind == "session" else b"u"), scope.owner_id.encode()


def _unexpired(scope: MemoryScope, values: Any, now_us: int) -> list[MemoryRecord]:
    """Return the memories of an answer to HGETALL, by time of creation, then key."""
    if not isinstance(values, dict):  # a flat list in version 2 of the protocol, and of a script
        values = dict(zip(*[iter(values or ())] * 2, strict=True))
    found = [memory_record(scope, name, value) for name, value in values.items()]
    unexpired = [memory for memory in found if not _is_expired(memory, now_us)]
    return sorted(unexpired, key=lambda memory: (memory.created_at_us, memory.key))


def _is_expired(memory: MemoryRecord, now_us: int) -> bool:
    return memory.expires_at_us is not None and memory.expires_at_us <= now_us


def _parts(changes: Sequence[PayloadRewrite | IndexRewrite]) -> Iterator[list[bytes]]:
    """Yield the words of changes for one call of the script at a time, about 1 MB at most."""
    part: list[bytes] = []
    count = size = 0
    for change in changes:
        old, new = optional_payload(change.old), optional_payload(change.new)
        if count == _REWRITTEN_AT_ONCE or (count and size + len(old) + len(new) > _PART_BYTES):
            yield part
            part, count, size = [], 0, 0
        part += (b"%d" % change.position, change.message_id.encode(), old, new)
        count, size = count + 1, size + len(old) + len(new)
    yield part
