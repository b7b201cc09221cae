"""The indexes of messages: what is stored with a message in order to find it."""

import asyncio
import logging
from asyncio import AbstractEventLoop, Task
from collections.abc import Mapping, Sequence

import attrs

from luminoracore_sdk.application.off_loop import MANY_WORDS, off_loop
from luminoracore_sdk.application.ports.codec import EntityCodec
from luminoracore_sdk.application.ports.embedding import Embedder
from luminoracore_sdk.application.ports.records import IndexRecord, IndexRewrite, MessageRange, Payload
from luminoracore_sdk.application.ports.searching import Search
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.domain.errors import SessionNotFoundError, StorageError, ValidationError
from luminoracore_sdk.domain.message import Message, is_deleted, message_text
from luminoracore_sdk.domain.pieces import LARGE
from luminoracore_sdk.domain.recall.analyzer import Analyzer
from luminoracore_sdk.domain.recall.terms import Entry, Vector, decode, encode, entry_of

__all__ = [
    "Embedding",
    "Indexer",
    "entries_of",
    "index_payload",
    "messages_between",
    "stored_entry",
    "text_index",
    "vector_of",
]

logger = logging.getLogger(__name__)

_ENCODING = "terms"
_CHUNK = 256
_CLOSE_SECONDS = 30.0
_WAIT_SECONDS = 5.0
"""Time after a failure within which no other message is embedded."""


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
    return Vector.of(embedder.model_id, values)


async def entries_of(texts: Mapping[int, str], analyzer: Analyzer) -> dict[int, Entry]:
    """Return the entries of texts by position, without vectors."""
    size = sum(map(len, texts.values()))
    return await off_loop(
        lambda: {position: entry_of(analyzer.terms(text)) for position, text in texts.items()},
        large=size > MANY_WORDS,
    )


async def messages_between(
    storage: SessionStorage, codec: EntityCodec, session_id: str, first: int, last: int
) -> list[Message]:
    """Return the messages from one position to another that were not deleted.

    Raises:
        SessionNotFoundError: No such session.
    """
    records = await storage.read_messages(session_id, MessageRange(after=first - 1, before=last + 1))
    size = sum(len(record.payload.data) for record in records)
    messages = await off_loop(
        lambda: [codec.message(record, backend=storage.backend, session_id=session_id) for record in records],
        large=size > LARGE,
    )
    return [message for message in messages if not is_deleted(message)]


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

    async def complete(self, session_id: str, *, after: int = 0) -> int:
        """Store terms and vectors of the messages above a position that lack them; return their number.

        A message that is changed meanwhile is left to who changed it.

        Raises:
            ValidationError: The embedder returned vectors of another number or dimension than it should.
        """
        written = 0
        while True:
            try:
                records = await self.storage.read_index(session_id, MessageRange(after=after, limit=_CHUNK))
                written += await self._complete(session_id, records)
            except SessionNotFoundError:  # deleted meanwhile
                return written
            if len(records) < _CHUNK:
                return written
            after = records[-1].position

    async def _complete(self, session_id: str, records: Sequence[IndexRecord]) -> int:
        analyzer, embedder = self.search.analyzer, self.search.embedder
        lacking = {one.position: one for one in records if self.lacks(stored_entry(one, analyzer))}
        if not lacking:
            return 0
        messages = await messages_between(self.storage, self.codec, session_id, min(lacking), max(lacking))
        texts = {**dict.fromkeys(lacking, ""), **{one.position or 0: message_text(one) for one in messages}}
        entries = await entries_of({position: texts[position] for position in lacking}, analyzer)
        found = [position for position, entry in entries.items() if entry.frequencies]
        if embedder is not None and found:
            vectors = await embedder.embed_passages([texts[position] for position in found])
            if len(vectors) != len(found):
                raise ValidationError(f"{embedder.model_id} returned {len(vectors)} vectors for {len(found)} texts")
            for position, values in zip(found, vectors, strict=True):
                entries[position] = attrs.evolve(entries[position], vector=vector_of(embedder, values))
        changes = [
            IndexRewrite(
                position=position,
                message_id=lacking[position].message_id,
                old=lacking[position].index,
                new=index_payload(entry, analyzer),
            )
            for position, entry in entries.items()
        ]
        return await self.storage.rewrite_index(session_id, changes)


class Embedding:
    """Computes vectors behind the writes, one session after the other, oldest first.

    What is not done when the process ends is found again: a query asks for what is missing, and so does ``reindex``.

    Args:
        indexer: Completes sessions.
    """

    def __init__(self, indexer: Indexer) -> None:
        self._indexer = indexer
        self._waiting: dict[str, int] = {}
        self._task: Task[None] | None = None
        self._not_before = 0.0

    def later(self, session_id: str, *, after: int = 0) -> None:
        """Embed the messages of a session above a position; returns at once."""
        self._waiting[session_id] = min(after, self._waiting.get(session_id, after))
        loop = asyncio.get_running_loop()
        if not self._is_running(loop) and loop.time() >= self._not_before:
            self._task = loop.create_task(self._run())

    def _is_running(self, loop: AbstractEventLoop) -> bool:
        task = self._task
        return task is not None and not task.done() and (task.get_loop() is loop or not task.get_loop().is_closed())

    async def _run(self) -> None:
        while self._waiting:
            session_id, after = next(iter(self._waiting.items()))
            del self._waiting[session_id]
            done = False
            try:
                await self._indexer.complete(session_id, after=after)
                done = True
            except Exception as exc:
                self._not_before = asyncio.get_running_loop().time() + _WAIT_SECONDS
                logger.warning("messages wait for their vectors: %s", exc, exc_info=not isinstance(exc, StorageError))
                return
            finally:
                if not done:
                    self._waiting[session_id] = min(after, self._waiting.get(session_id, after))

    async def drain(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109  # no error
        """Wait until all is embedded; return False if the time was over, or an embedding failed."""
        loop = asyncio.get_running_loop()
        if self._waiting and not self._is_running(loop):
            self._task = loop.create_task(self._run())
        task = self._task
        if task is not None and not task.done() and task.get_loop() is loop:
            await asyncio.wait({task}, timeout=_CLOSE_SECONDS if timeout is None else timeout)
            if not task.done():
                task.cancel()
                await asyncio.wait({task})
        return not self._waiting
