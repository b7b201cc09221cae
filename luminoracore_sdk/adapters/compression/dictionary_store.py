"""Trained dictionaries in the store that they were trained on.

They are kept as user memories of a reserved owner, which every backend has and which no listing of
sessions shows. One record says which dictionary new records are written with.
"""

import re
from collections.abc import Iterable

from luminoracore_sdk.adapters.codec.values import JsonCodec
from luminoracore_sdk.adapters.compression.dictionary import (
    Dictionary,
    general_dictionary,
    packaged_dictionaries,
)
from luminoracore_sdk.adapters.compression.dictionary_registry import find_known, needed_dictionary, remember
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
    "load_dictionaries",
    "save_dictionary",
    "tags_of",
]

STORE_SCOPE = MemoryScope("user", STORE_OWNER)
_TAG = "zdict"
_IDS = re.compile("[0-9a-z]{1,16}")
_CHOICE = "dictionary"


def _key(dictionary_id: str) -> str:
    return f"dictionary:{dictionary_id}"


async def save_dictionary(storage: SessionStorage, dictionary: Dictionary) -> None:
    """Keep a trained dictionary in a store, for every later reader; nothing is written with it yet."""
    payload = Payload(_TAG, dictionary.data)
    await storage.put_memory(MemoryRecord(scope=STORE_SCOPE, key=_key(dictionary.id), payload=payload))
    remember(dictionary)


async def keep_dictionary(storage: SessionStorage, dictionary: Dictionary) -> None:
    """Put a trained dictionary back into a store that has lost it, by eviction or a restored backup."""
    if dictionary.id in packaged_dictionaries():
        return
    if await storage.find_memory(STORE_SCOPE, _key(dictionary.id)) is None:
        await save_dictionary(storage, dictionary)


async def choose_dictionary(storage: SessionStorage, dictionary_id: str) -> None:
    """Let storages that are opened from now on write with a dictionary that is in the store, or packaged."""
    payload = JsonCodec().encode({"id": dictionary_id})
    await storage.put_memory(MemoryRecord(scope=STORE_SCOPE, key=_CHOICE, payload=payload))


async def chosen_dictionary(storage: SessionStorage) -> Dictionary:
    """Return the dictionary that new records of a store are written with.

    Raises:
        CorruptRecordError: The record that says it is damaged, or its dictionary is gone or damaged.
    """
    record = await storage.find_memory(STORE_SCOPE, _CHOICE)
    if record is None:
        return general_dictionary()
    where = f"the choice of a dictionary ({_CHOICE!a} of {STORE_OWNER!a})"
    choice = JsonCodec().decode(record.payload, backend=storage.backend, key=where)
    dictionary_id = choice.get("id") if isinstance(choice, dict) else None
    if not isinstance(dictionary_id, str):
        raise CorruptRecordError(backend=storage.backend, key=where, reason="it names none")
    await _load(storage, dictionary_id)
    dictionary = find_known(dictionary_id)
    if dictionary is None:
        raise CorruptRecordError(backend=storage.backend, key=where, reason=f"there is no dictionary {dictionary_id!a}")
    return dictionary


async def load_dictionaries(storage: SessionStorage, tags: Iterable[str]) -> None:
    """Make known what records with these tags need and the store has; what it lacks stays unknown.

    Raises:
        CorruptRecordError: A dictionary is damaged.
    """
    for dictionary_id in {needed_dictionary(tag) for tag in tags}:
        if dictionary_id is not None:
            await _load(storage, dictionary_id)


def tags_of(records: Iterable[SessionRecord | MessageRecord | MemoryRecord]) -> set[str]:
    """Return the tags of the payloads that records have, but for those that lead to dictionaries."""
    return {
        record.payload.encoding
        for record in records
        if record.payload is not None
        if not (isinstance(record, MemoryRecord) and record.scope == STORE_SCOPE)
    }


async def _load(storage: SessionStorage, dictionary_id: str) -> None:
    if find_known(dictionary_id) is not None or not _IDS.fullmatch(dictionary_id):
        return
    key = _key(dictionary_id)
    record = await storage.find_memory(STORE_SCOPE, key)
    if record is None:
        return
    dictionary = Dictionary(record.payload.data)
    if record.payload.encoding != _TAG or dictionary.id != dictionary_id:
        raise CorruptRecordError(
            backend=storage.backend,
            key=f"memory {key!a} of {STORE_OWNER!a}",
            reason="it is not the dictionary that it was",
        )
    remember(dictionary)
