"""A sample of the payloads of a store, uniformly distributed over all of it."""

from contextlib import suppress
from random import Random

import attrs

from luminoracore_sdk.application.ports.records import MemoryScope, Payload, SessionQuery
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.application.session_access import headers
from luminoracore_sdk.domain.errors import SessionNotFoundError

__all__ = ["sample_payloads"]

_LONGEST = 32_768
"""Longer payloads are cut: a dictionary pays at the beginning of a payload only."""


@attrs.define
class _Reservoir:
    """Keeps ``size`` of any number of payloads, each with equal probability (Vitter's algorithm R)."""

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
        elif (index := self.random.randrange(self.seen)) < self.size:
            self.kept[index] = data


async def sample_payloads(storage: SessionStorage, size: int, *, seed: int = 0) -> list[bytes]:
    """Return the bytes of up to ``size`` payloads of sessions, messages and session memories, shuffled.

    Args:
        storage: The storage with the wrappers that decode its payloads.
        size: Largest number of payloads, all of which are held in memory.
        seed: The same seed picks the same records of the same store.
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
