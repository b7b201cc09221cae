"""What every backend shares: lifecycle, argument checks, document calls and rewriting of payloads.

A backend subclasses ``BaseStorage``, sets ``backend_name`` and implements the methods that begin with one
underscore. They are called with checked arguments, on an open storage, with the current time; each must do
what ``SessionStorage`` or ``RewritingStorage`` documents for the public method of the same name.
"""

import asyncio
import math
import time
from abc import abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from typing import ClassVar

import attrs

from luminoracore_sdk.adapters.clock import SystemClock
from luminoracore_sdk.adapters.compression.dictionary_store import encodings_of, load_dictionaries
from luminoracore_sdk.adapters.storage import documents
from luminoracore_sdk.adapters.storage.wakeups import Listener, Wakeups
from luminoracore_sdk.application.ports.clock import Clock
from luminoracore_sdk.application.ports.records import (
    MAX_BATCH,
    MAX_PAGE,
    NEVER_EVICTED,
    NO_PAYLOAD,
    ROLES,
    AppendReceipt,
    HeaderTexts,
    IndexRecord,
    IndexRewrite,
    Lease,
    MemoryPut,
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
)
from luminoracore_sdk.application.ports.rewriting import PayloadRewrite
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.application.ports.watching import Change, Wakeup
from luminoracore_sdk.domain.errors import (
    ConflictError,
    LeaseHeldError,
    LeaseLostError,
    PayloadTooLargeError,
    SessionNotFoundError,
    StorageClosedError,
    ValidationError,
    WrongEventLoopError,
)
from luminoracore_sdk.domain.json_value import JSONObject
from luminoracore_sdk.domain.unchecked import unchecked
from luminoracore_sdk.domain.values import MAX_ID_LENGTH, STORE_OWNER, check_id, to_microseconds

__all__ = [
    "MAX_BATCH",
    "MAX_PAGE",
    "Append",
    "BaseStorage",
    "MemoryChange",
    "MessageUpdate",
    "Tail",
    "check_changes",
    "check_fence",
    "check_fork",
    "check_memory_query",
    "check_position",
    "check_times",
    "end_of_prefix",
    "granted",
    "is_live",
    "key_bounds",
    "matches",
    "memory_conflict",
    "payload_conflict",
    "replay_receipt",
]


MAX_MICROSECONDS = 2**62
"""Largest time or duration: the sum of two still fits the 64-bit integers of every backend."""

MAX_SHORT_BYTES = 16 * 1024
"""Largest card or brief: they are part of the header, which every append writes on some backends."""

MAX_INDEX_BYTES = 256 * 1024
"""Largest index of one message."""

MAX_COUNTER = 2**48
"""Largest value of a counter that a caller gives; sums of 32 of them are exact as doubles too."""

_ABOVE_ALL = "\U0010ffff" * (MAX_ID_LENGTH + 1)


def is_live(updated_at_us: int, ttl_us: int | None, now_us: int) -> bool:
    """Return whether a session of that age still counts as there."""
    return ttl_us is None or updated_at_us + ttl_us > now_us


def replay_receipt(backend: str, messages: Sequence[MessageRecord], stored: Mapping[str, int]) -> AppendReceipt | None:
    """Decide what a batch is whose ids may be stored already.

    Args:
        backend: For the error.
        messages: The batch.
        stored: Positions of those of its ids that are stored.

    Returns:
        The first receipt, if the whole batch is stored as it is; None, if none of it is.

    Raises:
        ConflictError: Part of it is stored, or in another order.
    """
    if not stored:
        return None
    positions = [stored.get(message.message_id, 0) for message in messages]
    first = positions[0]
    if first and positions == list(range(first, first + len(messages))):
        return AppendReceipt(first_position=first, last_position=positions[-1], replayed=True)
    known = next(iter(stored))
    raise ConflictError(
        backend=backend,
        key=f"message id {known!a}",
        expected="a batch that is wholly new or wholly stored",
        actual=f"that id at position {stored[known]}",
    )


def matches(header: SessionRecord, query: SessionQuery) -> bool:
    """Return whether a session has the user and tags that a query asks for."""
    return (
        query.user_id in (None, header.user_id)
        and (query.tag is None or query.tag in header.tags)
        and (query.without_tag is None or query.without_tag not in header.tags)
    )


def check_fence(backend: str, session_id: str, fence: int | None, latest: int) -> None:
    """Refuse a write whose fence is not that of the latest lease.

    Args:
        backend: For the error.
        session_id: The session.
        fence: The fence of the call; None: it has none.
        latest: The fence of the latest lease; 0: there was none.

    Raises:
        LeaseLostError: They differ.
    """
    if fence is not None and fence != latest:
        raise LeaseLostError(backend=backend, session_id=session_id, fence=fence, latest=latest)


def granted(  # the facts of one call
    backend: str, session_id: str, lease: Lease | None, *, holder: str, ttl_us: int, now_us: int
) -> Lease:
    """Return the lease that ``acquire_lease`` gives.

    Args:
        backend: For the error.
        session_id: The session.
        lease: The latest lease, which may have ended; None: there was none.
        holder: Who asks.
        ttl_us: For how long.
        now_us: The time.

    Raises:
        LeaseHeldError: Another holder has it.
    """
    if lease is None:
        fence = now_us
    elif lease.until_us <= now_us:
        fence = lease.fence + 1
    elif lease.holder == holder:
        fence = lease.fence
    else:
        raise LeaseHeldError(backend=backend, session_id=session_id, until_us=lease.until_us, now_us=now_us)
    return Lease(fence=fence, holder=holder, until_us=now_us + ttl_us)


