"""Retention: delete what a policy does not keep, in constant memory."""

from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from datetime import datetime, timedelta

import attrs

from luminoracore_sdk.application.conversations import Conversations
from luminoracore_sdk.application.ports.clock import Clock
from luminoracore_sdk.application.ports.records import (
    MAX_PAGE,
    MessageRange,
    MessageRecord,
    SessionQuery,
    SessionRecord,
)
from luminoracore_sdk.application.revisions import Revisions
from luminoracore_sdk.application.session_access import SessionAccess, headers
from luminoracore_sdk.domain.errors import (
    CorruptRecordError,
    SessionBusyError,
    SessionNotFoundError,
    TurnInterruptedError,
)
from luminoracore_sdk.domain.json_value import JSONObject
from luminoracore_sdk.domain.message import ends_history
from luminoracore_sdk.domain.retention import RetentionPolicy
from luminoracore_sdk.domain.values import from_microseconds, to_microseconds

__all__ = ["MAX_IDS", "Retention", "RetentionReport"]

MAX_IDS = 1000
"""Most ids in a report."""

_CHUNK = 500
_REMEMBERED_USERS = 10_000
_MICROSECOND = timedelta(microseconds=1)


@attrs.frozen(kw_only=True)
class RetentionReport:
    """What one application of a policy deleted; after a dry run, what it would have deleted.

    Attributes:
        dry_run: Whether nothing was changed.
        sessions: The number of deleted sessions.
        session_ids: Their ids, the first 1,000 of them.
        trimmed_sessions: The number of sessions that were kept without their oldest messages.
        trimmed_messages: The number of these messages.
        held: The number of sessions to which a rule applies and which have the tag of ``hold``.
        in_use: The number of sessions that were kept because they were written meanwhile, or are in a turn.
        unreadable: The number of sessions that were kept because they cannot be read.
        started_at: The time at which it began, UTC; ages are those of this time.
        finished_at: The time at which it ended, UTC.
    """

    dry_run: bool
    sessions: int
    session_ids: tuple[str, ...]
    trimmed_sessions: int
    trimmed_messages: int
    held: int
    in_use: int
    unreadable: int
    started_at: datetime
    finished_at: datetime

    def to_dict(self) -> JSONObject:
        """Return a JSON object with ISO 8601 times."""
        times = {"started_at": self.started_at.isoformat(), "finished_at": self.finished_at.isoformat()}
        return {**attrs.asdict(self), "session_ids": list(self.session_ids), **times}


