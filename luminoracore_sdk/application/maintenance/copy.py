"""Copy a store into another one, session by session, and verify that both are equal."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Mapping
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
    Payload,
    SessionQuery,
    SessionRecord,
)
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.application.session_access import headers
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

__all__ = [
    "Brought",
    "ChangedError",
    "Copied",
    "DifferentError",
    "MeanwhileError",
    "Original",
    "Outcome",
    "StoreCopy",
    "Transfer",
    "in_target",
]


class DifferentError(StorageError):
    """The target has something else under that id."""


class MeanwhileError(StorageError):
    """Somebody else writes to what is being copied, in the target."""


class ChangedError(StorageError):
    """Somebody else writes to what is being copied, in the source, and not only at its end."""


@contextmanager
def in_target() -> Iterator[None]:
    """Say of an error that it was in the target."""
    try:
        yield
    except CorruptRecordError as exc:
        raise DifferentError(f"in the target: {exc}") from exc
    except (ConflictError, SessionNotFoundError) as exc:
        raise MeanwhileError(f"is written by somebody else in the target: {exc}") from exc


CHUNK = 200
"""Messages that are in memory at a time."""

Memories = Mapping[str, tuple[MemoryRecord, bytes]]
"""By key: a memory and its line."""


@attrs.frozen(kw_only=True)
class Original:
    """A session as the source has it, messages left out.

    Attributes:
        record: Its header.
        fields: Those of the header that must be equal.
        memories: Of its own scope.
    """

    record: SessionRecord
    fields: JSONObject
    memories: Memories


@attrs.frozen(kw_only=True)
class Brought:
    """What a step found and left.

    Attributes:
        was_there: Whether the target had something.
        lacked: Whether something was lacking.
        messages: Of the session.
        memories: Of the session or user.
        digest: Of the content that both stores have (when nothing is written: would have).
    """

    was_there: bool
    lacked: bool
    messages: int = 0
    memories: int
    digest: str


class Transfer:
    """Takes one session, or one user's memory, from a source to a target.

    Args:
        source: Only read.
        target: Written, unless ``writes`` is False.
        values: Decodes payloads.
        clock: Tells what has expired.
        writes: False: read and compare only.
    """

    def __init__(
        self,
        source: SessionStorage,
        target: SessionStorage,
        *,
        values: ValueCodec,
        clock: Clock,
        writes: bool,
    ) -> None:
        self._source = source
        self._target = target
        self._clock = clock
        self._writes = writes
        self._source_lines = RecordLines(values, backend=source.backend)
        self._target_lines = RecordLines(values, backend=target.backend)

    # -- sessions --------------------------------------------------------------------------------

    async def original(self, session_id: str) -> Original | None:
        """Return a session of the source, or None."""
        record = await self._source.find_session(session_id)
        if record is None:
            return None
        return Original(
            record=record,
            fields=self._source_lines.header(record),
            memories=await self._memories_of_source(MemoryScope("session", session_id)),
        )

    async def bring(self, original: Original) -> Brought:
        """Make the target's session equal to the source's, if it is nothing or the beginning of it.

        Raises:
            DifferentError: There is another one; it is left as it is.
            MeanwhileError: Somebody else writes the target's, which is left as it is.
            ChangedError: The source's is not what it was; a target's that was begun here is deleted.
            CorruptRecordError: The source's cannot be read; likewise.
            PayloadTooLargeError: The target refuses a record; likewise.
            SessionNotFoundError: The source's is there no more; likewise.
        """
        record = original.record
        with in_target():
            found = await self._target.find_session(record.session_id)
        missing = await self._missing(original, found)
        try:
            if found is None and self._writes:
                with in_target():
                    await self._target.put_session(self._source_lines.plain(record), expected_version=0)
            digest = await self._carry(original, have=found.last_position if found else 0)
            await self._check_source(original, digest)
            await self._put(original.memories, missing)
        except (ChangedError, CorruptRecordError, PayloadTooLargeError, SessionNotFoundError):
            if found is None and self._writes:
                await self._target.delete_session(record.session_id)
            raise
        lacked = found is None or bool(missing) or found.last_position < record.last_position
        return Brought(
            was_there=found is not None,
            lacked=lacked,
            messages=record.last_position,
            memories=len(original.memories),
            digest=await self._proved_session(original, digest, is_written=lacked and self._writes),
        )

    async def _missing(self, original: Original, found: SessionRecord | None) -> list[str]:
        """Return the keys that the target's session lacks, if nothing else but messages is missing."""
        if found is None:
            return self._lacking(original.memories, {})
        record = original.record
        with in_target():
            theirs = self._target_lines.header(found)
            memories = await self._memories_of_target(MemoryScope("session", record.session_id))
        # lines and not ==, for which 1, 1.0 and True are the same
        if names := [name for name, value in theirs.items() if line(value) != line(original.fields[name])]:
            raise DifferentError(f"differs in: {', '.join(names)}")
        if found.last_position > record.last_position:
            raise DifferentError(f"has {found.last_position} messages, not {record.last_position}")
        return self._lacking(original.memories, memories)

    async def _carry(self, original: Original, *, have: int) -> Digest:
        """Compare the messages that the target has, append the others; returns the digest up to them."""
        session_id, last = original.record.session_id, original.record.last_position
        digest, position = Digest("session", *original.fields.values()), 0
        while position < last:
            span = MessageRange(after=position, before=last + 1, limit=CHUNK)
            chunk = await self._source.read_messages(session_id, span)
            if not chunk:
                raise ChangedError("is shortened in the source by somebody else")
            lines = [self._source_lines.message(session_id, message) for message in chunk]
            digest.add(lines)
            there = await self._same(session_id, lines, position) if position < have else 0
            if self._writes and there < len(chunk):
                lacking = [self._source_lines.plain(message) for message in chunk[there:]]
                with in_target():
                    await self._target.append_messages(session_id, lacking, expected_last=position + there)
            position += len(chunk)
        return digest

    async def _check_source(self, original: Original, digest: Digest) -> None:
        """Make sure that what was read in pieces was there as one, and more at most."""
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
            raise ChangedError("is changed in the source by somebody else")

    async def _same(self, session_id: str, lines: list[bytes], position: int) -> int:
        """Return how many messages above a position are there; they are equal to the lines."""
        span = MessageRange(after=position, limit=len(lines))
        with in_target():
            there = await self._target.read_messages(session_id, span)
            theirs = [self._target_lines.message(session_id, message) for message in there]
        for number, (ours, other) in enumerate(zip(lines, theirs, strict=False), position + 1):
            if ours != other:
                raise DifferentError(f"differs in message {number}")
        return len(theirs)

    async def _proved_session(self, original: Original, digest: Digest, *, is_written: bool) -> str:
        """Return the whole digest; one that was written is read again and must have it too."""
        if not is_written:
            return digest.with_lines(self._living(original.memories).values())
        session_id = original.record.session_id
        with in_target():
            found = await self._target.find_session(session_id)
            if found is None:
                raise SessionNotFoundError(session_id, backend=self._target.backend)
            written = Digest("session", *self._target_lines.header(found).values())
            async for message in self._target.stream_messages(session_id, chunk=CHUNK):
                written.add([self._target_lines.message(session_id, message)])
            memories = await self._memories_of_target(MemoryScope("session", session_id))
        return self._proved(digest, original.memories, written, memories)

    # -- users -----------------------------------------------------------------------------------

    async def bring_user(self, user_id: str) -> Brought:
        """Give the target what is remembered about a user, if what it has is part of that.

        Raises:
            DifferentError: It has something else; that is left as it is.
            MeanwhileError: Somebody else writes it.
            CorruptRecordError: The source's cannot be read; nothing was written.
            PayloadTooLargeError: The target refuses a record.
        """
        scope, digest = MemoryScope("user", user_id), Digest("user", user_id)
        ours = await self._memories_of_source(scope)
        with in_target():
            theirs = before = await self._memories_of_target(scope)
        missing = self._lacking(ours, before)
        if missing and self._writes:
            await self._put(ours, missing)
            with in_target():
                theirs = await self._memories_of_target(scope)
        is_written = bool(missing) and self._writes
        return Brought(
            was_there=bool(before),
            lacked=bool(missing),
            memories=len(ours),
            digest=self._proved(digest, ours, digest, theirs if is_written else ours),
        )

    # -- memory ----------------------------------------------------------------------------------

    async def _memories_of_source(self, scope: MemoryScope) -> Memories:
        found = await self._source.list_memories(scope)
        return {memory.key: (memory, self._source_lines.memory(memory)) for memory in found}

    async def _memories_of_target(self, scope: MemoryScope) -> Memories:
        found = await self._target.list_memories(scope)
        return {memory.key: (memory, self._target_lines.memory(memory)) for memory in found}

    def _living(self, memories: Memories, now_us: int | None = None) -> dict[str, bytes]:
        """Return the lines of what has not expired since it was read."""
        now = to_microseconds(self._clock.now()) if now_us is None else now_us
        return {
            key: own_line
            for key, (memory, own_line) in memories.items()
            if memory.expires_at_us is None or memory.expires_at_us > now
        }

    def _lacking(self, ours: Memories, theirs: Memories) -> list[str]:
        now_us = to_microseconds(self._clock.now())
        wanted, there = self._living(ours, now_us), self._living(theirs, now_us)
        for key, own_line in there.items():
            if wanted.get(key) != own_line:
                raise DifferentError(f"differs in what is remembered as {key!a}")
        return [key for key in wanted if key not in there]

    async def _put(self, memories: Memories, keys: Iterable[str]) -> None:
        """Write memories in the order in which they were updated, which decides what a full scope loses."""
        chosen = [memories[key][0] for key in keys] if self._writes else []
        for memory in sorted(chosen, key=lambda memory: (memory.updated_at_us, memory.key)):
            with in_target():
                await self._target.put_memory(self._source_lines.plain(memory))

    def _proved(self, digest: Digest, ours: Memories, written: Digest, theirs: Memories) -> str:
        now_us = to_microseconds(self._clock.now())
        wanted = digest.with_lines(self._living(ours, now_us).values())
        found = written.with_lines(self._living(theirs, now_us).values())
        if found != wanted:
            raise MeanwhileError("did not come back equal when it was read again")
        return found