def check_fork(backend: str, source_id: str, at: int, last: int) -> None:
    """Refuse to copy messages that are not there.

    Raises:
        ConflictError: The source ends below ``at``.
    """
    if at > last:
        expected, actual = f"a last position of at least {at}", f"last position {last}"
        raise ConflictError(backend=backend, key=f"session {source_id!a}", expected=expected, actual=actual)


@attrs.frozen
class Append:
    """The checked arguments of one ``append_messages`` call.

    Attributes:
        session_id: The session to append to.
        messages: The batch.
        expected_last: Append only if this is the newest position; None: unconditionally.
        now_us: The time of the call, in microseconds.
        deadline: When the call times out, by the event loop's clock, for backends that limit their calls.
        fence: Append only if this is the fence of the latest lease; None: unconditionally.
    """

    session_id: str
    messages: Sequence[MessageRecord]
    expected_last: int | None
    now_us: int
    deadline: float = math.inf
    fence: int | None = None

    @property
    def lane(self) -> str:
        """The session; see ``group_commit.Write``."""
        return self.session_id

    @property
    def is_exclusive(self) -> bool:
        """Whether it is conditional on a position."""
        return self.expected_last is not None

    @property
    def count(self) -> int:
        """The number of messages."""
        return len(self.messages)

    @property
    def size_bytes(self) -> int:
        """The total size of the payloads and indexes."""
        return sum(
            len(message.payload.data) + (0 if message.index is None else len(message.index.data))
            for message in self.messages
        )


_checked_append = unchecked(Append)


@attrs.frozen(kw_only=True)
class MessageUpdate:
    """A call of ``update_message``, once the message was found.

    Attributes:
        session_id: The session.
        message: The message as it was read.
        payload: The new payload; update only if that of ``message`` is still stored.
        brief: Its new brief, for the summary; None: it has none.
        index: Its new index; None: it has none.
        now_us: The time of the call.
    """

    session_id: str
    message: MessageRecord
    payload: Payload
    brief: Payload | None
    index: Payload | None
    now_us: int

    @property
    def updated(self) -> MessageRecord:
        """The message as it is to be stored."""
        return attrs.evolve(self.message, payload=self.payload, brief=self.brief, index=self.index)

    @property
    def rewrite(self) -> PayloadRewrite:
        """The change of the payload."""
        message = self.message
        return PayloadRewrite(
            position=message.position, message_id=message.message_id, old=message.payload, new=self.payload
        )

    def fits(self, found: Sequence[MessageRecord]) -> bool:
        """Return whether what is stored at the position, if anything, is the message as it was read."""
        return list(found) == [self.message]


@attrs.frozen(kw_only=True)
class Tail:
    """A call of ``replace_tail``, and when it was made."""

    session_id: str
    after: int
    messages: Sequence[MessageRecord]
    expected_last: int | None
    now_us: int
    expected_change: int | None = None
    fence: int | None = None

    def replayed(
        self, backend: str, last: int, stored: Mapping[str, int], *, latest_change: int, latest_fence: int
    ) -> TailReceipt | None:
        """Return the receipt if the call is a repeated one; None: the tail is to be replaced.

        Args:
            backend: For errors.
            last: The newest position of the session.
            stored: Positions of those ids that are stored, the tail included.
            latest_change: The number of the latest change of the history; 0: there was none.
            latest_fence: The fence of the latest lease; 0: there was none.

        Raises:
            LeaseLostError: The fence is another one.
            ConflictError: The session ends elsewhere, was changed, or ids are stored.
        """
        receipt = replay_receipt(backend, self.messages, stored)
        if receipt is not None and receipt.first_position == self.after + 1:
            return TailReceipt(removed=[], last_position=last, replayed=True)
        check_fence(backend, self.session_id, self.fence, latest_fence)
        if receipt is not None:
            expected, actual = "ids that are not stored", f"these ids from position {receipt.first_position} on"
        elif last < self.after:
            expected, actual = f"a last position of at least {self.after}", f"last position {last}"
        elif self.expected_last not in (None, last):
            expected, actual = f"last position {self.expected_last}", f"last position {last}"
        elif self.expected_change not in (None, latest_change):
            expected, actual = f"last change {self.expected_change}", f"last change {latest_change}"
        else:
            return None
        raise ConflictError(backend=backend, key=f"session {self.session_id!a}", expected=expected, actual=actual)