@attrs.define(kw_only=True)
class Retention:
    """One application of a policy, and its counts so far.

    Attributes:
        policy: The policy.
        user_id: Only sessions of this user; None: all.
        dry_run: Whether to change nothing.
        access: Reads and locks sessions, of whatever user.
        conversations: Reads messages.
        revisions: Deletes messages.
        clock: Tells the time.
        delete: Deletes a session that this task has locked.
    """

    policy: RetentionPolicy
    user_id: str | None
    dry_run: bool
    access: SessionAccess
    conversations: Conversations
    revisions: Revisions
    clock: Clock
    delete: Callable[[str], Awaitable[bool]]
    _session_ids: list[str] = attrs.field(factory=list, init=False)
    _sessions: int = attrs.field(default=0, init=False)
    _trimmed_sessions: int = attrs.field(default=0, init=False)
    _trimmed_messages: int = attrs.field(default=0, init=False)
    _held: int = attrs.field(default=0, init=False)
    _in_use: int = attrs.field(default=0, init=False)
    _unreadable: int = attrs.field(default=0, init=False)
    _oldest_kept: OrderedDict[str | None, int] = attrs.field(factory=OrderedDict, init=False)

    async def run(self) -> RetentionReport:
        """Apply the policy to each session; see ``Sessions.apply_retention``."""
        started_at = self.clock.now()
        if self.policy.youngest is not None or self.policy.max_messages is not None:
            async with aclosing(headers(self.access.storage, self._query(started_at))) as listed:
                async for header in listed:
                    try:
                        await self._apply(header, started_at)
                    except CorruptRecordError:
                        self._unreadable += 1
        return RetentionReport(
            dry_run=self.dry_run,
            sessions=self._sessions,
            session_ids=tuple(self._session_ids),
            trimmed_sessions=self._trimmed_sessions,
            trimmed_messages=self._trimmed_messages,
            held=self._held,
            in_use=self._in_use,
            unreadable=self._unreadable,
            started_at=started_at,
            finished_at=self.clock.now(),
        )

    def _query(self, now: datetime) -> SessionQuery:
        """Return the query of the sessions that may be changed."""
        end = None
        if self.policy.youngest is not None and self.policy.max_messages is None:
            end = max(0, to_microseconds(now) - self.policy.youngest // _MICROSECOND)
        return SessionQuery(user_id=self.user_id, created_before_us=end)

    async def _apply(self, header: SessionRecord, now: datetime) -> None:
        created_at, last_activity = map(from_microseconds, (header.created_at_us, header.updated_at_us))
        is_over = self.policy.is_over(created_at=created_at, last_activity=last_activity, now=now)
        most = self.policy.max_messages
        is_long = most is not None and header.last_position > most
        if not (is_over or is_long):
            return
        if self.policy.hold in header.tags:
            self._held += 1
        elif is_over and not await self._is_latest(header):
            await self._delete(header)
        elif is_long:
            await self._trim(header.session_id)

    # -- sessions --------------------------------------------------------------------------------

    async def _is_latest(self, header: SessionRecord) -> bool:
        """Return whether a session is one of the latest of its user; those of one microsecond all are."""
        if self.policy.keep_latest is None:
            return False
        if header.user_id not in self._oldest_kept:
            self._oldest_kept[header.user_id] = await self._creation_of_latest(header.user_id, self.policy.keep_latest)
            if len(self._oldest_kept) > _REMEMBERED_USERS:
                self._oldest_kept.popitem(last=False)
        return header.created_at_us >= self._oldest_kept[header.user_id]

    async def _creation_of_latest(self, user_id: str | None, number: int) -> int:
        """Return when the oldest of the latest sessions of a user was created; all are latest if there are few."""
        limit = MAX_PAGE if user_id is None else min(number, MAX_PAGE)  # None does not select
        query = SessionQuery(user_id=user_id, newest_first=True, limit=limit)
        created_at_us = 0
        while number:
            page = await self.access.storage.query_sessions(query)
            own = [record.created_at_us for record in page.sessions if record.user_id == user_id][:number]
            number -= len(own)
            created_at_us = own[-1] if own else created_at_us
            if page.next_cursor is None:
                break
            query = attrs.evolve(query, cursor=page.next_cursor)
        return created_at_us

    async def _delete(self, listed: SessionRecord) -> None:
        """Delete a session, unless it was changed since it was listed or is in a turn."""
        session_id = listed.session_id
        is_deleted = self.dry_run
        if not self.dry_run:
            lock = self.access.lock(session_id)
            try:
                async with lock.hold(refuse_busy=True):
                    header = await self.access.storage.find_session(session_id)
                    if header is not None and attrs.evolve(header, payload=None) != listed:
                        self._in_use += 1
                        return
                    is_deleted = header is not None and await self.delete(session_id)
            except (SessionBusyError, TurnInterruptedError):
                self._in_use += 1
        if is_deleted:
            self._sessions += 1
            if len(self._session_ids) < MAX_IDS:
                self._session_ids.append(session_id)

    # -- messages --------------------------------------------------------------------------------

    async def _trim(self, session_id: str) -> None:
        """Delete the oldest messages of a session; those that are deleted already do not count."""
        record = await self.access.storage.find_session(session_id)
        if record is None:
            return
        if self.policy.hold in record.tags:
            self._held += 1
            return
        try:
            trimmed = await self._delete_up_to(
                session_id, await self.conversations.before_newest(record, self.policy.max_messages or 0)
            )
        except SessionNotFoundError:  # deleted meanwhile
            return
        self._trimmed_messages += trimmed
        self._trimmed_sessions += trimmed > 0

    async def _delete_up_to(self, session_id: str, position: int) -> int:
        """Delete every message up to a position; return the number of those that were not deleted before.

        The first message goes first: it tells the readers that some messages may be deleted. The others follow from
        the newest to the oldest, and behind them all a note in the newest, at which the next application stops.
        """
        if not position:
            return 0
        count = 0
        if not self.dry_run:
            first = await self.access.storage.read_messages(session_id, MessageRange(limit=1))
            count += await self.revisions.bury(session_id, first)
        newest: MessageRecord | None = None
        async with aclosing(self._chunks(session_id, position)) as chunks:
            async for chunk, left in chunks:
                newest = newest or (chunk[-1] if chunk else None)
                count += len(left) if self.dry_run else await self.revisions.bury(session_id, left)
        if newest is not None and not self.dry_run:
            await self.revisions.note_older_deleted(session_id, newest)
        return count

    async def _chunks(
        self, session_id: str, position: int
    ) -> AsyncGenerator[tuple[list[MessageRecord], list[MessageRecord]], None]:
        """Yield the messages up to a position in chunks, the newest first; and those of a chunk that are left."""
        before: int | None = position + 1
        while before is not None:
            span = MessageRange(before=before, limit=_CHUNK, newest=True)
            chunk = await self.access.storage.read_messages(session_id, span)
            found = [self.revisions.find_tombstone(session_id, record) for record in chunk]
            yield chunk, [record for record, deleted in zip(chunk, found, strict=True) if deleted is None]
            is_last = len(chunk) < _CHUNK or any(ends_history(deleted) for deleted in found if deleted is not None)
            before = None if is_last else chunk[0].position
