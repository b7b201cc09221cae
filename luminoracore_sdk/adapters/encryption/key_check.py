"""What an encrypted store remembers of its keys, so that a wrong one is noticed before it does harm.

The record lies in plain under the reserved owner of user memories. It holds values derived from the keys,
one way: they tell equal keys from others, and nothing else. Who may write to the store may remove it;
then a wrong key is noticed by the first record that it does not open.
"""

import hmac

import attrs

from luminoracore_sdk.adapters.codec.values import JsonCodec
from luminoracore_sdk.adapters.encryption.cipher import derived
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

__all__ = ["CHECK_KEY", "STORE_SCOPE", "check_keys", "is_check"]

STORE_SCOPE = MemoryScope("user", STORE_OWNER)
CHECK_KEY = "encryption"

_CODEC = JsonCodec()
_ATTEMPTS = 5
_NAME = f"memory {CHECK_KEY!a} of user {STORE_OWNER!a}"


def is_check(scope: MemoryScope, key: str) -> bool:
    """Tell whether this is the place of the check record."""
    return key == CHECK_KEY and scope == STORE_SCOPE


async def check_keys(base: SessionStorage, ring: Keyring) -> None:
    """Compare the keys with those that the store was written with; write down those it does not know yet.

    A store that cannot be written is only compared.

    Raises:
        KeyMismatchError: The index key, or a key of the same id, is another.
        CorruptRecordError: The check record cannot be read.
    """
    given = _Known(index=_value(index_key_of(ring)), keys={key_id: _value(ring.key(key_id)) for key_id in ring.ids})
    for _ in range(_ATTEMPTS):  # another process may write its own at the same time; the last one stays
        known = await _known(base)
        if known is not None:
            _compare(base.backend, known, given)
            if given.keys.keys() <= known.keys.keys():
                return
            wanted = attrs.evolve(known, keys={**known.keys, **given.keys})
        else:
            wanted = given
        try:
            await base.put_memory(MemoryRecord(scope=STORE_SCOPE, key=CHECK_KEY, payload=wanted.payload()))
        except StorageReadOnlyError:  # then nothing can be written under a wrong key either
            return
    raise StorageBusyError(base.backend, "other processes went on writing down their keys")


def _compare(backend: str, known: "_Known", given: "_Known") -> None:
    if not hmac.compare_digest(known.index, given.index):
        raise KeyMismatchError(backend=backend, key_id=None)
    for key_id, value in given.keys.items():
        if not hmac.compare_digest(known.keys.get(key_id, value), value):
            raise KeyMismatchError(backend=backend, key_id=key_id)


def _value(key: bytes) -> str:
    return derived(key, "key check 1", size_bytes=16).hex()


@attrs.frozen
class _Known:
    """What the record says: values of the index key and, by id, of the keys."""

    index: str
    keys: dict[str, str]

    def payload(self) -> Payload:
        """Return it as it is stored."""
        return _CODEC.encode({"v": 1, "index": self.index, "keys": self.keys})


async def _known(base: SessionStorage) -> _Known | None:
    record = await base.find_memory(STORE_SCOPE, CHECK_KEY)
    return None if record is None else _read(record.payload, base.backend)


def _read(payload: Payload, backend: str) -> _Known:
    document = _CODEC.decode(payload, backend=backend, key=_NAME)
    match document:
        case {"v": 1, "index": str(index), "keys": dict(keys)}:
            values = {key_id: value for key_id, value in keys.items() if isinstance(value, str)}
            if index.isascii() and len(values) == len(keys) and all(map(str.isascii, values.values())):
                return _Known(index, values)
    raise CorruptRecordError(backend=backend, key=_NAME, reason="it is no record of keys")
