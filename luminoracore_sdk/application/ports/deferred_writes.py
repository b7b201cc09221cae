"""The port of sessions that are written on request only (``auto_save=False``)."""

from abc import abstractmethod

from luminoracore_sdk.application.ports.storage import SessionStorage

__all__ = ["DeferredWriteStorage"]


class DeferredWriteStorage(SessionStorage):
    """A storage over another one that can defer the writes of single sessions.

    A deferred session is read and written like any other through this storage; the storage below receives
    nothing of it until ``flush``.
    """

    @property
    @abstractmethod
    def stored(self) -> SessionStorage:
        """The storage below."""

    @abstractmethod
    async def defer(self, session_id: str) -> None:
        """Defer the writes of a session from now on; it starts as it is stored."""

    @abstractmethod
    async def release(self, session_id: str) -> None:
        """Stop deferring a session; drop its writes that were not flushed."""

    @abstractmethod
    def is_deferred(self, session_id: str) -> bool:
        """Return whether the writes of a session are deferred."""

    @abstractmethod
    async def unsaved(self) -> list[str]:
        """Return the ids of deferred sessions that have unflushed writes."""

    @abstractmethod
    async def flush(self, session_id: str) -> None:
        """Write what was deferred of one session; its later writes are deferred again.

        A session that was erased since it was deferred, with or without its user, is dropped instead.

        Raises:
            ConflictError: The stored session was changed by another writer. The deferred writes are kept.
        """
