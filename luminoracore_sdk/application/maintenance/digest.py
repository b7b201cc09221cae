"""What of a session must be equal in every store, as lines that can be compared and digested.

A line is a JSON array in ASCII. It holds the decoded content of one record, so that it does not depend on the
backend, nor on whether a record was compressed; the types of numbers and the order of keys count. What
a store gives itself (version, last activity) is not in it, nor what has expired.
"""

import hashlib
import json
import math
from collections.abc import Iterable
from typing import TypeVar

import attrs

from luminoracore_sdk.application.ports.codec import ValueCodec
from luminoracore_sdk.application.ports.records import (
    MemoryRecord,
    MessageRecord,
    Payload,
    SessionRecord,
)
from luminoracore_sdk.domain.errors import CorruptRecordError
from luminoracore_sdk.domain.json_value import JSONObject, JSONValue

__all__ = ["Digest", "RecordLines", "line"]

AnyRecord = TypeVar("AnyRecord", SessionRecord, MessageRecord, MemoryRecord)


class RecordLines:
    """Makes the lines of records that one store returned.

    Args:
        values: Decodes payloads.
        backend: The store's name, for errors.

    Every method raises ``CorruptRecordError`` for a payload that cannot be decoded.
    """

    def __init__(self, values: ValueCodec, *, backend: str) -> None:
        self._values = values
        self._backend = backend

    def header(self, record: SessionRecord) -> JSONObject:
        """Return the fields of a header that must be equal, by what a person calls them."""
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
        """Return the line of a message, which has a position."""
        value = self._value(record.payload, f"message {record.position} of session {session_id!a}")
        return line("message", record.position, record.message_id, record.role, record.created_at_us, value)

    def memory(self, record: MemoryRecord) -> bytes:
        """Return the line of a memory."""
        scope = record.scope
        value = self._value(record.payload, f"memory {record.key!a} of {scope.kind} {scope.owner_id!a}")
        retention = record.retention + 0.0  # a float, and no minus zero, which not every store tells from 0
        rank = retention if math.isfinite(retention) else str(retention)  # JSON has no infinity
        return line("memory", record.key, record.expires_at_us, rank, record.created_at_us, value)

    def plain(self, record: AnyRecord) -> AnyRecord:
        """Return a record as every store can read it: one of this store may need a dictionary of its own."""
        payload = record.payload
        if payload is None or "+" not in payload.encoding:
            return record
        return attrs.evolve(record, payload=self._values.encode(self._value(payload, "a record")))

    def _value(self, payload: Payload, key: str) -> JSONValue:
        return self._values.decode(payload, backend=self._backend, key=key)


class Digest:
    """SHA-256 over lines, each with a newline behind it.

    Those of a session: ``["session", id, user, tags, ttl, time of creation, document]``, its messages, its
    memories by time of creation and key. Those of a user: ``["user", id]`` and the memories.
    """

    def __init__(self, *head: JSONValue) -> None:
        self._hash = hashlib.sha256(line(*head))

    def add(self, lines: Iterable[bytes]) -> None:
        """Go on with further lines."""
        for one in lines:
            self._hash.update(one)

    def with_lines(self, lines: Iterable[bytes]) -> str:
        """Return the digest, in hexadecimal, as it is with further lines; this one stays as it is."""
        end = self._hash.copy()
        for one in lines:
            end.update(one)
        return end.hexdigest()


def line(*values: JSONValue) -> bytes:
    """Return values as one line."""
    return json.dumps(values, allow_nan=False, separators=(",", ":")).encode("ascii") + b"\n"
