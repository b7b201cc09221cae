"""Repetition of calls that fail because the backend is unavailable, where that is safe."""

import logging
import math
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any, TypeVar

import attrs

from luminoracore_sdk.adapters.optional import import_extra
from luminoracore_sdk.adapters.port_calls import fixed, port_calls
from luminoracore_sdk.adapters.wrappers.base import StorageWrapper
from luminoracore_sdk.application.ports.records import (
    MemoryPut,
    MemoryRecord,
    MemoryScope,
    MessageRecord,
    RewriteMessage,
    SessionRecord,
    TailReceipt,
)
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.domain.errors import (
    ConfigurationError,
    ConflictError,
    StorageAccessError,
    StorageFullError,
    StorageUnavailableError,
)

__all__ = ["RetryingStorage"]

T = TypeVar("T")

logger = logging.getLogger(__name__)

_HOPELESS = (StorageAccessError, StorageFullError)


class RetryingStorage(StorageWrapper):
    """Repeat calls that fail with ``StorageUnavailableError``, with exponential backoff and jitter.

    Not repeated: a refused password or permission (``StorageAccessError``), a full disk (``StorageFullError``),
    any other error, a cancelled call, ``ping`` and ``close``. ``StorageReadOnlyError`` is repeated, because a
    replica is read-only for a moment while it becomes the primary.

    A write without an answer (``in_doubt``) may have been done. Repeating it is safe:

    - ``append_messages`` recognizes the message ids; the receipt then has ``replayed``.
    - ``put_session`` with ``expected_version``, and ``fork_session``: if the repetition conflicts and the stored
      header is the one this call wrote, that header is returned. If another writer has replaced it meanwhile, the
      conflict is raised, although this call's header was stored for a while.
    - ``change_memories`` and ``put_memory`` with expected versions: likewise, if the stored memories are those that
      this call wrote.
    - Other writes are idempotent. A repetition counts as a write of its own: it overwrites what other writers
      stored in between, and a version may increase by two. A delete in doubt returns True, because the first
      attempt may have found the record; a count may be too low.

    No attempt begins later than ``time_limit + longest_wait`` after the first one; each is bounded by the backend's
    own time limit. Then the last error is raised. Every repetition is logged. Needs the ``retry`` extra, whose
    library, stamina, can be deactivated for a process, for example in tests.

    Args:
        base: The storage below.
        attempts: Largest number of attempts, including the first.
        first_wait: Seconds before the second attempt; doubled before each further one. A random time of up to
            ``first_wait`` is added, so that clients that failed together do not return together.
        longest_wait: Upper bound of a wait, in seconds.
        time_limit: Seconds after which no further wait begins.

    Raises:
        ConfigurationError: An option cannot work.
        MissingDependencyError: The extra is not installed.
    """

    def __init__(
        self,
        base: SessionStorage,
        *,
        attempts: int = 4,
        first_wait: float = 0.05,
        longest_wait: float = 2.0,
        time_limit: float = 30.0,
    ) -> None:
        super().__init__(base)
        if type(attempts) is not int or attempts < 1:
            raise ConfigurationError(f"attempts must be a whole number of at least 1, not {attempts!r}")
        if not 0 <= first_wait <= longest_wait < math.inf:
            raise ConfigurationError(
                f"first_wait and longest_wait must be seconds with 0 <= first_wait <= longest_wait, "
                f"not {first_wait!r} and {longest_wait!r}"
            )
        if not 0 < time_limit < math.inf:
            raise ConfigurationError(f"time_limit must be a number of seconds above 0, not {time_limit!r}")
        self._attempts = attempts
        # not stamina's decorator, which passes the arguments of a call, message bodies among them, to its log
        self._attempts_of = partial(
            import_extra("stamina", needed_by="RetryingStorage", extra="retry").retry_context,
            attempts=attempts,
            timeout=time_limit,
            wait_initial=first_wait,
            wait_max=longest_wait,
            wait_jitter=first_wait,
        )

    async def _again(self, name: str, call: Callable[[], Awaitable[T]], doubt: "_Doubt | None" = None) -> T:
        """Repeat a call until it returns or fails with an error that a repetition cannot cure.

        Args:
            name: Of the call, for the log.
            call: Makes one attempt.
            doubt: Records whether a failed attempt may have been done.
        """
        met = doubt or _Doubt()
        async for attempt in self._attempts_of(on=met.may_pass):
            with attempt:
                if met.error is not None:
                    logger.warning("%s: %s, attempt %d of %d", met.error, name, attempt.num, self._attempts)
                return await call()
        raise AssertionError("the last attempt returned or raised")  # pragma: no cover  # the loop never ends by itself

    # -- sessions --------------------------------------------------------------------------------

    async def put_session(self, record: SessionRecord, *, expected_version: int | None = None) -> SessionRecord:
        """Put, with retries; see ``SessionStorage.put_session`` and this class."""
        doubt = _Doubt()

        async def put() -> SessionRecord:
            try:
                return await self.base.put_session(record, expected_version=expected_version)
            except ConflictError:
                if expected_version is None or not doubt.exists:
                    raise
                found = await self.base.find_session(record.session_id)
                if found is None or not _is_put(found, record, expected_version):
                    raise
                return found

        return await self._again("put_session", put, doubt)

    async def delete_session(self, session_id: str) -> bool:
        """Delete, with retries; see ``SessionStorage.delete_session`` and this class."""
        doubt = _Doubt()
        existed = await self._again("delete_session", partial(self.base.delete_session, session_id), doubt)
        return existed or doubt.exists

    async def fork_session(
        self, source_id: str, record: SessionRecord, *, at: int, rewrite: RewriteMessage | None = None
    ) -> SessionRecord:
        """Fork, with retries; see ``SessionStorage.fork_session`` and this class."""
        doubt = _Doubt()

        async def fork() -> SessionRecord:
            try:
                return await self.base.fork_session(source_id, record, at=at, rewrite=rewrite)
            except ConflictError:
                found = await self.base.find_session(record.session_id) if doubt.exists else None
                if found is None or found.last_position != at or not _is_put(found, record, 0):
                    raise
                return found

        return await self._again("fork_session", fork, doubt)

    # -- messages --------------------------------------------------------------------------------

    async def replace_tail(
        self,
        session_id: str,
        *,
        after: int,
        messages: Sequence[MessageRecord] = (),
        expected_last: int | None = None,
        expected_change: int | None = None,
        fence: int | None = None,
    ) -> TailReceipt:
        """Replace exactly once, with retries; see ``SessionStorage.replace_tail`` and this class."""
        messages = tuple(messages)  # the caller may change its list between two attempts
        doubt = _Doubt()
        replace = partial(
            self.base.replace_tail,
            session_id,
            after=after,
            messages=messages,
            expected_last=expected_last,
            expected_change=expected_change,
            fence=fence,
        )
        try:
            return await self._again("replace_tail", replace, doubt)
        except ConflictError as exc:
            if messages or doubt.error is None or not doubt.exists:
                raise
            raise doubt.error from exc  # an earlier attempt may have removed the tail

    # -- memory ----------------------------------------------------------------------------------

    async def change_memories(
        self,
        scope: MemoryScope,
        puts: Sequence[MemoryPut] = (),
        *,
        deletes: Sequence[str] = (),
        max_entries: int | None = None,
    ) -> list[MemoryRecord]:
        """Change, with retries; see ``SessionStorage.change_memories`` and this class."""
        puts, deletes = tuple(puts), tuple(deletes)  # the caller may change its lists between two attempts
        doubt = _Doubt()

        async def change() -> list[MemoryRecord]:
            try:
                return await self.base.change_memories(scope, puts, deletes=deletes, max_entries=max_entries)
            except ConflictError:
                found = [await self.base.find_memory(scope, put.record.key) for put in puts] if doubt.exists else []
                stored = [
                    memory for memory, put in zip(found, puts, strict=False) if memory and _is_stored(memory, put)
                ]
                if len(stored) < len(puts):
                    raise
                return stored

        return await self._again("change_memories", change, doubt)

    async def delete_memory(self, scope: MemoryScope, key: str) -> bool:
        """Delete, with retries; see ``SessionStorage.delete_memory`` and this class."""
        doubt = _Doubt()
        existed = await self._again("delete_memory", partial(self.base.delete_memory, scope, key), doubt)
        return existed or doubt.exists


