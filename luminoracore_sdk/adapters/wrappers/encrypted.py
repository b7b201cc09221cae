"""Encryption of records over any storage."""

from collections.abc import Callable, Sequence

import attrs

from luminoracore_sdk.adapters.compression.dictionary_store import encodings_of, load_dictionaries
from luminoracore_sdk.adapters.encryption.cipher import cryptography
from luminoracore_sdk.adapters.encryption.key_check import STORE_SCOPE, check_keys, is_key_check
from luminoracore_sdk.adapters.encryption.keyring import Keyring, KeySource, load_keyring
from luminoracore_sdk.adapters.encryption.records import EncryptedRecords
from luminoracore_sdk.adapters.encryption.rotation import KeyRotation
from luminoracore_sdk.adapters.storage.base import (
    check_changes,
    check_memory_query,
    check_position,
    matches,
    memory_conflict,
    payload_conflict,
)
from luminoracore_sdk.adapters.wrappers.base import StorageWrapper, read_message
from luminoracore_sdk.adapters.wrappers.opening import Opening
from luminoracore_sdk.adapters.wrappers.positioned_appends import PositionedAppends
from luminoracore_sdk.application.ports.records import (
    NO_PAYLOAD,
    AppendReceipt,
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
    RewriteMessage,
    SessionQuery,
    SessionRecord,
    TailReceipt,
    TurnRecords,
)
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.application.session_access import merged_page
from luminoracore_sdk.domain.errors import ConfigurationError, CorruptRecordError, SessionNotFoundError
from luminoracore_sdk.domain.values import check_id

__all__ = ["EncryptedStorageWrapper"]


