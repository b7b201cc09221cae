"""A storage that fails on command, before or after a call takes effect."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any
from weakref import WeakSet

import attrs

from luminoracore_sdk.adapters.storage.memory import InMemoryStorage
from luminoracore_sdk.adapters.wrappers.base import StorageWrapper
from luminoracore_sdk.adapters.wrappers.retrying import RetryingStorage
from luminoracore_sdk.application.ports.records import IndexRewrite, MemoryPut, MemoryScope, MessageRange, SessionQuery
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.domain.errors import StorageUnavailableError
from luminoracore_sdk.testing.records import memory_record, message_record, message_records, session_record

__all__ = [
    "CALLS",
    "READS",
    "WRITES",
    "FailsEverySecondCall",
    "Fault",
    "Unreliable",
    "lost",
    "retrying",
    "small_store",
    "unsent",
]

Call = Callable[[SessionStorage], Awaitable[Any]]

_SCOPE = MemoryScope("session", "s")
_OLD = message_record("m1").payload
_NEW = message_record("m1", text="new").payload
_REWRITE = IndexRewrite(position=1, message_id="m1", old=None, new=_NEW)

READS: dict[str, Call] = {
    "schema_version": lambda storage: storage.schema_version(),
    "find_session": lambda storage: storage.find_session("s"),
    "query_sessions": lambda storage: storage.query_sessions(SessionQuery()),
    "read_messages": lambda storage: storage.read_messages("s", MessageRange()),
    "find_message": lambda storage: storage.find_message("s", "m1"),
    "read_index": lambda storage: storage.read_index("s", MessageRange()),
    "read_turn": lambda storage: storage.read_turn("s", newest=2),
    "find_memory": lambda storage: storage.find_memory(_SCOPE, "k"),
    "list_memories": lambda storage: storage.list_memories(_SCOPE),
    "list_memory_owners": lambda storage: storage.list_memory_owners(),
}
WRITES: dict[str, Call] = {
    "open": lambda storage: storage.open(),
    "put_session": lambda storage: storage.put_session(session_record(text="new"), expected_version=1),
    "delete_session": lambda storage: storage.delete_session("s"),
    "fork_session": lambda storage: storage.fork_session("s", session_record("fork"), at=1),
    "acquire_lease": lambda storage: storage.acquire_lease("s", holder="h", ttl_us=60_000_000),
    "release_lease": lambda storage: storage.release_lease("s", fence=1),
    "append_messages": lambda storage: storage.append_messages("s", [message_record("new")]),
    "truncate_messages": lambda storage: storage.truncate_messages("s", after=1),
    "replace_tail": lambda storage: storage.replace_tail("s", after=1, messages=[message_record("new")]),
    "update_message": lambda storage: storage.update_message("s", 1, payload=_NEW, expected=_OLD),
    "rewrite_index": lambda storage: storage.rewrite_index("s", [_REWRITE]),
    "change_memories": lambda storage: storage.change_memories(
        _SCOPE, [MemoryPut(memory_record("k", value="new"), 1), MemoryPut(memory_record("l"))], deletes=["m"]
    ),
    "touch_memories": lambda storage: storage.touch_memories(_SCOPE, ["k"], expires_at_us=None),
    "delete_memory": lambda storage: storage.delete_memory(_SCOPE, "k"),
    "clear_memories": lambda storage: storage.clear_memories(_SCOPE),
    "purge_expired": lambda storage: storage.purge_expired(),
}
CALLS = READS | WRITES
"""One call of every primitive, about a session ``s`` with messages and a memory ``k``."""


@attrs.frozen
class Fault:
    """How one call fails.

    Attributes:
        error: What it raises.
        done: Whether the call took effect nevertheless.
        meanwhile: A concurrent call on the store before the error is raised.
    """

    error: Exception
    done: bool = False
    meanwhile: Call | None = None


class Unreliable(StorageWrapper):
    """Raise one fault per call while there are faults, and record the calls.

    Attributes:
        faults: The next faults; None: a call that works.
        calls: The names of the calls.
    """

    def __init__(self, base: SessionStorage, *faults: Fault | None) -> None:
        super().__init__(base)
        self.faults = deque(faults)
        self.calls: list[str] = []

    async def meet(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        """Make a call, or raise the next fault."""
        self.calls.append(name)
        fault = self.faults.popleft() if self.faults else None
        if fault is None:
            return await call()
        if fault.done:
            await call()
        if fault.meanwhile is not None:
            await fault.meanwhile(self.base)
        raise fault.error


class FailsEverySecondCall(Unreliable):
    """Fail the first attempt of every call of a task."""

    def __init__(self, base: SessionStorage) -> None:
        super().__init__(base)
        self._failed: WeakSet[asyncio.Task[Any]] = WeakSet()

    async def meet(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        """Fail, or make the call."""
        task = asyncio.current_task()
        assert task is not None
        if name not in {"ping", "close"} and task not in self._failed:
            self._failed.add(task)
            raise StorageUnavailableError(self.backend, "not at the first attempt")
        self._failed.discard(task)
        return await call()


def _unreliable(name: str) -> Callable[..., Awaitable[Any]]:
    async def call(self: Unreliable, *arguments: Any, **options: Any) -> Any:
        return await self.meet(name, partial(getattr(self.base, name), *arguments, **options))

    return call


for _name in (*CALLS, "ping", "close"):
    setattr(Unreliable, _name, _unreliable(_name))


def lost(kind: type[StorageUnavailableError] = StorageUnavailableError) -> StorageUnavailableError:
    """Return the error of a write with a lost answer."""
    return kind("remote", "the connection was cut", in_doubt=True)


def unsent(kind: type[StorageUnavailableError] = StorageUnavailableError) -> StorageUnavailableError:
    """Return the error of a call that was not sent."""
    return kind("remote", "connection refused")


async def small_store() -> InMemoryStorage:
    """Return a store with a session, three messages and a memory, for ``CALLS``."""
    storage = InMemoryStorage()
    await storage.put_session(session_record(), expected_version=0)
    await storage.append_messages("s", message_records(3))
    await storage.put_memory(memory_record("k"))
    return storage


def retrying(base: Unreliable, *, attempts: int = 4) -> RetryingStorage:
    """Return the retrying wrapper, without waits."""
    return RetryingStorage(base, attempts=attempts, first_wait=0, longest_wait=0)