_NOT_EQUAL = (DifferentError, MeanwhileError, ChangedError, CorruptRecordError, PayloadTooLargeError)


_MARK_US = 3_600_000_000
"""Life of the mark that tells whether two stores are one, should it be left behind."""


class Outcome(StrEnum):
    """What became of a session, or of what is remembered about a user."""

    COPIED = "copied"
    COMPLETED = "completed"
    REPLACED = "replaced"
    PRESENT = "already there"
    GONE = "gone meanwhile"
    DIFFERENT = "different"
    FAILED = "failed"


@attrs.frozen(kw_only=True)
class Copied:
    """What became of a session, or of what is remembered about a user.

    Attributes:
        kind: ``session`` or ``user``.
        owner_id: Its id.
        outcome: ``DIFFERENT`` and ``FAILED``: the two stores are not equal in it.
        messages: Of the session.
        memories: Of the session or user.
        reason: Why they are not equal.
        digest: Of its content, as both stores have it; see ``Digest``. None: they are not equal.
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
        """Whether the stores now have the same of it (in a dry run: would have)."""
        return self.outcome not in (Outcome.DIFFERENT, Outcome.FAILED)


class StoreCopy:
    """Copies sessions, with messages and memory, and what is remembered about their users.

    Records go over as they are; the target gives only version and last activity, from which a ``ttl``
    counts anew. What was written is read again, and must have the same digest. Stopped at any point,
    another copy goes on: what is there and equal stays, a session that is the beginning of the source's
    is completed, and one that is something else is left alone unless it may be replaced. Messages that
    are added to the source while their session is copied are left to the next copy.

    The memory that a copy needs does not depend on the length of a session.

    Args:
        source: Where from; only read.
        target: Where to; nobody else should write to it meanwhile.
        values: Decodes payloads, to compare them.
        clock: Tells what has expired.
        overwrite: Whether what is different in the target is deleted and written anew.
        dry_run: Whether to read and compare only; outcomes say what would be done.
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
        self._transfer = Transfer(source, target, values=values, clock=clock, writes=self._writes)

    async def run(self, query: SessionQuery) -> AsyncGenerator[Copied, None]:
        """Copy every session that a query asks for, each user's memory before the user's first session.

        A query for one user takes that user's memory even if there is no session. What is remembered
        about other users without a session is not found, because a store has no list of them.

        Raises:
            ConfigurationError: Source and target are the same store, and what differs is to be deleted.
            ValidationError: The user is the name under which a store keeps its own.
            StorageError: One of the stores cannot be used; what was copied stays.
        """
        if query.user_id == STORE_OWNER:  # dictionaries and checks of keys are each store's own
            raise ValidationError(f"{STORE_OWNER!r} is no user: what a store keeps for itself is not copied")
        if self._overwrite and self._writes:
            await self._refuse_itself()
        users: set[str] = set()
        if query.user_id is not None:
            users.add(query.user_id)
            yield await self.user(query.user_id)
        async for header in headers(self._source, query):
            if header.user_id is not None and header.user_id not in users:
                users.add(header.user_id)
                yield await self.user(header.user_id)
            yield await self.session(header.session_id)

    async def session(self, session_id: str) -> Copied:
        """Copy one session.

        One that turns out to be damaged, that the target refuses, or that is deleted or changed in the
        source meanwhile is not left in the target by half, if this copy began it.
        """
        result = Copied(kind="session", owner_id=session_id, outcome=Outcome.GONE)
        try:
            original = await self._transfer.original(session_id)
            if original is None:
                return result
            bring = partial(self._transfer.bring, original)
            return await self._settled(result, bring, partial(self._target.delete_session, session_id))
        except SessionNotFoundError:
            return result
        except _NOT_EQUAL as exc:
            return _not_equal(result, exc)

    async def user(self, user_id: str) -> Copied:
        """Copy what is remembered about a user."""
        result = Copied(kind="user", owner_id=user_id, outcome=Outcome.PRESENT)
        scope = MemoryScope("user", user_id)
        bring, remove = (
            partial(self._transfer.bring_user, user_id),
            partial(self._target.clear_memories, scope),
        )
        try:
            return await self._settled(result, bring, remove)
        except _NOT_EQUAL as exc:
            return _not_equal(result, exc)

    async def _refuse_itself(self) -> None:
        """Look whether a mark put into the target is in the source: what is deleted there would be lost."""
        scope = MemoryScope("user", f"luminora-copy-{uuid4().hex}")
        end = to_microseconds(self._clock.now()) + _MARK_US
        mark = MemoryRecord(scope=scope, key="mark", payload=Payload("json", b"{}"), expires_at_us=end)
        try:
            await self._target.put_memory(mark)
            if await self._source.find_memory(scope, mark.key) is not None:
                raise ConfigurationError("the source and the target of the copy are the same store")
        finally:
            await self._target.delete_memory(scope, mark.key)

    async def _settled(
        self, result: Copied, bring: Callable[[], Awaitable[Brought]], remove: Callable[[], Awaitable[object]]
    ) -> Copied:
        """Bring something into the target; what is different there goes first, where that is wished."""
        try:
            brought = await bring()
            outcome = _outcome(brought)
        except DifferentError:
            if not self._overwrite:
                raise
            outcome = Outcome.REPLACED
            if not self._writes:
                return attrs.evolve(result, outcome=outcome)
            await remove()
            brought = await bring()
        return attrs.evolve(
            result,
            outcome=outcome,
            messages=brought.messages,
            memories=brought.memories,
            digest=brought.digest,
        )


def _outcome(brought: Brought) -> Outcome:
    if not brought.lacked:
        return Outcome.PRESENT
    return Outcome.COMPLETED if brought.was_there else Outcome.COPIED


def _not_equal(result: Copied, error: Exception) -> Copied:
    is_damage = isinstance(error, CorruptRecordError | PayloadTooLargeError)
    outcome = Outcome.FAILED if is_damage else Outcome.DIFFERENT
    return attrs.evolve(result, outcome=outcome, reason=str(error))
