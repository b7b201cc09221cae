"""The messages of a log line, read the short way: most lines hold one message of text."""

from zlib import crc32

import orjson

from luminoracore_sdk.adapters.storage.json_file.record import decode_text
from luminoracore_sdk.application.ports.records import MessageRecord, stored_record

__all__ = ["decode_messages"]

_BODY = b',"body":['
_HEAD_BYTES = len(b'{"crc":"9a3f00c1",')


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
        data, made_at_us = text[start:-2], fields["created_at_us"]
        return stored_record(line["first"], fields["id"], fields["role"], made_at_us, fields["tag"], data)
    except (KeyError, TypeError, ValueError):
        return None
