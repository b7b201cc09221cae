"""AES-256-GCM for payloads, bound to their place in the store."""

import os
from types import ModuleType
from typing import Any

from luminoracore_sdk.adapters.encryption.keyring import Keyring
from luminoracore_sdk.adapters.optional import import_extra
from luminoracore_sdk.application.ports.records import Payload
from luminoracore_sdk.domain.errors import DecryptionError, KeyNotFoundError, PayloadTooLargeError

__all__ = ["MARK", "PayloadCipher", "cryptography", "derived", "key_id_of", "packed"]

MARK = "aes256gcm"

_NONCE_BYTES = 12
_TAG_BYTES = 16
_LARGEST_BYTES = 2**31 - 1 - _TAG_BYTES
"""What the library takes in one call; every backend's own limit is lower."""


def cryptography(module: str) -> ModuleType:
    """Return a module of the cryptography package.

    Raises:
        MissingDependencyError: It is not installed.
    """
    return import_extra(f"cryptography.{module}", needed_by="EncryptedStorageWrapper", extra="encryption")


def packed(*parts: bytes) -> bytes:
    """Return parts as one text of bytes that no other parts give: each after its length in 4 bytes."""
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def derived(secret: bytes, purpose: str, *, size_bytes: int = 32) -> bytes:
    """Return a key for one purpose (HKDF with SHA-256, RFC 5869, without salt)."""
    algorithm = cryptography("hazmat.primitives.hashes").SHA256()
    info = f"luminoracore {purpose}".encode()
    hkdf = cryptography("hazmat.primitives.kdf.hkdf").HKDF(algorithm, size_bytes, salt=None, info=info)
    key: bytes = hkdf.derive(secret)
    return key


def key_id_of(tag: str) -> str | None:
    """Return the id of the key that a payload of this tag was encrypted with; None: it is plain."""
    step, colon, key_id = tag.rpartition("+")[2].partition(":")
    return key_id if step == MARK and colon else None


class PayloadCipher:
    """Encrypts payloads under the current key of a ring, and decrypts those of every key of it.

    Data is nonce (12 random bytes), ciphertext, authentication tag (16 bytes). What the payload is bound
    to, its place, is authenticated and not stored.

    A nonce must never repeat under one key. They are random, so NIST SP 800-38D (section 8.3) allows 2**32
    encryptions with one key. A message, a header and a memory are one each time they are written: four
    thousand million. Put a new key in front of the ring long before that, and let the store be rewritten.

    Args:
        ring: The keys.
        backend: Named in errors.
    """

    def __init__(self, ring: Keyring, *, backend: str) -> None:
        aead = cryptography("hazmat.primitives.ciphers.aead")
        self.current = ring.current
        self._backend = backend
        self._ciphers: dict[str, Any] = {key_id: aead.AESGCM(ring.key(key_id)) for key_id in ring.ids}
        self._refused = cryptography("exceptions").InvalidTag

    def seal(self, payload: Payload, place: bytes, *, extra: bytes = b"") -> Payload:
        """Return a payload encrypted for a place.

        Args:
            payload: Of any tag.
            place: See ``places``.
            extra: Bytes that are encrypted in front of it.

        Raises:
            PayloadTooLargeError: Above 2 GiB.
        """
        tag = f"{payload.encoding}+{MARK}:{self.current}"
        plain = extra + payload.data if extra else payload.data
        if len(plain) > _LARGEST_BYTES:
            raise PayloadTooLargeError(
                backend=self._backend, key="a payload", size_bytes=len(plain), limit_bytes=_LARGEST_BYTES
            )
        nonce = os.urandom(_NONCE_BYTES)
        sealed: bytes = self._ciphers[self.current].encrypt(nonce, plain, packed(tag.encode(), place))
        return Payload(tag, nonce + sealed)

    def open(self, payload: Payload, place: bytes, *, key: str) -> Payload:
        """Return what an encrypted payload was made of, ``extra`` in front.

        Args:
            payload: With a tag that ``key_id_of`` knows.
            place: Where it was found.
            key: Names the record in errors.

        Raises:
            KeyNotFoundError: Its key is not in the ring.
            DecryptionError: It is not what was written at this place under this key.
        """
        inner, _, step = payload.encoding.rpartition("+")
        key_id = step.partition(":")[2]
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise KeyNotFoundError(backend=self._backend, key=key, key_id=key_id)
        nonce, sealed = payload.data[:_NONCE_BYTES], payload.data[_NONCE_BYTES:]
        if len(sealed) < _TAG_BYTES:
            raise DecryptionError(backend=self._backend, key=key, reason="it is cut short")
        try:
            plain: bytes = cipher.decrypt(nonce, sealed, packed(payload.encoding.encode(), place))
        except self._refused as exc:
            raise DecryptionError(
                backend=self._backend,
                key=key,
                reason=f"it is not what was encrypted with the key {key_id!a} at this place",
            ) from exc
        return Payload(inner, plain)
