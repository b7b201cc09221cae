"""The encoding of a record in a file: one line of JSON with a checksum.

    {"crc":"9a3f00c1",<fields>,"body":<payload>}

``crc`` is the CRC-32 of everything after it up to the newline. The body comes last and is copied in and out
unparsed, so that a payload is returned byte for byte. A payload of JSON text is still JSON to every other program:
``jq .body`` reads it. A payload that is not text is base64 in quotes. The card of a session, and the briefs and
indexes of messages, are among the fields, as strings.
"""

from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any
from zlib import crc32

import attrs
import orjson

from luminoracore_sdk.adapters.storage.json_file.summary import Base, Tally
from luminoracore_sdk.application.ports.records import (
    Brief,
    HistoryChange,
    IndexRecord,
    Lease,
    MemoryRecord,
    MemoryScope,
    MessageRecord,
    Payload,
    SessionRecord,
    SessionSummary,
    stored_record,
)
from luminoracore_sdk.domain.errors import ValidationError

__all__ = [
    "Batch",
    "DamagedError",
    "decode_base",
    "decode_batch",
    "decode_memory",
    "decode_memory_change",
    "decode_session",
    "encode_base",
    "encode_batch",
    "encode_memory",
    "encode_memory_change",
    "encode_session",
    "is_base",
    "is_sealed",
]

_SEALED_FROM = len(b'{"crc":"9a3f00c1",')
_BASE = b'"base":'  # how the fields of a base begin
_BODY = b',"body":'  # with these quotes, it is nowhere in a string of the fields

_MALFORMED = (AttributeError, KeyError, TypeError, ValueError)
"""What reading the fields of a record raises if its checksum is right and it was not written by this package."""

_NO_BRIEFS: Mapping[int, Payload] = {}


class DamagedError(ValueError):
    """The bytes are not what was written; the message says in which way, not in which file."""


# -- records -------------------------------------------------------------------------------------


@attrs.define(eq=False)
class Batch:
    """A line of the log: messages that were appended together.

    Attributes:
        at_us: When they were appended, or those behind them removed, in microseconds.
        messages: The messages, in order.
    """

    at_us: int
    messages: list[MessageRecord]
    _fields: dict[str, Any]

    @property
    def first(self) -> int:
        """The position of the first message."""
        return self.messages[0].position

    @property
    def last(self) -> int:
        """The position of the last message."""
        return self.messages[-1].position

    @property
    def indexes(self) -> list[IndexRecord]:
        """The indexes of the messages.

        Raises:
            DamagedError: One is not what was written.
        """
        try:
            found = [fields.get("index") for fields in self._fields["messages"]]
            return [
                IndexRecord(
                    position=message.position,
                    message_id=message.message_id,
                    role=message.role,
                    created_at_us=message.created_at_us,
                    index=None if index is None else _decode_short(index),
                )
                for message, index in zip(self.messages, found, strict=True)
            ]
        except _MALFORMED as exc:
            raise DamagedError("the index of a message is malformed") from exc

    @property
    def tally(self) -> Tally:
        """The summary as of this line.

        Raises:
            DamagedError: It is not what was written.
        """
        try:
            fields = self._fields["summary"]
            return Tally(fields["counters"], fields["first"], fields["last"])
        except _MALFORMED as exc:
            raise DamagedError("it has no summary") from exc

    def brief(self, position: int) -> Brief:
        """Return the brief of a message.

        Raises:
            DamagedError: The line does not have it.
        """
        try:
            return Brief(position, _decode_short(self._fields["briefs"][str(position)]))
        except _MALFORMED as exc:
            raise DamagedError(f"it has no brief of message {position}") from exc


def encode_batch(
    first: int,
    at_us: int,
    messages: Sequence[MessageRecord],
    tally: Tally,
    briefs: Mapping[int, Payload] = _NO_BRIEFS,
) -> bytes:
    """Return the log line of messages that are appended together.

    Args:
        first: The position of the first.
        at_us: When they are appended, in microseconds.
        messages: The messages.
        tally: The summary as of this line.
        briefs: Those that the line has, by the position of their message.
    """
    bodies: list[bytes] = []
    fields: list[dict[str, object]] = []
    for message in messages:
        encoding, body = _encode_body(message.payload)
        bodies.append(body)
        fields.append(
            {
                "id": message.message_id,
                "role": message.role,
                "created_at_us": message.created_at_us,
                "size": len(body),
                **encoding,
            }
        )
        if message.index is not None:
            fields[-1]["index"] = _encode_short(message.index)
    line: dict[str, object] = {
        "first": first,
        "at_us": at_us,
        "messages": fields,
        "summary": {"counters": dict(tally.counters), "first": tally.first, "last": tally.last},
    }
    if briefs:
        line["briefs"] = {str(position): _encode_short(payload) for position, payload in briefs.items()}
    return _seal(line, b"[%b]" % b",".join(bodies))


