"""Encryption between everything else and a backend."""

from collections.abc import Callable, Sequence

import attrs

from luminoracore_sdk.adapters.compression.dictionary_store import load_dictionaries, tags_of
from luminoracore_sdk.adapters.encryption.associated_data import check_place
from luminoracore_sdk.adapters.encryption.cipher import cryptography
from luminoracore_sdk.adapters.encryption.key_check import STORE_SCOPE, check_keys, is_check
from luminoracore_sdk.adapters.encryption.keyring import Keyring, KeySource, load_keyring
from luminoracore_sdk.adapters.encryption.records import EncryptedRecords
from luminoracore_sdk.adapters.encryption.rotation import Rotation
from luminoracore_sdk.adapters.wrappers.base import StorageWrapper
from luminoracore_sdk.adapters.wrappers.opening import Opening
from luminoracore_sdk.adapters.wrappers.positioned_appends import PositionedAppends
from luminoracore_sdk.application.ports.records import (
    AppendReceipt,
    MemoryRecord,
    MemoryScope,
    MessageRange,
    MessageRecord,
    Page,
    Payload,
    SessionQuery,
    SessionRecord,
)
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.application.session_access import merged_page
from luminoracore_sdk.domain.errors import ConfigurationError, CorruptRecordError
from luminoracore_sdk.domain.values import check_id

__all__ = ["EncryptedStorageWrapper"]


