"""Payload rewrites for tests of a backend."""

from collections.abc import Sequence

import attrs

from luminoracore_sdk.application.ports.records import MessageRecord, Payload
from luminoracore_sdk.application.ports.rewriting import PayloadRewrite

__all__ = ["NEW", "to_new"]

NEW = Payload("json+zstd:1", b"\xff new")


def to_new(messages: Sequence[MessageRecord]) -> list[PayloadRewrite]:
    """Return a rewrite of each message, to bytes that name it."""
    return [
        PayloadRewrite(
            position=message.position,
            message_id=message.message_id,
            old=message.payload,
            new=attrs.evolve(NEW, data=b"\xff " + message.message_id.encode()),
        )
        for message in messages
    ]
