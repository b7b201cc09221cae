"""Tombstones: what an erasure leaves for a day, so that a writer that was under way does not undo it.

The tombstone of a user is put before anything is deleted, that of a session before the session is deleted. A
caller that finds no session can therefore learn whether it was erased.

They are memories of the store itself, which no listing shows. They have digests of the ids, not the ids.
"""

import json
from datetime import timedelta
from hashlib import sha256

from luminoracore_sdk.application.ports.records import MemoryRecord, MemoryScope, Payload
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.application.services import Services
from luminoracore_sdk.domain.values import STORE_OWNER, check_id, to_microseconds

__all__ = ["TOMBSTONE_LIFETIME", "is_erased", "put_tombstone", "tombstone_of"]

TOMBSTONE_LIFETIME = timedelta(days=1)
"""Longer than any writer is under way, and than most processes keep a session that they have not saved."""

_SCOPE = MemoryScope("user", STORE_OWNER)


def _key(erased: MemoryScope) -> str:
    owner_id = check_id(erased.owner_id, f"{erased.kind} id")
    return f"erased {erased.kind} {sha256(owner_id.encode()).hexdigest()}"


async def put_tombstone(storage: SessionStorage, erased: MemoryScope, services: Services) -> None:
    """Note that a user or a session is being erased; each erasure has a tombstone of its own."""
    payload = Payload("json", json.dumps(services.ids.new_id()).encode())
    expires_at_us = to_microseconds(services.clock.now() + TOMBSTONE_LIFETIME)
    record = MemoryRecord(scope=_SCOPE, key=_key(erased), payload=payload, expires_at_us=expires_at_us)
    await storage.put_memory(record)


async def tombstone_of(storage: SessionStorage, erased: MemoryScope) -> Payload | None:
    """Return what differs between two erasures of a user or a session; None: it was not erased of late."""
    record = await storage.find_memory(_SCOPE, _key(erased))
    return None if record is None else record.payload


async def is_erased(storage: SessionStorage, session_id: str) -> bool:
    """Return whether a session was erased, and not created again."""
    tombstone = await tombstone_of(storage, MemoryScope("session", session_id))
    return tombstone is not None and not await storage.session_exists(session_id)