def _repeated(name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
    async def call(self: RetryingStorage, *args: Any, **kwargs: Any) -> Any:
        arguments, options = fixed(args, kwargs)
        return await self._again(name, partial(getattr(self.base, name), *arguments, **options))

    return call


_NOT_REPEATED = ("close", "ping")
_BUILT_ON_OTHERS = ("list_sessions", "load_session", "put_memory", "save_session", "session_exists")

for _name, _call in port_calls(RetryingStorage, _repeated, without=(*_NOT_REPEATED, *_BUILT_ON_OTHERS)).items():
    setattr(RetryingStorage, _name, _call)


@attrs.define
class _Doubt:
    """Errors of the attempts of one call.

    Attributes:
        exists: Whether a failed attempt may have been done.
        error: The last error that was worth a repetition.
    """

    exists: bool = False
    error: StorageUnavailableError | None = None

    def may_pass(self, error: BaseException) -> bool:
        """Record an attempt's error; return whether another attempt may succeed."""
        if not isinstance(error, StorageUnavailableError):
            return False
        self.exists = self.exists or error.in_doubt
        self.error = error
        return not isinstance(error, _HOPELESS)


def _is_put(found: SessionRecord, record: SessionRecord, expected_version: int) -> bool:
    """Return whether a stored header is the result of putting a record over a version."""
    return found.version == expected_version + 1 and _content(found) == _content(record)


def _content(record: SessionRecord) -> tuple[object, ...]:
    return record.payload, record.card, record.user_id, record.tags, record.ttl_us


def _is_stored(found: MemoryRecord, put: MemoryPut) -> bool:
    """Return whether a stored memory is the result of a put."""
    record, expected = put.record, put.expected_version
    return (
        expected in (None, found.version - 1)
        and found.payload == record.payload
        and (found.retention, found.expires_at_us) == (record.retention, record.expires_at_us)
    )