@attrs.frozen(kw_only=True)
class MemoryChange:
    """The checked arguments of one ``change_memories`` call, and when it was made and times out; see ``Append``."""

    scope: MemoryScope
    puts: Sequence[MemoryPut]
    deletes: Sequence[str]
    max_entries: int | None
    now_us: int
    deadline: float = math.inf

    @property
    def lane(self) -> MemoryScope:
        """The scope; see ``group_commit.Write``."""
        return self.scope

    @property
    def is_exclusive(self) -> bool:
        """False: several changes of a scope may be written in order, in one transaction."""
        return False

    @property
    def count(self) -> int:
        """The number of puts and deletes."""
        return len(self.puts) + len(self.deletes)

    @property
    def size_bytes(self) -> int:
        """The total size of the payloads."""
        return sum(len(put.record.payload.data) for put in self.puts)

    @property
    def keys(self) -> list[str]:
        """The keys of all puts and deletes."""
        return [*(put.record.key for put in self.puts), *self.deletes]

    def stored(self, backend: str, live: Mapping[str, MemoryRecord]) -> list[MemoryRecord]:
        """Return what is to be stored, in the order of the puts.

        Args:
            backend: For errors.
            live: The memories that are stored under the keys of the puts, and have not expired.

        Raises:
            ConflictError: A version is not the expected one.
        """
        found = []
        for put in self.puts:
            record, before = put.record, live.get(put.record.key)
            version = before.version if before else 0
            if put.expected_version not in (None, version):
                raise memory_conflict(backend, put, version)
            created = before.created_at_us if before else record.created_at_us or self.now_us
            found.append(attrs.evolve(record, created_at_us=created, updated_at_us=self.now_us, version=version + 1))
        return found

    def places(self, max_entries: int) -> int:
        """Return how many evictable memories may stay besides those that are put."""
        return max(0, max_entries - sum(put.record.retention < NEVER_EVICTED for put in self.puts))

    def surplus(self, memories: Sequence[MemoryRecord]) -> list[str]:
        """Return the keys to evict from all memories that the scope has after the change."""
        if self.max_entries is None:
            return []
        put = {put.record.key for put in self.puts}
        others = [memory for memory in memories if memory.key not in put and memory.retention < NEVER_EVICTED]
        others.sort(key=lambda memory: (memory.retention, memory.updated_at_us, memory.key))
        return [memory.key for memory in others[: max(0, len(others) - self.places(self.max_entries))]]


def memory_conflict(backend: str, put: MemoryPut, version: int) -> ConflictError:
    """Return the error for a memory that has another version than the expected one; 0: there is none."""
    scope, expected = put.record.scope, put.expected_version
    return ConflictError(
        backend=backend,
        key=f"memory {put.record.key!a} of {scope.kind} {scope.owner_id!a}",
        expected=f"version {expected}" if expected else "no such memory",
        actual=f"version {version}" if version else "no such memory",
    )


def end_of_prefix(prefix: str) -> str | None:
    """Return the lowest string above all that begin with a prefix, in the order of code points; None: none is."""
    kept = prefix.rstrip("\U0010ffff")
    if not kept:
        return None
    following = ord(kept[-1]) + 1
    return kept[:-1] + chr(0xE000 if following == 0xD800 else following)  # surrogates have no UTF-8 form


def key_bounds(prefix: str, after: str | None, *, descending: bool = False) -> tuple[str, str]:
    """Return the lowest string of a page, which may be ``after`` itself, and a bound above the highest one."""
    low, high = prefix, end_of_prefix(prefix) or _ABOVE_ALL
    if after is None:
        return low, high
    return (low, min(high, after)) if descending else (max(low, after), high)


def payload_conflict(backend: str, session_id: str, position: int) -> ConflictError:
    """Return the error for a payload that is not the one that was read."""
    return ConflictError(
        backend=backend,
        key=f"message {position} of session {session_id!a}",
        expected="the payload that was read",
        actual="another payload, or no message",
    )


def _check_limit(limit: int | None) -> None:
    if limit is not None and (type(limit) is not int or limit < 0):
        raise ValidationError(f"a limit is a whole number, 0 or more, not {limit!a:.80}")


def _check_span(span: MessageRange) -> None:
    """Refuse bounds that are no numbers: backends would compare them in their own ways."""
    _check_limit(span.limit)
    for name, value in (("after", span.after), ("before", 0 if span.before is None else span.before)):
        if type(value) is not int:
            raise ValidationError(f"{name} is a whole number, not {value!a:.80}")


def check_changes(changes: Sequence[PayloadRewrite | IndexRewrite]) -> None:
    """Refuse changes of messages that no backend can make."""
    if not 1 <= len(changes) <= MAX_BATCH:
        raise ValidationError(f"1 to {MAX_BATCH} messages are rewritten at a time, not {len(changes)}")
    for change in changes:
        check_id(change.message_id, "message id")
        if change.position < 1:
            raise ValidationError(f"the position of a message is 1 or more, not {change.position}")
    if len({change.position for change in changes}) < len(changes):
        raise ValidationError("a position occurs twice in one batch")


def check_position(value: int) -> None:
    """Refuse what is not a position or 0: a store would keep True, or a fraction, as the end of a history."""
    if type(value) is not int or value < 0:
        raise ValidationError(f"a position is a whole number, 0 or more, not {value!a:.80}")


def check_times(*microseconds: int | None) -> None:
    """Refuse times and durations that not every backend can keep."""
    for value in microseconds:
        if value is not None:
            if type(value) is not int:
                raise ValidationError(f"microseconds are a whole number, not {value!a:.80}")
            if abs(value) > MAX_MICROSECONDS:
                raise ValidationError(f"{value} microseconds are beyond what every backend can keep")


def _check_condition(expected_last: int | None, fence: int | None, expected_change: int | None = None) -> None:
    """Refuse the condition of a write that backends would compare in their own ways, as there is no such number."""
    for name, value in (("expected_last", expected_last), ("expected_change", expected_change), ("fence", fence)):
        if value is not None and type(value) is not int:
            raise ValidationError(f"{name} is a whole number, not {value!a:.80}")
    if fence is not None and not 0 < fence <= MAX_MICROSECONDS:
        raise ValidationError(f"no lease has the fence {fence!a:.80}; pass the one of a lease")


