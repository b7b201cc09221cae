"""Encryption and decryption of whole records."""

from collections.abc import Sequence

import attrs

from luminoracore_sdk.adapters.encryption.associated_data import (
    brief_data,
    card_data,
    index_data,
    memory_data,
    message_data,
    session_data,
)
from luminoracore_sdk.adapters.encryption.cipher import PayloadCipher, key_id_of, pack
from luminoracore_sdk.adapters.encryption.deterministic_names import NameCipher, is_hashed, is_plain
from luminoracore_sdk.adapters.encryption.keyring import Keyring
from luminoracore_sdk.application.ports.records import (
    Brief,
    HeaderTexts,
    IndexRecord,
    MemoryRecord,
    MemoryScope,
    MessageRecord,
    Payload,
    SessionRecord,
)
from luminoracore_sdk.domain.errors import DecryptionError, UnencryptedRecordError

__all__ = ["Decrypted", "EncryptedRecords"]

_LENGTH_BYTES = 4


@attrs.frozen
class Decrypted:
    """The content of a stored payload.

    Attributes:
        payload: As it was before encryption.
        names: The names of the record that are stored as hashes.
    """

    payload: Payload
    names: tuple[str, ...] = ()


class EncryptedRecords:
    """Encrypt records for the store, and decrypt stored records.

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
        """Return whether a stored payload is encrypted with the current key."""
        return key_id_of(payload.encoding) == self._cipher.current

    def encrypt_payload(self, payload: Payload, data: bytes, names: Sequence[str] = ()) -> Payload:
        """Return an encrypted payload; hashed names of the record are put in front of it."""
        prefix = pack(pack(*(name.encode() for name in names))) if names else b""
        return self._cipher.encrypt(payload, data, prefix=prefix)

    def _decrypt_payload(self, stored: Payload, data: bytes, *, key: str, hashed: Sequence[str] = ()) -> Decrypted:
        """Return the content of a stored payload; one that is not encrypted is returned unchanged.

        Args:
            stored: As it is stored.
            data: The associated data of its record.
            key: Names the record in errors.
            hashed: The names of the record that look like hashes; those of a plain record only look so.
        """
        if key_id_of(stored.encoding) is None:
            if self._required:
                raise UnencryptedRecordError(backend=self._backend, key=key)
            return Decrypted(stored, tuple(hashed))
        payload = self._cipher.decrypt(stored, data, key=key)
        if not hashed:
            return Decrypted(payload)
        names, content = _first(payload.data)
        return Decrypted(Payload(payload.encoding, content), tuple(name.decode() for name in _parts(names)))

    def decrypt_session(self, stored: SessionRecord, payload: Payload) -> Decrypted:
        """Return the content of the payload of a stored header.

        Raises:
            KeyNotFoundError: Its key is not in the ring.
            DecryptionError: It was moved from another record, or changed.
            UnencryptedRecordError: It is not encrypted, and encryption is required.
        """
        hashed = [tag for tag in stored.tags if is_hashed(tag)]
        return self._decrypt_payload(payload, session_data(stored), key=_session_name(stored), hashed=hashed)

    def decrypt_message(self, session_id: str, stored: MessageRecord) -> Decrypted:
        """Return the content of the payload of a stored message; raises what ``decrypt_session`` raises."""
        data = message_data(session_id, stored, stored.position)
        return self._decrypt_payload(stored.payload, data, key=f"message {stored.position} of session {session_id!a}")

    def decrypt_memory(self, stored: MemoryRecord) -> Decrypted:
        """Return the content of the payload of a stored memory; raises what ``decrypt_session`` raises."""
        hashed = [stored.key] if is_hashed(stored.key) else []
        return self._decrypt_payload(stored.payload, memory_data(stored), key=_memory_name(stored), hashed=hashed)

    # -- sessions --------------------------------------------------------------------------------

    def stored_tag(self, tag: str) -> str:
        """Return the stored name of a tag."""
        return self._names.encrypt_tag(tag)

    def stored_session(self, record: SessionRecord, payload: Payload) -> SessionRecord:
        """Return the encrypted header of a session with this payload."""
        tags = {tag: self._names.encrypt_tag(tag) for tag in record.tags}
        stored = attrs.evolve(record, tags=tuple(tags.values())).with_texts(
            self.stored_texts(record.session_id, record.texts)
        )
        hashed = [tag for tag, name in tags.items() if is_hashed(name)]
        return attrs.evolve(stored, payload=self.encrypt_payload(payload, session_data(stored), hashed))

    def session(self, stored: SessionRecord, payload: Payload) -> SessionRecord:
        """Return the decrypted header; raises what ``decrypt_session`` raises."""
        found = self.decrypt_session(stored, payload)
        hashed = {name if name in stored.tags else self._names.encrypt_tag(name): name for name in found.names}
        if hashed.keys() != set(filter(is_hashed, stored.tags)):
            raise self._other_names(_session_name(stored))
        tags = tuple(hashed.get(tag) or self._authenticated_tag(tag) for tag in stored.tags)
        plain = attrs.evolve(stored, payload=found.payload, tags=tags)
        return plain.with_texts(self.texts(stored.session_id, stored.texts))

    def listed(self, stored: SessionRecord) -> SessionRecord | None:
        """Return the header in a listing, or None if its tags cannot be decrypted without its payload."""
        if any(map(is_hashed, stored.tags)) or (self._required and any(map(is_plain, stored.tags))):
            return None  # the payload decides whether a plain tag is allowed
        try:
            tags = [tag if is_plain(tag) else self._names.decrypt_tag(tag) for tag in stored.tags]
        except DecryptionError:  # changed, or a plain tag that looks encrypted: the payload decides
            return None
        return attrs.evolve(stored, tags=tuple(tags)).with_texts(self.texts(stored.session_id, stored.texts))

    def stored_texts(self, session_id: str, texts: HeaderTexts) -> HeaderTexts:
        """Return the encrypted card and briefs of a session."""
        return HeaderTexts(
            card=None if texts.card is None else self.encrypt_payload(texts.card, card_data(session_id)),
            first=self._stored_brief(session_id, texts.first),
            last=self._stored_brief(session_id, texts.last),
        )

    def _stored_brief(self, session_id: str, brief: Brief | None) -> Brief | None:
        if brief is None:
            return None
        data = brief_data(session_id, brief.position)
        return Brief(brief.position, self.encrypt_payload(brief.payload, data))

    def stored_brief(self, session_id: str, position: int, brief: Payload | None) -> Payload | None:
        """Return the encrypted brief of the message at a position."""
        return None if brief is None else self.encrypt_payload(brief, brief_data(session_id, position))

    def texts(self, session_id: str, stored: HeaderTexts) -> HeaderTexts:
        """Return the decrypted card and briefs of a session; raises what ``decrypt_session`` raises."""
        key = f"session {session_id!a}"
        card = stored.card
        if card is not None:
            card = self._decrypt_payload(card, card_data(session_id), key=key).payload
        return HeaderTexts(
            card=card, first=self._brief(session_id, stored.first), last=self._brief(session_id, stored.last)
        )

    def _brief(self, session_id: str, stored: Brief | None) -> Brief | None:
        if stored is None:
            return None
        data, key = brief_data(session_id, stored.position), f"session {session_id!a}"
        return Brief(stored.position, self._decrypt_payload(stored.payload, data, key=key).payload)

    def _authenticated_tag(self, stored: str) -> str:
        try:
            return stored if is_plain(stored) else self._names.decrypt_tag(stored)
        except DecryptionError:  # the payload is bound to it: a plain tag that looks encrypted
            return stored

    # -- messages --------------------------------------------------------------------------------

    def stored_messages(self, session_id: str, messages: Sequence[MessageRecord], last: int) -> list[MessageRecord]:
        """Return messages encrypted for the positions above ``last``."""
        return [
            attrs.evolve(
                message,
                payload=self.encrypt_payload(message.payload, message_data(session_id, message, position)),
                brief=self.stored_brief(session_id, position, message.brief),
                index=self.stored_index(session_id, position, message.message_id, message.index),
            )
            for position, message in enumerate(messages, start=last + 1)
        ]

    def message(self, session_id: str, stored: MessageRecord) -> MessageRecord:
        """Return the decrypted message; raises what ``decrypt_session`` raises."""
        return attrs.evolve(stored, payload=self.decrypt_message(session_id, stored).payload, index=None)

    def stored_index(self, session_id: str, position: int, message_id: str, index: Payload | None) -> Payload | None:
        """Return the encrypted index of the message at a position."""
        return None if index is None else self.encrypt_payload(index, index_data(session_id, position, message_id))

    def index(self, session_id: str, stored: IndexRecord | MessageRecord) -> Payload | None:
        """Return the decrypted index of a message; raises what ``decrypt_session`` raises."""
        if stored.index is None:
            return None
        data = index_data(session_id, stored.position, stored.message_id)
        key = f"the index of message {stored.position} of session {session_id!a}"
        return self._decrypt_payload(stored.index, data, key=key).payload

    # -- memory ----------------------------------------------------------------------------------

    def stored_key(self, scope: MemoryScope, key: str) -> str:
        """Return the stored name of a memory's key."""
        return self._names.encrypt_key(scope, key)

    def stored_memory(self, record: MemoryRecord) -> MemoryRecord:
        """Return the encrypted memory."""
        stored = attrs.evolve(record, key=self._names.encrypt_key(record.scope, record.key))
        names = (record.key,) if is_hashed(stored.key) else ()
        return attrs.evolve(stored, payload=self.encrypt_payload(record.payload, memory_data(stored), names))

    def memory(self, stored: MemoryRecord) -> MemoryRecord:
        """Return the decrypted memory; raises what ``decrypt_session`` raises."""
        found = self.decrypt_memory(stored)
        return attrs.evolve(stored, payload=found.payload, key=self._authenticated_key(stored, found.names))

    def has_plain_key(self, stored: MemoryRecord) -> bool:
        """Return whether the key of a stored memory was written before encryption, whatever it looks like."""
        if is_plain(stored.key) or key_id_of(stored.payload.encoding) is None:
            return True
        return self.memory(stored).key == stored.key

    def _authenticated_key(self, stored: MemoryRecord, names: tuple[str, ...]) -> str:
        """Return the key of a memory whose payload, which is bound to the stored key, was decrypted."""
        if is_hashed(stored.key):
            if names != (stored.key,) and [self.stored_key(stored.scope, name) for name in names] != [stored.key]:
                raise self._other_names(_memory_name(stored))
            return names[0]
        try:
            return stored.key if is_plain(stored.key) else self._names.decrypt_key(stored.scope, stored.key)
        except DecryptionError:  # a plain key that looks encrypted
            return stored.key

    def _other_names(self, key: str) -> DecryptionError:
        return DecryptionError(backend=self._backend, key=key, reason="its names do not match those in its payload")


def _session_name(stored: SessionRecord) -> str:
    return f"session {stored.session_id!a}"


def _memory_name(stored: MemoryRecord) -> str:
    return f"memory {stored.key!a} of {stored.scope.kind} {stored.scope.owner_id!a}"


def _first(data: bytes) -> tuple[bytes, bytes]:
    """Return the first of packed parts, and the rest."""
    end = _LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES], "big")
    return data[_LENGTH_BYTES:end], data[end:]


def _parts(data: bytes) -> list[bytes]:
    """Return all packed parts."""
    parts = []
    while data:
        part, data = _first(data)
        parts.append(part)
    return parts