def decode_batch(text: bytes) -> Batch:
    """Decode a log line, given without its newline.

    Raises:
        DamagedError: The line is not what was written.
    """
    fields, start = _unseal(text)
    messages: list[MessageRecord] = []
    try:
        at_us, position = fields["at_us"], fields["first"]
        start += 1  # behind the bracket
        for message in fields["messages"]:
            end = start + message["size"]
            data = text[start:end]
            if "as" in message:
                data = _decode_body(message, data)
            messages.append(
                stored_record(
                    position, message["id"], message["role"], message["created_at_us"], message["encoding"], data
                )
            )
            start, position = end + 1, position + 1
    except _MALFORMED as exc:
        raise DamagedError("a field is missing or has the wrong type") from exc
    if not messages or start != len(text) - 1:  # the brace that closes the record
        raise DamagedError("its payloads are not as long as it says")
    return Batch(at_us, messages, fields)


def encode_base(base: Base) -> bytes:
    """Return the first line of a log that was rewritten."""
    summary = base.summary
    fields = {
        "at_us": base.at_us,
        "counters": dict(summary.counters),
        "first": _encode_brief(summary.first),
        "last": _encode_brief(summary.last),
        "changes": [[change.number, change.kind, change.position] for change in base.changes],
    }
    return _seal({"base": fields}, b"null")


def is_base(text: bytes) -> bool:
    """Return whether the first line of a log, unless it is damaged, is its base."""
    return text.startswith(_BASE, _SEALED_FROM)


def decode_base(text: bytes) -> Base:
    """Decode the first line of a log that was rewritten, given without its newline.

    Raises:
        DamagedError: The line is not what was written.
    """
    fields, _ = _unseal(text)
    try:
        base = fields["base"]
        summary = SessionSummary(
            first=_decode_brief(base["first"]), last=_decode_brief(base["last"]), counters=base["counters"]
        )
        return Base(summary, tuple(HistoryChange(*change) for change in base["changes"]), base["at_us"])
    except _MALFORMED as exc:
        raise DamagedError("a field is missing or has the wrong type") from exc


def encode_session(record: SessionRecord) -> bytes:
    """Return the header file of a session; ``last_position``, ``summary`` and ``changes`` are the log's."""
    payload = record.payload
    if payload is None:
        raise ValidationError("a session is stored with a payload")
    encoding, body = _encode_body(payload)
    fields: dict[str, object] = {
        "id": record.session_id,
        "user_id": record.user_id,
        "tags": record.tags,
        "ttl_us": record.ttl_us,
        "created_at_us": record.created_at_us,
        "updated_at_us": record.updated_at_us,
        "version": record.version,
        "card": None if record.card is None else _encode_short(record.card),
        "lease": None if record.lease is None else attrs.asdict(record.lease),
        **encoding,
    }
    return _seal(fields, body)


def decode_session(line: bytes) -> SessionRecord:
    """Decode a header file.

    Raises:
        DamagedError: It is not what was written.
    """
    fields, body = _unseal_line(line)
    try:
        return SessionRecord(
            session_id=fields["id"],
            user_id=fields["user_id"],
            tags=tuple(fields["tags"]),
            ttl_us=fields["ttl_us"],
            created_at_us=fields["created_at_us"],
            updated_at_us=fields["updated_at_us"],
            version=fields["version"],
            card=None if fields["card"] is None else _decode_short(fields["card"]),
            lease=None if fields["lease"] is None else Lease(**fields["lease"]),
            payload=Payload(fields["encoding"], _decode_body(fields, body)),
        )
    except _MALFORMED as exc:
        raise DamagedError("a field is missing or has the wrong type") from exc


def encode_memory(record: MemoryRecord) -> bytes:
    """Return the file of a memory."""
    encoding, body = _encode_body(record.payload)
    fields: dict[str, object] = {
        "scope": record.scope.kind,
        "owner_id": record.scope.owner_id,
        "key": record.key,
        "expires_at_us": record.expires_at_us,
        "retention": repr(record.retention),  # a string, because JSON has no infinity
        "created_at_us": record.created_at_us,
        "updated_at_us": record.updated_at_us,
        "version": record.version,
        **encoding,
    }
    return _seal(fields, body)


