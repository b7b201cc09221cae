"""Sessions that are written only when they are told to be (``auto_save=False``)."""

from abc import abstractmethod

from luminoracore_sdk.application.ports.storage import SessionStorage

__all__ = ["DeferredWriteStorage"]


class DeferredWriteStorage(SessionStorage):
    """A storage over another one that can hold back single sessions.

    A held session is read and written as any other through this storage; the store below sees
    nothing of it until ``flush``.
    """

    @property
    @abstractmethod
    def stored(self) -> SessionStorage:
        """The storage below."""

    @abstractmethod
    async def hold(self, session_id: str) -> None:
        """From now on keep this session's writes back; starts from what the store has of it."""

    @abstractmethod
    async def release(self, session_id: str) -> None:
        """Hold a session no more; what was kept back of it and not flushed is dropped."""

    @abstractmethod
    def is_held(self, session_id: str) -> bool:
        """Tell whether a session's writes are kept back."""

    @abstractmethod
    async def unsaved(self) -> list[str]:
        """Return the ids of held sessions with something that is not written yet."""

    @abstractmethod
    async def flush(self, session_id: str) -> None:
        """Write what was kept back of one session; it stays held.

        Raises:
            ConflictError: The stored session was changed by somebody else meanwhile. What was kept
                back is still there.
        """
