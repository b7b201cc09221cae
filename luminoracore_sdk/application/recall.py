"""Recall: find what was said and what is known, by words and, with an embedder, by meaning.

The terms of each message are stored with it, in the same step (``MessageRecord.index``). Here they become an index in
the process, for one user or some sessions at a time. Before each query it follows what was changed in the store since
the last one: the storage lists the sessions without texts, and of those that have changed the messages that are new are
read. So a query finds what any process has written before, and an index has nothing that the store has not.
"""

import asyncio
import json
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from itertools import islice
from time import monotonic
from typing import TypeVar
from weakref import WeakKeyDictionary

import attrs

from luminoracore_sdk.application.collector import collector_held_off
from luminoracore_sdk.application.indexing import (
    entries_of,
    messages_between,
    read_indexes,
    readable_memories,
    stored_entry,
    vector_of,
)
from luminoracore_sdk.application.off_loop import off_loop, off_loop_to_the_end
from luminoracore_sdk.application.ports.clock import Clock
from luminoracore_sdk.application.ports.codec import EntityCodec
from luminoracore_sdk.application.ports.embedding import Embedder
from luminoracore_sdk.application.ports.prompting import TokenCounter
from luminoracore_sdk.application.ports.records import (
    MAX_PAGE,
    HistoryChange,
    IndexRecord,
    MemoryRecord,
    MemoryScope,
    SessionQuery,
    SessionRecord,
)
from luminoracore_sdk.application.ports.searching import SEARCH_IS_OFF, Search
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.domain.errors import (
    ConfigurationError,
    CorruptRecordError,
    SessionNotFoundError,
    UnreadablePayloadError,
    ValidationError,
)
from luminoracore_sdk.domain.memory import MemoryEntry
from luminoracore_sdk.domain.message import message_text, not_deleted, to_role
from luminoracore_sdk.domain.recall.analyzer import MAX_TEXT_LENGTH
from luminoracore_sdk.domain.recall.hits import Hit
from luminoracore_sdk.domain.recall.index import MEMORY, MESSAGE, Document, ScopeIndex
from luminoracore_sdk.domain.recall.ranking import Filter, Query, Ranked, rank
from luminoracore_sdk.domain.recall.terms import Entry, Vector, entry_of
from luminoracore_sdk.domain.scopes import check_user_id
from luminoracore_sdk.domain.values import check_count, check_id, from_microseconds, to_microseconds, to_utc

__all__ = ["Recall", "RecallScope", "indexed_text", "memory_text", "recall_filter", "recall_scope"]

logger = logging.getLogger(__name__)

_CHUNK = 2000
_IN_A_THREAD = 2000
"""Documents from which on indexes are built and ranked in a thread."""

_KEPT_DOCUMENTS = 500_000
"""Documents of all scopes that are kept in the process; a message of 130 characters takes 0.3 KB."""

_DOCUMENTS_OF_A_SCOPE = 20
"""A scope takes the room of so many documents beside its own: 3 KB if it is empty, 5.6 KB with one message."""

_LOOKED_AGAIN = 1000
"""Messages without a vector that a query looks at again: one may have been computed since."""

_LONGEST_RUN = 256
"""Messages whose texts are read at once."""

_REST = 6
"""After a query that was not embedded in time, so many times that limit pass before another one is."""

_MEMORIES_AT_ONCE = 32
"""Memories that are embedded at once; if time is over, the vectors of those before are kept."""

_MOST = 0.5
_AT_ONCE = 16

T = TypeVar("T")


@attrs.frozen
class RecallScope:
    """What is searched.

    Attributes:
        user_id: The sessions and memories of this user; None: those of all users.
        session_ids: Without a user: these sessions with their memories; None: all sessions, without memories.
    """

    user_id: str | None = None
    session_ids: tuple[str, ...] | None = None


@attrs.frozen
class _Mark:
    """How far the index follows a session."""

    created_at_us: int
    last_position: int
    last_change: int


@attrs.frozen
class _Read:
    """A message that was read for the index; without terms, it cannot be found."""

    record: IndexRecord
    entry: Entry


@attrs.frozen
class _News:
    """What an index lacks of a session.

    Attributes:
        session_id: The session.
        mark: How far the index follows it afterwards; None: the session is gone.
        after: The position up to which nothing has changed.
        messages: All messages behind it.
    """

    session_id: str
    mark: _Mark | None
    after: int
    messages: Sequence[_Read]