def _check_short(payload: Payload | None) -> None:
    if payload is not None and len(payload.data) > MAX_SHORT_BYTES:
        raise ValidationError(f"a card or brief has at most {MAX_SHORT_BYTES} bytes, not {len(payload.data)}")


def _check_index(index: Payload | None) -> None:
    if index is not None and len(index.data) > MAX_INDEX_BYTES:
        raise ValidationError(f"the index of a message has at most {MAX_INDEX_BYTES} bytes, not {len(index.data)}")


def _check_texts(texts: HeaderTexts) -> None:
    _check_short(texts.card)
    for brief in (texts.first, texts.last):
        if brief is not None:
            check_position(brief.position)
            _check_short(brief.payload)


def _check_counters(counters: Mapping[str, int]) -> None:
    for name, number in counters.items():
        check_id(name, "counter")
        if type(number) is not int or not (0 if name in ROLES else -MAX_COUNTER) <= number <= MAX_COUNTER:
            raise ValidationError(
                f"a counter is a whole number from {-MAX_COUNTER} to {MAX_COUNTER}, that of a role from 0, "
                f"not {number!a:.80}"
            )


def _check_scope(scope: MemoryScope) -> None:
    check_id(scope.owner_id, f"{scope.kind} id")


def _check_keys(keys: Sequence[str]) -> None:
    if not 1 <= len(keys) <= MAX_BATCH:
        raise ValidationError(f"1 to {MAX_BATCH} memories are changed at a time, not {len(keys)}")
    for key in keys:
        check_id(key, "memory key")
    if len(set(keys)) < len(keys):
        raise ValidationError("a memory key occurs twice in one change")


def check_memory_query(query: MemoryQuery) -> None:
    """Refuse a query that no backend can answer."""
    if query.prefix != "":
        check_id(query.prefix, "prefix")
    if query.after is not None:
        check_id(query.after, "memory key")
    if query.limit is not None and not 1 <= query.limit <= MAX_PAGE:
        raise ValidationError(f"a page holds 1 to {MAX_PAGE} memories, not {query.limit}")


