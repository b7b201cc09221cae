"""Every backend, the optimizing wrapper over every backend, and the holding wrapper keep the contract."""

from pathlib import Path
from typing import ClassVar

import pytest

from luminoracore_sdk.testing import StorageContract, StorageFactory
from tests.support.backends import FILES, MEMORY, SQLITE, Backend, held, optimized, with_nothing_held


class BackendContract(StorageContract):
    backend: ClassVar[Backend]

    @pytest.fixture
    def storage_factory(self, tmp_path: Path) -> StorageFactory:
        return self.backend.at(tmp_path / "store")


class TestMemory(BackendContract):
    backend = MEMORY
    persistent = False
    shares_between_instances = False


class TestFiles(BackendContract):
    backend = FILES


class TestSQLite(BackendContract):
    backend = SQLITE


class TestOptimizedMemory(BackendContract):
    backend = optimized(MEMORY)
    persistent = False
    shares_between_instances = False


class TestOptimizedFiles(BackendContract):
    backend = optimized(FILES)


class TestOptimizedSQLite(BackendContract):
    backend = optimized(SQLITE)


class TestNothingHeld(BackendContract):
    backend = with_nothing_held(SQLITE)


class TestEverythingHeld(BackendContract):
    backend = held(FILES)
    persistent = False
    shares_between_instances = False
