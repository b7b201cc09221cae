"""AES-256-GCM encryption of payloads, bound to associated data."""

import os
from types import ModuleType
from typing import Any

from luminoracore_sdk.adapters.encryption.keyring import Keyring
from luminoracore_sdk.adapters.optional import import_extra
from luminoracore_sdk.application.ports.records import Payload
from luminoracore_sdk.domain.errors import DecryptionError, KeyNotFoundError, PayloadTooLargeError

__all__ = ["LARGEST_BYTES", "MARK", "PayloadCipher", "cryptography", "derive_key", "key_id_of", "pack"]

MARK = "aes256gcm"

_NONCE_BYTES = 12
_TAG_BYTES = 16
LARGEST_BYTES = 2**31 - 1 - _TAG_BYTES
"""Limit of the library for one call; the limit of every backend is lower."""


def cryptography(module: str) -> ModuleType:
    """Return a module of the cryptography package.

    Raises:
        MissingDependencyError: The package is not installed.
    """
    return import_extra(f"cryptography.{module}", needed_by="EncryptedStorageWrapper", extra="encryption")


def pack(*parts: bytes) -> bytes:
    """Return parts joined unambiguously: each is preceded by its length in 4 bytes."""
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def derive_key(secret: bytes, purpose: str, *, size_bytes: int = 32) -> bytes:
    """Return a key for one purpose (HKDF with SHA-256, RFC 5869, without salt)."""
    algorithm = cryptography("hazmat.primitives.hashes").SHA256()
    info = f"luminoracore {purpose}".encode()
    hkdf = cryptography("hazmat.primitives.kdf.hkdf").HKDF(algorithm, size_bytes, salt=None, info=info)
    key: bytes = hkdf.derive(secret)
    return key


def key_id_of(encoding: str) -> str | None:
    """Return the id of the key that an encoding names, or None if the payload is not encrypted."""
    step, colon, key_id = encoding.rpartition("+")[2].partition(":")
    return key_id if step == MARK and colon else None


class PayloadCipher:
    """Encrypt payloads with the current key of a keyring, and decrypt those of any of its keys.

    The data is the nonce (12 random bytes), the ciphertext and the authentication tag (16 bytes). The associated
    data is authenticated but not stored.

    A nonce must not repeat under one key. Because nonces are random, NIST SP 800-38D (section 8.3) allows 2**32
    encryptions (four thousand million) per key; every write of a message, header or memory is one. Put a new key in
    front of the ring long before that and have the store rewritten.

    Args:
        ring: The keys.
        backend: Named in errors.
    """

    def __init__(self, ring: Keyring, *, backend: str) -> None:
        aead = cryptography("hazmat.primitives.ciphers.aead")
        self.current = ring.current
        self._backend = backend
        self._ciphers: dict[str, Any] = {key_id: aead.AESGCM(ring.key(key_id)) for key_id in ring.ids}
        self._invalid_tag = cryptography("exceptions").InvalidTag

    def encrypt(self, payload: Payload, data: bytes, *, prefix: bytes = b"") -> Payload:
        """Return an encrypted payload.

        Args:
            payload: In any encoding.
            data: The associated data; see ``associated_data``.
            prefix: Bytes that are encrypted in front of the payload.

        Raises:
            PayloadTooLargeError: It is above 2 GiB.
        """
        encoding = f"{payload.encoding}+{MARK}:{self.current}"
        plain = prefix + payload.data if prefix else payload.data
        if len(plain) > LARGEST_BYTES:
            raise PayloadTooLargeError(
                backend=self._backend, key="a payload", size_bytes=len(plain), limit_bytes=LARGEST_BYTES
            )
        nonce = os.urandom(_NONCE_BYTES)
        encrypted: bytes = self._ciphers[self.current].encrypt(nonce, plain, pack(encoding.encode(), data))
        return Payload(encoding, nonce + encrypted)

    def decrypt(self, payload: Payload, data: bytes, *, key: str) -> Payload:
        """Return a decrypted payload, with its prefix.

        Args:
            payload: In an encoding for which ``key_id_of`` returns an id.
            data: The associated data of the record in which it was found.
            key: Names the record in errors.

        Raises:
            KeyNotFoundError: Its key is not in the ring.
            DecryptionError: It was not encrypted with this key and associated data, or has changed since.
        """
        inner, _, step = payload.encoding.rpartition("+")
        key_id = step.partition(":")[2]
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise KeyNotFoundError(backend=self._backend, key=key, key_id=key_id)
        nonce, encrypted = payload.data[:_NONCE_BYTES], payload.data[_NONCE_BYTES:]
        if len(encrypted) < _TAG_BYTES:
            raise DecryptionError(backend=self._backend, key=key, reason="it is cut short")
        try:
            plain: bytes = cipher.decrypt(nonce, encrypted, pack(payload.encoding.encode(), data))
        except self._invalid_tag as exc:
            raise DecryptionError(
                backend=self._backend,
                key=key,
                reason=f"it was not encrypted with the key {key_id!a} for this record, or has been changed",
            ) from exc
        return Payload(inner, plain)
