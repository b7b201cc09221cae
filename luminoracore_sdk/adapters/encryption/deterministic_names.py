"""Deterministic encryption of the names that are looked up: tags of sessions and keys of memories.

Equal names have equal ciphertexts (AES-SIV, RFC 5297), and a changed ciphertext is refused. A name whose
ciphertext would be longer than an id may be is stored as a keyed hash; the name itself is then inside the
encrypted payload. A reader of the store sees which sessions share a tag, but not the tag. Keys of memories are bound
to their scope, so that keys of two users cannot be compared.
"""

import base64
import binascii
import hmac

from luminoracore_sdk.adapters.encryption.cipher import cryptography, derive_key, pack
from luminoracore_sdk.adapters.encryption.keyring import Keyring
from luminoracore_sdk.application.ports.records import MemoryScope
from luminoracore_sdk.domain.errors import DecryptionError
from luminoracore_sdk.domain.values import MAX_ID_LENGTH

__all__ = ["NameCipher", "index_key_of", "is_hashed", "is_plain"]

_ENCRYPTED = "aes-siv:"
_HASHED = "hmac-sha256:"

_TAG = (b"label",)


def is_plain(stored: str) -> bool:
    """Return whether a stored name was written before encryption was switched on."""
    return not stored.startswith((_ENCRYPTED, _HASHED))


def is_hashed(stored: str) -> bool:
    """Return whether a stored name is a hash; the name is then inside the payload."""
    return stored.startswith(_HASHED)


def index_key_of(ring: Keyring) -> bytes:
    """Return the key for names: the ring's own index key, or one derived from its last key."""
    secret, is_own = ring.index_secret
    return secret if is_own else derive_key(secret, "index key 1")


class NameCipher:
    """Encrypt and decrypt names.

    Args:
        ring: The keys.
        backend: Named in errors.
    """

    def __init__(self, ring: Keyring, *, backend: str) -> None:
        index_key = index_key_of(ring)
        self._backend = backend
        aead = cryptography("hazmat.primitives.ciphers.aead")
        self._siv = aead.AESSIV(derive_key(index_key, "names 1", size_bytes=64))
        self._hash_key = derive_key(index_key, "long names 1")
        self._invalid_tag = cryptography("exceptions").InvalidTag

    def encrypt_tag(self, tag: str) -> str:
        """Return the stored name of a session's tag."""
        return self._encrypt(tag, _TAG)

    def encrypt_key(self, scope: MemoryScope, key: str) -> str:
        """Return the stored name of a memory's key."""
        return self._encrypt(key, _scope_data(scope))

    def decrypt_tag(self, stored: str) -> str:
        """Return the tag of a stored name that is neither plain nor hashed.

        Raises:
            DecryptionError: It was changed, or encrypted under another index key.
        """
        return self._decrypt(stored, _TAG, what="a tag")

    def decrypt_key(self, scope: MemoryScope, stored: str) -> str:
        """Return the key of a stored name that is neither plain nor hashed.

        Raises:
            DecryptionError: It was changed, moved from another scope, or encrypted under another index key.
        """
        return self._decrypt(stored, _scope_data(scope), what=f"a memory key of {scope.kind} {scope.owner_id!a}")

    def _encrypt(self, name: str, data: tuple[bytes, ...]) -> str:
        plain = name.encode()
        stored = _ENCRYPTED + _to_text(self._siv.encrypt(plain, list(data)))
        if len(stored) <= MAX_ID_LENGTH:
            return stored
        return _HASHED + _to_text(hmac.digest(self._hash_key, pack(*data, plain), "sha256"))

    def _decrypt(self, stored: str, data: tuple[bytes, ...], *, what: str) -> str:
        text = stored.removeprefix(_ENCRYPTED)
        try:
            encrypted = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            name: bytes = self._siv.decrypt(encrypted, list(data))
        except (self._invalid_tag, binascii.Error, ValueError) as exc:
            reason = "it was not encrypted for this scope, or has been changed"
            raise DecryptionError(backend=self._backend, key=what, reason=reason) from exc
        return name.decode()


def _scope_data(scope: MemoryScope) -> tuple[bytes, ...]:
    return b"memory key", scope.kind.encode(), scope.owner_id.encode()


def _to_text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
