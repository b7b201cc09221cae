"""The Redis backend: one server, a cluster, or a master that sentinels know; Valkey too."""

from collections.abc import AsyncIterator, Sequence
from secrets import randbits
from typing import Any

import attrs

from luminoracore_sdk.adapters.storage.base import is_live
from luminoracore_sdk.adapters.storage.redis.appends import RedisAppends
from luminoracore_sdk.adapters.storage.redis.keys import bounds, memory_entry, stamp, unstamp
from luminoracore_sdk.adapters.storage.redis.listing import IndexRange, entries, grown
from luminoracore_sdk.adapters.storage.redis.memories import place
from luminoracore_sdk.adapters.storage.redis.records import (
    HEADER,
    HEADER_WITH_PAYLOAD,
    damaged,
    label,
    message_record,
    number_or_none,
    session_record,
)
from luminoracore_sdk.application.ports.records import (
    MessageRange,
    MessageRecord,
    Page,
    Payload,
    Purged,
    SessionQuery,
    SessionRecord,
)

__all__ = ["RedisStorage"]

_FAR = 2**52  # a position beyond every position, which Lua's numbers still hold exactly
_PART_BYTES = 2**20  # of messages in one answer, exceeded by the last 128 of them at most
_ATTEMPTS = 3  # to read a long history in parts while others cut it
_PURGED_AT_ONCE = 1000  # of all buckets together, or ten of each


