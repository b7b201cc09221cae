"""Whole records as they lie in an encrypted store, and back."""

from collections.abc import Sequence

import attrs

from luminoracore_sdk.adapters.encryption.associated_data import (
    memory_name,
    memory_place,
    message_name,
    message_place,
    session_name,
    session_place,
)
from luminoracore_sdk.adapters.encryption.cipher import PayloadCipher, key_id_of, packed
from luminoracore_sdk.adapters.encryption.deterministic_names import NameCipher, is_hashed, is_plain
from luminoracore_sdk.adapters.encryption.keyring import Keyring
from luminoracore_sdk.application.ports.records import (
    MemoryRecord,
    MemoryScope,
    MessageRecord,
    Payload,
    SessionRecord,
)
from luminoracore_sdk.domain.errors import DecryptionError, UnencryptedRecordError

__all__ = ["EncryptedRecords", "Opened"]

_LENGTH_BYTES = 4


@attrs.frozen
class Opened:
    """What is inside a stored payload.

    Attributes:
        payload: As it was before it was encrypted.
        names: The record's names that are stored as hashes.
    """

    payload: Payload
    names: tuple[str, ...] = ()


class EncryptedRecords:
    """Makes the stored form of a record, and the record of a stored form.

    Args:
        ring: The keys.
        backend: Named in errors.
        required: Refuse records that are not encrypted.
    """

    def __init__(self, ring: Keyring, *, backend: str, required: bool = False) -> None:
        self._cipher = PayloadCipher(ring, backend=backend)
        self._names = NameCipher(ring, backend=backend)
        self._backend = backend
        self._required = required

    @property
    def current(self) -> str:
        """The id of the key for new records."""
        return self._cipher.current

    # -- payloads --------------------------------------------------------------------------------

    def is_current(self, payload: Payload) -> bool:
        """Tell whether a stored payload is encrypted under the current key."""
        return key_id_of(payload.encoding) == self._cipher.current

    def sealed(self, payload: Payload, place: bytes, names: Sequence[str] = ()) -> Payload:
        """Return the stored form of a payload; names go inside it when the record has hashed ones."""
        extra = packed(packed(*(name.encode() for name in names))) if names else b""
        return self._cipher.seal(payload, place, extra=extra)

    def opened(self, stored: Payload, place: bytes, *, key: str, hashed: Sequence[str] = ()) -> Opened:
        """Return what is inside a stored payload; one that is not encrypted is returned as it is.

        Args:
            stored: As it lies in the store.
            place: Where it was found.
            key: Names the record in errors.
            hashed: Those of the record's names that look like hashes; of a plain payload they only look so.

        Raises:
            DecryptionError: Or ``KeyNotFoundError``: see ``PayloadCipher.open``.
            UnencryptedRecordError: It is not encrypted, and that is required.
        """
        if key_id_of(stored.encoding) is None:
            if self._required:
                raise UnencryptedRecordError(backend=self._backend, key=key)
            return Opened(stored, tuple(hashed))
        payload = self._cipher.open(stored, place, key=key)
        if not hashed:
            return Opened(payload)
        names, data = _first(payload.data)
        return Opened(Payload(payload.encoding, data), tuple(name.decode() for name in _parts(names)))

    def opened_session(self, stored: SessionRecord, payload: Payload) -> Opened:
        """Return what is inside the payload of a stored header."""
        return self.opened(
            payload,
            session_place(stored),
            key=session_name(stored.session_id),
            hashed=[label for label in stored.tags if is_hashed(label)],
        )

    def opened_memory(self, stored: MemoryRecord) -> Opened:
        """Return what is inside the payload of a stored memory."""
        hashed = [stored.key] if is_hashed(stored.key) else []
        return self.opened(stored.payload, memory_place(stored), key=memory_name(stored), hashed=hashed)

    # -- sessions --------------------------------------------------------------------------------

    def label(self, name: str) -> str:
        """Return the stored form of a label."""
        return self._names.label(name)

    def stored_session(self, record: SessionRecord, payload: Payload) -> SessionRecord:
        """Return the stored form of a header that has this payload."""
        labels = {name: self._names.label(name) for name in record.tags}
        stored = attrs.evolve(record, tags=tuple(labels.values()))
        hashed = [name for name, label in labels.items() if is_hashed(label)]
        return attrs.evolve(stored, payload=self.sealed(payload, session_place(stored), hashed))

    def session(self, stored: SessionRecord, payload: Payload) -> SessionRecord:
        """Return the header of a stored form with this payload.

        Raises:
            CorruptRecordError: Its payload or a label cannot be read; see ``opened``.
        """
        found = self.opened_session(stored, payload)
        return attrs.evolve(stored, payload=found.payload, tags=self._labels(stored, found.names))

    def listed(self, stored: SessionRecord) -> SessionRecord | None:
        """Return the header of a listed form; None: its labels cannot be told without its payload."""
        if any(map(is_hashed, stored.tags)) or (self._required and any(map(is_plain, stored.tags))):
            return None  # a plain label is refused with its payload, or allowed by it
        try:
            labels = [label if is_plain(label) else self._names.true_label(label) for label in stored.tags]
        except DecryptionError:  # changed, or plain and looks encrypted: the payload knows
            return None
        return attrs.evolve(stored, tags=tuple(labels))

    def _labels(self, stored: SessionRecord, names: tuple[str, ...]) -> tuple[str, ...]:
        """Return the labels of a header whose payload, which is bound to the stored ones, was opened."""
        hashed = {name if name in stored.tags else self._names.label(name): name for name in names}
        if hashed.keys() != set(filter(is_hashed, stored.tags)):
            raise self._other_names(session_name(stored.session_id))
        return tuple(hashed.get(label) or self._label(label) for label in stored.tags)

    def _label(self, stored: str) -> str:
        try:
            return stored if is_plain(stored) else self._names.true_label(stored)
        except DecryptionError:  # the payload is bound to it as it is: a plain one that looks encrypted
            return stored

    # -- messages --------------------------------------------------------------------------------

    def stored_messages(self, session_id: str, messages: Sequence[MessageRecord], last: int) -> list[MessageRecord]:
        """Return the stored forms of messages that come to lie behind a position."""
        return [
            attrs.evolve(message, payload=self.sealed(message.payload, message_place(session_id, message, position)))
            for position, message in enumerate(messages, start=last + 1)
        ]

    def message(self, session_id: str, stored: MessageRecord) -> MessageRecord:
        """Return the message of a stored form.

        Raises:
            CorruptRecordError: It cannot be read; see ``opened``.
        """
        return attrs.evolve(stored, payload=self.opened_message(session_id, stored).payload)

    def opened_message(self, session_id: str, stored: MessageRecord) -> Opened:
        """Return what is inside the payload of a stored message."""
        return self.opened(
            stored.payload,
            message_place(session_id, stored, stored.position),
            key=message_name(session_id, stored.position),
        )

    # -- memory ----------------------------------------------------------------------------------

    def key(self, scope: MemoryScope, name: str) -> str:
        """Return the stored form of a memory's key."""
        return self._names.key(scope, name)

    def stored_memory(self, record: MemoryRecord) -> MemoryRecord:
        """Return the stored form of a memory."""
        stored = attrs.evolve(record, key=self._names.key(record.scope, record.key))
        names = (record.key,) if is_hashed(stored.key) else ()
        return attrs.evolve(stored, payload=self.sealed(record.payload, memory_place(stored), names))

    def memory(self, stored: MemoryRecord) -> MemoryRecord:
        """Return the memory of a stored form.

        Raises:
            CorruptRecordError: Its payload or its key cannot be read; see ``opened``.
        """
        found = self.opened_memory(stored)
        return attrs.evolve(stored, payload=found.payload, key=self._key(stored, found.names))

    def has_plain_key(self, stored: MemoryRecord) -> bool:
        """Tell whether the key of a stored memory is one from before encryption, whatever it looks like."""
        if is_plain(stored.key) or key_id_of(stored.payload.encoding) is None:
            return True
        return self.memory(stored).key == stored.key

    def _key(self, stored: MemoryRecord, names: tuple[str, ...]) -> str:
        """Return the key of a memory whose payload, which is bound to the stored one, was opened."""
        if is_hashed(stored.key):
            if names != (stored.key,) and [self._names.key(stored.scope, name) for name in names] != [stored.key]:
                raise self._other_names(memory_name(stored))
            return names[0]
        try:
            return stored.key if is_plain(stored.key) else self._names.true_key(stored.scope, stored.key)
        except DecryptionError:  # a plain one that looks encrypted
            return stored.key

    def _other_names(self, key: str) -> DecryptionError:
        return DecryptionError(backend=self._backend, key=key, reason="its names are not those inside its payload")


def _first(data: bytes) -> tuple[bytes, bytes]:
    """Return the first of packed parts, and what follows on it."""
    end = _LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES], "big")
    return data[_LENGTH_BYTES:end], data[end:]


def _parts(data: bytes) -> list[bytes]:
    """Return all packed parts."""
    parts = []
    while data:
        part, data = _first(data)
        parts.append(part)
    return parts
