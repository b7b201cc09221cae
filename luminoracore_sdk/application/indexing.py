"""The indexes of messages: what is stored with a message in order to find it."""

import asyncio
import logging
from asyncio import AbstractEventLoop, Task
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TypeVar

import attrs

from luminoracore_sdk.application.off_loop import MANY_WORDS, off_loop
from luminoracore_sdk.application.ports.codec import EntityCodec
from luminoracore_sdk.application.ports.embedding import Embedder
from luminoracore_sdk.application.ports.records import (
    IndexRecord,
    IndexRewrite,
    MemoryQuery,
    MemoryRecord,
    MemoryScope,
    MessageRange,
    Payload,
)
from luminoracore_sdk.application.ports.searching import Search
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.domain.errors import (
    CorruptRecordError,
    SessionNotFoundError,
    StorageError,
    UnreadablePayloadError,
    ValidationError,
)
from luminoracore_sdk.domain.message import Message, message_text
from luminoracore_sdk.domain.pieces import LARGE
from luminoracore_sdk.domain.recall.analyzer import MAX_TEXT_LENGTH, Analyzer
from luminoracore_sdk.domain.recall.terms import Entry, Vector, decode, encode, entry_of

__all__ = [
    "Embedding",
    "Indexer",
    "Indexes",
    "entries_of",
    "index_payload",
    "messages_between",
    "read_indexes",
    "readable_memories",
    "stored_entry",
    "text_index",
    "vector_of",
]

logger = logging.getLogger(__name__)

_ENCODING = "terms"
_CHUNK = 256
_CLOSE_SECONDS = 30.0
_STOP_SECONDS = 1.0
"""Time that an embedder gets to end after it was cancelled."""
_WAIT_SECONDS = 5.0
"""Time after a failure within which no other message is embedded."""

_ANY_TEXT = "word"
"""A model that cannot embed this is out of order; one that can refuses some other text."""

_MOST_REFUSED = 20
"""Texts that the model may refuse one by one; with more of them, its error ends the work."""

_MOST_DAMAGED = 20
"""Damaged records of a range that are left out; with more of them, none is read."""

T = TypeVar("T")


def index_payload(entry: Entry, analyzer: Analyzer) -> Payload:
    """Return an entry as it is stored."""
    return Payload(_ENCODING, encode(entry, analyzer))


def text_index(analyzer: Analyzer, text: str) -> Payload:
    """Return what is stored of a text in order to find it by its words."""
    return index_payload(entry_of(analyzer.terms(text)), analyzer)


def stored_entry(record: IndexRecord, analyzer: Analyzer) -> Entry | None:
    """Return what is stored of a message; None: nothing, or what another analyzer made, or damaged bytes."""
    if record.index is None or record.index.encoding != _ENCODING:
        return None
    try:
        return decode(record.index.data, analyzer)
    except ValidationError:
        return None


def vector_of(embedder: Embedder, values: Sequence[float]) -> Vector:
    """Return the vector of what an embedder returned.

    Raises:
        ValidationError: It has another dimension than it should, or is not finite.
    """
    if len(values) != embedder.dimension:
        raise ValidationError(
            f"{embedder.model_id} returned a vector of {len(values)} dimensions, not {embedder.dimension}"
        )
    return Vector.of(embedder.model_id, list(map(float, values)))  # a list, where numpy returns an array


async def entries_of(texts: Mapping[int, str], analyzer: Analyzer) -> dict[int, Entry]:
    """Return the entries of texts by position, without vectors."""
    size = sum(map(len, texts.values()))
    return await off_loop(
        lambda: {position: entry_of(analyzer.terms(text)) for position, text in texts.items()},
        large=size > MANY_WORDS,
    )


async def messages_between(
    storage: SessionStorage,
    codec: EntityCodec,
    session_id: str,
    first: int,
    last: int,
    *,
    damage: list[CorruptRecordError],
) -> list[Message]:
    """Return the messages from one position to another; those that were deleted have no text.

    Args:
        storage: Holds them.
        codec: Reads them.
        session_id: Their session.
        first: Position of the first one.
        last: Position of the last one.
        damage: Takes the errors of those that are damaged.

    Raises:
        SessionNotFoundError: No such session.
        CorruptRecordError: More than 20 are damaged, or a wrapper is not configured.
    """

    async def read(first: int, last: int) -> list[Message]:
        records = await storage.read_messages(session_id, MessageRange(after=first - 1, before=last + 1))
        size = sum(len(record.payload.data) for record in records)
        return await off_loop(
            lambda: [codec.message(record, backend=storage.backend, session_id=session_id) for record in records],
            large=size > LARGE,
        )

    return await _intact(read, first, last, damage)


async def readable_memories(
    storage: SessionStorage, scope: MemoryScope, *, damage: list[CorruptRecordError]
) -> list[MemoryRecord]:
    """Return the memories of a scope.

    Args:
        storage: Holds them.
        scope: The scope.
        damage: Takes the errors of those that are damaged.

    Raises:
        CorruptRecordError: The backend cannot tell which are damaged, or a wrapper is not configured.
    """
    try:
        return await storage.list_memories(scope)
    except UnreadablePayloadError:
        raise
    except CorruptRecordError:
        return await storage.list_memories(scope, MemoryQuery(on_damage=damage.append))