class BaseStorage(SessionStorage):
    """Template of a backend.

    Opens at first use, refuses use after ``close`` and, for a backend bound to one, on another event loop.

    Args:
        clock: Tells the time for timestamps and expiry; the system clock when None.
    """

    max_payload_bytes: ClassVar[int] = 256 * 1024 * 1024
    """Largest payload of one record."""

    backend_name: ClassVar[str]
    """Short name, for errors and logs."""

    loop_bound: ClassVar[bool] = False
    """Whether what ``_open`` acquires belongs to the running event loop."""

    def __init__(self, *, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._is_open = False
        self._is_closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._locks: tuple[asyncio.AbstractEventLoop, asyncio.Lock] | None = None
        self._wakeups = Wakeups()
        self._listener = Listener(self._listen, self._wakeups)

    # -- primitives: what a backend implements ---------------------------------------------------

    async def _open(self) -> None:
        """Connect, and create or check the layout; leave nothing behind on failure."""

    async def _close(self) -> None:
        """Wait for writes in progress, then release what ``_open`` acquired."""

    @abstractmethod
    async def _ping(self) -> None: ...

    @abstractmethod
    async def _schema_version(self) -> int: ...

    @abstractmethod
    async def _put_session(self, record: SessionRecord, expected_version: int | None, now_us: int) -> SessionRecord: ...

    @abstractmethod
    async def _find_session(self, session_id: str, now_us: int) -> SessionRecord | None: ...

    @abstractmethod
    async def _delete_session(self, session_id: str, now_us: int) -> bool: ...

    @abstractmethod
    async def _query_sessions(self, query: SessionQuery, now_us: int) -> Page: ...

    @abstractmethod
    async def _fork_session(
        self, source_id: str, record: SessionRecord, at: int, rewrite: RewriteMessage | None, now_us: int
    ) -> SessionRecord: ...

    @abstractmethod
    async def _acquire_lease(self, session_id: str, holder: str, ttl_us: int, now_us: int) -> Lease: ...

    @abstractmethod
    async def _release_lease(self, session_id: str, fence: int, now_us: int) -> bool: ...

    @abstractmethod
    async def _append_messages(self, append: Append) -> AppendReceipt: ...

    @abstractmethod
    async def _read_messages(self, session_id: str, span: MessageRange, now_us: int) -> list[MessageRecord]: ...

    @abstractmethod
    async def _find_message(self, session_id: str, message_id: str, now_us: int) -> MessageRecord | None: ...

    @abstractmethod
    async def _replace_tail(self, tail: Tail) -> TailReceipt: ...

    @abstractmethod
    async def _update_message(self, update: MessageUpdate) -> bool:
        """Return False if another payload is stored, or no such message."""

    @abstractmethod
    async def _read_index(self, session_id: str, span: MessageRange, now_us: int) -> list[IndexRecord]: ...

    @abstractmethod
    async def _rewrite_index(self, session_id: str, changes: Sequence[IndexRewrite], now_us: int) -> int: ...

    async def _read_turn(self, session_id: str, newest: int, now_us: int) -> TurnRecords | None:
        """Do so in one round trip where these are several."""
        session = await self._find_session(session_id, now_us)
        if session is None:
            return None
        memories = await self._list_memories(MemoryScope("session", session_id), None, now_us)
        try:
            messages = await self._read_messages(session_id, MessageRange(limit=newest, newest=True), now_us)
        except SessionNotFoundError:  # deleted meanwhile
            return None
        return TurnRecords(session=session.of_turn(), memories=memories, messages=messages)

    async def _listen(self, listener: Listener) -> None:  # noqa: ARG002 - for servers
        """Tell a listener what other processes change; only for a backend that is ``loop_bound``, see ``Listener``."""
        return

    @abstractmethod
    async def _truncate_messages(self, session_id: str, after: int, now_us: int) -> int: ...

    @abstractmethod
    async def _change_memories(self, change: MemoryChange) -> list[MemoryRecord]: ...

    @abstractmethod
    async def _touch_memories(
        self, scope: MemoryScope, keys: Sequence[str], expires_at_us: int | None, now_us: int
    ) -> int: ...

    @abstractmethod
    async def _find_memory(self, scope: MemoryScope, key: str, now_us: int) -> MemoryRecord | None: ...

    @abstractmethod
    async def _list_memories(
        self, scope: MemoryScope, query: MemoryQuery | None, now_us: int
    ) -> list[MemoryRecord]: ...

    @abstractmethod
    async def _list_memory_owners(self, prefix: str, after: str | None, limit: int, now_us: int) -> list[str]: ...

    @abstractmethod
    async def _delete_memory(self, scope: MemoryScope, key: str, now_us: int) -> bool: ...

    @abstractmethod
    async def _clear_memories(self, scope: MemoryScope, now_us: int) -> int: ...

    @abstractmethod
    async def _purge_expired(self, now_us: int) -> Purged: ...

    @abstractmethod
    async def _rewrite_session(self, session_id: str, old: Payload, new: Payload, now_us: int) -> bool: ...

    @abstractmethod
    async def _rewrite_texts(self, session_id: str, old: HeaderTexts, new: HeaderTexts, now_us: int) -> bool: ...

    @abstractmethod
    async def _rewrite_messages(self, session_id: str, changes: Sequence[PayloadRewrite], now_us: int) -> int: ...

    @abstractmethod
    async def _rewrite_memory(self, scope: MemoryScope, key: str, old: Payload, new: Payload, now_us: int) -> bool: ...

    # -- lifecycle ---------------------------------------------------------------------------------

    @property
    def backend(self) -> str:
        """The backend's short name."""
        return self.backend_name

    async def open(self) -> None:
        """Open the storage; see ``SessionStorage.open``."""
        if self._is_open:
            self._check_loop()
            return
        async with self._lifecycle_lock():
            if not self._is_open:
                await self._open()
                self._loop = asyncio.get_running_loop()
                self._is_open, self._is_closed = True, False

    async def close(self) -> None:
        """Release everything; see ``SessionStorage.close``."""
        async with self._lifecycle_lock():
            if self._is_open:
                self._check_loop()
            was_open, self._is_open, self._is_closed = self._is_open, False, True
            if was_open:
                await self._listener.close()
                await self._close()

    def _lifecycle_lock(self) -> asyncio.Lock:
        """Return the lock of the running event loop that serializes opening and closing."""
        loop = asyncio.get_running_loop()
        if self._locks is None or self._locks[0] is not loop:
            self._locks = (loop, asyncio.Lock())
        return self._locks[1]

    def _check_loop(self) -> None:
        if self.loop_bound and self._loop is not asyncio.get_running_loop():
            raise WrongEventLoopError(self.backend_name)

    async def _ready(self) -> int:
        """Open at first use, refuse use after close; return the current time in microseconds."""
        if self._is_closed:
            raise StorageClosedError(self.backend_name)
        if not self._is_open:
            await self.open()
        elif self.loop_bound and self._loop is not asyncio.get_running_loop():
            raise WrongEventLoopError(self.backend_name)
        if type(self._clock) is SystemClock:  # the same value at 0.15 µs instead of 0.7
            return time.time_ns() // 1000
        return to_microseconds(self._clock.now())

    def _deadline(self) -> float:
        """Return when a call that begins now times out; see ``Append.deadline``."""
        return math.inf

    async def ping(self) -> None:
        """Do the cheapest round trip; see ``SessionStorage.ping``."""
        await self._ready()
        await self._ping()

    async def schema_version(self) -> int:
        """Return the version of the store's layout."""
        await self._ready()
        return await self._schema_version()

    # -- sessions --------------------------------------------------------------------------------

    async def put_session(self, record: SessionRecord, *, expected_version: int | None = None) -> SessionRecord:
        """Create or replace a header; see ``SessionStorage.put_session``."""
        record = self._checked_header(record)
        return await self._put_session(record, expected_version, await self._ready())

    def _checked_header(self, record: SessionRecord) -> SessionRecord:
        """Refuse a header that cannot be stored; return it without counters of 0 and those that the store counts."""
        check_id(record.session_id)
        if record.user_id is not None:
            check_id(record.user_id, "user id")
        for tag in record.tags:
            check_id(tag, "tag")
        if record.payload is None:
            raise ValidationError("a session is stored with a payload")
        check_times(record.ttl_us, record.created_at_us)
        if record.ttl_us is not None and record.ttl_us <= 0:
            raise ValidationError(f"a session's ttl must be above 0, not {record.ttl_us} microseconds")
        self._check_size(record.payload, "the session document")
        _check_texts(record.texts)
        _check_counters(record.summary.counters)
        counters = {name: number for name, number in record.summary.counters.items() if number and name not in ROLES}
        if len(counters) == len(record.summary.counters):
            return record
        return attrs.evolve(record, summary=attrs.evolve(record.summary, counters=counters))

    async def find_session(self, session_id: str) -> SessionRecord | None:
        """Return a header with its payload, or None."""
        check_id(session_id)
        record = await self._find_session(session_id, await self._ready())
        await load_dictionaries(self, encodings_of([record] if record else []))
        return record

    async def delete_session(self, session_id: str) -> bool:
        """Delete a session with all it holds; see ``SessionStorage.delete_session``."""
        check_id(session_id)
        deleted = await self._delete_session(session_id, await self._ready())
        self._wakeups.wake(session_id)
        return deleted

    async def query_sessions(self, query: SessionQuery) -> Page:
        """Return one page of headers; see ``SessionStorage.query_sessions``."""
        if not 1 <= query.limit <= MAX_PAGE:
            raise ValidationError(f"a page holds 1 to {MAX_PAGE} sessions, not {query.limit}")
        if query.user_id is not None:
            check_id(query.user_id, "user id")
        if query.tag is not None:
            check_id(query.tag, "tag")
        if query.without_tag is not None:
            check_id(query.without_tag, "tag")
        if query.cursor is not None:
            check_times(query.cursor[0])
            check_id(query.cursor[1], "cursor")
        return await self._query_sessions(query, await self._ready())

    async def fork_session(
        self, source_id: str, record: SessionRecord, *, at: int, rewrite: RewriteMessage | None = None
    ) -> SessionRecord:
        """Create a session with a copy of messages; see ``SessionStorage.fork_session``."""
        check_id(source_id)
        check_position(at)
        record = self._checked_header(record)
        return await self._fork_session(source_id, record, at, rewrite, await self._ready())

    # -- leases ----------------------------------------------------------------------------------

    async def acquire_lease(self, session_id: str, *, holder: str, ttl_us: int) -> Lease:
        """Take or renew a lease; see ``SessionStorage.acquire_lease``."""
        check_id(session_id)
        check_id(holder, "holder")
        check_times(ttl_us)
        if ttl_us <= 0:
            raise ValidationError(f"the ttl of a lease must be above 0, not {ttl_us} microseconds")
        return await self._acquire_lease(session_id, holder, ttl_us, await self._ready())

    async def release_lease(self, session_id: str, *, fence: int) -> bool:
        """End a lease; see ``SessionStorage.release_lease``."""
        check_id(session_id)
        _check_condition(None, fence)
        return await self._release_lease(session_id, fence, await self._ready())

    # -- messages --------------------------------------------------------------------------------

    async def append_messages(
        self,
        session_id: str,
        messages: Sequence[MessageRecord],
        *,
        expected_last: int | None = None,
        fence: int | None = None,
    ) -> AppendReceipt:
        """Append all or none; see ``SessionStorage.append_messages``."""
        check_id(session_id)
        messages = tuple(messages)  # the caller may change its list during the await
        if not 1 <= len(messages) <= MAX_BATCH:
            raise ValidationError(f"an append takes 1 to {MAX_BATCH} messages, not {len(messages)}")
        self._check_batch(messages)
        _check_condition(expected_last, fence)
        now_us = await self._ready()
        append = _checked_append(session_id, messages, expected_last, now_us, self._deadline(), fence)
        receipt = await self._append_messages(append)
        self._wakeups.wake(session_id)
        return receipt

    async def read_messages(self, session_id: str, span: MessageRange) -> list[MessageRecord]:
        """Return a range, oldest first; see ``SessionStorage.read_messages``."""
        check_id(session_id)
        _check_span(span)
        messages = await self._read_messages(session_id, span, await self._ready())
        await load_dictionaries(self, {message.payload.encoding for message in messages})
        return messages

    def stream_messages(
        self, session_id: str, *, after: int = 0, before: int | None = None, chunk: int = 500
    ) -> AsyncIterator[MessageRecord]:
        """Yield a range in constant memory; see ``SessionStorage.stream_messages``."""
        return documents.stream_messages(self, session_id, after=after, before=before, chunk=chunk)

    async def truncate_messages(self, session_id: str, *, after: int) -> int:
        """Remove what is above a position; see ``SessionStorage.truncate_messages``."""
        check_id(session_id)
        check_position(after)
        removed = await self._truncate_messages(session_id, after, await self._ready())
        self._wakeups.wake(session_id)
        return removed

    async def find_message(self, session_id: str, message_id: str) -> MessageRecord | None:
        """Return the message of an id, or None; see ``SessionStorage.find_message``."""
        check_id(session_id)
        check_id(message_id, "message id")
        found = await self._find_message(session_id, message_id, await self._ready())
        await load_dictionaries(self, encodings_of([found] if found else []))
        return found

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
        """Remove a tail and append others; see ``SessionStorage.replace_tail``."""
        check_id(session_id)
        messages = tuple(messages)  # the caller may change its list during the await
        check_position(after)
        if len(messages) > MAX_BATCH:
            raise ValidationError(f"a tail is replaced by up to {MAX_BATCH} messages, not {len(messages)}")
        self._check_batch(messages)
        _check_condition(expected_last, fence, expected_change)
        now_us = await self._ready()
        receipt = await self._replace_tail(
            Tail(
                session_id=session_id,
                after=after,
                messages=messages,
                expected_last=expected_last,
                now_us=now_us,
                expected_change=expected_change,
                fence=fence,
            )
        )
        self._wakeups.wake(session_id)
        await load_dictionaries(self, encodings_of(receipt.removed))
        return receipt

    async def update_message(
        self,
        session_id: str,
        position: int,
        *,
        payload: Payload,
        expected: Payload,
        brief: Payload | None = None,
        index: Payload | None = None,
    ) -> MessageRecord:
        """Replace a payload; see ``SessionStorage.update_message``."""
        check_id(session_id)
        self._check_size(payload, "the message")
        _check_short(brief)
        _check_index(index)
        now_us = await self._ready()
        found = await self._read_messages(session_id, MessageRange(after=max(0, position - 1), limit=1), now_us)
        message = found[0] if position > 0 and found else None
        if message is not None and message.payload == payload:
            return message
        if message is not None and message.payload == expected:
            update = MessageUpdate(
                session_id=session_id, message=message, payload=payload, brief=brief, index=index, now_us=now_us
            )
            if await self._update_message(update):
                self._wakeups.wake(session_id)
                return attrs.evolve(message, payload=payload)
        raise payload_conflict(self.backend_name, session_id, position)

    async def read_index(self, session_id: str, span: MessageRange) -> list[IndexRecord]:
        """Return the indexes of a range of messages; see ``SessionStorage.read_index``."""
        check_id(session_id)
        _check_span(span)
        return await self._read_index(session_id, span, await self._ready())

    async def rewrite_index(self, session_id: str, changes: Sequence[IndexRewrite]) -> int:
        """Replace the indexes of messages; see ``SessionStorage.rewrite_index``."""
        check_id(session_id)
        changes = tuple(changes)  # the caller may change its list during the await
        check_changes(changes)
        for change in changes:
            _check_index(change.new)
        return await self._rewrite_index(session_id, changes, await self._ready())

    def watch(
        self, session_id: str, *, after: int = 0, seen: int | None = None, poll_seconds: float = 0.5
    ) -> AsyncIterator[Change]:
        """Yield the changes of a session; see ``SessionStorage.watch``."""
        check_id(session_id)
        check_position(after)
        check_position(0 if seen is None else seen)
        return documents.watch(self, session_id, after=after, seen=seen, poll_seconds=poll_seconds)

    @asynccontextmanager
    async def wakeups(self, session_id: str) -> AsyncIterator[Wakeup]:
        """Return what wakes a watcher; see ``SessionStorage.wakeups``."""
        await self._ready()
        with self._wakeups.of(session_id) as watcher:
            async with self._listener.of(session_id) if self.loop_bound else nullcontext():
                yield watcher

    async def read_turn(self, session_id: str, *, newest: int) -> TurnRecords | None:
        """Return what a turn reads; see ``SessionStorage.read_turn``."""
        check_id(session_id)
        _check_limit(newest)
        found = await self._read_turn(session_id, newest, await self._ready())
        if found is not None:
            await load_dictionaries(self, encodings_of([found.session, *found.memories, *found.messages]))
        return found

    # -- memory ----------------------------------------------------------------------------------

    async def change_memories(
        self,
        scope: MemoryScope,
        puts: Sequence[MemoryPut] = (),
        *,
        deletes: Sequence[str] = (),
        max_entries: int | None = None,
    ) -> list[MemoryRecord]:
        """Put and delete memories; see ``SessionStorage.change_memories``."""
        puts, deletes = tuple(puts), tuple(deletes)  # the caller may change its lists during the await
        _check_scope(scope)
        _check_keys([*(put.record.key for put in puts), *deletes])
        if max_entries is not None and max_entries < 1:
            raise ValidationError(f"max_entries must be at least 1, not {max_entries}")
        for put in puts:
            self._check_put(scope, put)
        now_us = await self._ready()
        change = MemoryChange(
            scope=scope,
            puts=puts,
            deletes=deletes,
            max_entries=max_entries,
            now_us=now_us,
            deadline=self._deadline(),
        )
        return await self._change_memories(change)

    def _check_put(self, scope: MemoryScope, put: MemoryPut) -> None:
        record, version = put.record, put.expected_version
        if record.scope != scope:
            raise ValidationError(f"memory {record.key!a} is of {record.scope}, not of {scope}")
        if record.payload == NO_PAYLOAD:
            raise ValidationError("a memory is stored with a payload")
        if isinstance(record.retention, float) and math.isnan(record.retention):
            raise ValidationError("a memory's retention is a number, not NaN")
        if isinstance(record.retention, int) and abs(record.retention) > MAX_MICROSECONDS:
            raise ValidationError("a memory's retention is a whole number beyond 64 bits")
        if version is not None and (type(version) is not int or version < 0):
            raise ValidationError(f"an expected version is a whole number, 0 or more, not {version!a:.80}")
        self._check_size(record.payload, "the memory")
        check_times(record.expires_at_us, record.created_at_us)

    async def touch_memories(self, scope: MemoryScope, keys: Sequence[str], *, expires_at_us: int | None) -> int:
        """Change when memories expire; see ``SessionStorage.touch_memories``."""
        keys = tuple(keys)  # the caller may change its list during the await
        _check_scope(scope)
        _check_keys(keys)
        check_times(expires_at_us)
        return await self._touch_memories(scope, keys, expires_at_us, await self._ready())

    async def find_memory(self, scope: MemoryScope, key: str) -> MemoryRecord | None:
        """Return one memory, or None."""
        _check_scope(scope)
        check_id(key, "memory key")
        record = await self._find_memory(scope, key, await self._ready())
        await load_dictionaries(self, encodings_of([record] if record else []))
        return record

    async def list_memories(self, scope: MemoryScope, query: MemoryQuery | None = None) -> list[MemoryRecord]:
        """Return memories of a scope; see ``SessionStorage.list_memories``."""
        _check_scope(scope)
        if query is not None:
            check_memory_query(query)
        memories = await self._list_memories(scope, query, await self._ready())
        await load_dictionaries(self, encodings_of(memories))
        return memories

    async def list_memory_owners(
        self, *, prefix: str = "", after: str | None = None, limit: int = MAX_PAGE
    ) -> list[str]:
        """Return the ids of users that have memories; see ``SessionStorage.list_memory_owners``."""
        if prefix != "":
            check_id(prefix, "prefix")
        if after is not None:
            check_id(after, "user id")
        if not 1 <= limit <= MAX_PAGE:
            raise ValidationError(f"a page holds 1 to {MAX_PAGE} users, not {limit}")
        while True:
            found = await self._list_memory_owners(prefix, after, limit, await self._ready())
            owners = [owner for owner in found if owner != STORE_OWNER]
            if owners or not found:
                return owners
            after = found[-1]

    async def delete_memory(self, scope: MemoryScope, key: str) -> bool:
        """Delete one memory; False: there was none."""
        _check_scope(scope)
        check_id(key, "memory key")
        return await self._delete_memory(scope, key, await self._ready())

    async def clear_memories(self, scope: MemoryScope) -> int:
        """Delete every memory of a scope; returns how many were there."""
        _check_scope(scope)
        return await self._clear_memories(scope, await self._ready())

    async def purge_expired(self) -> Purged:
        """Remove what has expired; see ``SessionStorage.purge_expired``."""
        return await self._purge_expired(await self._ready())

    # -- rewriting -------------------------------------------------------------------------------

    async def rewrite_session(self, session_id: str, *, old: Payload, new: Payload) -> bool:
        """Replace a header's payload; see ``RewritingStorage.rewrite_session``."""
        check_id(session_id)
        self._check_size(new, "the session document")
        return await self._rewrite_session(session_id, old, new, await self._ready())

    async def rewrite_texts(self, session_id: str, *, old: HeaderTexts, new: HeaderTexts) -> bool:
        """Replace card and briefs; see ``RewritingStorage.rewrite_texts``."""
        check_id(session_id)
        _check_texts(new)
        return await self._rewrite_texts(session_id, old, new, await self._ready())

    async def rewrite_messages(self, session_id: str, changes: Sequence[PayloadRewrite]) -> int:
        """Replace the payloads of messages; see ``RewritingStorage.rewrite_messages``."""
        check_id(session_id)
        check_changes(changes)
        for change in changes:
            self._check_size(change.new, "the message")
        return await self._rewrite_messages(session_id, changes, await self._ready())

    async def rewrite_memory(self, scope: MemoryScope, key: str, *, old: Payload, new: Payload) -> bool:
        """Replace the payload of a memory; see ``RewritingStorage.rewrite_memory``."""
        check_id(scope.owner_id, f"{scope.kind} id")
        check_id(key, "memory key")
        self._check_size(new, "the memory")
        return await self._rewrite_memory(scope, key, old, new, await self._ready())

    # -- documents -------------------------------------------------------------------------------

    async def save_session(self, session_id: str, data: JSONObject) -> bool:
        """Store a JSON object as the session's document; see ``SessionStorage.save_session``."""
        return await documents.save_session(self, session_id, data)

    async def load_session(self, session_id: str) -> JSONObject | None:
        """Return the session's document; see ``SessionStorage.load_session``."""
        return await documents.load_session(self, session_id)

    async def list_sessions(self) -> list[str]:
        """Return every id by time of creation; see ``SessionStorage.list_sessions``."""
        return await documents.list_sessions(self)

    async def session_exists(self, session_id: str) -> bool:
        """Return whether the session exists."""
        return await self.find_session(session_id) is not None

    # -- rules -----------------------------------------------------------------------------------

    def _check_size(self, payload: Payload, what: str) -> None:
        if len(payload.data) > self.max_payload_bytes:
            raise PayloadTooLargeError(
                backend=self.backend_name,
                key=what,
                size_bytes=len(payload.data),
                limit_bytes=self.max_payload_bytes,
            )

    def _check_batch(self, messages: Sequence[MessageRecord]) -> None:
        for message in messages:
            check_id(message.message_id, "message id")
            if message.role not in ROLES:
                raise ValidationError(f"role {message.role!a} is not one of: {', '.join(sorted(ROLES))}")
            self._check_size(message.payload, "the message")
            check_times(message.created_at_us)
            _check_short(message.brief)
            _check_index(message.index)
            if message.adds:
                _check_counters(message.adds)
        if len(messages) > 1 and len({message.message_id for message in messages}) < len(messages):
            raise ValidationError("a message id occurs twice in one batch")

    def _not_found(self, session_id: str) -> SessionNotFoundError:
        return SessionNotFoundError(session_id, backend=self.backend_name)

    def _version_conflict(self, session_id: str, expected: int, actual: int) -> ConflictError:
        return ConflictError(
            backend=self.backend_name,
            key=f"session {session_id!a}",
            expected=f"version {expected}" if expected else "no such session",
            actual=f"version {actual}" if actual else "no such session",
        )

    def _position_conflict(self, session_id: str, expected: int, actual: int) -> ConflictError:
        return ConflictError(
            backend=self.backend_name,
            key=f"session {session_id!a}",
            expected=f"last position {expected}",
            actual=f"last position {actual}",
        )
