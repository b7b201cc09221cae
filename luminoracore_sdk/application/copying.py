"""The use case of copying a store into another one, session by session, with proof that it is equal."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from enum import StrEnum
from functools import partial
from uuid import uuid4

import attrs

from luminoracore_sdk.application.copying_errors import ChangedError, DifferentError, MeanwhileError
from luminoracore_sdk.application.copying_steps import Brought, Transfer
from luminoracore_sdk.application.listing import headers
from luminoracore_sdk.application.ports.clock import Clock
from luminoracore_sdk.application.ports.codec import ValueCodec
from luminoracore_sdk.application.ports.records import MemoryRecord, MemoryScope, Payload, SessionQuery
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.domain.errors import (
    ConfigurationError,
    CorruptRecordError,
    PayloadTooLargeError,
    SessionNotFoundError,
    ValidationError,
)
from luminoracore_sdk.domain.values import STORE_OWNER, to_microseconds

__all__ = ["Copied", "Outcome", "StoreCopy"]

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
