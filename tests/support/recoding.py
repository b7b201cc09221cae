"""Changes of payloads, for tests of a backend's own way to recode."""

from collections.abc import Sequence

import attrs

from luminoracore_sdk.application.ports.recoding import PayloadChange
from luminoracore_sdk.application.ports.records import MessageRecord, Payload

__all__ = ["NEW", "to_new"]

NEW = Payload("json+zstd:1", b"\xff new")


def to_new(messages: Sequence[MessageRecord]) -> list[PayloadChange]:
    """Return a change for each message, to bytes that name it."""
    return [
        PayloadChange(
            position=message.position,
            message_id=message.message_id,
            old=message.payload,
            new=attrs.evolve(NEW, data=b"\xff " + message.message_id.encode()),
        )
        for message in messages
    ]
