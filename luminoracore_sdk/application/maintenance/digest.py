"""Lines that represent the content of records independently of the store, and digests over them.

A line is a JSON array in ASCII with the decoded content of one record. It does not depend on the backend or
on compression; the types of numbers and the order of keys count. It does not contain what a store assigns
(version, last activity), and expired records have no line.
"""

import hashlib
import json
import math
from collections.abc import Iterable
from typing import TypeVar

import attrs

from luminoracore_sdk.application.ports.codec import ValueCodec
from luminoracore_sdk.application.ports.records import MemoryRecord, MessageRecord, Payload, SessionRecord
from luminoracore_sdk.domain.errors import CorruptRecordError
from luminoracore_sdk.domain.json_value import JSONObject, JSONValue

__all__ = ["Digest", "RecordLines", "line"]

AnyRecord = TypeVar("AnyRecord", SessionRecord, MessageRecord, MemoryRecord)


class RecordLines:
    """Converts the records of one store to lines.

    Args:
        values: Decodes payloads.
        backend: The name of the store's backend, for errors.

    Every method raises ``CorruptRecordError`` for a payload that cannot be decoded.
    """

    def __init__(self, values: ValueCodec, *, backend: str) -> None:
        self._values = values
        self._backend = backend

    def header(self, record: SessionRecord) -> JSONObject:
        """Return the fields of a header that must be equal in every store, under readable names."""
        key = f"session {record.session_id!a}"
        if record.payload is None:
            raise CorruptRecordError(backend=self._backend, key=key, reason="it has no payload")
        return {
            "id": record.session_id,
            "user": record.user_id,
            "tags": list(record.tags),
            "ttl": record.ttl_us,
            "time of creation": record.created_at_us,
            "document": self._value(record.payload, key),
        }

    def message(self, session_id: str, record: MessageRecord) -> bytes:
        """Return the line of a stored message."""
        value = self._value(record.payload, f"message {record.position} of session {session_id!a}")
        return line("message", record.position, record.message_id, record.role, record.created_at_us, value)

    def memory(self, record: MemoryRecord) -> bytes:
        """Return the line of a memory."""
        scope = record.scope
        value = self._value(record.payload, f"memory {record.key!a} of {scope.kind} {scope.owner_id!a}")
        retention = record.retention + 0.0  # as a float, without -0.0, which not every store distinguishes from 0.0
        rank = retention if math.isfinite(retention) else str(retention)  # JSON has no infinity
        return line("memory", record.key, record.expires_at_us, rank, record.created_at_us, value)

    def plain(self, record: AnyRecord) -> AnyRecord:
        """Return a record that every store can read: a compressed one may need a dictionary of its own store."""
        payload = record.payload
        if payload is None or "+" not in payload.encoding:
            return record
        return attrs.evolve(record, payload=self._values.encode(self._value(payload, "a record")))

    def _value(self, payload: Payload, key: str) -> JSONValue:
        return self._values.decode(payload, backend=self._backend, key=key)


class Digest:
    """A SHA-256 digest over lines, each of which ends with a newline.

    The lines of a session are ``["session", id, user, tags, ttl, time of creation, document]``, its messages,
    and its memories by time of creation and key. Those of a user are ``["user", id]`` and the memories.

    Args:
        *head: The values of the first line.
    """

    def __init__(self, *head: JSONValue) -> None:
        self._hash = hashlib.sha256(line(*head))

    def add(self, lines: Iterable[bytes]) -> None:
        """Add lines."""
        for one in lines:
            self._hash.update(one)

    def with_lines(self, lines: Iterable[bytes]) -> str:
        """Return the digest in hexadecimal as if the lines were added; the digest itself does not change."""
        end = self._hash.copy()
        for one in lines:
            end.update(one)
        return end.hexdigest()


def line(*values: JSONValue) -> bytes:
    """Return values as one line."""
    return json.dumps(values, allow_nan=False, separators=(",", ":")).encode("ascii") + b"\n"
