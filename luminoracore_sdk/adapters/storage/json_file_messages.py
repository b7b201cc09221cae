"""The messages of a log line, read the short way: most lines hold one message of text."""

from typing import Any
from zlib import crc32

import orjson

from luminoracore_sdk.adapters.storage.json_file_record import decode_text
from luminoracore_sdk.application.ports.records import MessageRecord, Payload

__all__ = ["decode_messages"]

_BODY = b',"body":['
_HEAD_BYTES = len(b'{"crc":"9a3f00c1",')

_new = object.__new__
_set_id, _set_role, _set_created, _set_payload, _set_position = (
    vars(MessageRecord)[name].__set__
    for name in ("message_id", "role", "created_at_us", "payload", "position")
)
_set_tag, _set_data = (vars(Payload)[name].__set__ for name in ("tag", "data"))


def decode_messages(text: bytes) -> list[MessageRecord]:
    """Read the messages of a log line, given without its newline.

    The same as ``decode_text(text).messages()``: 3.5 µs for a line of one message in place of 6 µs, which
    is what a reading of 1,000 messages mostly consists of.

    Raises:
        DamagedError: The line is not what was written.
    """
    message = _only_one(text)
    return decode_text(text).messages() if message is None else [message]


def _only_one(text: bytes) -> MessageRecord | None:
    """Return the message of a line that holds one, as text; None: it is another line, or a damaged one."""
    end = text.find(_BODY)
    if end < 0 or b'{"crc":"%08x",' % crc32(text[_HEAD_BYTES:]) != text[:_HEAD_BYTES]:
        return None
    try:
        line = orjson.loads(text[:end] + b"}")
        (fields,) = line["messages"]
        size = fields["size"]
        start = end + len(_BODY)
        if "as" in fields or line["size"] != size + 2 or start + size + 2 != len(text):
            return None
        return _message(fields, text[start:-2], line["first"])
    except (KeyError, TypeError, ValueError):
        return None


def _message(fields: dict[str, Any], data: bytes, position: int) -> MessageRecord:
    """Return a message; its fields are set directly, as the constructors would in 0.8 µs more."""
    payload = _new(Payload)
    _set_tag(payload, fields["tag"])
    _set_data(payload, data)
    message = _new(MessageRecord)
    _set_id(message, fields["id"])
    _set_role(message, fields["role"])
    _set_created(message, fields["created_at_us"])
    _set_payload(message, payload)
    _set_position(message, position)
    return message
