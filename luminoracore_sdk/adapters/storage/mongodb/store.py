"""What is made when the storage opens: the collections and what works on them."""

from collections.abc import AsyncIterator

from luminoracore_sdk.adapters.storage.mongodb.append import Appends
from luminoracore_sdk.adapters.storage.mongodb.driver import Connection
from luminoracore_sdk.adapters.storage.mongodb.memories import Memories
from luminoracore_sdk.adapters.storage.mongodb.messages import Messages
from luminoracore_sdk.adapters.storage.mongodb.rewriting import Rewriting
from luminoracore_sdk.adapters.storage.mongodb.schema import VERSION, collections, prepare, stored_version
from luminoracore_sdk.adapters.storage.mongodb.sessions import Sessions
from luminoracore_sdk.adapters.storage.mongodb.sweep import purge
from luminoracore_sdk.application.ports.records import Purged

__all__ = ["Store"]


class Store:
    """One store: a database and a prefix.

    Args:
        connection: The client.
        database: The database's name.
        prefix: Begins the names of the collections.
        patience: Seconds that an append may wait for others.
    """

    layout = VERSION

    def __init__(self, connection: Connection, database: str, prefix: str, *, patience: float) -> None:
        self._connection = connection
        self._database = database
        self._collections = collections(connection, database, prefix)
        self.sessions = Sessions(self._collections)
        self.messages = Messages(self._collections, self.sessions)
        self.appends = Appends(self._collections, self.sessions, patience=patience)
        self.memories = Memories(self._collections)
        self.rewriting = Rewriting(self._collections, self.sessions, self.memories)

    async def prepare(self) -> None:
        """Make the indexes of a new store, or check the version of one that is there."""
        await prepare(self._collections)

    async def version(self) -> int | None:
        """Return the version of the layout; None: the record of it is gone."""
        return await stored_version(self._collections)

    async def ping(self) -> None:
        """Ask the server for an answer."""
        await self._connection.ping(self._database)

    async def delete_session(self, session_id: str, now_us: int) -> bool:
        """Delete a session; False: there was none."""
        self.appends.forget(session_id)
        return await self.sessions.delete(session_id, now_us)

    async def truncate(self, session_id: str, after: int, now_us: int) -> int:
        """Remove a session's messages above a position; returns how many."""
        self.appends.forget(session_id)
        return await self.messages.truncate(session_id, after, now_us)

    def purge(self, now_us: int) -> AsyncIterator[Purged]:
        """Remove what has expired and what was left behind; yields what each step has removed."""
        return purge(self._collections, now_us)
