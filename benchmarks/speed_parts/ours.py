"""The layers of this package, each with its defaults."""

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from benchmarks.speed_parts.contender import BATCH, Contender
from luminoracore_sdk.adapters.codec.values import JsonCodec
from luminoracore_sdk.application.ports.records import (
    MessageRange,
    MessageRecord,
    SessionQuery,
    SessionRecord,
)
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.session import ConversationManager, SessionManager

__all__ = ["Conversations", "Ours", "Port", "Sessions", "records"]

_VALUES = JsonCodec()
_SAID_AT_US = 1_700_000_000_000_000


def records(texts: Sequence[str]) -> list[MessageRecord]:
    """Return messages as the port takes them."""
    return [
        MessageRecord(
            message_id=uuid4().hex,
            role="user",
            created_at_us=_SAID_AT_US,
            payload=_VALUES.encode({"v": 2, "content": text}),  # as ConversationManager writes it
        )
        for text in texts
    ]


class Ours(Contender):
    """What the layers have in common.

    Args:
        storage: Closed by this.
    """

    system = "ours"

    def __init__(self, storage: SessionStorage) -> None:
        self.storage = storage

    async def open(self) -> None:
        await self.storage.open()

    async def close(self) -> None:
        await self.storage.close()

    async def fill(self, session: str, texts: Sequence[str]) -> None:
        for first in range(0, len(texts), BATCH):
            await self.storage.append_messages(session, records(texts[first : first + BATCH]))

    async def list_page(self) -> Sequence[Any]:
        """Return the first page of 100 sessions."""
        return (await self.storage.query_sessions(SessionQuery(limit=100))).sessions

    async def delete(self, session: str) -> None:
        """Delete a session with its messages."""
        await self.storage.delete_session(session)


class Port(Ours):
    """The storage port; reads decode each payload, as the floor does, here by the package's own codec."""

    layer = "port"

    async def begin(self, session: str) -> None:
        payload = _VALUES.encode({"text": "a session"})
        await self.storage.put_session(SessionRecord(session_id=session, payload=payload))

    async def append(self, session: str, text: str) -> None:
        await self.storage.append_messages(session, records([text]))

    async def newest(self, session: str, count: int) -> list[Any]:
        return await self._read(session, MessageRange(limit=count, newest=True))

    async def page(self, session: str, after: int, count: int) -> list[Any]:
        return await self._read(session, MessageRange(after=after, limit=count))

    async def _read(self, session: str, span: MessageRange) -> list[Any]:
        found = await self.storage.read_messages(session, span)
        return [_VALUES.decode(record.payload, backend=self.storage.backend, key=session) for record in found]


class Conversations(Ours):
    """ConversationManager."""

    layer = "conversation"

    def __init__(self, storage: SessionStorage) -> None:
        super().__init__(storage)
        self.manager = ConversationManager(storage=storage)

    async def begin(self, session: str) -> None:
        await self.manager.create_conversation(session)

    async def append(self, session: str, text: str) -> None:
        await self.manager.add_message(session, "user", text)

    async def newest(self, session: str, count: int) -> Sequence[Any]:
        return await self.manager.get_recent_messages(session, count)

    async def page(self, session: str, after: int, count: int) -> Sequence[Any]:
        return await self.manager.get_messages(session, limit=count, offset=after)


class Sessions(Conversations):
    """SessionManager, with the provider that answers at once. An append is a question and its answer."""

    layer = "session"

    def __init__(self, storage: SessionStorage) -> None:
        super().__init__(storage)
        self.sessions = SessionManager(storage=storage)

    async def begin(self, session: str) -> None:
        personality = {"name": "Ada", "system_prompt": "You are brief."}
        await self.sessions.create_session(personality, {"name": "echo"}, {"session_id": session})

    async def append(self, session: str, text: str) -> None:
        await self.sessions.send_message(session, text)

    async def delete(self, session: str) -> None:
        await self.sessions.delete_session(session)
