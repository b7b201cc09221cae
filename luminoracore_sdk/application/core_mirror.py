"""The mirror of memories in Core's MemorySystem, whose failures have no effect."""

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
"""Default time limit of a call to the memory system."""


@attrs.frozen
class Mirror:
    """Passes changes on to a memory system, if there is one; logs its failures, without values.

    Attributes:
        system: Core's MemorySystem, or None.
        seconds: Time limit of each call; a call that takes longer is cancelled and counts as failed.
    """

    system: MemorySystem | None
    seconds: float = attrs.field(factory=lambda: SECONDS, kw_only=True)

    @property
    def is_active(self) -> bool:
        """Whether there is a memory system."""
        return self.system is not None

    async def remember(self, session_id: str, entry: MemoryEntry) -> None:
        """Pass on a stored entry."""
        if self.system is not None:
            await self._call(self.system.remember(session_id, entry.category.value, entry.key, entry.value))

    async def refresh(self, session_id: str, entry: MemoryEntry) -> None:
        """Pass on an entry again if the system has another value for it, or none.

        This is the case after a restart of a system that does not persist, or a write by another process.
        """
        if self.system is not None and await self._call(_holds(self.system, session_id, entry)) is False:
            await self.remember(session_id, entry)

    async def forget(self, session_id: str, entry: MemoryEntry) -> None:
        """Pass on a deletion."""
        if self.system is not None:
            await self._call(self.system.forget(session_id, entry.category.value, entry.key))

    async def stats(self, session_id: str) -> JSONObject | None:
        """Return the system's own statistics, or None."""
        return None if self.system is None else await self._call(self.system.stats(session_id))

    async def _call(self, call: Awaitable[T]) -> T | None:
        try:
            async with asyncio.timeout(self.seconds):
                return await call
        except asyncio.CancelledError as exc:
            task = asyncio.current_task()
            if task is None or task.cancelling() > 0:
                raise
            _report(exc)  # the system raised it itself: this task was not cancelled
        except Exception as exc:  # noqa: BLE001  # a failure of the mirror must not fail the call
            _report(exc)
        return None


def _report(error: BaseException) -> None:
    logger.warning("Core MemorySystem refused a call: %s", type(error).__name__)


async def _holds(system: MemorySystem, session_id: str, entry: MemoryEntry) -> bool:
    try:
        return same_json(await system.recall(session_id, entry.category.value, entry.key), entry.value)
    except LookupError:
        return False