class EncryptedStorageWrapper(StorageWrapper):
    """Encrypts on the way in, decrypts on the way out, over any storage; nothing else changes.

    In clear are ids (of sessions, users, messages), positions, roles, times, versions, the retention of
    memories, and of payloads the length, the make and the id of the key. Payloads are encrypted with
    AES-256-GCM under a random nonce and bound to their place: a header to its session, user and labels, a
    message to its session, position, id, role and time, a memory to its scope and key. What was changed, or
    lies elsewhere, is refused with ``DecryptionError``. Labels and keys of memories are encrypted so that
    they can be looked up (AES-SIV). Each record is 28 bytes longer.

    A store can still leave out records, or give back an older form of a header or memory. One key may protect
    2**32 records (see ``PayloadCipher``): put a new one in front of the ring before that.

    A message is bound to its position, so an append has to know it: it assumes the one it remembers of the
    session, and looks it up when another process was first. In a process the appends to a session take turns.

    Records from before encryption are read, and their names found; a memory that is put again moves to its
    encrypted name. Once the store was rewritten, let ``required`` refuse plain ones: else whoever can write
    to the store could put some of their own into it.

    Args:
        base: The storage below.
        keys: A keyring, or what returns one at each opening; it may be async. It is let go of by ``close``.
        required: Refuse plain records with ``UnencryptedRecordError``, and look no plain name up.
        time_limit: Seconds for which an append goes on when other processes are always first; then it is a
            ``StorageBusyError``.

    Raises:
        ConfigurationError: ``keys`` is neither; or, when it is opened, what it returned cannot be used.
        MissingDependencyError: The ``encryption`` extra is not installed.
    """

    def __init__(
        self,
        base: SessionStorage,
        keys: KeySource,
        *,
        required: bool = False,
        time_limit: float = 30.0,
    ) -> None:
        if not isinstance(keys, Keyring) and not callable(keys):
            raise ConfigurationError(f"keys are a Keyring or a callable, not {type(keys).__name__}")
        cryptography("exceptions")  # missing: said now, not at first use
        super().__init__(base)
        self._keys = keys
        self._required = required
        self._time_limit = time_limit
        self._opening = Opening(base, self._open)

    # -- life ------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Fetch the keys, open the storage below and compare the keys with those it was written with.

        Raises:
            KeyMismatchError: A key is another than the one of its id; the storage below is closed again.
            ConfigurationError: The keys cannot be used, or fetching them uses this storage.
            StorageClosedError: It was closed before it was open.
        """
        await self._opening.open()

    async def _open(self) -> "_Opened":
        ring = await load_keyring(self._keys)
        await self.base.open()
        await check_keys(self.base, ring)
        records = EncryptedRecords(ring, backend=self.backend, required=self._required)
        appends = PositionedAppends(self.base, records.stored_messages, time_limit=self._time_limit)
        return _Opened(ring, records, appends)

    async def close(self) -> None:
        """Let go of the keys and close the storage below."""
        await self._opening.close()

    async def _ready(self) -> "_Opened":
        return await self._opening.ready()

    async def rotation(self, *, change: Callable[[Payload], Payload] | None = None) -> Rotation:
        """Return what makes the payloads of a rewrite of the storage below; see ``Rotation``."""
        return Rotation((await self._ready()).records, change=change)

    # -- sessions --------------------------------------------------------------------------------

    async def put_session(self, record: SessionRecord, *, expected_version: int | None = None) -> SessionRecord:
        """Encrypt, then put; see ``SessionStorage.put_session``."""
        records = (await self._ready()).records
        check_id(record.session_id)
        if record.user_id is not None:
            check_id(record.user_id, "user id")
        for tag in record.tags:
            check_id(tag, "tag")
        if record.payload is None:
            return await self.base.put_session(record, expected_version=expected_version)  # refuses it
        sealed = records.stored_session(record, record.payload)
        stored = await self.base.put_session(sealed, expected_version=expected_version)
        return attrs.evolve(stored, payload=record.payload, tags=record.tags)

    async def find_session(self, session_id: str) -> SessionRecord | None:
        """Find, then decrypt; see ``SessionStorage.find_session``."""
        records = (await self._ready()).records
        stored = await self.base.find_session(session_id)
        if stored is None:
            return None
        if stored.payload is None:
            key = f"session {stored.session_id!a}"
            raise CorruptRecordError(backend=self.backend, key=key, reason="it has no payload")
        found = records.session(stored, stored.payload)
        await load_dictionaries(self, tags_of([found]))
        return found

    async def delete_session(self, session_id: str) -> bool:
        """Hand on; see ``SessionStorage.delete_session``."""
        (await self._ready()).appends.forget(session_id)
        return await self.base.delete_session(session_id)

    async def query_sessions(self, query: SessionQuery) -> Page:
        """List, then decrypt the labels; see ``SessionStorage.query_sessions``.

        A session with a label of more than about 360 bytes costs a look-up of its own.
        """
        records = (await self._ready()).records
        page = await self._stored_page(records, query)
        listed = [await self._listed(records, stored) for stored in page.sessions]
        found = (record for record in listed if record and (query.tag is None or query.tag in record.tags))
        return attrs.evolve(page, sessions=tuple(found))

    async def _stored_page(self, records: EncryptedRecords, query: SessionQuery) -> Page:
        if query.tag is None:
            return await self.base.query_sessions(query)
        check_id(query.tag, "tag")
        encrypted_query = attrs.evolve(query, tag=records.label(query.tag))
        if self._required:  # then a plain label does not leave the process
            return await self.base.query_sessions(encrypted_query)
        # plain labels first: a session that is put meanwhile has its encrypted ones by the second query
        plain = await self.base.query_sessions(query)
        encrypted = await self.base.query_sessions(encrypted_query)
        return merged_page((plain, encrypted), query)

    async def _listed(self, records: EncryptedRecords, stored: SessionRecord) -> SessionRecord | None:
        listed = records.listed(stored)
        if listed is None:
            found = await self.find_session(stored.session_id)
            return found and attrs.evolve(stored, tags=found.tags)
        return listed

    # -- messages --------------------------------------------------------------------------------

    async def append_messages(
        self,
        session_id: str,
        messages: Sequence[MessageRecord],
        *,
        expected_last: int | None = None,
    ) -> AppendReceipt:
        """Encrypt, then append; see ``SessionStorage.append_messages`` and this class."""
        messages = tuple(messages)  # the caller may change his list meanwhile
        appends = (await self._ready()).appends
        check_id(session_id)
        for message in messages:
            check_id(message.message_id, "message id")
        return await appends.append(session_id, messages, expected_last)

    async def read_messages(self, session_id: str, span: MessageRange) -> list[MessageRecord]:
        """Read, then decrypt; see ``SessionStorage.read_messages``."""
        records = (await self._ready()).records
        stored = await self.base.read_messages(session_id, span)
        found = [records.message(session_id, message) for message in stored]
        await load_dictionaries(self, tags_of(found))
        return found

    async def truncate_messages(self, session_id: str, *, after: int) -> int:
        """Hand on; see ``SessionStorage.truncate_messages``."""
        (await self._ready()).appends.forget(session_id)
        return await self.base.truncate_messages(session_id, after=after)

    # -- memory ----------------------------------------------------------------------------------

    async def put_memory(self, record: MemoryRecord, *, max_entries: int | None = None) -> MemoryRecord:
        """Encrypt, then put; see ``SessionStorage.put_memory``."""
        records = (await self._ready()).records
        check_place(record.scope, record.key)
        plain = await self._plain_twin(records, record.scope, record.key)
        if plain is not None and (max_entries is None or max_entries > 0):
            # the new one is there before the old one goes, and nothing else goes for the two of them
            moved = records.stored_memory(attrs.evolve(record, created_at_us=plain.created_at_us))
            await self.base.put_memory(moved)
            await self.base.delete_memory(record.scope, record.key)
        stored = await self.base.put_memory(records.stored_memory(record), max_entries=max_entries)
        return attrs.evolve(stored, payload=record.payload, key=record.key)

    async def _plain_twin(self, records: EncryptedRecords, scope: MemoryScope, key: str) -> MemoryRecord | None:
        """Return the stored memory of that key from before encryption."""
        if is_check(scope, key):
            return None
        if self._required and scope != STORE_SCOPE:
            return None  # the key does not leave the process
        found = await self.base.find_memory(scope, key)
        return found if found is not None and records.has_plain_key(found) else None

    async def find_memory(self, scope: MemoryScope, key: str) -> MemoryRecord | None:
        """Find, then decrypt; see ``SessionStorage.find_memory``."""
        records = (await self._ready()).records
        check_place(scope, key)
        stored_key = records.key(scope, key)
        stored = await self.base.find_memory(scope, stored_key)
        if stored is None:
            stored = await self._plain_twin(records, scope, key)
        if stored is None:  # a plain one that was put again between the two calls has moved
            stored = await self.base.find_memory(scope, stored_key)
        found = None if stored is None else records.memory(stored)
        await load_dictionaries(self, tags_of([found] if found else []))
        return found

    async def list_memories(self, scope: MemoryScope) -> list[MemoryRecord]:
        """List, then decrypt; see ``SessionStorage.list_memories``."""
        records = (await self._ready()).records
        found: dict[str, MemoryRecord] = {}
        for stored in await self.base.list_memories(scope):
            if is_check(scope, stored.key):
                continue
            memory = records.memory(stored)
            if memory.key not in found or stored.key != memory.key:  # encrypted, it is the newer of two
                found[memory.key] = memory
        await load_dictionaries(self, tags_of(found.values()))
        return sorted(found.values(), key=lambda memory: (memory.created_at_us, memory.key))

    async def delete_memory(self, scope: MemoryScope, key: str) -> bool:
        """Delete; see ``SessionStorage.delete_memory``."""
        records = (await self._ready()).records
        check_place(scope, key)
        twin = await self._plain_twin(records, scope, key)
        plain = twin is not None and await self.base.delete_memory(scope, key)
        return await self.base.delete_memory(scope, records.key(scope, key)) or plain

    async def clear_memories(self, scope: MemoryScope) -> int:
        """Hand on; see ``SessionStorage.clear_memories``. What the store remembers of its keys stays."""
        opened = await self._ready()
        count = await self.base.clear_memories(scope)
        if scope != STORE_SCOPE:
            return count
        await check_keys(self.base, opened.ring)
        return max(0, count - 1)


@attrs.frozen
class _Opened:
    """What an open storage has of its keys."""

    ring: Keyring
    records: EncryptedRecords
    appends: PositionedAppends