@attrs.frozen
class _Memory:
    """A memory that can be found.

    Attributes:
        session_id: The session; None: it is of the user.
        record: What was read.
        entry: The same, decoded.
    """

    session_id: str | None
    record: MemoryRecord
    entry: MemoryEntry


class _Scope:
    """The index of a scope, and what it was made of.

    Attributes:
        index: The index.
        marks: How far it follows each session.
        begins: The cursors of the pages of headers that were read last.
        memories: By their names in the index.
        without_vector: Positions of messages whose vector was not there when they were read, by session.
        unembedded: Entries of memories without a vector. Vectors of memories are not stored.
        lock: Is held while the index is changed or ranked.
        decoding: Is held while a thread decodes: with several at once, the event loop would wait for each of them.
        warned: Whether it was logged that most vectors are missing.
        damage: What was logged of damaged records.
    """

    def __init__(self, search: Search) -> None:
        self.index = ScopeIndex(model=search.model)
        self.marks: dict[str, _Mark] = {}
        self.begins: list[tuple[int, str] | None] = [None]
        self.memories: dict[str, _Memory] = {}
        self.without_vector: dict[str, set[int]] = {}
        self.unembedded: dict[str, Entry] = {}
        self.lock = asyncio.Lock()
        self.decoding = asyncio.Lock()
        self.warned = False
        self.damage: set[str] = set()
        self._search = search

    def forget(self, session_id: str) -> None:
        """Remove a session."""
        self.index.remove_session(session_id)
        self.marks.pop(session_id, None)
        self.without_vector.pop(session_id, None)

    def leave_out(self, damage: Iterable[CorruptRecordError]) -> None:
        """Log what is damaged, once.

        Raises:
            UnreadablePayloadError: A wrapper is not configured, and so nothing is damaged.
        """
        for error in damage:
            if isinstance(error, UnreadablePayloadError):
                raise error
            if str(error) not in self.damage:
                self.damage.add(str(error))
                logger.warning("%s; recall leaves it out", error)

    def take(self, news: Iterable[_News]) -> None:
        """Bring sessions up to date."""
        with collector_held_off():
            for one in news:
                session_id = one.session_id
                if one.mark is None:
                    self.forget(session_id)
                    continue
                self.marks.pop(session_id, None)  # if this fails, it is read anew
                self.index.cut(session_id, after=one.after)
                kept = {position for position in self.without_vector.pop(session_id, ()) if position <= one.after}
                if kept:
                    self.without_vector[session_id] = kept
                self.add(session_id, one.messages)
                self.marks[session_id] = one.mark

    def add(self, session_id: str, messages: Iterable[_Read]) -> None:
        """Add messages of a session, or replace them."""
        for message in messages:
            record, entry = message.record, message.entry
            if entry.frequencies:
                if self._search.lacks_vector(entry):
                    entry = attrs.evolve(entry, vector=None)
                    self.without_vector.setdefault(session_id, set()).add(record.position)
                document = Document(
                    session_id=session_id,
                    position=record.position,
                    role=record.role,
                    created_at_us=record.created_at_us,
                )
                self.index.add(document, entry)

    def add_memory(self, name: str, entry: Entry) -> None:
        """Add a memory, or replace it."""
        memory = self.memories[name]
        document = Document(
            kind=MEMORY,
            key=name,
            created_at_us=memory.record.updated_at_us,
            importance=memory.entry.importance,
        )
        self.index.add(document, entry)
        self.unembedded.pop(name, None)
        if self._search.lacks_vector(entry):
            self.unembedded[name] = entry

    async def embed_memories(self, embedder: Embedder) -> None:
        """Give memories the vectors that they lack."""
        while some := list(islice(self.unembedded.items(), _MEMORIES_AT_ONCE)):
            texts = [indexed_text(self.memories[name].entry)[:MAX_TEXT_LENGTH] for name, _ in some]
            found = await embedder.embed_passages(texts)
            for (name, entry), values in zip(some, found, strict=True):
                self.add_memory(name, attrs.evolve(entry, vector=vector_of(embedder, values)))


