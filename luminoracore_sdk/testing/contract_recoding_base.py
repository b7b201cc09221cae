"""What the cases of the contract about recoding share: payloads of every form, and changes."""

from collections.abc import Sequence

import attrs
import pytest

from luminoracore_sdk.application.ports.recoding import PayloadChange, RecodingStorage
from luminoracore_sdk.application.ports.records import MessageRange, MessageRecord, Payload
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.domain.json_value import JSONValue
from luminoracore_sdk.testing.builders import json_payload, message_records, session_record
from luminoracore_sdk.testing.contract_base import ContractBase

__all__ = ["A_TEXT", "FORMS", "NEW", "NOT_IT", "WAYS", "RecodingCalls"]

FORMS: dict[str, Payload] = {
    "text": json_payload({"content": "é \0 \u2028 \U0001f600"}),
    "text of another make": Payload("json+opt1", b'["opt1",{"c":"text"}]'),
    "wide text": json_payload({"content": ["\ud800", 2**70]}),
    "bytes": Payload("json+zstd:0123456789abcdef", bytes(range(256))),
    "bytes that are text": Payload("json+zstd:0123456789abcdef", b"plain"),
    "no bytes": Payload("json+zstd:0123456789abcdef", b""),
    "much text": json_payload({"content": "long " * 20_000}),
    "many bytes": Payload("json+aes256gcm:k", bytes(range(255, -1, -1)) * 400),
}
"""Payloads by what is special about them."""

WAYS = [
    ("text", "bytes"),
    ("bytes", "text"),
    ("wide text", "bytes that are text"),
    ("bytes that are text", "wide text"),
    ("no bytes", "much text"),
    ("much text", "no bytes"),
    ("many bytes", "text of another make"),
    ("text of another make", "many bytes"),
]
"""From which form to which."""

NOT_IT: dict[str, Payload] = {
    "other bytes": json_payload({"content": "another text"}),
    "another tag": Payload("json+opt1", json_payload({"content": "a text"}).data),
    "the same bytes as binary": Payload("json+zstd:0", json_payload({"content": "a text"}).data),
    "a beginning of it": Payload("json", json_payload({"content": "a text"}).data[:-1]),
    "more than it": Payload("json", json_payload({"content": "a text"}).data + b" "),
    "the same value, other bytes": Payload("json", b'{ "content": "a text" }'),
}
"""What a record with the text ``a text`` does not hold."""

A_TEXT = json_payload({"content": "a text"})

NEW = FORMS["bytes"]


class RecodingCalls(ContractBase):
    """What the cases about recoding share."""

    def recoding(self, storage: SessionStorage) -> RecodingStorage:
        """Return the storage as one that can replace payloads; skips where it cannot."""
        if not isinstance(storage, RecodingStorage):
            pytest.skip(f"{type(storage).__name__} is no RecodingStorage")
        return storage

    def changes(self, messages: Sequence[MessageRecord], value: JSONValue) -> list[PayloadChange]:
        """Return a change for each message, to bytes that are all different."""
        return [
            PayloadChange(
                position=message.position,
                message_id=message.message_id,
                old=message.payload,
                new=Payload("json+aes256gcm:k", b"\xff\0" + f"{value} {message.message_id}".encode()),
            )
            for message in messages
        ]

    async def holding(self, storage: SessionStorage, payload: Payload) -> MessageRecord:
        """Put a session with two messages, the second with a payload; returns that one as stored."""
        await storage.put_session(session_record())
        first, second = message_records(2)
        await storage.append_messages("s", [first, attrs.evolve(second, payload=payload)])
        return (await storage.read_messages("s", MessageRange()))[1]
