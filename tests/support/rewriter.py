"""A process that rewrites a session until it is killed.

Arguments: the factory as ``module:name``, and its argument.
"""

import asyncio
import os
import sys
from importlib import import_module
from typing import Any

from luminoracore_sdk.application.ports.records import MemoryScope, MessageRange, Payload
from luminoracore_sdk.application.ports.rewriting import PayloadRewrite

__all__ = ["other_form"]

_BINARY = "json+aes256gcm:k"


def other_form(payload: Payload) -> Payload:
    """Return the binary encoding of a text payload, or the text of a binary one."""
    if payload.encoding == _BINARY:
        return Payload("json", payload.data[:0:-1])
    return Payload(_BINARY, b"\xff" + payload.data[::-1])


async def rewrite(storage: Any) -> None:
    """Replace every payload of session ``s`` and print a line, repeatedly."""
    scope = MemoryScope("session", "s")
    while True:
        header = await storage.find_session("s")
        assert await storage.rewrite_session("s", old=header.payload, new=other_form(header.payload))
        changes = [
            PayloadRewrite(
                position=message.position,
                message_id=message.message_id,
                old=message.payload,
                new=other_form(message.payload),
            )
            for message in await storage.read_messages("s", MessageRange())
        ]
        assert await storage.rewrite_messages("s", changes) == len(changes)
        (memory,) = await storage.list_memories(scope)
        new = other_form(memory.payload)
        assert await storage.rewrite_memory(scope, memory.key, old=memory.payload, new=new)
        os.write(1, b"rewritten\n")


async def main(factory: str, place: str) -> None:
    """Rewrite until killed."""
    module, _, name = factory.partition(":")
    async with getattr(import_module(module), name)(place) as storage:
        await rewrite(storage)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