@attrs.frozen
class Indexes:
    """The indexes of some messages in a row.

    Attributes:
        records: Those that are not damaged.
        reached: The position of the last message.
        at_end: Whether there are no messages behind it.
    """

    records: list[IndexRecord]
    reached: int
    at_end: bool


async def read_indexes(
    storage: SessionStorage, session_id: str, *, after: int, limit: int, damage: list[CorruptRecordError]
) -> Indexes:
    """Return the indexes of the messages above a position.

    Args:
        storage: Holds them.
        session_id: Their session.
        after: The position.
        limit: Upper bound on the messages.
        damage: Takes the errors of those that are damaged.

    Raises:
        SessionNotFoundError: No such session.
        CorruptRecordError: More than 20 are damaged, a wrapper is not configured, or the session is damaged.
    """
    try:
        records = await storage.read_index(session_id, MessageRange(after=after, limit=limit))
    except CorruptRecordError:
        header = await storage.find_session(session_id)
        if header is None or header.last_position <= after:
            raise

        async def read(first: int, last: int) -> list[IndexRecord]:
            return await storage.read_index(session_id, MessageRange(after=first - 1, before=last + 1))

        reached = min(after + limit, header.last_position)
        return Indexes(await _intact(read, after + 1, reached, damage), reached, at_end=False)
    return Indexes(records, records[-1].position if records else after, len(records) < limit)


async def _intact(
    read: Callable[[int, int], Awaitable[list[T]]], first: int, last: int, damage: list[CorruptRecordError]
) -> list[T]:
    """Return the records of a range without those that are damaged, which are found by halving it."""
    try:
        return await read(first, last)
    except CorruptRecordError as exc:
        if isinstance(exc, UnreadablePayloadError) or len(damage) >= _MOST_DAMAGED:
            raise
        if first >= last:
            damage.append(exc)
            return []
    middle = (first + last) // 2
    return await _intact(read, first, middle, damage) + await _intact(read, middle + 1, last, damage)


async def _vectors(
    embedder: Embedder, texts: Sequence[str], refused: list[Exception] | None
) -> Sequence[Vector | None]:
    """Return the vectors of texts; None for one that alone makes the embedder fail.

    Args:
        embedder: The embedder.
        texts: The texts.
        refused: Takes the errors of such texts, 20 at most; None: any error is raised.

    Raises:
        Exception: Of the embedder, if it fails for any text.
    """
    try:
        return await _all_vectors(embedder, texts)
    except Exception as exc:
        if refused is None or isinstance(exc, ValidationError):  # vectors of a wrong form are the embedder's fault
            raise
        await _all_vectors(embedder, [_ANY_TEXT])
    return await _possible_vectors(embedder, texts, refused)


async def _possible_vectors(
    embedder: Embedder, texts: Sequence[str], refused: list[Exception]
) -> Sequence[Vector | None]:
    if len(texts) > 1:
        with suppress(Exception):
            return await _all_vectors(embedder, texts)
        middle = len(texts) // 2
        first = await _possible_vectors(embedder, texts[:middle], refused)
        return [*first, *await _possible_vectors(embedder, texts[middle:], refused)]
    try:
        return await _all_vectors(embedder, texts)
    except Exception as exc:
        if len(refused) >= _MOST_REFUSED:
            raise
        refused.append(exc)
        return [None]


async def _all_vectors(embedder: Embedder, texts: Sequence[str]) -> list[Vector]:
    found = await embedder.embed_passages(texts)
    if len(found) != len(texts):
        raise ValidationError(f"{embedder.model_id} returned {len(found)} vectors for {len(texts)} texts")
    return [vector_of(embedder, values) for values in found]