class _Patience:
    """Waits for an embedder, each time within a limit; once that has passed, not at all for a while.

    Args:
        late: What is logged if the limit has passed; takes the model and the limit.
        failed: What is logged after an error.
    """

    def __init__(self, *, late: str, failed: str) -> None:
        self._late = late
        self._failed = failed
        self._not_before = 0.0

    async def wait(self, search: Search, call: Callable[[Embedder], Awaitable[T]]) -> T | None:
        """Return what a call returns; None: there is no embedder, or it failed or took too long."""
        embedder = search.embedder
        if embedder is None or monotonic() < self._not_before:
            return None
        try:
            async with asyncio.timeout(search.query_seconds):
                return await call(embedder)
        except TimeoutError:
            self._not_before = monotonic() + _REST * search.query_seconds
            logger.warning(self._late, embedder.model_id, search.query_seconds)
        except Exception:
            logger.warning(self._failed, exc_info=True)
        return None


@attrs.frozen
class Recall:
    """Finds messages and memories.

    Attributes:
        storage: Holds them, and says how they are searched.
        codec: Reads their records.
        tokens: Counts the tokens of what is found.
        clock: Tells the time.
    """

    storage: SessionStorage
    codec: EntityCodec
    tokens: TokenCounter
    clock: Clock
    _scopes: WeakKeyDictionary[asyncio.AbstractEventLoop, OrderedDict[RecallScope, _Scope]] = attrs.field(
        factory=WeakKeyDictionary, init=False
    )
    _queries: _Patience = attrs.field(
        factory=lambda: _Patience(
            late="%s has not embedded a query within %g s; words alone decide",
            failed="the query could not be embedded; words alone decide",
        ),
        init=False,
    )
    _remembered: _Patience = attrs.field(
        factory=lambda: _Patience(
            late="%s: memories were not embedded within %g s; words alone find them",
            failed="memories could not be embedded; words alone find them",
        ),
        init=False,
    )

    async def find(
        self,
        query: str,
        scope: RecallScope,
        *,
        only: Filter,
        limit: int = 10,
        max_tokens: int | None = None,
        around: int = 0,
        explain: bool = False,
    ) -> list[Hit]:
        """Return what answers a query; see ``Sessions.recall``."""
        search = self.storage.search
        if search is None:
            raise ConfigurationError(SEARCH_IS_OFF)
        if not isinstance(query, str):
            raise ValidationError(f"a query is a string, not {type(query).__name__}")
        if limit is None or around is None:
            raise ValidationError("limit and around must be whole numbers of at least 0, not None")
        for value, name in ((limit, "limit"), (max_tokens, "max_tokens"), (around, "around")):
            check_count(value, name)
        held = self._scope(scope, search)
        vector = await self._queries.wait(search, partial(_query_vector, query))
        async with held.lock:
            await self._follow(held, scope, search)
            if vector is not None and held.unembedded:
                await self._remembered.wait(search, held.embed_memories)
            asked = Query.of(query, search.analyzer, vector)
            now_us = to_microseconds(self.clock.now())
            ranked = await off_loop(
                lambda: rank(
                    held.index,
                    asked,
                    limit=limit,
                    weights=search.weights,
                    only=only,
                    now_us=now_us,
                    compare=search.compare,
                    explain=explain,
                ),
                large=len(held.index) > _IN_A_THREAD,
            )
            entries = dict(held.memories)
        hits = await asyncio.gather(*(self._hit(held, found, entries, around) for found in ranked))
        return self._within([hit for hit in hits if hit is not None], max_tokens)

    def forget(self) -> None:
        """Drop the indexes, which hold memories and hashes of words; queries read them again."""
        self._scopes.clear()

    def _scope(self, scope: RecallScope, search: Search) -> _Scope:
        """Return the index of a scope; others make room for a new one, first those not used for the longest time."""
        scopes = self._scopes.setdefault(asyncio.get_running_loop(), OrderedDict())
        held = scopes.get(scope)
        if held is None:
            kept = sum(map(_room, scopes.values()))  # 20 ms for 25,000 scopes, so not for each query
            while kept > _KEPT_DOCUMENTS - _DOCUMENTS_OF_A_SCOPE and scopes:
                kept -= _room(scopes.popitem(last=False)[1])
            held = scopes[scope] = _Scope(search)
        scopes.move_to_end(scope)
        return held

    # -- follow the store ------------------------------------------------------------------------

    async def _follow(self, held: _Scope, scope: RecallScope, search: Search) -> None:
        """Bring an index up to what is stored now."""
        found: set[str] = set()
        changed: list[SessionRecord] = []
        async for header in self._headers(held, scope):
            found.add(header.session_id)
            if not _is_followed(held.marks.get(header.session_id), header):
                changed.append(header)
        for session_id in held.marks.keys() - found:
            held.forget(session_id)
        for first in range(0, len(changed), _AT_ONCE):
            at_once = changed[first : first + _AT_ONCE]
            news = await asyncio.gather(*(self._news(held, one, search) for one in at_once))
            many = sum(len(one.messages) for one in news) > _IN_A_THREAD // 4
            await off_loop_to_the_end(partial(held.take, news), large=many)
        await self._follow_memories(held, scope, search)
        if search.embedder is not None:
            await self._follow_vectors(held, search)

    async def _headers(self, held: _Scope, scope: RecallScope) -> AsyncIterator[SessionRecord]:
        """Yield the headers of a scope; pages that begin where they began the last time are read at once."""
        if scope.session_ids is not None:
            for found in await asyncio.gather(*map(self.storage.find_session, scope.session_ids)):
                if found is not None:
                    yield found
            return
        first = SessionQuery(user_id=scope.user_id, texts=False, limit=MAX_PAGE)
        queries = [attrs.evolve(first, cursor=begin) for begin in held.begins[:_AT_ONCE]]
        read = dict(zip(queries, await asyncio.gather(*map(self.storage.query_sessions, queries)), strict=True))
        query, begins = first, [first.cursor]
        while True:
            page = read[query] if query in read else await self.storage.query_sessions(query)
            for header in page.sessions:
                yield header
            if page.next_cursor is None:
                break
            query = attrs.evolve(query, cursor=page.next_cursor)
            begins.append(query.cursor)
        held.begins = begins

    async def _news(self, held: _Scope, header: SessionRecord, search: Search) -> _News:
        """Return what an index lacks of a session.

        Args:
            held: The index.
            header: What is stored now.
            search: How it is searched.
        """
        session_id, mark, start = header.session_id, _mark(header), 0
        known = held.marks.get(session_id)
        try:
            if known is not None and known.created_at_us == header.created_at_us:
                start = known.last_position
                if known.last_change != header.last_change:
                    found = header if header.changes else await self.storage.find_session(session_id)
                    if found is None or found.created_at_us != header.created_at_us:
                        return _News(session_id, None, 0, ())
                    mark = attrs.evolve(mark, last_change=found.last_change)
                    start = min(start, _unchanged(found.changes, known.last_change))
            messages, last = await self._read(held, session_id, start, search)
            after = await self.storage.find_session(session_id)
            if after is None or after.created_at_us != header.created_at_us:  # it may be that of another user now
                return _News(session_id, None, 0, ())
        except SessionNotFoundError:  # deleted meanwhile
            return _News(session_id, None, 0, ())
        except CorruptRecordError as exc:
            held.leave_out([exc])
            return _News(session_id, mark, start, ())
        return _News(session_id, attrs.evolve(mark, last_position=last), start, messages)

    async def _read(self, held: _Scope, session_id: str, after: int, search: Search) -> tuple[list[_Read], int]:
        """Return the messages of a session above a position, and the newest position."""
        read: list[_Read] = []
        while True:
            damage: list[CorruptRecordError] = []
            found = await read_indexes(self.storage, session_id, after=after, limit=_CHUNK, damage=damage)
            if found.records:
                read += await self._entries(held, session_id, found.records, search)
            held.leave_out(damage)
            after = found.reached
            if found.at_end:
                return read, after

    async def _entries(
        self, held: _Scope, session_id: str, records: Sequence[IndexRecord], search: Search
    ) -> list[_Read]:
        """Return what is known of messages; of those that were stored without their terms, from their texts."""

        def decode() -> list[Entry | None]:
            with collector_held_off():
                return [stored_entry(record, search.analyzer) for record in records]

        async with held.decoding:
            entries = await off_loop(
                decode,
                large=len(records) > _IN_A_THREAD // 4,
            )
        missing = [record.position for record, entry in zip(records, entries, strict=True) if entry is None]
        texts: dict[int, str] = {}
        damage: list[CorruptRecordError] = []
        for first, last in _runs(missing):
            found = await messages_between(self.storage, self.codec, session_id, first, last, damage=damage)
            texts.update({message.position or 0: message_text(message) for message in found})
        held.leave_out(damage)
        analyzed = await entries_of(texts, search.analyzer)
        none = entry_of(())
        return [
            _Read(record, analyzed.get(record.position, none) if entry is None else entry)
            for record, entry in zip(records, entries, strict=True)
        ]

    async def _follow_memories(self, held: _Scope, scope: RecallScope, search: Search) -> None:
        owners: list[tuple[str | None, MemoryScope]] = []
        if scope.user_id is not None:
            owners.append((None, MemoryScope("user", scope.user_id)))
        else:
            owners += [(one, MemoryScope("session", one)) for one in scope.session_ids or ()]
        found: set[str] = set()
        changed: list[tuple[str, _Memory]] = []
        for session_id, owner in owners:
            for record in await self._memories(held, owner):
                name = f"{session_id or ''}\0{record.key}"
                found.add(name)
                known = held.memories.get(name)
                if known is None or known.record != record:
                    try:
                        entry = self.codec.memory(record, backend=self.storage.backend)
                    except CorruptRecordError as exc:
                        held.leave_out([exc])
                        found.discard(name)
                    else:
                        changed.append((name, _Memory(session_id, record, entry)))
        for name in held.memories.keys() - found:
            del held.memories[name]
            held.unembedded.pop(name, None)
            held.index.remove_memory(name)
        texts = [indexed_text(memory.entry) for _, memory in changed]
        entries = await entries_of(dict(enumerate(texts)), search.analyzer)
        for place, (name, memory) in enumerate(changed):
            held.memories[name] = memory
            held.add_memory(name, entries[place])

    async def _memories(self, held: _Scope, owner: MemoryScope) -> list[MemoryRecord]:
        damage: list[CorruptRecordError] = []
        try:
            found = await readable_memories(self.storage, owner, damage=damage)
        except CorruptRecordError as exc:
            found, damage = [], [exc]
        held.leave_out(damage)
        return found

    async def _follow_vectors(self, held: _Scope, search: Search) -> None:
        """Take vectors that were computed since, and ask for those that are missing."""
        if held.without_vector:
            await search.embed_later(tuple(held.without_vector))
        looked = 0
        for session_id, positions in list(held.without_vector.items()):
            if looked > _LOOKED_AGAIN:
                break
            looked += len(positions)
            after = min(positions) - 1
            with suppress(SessionNotFoundError, CorruptRecordError):
                indexes = await read_indexes(self.storage, session_id, after=after, limit=_CHUNK, damage=[])
                for record in indexes.records:
                    entry = stored_entry(record, search.analyzer) if record.position in positions else None
                    if entry is not None and not search.lacks_vector(entry):
                        positions.remove(record.position)
                        held.add(session_id, [_Read(record, entry)])
            if not positions:
                del held.without_vector[session_id]
        missing = sum(map(len, held.without_vector.values()))
        if missing > _LOOKED_AGAIN and missing > _MOST * len(held.index) and not held.warned:
            held.warned = True
            logger.warning(
                "%d of %d messages have no vector of %s; until luminora reindex has run, words alone find them",
                *(missing, len(held.index), search.embedder.model_id if search.embedder else ""),
            )

    # -- return what was found -------------------------------------------------------------------

    async def _hit(self, held: _Scope, found: Ranked, memories: Mapping[str, _Memory], around: int) -> Hit | None:
        """Return a hit with its text; None: it is damaged, or was deleted, and another message may have its place."""
        document, parts = found.document, {} if found.parts is None else attrs.asdict(found.parts, recurse=False)
        if document.kind == MEMORY:
            memory = memories[document.key]
            entry = memory.entry
            return Hit(
                kind="memory",
                session_id=memory.session_id,
                key=entry.key,
                text=memory_text(entry),
                timestamp=entry.updated_at,
                score=found.score,
                parts=parts,
            )
        session_id, position = document.session_id, document.position
        first, last = max(1, position - around), position + around
        damage: list[CorruptRecordError] = []
        try:
            read = await messages_between(self.storage, self.codec, session_id, first, last, damage=damage)
            messages = not_deleted(read)
        except SessionNotFoundError:
            return None
        held.leave_out(damage)
        message = next((message for message in messages if message.position == position), None)
        if message is None or not message_text(message):
            return None
        timestamp = message.timestamp or from_microseconds(document.created_at_us)
        if to_microseconds(timestamp) != document.created_at_us:
            return None
        return Hit(
            kind="message",
            session_id=session_id,
            position=position,
            message_id=message.id,
            role=str(message.role),
            text=message_text(message),
            timestamp=timestamp,
            score=found.score,
            parts=parts,
            around=tuple(messages) if around else (),
        )

    def _within(self, hits: list[Hit], max_tokens: int | None) -> list[Hit]:
        """Return the hits whose texts fit into a number of tokens, the best first."""
        if max_tokens is None:
            return hits
        left, kept = max_tokens, []
        for hit in hits:
            size = self.tokens.count(hit.text)
            if size <= left:
                left -= size
                kept.append(hit)
        return kept


