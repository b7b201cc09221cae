"""Sessions as a manager works on them: read, locked, and held back when they are not saved at once."""

from collections.abc import Callable

import attrs

from luminoracore_sdk.application.locks import TurnLock, locks_of
from luminoracore_sdk.application.ports.codec import EntityCodec
from luminoracore_sdk.application.ports.drafts import DraftStorage
from luminoracore_sdk.application.ports.records import SessionRecord
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.domain.errors import ConflictError, SessionExistsError
from luminoracore_sdk.domain.session import Session

__all__ = ["HeldSessions"]


@attrs.frozen
class HeldSessions:
    """Reads sessions; one that has ``auto_save=False`` is held back from its first change on.

    Attributes:
        storage: Where they live.
        codec: Reads their records.
    """

    storage: DraftStorage
    codec: EntityCodec

    def lock(self, session_id: str) -> TurnLock:
        """Return the lock that makes turns of one session run one after the other."""
        return locks_of(self.storage.stored).of(session_id)

    async def find(self, session_id: str) -> Session | None:
        """Return a session with what is held back of it, or None."""
        return await self.read(session_id, self.storage)

    async def take(self, session_id: str) -> Session | None:
        """Return a session to change, held back if that is what it wants, or None."""
        session = await self.find(session_id)
        if session is None or session.config.auto_save or self.storage.is_held(session_id):
            return session
        await self.storage.hold(session_id)
        return await self.find(session_id)  # nobody can have changed it here in between

    async def read(self, session_id: str, storage: SessionStorage) -> Session | None:
        """Return a session as one storage has it, or None."""
        record = await storage.find_session(session_id)
        return None if record is None else self.codec.session(record, backend=storage.backend)

    async def insert(self, record: SessionRecord, *, hold: bool) -> None:
        """Store a new session, held back if told so.

        Raises:
            SessionExistsError: The id is taken.
        """
        session_id = record.session_id
        if await self.storage.session_exists(session_id):
            raise SessionExistsError(session_id)
        await self.storage.release(session_id)  # an expired one of that id may have been held
        if hold:
            await self.storage.hold(session_id)
        try:
            await self.storage.put_session(record, expected_version=0)
        except ConflictError as exc:
            await self.storage.release(session_id)
            raise SessionExistsError(session_id) from exc

    async def change(self, session_id: str, changed: Callable[[Session], Session]) -> bool:
        """Read, change and write a session until nobody else has written in between."""
        while (session := await self.take(session_id)) is not None:
            record = self.codec.session_record(changed(session))
            try:
                await self.storage.put_session(record, expected_version=session.version)
            except ConflictError:
                continue
            return True
        return False
