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


@attrs.frozen(kw_only=True)
class Batch:
    """One line of a log: messages that were appended together, their payloads still unparsed.

    Attributes:
        first: Position of the first one.
        at_us: When they were appended; never before the line above it.
        ids: Of each message, in order.
        fields: Of each message: role, created_at_us, tag, size of its part of the body.
        body: ``[payload,payload,…]``.
    """

    first: int
    at_us: int
    ids: Sequence[str]
    fields: Sequence[Mapping[str, Any]]
    body: bytes

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
        start = 1
        try:
            for position, fields in enumerate(self.fields, start=self.first):
                end = start + fields["size"]
                found.append(
                    MessageRecord(
                        message_id=fields["id"],
                        role=fields["role"],
                        created_at_us=fields["created_at_us"],
                        payload=_payload(fields, self.body[start:end]),
                        position=position,
                    )
                )
                start = end + 1
        except _ODD as exc:
            raise DamagedError("a field is missing, or not of its kind") from exc
        if start != len(self.body):
            raise DamagedError("its payloads are not as long as it says")
        return found


# -- lines ---------------------------------------------------------------------------------------


def encode_batch(first: int, at_us: int, messages: Sequence[MessageRecord]) -> bytes:
    """Return the log line of messages that are appended together."""
    bodies = [_body(message.payload) for message in messages]
    fields = [
        {
            "id": message.message_id,
            "role": message.role,
            "created_at_us": message.created_at_us,
            "size": len(body),
            **_make(message.payload),
        }
        for message, body in zip(messages, bodies, strict=True)
    ]
    return _seal({"first": first, "at_us": at_us, "messages": fields}, b"[" + b",".join(bodies) + b"]")


def decode_batch(line: bytes) -> Batch:
    """Read a log line.

    Raises:
        DamagedError: It is not what was written.
    """
    fields, body = _unseal(line)
    try:
        messages = fields["messages"]
        ids = [message["id"] for message in messages]
        batch = Batch(first=fields["first"], at_us=fields["at_us"], ids=ids, fields=messages, body=body)
    except _ODD as exc:
        raise DamagedError("a field is missing, or not of its kind") from exc
    if not batch.fields:
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
    return _seal(fields | _make(payload), _body(payload))


def decode_session(line: bytes) -> SessionRecord:
    """Read a header file.

    Raises:
        DamagedError: It is not what was written.
    """
    fields, body = _unseal(line)
    try:
        return SessionRecord(
            session_id=fields["id"],
            user_id=fields["user_id"],
            tags=tuple(fields["tags"]),
            ttl_us=fields["ttl_us"],
            created_at_us=fields["created_at_us"],
            updated_at_us=fields["updated_at_us"],
            version=fields["version"],
            payload=_payload(fields, body),
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
    return _seal(fields | _make(record.payload), _body(record.payload))


def decode_memory(line: bytes) -> MemoryRecord:
    """Read the file of a memory.

    Raises:
        DamagedError: It is not what was written.
    """
    fields, body = _unseal(line)
    try:
        return MemoryRecord(
            scope=MemoryScope(fields["scope"], fields["owner_id"]),
            key=fields["key"],
            expires_at_us=fields["expires_at_us"],
            retention=float(fields["retention"]),
            created_at_us=fields["created_at_us"],
            updated_at_us=fields["updated_at_us"],
            payload=_payload(fields, body),
        )
    except _ODD as exc:
        raise DamagedError("a field is missing, or not of its kind") from exc


# -- seal ----------------------------------------------------------------------------------------


def is_sealed(line: bytes | memoryview) -> bool:
    """Tell whether a line, given without its newline, is whole and unchanged."""
    head = _HEAD.match(line)
    return head is not None and head[1] == b"%08x" % crc32(memoryview(line)[_SEALED_FROM:])


def _seal(fields: Mapping[str, object], body: bytes) -> bytes:
    sealed = b"".join((b'"size":%d,' % len(body), orjson.dumps(fields)[1:-1], b',"body":', body, b"}"))
    return b"".join((b'{"crc":"%08x",' % crc32(sealed), sealed, b"\n"))


def _unseal(line: bytes) -> tuple[dict[str, Any], bytes]:
    if not line.endswith(b"\n"):
        raise DamagedError("it does not end where it should")
    head = _HEAD.match(line)
    if head is None:
        raise DamagedError("it does not begin as a record does")
    if not is_sealed(memoryview(line)[:-1]):
        raise DamagedError("its checksum is wrong")
    body_start = len(line) - len(b"}\n") - int(head[2])
    try:
        fields: dict[str, Any] = orjson.loads(line[: max(0, body_start)] + b"null}")
    except orjson.JSONDecodeError as exc:
        raise DamagedError("it is not JSON") from exc
    return fields, line[body_start:-2]


def _make(payload: Payload) -> dict[str, object]:
    if _is_line(payload):
        return {"tag": payload.tag}
    return {"tag": payload.tag, "as": "base64"}


def _is_line(payload: Payload) -> bool:
    return payload.is_text and b"\n" not in payload.data


def _body(payload: Payload) -> bytes:
    return payload.data if _is_line(payload) else b'"' + b64encode(payload.data) + b'"'


def _payload(fields: Mapping[str, Any], body: bytes) -> Payload:
    return Payload(fields["tag"], b64decode(body[1:-1]) if fields.get("as") == "base64" else body)
