"""A server that can be killed, in this process, and ones that lose or mangle something when they are."""

from collections.abc import Sequence
from typing import ClassVar

import attrs

from luminoracore_sdk.adapters.storage.memory import InMemoryStorage
from luminoracore_sdk.application.ports.records import AppendReceipt, MessageRecord
from luminoracore_sdk.domain.errors import StorageAccessError, StorageUnavailableError
from tests.support.faulty_appends import pause

__all__ = ["FAULTY_SERVERS", "Client", "Server"]


@attrs.define
class Server:
    """Keeps what its clients append, over kills and starts; without a fault itself."""

    found_as: ClassVar[str] = ""
    """Part of the problem that the trial reports."""

    kept: InMemoryStorage = attrs.field(factory=InMemoryStorage)
    away: bool = False
    cut: bool = False

    def kill(self) -> None:
        self.away = self.cut = True

    def start(self) -> None:
        self.away = False

    def client(self) -> "Client":
        return Client(self)

    def refuse(self) -> None:
        """What a client meets while the server is away."""
        if self.away:
            raise StorageUnavailableError("fake", "nobody listens")

    async def append(
        self, session_id: str, messages: Sequence[MessageRecord], expected_last: int | None, now_us: int
    ) -> AppendReceipt:
        """Append; the first append after a kill was done before it, and its acknowledgement is lost."""
        receipt = await self.kept._append_messages(session_id, messages, expected_last, now_us)
        if self.cut:
            self.cut = False
            raise StorageUnavailableError("fake", "the connection broke", in_doubt=True)
        return receipt


class Client(InMemoryStorage):
    """What applications hold."""

    def __init__(self, server: Server) -> None:
        super().__init__()
        self._server = server
        self._sessions, self._order = server.kept._sessions, server.kept._order
        self._memories = server.kept._memories

    async def _ready(self) -> int:
        await pause()
        self._server.refuse()
        return await super()._ready()

    async def _append_messages(
        self, session_id: str, messages: Sequence[MessageRecord], expected_last: int | None, now_us: int
    ) -> AppendReceipt:
        return await self._server.append(session_id, messages, expected_last, now_us)


class LosesTheNewest(Server):
    """As with a log that is written to the disk every second."""

    found_as = "was acknowledged and is lost"

    def kill(self) -> None:
        super().kill()
        for stored in self.kept._sessions.values():
            for message in stored.messages[-2:]:
                del stored.positions[message.message_id]
            del stored.messages[-2:]


class TearsATurn(Server):
    found_as = "is incomplete"

    def kill(self) -> None:
        super().kill()
        stored = self.kept._sessions["session-0"]
        del stored.positions[stored.messages.pop().message_id]

    async def append(
        self, session_id: str, messages: Sequence[MessageRecord], expected_last: int | None, now_us: int
    ) -> AppendReceipt:
        return await super().append(session_id, messages, None, now_us)


class StoresRetriesAgain(Server):
    found_as = "a message is stored twice"

    async def append(
        self, session_id: str, messages: Sequence[MessageRecord], expected_last: int | None, now_us: int
    ) -> AppendReceipt:
        self.kept._sessions[session_id].positions.clear()
        return await super().append(session_id, messages, expected_last, now_us)


class LosesMemories(Server):
    found_as = "the memory"

    async def append(
        self, session_id: str, messages: Sequence[MessageRecord], expected_last: int | None, now_us: int
    ) -> AppendReceipt:
        self.kept._memories.clear()
        return await super().append(session_id, messages, expected_last, now_us)


class SaysThatThePasswordIsWrong(Server):
    found_as = "StorageAccessError"

    def refuse(self) -> None:
        if self.away:
            raise StorageAccessError("fake", "who are you?")


FAULTY_SERVERS: tuple[type[Server], ...] = (
    LosesTheNewest,
    TearsATurn,
    StoresRetriesAgain,
    LosesMemories,
    SaysThatThePasswordIsWrong,
)
