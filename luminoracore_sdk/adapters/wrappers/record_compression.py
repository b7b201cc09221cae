"""Compression of single payloads by an optimizer: the package's own is trusted, any other is verified."""

import json
import logging
from typing import Protocol
from zlib import crc32

import attrs

from luminoracore_sdk.adapters.codec.opt1 import MARK
from luminoracore_sdk.adapters.codec.values import JSON, JSON_WIDE, JsonCodec
from luminoracore_sdk.adapters.compression.dictionary import Dictionary
from luminoracore_sdk.adapters.compression.dictionary_registry import compressed, expanded
from luminoracore_sdk.adapters.optimizer import Optimizer as OwnOptimizer
from luminoracore_sdk.application.ports.optimizer import Optimizer
from luminoracore_sdk.application.ports.records import Payload
from luminoracore_sdk.domain.errors import CorruptRecordError, UnreadablePayloadError
from luminoracore_sdk.domain.json_value import JSONValue

__all__ = [
    "DictionaryCompression",
    "NotationCompression",
    "RecordCompression",
    "RecordWriter",
    "read_optimized",
]

logger = logging.getLogger(__name__)

_PLAIN_ENCODINGS = (JSON, JSON_WIDE)
_OWN = f"+{MARK}"
_THIRD_PARTY = "+opt0"


class RecordCompression(Protocol):
    """Makes payloads smaller.

    Attributes:
        stored_plain: Number of payloads that were left unchanged because the optimizer failed.
    """

    stored_plain: int

    def compress(self, payload: Payload, dictionary: Dictionary) -> Payload:
        """Return a smaller payload that reads back equal, or the payload itself."""
        ...

    def name(self, dictionary: Dictionary) -> str:
        """Return a name that differs for every other way to write records."""
        ...


@attrs.frozen
class RecordWriter:
    """A way to write records, with the dictionary that it uses now."""

    compression: RecordCompression
    dictionary: Dictionary

    def compress(self, payload: Payload) -> Payload:
        """Return the payload that is stored for a plain one."""
        return self.compression.compress(payload, self.dictionary)

    @property
    def name(self) -> str:
        """A name that differs for every other writer."""
        return self.compression.name(self.dictionary)


class DictionaryCompression:
    """Compress the bytes of a record with zstandard and a dictionary.

    Args:
        level: zstandard level.
    """

    def __init__(self, level: int) -> None:
        self.stored_plain = 0
        self._level = level

    def compress(self, payload: Payload, dictionary: Dictionary) -> Payload:
        """Compress plain JSON; see ``RecordCompression``."""
        return compressed(payload, dictionary, self._level) if payload.encoding in _PLAIN_ENCODINGS else payload

    def name(self, dictionary: Dictionary) -> str:
        """Return the id of the dictionary and the level."""
        return f"zstd:{dictionary.id} level {self._level}"