def encode_memory_change(puts: Iterable[MemoryRecord], deletes: Iterable[str]) -> Iterator[bytes]:
    """Yield the lines of the file of a change: those of memories, and for what is deleted its key."""
    yield from map(encode_memory, puts)
    for key in deletes:
        yield _seal({"deleted": key}, b"null")


def decode_memory_change(data: bytes) -> tuple[list[MemoryRecord], list[str]]:
    """Decode the file of a change; return the memories and the deleted keys.

    Raises:
        DamagedError: It is not what was written.
    """
    puts, deletes = list[MemoryRecord](), list[str]()
    for line in data.split(b"\n")[:-1]:
        fields, _ = _unseal_line(line + b"\n")
        if "deleted" in fields:
            deletes.append(fields["deleted"])
        else:
            puts.append(decode_memory(line + b"\n"))
    return puts, deletes


def decode_memory(line: bytes) -> MemoryRecord:
    """Decode the file of a memory.

    Raises:
        DamagedError: It is not what was written.
    """
    fields, body = _unseal_line(line)
    try:
        return MemoryRecord(
            scope=MemoryScope(fields["scope"], fields["owner_id"]),
            key=fields["key"],
            expires_at_us=fields["expires_at_us"],
            retention=float(fields["retention"]),
            created_at_us=fields["created_at_us"],
            updated_at_us=fields["updated_at_us"],
            version=fields["version"],
            payload=Payload(fields["encoding"], _decode_body(fields, body)),
        )
    except _MALFORMED as exc:
        raise DamagedError("a field is missing or has the wrong type") from exc


# -- seal ----------------------------------------------------------------------------------------


def is_sealed(text: bytes) -> bool:
    """Return whether a line, given without its newline, is complete and unchanged."""
    return text.startswith(b'{"crc":"%08x",' % crc32(text[_SEALED_FROM:]))


def _seal(fields: Mapping[str, object], body: bytes) -> bytes:
    sealed = b"%b%b%b}" % (orjson.dumps(fields)[1:-1], _BODY, body)
    return b'{"crc":"%08x",%b\n' % (crc32(sealed), sealed)


def _unseal(text: bytes) -> tuple[dict[str, Any], int]:
    """Return the fields of a line, and where its body begins, which ends before the last byte."""
    if not text.startswith(b'{"crc":"%08x",' % crc32(text[_SEALED_FROM:])):
        reason = "its checksum is wrong" if text.startswith(b'{"crc":"') else "it does not begin as a record does"
        raise DamagedError(reason)
    end = text.find(_BODY)
    if end < 0:
        raise DamagedError("it has no body")
    try:
        fields: dict[str, Any] = orjson.loads(text[:end] + b"}")
    except orjson.JSONDecodeError as exc:
        raise DamagedError("it is not JSON") from exc
    return fields, end + len(_BODY)


def _unseal_line(line: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the fields and the body of a file that holds one line."""
    if not line.endswith(b"\n"):
        raise DamagedError("it does not end with a newline")
    fields, body_start = _unseal(line[:-1])
    return fields, line[body_start:-2]


# -- payloads ------------------------------------------------------------------------------------


def _encode_body(payload: Payload) -> tuple[dict[str, str], bytes]:
    """Return the fields that describe a payload, and the payload as it is written."""
    data = payload.data
    if _is_text(payload.encoding) and b"\n" not in data:
        return {"encoding": payload.encoding}, data
    return {"encoding": payload.encoding, "as": "base64"}, b'"%b"' % b64encode(data)


@lru_cache(maxsize=256)
def _is_text(encoding: str) -> bool:
    return Payload(encoding, b"").is_text


def _decode_body(fields: Mapping[str, Any], body: bytes) -> bytes:
    return b64decode(body[1:-1]) if fields.get("as") == "base64" else body


def _encode_short(payload: Payload) -> dict[str, str]:
    """Return a card, brief or index as a field: its text as a string, or base64."""
    if payload.is_text:
        with suppress(UnicodeDecodeError):
            return {"encoding": payload.encoding, "text": payload.data.decode()}
    return {"encoding": payload.encoding, "base64": b64encode(payload.data).decode()}


def _decode_short(fields: Mapping[str, str]) -> Payload:
    data = fields["text"].encode() if "text" in fields else b64decode(fields["base64"])
    return Payload(fields["encoding"], data)


def _encode_brief(brief: Brief | None) -> dict[str, object] | None:
    return None if brief is None else {"position": brief.position, **_encode_short(brief.payload)}


def _decode_brief(fields: Mapping[str, Any] | None) -> Brief | None:
    return None if fields is None else Brief(fields["position"], _decode_short(fields))
