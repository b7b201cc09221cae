"""Records of a store, picked evenly from all of it."""

from contextlib import suppress
from random import Random

import attrs

from luminoracore_sdk.application.ports.records import MemoryScope, Payload, SessionQuery
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.application.session_access import headers
from luminoracore_sdk.domain.errors import SessionNotFoundError

__all__ = ["sample_payloads"]

_LONGEST = 32_768
"""Of a longer record the beginning: what a dictionary can help with lies there."""


@attrs.define
class _Reservoir:
    """Keeps ``size`` of any number of things, each with the same chance (Vitter's algorithm R)."""

    size: int
    random: Random
    seen: int = 0
    kept: list[bytes] = attrs.field(factory=list)

    def offer(self, payload: Payload | None) -> None:
        if payload is None:
            return
        self.seen += 1
        data = payload.data[:_LONGEST]
        if len(self.kept) < self.size:
            self.kept.append(data)
        elif (place := self.random.randrange(self.seen)) < self.size:
            self.kept[place] = data


async def sample_payloads(storage: SessionStorage, size: int, *, seed: int = 0) -> list[bytes]:
    """Return the bytes of up to ``size`` payloads of sessions, messages and their memories, mixed.

    Args:
        storage: With the wrappers that make its payloads plain.
        size: Most that is kept in memory, in records.
        seed: The same one picks the same records of the same store.
    """
    random = Random(seed)  # noqa: S311  # a sample, not a secret
    reservoir = _Reservoir(size, random)
    async for header in headers(storage, SessionQuery()):
        with suppress(SessionNotFoundError):  # deleted meanwhile
            await _offer(storage, header.session_id, reservoir)
    random.shuffle(reservoir.kept)
    return reservoir.kept


async def _offer(storage: SessionStorage, session_id: str, reservoir: _Reservoir) -> None:
    record = await storage.find_session(session_id)
    reservoir.offer(None if record is None else record.payload)
    async for message in storage.stream_messages(session_id):
        reservoir.offer(message.payload)
    for memory in await storage.list_memories(MemoryScope("session", session_id)):
        reservoir.offer(memory.payload)