@attrs.frozen(kw_only=True)
class Indexer:
    """Completes what is stored in order to find messages.

    Attributes:
        storage: Holds the messages.
        codec: Reads them.
        search: How they are found.
    """

    storage: SessionStorage
    codec: EntityCodec
    search: Search

    def lacks(self, entry: Entry | None) -> bool:
        """Return whether a message lacks its terms, or the vector of the embedder."""
        return entry is None or self.search.lacks_vector(entry)

    async def complete(
        self,
        session_id: str,
        *,
        after: int = 0,
        damage: list[CorruptRecordError],
        refused: list[Exception] | None = None,
    ) -> int:
        """Store terms and vectors of the messages above a position that lack them; return their number.

        A message that is changed meanwhile is left to who changed it.

        Args:
            session_id: The session.
            after: The position.
            damage: Takes the errors of messages that are damaged.
            refused: Takes the errors of the embedder for single texts, 20 at most; None: the first one is raised.

        Raises:
            ValidationError: The embedder returned vectors of another number or dimension than it should.
            CorruptRecordError: More than 20 are damaged, a wrapper is not configured, or the session is damaged.
        """
        written = 0
        while True:
            try:
                found = await read_indexes(self.storage, session_id, after=after, limit=_CHUNK, damage=damage)
                written += await self._complete(session_id, found.records, damage, refused)
            except SessionNotFoundError:  # deleted meanwhile
                return written
            if found.at_end:
                return written
            after = found.reached

    async def _complete(
        self,
        session_id: str,
        records: Sequence[IndexRecord],
        damage: list[CorruptRecordError],
        refused: list[Exception] | None,
    ) -> int:
        analyzer, embedder = self.search.analyzer, self.search.embedder
        lacking = {one.position: one for one in records if self.lacks(stored_entry(one, analyzer))}
        if not lacking:
            return 0
        first, last = min(lacking), max(lacking)
        messages = await messages_between(self.storage, self.codec, session_id, first, last, damage=damage)
        texts = {position: message_text(one) for one in messages if (position := one.position or 0) in lacking}
        entries = await entries_of(texts, analyzer)
        found = [position for position, entry in entries.items() if entry.frequencies]
        if embedder is not None and found:
            embedded = [texts[position][:MAX_TEXT_LENGTH] for position in found]
            for position, vector in zip(found, await _vectors(embedder, embedded, refused), strict=True):
                entries[position] = attrs.evolve(entries[position], vector=vector)
        changes = [
            IndexRewrite(
                position=position,
                message_id=lacking[position].message_id,
                old=lacking[position].index,
                new=new,
            )
            for position, entry in entries.items()
            if (new := index_payload(entry, analyzer)) != lacking[position].index  # the model may have refused it again
        ]
        return await self.storage.rewrite_index(session_id, changes) if changes else 0


class Embedding:
    """Computes vectors behind the writes, one session after the other, oldest first; then those that queries lack.

    What is not done when the process ends is found again: a query asks for what is missing, and so does ``reindex``.

    Args:
        indexer: Completes sessions.
    """

    def __init__(self, indexer: Indexer) -> None:
        self._indexer = indexer
        self._written: dict[str, int] = {}
        self._asked: dict[str, int] = {}
        self._current = self._written
        self._task: Task[None] | None = None
        self._not_before = 0.0

    def later(self, session_id: str, *, after: int = 0) -> None:
        """Embed the messages of a session above a position, which were written; returns at once."""
        self._put(self._written, session_id, after)
        self._start()

    def asked(self, session_ids: Iterable[str]) -> None:
        """Embed the messages of sessions that a query has found without vectors; returns at once."""
        self._asked.update(dict.fromkeys(session_ids, 0))
        self._start()

    @staticmethod
    def _put(waiting: dict[str, int], session_id: str, after: int) -> None:
        waiting[session_id] = min(after, waiting.get(session_id, after))

    def _start(self) -> None:
        loop = asyncio.get_running_loop()
        if not self._is_running(loop) and loop.time() >= self._not_before:
            self._task = loop.create_task(self._run())

    def _is_running(self, loop: AbstractEventLoop) -> bool:
        task = self._task
        return task is not None and not task.done() and (task.get_loop() is loop or not task.get_loop().is_closed())

    async def _run(self) -> None:
        while waiting := self._written or self._asked:
            self._current = waiting
            session_id, after = next(iter(waiting.items()))
            del waiting[session_id]
            done, damage, refused = False, list[CorruptRecordError](), list[Exception]()
            try:
                await self._indexer.complete(session_id, after=after, damage=damage, refused=refused)
                done = True
            except CorruptRecordError as exc:  # to be tried again when it is written to, or asked for
                damage.append(exc)
                done = True
            except Exception as exc:
                self._not_before = asyncio.get_running_loop().time() + _WAIT_SECONDS
                logger.warning("messages wait for their vectors: %s", exc, exc_info=not isinstance(exc, StorageError))
                return
            finally:
                if damage:
                    logger.warning("%d damaged messages get no vectors: %s", len(damage), damage[0])
                if refused:  # to be tried again when their session is asked for, but not by every query
                    self._not_before = asyncio.get_running_loop().time() + _WAIT_SECONDS
                    logger.warning("%d messages get no vectors, which the model refuses: %s", len(refused), refused[0])
                if not done:
                    self._put(waiting, session_id, after)

    async def drain(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109  # no error
        """Wait until all is embedded; return False if the time was over, or an embedding failed."""
        loop = asyncio.get_running_loop()
        if (self._written or self._asked) and not self._is_running(loop):
            self._task = loop.create_task(self._run())
        task = self._task
        if task is not None and not task.done() and task.get_loop() is loop:
            await asyncio.wait({task}, timeout=_CLOSE_SECONDS if timeout is None else timeout)
            await self._stop(task)
            if not task.done():
                return False
        return not (self._written or self._asked)

    async def close(self) -> None:
        """Wait until what was written is embedded, up to 30 seconds; what queries lack is left to later ones."""
        task = self._task
        if task is not None and self._current is self._asked and task.get_loop() is asyncio.get_running_loop():
            await self._stop(task)
        self._asked.clear()
        await self.drain()

    @staticmethod
    async def _stop(task: Task[None]) -> None:
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=_STOP_SECONDS)
