#!/usr/bin/env python3
"""A process of its own that takes one turn: ``talk.py STORE SESSION MESSAGE``; streams the answer."""

import asyncio
import sys

from luminoracore_sdk.session import SessionManager, create_storage


async def talk(store: str, session_id: str, message: str) -> None:
    """Send one message and write each delta of the answer as it comes."""
    async with create_storage(store) as storage, SessionManager(storage) as manager:
        async for delta in manager.stream_message(session_id, message):
            sys.stdout.write(delta.content)
            sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(talk(*sys.argv[1:]))
