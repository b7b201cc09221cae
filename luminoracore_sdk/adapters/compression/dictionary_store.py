"""Trained dictionaries in the store that they were trained on.

They are kept as memories of a reserved user, which every backend supports and no listing shows. One record
names the dictionary that new records are written with.
"""

import re
from collections.abc import Iterable

from luminoracore_sdk.adapters.codec.values import JsonCodec
from luminoracore_sdk.adapters.compression.dictionary import Dictionary, general_dictionary, packaged_dictionaries
from luminoracore_sdk.adapters.compression.dictionary_registry import (
    dictionary_of,
    find_dictionary,
    register_dictionary,
)
from luminoracore_sdk.application.ports.records import (
    MemoryRecord,
    MemoryScope,
    MessageRecord,
    Payload,
    SessionRecord,
)
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.domain.errors import CorruptRecordError
from luminoracore_sdk.domain.values import STORE_OWNER

__all__ = [
    "STORE_SCOPE",
    "choose_dictionary",
    "chosen_dictionary",
    "encodings_of",
    "ensure_dictionary",
    "load_dictionaries",
    "save_dictionary",
]

STORE_SCOPE = MemoryScope("user", STORE_OWNER)
_ENCODING = "zdict"
_IDS = re.compile("[0-9a-z]{1,16}")
_CHOICE = "dictionary"


def _key(dictionary_id: str) -> str:
    return f"dictionary:{dictionary_id}"


async def save_dictionary(storage: SessionStorage, dictionary: Dictionary) -> None:
    """Store a trained dictionary for all readers; new records are not written with it yet."""
    payload = Payload(_ENCODING, dictionary.data)
    await storage.put_memory(MemoryRecord(scope=STORE_SCOPE, key=_key(dictionary.id), payload=payload))
    register_dictionary(dictionary)


async def ensure_dictionary(storage: SessionStorage, dictionary: Dictionary) -> None:
    """Store a trained dictionary again if the store has lost it, by eviction or a restored backup."""
    if dictionary.id in packaged_dictionaries():
        return
    if await storage.find_memory(STORE_SCOPE, _key(dictionary.id)) is None:
        await save_dictionary(storage, dictionary)


async def choose_dictionary(storage: SessionStorage, dictionary_id: str) -> None:
    """Make storages that are opened from now on write with a stored or packaged dictionary."""
    payload = JsonCodec().encode({"id": dictionary_id})
    await storage.put_memory(MemoryRecord(scope=STORE_SCOPE, key=_CHOICE, payload=payload))


async def chosen_dictionary(storage: SessionStorage) -> Dictionary:
    """Return the dictionary that new records of a store are written with.

    Raises:
        CorruptRecordError: The record that names it is damaged, or the dictionary is missing or damaged.
    """
    record = await storage.find_memory(STORE_SCOPE, _CHOICE)
    if record is None:
        return general_dictionary()
    where = f"the choice of a dictionary ({_CHOICE!a} of {STORE_OWNER!a})"
    choice = JsonCodec().decode(record.payload, backend=storage.backend, key=where)
    dictionary_id = choice.get("id") if isinstance(choice, dict) else None
    if not isinstance(dictionary_id, str):
        raise CorruptRecordError(backend=storage.backend, key=where, reason="it names no dictionary")
    await _load(storage, dictionary_id)
    dictionary = find_dictionary(dictionary_id)
    if dictionary is None:
        reason = f"the dictionary {dictionary_id!a} is missing"
        raise CorruptRecordError(backend=storage.backend, key=where, reason=reason)
    return dictionary


async def load_dictionaries(storage: SessionStorage, encodings: Iterable[str]) -> None:
    """Load the dictionaries that encodings need from the store; missing ones are skipped.

    Raises:
        CorruptRecordError: A dictionary is damaged.
    """
    for dictionary_id in {dictionary_of(encoding) for encoding in encodings}:
        if dictionary_id is not None:
            await _load(storage, dictionary_id)


def encodings_of(records: Iterable[SessionRecord | MessageRecord | MemoryRecord]) -> set[str]:
    """Return the encodings of the records' payloads, except those of the store's own records."""
    return {
        record.payload.encoding
        for record in records
        if record.payload is not None
        if not (isinstance(record, MemoryRecord) and record.scope == STORE_SCOPE)
    }


async def _load(storage: SessionStorage, dictionary_id: str) -> None:
    if find_dictionary(dictionary_id) is not None or not _IDS.fullmatch(dictionary_id):
        return
    key = _key(dictionary_id)
    record = await storage.find_memory(STORE_SCOPE, key)
    if record is None:
        return
    dictionary = Dictionary(record.payload.data)
    if record.payload.encoding != _ENCODING or dictionary.id != dictionary_id:
        raise CorruptRecordError(
            backend=storage.backend,
            key=f"memory {key!a} of {STORE_OWNER!a}",
            reason="the dictionary has been changed",
        )
    register_dictionary(dictionary)
