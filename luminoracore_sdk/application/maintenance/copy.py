"""Copy a store into another one, session by session, and verify that both are equal."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from functools import partial
from uuid import uuid4

import attrs

from luminoracore_sdk.application.maintenance.digest import Digest, RecordLines, line
from luminoracore_sdk.application.ports.clock import Clock
from luminoracore_sdk.application.ports.codec import ValueCodec
from luminoracore_sdk.application.ports.records import (
    MemoryRecord,
    MemoryScope,
    MessageRange,
    MessageRecord,
    Payload,
    SessionQuery,
    SessionRecord,
    with_indexes,
)
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.application.session_access import headers, memory_owners
from luminoracore_sdk.domain.errors import (
    ConfigurationError,
    ConflictError,
    CorruptRecordError,
    PayloadTooLargeError,
    SessionNotFoundError,
    StorageError,
    ValidationError,
)
from luminoracore_sdk.domain.json_value import JSONObject
from luminoracore_sdk.domain.values import STORE_OWNER, to_microseconds

__all__ = ["CHUNK", "Copied", "Outcome", "StoreCopy"]

CHUNK = 200
"""Number of messages held in memory at a time."""


_MARKER_TTL_US = 3_600_000_000
"""Lifetime of the marker that detects a copy of a store to itself, should the copy be killed."""


class Outcome(StrEnum):
    """The result of copying a session, or the memories of a user."""

    COPIED = "copied"
    COMPLETED = "completed"
    REPLACED = "replaced"
    PRESENT = "already there"
    GONE = "gone meanwhile"
    DIFFERENT = "different"
    FAILED = "failed"


@attrs.frozen(kw_only=True)
class Copied:
    """The result of copying a session, or the memories of a user.

    Attributes:
        kind: ``session`` or ``user``.
        owner_id: The id of the session or user.
        outcome: What was done. After ``DIFFERENT`` and ``FAILED`` the two stores are not equal in it.
        messages: The number of messages of the session.
        memories: The number of memories of the session or user.
        reason: Why the stores are not equal, else None.
        digest: The digest of the content that both stores have, see ``Digest``; None: they are not equal.
    """

    kind: str
    owner_id: str
    outcome: Outcome
    messages: int = 0
    memories: int = 0
    reason: str | None = None
    digest: str | None = None

    @property
    def is_equal(self) -> bool:
        """Whether the stores are equal in it now (after a dry run: would be)."""
        return self.outcome not in (Outcome.DIFFERENT, Outcome.FAILED)


class StoreCopy:
    """Copies sessions, with their messages and memories, and the memories of users.

    Records are copied unchanged, messages with their indexes, except for the version and the last activity, which the
    target assigns; a ``ttl`` starts anew. What was written is read back and must have the same digest. A copy that was
    stopped can be repeated: what is already equal stays, a session that is a prefix of the source's is
    completed, and a different one is left alone unless ``overwrite`` is set. Messages that are added to the
    source while their session is copied are left for the next copy.

    The memory that a copy needs does not depend on the length of a session.

    Args:
        source: The storage to copy from; it is only read.
        target: The storage to copy to; nothing else should write to it meanwhile.
        values: Decodes payloads for the comparison.
        clock: Decides what has expired.
        overwrite: Whether to delete and rewrite what differs in the target.
        dry_run: Whether to read and compare only; outcomes then say what would be done.
    """

    def __init__(
        self,
        source: SessionStorage,
        target: SessionStorage,
        *,
        values: ValueCodec,
        clock: Clock,
        overwrite: bool = False,
        dry_run: bool = False,
    ) -> None:
        self._source = source
        self._target = target
        self._clock = clock
        self._overwrite = overwrite
        self._writes = not dry_run
        self._transfer = _Transfer(source, target, values=values, clock=clock, writes=self._writes)

    async def run(self, query: SessionQuery) -> AsyncGenerator[Copied, None]:
        """Copy the memories of users, then every session that a query matches.

        Without a filter, the memories of every user of the store are copied. With ``user_id``, those of
        that user; with any other filter, those of the users of the matching sessions.

        Raises:
            ConfigurationError: With ``overwrite``, source and target are the same store.
            ValidationError: ``user_id`` is the reserved owner of a store's own records.
            StorageError: One of the stores cannot be used; what was copied so far stays.
        """
        if query.user_id == STORE_OWNER:  # dictionaries and key checks belong to their store
            raise ValidationError(f"{STORE_OWNER!r} is not a user: a store's own records are not copied")
        if self._overwrite and self._writes:
            await self._refuse_same_store()
        async for user_id in self._users(query):
            yield await self.user(user_id)
        async for header in headers(self._source, query):
            yield await self.session(header.session_id)

    async def _users(self, query: SessionQuery) -> AsyncIterator[str]:
        if query.user_id is not None:
            yield query.user_id
        elif (query.tag, query.created_after_us, query.created_before_us) == (None, None, None):
            async for user_id in memory_owners(self._source):
                yield user_id
        else:
            copied: set[str] = set()
            async for header in headers(self._source, query):
                if header.user_id is not None and header.user_id not in copied:
                    copied.add(header.user_id)
                    yield header.user_id

    async def session(self, session_id: str) -> Copied:
        """Copy one session.

        A session that is damaged, refused by the target, or deleted or changed in the source during its
        copy is removed from the target again if this copy created it there.
        """
        result = Copied(kind="session", owner_id=session_id, outcome=Outcome.GONE)
        try:
            return await self._settle(
                result,
                transfer=partial(self._transfer.session, session_id),
                remove=partial(self._target.delete_session, session_id),
            )
        except SessionNotFoundError:
            return result

    async def user(self, user_id: str) -> Copied:
        """Copy the memories of one user."""
        return await self._settle(
            Copied(kind="user", owner_id=user_id, outcome=Outcome.PRESENT),
            transfer=partial(self._transfer.user, user_id),
            remove=partial(self._target.clear_memories, MemoryScope("user", user_id)),
        )

    async def _settle(
        self, result: Copied, *, transfer: Callable[[], Awaitable[Copied]], remove: Callable[[], Awaitable[object]]
    ) -> Copied:
        """Copy into the target; with ``overwrite``, delete what differs first."""
        try:
            try:
                return await transfer()
            except _DifferentError:
                if not self._overwrite:
                    raise
            if not self._writes:
                return attrs.evolve(result, outcome=Outcome.REPLACED)
            await remove()
            return attrs.evolve(await transfer(), outcome=Outcome.REPLACED)
        except (CorruptRecordError, PayloadTooLargeError) as exc:
            return attrs.evolve(result, outcome=Outcome.FAILED, reason=str(exc))
        except (_DifferentError, _TargetChangedError, _SourceChangedError) as exc:
            return attrs.evolve(result, outcome=Outcome.DIFFERENT, reason=str(exc))

    async def _refuse_same_store(self) -> None:
        """Write a marker to the target and look for it in the source: overwriting would lose data there."""
        scope = MemoryScope("user", f"luminora-copy-{uuid4().hex}")
        end = to_microseconds(self._clock.now()) + _MARKER_TTL_US
        marker = MemoryRecord(scope=scope, key="marker", payload=Payload("json", b"{}"), expires_at_us=end)
        try:
            await self._target.put_memory(marker)
            if await self._source.find_memory(scope, marker.key) is not None:
                raise ConfigurationError("the source and the target of the copy are the same store")
        finally:
            await self._target.delete_memory(scope, marker.key)


# -- one session or user -------------------------------------------------------------------------


class _DifferentError(StorageError):
    """The target has other content under that id."""


class _TargetChangedError(StorageError):
    """Another writer changed it in the target during the copy."""


class _SourceChangedError(StorageError):
    """Another writer changed it in the source during the copy, other than by appending."""


@contextmanager
def _in_target() -> Iterator[None]:
    """Translate errors of the target."""
    try:
        yield
    except CorruptRecordError as exc:
        raise _DifferentError(f"in the target: {exc}") from exc
    except (ConflictError, SessionNotFoundError) as exc:
        raise _TargetChangedError(f"was changed by another writer in the target: {exc}") from exc


_Memories = Mapping[str, tuple[MemoryRecord, bytes]]
"""Memories with their lines, by key."""


@attrs.frozen(kw_only=True)
class _Original:
    """A session of the source, without its messages.

    Attributes:
        record: Its header.
        fields: The fields of the header that must be equal in both stores.
        memories: Its memories.
    """

    record: SessionRecord
    fields: JSONObject
    memories: _Memories


class _Transfer:
    """Copies one session, or the memories of one user.

    Args:
        source: The storage to copy from; it is only read.
        target: The storage to copy to.
        values: Decodes payloads.
        clock: Decides what has expired.
        writes: Whether to write; False: only read and compare.
    """

    def __init__(
        self, source: SessionStorage, target: SessionStorage, *, values: ValueCodec, clock: Clock, writes: bool
    ) -> None:
        self._source = source
        self._target = target
        self._clock = clock
        self._writes = writes
        self._source_lines = RecordLines(values, backend=source.backend)
        self._target_lines = RecordLines(values, backend=target.backend)

    # -- sessions --------------------------------------------------------------------------------

    async def session(self, session_id: str) -> Copied:
        """Make the target's session equal to the source's, if it is absent or a prefix of it.

        Raises:
            _DifferentError: The target has another session, which is left as it is.
            _TargetChangedError: Another writer changed the target's session, which is left as it is.
            _SourceChangedError: The source's session changed. It is deleted from the target if it was
                created here; the same holds for the errors below.
            CorruptRecordError: The source's session cannot be read.
            PayloadTooLargeError: The target refuses a record.
            SessionNotFoundError: The source's session was deleted.
        """
        original = await self._original(session_id)
        record = original.record
        with _in_target():
            found = await self._target.find_session(session_id)
        missing = await self._missing_memories(original, found)
        try:
            if found is None and self._writes:
                with _in_target():
                    await self._target.put_session(self._source_lines.plain(record), expected_version=0)
            digest = await self._transfer_messages(original, found)
            await self._check_source(original, digest)
            await self._put_memories(original.memories, missing)
        except (_SourceChangedError, CorruptRecordError, PayloadTooLargeError, SessionNotFoundError):
            if found is None and self._writes:
                await self._target.delete_session(session_id)
            raise
        is_incomplete = found is None or bool(missing) or found.last_position < record.last_position
        if is_incomplete and self._writes:
            proof = await self._read_back(original, digest)
        else:
            proof = digest.with_lines(self._live(original.memories).values())
        return Copied(
            kind="session",
            owner_id=session_id,
            outcome=_outcome(existed=found is not None, is_incomplete=is_incomplete),
            messages=record.last_position,
            memories=len(original.memories),
            digest=proof,
        )

    async def _original(self, session_id: str) -> _Original:
        record = await self._source.find_session(session_id)
        if record is None:
            raise SessionNotFoundError(session_id, backend=self._source.backend)
        return _Original(
            record=record,
            fields=self._source_lines.header(record),
            memories=await _memories(self._source, self._source_lines, MemoryScope("session", session_id)),
        )

    async def _missing_memories(self, original: _Original, found: SessionRecord | None) -> list[str]:
        """Return the keys that the target's session lacks; refuse a session that differs otherwise."""
        if found is None:
            return self._missing(original.memories, {})
        record = original.record
        with _in_target():
            fields = self._target_lines.header(found)
            memories = await _memories(self._target, self._target_lines, MemoryScope("session", record.session_id))
        # compared as lines: to ==, 1, 1.0 and True are the same
        if names := [name for name, value in fields.items() if line(value) != line(original.fields[name])]:
            raise _DifferentError(f"differs in: {', '.join(names)}")
        if found.last_position > record.last_position:
            raise _DifferentError(f"has {found.last_position} messages, not {record.last_position}")
        return self._missing(original.memories, memories)

    async def _transfer_messages(self, original: _Original, found: SessionRecord | None) -> Digest:
        """Compare the messages that the target has, append the others; return the digest up to them."""
        have, adds = (0, {}) if found is None else (found.last_position, found.summary.lacking(original.record.summary))
        session_id, last = original.record.session_id, original.record.last_position
        digest, position = Digest("session", *original.fields.values()), 0
        while position < last:
            span = MessageRange(after=position, before=last + 1, limit=CHUNK)
            chunk = await self._source.read_messages(session_id, span)
            if not chunk:
                raise _SourceChangedError("was truncated in the source during the copy")
            lines = [self._source_lines.message(session_id, message) for message in chunk]
            digest.add(lines)
            equal = await self._compare_messages(session_id, lines, position) if position < have else 0
            if self._writes and equal < len(chunk):
                span = MessageRange(after=position, before=position + len(chunk) + 1)
                missing = [attrs.evolve(self._source_lines.plain(message), adds={}) for message in chunk[equal:]]
                missing = with_indexes(missing, await self._source.read_index(session_id, span))
                if have:
                    missing = [_with_brief(message, original.record) for message in missing]
                missing[0], adds = attrs.evolve(missing[0], adds=adds), {}
                with _in_target():
                    await self._target.append_messages(session_id, missing, expected_last=position + equal)
            position += len(chunk)
        return digest

    async def _compare_messages(self, session_id: str, lines: list[bytes], position: int) -> int:
        """Return how many messages the target has of a chunk; refuse one that differs."""
        span = MessageRange(after=position, limit=len(lines))
        with _in_target():
            found = await self._target.read_messages(session_id, span)
            target_lines = [self._target_lines.message(session_id, message) for message in found]
        for number, (source_line, target_line) in enumerate(zip(lines, target_lines, strict=False), position + 1):
            if source_line != target_line:
                raise _DifferentError(f"differs in message {number}")
        return len(target_lines)

    async def _check_source(self, original: _Original, digest: Digest) -> None:
        """Refuse a session that was changed while it was read in chunks; appends are allowed."""
        before = original.record
        now = await self._source.find_session(before.session_id)
        if now is None:
            raise SessionNotFoundError(before.session_id, backend=self._source.backend)
        if attrs.evolve(now, payload=None) == attrs.evolve(before, payload=None):
            return
        again = Digest("session", *self._source_lines.header(now).values())
        end = before.last_position + 1
        async for message in self._source.stream_messages(before.session_id, before=end, chunk=CHUNK):
            again.add([self._source_lines.message(before.session_id, message)])
        if again.with_lines([]) != digest.with_lines([]):
            raise _SourceChangedError("was changed in the source during the copy")

    async def _read_back(self, original: _Original, digest: Digest) -> str:
        """Read the written session from the target; return its digest, which must be the source's."""
        session_id = original.record.session_id
        with _in_target():
            found = await self._target.find_session(session_id)
            if found is None:
                raise SessionNotFoundError(session_id, backend=self._target.backend)
            written = Digest("session", *self._target_lines.header(found).values())
            async for message in self._target.stream_messages(session_id, chunk=CHUNK):
                written.add([self._target_lines.message(session_id, message)])
            memories = await _memories(self._target, self._target_lines, MemoryScope("session", session_id))
        return self._proof(digest, original.memories, written, memories)

    # -- users -----------------------------------------------------------------------------------

    async def user(self, user_id: str) -> Copied:
        """Copy the memories of a user that the target lacks, if those it has are equal.

        Raises:
            _DifferentError: The target has other memories; they are left as they are.
            _TargetChangedError: Another writer changed them.
            CorruptRecordError: A memory of the source cannot be read; nothing was written.
            PayloadTooLargeError: The target refuses a record.
        """
        scope, digest = MemoryScope("user", user_id), Digest("user", user_id)
        memories = await _memories(self._source, self._source_lines, scope)
        with _in_target():
            before = await _memories(self._target, self._target_lines, scope)
        missing, after = self._missing(memories, before), memories
        if missing and self._writes:
            await self._put_memories(memories, missing)
            with _in_target():
                after = await _memories(self._target, self._target_lines, scope)
        return Copied(
            kind="user",
            owner_id=user_id,
            outcome=_outcome(existed=bool(before), is_incomplete=bool(missing)),
            memories=len(memories),
            digest=self._proof(digest, memories, digest, after),
        )

    # -- memories --------------------------------------------------------------------------------

    def _live(self, memories: _Memories, now_us: int | None = None) -> dict[str, bytes]:
        """Return the lines of the memories that have not expired since they were read."""
        now = to_microseconds(self._clock.now()) if now_us is None else now_us
        return {
            key: memory_line
            for key, (memory, memory_line) in memories.items()
            if memory.expires_at_us is None or memory.expires_at_us > now
        }

    def _missing(self, source: _Memories, target: _Memories) -> list[str]:
        """Return the keys that the target lacks; refuse memories that differ."""
        now_us = to_microseconds(self._clock.now())
        wanted, found = self._live(source, now_us), self._live(target, now_us)
        for key, memory_line in found.items():
            if wanted.get(key) != memory_line:
                raise _DifferentError(f"differs in memory {key!a}")
        return [key for key in wanted if key not in found]

    async def _put_memories(self, memories: _Memories, keys: Iterable[str]) -> None:
        """Write memories in the order of their updates, which decides what a full scope evicts."""
        chosen = [memories[key][0] for key in keys] if self._writes else []
        for memory in sorted(chosen, key=lambda memory: (memory.updated_at_us, memory.key)):
            with _in_target():
                await self._target.put_memory(self._source_lines.plain(memory))

    def _proof(self, digest: Digest, source: _Memories, written: Digest, target: _Memories) -> str:
        """Return the digest that both stores have, memories included."""
        now_us = to_microseconds(self._clock.now())
        wanted = digest.with_lines(self._live(source, now_us).values())
        found = written.with_lines(self._live(target, now_us).values())
        if found != wanted:
            raise _TargetChangedError("was not equal when it was read back from the target")
        return found


def _with_brief(message: MessageRecord, header: SessionRecord) -> MessageRecord:
    """Return a message with the brief that the header of its session has of it, if any."""
    briefs = (header.summary.first, header.summary.last)
    found = next((one.payload for one in briefs if one is not None and one.position == message.position), None)
    return message if found is None else attrs.evolve(message, brief=found)


async def _memories(storage: SessionStorage, lines: RecordLines, scope: MemoryScope) -> _Memories:
    return {memory.key: (memory, lines.memory(memory)) for memory in await storage.list_memories(scope)}


def _outcome(*, existed: bool, is_incomplete: bool) -> Outcome:
    if not is_incomplete:
        return Outcome.PRESENT
    return Outcome.COMPLETED if existed else Outcome.COPIED
