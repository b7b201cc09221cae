"""Key rotation: the payloads that a rewrite of a live store writes in place of older ones."""

from collections.abc import Callable

from luminoracore_sdk.adapters.encryption.associated_data import memory_data, message_data, session_data
from luminoracore_sdk.adapters.encryption.deterministic_names import is_plain
from luminoracore_sdk.adapters.encryption.key_check import is_key_check
from luminoracore_sdk.adapters.encryption.records import Decrypted, EncryptedRecords
from luminoracore_sdk.application.ports.records import (
    HeaderTexts,
    IndexRecord,
    MemoryRecord,
    MessageRecord,
    Payload,
    SessionRecord,
)

__all__ = ["KeyRotation"]


class KeyRotation:
    """Return, for a record as the backend stores it, the payload under the current key.

    Accepts records under any key of the ring and plain records: it rotates keys, and encrypts a store that was
    plain. Only payloads change, as ``RewritingStorage`` replaces them; plain names (see ``has_plain_names``) stay
    until their record is put again. Switch encryption on in every process before plain records are rewritten.

    Args:
        records: If it requires encryption, plain records are refused and not rewritten.
        rewrite: Changes the decrypted payload, for example to recompress it; None: it stays the same.

    Raises:
        CorruptRecordError: From each method: the record cannot be read.
    """

    def __init__(self, records: EncryptedRecords, *, rewrite: Callable[[Payload], Payload] | None = None) -> None:
        self._records = records
        self._rewrite = rewrite

    @property
    def key_id(self) -> str:
        """The id of the current key."""
        return self._records.current

    def session(self, stored: SessionRecord) -> Payload | None:
        """Return the new payload of a header, or None if it has no payload or needs no new one."""
        if stored.payload is None:
            return None
        found = self._records.decrypt_session(stored, stored.payload)
        return self._new(stored.payload, found, session_data(stored))

    def texts(self, stored: SessionRecord) -> HeaderTexts | None:
        """Return the new card and briefs of a header, or None if they need no new ones."""
        old = stored.texts
        plain = self._records.texts(stored.session_id, old)
        payloads = [brief.payload for brief in (old.first, old.last) if brief is not None]
        if all(map(self._records.is_current, payloads if old.card is None else (old.card, *payloads))):
            return None
        return self._records.stored_texts(stored.session_id, plain)

    def message(self, session_id: str, stored: MessageRecord) -> Payload | None:
        """Return the new payload of a message, or None if it needs no new one."""
        found = self._records.decrypt_message(session_id, stored)
        return self._new(stored.payload, found, message_data(session_id, stored, stored.position))

    def index(self, session_id: str, stored: IndexRecord) -> Payload | None:
        """Return the new index of a message, or None if it has none or needs no new one."""
        index = self._records.index(session_id, stored)
        if index is None or stored.index is None or self._records.is_current(stored.index):
            return None
        return self._records.stored_index(session_id, stored.position, stored.message_id, index)

    def memory(self, stored: MemoryRecord) -> Payload | None:
        """Return the new payload of a memory, or None if it is the key check or needs no new one."""
        if is_key_check(stored.scope, stored.key):
            return None
        return self._new(stored.payload, self._records.decrypt_memory(stored), memory_data(stored))

    def _new(self, stored: Payload, found: Decrypted, data: bytes) -> Payload | None:
        payload = self._rewrite(found.payload) if self._rewrite else found.payload
        if payload == found.payload and self._records.is_current(stored):
            return None
        return self._records.encrypt_payload(payload, data, found.names)

    @staticmethod
    def has_plain_names(stored: SessionRecord | MemoryRecord) -> bool:
        """Return whether a record's tags, or its key, were written before encryption."""
        if isinstance(stored, SessionRecord):
            return any(map(is_plain, stored.tags))
        return is_plain(stored.key) and not is_key_check(stored.scope, stored.key)
