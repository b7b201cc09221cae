"""What an encrypted store remembers of its keys, so that a wrong one is noticed before it does harm.

The record lies in plain under the reserved owner of user memories. It holds values derived from the keys,
one way: they tell equal keys from others, and nothing else. Who may write to the store may remove it;
then a wrong key is noticed by the first record that it does not open.
"""

import hmac

from luminoracore_sdk.adapters.codec.values import JsonCodec
from luminoracore_sdk.adapters.encryption.cipher import derived
from luminoracore_sdk.adapters.encryption.keyring import Keyring
from luminoracore_sdk.adapters.encryption.names import index_key_of
from luminoracore_sdk.application.ports.records import MemoryRecord, MemoryScope, Payload
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.domain.errors import CorruptRecordError, KeyMismatchError, StorageReadOnlyError
from luminoracore_sdk.domain.values import STORE_OWNER

__all__ = ["CHECK_KEY", "STORE_SCOPE", "check_keys", "is_check"]

STORE_SCOPE = MemoryScope("user", STORE_OWNER)
CHECK_KEY = "encryption"

_CODEC = JsonCodec()
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
    known = await _known(base)
    given = {key_id: _value(ring.key(key_id)) for key_id in ring.ids}
    index = _value(index_key_of(ring))
    if known is not None:
        _compare(base.backend, known, given, index)
        if given.keys() <= known[1].keys():
            return
        given = {**known[1], **given}
    payload = _CODEC.encode({"v": 1, "index": index, "keys": given})
    try:
        await base.put_memory(MemoryRecord(scope=STORE_SCOPE, key=CHECK_KEY, payload=payload))
    except StorageReadOnlyError:  # then nothing can be written under a wrong key either
        return


def _compare(backend: str, known: tuple[str, dict[str, str]], given: dict[str, str], index: str) -> None:
    if not hmac.compare_digest(known[0], index):
        raise KeyMismatchError(backend=backend, key_id=None)
    for key_id, value in given.items():
        if not hmac.compare_digest(known[1].get(key_id, value), value):
            raise KeyMismatchError(backend=backend, key_id=key_id)


def _value(key: bytes) -> str:
    return derived(key, "key check 1", size_bytes=16).hex()


async def _known(base: SessionStorage) -> tuple[str, dict[str, str]] | None:
    """Return the values of the index key and, by id, of the keys that the store was written with."""
    record = await base.find_memory(STORE_SCOPE, CHECK_KEY)
    return None if record is None else _read(record.payload, base.backend)


def _read(payload: Payload, backend: str) -> tuple[str, dict[str, str]]:
    document = _CODEC.decode(payload, backend=backend, key=_NAME)
    if isinstance(document, dict) and document.get("v") == 1:
        index, keys = document.get("index"), document.get("keys")
        if isinstance(index, str) and index.isascii() and isinstance(keys, dict):
            values = {key_id: value for key_id, value in keys.items() if isinstance(value, str)}
            if len(values) == len(keys) and all(map(str.isascii, values.values())):
                return index, values
    raise CorruptRecordError(backend=backend, key=_NAME, reason="it is no record of keys")