def recall_scope(user_id: str | None, session_ids: Collection[str] | None) -> RecallScope:
    """Return the scope of a call of ``recall``.

    Raises:
        ValidationError: An id is invalid.
    """
    if user_id is not None:
        check_user_id(user_id)
    ids = None
    if session_ids is not None:
        _check_list(session_ids, "session_ids")
        ids = tuple(sorted({check_id(one) for one in session_ids}))
    return RecallScope(user_id, None if user_id is not None else ids)


def recall_filter(
    *,
    user_id: str | None,
    session_ids: Collection[str] | None,
    kinds: Collection[str],
    between: tuple[datetime | None, datetime | None] | None,
    roles: Collection[str] | None,
) -> Filter:
    """Return what may be found by a call of ``recall``.

    Raises:
        ValidationError: A kind, role or time is invalid.
    """
    _check_list(kinds, "kinds")
    if not all(kind in (MESSAGE, MEMORY) for kind in kinds):
        raise ValidationError(f"kinds are of 'message' and 'memory', not {kinds!a:.80}")
    if roles is not None:
        _check_list(roles, "roles")
        roles = tuple(sorted({to_role(role).value for role in roles}))
    if between is not None and (not isinstance(between, tuple | list) or len(between) != 2):
        raise ValidationError("between must be two times, the first and the one behind the last; None: without bound")
    since, until = (None, None) if between is None else between
    return Filter(
        kinds=None if len(set(kinds)) == 2 else tuple(kinds),
        session_ids=None if user_id is None or session_ids is None else tuple(sorted(set(session_ids))),
        roles=roles,
        since_us=None if since is None else to_microseconds(to_utc(since)),
        until_us=None if until is None else to_microseconds(to_utc(until)),
    )


