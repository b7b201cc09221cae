"""Records under the current key: what a rewrite of a live store puts in the place of older ones."""

from collections.abc import Callable

from luminoracore_sdk.adapters.encryption.associated_data import memory_place, message_place, session_place
from luminoracore_sdk.adapters.encryption.deterministic_names import is_plain
from luminoracore_sdk.adapters.encryption.key_check import is_check
from luminoracore_sdk.adapters.encryption.records import EncryptedRecords, Opened
from luminoracore_sdk.application.ports.records import MemoryRecord, MessageRecord, Payload, SessionRecord

__all__ = ["Rotation"]


class Rotation:
    """Makes of a record as the *backend* has it the payload that it shall have: under the current key.

    Works on records under any key of the ring and on plain ones, so that it rotates keys and switches
    encryption on over a store that was plain. Only the payload changes, as ``RewritingStorage`` replaces it;
    the names of records from before encryption (see ``has_plain_names``) stay as they are until the record is
    put again. Switch encryption on in every process before plain records are rewritten.

    Args:
        records: If they require encryption, plain records are refused and not rewritten.
        change: Makes another form of what is inside, recompressed for example; None: it stays as it is.

    Raises:
        CorruptRecordError: By each method: the record cannot be read; see ``EncryptedRecords.opened``.
    """

    def __init__(self, records: EncryptedRecords, *, change: Callable[[Payload], Payload] | None = None) -> None:
        self._records = records
        self._change = change

    @property
    def key_id(self) -> str:
        """The id of the current key."""
        return self._records.current

    def session(self, stored: SessionRecord) -> Payload | None:
        """Return the new payload of a header; None: it has none, or the one it has is right."""
        if stored.payload is None:
            return None
        found = self._records.opened_session(stored, stored.payload)
        return self._new(stored.payload, found, session_place(stored))

    def message(self, session_id: str, stored: MessageRecord) -> Payload | None:
        """Return the new payload of a message; None: the one it has is right."""
        found = self._records.opened_message(session_id, stored)
        return self._new(stored.payload, found, message_place(session_id, stored, stored.position))

    def memory(self, stored: MemoryRecord) -> Payload | None:
        """Return the new payload of a memory; None: the one it has is right, or it is the store's own."""
        if is_check(stored.scope, stored.key):
            return None
        return self._new(stored.payload, self._records.opened_memory(stored), memory_place(stored))

    def _new(self, stored: Payload, found: Opened, place: bytes) -> Payload | None:
        inner = self._change(found.payload) if self._change else found.payload
        if inner == found.payload and self._records.is_current(stored):
            return None
        return self._records.sealed(inner, place, found.names)

    @staticmethod
    def has_plain_names(stored: SessionRecord | MemoryRecord) -> bool:
        """Tell whether a record's labels, or its key, are those from before encryption."""
        if isinstance(stored, SessionRecord):
            return any(map(is_plain, stored.tags))
        return is_plain(stored.key) and not is_check(stored.scope, stored.key)
