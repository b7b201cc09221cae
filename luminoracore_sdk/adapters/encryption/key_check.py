"""The key check: a record of the keys a store was written with, so that a wrong key is refused at opening.

The record is stored in plain under the reserved user of the store. It holds one-way fingerprints of the keys,
which only tell equal keys from different ones. Anyone with write access to the store can delete it; then a wrong
key is noticed by the first record that it fails to decrypt.
"""

import hmac

import attrs

from luminoracore_sdk.adapters.codec.values import JsonCodec
from luminoracore_sdk.adapters.encryption.cipher import derive_key
from luminoracore_sdk.adapters.encryption.deterministic_names import index_key_of
from luminoracore_sdk.adapters.encryption.keyring import Keyring
from luminoracore_sdk.application.ports.records import MemoryRecord, MemoryScope, Payload
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.domain.errors import (
    CorruptRecordError,
    KeyMismatchError,
    StorageBusyError,
    StorageReadOnlyError,
)
from luminoracore_sdk.domain.values import STORE_OWNER

__all__ = ["CHECK_KEY", "STORE_SCOPE", "check_keys", "is_key_check"]

STORE_SCOPE = MemoryScope("user", STORE_OWNER)
CHECK_KEY = "encryption"

_CODEC = JsonCodec()
_ATTEMPTS = 5
_NAME = f"memory {CHECK_KEY!a} of user {STORE_OWNER!a}"


def is_key_check(scope: MemoryScope, key: str) -> bool:
    """Return whether a memory is the key check."""
    return key == CHECK_KEY and scope == STORE_SCOPE


async def check_keys(base: SessionStorage, ring: Keyring) -> None:
    """Compare the keys with those the store was written with, and add the new ones to the key check.

    In a read-only store the keys are only compared.

    Raises:
        KeyMismatchError: The index key, or a key with a known id, is a different one.
        CorruptRecordError: The key check cannot be read.
    """
    keys = {key_id: _fingerprint(ring.key(key_id)) for key_id in ring.ids}
    given = _Fingerprints(index=_fingerprint(index_key_of(ring)), keys=keys)
    for _ in range(_ATTEMPTS):  # another process may write at the same time, and the last write wins
        known = await _find(base)
        if known is not None:
            _compare(base.backend, known, given)
            if given.keys.keys() <= known.keys.keys():
                return
            wanted = attrs.evolve(known, keys={**known.keys, **given.keys})
        else:
            wanted = given
        try:
            await base.put_memory(MemoryRecord(scope=STORE_SCOPE, key=CHECK_KEY, payload=wanted.payload()))
        except StorageReadOnlyError:  # nothing can be written with a wrong key either
            return
    raise StorageBusyError(base.backend, "other processes kept writing their keys to the key check")


def _compare(backend: str, known: "_Fingerprints", given: "_Fingerprints") -> None:
    if not hmac.compare_digest(known.index, given.index):
        raise KeyMismatchError(backend=backend, key_id=None)
    for key_id, fingerprint in given.keys.items():
        if not hmac.compare_digest(known.keys.get(key_id, fingerprint), fingerprint):
            raise KeyMismatchError(backend=backend, key_id=key_id)


def _fingerprint(key: bytes) -> str:
    return derive_key(key, "key check 1", size_bytes=16).hex()


@attrs.frozen
class _Fingerprints:
    """Fingerprints of the index key and, by id, of the other keys."""

    index: str
    keys: dict[str, str]

    def payload(self) -> Payload:
        return _CODEC.encode({"v": 1, "index": self.index, "keys": self.keys})


async def _find(base: SessionStorage) -> _Fingerprints | None:
    record = await base.find_memory(STORE_SCOPE, CHECK_KEY)
    if record is None:
        return None
    match _CODEC.decode(record.payload, backend=base.backend, key=_NAME):
        case {"v": 1, "index": str(index), "keys": dict(keys)}:
            values = {key_id: value for key_id, value in keys.items() if isinstance(value, str)}
            if index.isascii() and len(values) == len(keys) and all(map(str.isascii, values.values())):
                return _Fingerprints(index, values)
    raise CorruptRecordError(backend=base.backend, key=_NAME, reason="it is not a key check")
