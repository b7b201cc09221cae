"""How a record lies in a file: one line of JSON that knows when it is damaged.

    {"crc":"9a3f00c1","size":57,<fields>,"body":<57 bytes>}

``crc`` is the CRC-32 of all that follows it up to the newline, ``size`` the length of the body in bytes.
The body comes last and is copied in and out unparsed, so a payload returns byte for byte, and yet a
payload of JSON text is JSON to every other program: ``jq .body`` reads it. A payload that is not text
is base64 in quotes.
"""

import re
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any
from zlib import crc32

import attrs
import orjson

from luminoracore_sdk.application.ports.records import (
    MemoryRecord,
    MemoryScope,
    MessageRecord,
    Payload,
    SessionRecord,
)
from luminoracore_sdk.domain.errors import ValidationError

__all__ = [
    "Batch",
    "DamagedError",
    "decode_batch",
    "decode_memory",
    "decode_session",
    "decode_text",
    "encode_batch",
    "encode_memory",
    "encode_session",
    "is_sealed",
]

_HEAD = re.compile(rb'\{"crc":"([0-9a-f]{8})","size":([0-9]{1,12}),')
_SEALED_FROM = len(b'{"crc":"9a3f00c1",')


_ODD = (KeyError, TypeError, ValueError)
"""What reading fields raises that are not as they are written here, although their checksum is right."""


class DamagedError(ValueError):
    """The bytes are not what was written; says in which way, not in which file."""


@attrs.define(eq=False)  # not frozen: 0.3 µs to make one and not 0.9 µs, for each line that is read
class Batch:
    """One line of a log: messages that were appended together, their payloads still unparsed.

    Attributes:
        first: Position of the first one.
        at_us: When they were appended; never before the line above it.
        ids: Of each message, in order.
        fields: Of each message: role, created_at_us, tag, size of its part of the body.
        line: The line, without its newline.
        body_start: Where in it ``[payload,payload,…]`` begins.
    """

    first: int
    at_us: int
    ids: Sequence[str]
    fields: Sequence[Mapping[str, Any]]
    line: bytes
    body_start: int

    @property
    def last(self) -> int:
        """Position of the last one."""
        return self.first + len(self.fields) - 1

    def messages(self) -> list[MessageRecord]:
        """Return the messages, in order.

        Raises:
            DamagedError: They are not as the line says.
        """
        found: list[MessageRecord] = []
        line, start, position = self.line, self.body_start + 1, self.first
        try:
            for fields in self.fields:
                end = start + fields["size"]
                found.append(
                    MessageRecord(
                        message_id=fields["id"],
                        role=fields["role"],
                        created_at_us=fields["created_at_us"],
                        payload=_payload(fields, line[start:end]),
                        position=position,
                    )
                )
                start, position = end + 1, position + 1
        except _ODD as exc:
            raise DamagedError("a field is missing, or not of its kind") from exc
        if start != len(line) - 1:  # the brace that closes the record
            raise DamagedError("its payloads are not as long as it says")
        return found


# -- lines ---------------------------------------------------------------------------------------


def encode_batch(first: int, at_us: int, messages: Sequence[MessageRecord]) -> bytes:
    """Return the log line of messages that are appended together."""
    bodies: list[bytes] = []
    fields: list[dict[str, object]] = []
    for message in messages:
        make, body = _written(message.payload)
        bodies.append(body)
        fields.append(
            {
                "id": message.message_id,
                "role": message.role,
                "created_at_us": message.created_at_us,
                "size": len(body),
                **make,
            }
        )
    return _seal({"first": first, "at_us": at_us, "messages": fields}, b"[%b]" % b",".join(bodies))


def decode_batch(line: bytes) -> Batch:
    """Read a log line, given with its newline; see ``decode_text``."""
    return decode_text(_cut(line))


def decode_text(text: bytes) -> Batch:
    """Read a log line, given without its newline.

    Raises:
        DamagedError: It is not what was written.
    """
    fields, body_start = _unseal(text)
    try:
        messages = fields["messages"]
        ids = [message["id"] for message in messages]
        batch = Batch(fields["first"], fields["at_us"], ids, messages, text, body_start)
    except _ODD as exc:
        raise DamagedError("a field is missing, or not of its kind") from exc
    if not ids:
        raise DamagedError("it holds no message")
    return batch


