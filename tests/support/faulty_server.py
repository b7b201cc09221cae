"""Writers that lose or tear what they acknowledge, and a server in this process that can be killed."""

import asyncio
from collections.abc import Sequence
from typing import ClassVar

import attrs

from luminoracore_sdk.adapters.storage.memory import InMemoryStorage
from luminoracore_sdk.adapters.storage.sqlite import SQLiteStorage
from luminoracore_sdk.adapters.wrappers.base import StorageWrapper
from luminoracore_sdk.application.ports.records import AppendReceipt, MessageRecord
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.domain.errors import StorageUnavailableError

__all__ = ["FAULTY_SERVERS", "Client", "LostTurns", "Server", "TornTurns"]


class TornTurns(SQLiteStorage):
    """Writes a batch message by message."""

    async def append_messages(
        self,
        session_id: str,
        messages: Sequence[MessageRecord],
        *,
        expected_last: int | None = None,
        fence: int | None = None,
    ) -> AppendReceipt:
        receipts = []
        for message in messages:
            receipts.append(await super().append_messages(session_id, [message]))
            for _ in range(20):  # so that nearly every kill comes between two messages
                await self.ping()
        return AppendReceipt(first_position=receipts[0].first_position, last_position=receipts[-1].last_position)


class LostTurns(SQLiteStorage):
    """Acknowledges every second turn without storing it."""

    async def append_messages(
        self,
        session_id: str,
        messages: Sequence[MessageRecord],
        *,
        expected_last: int | None = None,
        fence: int | None = None,
    ) -> AppendReceipt:
        if messages[0].message_id.split("-")[1] in "2468":
            return AppendReceipt(first_position=1, last_position=2)
        return await super().append_messages(session_id, messages, expected_last=expected_last, fence=fence)


@attrs.define
class Server:
    """Keeps what its clients append over kills and starts."""

    found_as: ClassVar[str] = ""
    """Part of the problem that a trial reports."""

    stored: InMemoryStorage = attrs.field(factory=InMemoryStorage)
    away: bool = False
    cut: bool = False

    def kill(self) -> None:
        self.away = self.cut = True

    def start(self) -> None:
        self.away = False

    def client(self) -> "Client":
        return Client(self)

    async def damage(self, session_id: str, last: int) -> None:
        """Damage a session at the first append after a kill; a sound server does not."""


class Client(StorageWrapper):
    """A client that notices that its server is away."""

    def __init__(self, server: Server) -> None:
        super().__init__(server.stored)
        self._server = server

    async def close(self) -> None:
        """Leave the server's storage open."""

    def _target(self, session_id: str) -> SessionStorage:
        if self._server.away:
            raise StorageUnavailableError("fake", "connection refused")
        return super()._target(session_id)

    async def append_messages(
        self,
        session_id: str,
        messages: Sequence[MessageRecord],
        *,
        expected_last: int | None = None,
        fence: int | None = None,
    ) -> AppendReceipt:
        """Append; the acknowledgement of the first append after a kill is lost."""
        await asyncio.sleep(0)  # a server takes time
        receipt = await super().append_messages(session_id, messages, expected_last=expected_last, fence=fence)
        if self._server.cut and receipt.last_position > 4:
            self._server.cut = False
            await self._server.damage(session_id, receipt.last_position)
            raise StorageUnavailableError("fake", "connection reset", in_doubt=True)
        return receipt


class LosesTheNewest(Server):
    """Loses an acknowledged turn, as with a log that is written to the disk every second."""

    found_as = "was acknowledged and is lost"

    async def damage(self, session_id: str, last: int) -> None:
        await self.stored.truncate_messages(session_id, after=last - 4)


class TearsATurn(Server):
    """Loses the second message of an acknowledged turn."""

    found_as = "is incomplete"

    async def damage(self, session_id: str, last: int) -> None:
        await self.stored.truncate_messages(session_id, after=last - 3)


FAULTY_SERVERS: tuple[type[Server], ...] = (LosesTheNewest, TearsATurn)