class RedisStorage(RedisAppends):
    """Keeps everything on a Redis server, a Redis Cluster, or a master that sentinels watch.

    Every write is one call of one script: all or nothing, also on a cluster, at the same cost whatever
    the history holds; a large batch to rewrite is divided. Reads go to the master. How long an
    acknowledged write lasts is the server's to say (``appendonly``, ``appendfsync``, replicas); it must
    not evict keys (``maxmemory-policy noeviction``).

    Belongs to the event loop it was opened on. Needs the ``redis`` extra, and Redis 6.2 or newer, or Valkey.

    Args:
        url: ``redis://user:password@host:port/db``, ``rediss://`` for TLS, ``unix:///path?db=0``,
            ``redis+cluster://host:port,host:port``, ``redis+sentinel://host:port,host:port/master/db``;
            ``rediss+cluster://`` and ``rediss+sentinel://`` too. ``valkey`` stands for ``redis``.
        client: A client of ``redis.asyncio`` instead of a URL; it is left open, and on a ``Redis`` only
            its connection pool is used.
        db: Number of the database, unless the URL names it.
        prefix: Begins every key, so that a database may hold several stores: printable, without braces.
        buckets: Into how many parts a new store is divided; a session's data are in one of them, on one
            node. 1 on one server, 128 on a cluster, when None. Fixed when the store is made.
        max_connections: Most requests at once, on each node of a cluster.
        connect_timeout: Seconds for a new connection.
        timeout: Seconds to wait for a free connection, and then for an answer.
        clock: Tells the time; the computer's own when None.

    Raises:
        ConfigurationError: An option that cannot work; on opening, another number of buckets.
        MissingDependencyError: The extra is not installed.
    """

    # -- sessions --------------------------------------------------------------------------------

    async def _put_session(self, record: SessionRecord, expected_version: int | None, now_us: int) -> SessionRecord:
        payload = record.payload or Payload("", b"")
        reply = await self._run(
            "put_session",
            self._keys.session(record.session_id),
            record.session_id.encode(),
            b"%d" % now_us,
            b"%d" % self.grace_ms,
            number_or_none(expected_version),
            (record.user_id or "").encode(),
            "\0".join(record.tags).encode(),
            number_or_none(record.ttl_us),
            stamp(record.created_at_us or now_us),
            label(payload),
            payload.data,
            b"%d" % randbits(48),  # of a history that begins here; each cut adds 1
        )
        if reply[0] == b"conflict":
            raise self._version_conflict(record.session_id, expected_version or 0, int(reply[1]))
        _, version, created, updated, last = self._done(record.session_id, reply)
        return attrs.evolve(
            record,
            version=int(version),
            created_at_us=unstamp(created),
            updated_at_us=int(updated),
            last_position=int(last),
        )

    async def _find_session(self, session_id: str, now_us: int) -> SessionRecord | None:
        key = self._keys.session(session_id).session
        [values] = await self._read((key, b"HMGET", *HEADER_WITH_PAYLOAD))
        found = session_record(session_id, values)
        return found if found and is_live(found.updated_at_us, found.ttl_us, now_us) else None

    async def _delete_session(self, session_id: str, now_us: int) -> bool:
        arguments = (session_id.encode(), b"%d" % now_us, b"any")
        was, _ = await self._run("drop_session", self._keys.session(session_id), *arguments)
        return bool(was == b"live")

    async def _query_sessions(self, query: SessionQuery, now_us: int) -> Page:
        found: list[SessionRecord] = []
        async for header in self._matching(query, now_us):
            if len(found) == query.limit:
                last = found[-1]
                return Page(sessions=tuple(found), next_cursor=(last.created_at_us, last.session_id))
            found.append(header)
        return Page(sessions=tuple(found), next_cursor=None)

    async def _matching(self, query: SessionQuery, now_us: int) -> AsyncIterator[SessionRecord]:
        """Yield the live headers that a query looks for.

        An index may still name sessions that the server has let go, and, for a moment, ones that were
        put anew: the header decides.
        """
        count = query.limit + 1
        async for portion in entries(self._read, self._keys, IndexRange.of(query), count):
            start = 0
            while some := portion[start : start + count]:
                start, count = start + count, grown(count)
                names = [entry.session_id.decode() for entry in some]
                keys = [self._keys.session(name).session for name in names]
                replies = await self._read(*((key, b"HMGET", *HEADER) for key in keys))
                for entry, name, values in zip(some, names, replies, strict=True):
                    header = session_record(name, values)
                    if (
                        header
                        and stamp(header.created_at_us) == entry.created
                        and is_live(header.updated_at_us, header.ttl_us, now_us)
                        and query.user_id in (None, header.user_id)
                        and (query.tag is None or query.tag in header.tags)
                    ):
                        yield header

    # -- messages --------------------------------------------------------------------------------

    async def _read_messages(self, session_id: str, span: MessageRange, now_us: int) -> list[MessageRecord]:
        for _ in range(_ATTEMPTS):
            found = await self._read_in_parts(session_id, span, now_us)
            if found is not None:
                return found
        _, _, first, _, elements = await self._read_part(session_id, span, now_us, _FAR)
        return _messages(session_id, first, elements)

    async def _read_in_parts(self, session_id: str, span: MessageRange, now_us: int) -> list[MessageRecord] | None:
        """Read a range, in several answers if it is long; None: the history was cut in between."""
        part = await self._read_part(session_id, span, now_us, _PART_BYTES)
        _, history, first, stop, elements = part
        while len(elements) < stop - first + 1:
            rest = MessageRange(after=first + len(elements) - 1, before=stop + 1)
            part = await self._read_part(session_id, rest, now_us, _PART_BYTES)
            _, seen, _, _, more = part
            if seen != history:
                return None
            if not more:
                raise damaged(f"session {session_id!a}", f"there is no message {first + len(elements)}")
            elements += more
        return _messages(session_id, first, elements)

    async def _read_part(self, session_id: str, span: MessageRange, now_us: int, size_bytes: int) -> Sequence[Any]:
        keys = self._keys.session(session_id)
        reply: Sequence[Any] = await self._run(
            "read",
            (keys.session, keys.messages),
            b"%d" % now_us,
            b"%d" % max(0, min(span.after, _FAR)),
            number_or_none(None if span.before is None else max(0, min(span.before, _FAR))),
            number_or_none(None if span.limit is None else min(span.limit, _FAR)),
            b"1" if span.newest else b"0",
            b"%d" % size_bytes,
            writes=False,
        )
        return self._done(session_id, reply)

    async def _truncate_messages(self, session_id: str, after: int, now_us: int) -> int:
        arguments = (b"%d" % now_us, b"%d" % self.grace_ms, b"%d" % min(after, _FAR))
        reply = await self._run("truncate", self._keys.session(session_id)[:5], *arguments)
        _, removed = self._done(session_id, reply)
        return int(removed)

    # -- what has expired ------------------------------------------------------------------------

    async def _purge_expired(self, now_us: int) -> Purged:
        sessions = memories = 0
        async for members in self._members(b"x\0"):
            names = dict.fromkeys(member.split(b"\0", 2)[1] for member in members)
            answers = await self._run_each(
                "drop_session",
                [(self._keys.session(name.decode()), (name, b"%d" % now_us, b"expired")) for name in names],
            )
            sessions += sum(removed for _, removed in answers)
        async for members in self._members(b"m\0"):
            over = [entry for entry in map(memory_entry, members) if unstamp(entry[1]) <= now_us]
            memories += sum(
                await self._run_each(
                    "purge_memory",
                    [(self._keys.memories(scope), (*place(scope), *rest)) for scope, *rest in over],
                )
            )
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


def _messages(session_id: str, first: int, elements: Sequence[bytes]) -> list[MessageRecord]:
    return [message_record(session_id, first + number, one) for number, one in enumerate(elements)]