class EncryptedStorageWrapper(StorageWrapper):
    """Encrypt records before they are stored and decrypt them when they are read, over any storage.

    Not encrypted: ids (of sessions, users, messages), positions, roles, times, versions, the retention of
    memories, counters, leases, and the length, encoding and key id of payloads. Payloads are encrypted with
    AES-256-GCM under a random nonce and bound to their record: a header to its session, user and tags; a card to its
    session; a brief to its session and position; a message to its session, position, id, role and time; the index of a
    message to its session, position and id; a memory to its scope and key. A payload that was changed or moved is
    refused with ``DecryptionError``. Tags and keys of memories are encrypted deterministically (AES-SIV), so that
    they can be looked up. Each record grows by 28 bytes, and so does an index.

    A store can still omit records, or return an older version of a header or memory. One key may protect 2**32
    records (see ``PayloadCipher``): put a new one in front of the ring before that.

    Because a message is bound to its position, an append assumes the last known position of its session and reads
    it when another process appended first. Within a process the appends to one session are serialized.

    Plain records from before encryption are read and found by name; a memory that is put again moves to its
    encrypted name. After the store was rewritten, set ``required`` to refuse plain records: otherwise anyone with
    write access to the store could add records.

    Args:
        base: The storage below.
        keys: A keyring, or a callable, which may be async, that returns one at each opening. ``close`` drops the
            keys.
        required: Refuse plain records with ``UnencryptedRecordError``, and do not look up plain names.
        time_limit: Seconds after which an append that other processes always precede raises
            ``StorageBusyError``.

    Raises:
        ConfigurationError: ``keys`` is neither; or, at opening, the keys cannot be used.
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
            raise ConfigurationError(f"keys must be a Keyring or a callable, not {type(keys).__name__}")
        cryptography("exceptions")  # a missing package is an error now, not at the first use
        super().__init__(base)
        self._keys = keys
        self._required = required
        self._time_limit = time_limit
        self._opening = Opening(base, self._open)

    # -- life ------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Fetch the keys, open the storage below, and compare the keys with those it was written with.

        Raises:
            KeyMismatchError: A key differs from the one that was used under its id; the storage below is closed.
            ConfigurationError: The keys cannot be used, or fetching them uses this storage.
            StorageClosedError: The storage was closed before it was open.
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
        """Drop the keys and close the storage below."""
        await self._opening.close()

    async def _ready(self) -> "_Opened":
        return await self._opening.ready()

    async def rotation(self, *, rewrite: Callable[[Payload], Payload] | None = None) -> KeyRotation:
        """Return the payloads for a rewrite of the storage below; see ``KeyRotation``."""
        return KeyRotation((await self._ready()).records, rewrite=rewrite)

    # -- sessions --------------------------------------------------------------------------------

    async def put_session(self, record: SessionRecord, *, expected_version: int | None = None) -> SessionRecord:
        """Encrypt, then put; see ``SessionStorage.put_session``."""
        records = (await self._ready()).records
        _check_names(record)
        if record.payload is None:
            return await self.base.put_session(record, expected_version=expected_version)  # refuses it
        encrypted = records.stored_session(record, record.payload)
        stored = await self.base.put_session(encrypted, expected_version=expected_version)
        plain = attrs.evolve(stored, payload=record.payload, tags=record.tags)
        return plain.with_texts(records.texts(record.session_id, stored.texts))

    async def fork_session(
        self, source_id: str, record: SessionRecord, *, at: int, rewrite: RewriteMessage | None = None
    ) -> SessionRecord:
        """Fork, with every message decrypted and encrypted for its new session; see ``SessionStorage.fork_session``."""
        opened = await self._ready()
        records, session_id = opened.records, record.session_id
        _check_names(record)
        check_id(source_id)
        if record.payload is None:
            return await self.base.fork_session(source_id, record, at=at)  # refuses it

        def moved(stored: MessageRecord) -> MessageRecord:
            message = attrs.evolve(records.message(source_id, stored), index=records.index(source_id, stored))
            new = message if rewrite is None else rewrite(message)
            (encrypted,) = records.stored_messages(session_id, [new], stored.position - 1)
            return encrypted

        encrypted = records.stored_session(record, record.payload)
        opened.appends.forget(session_id)
        stored = await self.base.fork_session(source_id, encrypted, at=at, rewrite=moved)
        plain = attrs.evolve(stored, payload=record.payload, tags=record.tags)
        return plain.with_texts(record.texts)

    async def acquire_lease(self, session_id: str, *, holder: str, ttl_us: int) -> Lease:
        """Delegate; see ``SessionStorage.acquire_lease``."""
        await self._ready()
        return await self.base.acquire_lease(session_id, holder=holder, ttl_us=ttl_us)

    async def release_lease(self, session_id: str, *, fence: int) -> bool:
        """Delegate; see ``SessionStorage.release_lease``."""
        await self._ready()
        return await self.base.release_lease(session_id, fence=fence)

    async def find_session(self, session_id: str) -> SessionRecord | None:
        """Find, then decrypt; see ``SessionStorage.find_session``."""
        records = (await self._ready()).records
        stored = await self.base.find_session(session_id)
        if stored is None:
            return None
        found = self._decrypted_session(records, stored)
        await load_dictionaries(self, encodings_of([found]))
        return found

    def _decrypted_session(self, records: EncryptedRecords, stored: SessionRecord) -> SessionRecord:
        if stored.payload is None:
            key = f"session {stored.session_id!a}"
            raise CorruptRecordError(backend=self.backend, key=key, reason="it has no payload")
        return records.session(stored, stored.payload)

    async def delete_session(self, session_id: str) -> bool:
        """Delegate; see ``SessionStorage.delete_session``."""
        (await self._ready()).appends.forget(session_id)
        return await self.base.delete_session(session_id)

    async def query_sessions(self, query: SessionQuery) -> Page:
        """List, then decrypt the tags; see ``SessionStorage.query_sessions``.

        A session that has a tag of more than about 360 bytes costs one more read.
        """
        records = (await self._ready()).records
        page = await self._stored_page(records, query)
        listed = [await self._listed(records, stored) for stored in page.sessions]
        return attrs.evolve(page, sessions=tuple(record for record in listed if record and matches(record, query)))

    async def _stored_page(self, records: EncryptedRecords, query: SessionQuery) -> Page:
        if query.without_tag is not None:
            check_id(query.without_tag, "tag")
            query = attrs.evolve(query, without_tag=records.stored_tag(query.without_tag))
        if query.tag is None:
            return await self.base.query_sessions(query)
        check_id(query.tag, "tag")
        encrypted_query = attrs.evolve(query, tag=records.stored_tag(query.tag))
        if self._required:  # a plain tag must not leave the process
            return await self.base.query_sessions(encrypted_query)
        # plain tags first: a session that is put meanwhile has encrypted tags by the second query
        plain = await self.base.query_sessions(query)
        encrypted = await self.base.query_sessions(encrypted_query)
        return merged_page((plain, encrypted), query)

    async def _listed(self, records: EncryptedRecords, stored: SessionRecord) -> SessionRecord | None:
        listed = records.listed(stored)
        if listed is None:
            found = await self.find_session(stored.session_id)
            return found and attrs.evolve(stored, tags=found.tags).with_texts(
                records.texts(stored.session_id, stored.texts)
            )
        return listed

    # -- messages --------------------------------------------------------------------------------

    async def append_messages(
        self,
        session_id: str,
        messages: Sequence[MessageRecord],
        *,
        expected_last: int | None = None,
        fence: int | None = None,
    ) -> AppendReceipt:
        """Encrypt, then append; see ``SessionStorage.append_messages`` and this class."""
        messages = tuple(messages)  # the caller may change its list during the await
        appends = (await self._ready()).appends
        check_id(session_id)
        for message in messages:
            check_id(message.message_id, "message id")
        return await appends.append(session_id, messages, expected_last, fence)

    async def read_messages(self, session_id: str, span: MessageRange) -> list[MessageRecord]:
        """Read, then decrypt; see ``SessionStorage.read_messages``."""
        records = (await self._ready()).records
        stored = await self.base.read_messages(session_id, span)
        found = [records.message(session_id, message) for message in stored]
        await load_dictionaries(self, encodings_of(found))
        return found

    async def find_message(self, session_id: str, message_id: str) -> MessageRecord | None:
        """Find, then decrypt; see ``SessionStorage.find_message``."""
        records = (await self._ready()).records
        stored = await self.base.find_message(session_id, message_id)
        if stored is None:
            return None
        found = records.message(session_id, stored)
        await load_dictionaries(self, encodings_of([found]))
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
        """Encrypt, then replace; see ``SessionStorage.replace_tail``."""
        messages = tuple(messages)  # the caller may change its list during the await
        opened = await self._ready()
        check_id(session_id)
        check_position(after)
        for message in messages:
            check_id(message.message_id, "message id")
        encrypted = opened.records.stored_messages(session_id, messages, after)
        try:
            receipt = await self.base.replace_tail(
                session_id,
                after=after,
                messages=encrypted,
                expected_last=expected_last,
                expected_change=expected_change,
                fence=fence,
            )
        finally:
            opened.appends.forget(session_id)
        removed = [opened.records.message(session_id, message) for message in receipt.removed]
        await load_dictionaries(self, encodings_of(removed))
        return attrs.evolve(receipt, removed=removed)

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
        """Encrypt, then update; see ``SessionStorage.update_message``."""
        records = (await self._ready()).records
        stored = await read_message(self.base, session_id, position)
        if stored is not None:
            plain = records.message(session_id, stored)
            await load_dictionaries(self, encodings_of([plain]))
            if plain.payload == payload:
                return plain
            if plain.payload == expected:
                changed = attrs.evolve(plain, payload=payload, brief=brief, index=index)
                (encrypted,) = records.stored_messages(session_id, [changed], position - 1)
                await self.base.update_message(
                    session_id,
                    position,
                    payload=encrypted.payload,
                    expected=stored.payload,
                    brief=encrypted.brief,
                    index=encrypted.index,
                )
                return changed
        raise payload_conflict(self.backend, session_id, position)

    async def read_index(self, session_id: str, span: MessageRange) -> list[IndexRecord]:
        """Read, then decrypt; see ``SessionStorage.read_index``."""
        records = (await self._ready()).records
        stored = await self.base.read_index(session_id, span)
        return [attrs.evolve(record, index=records.index(session_id, record)) for record in stored]

    async def rewrite_index(self, session_id: str, changes: Sequence[IndexRewrite]) -> int:
        """Encrypt, then rewrite; see ``SessionStorage.rewrite_index``."""
        records = (await self._ready()).records
        changes = tuple(changes)  # the caller may change its list during the await
        check_changes(changes)
        first, last = min(change.position for change in changes), max(change.position for change in changes)
        try:
            found = await self.base.read_index(session_id, MessageRange(after=first - 1, before=last + 1))
        except SessionNotFoundError:
            return 0
        wanted = {change.position: change for change in changes}
        encrypted: list[IndexRewrite] = []
        for stored in found:
            change = wanted.get(stored.position)
            if change and change.fits(attrs.evolve(stored, index=records.index(session_id, stored))):
                new = records.stored_index(session_id, stored.position, stored.message_id, change.new)
                encrypted.append(attrs.evolve(change, old=stored.index, new=new))
        return await self.base.rewrite_index(session_id, encrypted) if encrypted else 0

    async def read_turn(self, session_id: str, *, newest: int) -> TurnRecords | None:
        """Read, then decrypt; see ``SessionStorage.read_turn``."""
        records = (await self._ready()).records
        stored = await self.base.read_turn(session_id, newest=newest)
        if stored is None:
            return None
        found = TurnRecords(
            session=self._decrypted_session(records, stored.session),
            memories=_decrypted_memories(records, MemoryScope("session", session_id), stored.memories),
            messages=[records.message(session_id, message) for message in stored.messages],
        )
        await load_dictionaries(self, encodings_of((found.session, *found.memories, *found.messages)))
        return found

    async def truncate_messages(self, session_id: str, *, after: int) -> int:
        """Delegate; see ``SessionStorage.truncate_messages``."""
        (await self._ready()).appends.forget(session_id)
        return await self.base.truncate_messages(session_id, after=after)

    # -- memory ----------------------------------------------------------------------------------

    async def change_memories(
        self,
        scope: MemoryScope,
        puts: Sequence[MemoryPut] = (),
        *,
        deletes: Sequence[str] = (),
        max_entries: int | None = None,
    ) -> list[MemoryRecord]:
        """Encrypt, then change; see ``SessionStorage.change_memories``.

        A memory that was stored before encryption moves to its encrypted name, and its version begins at 1 again; it
        counts as two keys. Unless plain records are refused, each key is looked up first.
        """
        puts, deletes = tuple(puts), tuple(deletes)  # the caller may change its lists during the await
        records = (await self._ready()).records
        keys = [*(put.record.key for put in puts), *deletes]
        _check_memory_name(scope, *keys)
        plain = await self._plain_memories(records, scope, keys)
        stored = await self.base.change_memories(
            scope,
            [self._encrypted_put(records, put, plain.get(put.record.key)) for put in puts],
            deletes=[*(records.stored_key(scope, key) for key in deletes), *plain],
            max_entries=max_entries,
        )
        return [
            attrs.evolve(record, payload=put.record.payload, key=put.record.key)
            for record, put in zip(stored, puts, strict=True)
        ]

    def _encrypted_put(self, records: EncryptedRecords, put: MemoryPut, plain: MemoryRecord | None) -> MemoryPut:
        if put.record.payload == NO_PAYLOAD:
            return put  # the storage below refuses it
        encrypted = records.stored_memory(put.record)
        if plain is None:
            return MemoryPut(encrypted, put.expected_version)
        if put.expected_version not in (None, plain.version):
            raise memory_conflict(self.backend, put, plain.version)
        expected = None if put.expected_version is None else 0
        return MemoryPut(attrs.evolve(encrypted, created_at_us=plain.created_at_us), expected)

    async def _plain_memories(
        self, records: EncryptedRecords, scope: MemoryScope, keys: Sequence[str]
    ) -> dict[str, MemoryRecord]:
        """Return those memories that were stored before encryption and not put since."""
        if self._required and scope != STORE_SCOPE:
            return {}  # the keys must not leave the process
        found = {key: await self._find_plain(records, scope, key) for key in keys}
        return {key: memory for key, memory in found.items() if memory is not None}

    async def touch_memories(self, scope: MemoryScope, keys: Sequence[str], *, expires_at_us: int | None) -> int:
        """Delegate; see ``SessionStorage.touch_memories``."""
        keys = tuple(keys)  # the caller may change its list during the await
        records = (await self._ready()).records
        _check_memory_name(scope, *keys)
        plain = await self._plain_memories(records, scope, keys)
        stored = [key if key in plain else records.stored_key(scope, key) for key in keys]
        return await self.base.touch_memories(scope, stored, expires_at_us=expires_at_us)

    async def _find_plain(self, records: EncryptedRecords, scope: MemoryScope, key: str) -> MemoryRecord | None:
        """Return the memory of that key that was stored before encryption, or None."""
        if is_key_check(scope, key):
            return None
        if self._required and scope != STORE_SCOPE:
            return None  # the key must not leave the process
        found = await self.base.find_memory(scope, key)
        return found if found is not None and records.has_plain_key(found) else None

    async def find_memory(self, scope: MemoryScope, key: str) -> MemoryRecord | None:
        """Find, then decrypt; see ``SessionStorage.find_memory``."""
        records = (await self._ready()).records
        _check_memory_name(scope, key)
        stored_key = records.stored_key(scope, key)
        stored = await self.base.find_memory(scope, stored_key)
        if stored is None:
            stored = await self._find_plain(records, scope, key)
        if stored is None:  # a plain one may have moved between the two calls
            stored = await self.base.find_memory(scope, stored_key)
        found = None if stored is None else records.memory(stored)
        await load_dictionaries(self, encodings_of([found] if found else []))
        return found

    async def list_memories(self, scope: MemoryScope, query: MemoryQuery | None = None) -> list[MemoryRecord]:
        """List, then decrypt; see ``SessionStorage.list_memories``.

        A page by key costs as much as the whole scope: the order of the stored keys is another one.
        """
        records = (await self._ready()).records
        if query is not None:
            check_memory_query(query)
        every = None if query is None or query.on_damage is None else MemoryQuery(on_damage=query.on_damage)
        found = _decrypted_memories(records, scope, await self.base.list_memories(scope, every), every)
        if query is not None:
            found = query.page(found)
        await load_dictionaries(self, encodings_of(found))
        return found

    async def delete_memory(self, scope: MemoryScope, key: str) -> bool:
        """Delete; see ``SessionStorage.delete_memory``."""
        records = (await self._ready()).records
        _check_memory_name(scope, key)
        plain = await self._find_plain(records, scope, key)
        had_plain = plain is not None and await self.base.delete_memory(scope, key)
        return await self.base.delete_memory(scope, records.stored_key(scope, key)) or had_plain

    async def clear_memories(self, scope: MemoryScope) -> int:
        """Delegate; see ``SessionStorage.clear_memories``. The key check stays."""
        opened = await self._ready()
        count = await self.base.clear_memories(scope)
        if scope != STORE_SCOPE:
            return count
        await check_keys(self.base, opened.ring)
        return max(0, count - 1)


@attrs.frozen
class _Opened:
    """The state of an open storage."""

    ring: Keyring
    records: EncryptedRecords
    appends: PositionedAppends


def _decrypted_memories(
    records: EncryptedRecords,
    scope: MemoryScope,
    memories: Sequence[MemoryRecord],
    query: MemoryQuery | None = None,
) -> list[MemoryRecord]:
    """Return the memories of a scope, by time of creation, then key."""
    found: dict[str, MemoryRecord] = {}
    own = [stored for stored in memories if not is_key_check(scope, stored.key)]
    for stored, memory in (query or MemoryQuery()).intact(lambda stored: (stored, records.memory(stored)), own):
        if memory.key not in found or stored.key != memory.key:  # the encrypted one is the newer of two
            found[memory.key] = memory
    return sorted(found.values(), key=lambda memory: (memory.created_at_us, memory.key))


def _check_names(record: SessionRecord) -> None:
    """Refuse invalid ids before they are encrypted."""
    check_id(record.session_id)
    if record.user_id is not None:
        check_id(record.user_id, "user id")
    for tag in record.tags:
        check_id(tag, "tag")


def _check_memory_name(scope: MemoryScope, *keys: str) -> None:
    """Refuse invalid ids before they are encrypted."""
    check_id(scope.owner_id, f"{scope.kind} id")
    for key in keys:
        check_id(key, "memory key")
