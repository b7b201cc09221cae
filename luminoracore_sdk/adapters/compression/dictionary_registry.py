"""The dictionaries that this process can read with, and the step that payload tags have for them.

A dictionary that was trained on a store lies in the store itself and is loaded from there when a record
first needs it. What is known is shared by every storage of the process: an id belongs to the bytes.
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

__all__ = ["compressed", "expanded", "find_known", "needed_dictionary", "remember"]

_STEP = "+zstd:"
_trained: dict[str, Dictionary] = {}


def remember(dictionary: Dictionary) -> None:
    """Make a dictionary known to this process."""
    _trained[dictionary.id] = dictionary


def find_known(dictionary_id: str) -> Dictionary | None:
    """Return a dictionary that records can be read with now."""
    return packaged_dictionaries().get(dictionary_id) or _trained.get(dictionary_id)


def needed_dictionary(tag: str) -> str | None:
    """Return the id of the dictionary that the last step of a tag needs; None: it needs none."""
    return _steps(tag)[1]


@lru_cache(maxsize=256)  # a store has few different tags
def _steps(tag: str) -> tuple[str, str | None]:
    """Return what a tag was before its last step, and the dictionary of that step if it is ours."""
    inner, step, dictionary_id = tag.rpartition(_STEP)
    return (inner, dictionary_id) if step and "+" not in dictionary_id else (tag, None)


def compressed(payload: Payload, dictionary: Dictionary, level: int) -> Payload:
    """Return a payload made smaller; the payload itself where that would not make it smaller."""
    if len(payload.data) > MAX_CONTENT_BYTES:  # could be written, and never read again
        return payload
    step = _STEP + dictionary.id
    frame = dictionary.compress(payload.data, level)
    if len(frame) + len(step) >= len(payload.data):
        return payload
    return Payload(payload.encoding + step, frame)


def expanded(payload: Payload, *, backend: str, key: str) -> Payload:
    """Return what a payload was before it was compressed; one that was not, as it is.

    Raises:
        UnreadablePayloadError: Its dictionary is not in this store.
        CorruptRecordError: The bytes are damaged.
    """
    inner_tag, dictionary_id = _steps(payload.encoding)
    if dictionary_id is None:
        return payload
    dictionary = find_known(dictionary_id)
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
    return Payload(inner_tag, data)
