"""What an optimizer makes of one payload: the package's own is trusted, every other one is checked."""

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

_PLAIN_TAGS = (JSON, JSON_WIDE)
_OWN = f"+{MARK}"
_FOREIGN = "+opt0"


class RecordCompression(Protocol):
    """Makes payloads smaller.

    Attributes:
        stored_plain: How many were left as they were because the optimizer failed.
    """

    stored_plain: int

    def small(self, payload: Payload, dictionary: Dictionary) -> Payload:
        """Return a smaller payload that is read back the same, or the payload itself."""
        ...

    def name(self, dictionary: Dictionary) -> str:
        """Return what tells this way to write records from every other one."""
        ...


@attrs.frozen
class RecordWriter:
    """A way to write records, with the dictionary that it uses now."""

    compression: RecordCompression
    dictionary: Dictionary

    def small(self, payload: Payload) -> Payload:
        """Return the payload that is stored for a plain one."""
        return self.compression.small(payload, self.dictionary)

    @property
    def name(self) -> str:
        """What tells this writer from others."""
        return self.compression.name(self.dictionary)


class DictionaryCompression:
    """Compresses the bytes of a record with zstandard and a dictionary.

    Args:
        level: Of zstandard.
    """

    def __init__(self, level: int) -> None:
        self.stored_plain = 0
        self._level = level

    def small(self, payload: Payload, dictionary: Dictionary) -> Payload:
        """Compress what is plain JSON; see ``RecordCompression``."""
        return compressed(payload, dictionary, self._level) if payload.encoding in _PLAIN_TAGS else payload

    def name(self, dictionary: Dictionary) -> str:
        """Return the id of the dictionary and the level."""
        return f"zstd:{dictionary.id} level {self._level}"


class NotationCompression:
    """Writes the JSON value that an optimizer makes, after seeing that it comes back the same.

    Args:
        optimizer: Anything with ``compress`` and ``expand`` over JSON values. It is not trusted.
        backend: Named in errors.
    """

    def __init__(self, optimizer: Optimizer, backend: str) -> None:
        self.stored_plain = 0
        self._optimizer = optimizer
        self._backend = backend
        self._codec = JsonCodec()
        self._suffix = _OWN if type(optimizer) is OwnOptimizer else _FOREIGN
        self._reported = False

    def small(self, payload: Payload, dictionary: Dictionary) -> Payload:  # noqa: ARG002  # it has no use for one
        """Compress and check; see ``RecordCompression``."""
        if payload.encoding not in _PLAIN_TAGS:
            return payload
        try:
            value = self._codec.decode(payload, backend=self._backend, key="a record")
            smaller = self._codec.encode(self._optimizer.compress(value), where="optimizer.compress()")
            restored = self._codec.decode(smaller, backend=self._backend, key="optimizer.compress()")
            if self._suffix == _FOREIGN:
                smaller = self._codec.encode([_checksum(payload), restored])
            if self._codec.encode(self._optimizer.expand(restored)) != payload:
                self._report("it does not restore what it was given")
                return payload
        except Exception as exc:  # noqa: BLE001  # not trusted: whatever it raises, the record is kept
            self._report(f"it raised {type(exc).__name__}")
            return payload
        if len(smaller.data) + len(self._suffix) >= len(payload.data):
            return payload
        return Payload(smaller.encoding + self._suffix, smaller.data)

    def name(self, dictionary: Dictionary) -> str:  # noqa: ARG002  # it has no use for one
        """Return the mark and the optimizer's class."""
        return f"{self._suffix} {type(self._optimizer).__name__}"

    def _report(self, reason: str) -> None:
        self.stored_plain += 1
        if not self._reported:
            self._reported = True
            logger.warning(
                "optimizer %s: %s; such records are stored as they are (said once)",
                type(self._optimizer).__name__,
                reason,
            )


def read_optimized(payload: Payload, optimizer: Optimizer, *, backend: str, key: str) -> Payload:
    """Return the plain payload of one that any optimizer wrote; one that none wrote, as it is.

    Args:
        payload: As it is stored.
        optimizer: Reads what a foreign optimizer wrote, if it is one.
        backend: Named in errors.
        key: Named in errors.

    Raises:
        UnreadablePayloadError: It needs a foreign optimizer that is not there, or one with other settings,
            or a dictionary that is not there.
        CorruptRecordError: The optimizer cannot expand it.
    """
    payload = expanded(payload, backend=backend, key=key)
    if payload.encoding in _PLAIN_TAGS:
        return payload
    plain_tag, plus, step = payload.encoding.rpartition("+")
    if plain_tag not in _PLAIN_TAGS or plus + step not in (_OWN, _FOREIGN):
        return payload
    inner = Payload(plain_tag, payload.data)
    if plus + step == _OWN:
        value = JsonCodec().decode(inner, backend=backend, key=key)
        return _expanded(value, OwnOptimizer(), backend=backend, key=key)
    if type(optimizer) is OwnOptimizer:
        reason = "it was written through another optimizer"
        raise UnreadablePayloadError(backend=backend, key=key, reason=reason)
    return _read_foreign(inner, optimizer, backend=backend, key=key)


def _read_foreign(payload: Payload, optimizer: Optimizer, *, backend: str, key: str) -> Payload:
    stored = JsonCodec().decode(payload, backend=backend, key=key)
    if not isinstance(stored, list) or len(stored) != 2 or not isinstance(stored[0], str):
        raise CorruptRecordError(backend=backend, key=key, reason=f"not valid {payload.encoding}{_FOREIGN}")
    plain = _expanded(stored[1], optimizer, backend=backend, key=key)
    if _checksum(plain) != stored[0]:
        reason = "it was written by this optimizer with other settings, or another one"
        raise UnreadablePayloadError(backend=backend, key=key, reason=reason)
    return plain


def _expanded(small: JSONValue, optimizer: Optimizer, *, backend: str, key: str) -> Payload:
    try:
        return JsonCodec().encode(optimizer.expand(small))
    except Exception as exc:
        raise CorruptRecordError(backend=backend, key=key, reason="the optimizer cannot expand it") from exc


def _checksum(plain: Payload) -> str:
    """Return what tells a plain payload from the one that an optimizer with other settings reads.

    It lies in the payload, not in the tag: tags are not encrypted, and a checksum gives a short text away.
    It is of the JSON that the standard library writes, which no new version of the encoder changes.
    """
    value = JsonCodec().decode(plain, backend="", key="")
    return f"{crc32(json.dumps(value, separators=(',', ':')).encode()):08x}"
