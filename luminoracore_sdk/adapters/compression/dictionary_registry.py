"""The dictionaries that this process can read with, and the compression step of payload encodings.

A dictionary trained on a store lies in that store and is loaded when a record first needs it. All storages of
the process share the loaded ones: an id stands for the same bytes everywhere.
"""

from functools import lru_cache

from luminoracore_sdk.adapters.compression.dictionary import (
    MAX_CONTENT_BYTES,
    Dictionary,
    DictionaryError,
    packaged_dictionaries,
)
from luminoracore_sdk.application.ports.records import Payload
from luminoracore_sdk.domain.errors import CorruptRecordError, UnreadablePayloadError

__all__ = ["TRAINED", "compressed", "dictionary_of", "expanded", "find_dictionary", "register_dictionary"]

_STEP = "+zstd:"

TRAINED: dict[str, Dictionary] = {}
"""Trained dictionaries that this process has loaded, by id."""


def register_dictionary(dictionary: Dictionary) -> None:
    """Let every storage of this process read with a dictionary."""
    TRAINED[dictionary.id] = dictionary


def find_dictionary(dictionary_id: str) -> Dictionary | None:
    """Return a dictionary that is packaged or loaded, or None."""
    return packaged_dictionaries().get(dictionary_id) or TRAINED.get(dictionary_id)


def dictionary_of(encoding: str) -> str | None:
    """Return the id of the dictionary that the last step of an encoding needs, or None."""
    return _split(encoding)[1]


@lru_cache(maxsize=256)  # a store has few different encodings
def _split(encoding: str) -> tuple[str, str | None]:
    """Return the encoding before compression and the id of the dictionary, or None if it is not compressed."""
    inner, step, dictionary_id = encoding.rpartition(_STEP)
    return (inner, dictionary_id) if step and "+" not in dictionary_id else (encoding, None)


def compressed(payload: Payload, dictionary: Dictionary, level: int) -> Payload:
    """Return a compressed payload, or the payload itself if compression would not make it smaller."""
    if len(payload.data) > MAX_CONTENT_BYTES:  # could be written, but not read
        return payload
    step = _STEP + dictionary.id
    frame = dictionary.compress(payload.data, level)
    if len(frame) + len(step) >= len(payload.data):
        return payload
    return Payload(payload.encoding + step, frame)


def expanded(payload: Payload, *, backend: str, key: str) -> Payload:
    """Return a payload as it was before compression, or the payload itself if it is not compressed.

    Raises:
        UnreadablePayloadError: Its dictionary is not in this store.
        CorruptRecordError: The bytes are damaged.
    """
    inner, dictionary_id = _split(payload.encoding)
    if dictionary_id is None:
        return payload
    dictionary = find_dictionary(dictionary_id)
    if dictionary is None:
        raise UnreadablePayloadError(
            backend=backend,
            key=key,
            reason=f"it needs the dictionary {dictionary_id!a}, which is not in this store",
        )
    try:
        data = dictionary.expand(payload.data)
    except DictionaryError as exc:
        raise CorruptRecordError(backend=backend, key=key, reason=str(exc)) from exc
    return Payload(inner, data)