def _check_list(value: object, name: str) -> None:
    if isinstance(value, str | bytes) or not isinstance(value, Collection):
        raise ValidationError(f"{name} must be a list, not {type(value).__name__}")


async def _query_vector(query: str, embedder: Embedder) -> Vector:
    return vector_of(embedder, await embedder.embed_query(query[:MAX_TEXT_LENGTH]))


def memory_text(entry: MemoryEntry) -> str:
    """Return the value of a memory as text."""
    return entry.value if isinstance(entry.value, str) else json.dumps(entry.value, ensure_ascii=False)


def indexed_text(entry: MemoryEntry) -> str:
    """Return the text by whose words a memory is found."""
    return f"{entry.key.replace('_', ' ')}\n{memory_text(entry)}"


def _room(scope: _Scope) -> int:
    return _DOCUMENTS_OF_A_SCOPE + len(scope.index)


def _mark(header: SessionRecord) -> _Mark:
    return _Mark(header.created_at_us, header.last_position, header.last_change)


def _is_followed(mark: _Mark | None, header: SessionRecord) -> bool:
    """Return whether a session is as it was; comparing with a new mark would take three times as long."""
    return (
        mark is not None
        and mark.last_position == header.last_position
        and mark.last_change == header.last_change
        and mark.created_at_us == header.created_at_us
    )


def _unchanged(changes: Iterable[HistoryChange], known: int) -> int:
    """Return the last position below all changes after a number."""
    return min((change.position - (change.kind == "updated") for change in changes if change.number > known), default=0)


def _runs(positions: Sequence[int]) -> list[tuple[int, int]]:
    """Return ascending positions as first and last of runs without a gap, of 256 positions at most."""
    runs: list[tuple[int, int]] = []
    for position in positions:
        if runs and runs[-1][1] == position - 1 and position - runs[-1][0] < _LONGEST_RUN:
            runs[-1] = runs[-1][0], position
        else:
            runs.append((position, position))
    return runs
