"""How far a rewriting of a store has come, kept in the store, so that it can go on where it was stopped."""

from luminoracore_sdk.application.ports.codec import ValueCodec
from luminoracore_sdk.application.ports.records import MemoryRecord, MemoryScope
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.application.recoding import Cursor
from luminoracore_sdk.domain.values import STORE_OWNER

__all__ = ["RecodingMark"]

_SCOPE = MemoryScope("user", STORE_OWNER)
_KEY = "rewriting"


class RecodingMark:
    """The place where a rewriting to one aim was stopped.

    Args:
        storage: The store.
        values: Writes the mark.
        aim: What records are rewritten to. A mark for another aim does not count: its first part has not
            the form that is wanted now.
    """

    def __init__(self, storage: SessionStorage, values: ValueCodec, aim: str) -> None:
        self._storage = storage
        self._values = values
        self._aim = aim

    async def find(self) -> Cursor | None:
        """Return where to go on; None: from the beginning.

        Raises:
            CorruptRecordError: The mark cannot be read.
        """
        record = await self._storage.find_memory(_SCOPE, _KEY)
        if record is None:
            return None
        mark = self._values.decode(record.payload, backend=self._storage.backend, key=f"the mark {_KEY!a}")
        match mark:
            case {"aim": self._aim, "time_us": int(time_us), "session": str(session_id)}:
                return time_us, session_id
        return None

    async def set(self, cursor: Cursor) -> None:
        """Keep how far the rewriting has come."""
        payload = self._values.encode({"aim": self._aim, "time_us": cursor[0], "session": cursor[1]})
        await self._storage.put_memory(MemoryRecord(scope=_SCOPE, key=_KEY, payload=payload))

    async def clear(self) -> None:
        """Forget it: the rewriting has come to its end."""
        await self._storage.delete_memory(_SCOPE, _KEY)
