"""What an optimizer makes of one payload: the package's own is trusted, every other one is checked."""

import logging
from typing import Protocol

import attrs

from luminoracore_sdk.adapters.codec.values import JSON, JSON_WIDE, JsonCodec
from luminoracore_sdk.adapters.compression.dictionary import Dictionary
from luminoracore_sdk.adapters.compression.known import compressed, expanded
from luminoracore_sdk.adapters.optimizer.notation import MARK
from luminoracore_sdk.adapters.optimizer.optimizer import Optimizer as OwnOptimizer
from luminoracore_sdk.application.ports.optimizer import Optimizer
from luminoracore_sdk.application.ports.records import Payload
from luminoracore_sdk.domain.errors import CorruptRecordError, UnreadablePayloadError

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
        return compressed(payload, dictionary, self._level) if payload.tag in _PLAIN_TAGS else payload

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
        if payload.tag not in _PLAIN_TAGS:
            return payload
        try:
            value = self._codec.decode(payload, backend=self._backend, key="a record")
            checksum = None if self._suffix == _OWN else _checksum(value)
            smaller = self._codec.encode(self._optimizer.compress(value), where="optimizer.compress()")
            restored = self._codec.decode(smaller, backend=self._backend, key="optimizer.compress()")
            if checksum is not None:
                smaller = self._codec.encode([checksum, restored])
            if self._codec.encode(self._optimizer.expand(restored)) != payload:
                self._report("it does not restore what it was given")
                return payload
        except Exception as exc:  # noqa: BLE001  # not trusted: whatever it raises, the record is kept
            self._report(f"it raised {type(exc).__name__}")
            return payload
        if len(smaller.data) + len(self._suffix) >= len(payload.data):
            return payload
        return Payload(smaller.tag + self._suffix, smaller.data)

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
        UnreadablePayloadError: It needs a foreign optimizer that is not there, or a dictionary that is not.
        CorruptRecordError: The optimizer cannot expand it.
    """
    payload = expanded(payload, backend=backend, key=key)
    if payload.tag in _PLAIN_TAGS:
        return payload
    plain_tag, plus, step = payload.tag.rpartition("+")
    if plain_tag not in _PLAIN_TAGS or plus + step not in (_OWN, _FOREIGN):
        return payload
    if plus + step == _OWN:
        return _read_own(Payload(plain_tag, payload.data), backend=backend, key=key)
    if type(optimizer) is OwnOptimizer:
        reason = "it was written through another optimizer"
        raise UnreadablePayloadError(backend=backend, key=key, reason=reason)
