"""Keys for tests, and encrypted stores in memory that can be tampered with."""

from collections.abc import Sequence

import attrs

from luminoracore_sdk.adapters.encryption.key_check import CHECK_KEY, STORE_SCOPE
from luminoracore_sdk.application.ports.records import (
    MemoryRecord,
    MemoryScope,
    MessageRange,
    MessageRecord,
    Payload,
    SessionQuery,
    SessionRecord,
)
from luminoracore_sdk.session import EncryptedStorageWrapper, InMemoryStorage, Keyring
from luminoracore_sdk.testing.clock import ManualClock
from luminoracore_sdk.testing.records import memory_record, message_record, message_records, session_record

__all__ = ["ALL", "NEW", "OLD", "SCOPE", "Raw", "everything", "keyring", "plain_store", "small_store"]

ALL = MessageRange()
SCOPE = MemoryScope("session", "s")
OLD, NEW = bytes(range(32)), bytes(range(100, 132))


def keyring(*ids: str) -> Keyring:
    """Return a ring of the keys ``old`` and ``new``, or of those named, the current one first."""
    keys = {"old": OLD, "new": NEW}
    return Keyring({key_id: keys[key_id] for key_id in ids or ("old",)})


@attrs.frozen
class Raw:
    """The records of a store: one session ``s`` with its messages and memories.

    Attributes:
        base: The store.
    """

    base: InMemoryStorage

    async def header(self) -> SessionRecord:
        found = await self.base.find_session("s")
        assert found is not None
        return found

    async def messages(self) -> list[MessageRecord]:
        return await self.base.read_messages("s", ALL)

    async def memories(self) -> list[MemoryRecord]:
        return await self.base.list_memories(SCOPE)

    async def payloads(self) -> list[Payload]:
        """Return all of them: of the header, the messages and the memories."""
        header = await self.header()
        assert header.payload is not None
        messages = [message.payload for message in await self.messages()]
        return [header.payload, *messages, *(memory.payload for memory in await self.memories())]

    async def replace(
        self,
        *,
        header: SessionRecord | None = None,
        messages: Sequence[MessageRecord] | None = None,
        memories: Sequence[MemoryRecord] | None = None,
    ) -> None:
        """Replace stored records, as an attacker with write access could."""
        self.base.adopt(
            await self.header() if header is None else header,
            await self.messages() if messages is None else messages,
            await self.memories() if memories is None else memories,
        )

    async def forget_keys(self) -> None:
        """Remove the store's record of its keys."""
        assert await self.base.delete_memory(STORE_SCOPE, CHECK_KEY) is True


async def small_store(storage: EncryptedStorageWrapper) -> Raw:
    """Fill a store in memory with a session, two messages and two memories."""
    await storage.put_session(session_record("s", text="secret", user_id="u", tags=("red", "blue")))
    batch = [message_record("m1", text="secret one"), message_record("m2", text="secret two")]
    await storage.append_messages("s", batch)
    for key in ("k1", "k2"):
        await storage.put_memory(memory_record(key, value=f"secret of {key}"))
    assert isinstance(storage.base, InMemoryStorage)
    return Raw(storage.base)


async def plain_store(clock: ManualClock) -> InMemoryStorage:
    """Return a store that was filled a second before encryption is switched on."""
    base = InMemoryStorage(clock=clock)
    await base.put_session(session_record("s", text="plain", tags=("red", "blue")))
    await base.append_messages("s", message_records(2))
    for key in ("k2", "k1"):
        await base.put_memory(memory_record(key, value=f"plain {key}"))
    clock.advance(1)
    return base


async def everything(storage: InMemoryStorage | EncryptedStorageWrapper) -> list[object]:
    """Return all that is in the session ``s``, from every way to it."""
    return [
        await storage.find_session("s"),
        await storage.read_messages("s", ALL),
        await storage.list_memories(SCOPE),
        [await storage.find_memory(SCOPE, key) for key in ("k1", "k2")],
        [(await storage.query_sessions(SessionQuery(tag=tag))).sessions for tag in (None, "red", "blue")],
    ]
