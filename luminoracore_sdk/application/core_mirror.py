"""A second memory that is told of every change, and that may fail without harm."""

import asyncio
import logging
from collections.abc import Awaitable
from typing import TypeVar

import attrs

from luminoracore_sdk.application.ports.memory_system import MemorySystem
from luminoracore_sdk.domain.json_value import JSONObject, same_json
from luminoracore_sdk.domain.memory import MemoryEntry

__all__ = ["SECONDS", "Mirror"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

SECONDS = 5.0
"""How long a call is waited for when nothing else is said."""


@attrs.frozen
class Mirror:
    """Tells a memory system, if there is one; its failures are logged, without values, and end here.

    Attributes:
        system: Core's MemorySystem, or None.
        seconds: How long each call is waited for; one that takes longer is stopped, and has failed.
    """

    system: MemorySystem | None
    seconds: float = attrs.field(factory=lambda: SECONDS, kw_only=True)

    @property
    def is_there(self) -> bool:
        """Whether there is a system to tell."""
        return self.system is not None

    async def remember(self, session_id: str, entry: MemoryEntry) -> None:
        """Tell it what was stored."""
        if self.system is not None:
            await self._tell(self.system.remember(session_id, entry.category.value, entry.key, entry.value))

    async def refresh(self, session_id: str, entry: MemoryEntry) -> None:
        """Read an entry back, and tell it again where the system has another value or none.

        So it is after a restart, where the system kept nothing, and after a write of another process.
        """
        if self.system is not None and await self._tell(_holds(self.system, session_id, entry)) is False:
            await self.remember(session_id, entry)

    async def forget(self, session_id: str, entry: MemoryEntry) -> None:
        """Tell it what was deleted."""
        if self.system is not None:
            await self._tell(self.system.forget(session_id, entry.category.value, entry.key))

    async def stats(self, session_id: str) -> JSONObject | None:
        """Return its own figures; None when it has none."""
        return None if self.system is None else await self._tell(self.system.stats(session_id))

    async def _tell(self, call: Awaitable[T]) -> T | None:
        try:
            async with asyncio.timeout(self.seconds):
                return await call
        except asyncio.CancelledError as exc:
            if _is_cancelled():
                raise
            _report(exc)  # the system's own: nobody has cancelled who called it
        except Exception as exc:  # noqa: BLE001  # what is stored stays; the mirror must not undo that
            _report(exc)
        return None


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def _report(error: BaseException) -> None:
    logger.warning("Core MemorySystem refused a call: %s", type(error).__name__)


async def _holds(system: MemorySystem, session_id: str, entry: MemoryEntry) -> bool:
    try:
        return same_json(await system.recall(session_id, entry.category.value, entry.key), entry.value)
    except LookupError:
        return False
