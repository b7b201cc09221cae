"""The storages that the contract, the properties and the state machines run over.

A new backend is one entry here and one class in tests/contract/test_storage_contract.py.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import attrs

from luminoracore_sdk.adapters.optimizer.optimizer import Optimizer
from luminoracore_sdk.adapters.storage.json_file import JSONFileStorage
from luminoracore_sdk.adapters.storage.memory import InMemoryStorage
from luminoracore_sdk.adapters.storage.sqlite import SQLiteStorage
from luminoracore_sdk.adapters.wrappers.holding import HoldingStorage
from luminoracore_sdk.adapters.wrappers.optimized import OptimizedStorageWrapper
from luminoracore_sdk.application.ports.records import SessionRecord
from luminoracore_sdk.domain.values import check_id
from luminoracore_sdk.testing import StorageFactory

__all__ = ["BACKENDS", "FILES", "MEMORY", "SQLITE", "Backend", "held", "optimized", "with_nothing_held"]


@attrs.frozen
class Backend:
    """How to make a storage.

    Attributes:
        name: For test ids.
        at: Returns the factory of storages that live at a path, which does not exist yet.
        persistent: Whether a second storage at the path sees what the first one wrote.
    """

    name: str
    at: Callable[[Path], StorageFactory]
    persistent: bool = True

    @contextmanager
    def place(self) -> Iterator[StorageFactory]:
        """Give an empty place for the length of a ``with`` block."""
        with TemporaryDirectory() as folder:
            yield self.at(Path(folder) / "store")


def optimized(backend: Backend) -> Backend:
    """Return a backend under the optimizing wrapper."""

    def at(path: Path) -> StorageFactory:
        make = backend.at(path)
        return lambda clock: OptimizedStorageWrapper(make(clock), Optimizer())

    return Backend(f"optimized {backend.name}", at, backend.persistent)


class HoldsEverything(HoldingStorage):
    """Keeps every session back."""

    async def put_session(
        self, record: SessionRecord, *, expected_version: int | None = None
    ) -> SessionRecord:
        check_id(record.session_id)
        await self.hold(record.session_id)
        return await super().put_session(record, expected_version=expected_version)


def held(backend: Backend) -> Backend:
    """Return a backend that sees nothing of its sessions."""

    def at(path: Path) -> StorageFactory:
        make = backend.at(path)
        return lambda clock: HoldsEverything(make(clock), clock=clock)

    return Backend(f"held {backend.name}", at, persistent=False)


def with_nothing_held(backend: Backend) -> Backend:
    """Return a backend under a holding wrapper that has nothing to hold."""

    def at(path: Path) -> StorageFactory:
        make = backend.at(path)
        return lambda clock: HoldingStorage(make(clock), clock=clock)

    return Backend(f"{backend.name}, nothing held", at, backend.persistent)


MEMORY = Backend("memory", lambda _: lambda clock: InMemoryStorage(clock=clock), persistent=False)
FILES = Backend("files", lambda path: lambda clock: JSONFileStorage(path, clock=clock))
SQLITE = Backend("sqlite", lambda path: lambda clock: SQLiteStorage(path, clock=clock))

BACKENDS = (MEMORY, FILES, SQLITE, optimized(MEMORY), optimized(FILES), optimized(SQLITE))