def encode_session(record: SessionRecord) -> bytes:
    """Return the header file of a session; ``last_position`` is the log's to know."""
    payload = record.payload
    if payload is None:
        raise ValidationError("a session is stored with a payload")
    fields: dict[str, object] = {
        "id": record.session_id,
        "user_id": record.user_id,
        "tags": record.tags,
        "ttl_us": record.ttl_us,
        "created_at_us": record.created_at_us,
        "updated_at_us": record.updated_at_us,
        "version": record.version,
    }
    make, body = _written(payload)
    return _seal(fields | make, body)


def decode_session(line: bytes) -> SessionRecord:
    """Read a header file.

    Raises:
        DamagedError: It is not what was written.
    """
    text = _cut(line)
    fields, body_start = _unseal(text)
    try:
        return SessionRecord(
            session_id=fields["id"],
            user_id=fields["user_id"],
            tags=tuple(fields["tags"]),
            ttl_us=fields["ttl_us"],
            created_at_us=fields["created_at_us"],
            updated_at_us=fields["updated_at_us"],
            version=fields["version"],
            payload=_payload(fields, text[body_start:-1]),
        )
    except _ODD as exc:
        raise DamagedError("a field is missing, or not of its kind") from exc


def encode_memory(record: MemoryRecord) -> bytes:
    """Return the file of a memory."""
    fields: dict[str, object] = {
        "scope": record.scope.kind,
        "owner_id": record.scope.owner_id,
        "key": record.key,
        "expires_at_us": record.expires_at_us,
        "retention": repr(record.retention),  # as text, for JSON has no infinity
        "created_at_us": record.created_at_us,
        "updated_at_us": record.updated_at_us,
    }
    make, body = _written(record.payload)
    return _seal(fields | make, body)


def decode_memory(line: bytes) -> MemoryRecord:
    """Read the file of a memory.

    Raises:
        DamagedError: It is not what was written.
    """
    text = _cut(line)
    fields, body_start = _unseal(text)
    try:
        return MemoryRecord(
            scope=MemoryScope(fields["scope"], fields["owner_id"]),
            key=fields["key"],
            expires_at_us=fields["expires_at_us"],
            retention=float(fields["retention"]),
            created_at_us=fields["created_at_us"],
            updated_at_us=fields["updated_at_us"],
            payload=_payload(fields, text[body_start:-1]),
        )
    except _ODD as exc:
        raise DamagedError("a field is missing, or not of its kind") from exc


# -- seal ----------------------------------------------------------------------------------------


def is_sealed(text: bytes) -> bool:
    """Tell whether a line, given without its newline, is whole and unchanged."""
    head = _HEAD.match(text)
    return head is not None and _sum(text) == int(head[1], 16)


def _sum(text: bytes) -> int:
    return crc32(memoryview(text)[_SEALED_FROM:])


def _seal(fields: Mapping[str, object], body: bytes) -> bytes:
    sealed = b'"size":%d,%b,"body":%b}' % (len(body), orjson.dumps(fields)[1:-1], body)
    return b'{"crc":"%08x",%b\n' % (crc32(sealed), sealed)


def _cut(line: bytes) -> bytes:
    """Return a line without its newline."""
    if not line.endswith(b"\n"):
        raise DamagedError("it does not end where it should")
    return line[:-1]


def _unseal(text: bytes) -> tuple[dict[str, Any], int]:
    """Return the fields of a record, and where its body begins, which reaches to the last byte but one."""
    head = _HEAD.match(text)
    if head is None:
        raise DamagedError("it does not begin as a record does")
    checksum, size = head.groups()
    if _sum(text) != int(checksum, 16):
        raise DamagedError("its checksum is wrong")
    body_start = len(text) - 1 - int(size)
    try:
        fields: dict[str, Any] = orjson.loads(text[: max(0, body_start)] + b"null}")
    except orjson.JSONDecodeError as exc:
        raise DamagedError("it is not JSON") from exc
    return fields, body_start


def _written(payload: Payload) -> tuple[dict[str, object], bytes]:
    """Return the fields that say how a payload lies there, and the payload as it does."""
    data = payload.data
    if _is_text(payload.encoding) and b"\n" not in data:
        return {"tag": payload.encoding}, data
    return {"tag": payload.encoding, "as": "base64"}, b'"%b"' % b64encode(data)


@lru_cache(maxsize=256)
def _is_text(tag: str) -> bool:
    return Payload(tag, b"").is_text


def _payload(fields: Mapping[str, Any], body: bytes) -> Payload:
    return Payload(fields["tag"], b64decode(body[1:-1]) if fields.get("as") == "base64" else body)
