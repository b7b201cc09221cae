"""A wrapper that switches search on: it says how the storage is searched, and embeds what is written."""

from collections.abc import Collection, Sequence

import attrs

from luminoracore_sdk.adapters.wrappers.base import StorageWrapper
from luminoracore_sdk.application.indexing import Embedding, Indexer
from luminoracore_sdk.application.ports.codec import EntityCodec
from luminoracore_sdk.application.ports.records import AppendReceipt, MessageRecord, Payload, TailReceipt
from luminoracore_sdk.application.ports.searching import Search
from luminoracore_sdk.application.ports.storage import SessionStorage

__all__ = ["SearchWrapper"]


class SearchWrapper(StorageWrapper):
    """Say how the storage below is searched; where there is an embedder, compute vectors behind every write.

    It goes over the wrappers that change records. A write never waits for a vector: until it is there, the message is
    found by its words. ``close`` waits for the vectors of what was written, up to 30 seconds.

    Args:
        base: The storage below.
        search: How it is searched.
        codec: Reads messages.
    """

    def __init__(self, base: SessionStorage, search: Search, *, codec: EntityCodec) -> None:
        super().__init__(base)
        self._embedding: Embedding | None = None
        self._search = search
        if search.embedder is not None:
            self._embedding = Embedding(Indexer(storage=base, codec=codec, search=search))
            self._search = attrs.evolve(search, embed_later=self._embed_later)

    @property
    def search(self) -> Search:
        """How the storage is searched."""
        return self._search

    async def _embed_later(self, session_ids: Collection[str]) -> None:
        if self._embedding is not None:
            self._embedding.asked(session_ids)

    def _written(self, session_id: str, after: int) -> None:
        if self._embedding is not None:
            self._embedding.later(session_id, after=after)

    async def drain(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109  # no error
        """Wait for the vectors of what was written and asked for; return False if some are still missing.

        Args:
            timeout: In seconds; None: 30.
        """
        return self._embedding is None or await self._embedding.drain(timeout)

    async def close(self) -> None:
        """Wait for the vectors of what was written, then close the storage below."""
        try:
            if self._embedding is not None:
                await self._embedding.close()
        finally:
            await super().close()

    async def append_messages(
        self,
        session_id: str,
        messages: Sequence[MessageRecord],
        *,
        expected_last: int | None = None,
        fence: int | None = None,
    ) -> AppendReceipt:
        """Append, then embed; see ``SessionStorage.append_messages``."""
        receipt = await super().append_messages(session_id, messages, expected_last=expected_last, fence=fence)
        if not receipt.replayed:
            self._written(session_id, receipt.first_position - 1)
        return receipt

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
        """Replace, then embed; see ``SessionStorage.replace_tail``."""
        receipt = await super().replace_tail(
            session_id,
            after=after,
            messages=messages,
            expected_last=expected_last,
            expected_change=expected_change,
            fence=fence,
        )
        if receipt.last_position > after:
            self._written(session_id, after)
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
        """Update, then embed; see ``SessionStorage.update_message``."""
        message = await super().update_message(
            session_id, position, payload=payload, expected=expected, brief=brief, index=index
        )
        self._written(session_id, position - 1)
        return message