class NotationCompression:
    """Store the JSON value that an optimizer returns, after verifying that it expands to the original.

    Args:
        optimizer: Anything with ``compress`` and ``expand`` for JSON values. It is not trusted.
        backend: Named in errors.
    """

    def __init__(self, optimizer: Optimizer, backend: str) -> None:
        self.stored_plain = 0
        self._optimizer = optimizer
        self._backend = backend
        self._codec = JsonCodec()
        self._step = _OWN if type(optimizer) is OwnOptimizer else _THIRD_PARTY
        self._reported = False

    def compress(self, payload: Payload, dictionary: Dictionary) -> Payload:  # noqa: ARG002  # uses no dictionary
        """Compress and verify; see ``RecordCompression``."""
        if payload.encoding not in _PLAIN_ENCODINGS:
            return payload
        try:
            value = self._codec.decode(payload, backend=self._backend, key="a record")
            smaller = self._codec.encode(self._optimizer.compress(value), where="optimizer.compress()")
            restored = self._codec.decode(smaller, backend=self._backend, key="optimizer.compress()")
            if self._step == _THIRD_PARTY:
                smaller = self._codec.encode([_checksum(payload), restored])
            if self._codec.encode(self._optimizer.expand(restored)) != payload:
                self._report("it does not restore the original")
                return payload
        except Exception as exc:  # noqa: BLE001  # third-party code: whatever it raises, the record is stored
            self._report(f"it raised {type(exc).__name__}")
            return payload
        if len(smaller.data) + len(self._step) >= len(payload.data):
            return payload
        return Payload(smaller.encoding + self._step, smaller.data)

    def name(self, dictionary: Dictionary) -> str:  # noqa: ARG002  # uses no dictionary
        """Return the step of the encoding and the optimizer's class."""
        return f"{self._step} {type(self._optimizer).__name__}"

    def _report(self, reason: str) -> None:
        self.stored_plain += 1
        if not self._reported:
            self._reported = True
            logger.warning(
                "optimizer %s: %s; such records are stored uncompressed (logged once)",
                type(self._optimizer).__name__,
                reason,
            )


def read_optimized(payload: Payload, optimizer: Optimizer, *, backend: str, key: str) -> Payload:
    """Return the plain payload of one that any optimizer wrote; other payloads are returned unchanged.

    Args:
        payload: As it is stored.
        optimizer: Expands what a third-party optimizer wrote, if it is one.
        backend: Named in errors.
        key: Named in errors.

    Raises:
        UnreadablePayloadError: It needs a third-party optimizer, the same one with other settings, or a
            dictionary that is missing.
        CorruptRecordError: The optimizer cannot expand it.
    """
    payload = expanded(payload, backend=backend, key=key)
    if payload.encoding in _PLAIN_ENCODINGS:
        return payload
    plain_encoding, plus, name = payload.encoding.rpartition("+")
    step = plus + name
    if plain_encoding not in _PLAIN_ENCODINGS or step not in (_OWN, _THIRD_PARTY):
        return payload
    inner = Payload(plain_encoding, payload.data)
    if step == _OWN:
        value = JsonCodec().decode(inner, backend=backend, key=key)
        return _expanded(value, OwnOptimizer(), backend=backend, key=key)
    if type(optimizer) is OwnOptimizer:
        reason = "it was written through another optimizer"
        raise UnreadablePayloadError(backend=backend, key=key, reason=reason)
    return _read_third_party(inner, optimizer, backend=backend, key=key)


def _read_third_party(payload: Payload, optimizer: Optimizer, *, backend: str, key: str) -> Payload:
    stored = JsonCodec().decode(payload, backend=backend, key=key)
    if not isinstance(stored, list) or len(stored) != 2 or not isinstance(stored[0], str):
        raise CorruptRecordError(backend=backend, key=key, reason=f"not valid {payload.encoding}{_THIRD_PARTY}")
    plain = _expanded(stored[1], optimizer, backend=backend, key=key)
    if _checksum(plain) != stored[0]:
        reason = "it was written by another optimizer, or by this one with other settings"
        raise UnreadablePayloadError(backend=backend, key=key, reason=reason)
    return plain


def _expanded(value: JSONValue, optimizer: Optimizer, *, backend: str, key: str) -> Payload:
    try:
        return JsonCodec().encode(optimizer.expand(value))
    except Exception as exc:
        raise CorruptRecordError(backend=backend, key=key, reason="the optimizer cannot expand it") from exc


def _checksum(plain: Payload) -> str:
    """Return a checksum that shows whether an optimizer with the right settings read a payload.

    It is part of the payload and not of the encoding: encodings are not encrypted, and a checksum gives short
    texts away. It is computed over the standard library's JSON, which no new version of the encoder changes.
    """
    value = JsonCodec().decode(plain, backend="", key="")
    return f"{crc32(json.dumps(value, separators=(',', ':')).encode()):08x}"
