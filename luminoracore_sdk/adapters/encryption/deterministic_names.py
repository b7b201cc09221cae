"""Names that are looked up, labels of sessions and keys of memories, encrypted so that they can be.

The same name gives the same text, by AES-SIV (RFC 5297), which also refuses a text that was changed. A
text that would be longer than an id may be is a keyed hash in its place; the name then stands inside
the encrypted payload. Who sees the store sees which sessions share a label, and nothing of it. Keys of
memories are bound to their scope, so that two users' keys cannot be compared.
"""

import base64
import binascii
import hmac

from luminoracore_sdk.adapters.encryption.cipher import cryptography, derived, packed
from luminoracore_sdk.adapters.encryption.keyring import Keyring
from luminoracore_sdk.application.ports.records import MemoryScope
from luminoracore_sdk.domain.errors import DecryptionError
from luminoracore_sdk.domain.values import MAX_ID_LENGTH

__all__ = ["NameCipher", "index_key_of", "is_hashed", "is_plain"]

_ENCRYPTED = "aes-siv:"
_HASHED = "hmac-sha256:"

_LABELS = (b"label",)


def is_plain(stored: str) -> bool:
    """Tell whether a stored name is one from before encryption was switched on."""
    return not stored.startswith((_ENCRYPTED, _HASHED))


def is_hashed(stored: str) -> bool:
    """Tell whether a stored name stands for one that is inside the payload."""
    return stored.startswith(_HASHED)


def index_key_of(ring: Keyring) -> bytes:
    """Return the key that names are encrypted under: the ring's own, or derived from its last key."""
    secret, is_own = ring.index_secret
    return secret if is_own else derived(secret, "index key 1")


class NameCipher:
    """Encrypts and decrypts names.

    Args:
        ring: The keys.
        backend: Named in errors.
    """

    def __init__(self, ring: Keyring, *, backend: str) -> None:
        index_key = index_key_of(ring)
        self._backend = backend
        aead = cryptography("hazmat.primitives.ciphers.aead")
        self._siv = aead.AESSIV(derived(index_key, "names 1", size_bytes=64))
        self._hash_key = derived(index_key, "long names 1")
        self._refused = cryptography("exceptions").InvalidTag

    def label(self, name: str) -> str:
        """Return the stored form of a session's label."""
        return self._stored(name, _LABELS)

    def key(self, scope: MemoryScope, name: str) -> str:
        """Return the stored form of a memory's key."""
        return self._stored(name, _of(scope))

    def true_label(self, stored: str) -> str:
        """Return the label of a stored form that is neither plain nor hashed.

        Raises:
            DecryptionError: It was changed, or the index key is another.
        """
        return self._true(stored, _LABELS, what="a label")

    def true_key(self, scope: MemoryScope, stored: str) -> str:
        """Return the key of a stored form that is neither plain nor hashed.

        Raises:
            DecryptionError: It was changed or moved to another scope, or the index key is another.
        """
        return self._true(stored, _of(scope), what=f"a memory key of {scope.kind} {scope.owner_id!a}")

    def _stored(self, name: str, bound_to: tuple[bytes, ...]) -> str:
        plain = name.encode()
        text = _ENCRYPTED + _text(self._siv.encrypt(plain, list(bound_to)))
        if len(text) <= MAX_ID_LENGTH:
            return text
        return _HASHED + _text(hmac.digest(self._hash_key, packed(*bound_to, plain), "sha256"))

    def _true(self, stored: str, bound_to: tuple[bytes, ...], *, what: str) -> str:
        text = stored.removeprefix(_ENCRYPTED)
        try:
            sealed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            name: bytes = self._siv.decrypt(sealed, list(bound_to))
        except (self._refused, binascii.Error, ValueError) as exc:
            raise DecryptionError(
                backend=self._backend, key=what, reason="it is not a name that was encrypted for this place"
            ) from exc
        return name.decode()


def _of(scope: MemoryScope) -> tuple[bytes, ...]:
    return b"memory key", scope.kind.encode(), scope.owner_id.encode()


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
